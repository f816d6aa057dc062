//! Debug builds only: makes one operation of the store fail, or the process die there, so that tests can show that no
//! package is lost wherever that happens (`tests/faults`). A release build has none of this.
//!
//! `BINPKG_RESIGN_FAULT=NUMBER:KIND`, counting operations from 1; KIND is `eio`, `enospc`, `erofs`, `short` (half of a
//! write, then no space) or `die`. `BINPKG_RESIGN_FAULT_LOG=FILE` collects the operations.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

static DONE: AtomicUsize = AtomicUsize::new(0);

/// What becomes of an operation.
pub(super) enum Fate {
    /// It is carried out.
    Goes,
    /// It fails.
    Fails(Errno),
    /// Half of it is written, then there is no space.
    Short,
}

/// The fate of the operation that is about to be done.
pub(super) fn fate(action: &str, path: &Path) -> Fate {
    let number = DONE.fetch_add(1, Ordering::SeqCst) + 1;
    if let Some(log) = std::env::var_os("BINPKG_RESIGN_FAULT_LOG")
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(log)
    {
        let _ = writeln!(file, "{number} {action} {}", path.display());
    }
    let Ok(wanted) = std::env::var("BINPKG_RESIGN_FAULT") else { return Fate::Goes };
    let Some((at, kind)) = wanted.split_once(':') else { return Fate::Goes };
    if at.parse() != Ok(number) {
        return Fate::Goes;
    }
    match kind {
        "eio" => Fate::Fails(Errno::IO),
        "erofs" => Fate::Fails(Errno::ROFS),
        "short" => Fate::Short,
        "die" => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            Fate::Fails(Errno::INTR)
        }
        _ => Fate::Fails(Errno::NOSPC),
    }
}
