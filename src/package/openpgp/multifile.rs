//! One gpg for many signatures (`gpg --verify-files`): most of what a verification costs is gpg's start.
//!
//! gpg reads the name of a file from its standard input, and verifies what is in there; here that is a pipe of ours, which it
//! finds in /proc. Every message is made here, of one signature and the data that it should be over ("Signed Message",
//! RFC 9580, section 10.3), so that nothing else can be in it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;
use rustix::pipe::{PipeFlags, pipe_with};

use super::plain::Class;

/// More than gpg ever has to say of one signature, in bytes.
const STATUS_LIMIT: u64 = 64 << 10;

/// How soon it is looked again whether gpg reads, which it does as soon as it has announced that.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000 };

/// What is written before gpg reads, in bytes, at the most: any pipe takes that at once.
const FIRST: usize = 512;

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
    /// Where it finds what we have open. As /proc calls us: that may be the one of another namespace.
    descriptors: PathBuf,
}

impl Multifile {
    /// Starts it in a private home.
    pub(super) fn start(program: &Path, home: &Path) -> io::Result<Multifile> {
        let descriptors = Path::new("/proc").join(std::fs::read_link("/proc/self")?).join("fd");
        let mut command = Command::new(program);
        command.arg("--homedir").arg(home);
        // what gpgme says for `super::context`
        command.args(["--batch", "--no-tty", "--disable-dirmngr", "--no-auto-key-retrieve", "--trust-model", "always"]);
        command.args(["--status-fd", "1", "--exit-on-status-write-error", "--verify-files"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut gpg = crate::children::start(&mut command)?;
        match (gpg.stdin.take(), gpg.stdout.take()) {
            (Some(names), Some(status)) => Ok(Multifile { gpg, names, status: BufReader::new(status), descriptors }),
            _ => Err(io::Error::other("gpg has no pipes")),
        }
    }

    /// What gpg says, in status lines, of a signature (one packet) over `data`.
    ///
    /// # Errors
    /// `data` cannot be read, or gpg does not come to the end of it, as with a signature that is bad: nothing is known
    /// then, and this gpg is of no more use.
    pub(super) fn verify(&mut self, signature: &[u8], class: Class, data: impl Read) -> io::Result<Vec<String>> {
        let (reader, message) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut message = File::from(message);
        let (first, rest) = signature.split_at(signature.len().min(FIRST));
        message.write_all(first)?;
        // a name that is gone when we are: gpg would wait for ever for somebody to write to a named pipe
        let name = format!("{}/{}\n", self.descriptors.display(), reader.as_raw_fd());
        self.names.write_all(name.as_bytes())?;
        self.wait_until_taken_up()?;
        let mut lines = vec![self.status_line()?];
        if !lines.iter().all(|line| line.starts_with("FILE_START ")) {
            return Err(io::Error::other("gpg does not announce the message"));
        }
        self.wait_until_read(&reader)?;
        // if gpg ends, nobody reads any more, and writing fails
        drop(reader);
        message.write_all(rest)?;
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

    /// Waits until gpg has read what the pipe holds: what is closed before it has the pipe open would be gone.
    fn wait_until_read(&self, pipe: &OwnedFd) -> io::Result<()> {
        while ioctl_fionread(pipe)? > 0 {
            // between announcing a file and reading it, gpg says something only if it cannot open it, or ends
            let more = poll(&mut [PollFd::new(self.status.get_ref(), PollFlags::IN)], Some(&GLANCE));
            if !self.status.buffer().is_empty() || !matches!(more, Ok(0) | Err(rustix::io::Errno::INTR)) {
                return Err(io::Error::other("gpg does not read the message"));
            }
        }
        Ok(())
    }
}

impl Drop for Multifile {
    fn drop(&mut self) {
        let _ = self.gpg.kill();
        let _ = self.gpg.wait();
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// It says that it cannot open it, or ends, or says nothing; and each time it would be there for another name.
    #[test]
    fn a_gpg_that_does_not_read_the_message_is_not_waited_for() {
        let home = tempfile::tempdir().unwrap();
        for says in ["echo '[GNUPG:] FILE_ERROR 3 m'; exec sleep 60", "exit 2", "exec 1>&-; exec sleep 60"] {
            let gpg = home.path().join("gpg");
            std::fs::write(&gpg, format!("#!/bin/sh\nread name\necho '[GNUPG:] FILE_START 1 m'\n{says}\n")).unwrap();
            std::fs::set_permissions(&gpg, std::fs::Permissions::from_mode(0o755)).unwrap();
            let mut gpg = loop {
                match Multifile::start(&gpg, home.path()) {
                    // another test has just forked, and has it open for writing
                    Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
                    started => break started.unwrap(),
                }
            };
            assert!(gpg.verify(b"signature", Class::Binary, &b"data"[..]).is_err(), "{says}");
        }
    }
}
