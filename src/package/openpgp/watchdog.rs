//! Ends a gpg that gpgme waits for in vain: gpgme itself knows no deadline.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::talk::{Patience, descendants};
use super::verify::VerifyError;

/// How often the watchdog looks.
const ROUND: Duration = Duration::from_millis(250);

/// How long a verification may go on when the run is to end.
const GRACE: Duration = Duration::from_secs(1);

/// Watches over every gpg that works in one private home.
#[derive(Debug)]
pub(super) struct Watchdog {
    watched: Arc<Watched>,
    patience: Patience,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Watched {
    state: Mutex<Watch>,
    closed: Condvar,
}

#[derive(Debug, Default)]
struct Watch {
    /// The verifications under way: a number, and when it last got on.
    under_way: Vec<(u64, Instant)>,
    next: u64,
    closed: bool,
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, Watch> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watchdog {
    /// Watches until it is dropped. The path of the home tells which processes are ours: nobody else knows it.
    pub(super) fn over(home: &Path, patience: &Patience) -> Watchdog {
        let watched = Arc::<Watched>::default();
        let (shared, home, patience) = (Arc::clone(&watched), home.to_owned(), patience.clone());
        let until = patience.clone();
        let thread = std::thread::Builder::new().name("gpg watchdog".to_owned()).spawn(move || {
            let mut state = shared.lock();
            while !state.closed {
                let (next, _) = shared.closed.wait_timeout(state, ROUND).unwrap_or_else(PoisonError::into_inner);
                state = next;
                if state.under_way.iter().any(|(_, since)| verdict(*since, &until).is_err()) {
                    end_all_in(&home);
                }
            }
        });
        Watchdog { watched, patience, thread: thread.ok() }
    }

    /// Does a verification under this watch, which gets what is told whenever it gets on.
    ///
    /// # Errors
    /// It was ended.
    pub(super) fn watch<T>(&self, verification: impl FnOnce(Progress<'_>) -> T) -> Result<T, VerifyError> {
        let number = {
            let mut state = self.watched.lock();
            state.next += 1;
            let number = state.next;
            state.under_way.push((number, Instant::now()));
            number
        };
        let result = verification(Progress { watched: &self.watched, number });
        let under_way = &mut self.watched.lock().under_way;
        let place = under_way.iter().position(|(other, _)| *other == number);
        let since = place.map(|place| under_way.swap_remove(place).1);
        since.map_or(Ok(()), |since| verdict(since, &self.patience)).map(|()| result)
    }
}

/// Tells the watchdog that a verification gets on: large files take their time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress<'watchdog> {
    watched: &'watchdog Watched,
    number: u64,
}

impl<'watchdog> Progress<'watchdog> {
    /// `data`, telling with each read.
    pub(super) fn of<R: Read>(self, data: R) -> impl Read + use<'watchdog, R> {
        Told { progress: self, data }
    }

    fn tell(&self) {
        if let Some(entry) = self.watched.lock().under_way.iter_mut().find(|(number, _)| *number == self.number) {
            entry.1 = Instant::now();
        }
    }
}

struct Told<'watchdog, R> {
    progress: Progress<'watchdog>,
    data: R,
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.progress.tell();
        self.data.read(buffer)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.watched.lock().closed = true;
        self.watched.closed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether something that got on then may still be waited for.
fn verdict(since: Instant, patience: &Patience) -> Result<(), VerifyError> {
    match patience.limit() {
        _ if patience.is_stopped() && since.elapsed() >= GRACE => Err(VerifyError::Interrupted),
        Some(limit) if since.elapsed() >= limit => Err(VerifyError::TimedOut { seconds: limit.as_secs() }),
        _ => Ok(()),
    }
}

/// Ends every process that was started with this gpg home, with what it has started; gpgme detaches its gpg, so that no other way leads to it.
fn end_all_in(home: &Path) {
    for pid in processes_in(home) {
        for pid in descendants(pid).into_iter().chain([pid]) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn processes_in(home: &Path) -> Vec<Pid> {
    (std::fs::read_dir("/proc").into_iter().flatten().flatten())
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)?;
            let words = std::fs::read(entry.path().join("cmdline")).ok()?;
            // `--homedir HOME`, or since gpgme 1.24 `--homedir=HOME`
            let names =
                |word: &[u8]| word.strip_prefix(b"--homedir=").unwrap_or(word) == home.as_os_str().as_encoded_bytes();
            words.split(|byte| *byte == 0).any(names).then_some(pid)
        })
        .collect()
}
