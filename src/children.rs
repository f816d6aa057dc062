//! Starting other programs: never while gpgme starts a gpg of its own.
//!
//! gpgme marks the ends of its pipes that gpg gets as to be inherited, and closes them once gpg has them. A program that
//! another thread starts in between gets them too, and gpgme then waits for the end of that program instead of gpg's: a
//! verification would last as long as a signature, and a passphrase that nobody types would end both.

use std::io::{self, Read};
use std::process::{Child, Command};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How many gpgs gpgme is starting. What is inherited is the whole process's, and so is this.
static UNDER_WAY: Mutex<usize> = Mutex::new(0);
static CHANGED: Condvar = Condvar::new();

fn under_way() -> MutexGuard<'static, usize> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a command, as [`Command::spawn`] does.
///
/// # Errors
/// Those of [`Command::spawn`].
#[allow(clippy::disallowed_methods, reason = "the one place")]
pub(crate) fn start(command: &mut Command) -> io::Result<Child> {
    let mut under_way = under_way();
    while *under_way > 0 {
        under_way = CHANGED.wait(under_way).unwrap_or_else(PoisonError::into_inner);
    }
    // it has what it gets once this returns, and until then nobody begins
    command.spawn()
}

/// While this lives gpgme may be starting gpg, and nothing else is started.
#[derive(Debug)]
pub(crate) struct GpgmeStarts(());

impl GpgmeStarts {
    /// Waits for nobody but a command that is just being started.
    pub(crate) fn begin() -> GpgmeStarts {
        *under_way() += 1;
        GpgmeStarts(())
    }

    /// `data` for gpgme: it asks for the first of it when gpg runs, and then this is over.
    pub(crate) fn until_asked_for<R: Read>(self, data: R) -> impl Read {
        Awaited { starts: Some(self), data }
    }
}

impl Drop for GpgmeStarts {
    fn drop(&mut self) {
        *under_way() -= 1;
        CHANGED.notify_all();
    }
}

struct Awaited<R> {
    starts: Option<GpgmeStarts>,
    data: R,
}

impl<R: Read> Read for Awaited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.starts = None;
        self.data.read(buffer)
    }
}
