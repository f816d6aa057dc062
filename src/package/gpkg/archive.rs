//! Tar headers, read from a file or from memory as Python's tarfile does.
//!
//! The `tar` crate does not read them here: it takes names and sizes differently from Python's
//! tarfile in odd archives, and what we verify must be what Portage reads.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The size of a tar block.
pub(super) const BLOCK: u64 = 512;
/// The largest long name or PAX header that is read, in bytes.
const EXTENSION_LIMIT: u64 = 1 << 20;

/// A tar dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// POSIX.1-1988.
    Ustar,
    /// GNU tar: long names, sizes of 8 GiB and more.
    Gnu,
    /// POSIX.1-2001. Only read.
    Pax,
}

impl Format {
    /// The dialect by the magic of an archive's first header, as `gpkg._get_tar_format` tells it.
    pub(super) fn of_first_header(block: &[u8; 512]) -> Option<Format> {
        match (&block[257..265], block[156]) {
            (b"ustar  \0", _) => Some(Format::Gnu),
            (b"ustar\x0000", b'x' | b'g') => Some(Format::Pax),
            (b"ustar\x0000", _) => Some(Format::Ustar),
            _ => None,
        }
    }
}

/// What a header says besides name and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// The owner's number.
    pub uid: u64,
    /// The group's number.
    pub gid: u64,
    /// Seconds since the epoch.
    pub mtime: u64,
    /// The owner's name.
    pub uname: Vec<u8>,
    /// The group's name.
    pub gname: Vec<u8>,
}

impl Attributes {
    /// What Portage writes for a member it makes: a plain `TarInfo` with the time `mtime` in seconds.
    #[must_use]
    pub fn new(mtime: u64) -> Attributes {
        Attributes { mode: 0o644, uid: 0, gid: 0, mtime, uname: Vec::new(), gname: Vec::new() }
    }

    /// Whether the numbers fit the octal fields of ustar.
    pub(super) fn fit_ustar(&self) -> bool {
        self.uid < 1 << 21 && self.gid < 1 << 21 && self.mtime < 1 << 33
    }
}

/// Bytes that can be read anywhere.
pub(super) trait ReadAt {
    /// Fills all of `buffer` from `offset` on.
    fn read_fully(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_fully(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_fully(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let source = start.and_then(|start| self.get(start..)?.get(..buffer.len()));
        buffer.copy_from_slice(source.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Why a header cannot be taken.
#[derive(Debug)]
pub(super) enum TarFault {
    /// The bytes could not be read.
    Io(io::Error),
    /// The header is bad.
    Header {
        /// Where it starts.
        offset: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The payload goes on after the end of the file.
    Truncated {
        /// The member's name.
        name: String,
        /// Where it should end.
        end: u64,
        /// Where the source ends.
        length: u64,
    },
}

/// A member of an archive.
#[derive(Debug)]
pub(super) struct TarEntry {
    /// The whole name.
    pub(super) name: String,
    /// Whether it is a regular file.
    pub(super) regular: bool,
    /// The payload's size in bytes.
    pub(super) size: u64,
    /// Where the payload starts.
    pub(super) offset: u64,
    /// The rest of the header.
    pub(super) attributes: Attributes,
}

/// How a walk came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// At a block of zeros, or not yet.
    Marker,
    /// At the end of the file.
    EndOfFile,
    /// At a block that is no header.
    NoHeader {
        /// Where the block starts.
        offset: u64,
    },
}

/// Goes from header to header; payloads are skipped.
pub(super) struct TarWalk<'s, S: ReadAt + ?Sized> {
    source: &'s S,
    length: u64,
    next: u64,
    ending: Ending,
}

impl<'s, S: ReadAt + ?Sized> TarWalk<'s, S> {
    /// Starts at the beginning of `source`, which is `length` bytes long.
    pub(super) fn new(source: &'s S, length: u64) -> Self {
        TarWalk { source, length, next: 0, ending: Ending::Marker }
    }

    /// How the walk ended, once [`TarWalk::next`] has returned `None`.
    pub(super) fn ending(&self) -> Ending {
        self.ending
    }

    /// The next member, or `None` at the end.
    ///
    /// As for Python's tarfile, the archive ends at a block of zeros, at the end of the file, or at a block that is no
    /// header, except right after a long name or PAX header.
    pub(super) fn next(&mut self) -> Result<Option<TarEntry>, TarFault> {
        let mut extensions = Extensions::default();
        loop {
            let offset = self.next;
            let bad = |why| TarFault::Header { offset, why };
            let block = match self.block(offset)? {
                Ok(block) => block,
                Err(ending) if extensions.is_empty() => {
                    self.ending = ending;
                    return Ok(None);
                }
                Err(_) => return Err(bad("is missing or damaged after a long name or PAX header")),
            };
            let (size, attributes) = fields(&block).map_err(bad)?;
            let kind = block[156];
            if matches!(kind, b'L' | b'K' | b'x' | b'X' | b'g') {
                let payload = self.extension(offset, size)?;
                extensions.add(kind, &payload).map_err(bad)?;
                continue;
            }
            let entry = extensions.entry(&block, size, offset + BLOCK, attributes).map_err(bad)?;
            if !entry.regular {
                // whether it has a payload depends on its kind, but nobody takes it
                self.next = entry.offset;
                return Ok(Some(entry));
            }
            self.next = padded(entry.size)
                .and_then(|size| size.checked_add(entry.offset))
                .ok_or(bad("has a size that is too large"))?;
            if self.next > self.length {
                return Err(TarFault::Truncated { name: entry.name, end: self.next, length: self.length });
            }
            return Ok(Some(entry));
        }
    }

    /// The header at `offset`, or the way the archive ends there.
    fn block(&self, offset: u64) -> Result<Result<[u8; 512], Ending>, TarFault> {
        if self.length < offset.saturating_add(BLOCK) {
            return Ok(Err(Ending::EndOfFile));
        }
        let mut block = [0; 512];
        self.source.read_fully(&mut block, offset).map_err(TarFault::Io)?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(Err(Ending::Marker));
        }
        if !checksum_fits(&block) {
            return Ok(Err(Ending::NoHeader { offset }));
        }
        Ok(Ok(block))
    }

    /// The payload of the long name or PAX header at `offset`; the walk goes on after it.
    fn extension(&mut self, offset: u64, size: u64) -> Result<Vec<u8>, TarFault> {
        if size > EXTENSION_LIMIT {
            return Err(TarFault::Header { offset, why: "announces a name or PAX header of more than 1 MiB" });
        }
        let start = offset + BLOCK;
        let end = start + padded(size).unwrap_or(size);
        if end > self.length {
            return Err(TarFault::Truncated { name: "a long name or PAX header".to_owned(), end, length: self.length });
        }
        let mut payload = vec![0; usize::try_from(size).unwrap_or_default()];
        self.source.read_fully(&mut payload, start).map_err(TarFault::Io)?;
        self.next = end;
        Ok(payload)
    }
}

/// What the headers before a member say about it.
#[derive(Debug, Default)]
struct Extensions {
    long_name: Option<String>,
    long_link: bool,
    global: bool,
    pax: Option<Pax>,
}

/// The PAX records that count here.
#[derive(Debug, Default)]
struct Pax {
    path: Option<String>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<u64>,
    uname: Option<Vec<u8>>,
    gname: Option<Vec<u8>>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.long_name.is_none() && !self.long_link && !self.global && self.pax.is_none()
    }

    fn add(&mut self, kind: u8, payload: &[u8]) -> Result<(), &'static str> {
        match kind {
            b'L' if self.long_name.is_some() => return Err("is a second long name for one member"),
            b'L' => {
                let name = until_nul(payload).to_vec();
                self.long_name = Some(String::from_utf8(name).map_err(|_| "has a name that is no UTF-8")?);
            }
            // only links have one, and links are refused
            b'K' => self.long_link = true,
            b'g' => {
                let global = Pax::parse(payload)?;
                if global.path.is_some() || global.size.is_some() {
                    return Err("gives one path or size to all members");
                }
                self.global = true;
            }
            _ if self.pax.is_some() => return Err("is a second PAX header for one member"),
            _ => self.pax = Some(Pax::parse(payload)?),
        }
        Ok(())
    }

    /// The member that `block` and the headers before it describe; its payload starts at `offset` and has `size` bytes
    /// if no PAX record says otherwise.
    fn entry(
        self,
        block: &[u8; 512],
        size: u64,
        offset: u64,
        attributes: Attributes,
    ) -> Result<TarEntry, &'static str> {
        let pax = self.pax.unwrap_or_default();
        if self.long_name.is_some() && pax.path.is_some() {
            return Err("has two long names");
        }
        let name = match self.long_name.or(pax.path) {
            Some(name) => name,
            None => header_name(block)?,
        };
        let kind = block[156];
        if kind == b'S' {
            return Err("is for a sparse file");
        }
        Ok(TarEntry {
            // an old tar marks a folder by a slash only
            regular: matches!(kind, b'0' | b'7') || (kind == 0 && !name.ends_with('/')),
            name,
            size: pax.size.unwrap_or(size),
            offset,
            attributes: Attributes {
                mode: attributes.mode,
                uid: pax.uid.unwrap_or(attributes.uid),
                gid: pax.gid.unwrap_or(attributes.gid),
                mtime: pax.mtime.unwrap_or(attributes.mtime),
                uname: pax.uname.unwrap_or(attributes.uname),
                gname: pax.gname.unwrap_or(attributes.gname),
            },
        })
    }
}

/// The size and the other attributes in a header itself. Python's tarfile takes a header with a bad number for the end of
/// the archive; here it is an error, since its checksum fits.
fn fields(block: &[u8; 512]) -> Result<(u64, Attributes), &'static str> {
    let field = |field: &[u8]| number(field).ok_or("has a field that is no number");
    let natural = |value: i128| u64::try_from(value).unwrap_or_default();
    // device numbers say nothing here, but Python's tarfile looks at them
    field(&block[329..337])?;
    field(&block[337..345])?;
    let size = u64::try_from(field(&block[124..136])?).map_err(|_| "has a size that is negative or too large")?;
    let attributes = Attributes {
        mode: u32::try_from(field(&block[100..108])? & 0o7777).unwrap_or_default(),
        uid: natural(field(&block[108..116])?),
        gid: natural(field(&block[116..124])?),
        mtime: natural(field(&block[136..148])?),
        uname: until_nul(&block[265..297]).to_vec(),
        gname: until_nul(&block[297..329]).to_vec(),
    };
    Ok((size, attributes))
}

impl Pax {
    /// Reads records `LENGTH KEY=VALUE\n` (POSIX.1-2008, pax, "pax Extended Header").
    fn parse(payload: &[u8]) -> Result<Pax, &'static str> {
        const BAD: &str = "is a PAX header with a bad record";
        let mut pax = Pax::default();
        let mut rest = without_padding(payload);
        while !rest.is_empty() {
            let space = rest.iter().position(|byte| *byte == b' ').ok_or(BAD)?;
            let length = digits(rest.get(..space).ok_or(BAD)?).ok_or(BAD)?;
            let (record, after) = rest.split_at_checked(length).ok_or(BAD)?;
            rest = after;
            let record = record.get(space + 1..).and_then(|record| record.strip_suffix(b"\n")).ok_or(BAD)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(BAD)?;
            let (key, value) = record.split_at(equals);
            pax.record(key, value.get(1..).unwrap_or_default())?;
        }
        Ok(pax)
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        const TWICE: &str = "is a PAX header that says one thing twice";
        let text = || std::str::from_utf8(value).map_err(|_| "is a PAX header with a path that is no UTF-8");
        let number = || text()?.parse::<u64>().map_err(|_| "is a PAX header with a bad number");
        let twice = match key {
            b"path" => self.path.replace(text()?.to_owned()).is_some(),
            b"size" => self.size.replace(number()?).is_some(),
            b"uid" => self.uid.replace(number()?).is_some(),
            b"gid" => self.gid.replace(number()?).is_some(),
            b"mtime" => {
                let whole = text()?.split('.').next().unwrap_or_default();
                self.mtime.replace(whole.parse().unwrap_or_default()).is_some()
            }
            b"uname" => self.uname.replace(value.to_vec()).is_some(),
            b"gname" => self.gname.replace(value.to_vec()).is_some(),
            key if key.starts_with(b"GNU.sparse.") => return Err("is for a sparse file"),
            _ => false,
        };
        if twice { Err(TWICE) } else { Ok(()) }
    }
}

/// The name in a header itself, with the ustar prefix, whatever the magic says, as Python's tarfile has it.
fn header_name(block: &[u8; 512]) -> Result<String, &'static str> {
    let (name, prefix) = (until_nul(&block[..100]), until_nul(&block[345..500]));
    let whole = if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() };
    String::from_utf8(whole).map_err(|_| "has a name that is no UTF-8")
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// PAX headers may be filled up with NULs.
fn without_padding(payload: &[u8]) -> &[u8] {
    let end = payload.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    payload.get(..end).unwrap_or_default()
}

fn digits(field: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(field).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A number field: octal, or GNU's base 256 (the first byte is 0x80, or 0xff for negative numbers).
fn number(field: &[u8]) -> Option<i128> {
    let (first, rest) = field.split_first()?;
    if matches!(first, 0x80 | 0xff) {
        let start = if *first == 0xff { -1 } else { 0 };
        return Some(rest.iter().fold(start, |value: i128, byte| (value << 8) | i128::from(*byte)));
    }
    until_nul(field).trim_ascii().iter().try_fold(0, |value, byte| match byte {
        b'0'..=b'7' => Some((value << 3) | i128::from(byte - b'0')),
        _ => None,
    })
}

fn checksum_fits(block: &[u8; 512]) -> bool {
    let Some(stored) = number(&block[148..156]) else { return false };
    let counted = || block[..148].iter().chain(&block[156..]);
    let unsigned = 8 * i128::from(b' ') + counted().map(|byte| i128::from(*byte)).sum::<i128>();
    // some old tars counted signed characters
    let signed = 8 * i128::from(b' ') + counted().map(|byte| i128::from(i8::from_ne_bytes([*byte]))).sum::<i128>();
    stored == unsigned || stored == signed
}

/// `size` rounded up to whole blocks.
pub(super) fn padded(size: u64) -> Option<u64> {
    size.checked_next_multiple_of(BLOCK)
}
