//! One gpg for many signatures (`gpg --verify-files`): most of what a verification costs is gpg's start.
//!
//! gpg reads the name of a file from its standard input, and verifies what is in there; here it is always the same named
//! pipe. Every message is made here, of one signature and the data that it should be over ("Signed Message", RFC 9580,
//! section 10.3), so that nothing else can be in it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat, open};

use super::plain::Class;

/// More than gpg ever has to say of one signature, in bytes.
const STATUS_LIMIT: u64 = 64 << 10;

/// How soon it is looked again whether gpg has opened the pipe, which it does as soon as it has announced that.
const GLANCE: Duration = Duration::from_micros(50);

/// How long gpg is waited for to take up a message. Sequoia's gpg wants to know all names before it begins, and never does.
const TAKING_UP: Timespec = Timespec { tv_sec: 3, tv_nsec: 0 };

/// The data is given in pieces of so many bytes, as a power of two; what a pipe holds.
const PIECE: u8 = 16;

/// A gpg that waits for the next message. Whoever has one watches over it: it can wait for ever.
#[derive(Debug)]
pub(super) struct Multifile {
    gpg: Child,
    names: ChildStdin,
    status: BufReader<ChildStdout>,
    pipe: PathBuf,
}

impl Multifile {
    /// Starts it in a private home.
    pub(super) fn start(program: &Path, home: &Path) -> io::Result<Multifile> {
        let pipe = make_pipe(home)?;
        let mut command = Command::new(program);
        command.arg("--homedir").arg(home);
        // what gpgme says for `super::context`
        command.args(["--batch", "--no-tty", "--disable-dirmngr", "--no-auto-key-retrieve", "--trust-model", "always"]);
        command.args(["--status-fd", "1", "--exit-on-status-write-error", "--verify-files"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut gpg = crate::children::start(&mut command)?;
        match (gpg.stdin.take(), gpg.stdout.take()) {
            (Some(names), Some(status)) => Ok(Multifile { gpg, names, status: BufReader::new(status), pipe }),
            _ => Err(io::Error::other("gpg has no pipes")),
        }
    }

    /// What gpg says, in status lines, of a signature (one packet) over `data`.
    ///
    /// # Errors
    /// `data` cannot be read, or gpg does not come to the end of it, as with a signature that is bad: nothing is known
    /// then, and this gpg is of no more use.
    pub(super) fn verify(&mut self, signature: &[u8], class: Class, data: impl Read) -> io::Result<Vec<String>> {
        self.names.write_all(self.pipe.as_os_str().as_bytes())?;
        self.names.write_all(b"\n")?;
        self.wait_until_taken_up()?;
        let mut lines = vec![self.status_line()?];
        let mut message = self.opened_by_gpg()?;
        message.write_all(signature)?;
        write_literal(&message, class, data)?;
        drop(message);
        while lines.last().is_some_and(|line| line != "FILE_DONE") {
            lines.push(self.status_line()?);
        }
        Ok(lines)
    }

    fn wait_until_taken_up(&self) -> io::Result<()> {
        let status = self.status.get_ref();
        match poll(&mut [PollFd::new(status, PollFlags::IN)], Some(&TAKING_UP)) {
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            // a signal: whoever is to end sees that elsewhere
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn status_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.status.by_ref().take(STATUS_LIMIT).read_line(&mut line)?;
        let line = line.strip_suffix('\n').and_then(|line| line.strip_prefix("[GNUPG:] "));
        line.map(str::to_owned).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// The pipe, once gpg has it at the other end: what is written and closed before would be gone.
    fn opened_by_gpg(&mut self) -> io::Result<File> {
        loop {
            match open(&self.pipe, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
                Ok(pipe) => {
                    fcntl_setfl(&pipe, OFlags::empty())?;
                    return Ok(pipe.into());
                }
                Err(rustix::io::Errno::NXIO) if self.gpg.try_wait()?.is_none() => std::thread::sleep(GLANCE),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Multifile {
    fn drop(&mut self) {
        let _ = self.gpg.kill();
        let _ = self.gpg.wait();
    }
}

fn make_pipe(home: &Path) -> io::Result<PathBuf> {
    let mut number = 0;
    loop {
        let path = home.join(format!("message.{number}"));
        match mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
            Ok(()) => return Ok(path),
            Err(rustix::io::Errno::EXIST) => number += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes a literal data packet (RFC 9580, section 5.9) of as many bytes as there are.
fn write_literal(mut to: impl Write, class: Class, mut data: impl Read) -> io::Result<()> {
    const LITERAL: u8 = 0xC0 | 11;
    const PARTIAL: u8 = 0xE0;
    const WHOLE: u8 = 0xFF;
    let format = match class {
        Class::Binary => b'b',
        Class::Text => b't',
    };
    to.write_all(&[LITERAL])?;
    // no name, no date
    let mut piece = vec![format, 0, 0, 0, 0, 0];
    loop {
        let room = (1_usize << PIECE).saturating_sub(piece.len());
        if data.by_ref().take(room as u64).read_to_end(&mut piece)? < room {
            break;
        }
        to.write_all(&[PARTIAL | PIECE])?;
        to.write_all(&piece)?;
        piece.clear();
    }
    to.write_all(&[WHOLE])?;
    to.write_all(&u32::try_from(piece.len()).map_err(io::Error::other)?.to_be_bytes())?;
    to.write_all(&piece)
}
