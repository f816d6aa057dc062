//! With the feature `fault-injection`, which only tests build with: makes one operation fail, or the process die there,
//! so that tests can show that no package is lost wherever that happens (`tests/faults`). What is installed has none of this.
//!
//! `BINPKG_RESIGN_FAULT=NUMBER:KIND`, counting operations from 1; KIND is `eio`, `enospc`, `erofs`, `short` (half of a
//! write, then no space) or `die`. `BINPKG_RESIGN_FAULT=NUMBER ACTION PATH:KIND` counts only those, since threads take
//! turns as they like. `BINPKG_RESIGN_FAULT_LOG=FILE` collects the operations, a line each.
//! `BINPKG_RESIGN_RECORD=FOLDER` keeps the bytes and the time of every file at the moment it was flushed, for the power
//! cuts (`tests/power`).

use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::error::{PkgdirError, failed};

/// Asks before an operation whether a test wants it to fail.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub(super) fn step(_: &'static str, _: &Path) -> Result<(), PkgdirError> {
    Ok(())
}

/// The same for one that gives something a name: `from` is what it was called before.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub(super) fn step_from(_: &'static str, _: &Path, _: &Path) -> Result<(), PkgdirError> {
    Ok(())
}

/// Writes all the bytes.
pub(super) fn write(file: &mut File, bytes: &[u8], path: &Path) -> Result<(), PkgdirError> {
    #[cfg(feature = "fault-injection")]
    match injection::fate("write", path, None).1 {
        injection::Fate::Goes => {}
        injection::Fate::Fails(error) => return Err(failed("write", path)(error)),
        injection::Fate::Short => {
            let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
            file.write_all(half).map_err(failed("write", path))?;
            return Err(failed("write", path)(rustix::io::Errno::NOSPC));
        }
    }
    file.write_all(bytes).map_err(failed("write", path))
}

/// Makes the bytes of a file last.
pub(super) fn sync(file: &File, path: &Path) -> Result<(), PkgdirError> {
    #[cfg(feature = "fault-injection")]
    let number = injection::numbered("flush", path)?;
    file.sync_all().map_err(failed("flush", path))?;
    #[cfg(feature = "fault-injection")]
    injection::record(number, file, path);
    Ok(())
}

#[cfg(feature = "fault-injection")]
pub(super) use injection::{step, step_from};

#[cfg(feature = "fault-injection")]
mod injection {
    #![allow(clippy::disallowed_methods)]

    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustix::io::Errno;

    use super::{PkgdirError, failed};

    static DONE: AtomicUsize = AtomicUsize::new(0);
    /// How many of them were the one that was asked for.
    static ALIKE: AtomicUsize = AtomicUsize::new(0);

    pub(in super::super) enum Fate {
        Goes,
        Fails(Errno),
        /// Half of it is written, then there is no space.
        Short,
    }

    pub(in super::super) fn step(action: &'static str, path: &Path) -> Result<(), PkgdirError> {
        numbered(action, path).map(|_| ())
    }

    /// The same, with the number of the operation.
    pub(in super::super) fn numbered(action: &'static str, path: &Path) -> Result<usize, PkgdirError> {
        settle(action, path, None)
    }

    pub(in super::super) fn step_from(action: &'static str, path: &Path, from: &Path) -> Result<(), PkgdirError> {
        settle(action, path, Some(from)).map(|_| ())
    }

    fn settle(action: &'static str, path: &Path, from: Option<&Path>) -> Result<usize, PkgdirError> {
        match fate(action, path, from) {
            (number, Fate::Goes) => Ok(number),
            (_, Fate::Fails(error)) => Err(failed(action, path)(error)),
            (_, Fate::Short) => Err(failed(action, path)(Errno::NOSPC)),
        }
    }

    /// The fate of the operation that is about to be done.
    pub(in super::super) fn fate(action: &str, path: &Path, from: Option<&Path>) -> (usize, Fate) {
        let number = DONE.fetch_add(1, Ordering::SeqCst) + 1;
        (number, fate_of(number, action, path, from))
    }

    fn fate_of(number: usize, action: &str, path: &Path, from: Option<&Path>) -> Fate {
        let from = from.map_or_else(String::new, |from| format!(" from {}", from.display()));
        let operation = format!("{action} {}", path.display());
        if let Some(log) = std::env::var_os("BINPKG_RESIGN_FAULT_LOG")
            && let Ok(mut file) = File::options().create(true).append(true).open(log)
        {
            // in one piece, since several threads write
            let _ = file.write_all(format!("{number} {operation}{from}\n").as_bytes());
        }
        let Ok(wanted) = std::env::var("BINPKG_RESIGN_FAULT") else { return Fate::Goes };
        let Some((at, kind)) = wanted.rsplit_once(':') else { return Fate::Goes };
        let is_this_one = match at.split_once(' ') {
            None => at.parse() == Ok(number),
            Some((count, this)) => operation == this && count.parse() == Ok(ALIKE.fetch_add(1, Ordering::SeqCst) + 1),
        };
        if !is_this_one {
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

    /// Keeps the bytes and the time that a flush has made last, under the number of that operation.
    pub(in super::super) fn record(number: usize, file: &File, path: &Path) {
        let Some(folder) = std::env::var_os("BINPKG_RESIGN_RECORD").map(PathBuf::from) else { return };
        let Ok(facts) = file.metadata() else { return };
        let size = facts.len();
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        if file.read_exact_at(&mut bytes, 0).is_err() {
            // opened for writing only
            bytes = std::fs::read(path).unwrap_or_default();
        }
        let kept = folder.join(number.to_string());
        let _ = std::fs::write(&kept, bytes);
        if let (Ok(time), Ok(kept)) = (facts.modified(), File::options().write(true).open(&kept)) {
            let _ = kept.set_modified(time);
        }
    }
}
