//! Digests, computed while bytes stream by. Two algorithms run in two threads where that pays.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, mpsc};

use sha2::digest::Output;
use sha2::{Digest, Sha512};

/// The size of one read, in bytes. Smaller members are digested in the calling thread.
const CHUNK: usize = 1 << 20;
/// How many chunks may be under way at once.
const CHUNKS: usize = 4;

/// The two digests that a gpkg Manifest must have (`portage.const.MANIFEST2_HASH_DEFAULTS`), as lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestPair {
    /// BLAKE2b with 512 bits.
    pub blake2b: String,
    /// SHA-512.
    pub sha512: String,
}

impl DigestPair {
    /// The digests of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> DigestPair {
        DigestPair { blake2b: hex(&blake2::Blake2b512::digest(bytes)), sha512: hex(&Sha512::digest(bytes)) }
    }

    /// The digests of the `size` bytes of `source` at `offset`, each chunk of which also goes to `sink` together with
    /// its place counted from `offset`.
    pub(super) fn stream(
        source: &File,
        offset: u64,
        size: u64,
        sink: impl FnMut(&[u8], u64) -> io::Result<()>,
    ) -> Result<DigestPair, StreamFault> {
        let (blake2b, sha512) = stream::<blake2::Blake2b512, Sha512>(source, offset, size, sink)?;
        Ok(DigestPair { blake2b: hex(&blake2b), sha512: hex(&sha512) })
    }
}

/// What the index (`Packages`) says of a file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDigests {
    /// MD5, lower-case hex.
    pub md5: String,
    /// SHA-1, lower-case hex.
    pub sha1: String,
    /// The size in bytes.
    pub size: u64,
}

/// The digests of a whole file, for the index.
///
/// # Errors
/// The file cannot be read.
pub fn file_digests(file: &File) -> io::Result<FileDigests> {
    let size = file.metadata()?.len();
    let (md5, sha1) = stream::<md5::Md5, sha1::Sha1>(file, 0, size, |_, _| Ok(())).map_err(|fault| match fault {
        StreamFault::Read(source) | StreamFault::Sink(source) => source,
    })?;
    Ok(FileDigests { md5: hex(&md5), sha1: hex(&sha1), size })
}

/// Which end of a stream broke.
#[derive(Debug)]
pub(super) enum StreamFault {
    /// The bytes could not be read.
    Read(io::Error),
    /// The sink did not take them.
    Sink(io::Error),
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| DIGITS.get(usize::from(nibble)).copied().unwrap_or_default())
        .collect()
}

fn stream<A: Digest, B: Digest>(
    source: &File,
    offset: u64,
    size: u64,
    mut sink: impl FnMut(&[u8], u64) -> io::Result<()>,
) -> Result<(Output<A>, Output<B>), StreamFault> {
    let whole = u64::try_from(CHUNK).unwrap_or(u64::MAX);
    if size <= whole {
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(CHUNK)];
        source.read_exact_at(&mut bytes, offset).map_err(StreamFault::Read)?;
        sink(&bytes, 0).map_err(StreamFault::Sink)?;
        return Ok((A::digest(&bytes), B::digest(&bytes)));
    }
    std::thread::scope(|scope| {
        let (recycle, used) = mpsc::channel();
        let (to_first, first) = mpsc::channel();
        let (to_second, second) = mpsc::channel();
        let (recycle_first, recycle_second) = (recycle.clone(), recycle);
        let first = scope.spawn(move || digest_chunks::<A>(&first, &recycle_first));
        let second = scope.spawn(move || digest_chunks::<B>(&second, &recycle_second));

        let mut buffers = Buffers { used, made: 0 };
        let mut done = 0;
        while done < size {
            let mut bytes = buffers.take();
            let length = (size - done).min(whole);
            bytes.resize(usize::try_from(length).unwrap_or(CHUNK), 0);
            source.read_exact_at(&mut bytes, offset + done).map_err(StreamFault::Read)?;
            let chunk = Arc::new(bytes);
            // a digesting thread ends only when its channel closes
            let _ = to_first.send(Arc::clone(&chunk));
            let _ = to_second.send(Arc::clone(&chunk));
            sink(&chunk, done).map_err(StreamFault::Sink)?;
            done += length;
        }
        drop((to_first, to_second));
        let lost = || StreamFault::Read(io::Error::other("a digesting thread died"));
        Ok((first.join().map_err(|_| lost())?, second.join().map_err(|_| lost())?))
    })
}

fn digest_chunks<D: Digest>(chunks: &mpsc::Receiver<Arc<Vec<u8>>>, recycle: &mpsc::Sender<Arc<Vec<u8>>>) -> Output<D> {
    let mut digest = D::new();
    for chunk in chunks {
        digest.update(chunk.as_slice());
        // nobody listens any more once all is read
        let _ = recycle.send(chunk);
    }
    digest.finalize()
}

/// The buffers under way: at most [`CHUNKS`].
struct Buffers {
    used: mpsc::Receiver<Arc<Vec<u8>>>,
    made: usize,
}

impl Buffers {
    fn take(&mut self) -> Vec<u8> {
        if self.made < CHUNKS {
            self.made += 1;
            return Vec::with_capacity(CHUNK);
        }
        loop {
            // whoever returns a chunk last gives it free
            match self.used.recv().map(Arc::try_unwrap) {
                Ok(Ok(buffer)) => return buffer,
                Ok(Err(_)) => {}
                Err(_) => return Vec::with_capacity(CHUNK),
            }
        }
    }
}
