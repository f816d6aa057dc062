//! Sends a large file to the disk while it is still being made, so that the last flush finds little left to do.

use std::fs::File;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Files that will be smaller (bytes) are flushed once, when they are complete.
const LARGE: u64 = 64 << 20;
/// How long to wait between two flushes.
const PAUSE: Duration = Duration::from_millis(100);

/// Flushes a file again and again in a thread of its own, until it is finished or dropped.
#[derive(Debug)]
pub(super) struct Flusher {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Flusher {
    /// Begins, where the file will be large (`size`, bytes).
    pub(super) fn start(file: &File, size: u64) -> Option<Flusher> {
        if size < LARGE {
            return None;
        }
        let (stop, stopped) = mpsc::channel();
        let file = file.try_clone().ok()?;
        let flush = move || {
            while stopped.recv_timeout(PAUSE) == Err(mpsc::RecvTimeoutError::Timeout) {
                file.sync_data()?;
            }
            Ok(())
        };
        let thread = std::thread::Builder::new().name("flush".to_owned()).spawn(flush).ok()?;
        Some(Flusher { stop, thread })
    }

    /// Ends it.
    ///
    /// # Errors
    /// A flush failed. The system tells of that once only, so this must not be lost.
    pub(super) fn finish(self) -> std::io::Result<()> {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the thread that flushes has died")))
    }
}
