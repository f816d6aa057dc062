//! The bytes of a new container, written from its start to its end, each digested in passing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::OFlags;

use super::digest::{BLOCK, DigestPair, FileDigester, FileDigests, FilePart, StreamFault};
use crate::progress::Meter;

/// From this size on (bytes) a member is written past the page cache, where the filesystem can do that: nobody reads
/// it soon, so a copy in memory would only take time and push out what is in use.
///
/// `cargo bench --bench micro -- container` copies 2 GiB; with `strace -f --seccomp-bpf -e trace=fcntl -e
/// inject=fcntl:error=EINVAL` before the program it goes through the page cache instead. Seven copies took 92 s of
/// processor time against 102 s, 10 s against 24 s of it in the kernel; the quickest took 24.7 s against 30.4 s (two
/// cores, and much else running on them).
const LARGE: u64 = 64 << 20;

/// Where a new container is written: an empty file, open for reading and writing.
#[derive(Debug)]
pub struct Target {
    file: File,
    /// Told of what is copied.
    meter: Meter,
}

impl Target {
    /// A file, and what counts the bytes that are copied into it.
    #[must_use]
    pub fn metered(file: File, meter: &Meter) -> Target {
        Target { file, meter: meter.clone() }
    }
}

impl From<File> for Target {
    fn from(file: File) -> Target {
        Target { file, meter: Meter::default() }
    }
}

/// A file in the making.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    /// How many bytes it has.
    written: u64,
    digester: FileDigester,
    /// From which size on a member is large.
    large: u64,
    meter: Meter,
}

/// How the file takes what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Through the page cache.
    Cached,
    /// To the disk at once; whole blocks only.
    Direct,
}

impl Output {
    /// Begins with an empty file.
    pub(super) fn new(target: Target) -> Output {
        let Target { file, meter } = target;
        Output { file, written: 0, digester: FileDigester::default(), large: LARGE, meter }
    }

    /// How many bytes have been written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digester.update(bytes);
        write_at(&self.file, bytes, &mut self.written)
    }

    /// Copies `size` bytes of `source` from `offset` on, and returns the digests of the very bytes written.
    pub(super) fn copy(&mut self, source: &File, offset: u64, size: u64) -> Result<DigestPair, StreamFault> {
        let Output { file, written, digester, large, meter } = self;
        let (blocks, first) = match size < *large {
            true => (Way::Cached, 0),
            false => (Way::Direct, to_next_block(*written)),
        };
        let mut sink = Sink { file, written, way: Way::Cached, blocks };
        let part = FilePart { file: source, offset, size, first };
        let digests = DigestPair::stream(&part, &mut digester.parts(), |bytes| {
            meter.add(bytes.len());
            sink.take(bytes)
        })?;
        sink.go(Way::Cached).map_err(StreamFault::Sink)?;
        Ok(digests)
    }

    /// The finished file, not flushed to the disk, and what the index says of it.
    pub(super) fn finish(self) -> (File, FileDigests) {
        (self.file, self.digester.finish(self.written))
    }
}

fn write_at(file: &File, bytes: &[u8], written: &mut u64) -> io::Result<()> {
    file.write_all_at(bytes, *written)?;
    *written += u64::try_from(bytes.len()).unwrap_or_default();
    Ok(())
}

/// How many bytes it is to the next whole block.
fn to_next_block(written: u64) -> usize {
    let block = u64::try_from(BLOCK).unwrap_or(u64::MAX);
    usize::try_from(written.next_multiple_of(block) - written).unwrap_or_default()
}

/// Takes the chunks of a member.
struct Sink<'o> {
    file: &'o File,
    written: &'o mut u64,
    /// How the file takes bytes now.
    way: Way,
    /// How it is to take whole blocks.
    blocks: Way,
}

impl Sink<'_> {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let whole = if to_next_block(*self.written) == 0 { bytes.len() - bytes.len() % BLOCK } else { 0 };
        let (blocks, rest) = bytes.split_at_checked(whole).unwrap_or((bytes, &[]));
        if !blocks.is_empty() && (self.go(self.blocks).is_err() || write_at(self.file, blocks, self.written).is_err()) {
            // a filesystem that cannot, a disk with larger blocks, or one that is full: then this fails as well
            self.blocks = Way::Cached;
            self.go(Way::Cached)?;
            write_at(self.file, blocks, self.written)?;
        }
        if !rest.is_empty() {
            self.go(Way::Cached)?;
            write_at(self.file, rest, self.written)?;
        }
        Ok(())
    }

    fn go(&mut self, way: Way) -> io::Result<()> {
        if way != self.way {
            let mut flags = rustix::fs::fcntl_getfl(self.file)?;
            flags.set(OFlags::DIRECT, way == Way::Direct);
            rustix::fs::fcntl_setfl(self.file, flags)?;
            self.way = way;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    /// In the folder for temporary files and in that of the build, which often are on different filesystems.
    fn files() -> impl Iterator<Item = File> {
        let built = std::env::current_exe().unwrap();
        let folders = [std::env::temp_dir(), built.parent().unwrap().to_owned()];
        folders.into_iter().map(|folder| tempfile::tempfile_in(folder).unwrap())
    }

    #[test]
    fn whichever_way_it_goes_the_bytes_are_the_same() {
        let bytes: Vec<u8> =
            (0..5_000_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        let mut source = tempfile::tempfile().unwrap();
        source.write_all(&bytes).unwrap();
        for head in [0, 512, 4096, 5120] {
            for size in [0, 1, 100_000, 3 << 20, (3 << 20) + 4095, (5 << 20) + 512] {
                for file in files() {
                    let mut output = Output { large: 100_000, ..Output::new(file.into()) };
                    output.write(&bytes[..head]).unwrap();
                    let pair = output.copy(&source, 77, size as u64).unwrap();
                    assert_eq!(pair, DigestPair::of(&bytes[77..77 + size]));
                    output.write(b"the end").unwrap();
                    let wanted = [&bytes[..head], &bytes[77..77 + size], b"the end"].concat();
                    let (mut file, digests) = output.finish();
                    assert_eq!(digests, crate::package::gpkg::file_digests(&file).unwrap());
                    let mut written = Vec::new();
                    file.rewind().unwrap();
                    file.read_to_end(&mut written).unwrap();
                    assert!(written == wanted, "{head} {size}");
                }
            }
        }
    }

    #[test]
    fn whole_blocks_of_a_large_member_go_directly() {
        for file in files() {
            let mut written = 512;
            let mut sink = Sink { file: &file, written: &mut written, way: Way::Cached, blocks: Way::Direct };
            let bytes = vec![1; 4 * BLOCK + 5];
            let aligned = bytes.as_ptr().align_offset(BLOCK);
            sink.take(&bytes[..BLOCK - 512]).unwrap();
            sink.take(&bytes[aligned..aligned + 2 * BLOCK]).unwrap();
            // where the filesystem cannot, it has been given up
            assert_eq!(sink.way, sink.blocks);
            sink.take(&bytes[aligned..aligned + BLOCK + 5]).unwrap();
            assert_eq!(sink.way, Way::Cached);
            assert_eq!(*sink.written, 4 * BLOCK as u64 + 5);
        }
    }
}
