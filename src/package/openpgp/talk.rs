//! Talking with a command through its pipes, in one thread: a package needs two of these, and threads cost more than
//! the talk.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStdin};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// What a pipe holds, in bytes: more cannot be under way at once.
const CHUNK: usize = 64 << 10;

/// What came of a talk.
#[derive(Debug)]
pub(super) struct Talk {
    /// What the command printed to stdout.
    pub(super) out: Vec<u8>,
    /// And to stderr.
    pub(super) err: Vec<u8>,
    /// How it ended.
    pub(super) ended: Ended,
}

/// How a talk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The command closed both its ends.
    ByItself,
    /// The time was over first.
    OutOfTime,
}

/// Gives `data` to a child whose stdin, stdout and stderr are pipes, and takes what it prints, each up to `limit`
/// bytes (what comes after is read, and dropped), until it has closed both.
///
/// # Errors
/// The pipes cannot be used, or `data` cannot be read.
pub(super) fn converse(
    child: &mut Child,
    data: impl Read,
    limit: usize,
    deadline: Option<Instant>,
) -> io::Result<Talk> {
    let mut feed = child.stdin.take().map(|stdin| Feed::new(stdin, data)).transpose()?;
    let mut out = Collected { pipe: child.stdout.take(), bytes: Vec::new(), limit };
    let mut err = Collected { pipe: child.stderr.take(), bytes: Vec::new(), limit };
    let ended = loop {
        let (stdin, stdout, stderr) = (feed.as_ref().map(Feed::fd), out.fd(), err.fd());
        if stdout.is_none() && stderr.is_none() {
            break Ended::ByItself;
        }
        let Some(ready) = wait([stdin, stdout, stderr], deadline)? else { break Ended::OutOfTime };
        let [may_write, may_read, may_read_errors] = ready;
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
    };
    Ok(Talk { out: out.bytes, err: err.bytes, ended })
}

/// Waits until one of the pipes to write to, to read from and to read from is ready; none when the time is over.
fn wait(pipes: [Option<BorrowedFd<'_>>; 3], deadline: Option<Instant>) -> io::Result<Option<[bool; 3]>> {
    let flags = [PollFlags::OUT, PollFlags::IN, PollFlags::IN];
    let mut polled: Vec<PollFd<'_>> = (pipes.iter().zip(flags))
        .filter_map(|(pipe, flags)| pipe.map(|pipe| PollFd::from_borrowed_fd(pipe, flags)))
        .collect();
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec::try_from(left).map_err(io::Error::other)).transpose()?;
        match poll(&mut polled, timeout.as_ref()) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut answers = polled.iter().map(|polled| !polled.revents().is_empty());
    Ok(Some(pipes.map(|pipe| pipe.is_some() && answers.next().unwrap_or_default())))
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
