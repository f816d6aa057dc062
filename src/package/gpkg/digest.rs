//! Digests, computed while bytes stream by. Two algorithms run in two threads where that pays.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, mpsc};

use sha2::digest::Update;
use sha2::{Digest, Sha512};

/// The size of one read, in bytes. Smaller members are digested in the calling thread.
const CHUNK: usize = 1 << 20;
/// How many chunks may be under way at once.
const CHUNKS: usize = 16;
/// What the place of a chunk in memory is a multiple of, in bytes: enough for direct writes to any disk.
pub(super) const BLOCK: usize = 4096;

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

    /// The digests of a part of a file, each chunk of which also goes to `sink`, in order. `others` digest it, too.
    pub(super) fn stream(
        part: &FilePart<'_>,
        others: &mut [&mut (dyn Update + Send)],
        sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<DigestPair, StreamFault> {
        let (mut blake2b, mut sha512) = (blake2::Blake2b512::new(), Sha512::new());
        let mut all: Vec<&mut (dyn Update + Send)> = vec![&mut blake2b, &mut sha512];
        all.extend(others.iter_mut().map(|other| &mut **other as &mut (dyn Update + Send)));
        stream(part, all, sink)?;
        Ok(DigestPair { blake2b: hex(&blake2b.finalize()), sha512: hex(&sha512.finalize()) })
    }
}

/// Bytes of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct FilePart<'f> {
    pub file: &'f File,
    /// Where they start.
    pub offset: u64,
    /// How many there are.
    pub size: u64,
    /// The size of the first chunk in bytes; 0 for the same as of the others.
    pub first: usize,
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
    let mut digester = FileDigester::default();
    let part = FilePart { file, offset: 0, size, first: 0 };
    stream(&part, digester.parts().into(), |_| Ok(())).map_err(|fault| match fault {
        StreamFault::Read(source) | StreamFault::Sink(source) => source,
    })?;
    Ok(digester.finish(size))
}

/// [`FileDigests`] in the making.
#[derive(Debug, Clone, Default)]
pub(super) struct FileDigester {
    md5: md5::Md5,
    sha1: sha1::Sha1,
}

impl FileDigester {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.parts().into_iter().for_each(|digest| digest.update(bytes));
    }

    /// The digests one by one, for threads of their own.
    pub(super) fn parts(&mut self) -> [&mut (dyn Update + Send); 2] {
        [&mut self.md5, &mut self.sha1]
    }

    pub(super) fn finish(self, size: u64) -> FileDigests {
        FileDigests { md5: hex(&self.md5.finalize()), sha1: hex(&self.sha1.finalize()), size }
    }
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

/// Reads a part of a file in chunks, and lets each digest have each chunk, in a thread of its own where that pays.
fn stream(
    part: &FilePart<'_>,
    digests: Vec<&mut (dyn Update + Send)>,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), StreamFault> {
    let whole = u64::try_from(CHUNK).unwrap_or(u64::MAX);
    if part.size <= whole {
        let mut bytes = vec![0; usize::try_from(part.size).unwrap_or(CHUNK)];
        part.file.read_exact_at(&mut bytes, part.offset).map_err(StreamFault::Read)?;
        sink(&bytes).map_err(StreamFault::Sink)?;
        digests.into_iter().for_each(|digest| digest.update(&bytes));
        return Ok(());
    }
    std::thread::scope(|scope| {
        let (recycle, used) = mpsc::channel();
        let mut workers = Vec::new();
        for digest in digests {
            let (sender, chunks) = mpsc::channel();
            let recycle = recycle.clone();
            workers.push((sender, scope.spawn(move || digest_chunks(digest, &chunks, &recycle))));
        }
        drop(recycle);
        let mut buffers = Buffers { used, made: 0 };
        let mut done = 0;
        while done < part.size {
            let most = if done == 0 && part.first > 0 { part.first.min(CHUNK) } else { CHUNK };
            let left = usize::try_from(part.size - done).unwrap_or(usize::MAX);
            let mut chunk = buffers.take();
            let bytes = chunk.first(left.min(most));
            part.file.read_exact_at(bytes, part.offset + done).map_err(StreamFault::Read)?;
            let chunk = Arc::new(chunk);
            for (sender, _) in &workers {
                // a digesting thread ends only when its channel closes
                let _ = sender.send(Arc::clone(&chunk));
            }
            sink(&chunk).map_err(StreamFault::Sink)?;
            done += u64::try_from(chunk.len()).unwrap_or(whole);
        }
        let lost = |_| StreamFault::Read(io::Error::other("a digesting thread died"));
        workers.into_iter().try_for_each(|(sender, thread)| {
            drop(sender);
            thread.join().map_err(lost)
        })
    })
}

fn digest_chunks(
    digest: &mut (dyn Update + Send),
    chunks: &mpsc::Receiver<Arc<Chunk>>,
    recycle: &mpsc::Sender<Arc<Chunk>>,
) {
    for chunk in chunks {
        digest.update(&chunk);
        // nobody listens any more once all is read
        let _ = recycle.send(chunk);
    }
}

/// Up to [`CHUNK`] bytes, from a multiple of [`BLOCK`] on.
struct Chunk {
    buffer: Vec<u8>,
    start: usize,
    length: usize,
}

impl Chunk {
    fn new() -> Chunk {
        let buffer = vec![0; CHUNK + BLOCK];
        Chunk { start: buffer.as_ptr().align_offset(BLOCK).min(BLOCK), buffer, length: 0 }
    }

    /// Makes it so many bytes long, and gives them to be filled.
    fn first(&mut self, length: usize) -> &mut [u8] {
        self.length = length.min(CHUNK);
        self.buffer.get_mut(self.start..self.start + self.length).unwrap_or_default()
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(self.start..self.start + self.length).unwrap_or_default()
    }
}

/// The buffers under way: at most [`CHUNKS`].
struct Buffers {
    used: mpsc::Receiver<Arc<Chunk>>,
    made: usize,
}

impl Buffers {
    fn take(&mut self) -> Chunk {
        if self.made < CHUNKS {
            self.made += 1;
            return Chunk::new();
        }
        loop {
            // whoever returns a chunk last gives it free
            match self.used.recv().map(Arc::try_unwrap) {
                Ok(Ok(chunk)) => return chunk,
                Ok(Err(_)) => {}
                Err(_) => return Chunk::new(),
            }
        }
    }
}
