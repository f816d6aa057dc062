//! Talking with a command through its pipes, in one thread: a package needs two of these, and threads cost more than
//! the talk.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStdin, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

/// What a pipe holds, in bytes: more cannot be under way at once.
const CHUNK: usize = 64 << 10;

/// How often somebody who waits looks whether the run is to end.
const GLANCE: Duration = Duration::from_millis(100);

/// What a command is still given when the run is to end: one that is at work finishes its package meanwhile.
const GRACE: Duration = Duration::from_secs(1);

/// How long a command is waited for, and what ends the waiting before.
#[derive(Debug, Clone)]
pub struct Patience {
    limit: Option<Duration>,
    stop: Arc<AtomicUsize>,
}

impl Patience {
    /// Waits for `limit` at the most, and no longer once `stop` is not 0 (the number of the signal that asked for the
    /// end).
    #[must_use]
    pub fn new(limit: Duration, stop: Arc<AtomicUsize>) -> Patience {
        Patience { limit: Some(limit), stop }
    }

    /// The same without a limit: there is a person to be waited for.
    #[must_use]
    pub fn unlimited(self) -> Patience {
        Patience { limit: None, ..self }
    }

    /// The same, ended by something else.
    #[must_use]
    pub fn stopped_by(self, stop: Arc<AtomicUsize>) -> Patience {
        Patience { stop, ..self }
    }

    /// The limit; none for as long as it takes.
    #[must_use]
    pub fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// Whether somebody has asked for the end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) != 0
    }
}

/// Patience that is being used up.
struct Wait<'patience> {
    patience: &'patience Patience,
    since: Instant,
    stopped: Option<Instant>,
}

impl Wait<'_> {
    /// How it is over, if it is.
    fn is_over(&mut self) -> Option<Ended> {
        if self.patience.is_stopped() && self.stopped.get_or_insert_with(Instant::now).elapsed() >= GRACE {
            return Some(Ended::Stopped);
        }
        let is_late = |limit| self.since.elapsed() >= limit;
        self.patience.limit.is_some_and(is_late).then_some(Ended::OutOfTime)
    }

    /// How long to sleep at the most before looking again.
    fn glance(&self) -> Duration {
        self.patience.limit.map_or(GLANCE, |limit| limit.saturating_sub(self.since.elapsed()).min(GLANCE))
    }
}

impl Default for Patience {
    /// 60 seconds, as `BINPKG_RESIGN_TIMEOUT` is where it is not set.
    fn default() -> Patience {
        Patience::new(Duration::from_secs(60), Arc::default())
    }
}

/// What came of a talk.
#[derive(Debug)]
pub(super) struct Talk {
    /// What the command printed to stdout.
    pub(super) out: Vec<u8>,
    /// And to stderr.
    pub(super) err: Vec<u8>,
    /// How it ended.
    pub(super) ended: Ended,
    /// The command's exit status.
    pub(super) status: ExitStatus,
}

/// How a talk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The command did what it does.
    ByItself,
    /// The time was over first, and the command was ended.
    OutOfTime,
    /// The run is to end, and the command was ended.
    Stopped,
}

/// Gives `data` to a child whose stdin, stdout and stderr are pipes, and takes what it prints, each up to `limit`
/// bytes (what comes after is read, and dropped), until it has closed both and ended. A child that does not come to its
/// end in time is ended, with all that it has started.
///
/// # Errors
/// The pipes cannot be used, or `data` cannot be read.
pub(super) fn converse(child: &mut Child, data: impl Read, limit: usize, patience: &Patience) -> io::Result<Talk> {
    let mut waiting = Wait { patience, since: Instant::now(), stopped: None };
    let mut out = Collected { pipe: child.stdout.take(), bytes: Vec::new(), limit };
    let mut err = Collected { pipe: child.stderr.take(), bytes: Vec::new(), limit };
    let stdin = child.stdin.take();
    let talked = exchange(stdin, data, &mut out, &mut err, &mut waiting).and_then(|ended| match ended {
        Ended::ByItself => outlast(child, &mut waiting),
        ended => Ok(ended),
    });
    if !matches!(talked, Ok(Ended::ByItself)) {
        end(child);
    }
    let status = child.wait()?;
    Ok(Talk { out: out.bytes, err: err.bytes, ended: talked?, status })
}

/// The talk itself, until the child has closed both its ends.
fn exchange<O: Read + AsFd, E: Read + AsFd>(
    stdin: Option<ChildStdin>,
    data: impl Read,
    out: &mut Collected<O>,
    err: &mut Collected<E>,
    waiting: &mut Wait<'_>,
) -> io::Result<Ended> {
    let mut feed = stdin.map(|stdin| Feed::new(stdin, data)).transpose()?;
    loop {
        let (stdin, stdout, stderr) = (feed.as_ref().map(Feed::fd), out.fd(), err.fd());
        if stdout.is_none() && stderr.is_none() {
            return Ok(Ended::ByItself);
        }
        let pipes = [(stdin, PollFlags::OUT), (stdout, PollFlags::IN), (stderr, PollFlags::IN)];
        let [may_write, may_read, may_read_errors] = match wait(pipes, waiting)? {
            Waited::Ready(ready) => ready,
            Waited::InVain(ended) => return Ok(ended),
        };
        if may_write && feed.as_mut().is_some_and(|feed| feed.go_on().is_none_or(|gone_on| gone_on.is_err())) {
            // closed when all is written, or by a command that fails early: its exit status tells more than that
            feed = None;
        }
        if may_read {
            out.read()?;
        }
        if may_read_errors {
            err.read()?;
        }
    }
}

/// Waits for the end of a child that has nothing more to say.
fn outlast(child: &Child, waiting: &mut Wait<'_>) -> io::Result<Ended> {
    let Some(pid) = pid_of(child) else { return Ok(Ended::ByItself) };
    // readable when it has ended
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(Ended::ByItself) };
    Ok(match wait([(Some(process.as_fd()), PollFlags::IN)], waiting)? {
        Waited::Ready(_) => Ended::ByItself,
        Waited::InVain(ended) => ended,
    })
}

/// What came of waiting.
enum Waited<const N: usize> {
    /// Which are ready.
    Ready([bool; N]),
    /// Why it was given up.
    InVain(Ended),
}

/// Waits until one of these is ready.
fn wait<const N: usize>(
    pipes: [(Option<BorrowedFd<'_>>, PollFlags); N],
    waiting: &mut Wait<'_>,
) -> io::Result<Waited<N>> {
    let mut polled: Vec<PollFd<'_>> =
        pipes.iter().filter_map(|(pipe, flags)| pipe.map(|pipe| PollFd::from_borrowed_fd(pipe, *flags))).collect();
    loop {
        // also where there is always something ready: some commands never stop talking
        if let Some(ended) = waiting.is_over() {
            return Ok(Waited::InVain(ended));
        }
        let timeout = Timespec::try_from(waiting.glance()).map_err(io::Error::other)?;
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let mut answers = polled.iter().map(|polled| !polled.revents().is_empty());
    Ok(Waited::Ready(pipes.map(|(pipe, _)| pipe.is_some() && answers.next().unwrap_or_default())))
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Ends a command and whatever it started (flock starts gpg): the group it leads, and where it has none of its own, its
/// descendants.
fn end(child: &mut Child) {
    if let Some(pid) = pid_of(child) {
        let _ = kill_process_group(pid, Signal::KILL);
        for descendant in descendants(pid) {
            let _ = kill_process(descendant, Signal::KILL);
        }
    }
    let _ = child.kill();
}

/// The processes below this one, as /proc has them.
pub(super) fn descendants(ancestor: Pid) -> Vec<Pid> {
    let parents: Vec<(Pid, Pid)> = (std::fs::read_dir("/proc").into_iter().flatten().flatten())
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // "PID (NAME) STATE PARENT …", and the name may hold anything
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok().and_then(Pid::from_raw)?;
            Some((pid, parent))
        })
        .collect();
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// What the command is still to be given.
struct Feed<R> {
    stdin: ChildStdin,
    data: R,
    chunk: Vec<u8>,
    written: usize,
}

impl<R: Read> Feed<R> {
    fn new(stdin: ChildStdin, data: R) -> io::Result<Feed<R>> {
        fcntl_setfl(&stdin, fcntl_getfl(&stdin)? | OFlags::NONBLOCK)?;
        Ok(Feed { stdin, data, chunk: Vec::new(), written: 0 })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.stdin.as_fd()
    }

    /// Writes as much as the pipe takes; none when there is nothing left.
    fn go_on(&mut self) -> Option<io::Result<()>> {
        if self.written == self.chunk.len() {
            self.chunk.clear();
            self.written = 0;
            match self.data.by_ref().take(CHUNK as u64).read_to_end(&mut self.chunk) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        match self.stdin.write(self.chunk.get(self.written..).unwrap_or_default()) {
            Ok(count) => self.written += count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Some(Err(error)),
        }
        Some(Ok(()))
    }
}

/// What the command has printed.
struct Collected<P> {
    pipe: Option<P>,
    bytes: Vec<u8>,
    limit: usize,
}

impl<P: Read + AsFd> Collected<P> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there; forgets the pipe at its end.
    fn read(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let mut chunk = [0; 4096];
        match pipe.read(&mut chunk) {
            Ok(0) => self.pipe = None,
            Ok(count) => {
                let room = self.limit.saturating_sub(self.bytes.len()).min(count);
                self.bytes.extend_from_slice(chunk.get(..room).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
