//! The `Packages` file of a PKGDIR: what was not edited comes out byte for byte.
//!
//! The format is Portage's (`portage/getbinpkg.py`, `PackageIndex`): a header block and one block a package, lines
//! `KEY: value`, a blank line after each block. Portage reads entries into dictionaries, drops keys it does not know
//! and writes everything anew; here an entry stays the bytes it was, and only edited ones are rendered.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The metadata keys that hold dependencies, in Portage's order (`Package._dep_keys`).
pub(crate) const DEPENDENCY_KEYS: [&str; 5] = ["BDEPEND", "DEPEND", "IDEPEND", "PDEPEND", "RDEPEND"];

/// Why an index could not be read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The header has no usable `VERSION`: Portage would take such an index as empty and drop every entry.
    #[error(
        "the package index {} has {found}: Portage takes it as empty; `binpkg-resign index` makes it anew",
        path.display()
    )]
    Version {
        /// The index.
        path: PathBuf,
        /// What stands in the place of a supported version.
        found: String,
    },
    /// The index could not be compressed.
    #[error("cannot compress the package index: {0}")]
    Compress(#[source] std::io::Error),
}

/// A `Packages` file in memory.
#[derive(Debug, Clone)]
pub struct PackageIndex {
    text: Vec<u8>,
    header: Vec<(String, String)>,
    blocks: Vec<Block>,
    /// What follows the point where Portage stops reading (two blank lines); kept as it is.
    tail: std::ops::Range<usize>,
}

#[derive(Debug, Clone)]
enum Block {
    Kept(std::ops::Range<usize>),
    Edited(Entry),
}

impl PackageIndex {
    /// Parses the bytes of an index; `path` is only named in errors.
    ///
    /// # Errors
    /// Its `VERSION` is missing, no number, or newer than 0 (`_pkgindex_version_supported`).
    pub fn parse(text: Vec<u8>, path: &Path) -> Result<PackageIndex, IndexError> {
        let (header_block, mut position) = next_block(&text, 0);
        let header: Vec<(String, String)> = fields(text.get(header_block).unwrap_or_default())
            .map(|(key, value)| (lossy(key).into_owned(), lossy(value).into_owned()))
            .collect();
        let version = header.iter().rev().find(|(key, _)| key == "VERSION");
        let found = match version.map(|(_, value)| value.trim()) {
            None => Some("no VERSION in its header".to_owned()),
            Some(value) => match value.parse::<u64>() {
                Ok(0) => None,
                _ => Some(format!("VERSION {value}, which is not supported")),
            },
        };
        if let Some(found) = found {
            let path = path.to_owned();
            return Err(IndexError::Version { path, found });
        }
        let mut blocks = Vec::new();
        let tail = loop {
            let start = position;
            let (block, next) = next_block(&text, position);
            if text.get(block.clone()).is_none_or(|b| fields(b).next().is_none()) {
                break start..text.len();
            }
            blocks.push(Block::Kept(block));
            position = next;
        };
        Ok(PackageIndex { text, header, blocks, tail })
    }

    /// An index without entries, with this header; a `VERSION` is put into it.
    #[must_use]
    pub fn new(header: Vec<(String, String)>) -> PackageIndex {
        let mut sorted = Vec::new();
        for (key, value) in header.iter().filter(|(_, value)| !value.is_empty()) {
            set_sorted(&mut sorted, key, value.clone());
        }
        set_sorted(&mut sorted, "VERSION", "0".to_owned());
        PackageIndex { text: Vec::new(), header: sorted, blocks: Vec::new(), tail: 0..0 }
    }

    /// Whether [`PackageIndex::render`] would give the very bytes that were read, but for the `TIMESTAMP`: sorted, and
    /// with the right number of packages.
    #[must_use]
    pub fn is_rendered(&self) -> bool {
        let timestamp = self.header("TIMESTAMP").and_then(|text| text.parse().ok());
        timestamp.is_some_and(|timestamp| self.render(timestamp) == self.text)
    }

    /// The value of a header key, as Portage would take it (the last one counts).
    #[must_use]
    pub fn header(&self, key: &str) -> Option<&str> {
        let found = self.header.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    }

    /// How many blocks follow the header.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether no block follows the header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The fields of block `number`, in the order they stand.
    pub fn fields(&self, number: usize) -> Box<dyn Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> + '_> {
        match self.blocks.get(number) {
            Some(Block::Kept(range)) => Box::new(
                fields(self.text.get(range.clone()).unwrap_or_default()).map(|(key, value)| (lossy(key), lossy(value))),
            ),
            Some(Block::Edited(entry)) => {
                Box::new(entry.fields().map(|(key, value)| (Cow::from(key), Cow::from(value))))
            }
            None => Box::new(std::iter::empty()),
        }
    }

    /// The raw lines of block `number`, for a scan that must be fast; `None` where it was edited.
    #[must_use]
    pub fn raw(&self, number: usize) -> Option<&[u8]> {
        match self.blocks.get(number)? {
            Block::Kept(range) => self.text.get(range.clone()),
            Block::Edited(_) => None,
        }
    }

    /// A copy of block `number` that can be edited.
    #[must_use]
    pub fn entry(&self, number: usize) -> Option<Entry> {
        (number < self.blocks.len()).then(|| Entry::of(self.fields(number)))
    }

    /// Copies of all blocks, in order: the first one is block 0.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..self.blocks.len()).filter_map(|number| self.entry(number))
    }

    /// The numbers of the blocks whose file is `path` (relative to PKGDIR), by one look at the whole index; where many
    /// paths are asked for, make [`PackageIndex::by_path`] once.
    #[must_use]
    pub fn at_path(&self, path: &str) -> Vec<usize> {
        (0..self.blocks.len()).filter(|&number| self.path_of(number).as_deref() == Some(path)).collect()
    }

    /// The numbers of the blocks by the file they name (relative to PKGDIR), in order; blocks without a `CPV` name none.
    #[must_use]
    pub fn by_path(&self) -> HashMap<Cow<'_, str>, Vec<usize>> {
        let mut by_path: HashMap<Cow<'_, str>, Vec<usize>> = HashMap::new();
        for number in 0..self.blocks.len() {
            if let Some(path) = self.path_of(number) {
                by_path.entry(path).or_default().push(number);
            }
        }
        by_path
    }

    fn path_of(&self, number: usize) -> Option<Cow<'_, str>> {
        let mut cpv = None;
        let mut path = None;
        for (key, value) in self.fields(number) {
            match &*key {
                "CPV" => cpv = Some(value),
                "PATH" => path = Some(value),
                _ => {}
            }
        }
        cpv.map(|cpv| match path {
            Some(path) if !path.is_empty() => path,
            // an entry without PATH is an old one for an xpak package
            _ => Cow::Owned(format!("{cpv}.tbz2")),
        })
    }

    /// Puts entries in, and takes out every entry whose file has the `PATH` of one of them, as Portage does when a
    /// package is injected (`binarytree._inject_file`): the new ones come last among their equals.
    pub fn inject_all(&mut self, entries: Vec<Entry>) {
        let paths: HashSet<&str> = entries.iter().filter_map(|entry| entry.get("PATH")).collect();
        let kept: Vec<bool> = (0..self.blocks.len())
            .map(|number| self.path_of(number).is_none_or(|path| !paths.contains(&*path)))
            .collect();
        let mut keep = kept.into_iter();
        self.blocks.retain(|_| keep.next().unwrap_or(true));
        self.blocks.extend(entries.into_iter().map(Block::Edited));
    }

    /// Replaces the blocks of these numbers, or takes them out where there is no entry, and puts `new` behind all others.
    pub fn revise(&mut self, mut edits: HashMap<usize, Option<Entry>>, new: Vec<Entry>) {
        let blocks = std::mem::take(&mut self.blocks).into_iter().enumerate();
        self.blocks = blocks
            .filter_map(|(number, block)| match edits.remove(&number) {
                None => Some(block),
                Some(edit) => edit.map(Block::Edited),
            })
            .chain(new.into_iter().map(Block::Edited))
            .collect();
    }

    /// The bytes to write: `TIMESTAMP` (seconds since the epoch) and `PACKAGES` renewed, blocks stably sorted by
    /// `CPV` as plain strings, as `PackageIndex.write` does.
    #[must_use]
    pub fn render(&self, timestamp: u64) -> Vec<u8> {
        let cpv_of = |number: usize| {
            let mut cpv = None;
            for (key, value) in self.fields(number) {
                if key == "CPV" {
                    cpv = Some(value);
                }
            }
            cpv
        };
        let mut order: Vec<(Option<Cow<'_, str>>, usize)> =
            (0..self.blocks.len()).map(|number| (cpv_of(number), number)).collect();
        let packages = order.iter().filter(|(cpv, _)| cpv.is_some()).count();
        order.sort_by(|(a, _), (b, _)| a.cmp(b));

        let mut header = self.header.clone();
        set_sorted(&mut header, "PACKAGES", packages.to_string());
        set_sorted(&mut header, "TIMESTAMP", timestamp.to_string());
        let mut out = Vec::with_capacity(self.text.len() + 4096);
        render_fields(&mut out, &header);
        for (_, number) in order {
            match self.blocks.get(number) {
                Some(Block::Kept(range)) => {
                    let block = self.text.get(range.clone()).unwrap_or_default();
                    out.extend_from_slice(block);
                    if block.last() != Some(&b'\n') {
                        out.push(b'\n');
                    }
                    out.push(b'\n');
                }
                Some(Block::Edited(entry)) => {
                    out.extend_from_slice(entry.text.as_bytes());
                    out.push(b'\n');
                }
                None => {}
            }
        }
        let tail = self.text.get(self.tail.clone()).unwrap_or_default();
        if tail.iter().any(|byte| !byte.is_ascii_whitespace()) {
            out.extend_from_slice(tail);
        }
        out
    }

    /// `Packages.gz` for the bytes of an index, without a name in it and with `timestamp` as its time, as Portage
    /// writes it.
    ///
    /// # Errors
    /// The compressor failed.
    pub fn compress(bytes: &[u8], timestamp: u64) -> Result<Vec<u8>, IndexError> {
        let time = u32::try_from(timestamp).unwrap_or(u32::MAX);
        let mut encoder = flate2::GzBuilder::new().mtime(time).write(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).map_err(IndexError::Compress)?;
        encoder.finish().map_err(IndexError::Compress)
    }
}

/// One package's block, to be edited and put back with [`PackageIndex::inject_all`].
///
/// Runs may have many thousands of them in memory, so it is one text and not forty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    // lines of a key without a colon, ": ", and a value
    text: Box<str>,
}

impl Entry {
    fn of<K: AsRef<str>, V: AsRef<str>>(fields: impl Iterator<Item = (K, V)>) -> Entry {
        let mut text = String::new();
        for (key, value) in fields {
            text.extend([key.as_ref(), ": ", value.as_ref(), "\n"]);
        }
        Entry { text: text.into_boxed_str() }
    }

    /// Parses the lines of one block (as [`Entry::to_text`] gives them).
    #[must_use]
    pub fn from_text(text: &str) -> Entry {
        Entry::of(fields(text.as_bytes()).map(|(key, value)| (lossy(key), lossy(value))))
    }

    /// The lines of this block, without the blank line after it.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.text.to_string()
    }

    fn fields(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        self.text.split_terminator('\n').filter_map(|line| line.split_once(": "))
    }

    /// The value of a key; the last one counts where it stands twice.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.fields().rev().find(|(name, _)| *name == key);
        found.map(|(_, value)| value)
    }

    /// Sets a key; one that is new goes to its place in Portage's order. A value that Portage leaves out (an empty
    /// one, `SLOT 0`) takes the key out instead.
    pub fn set(&mut self, key: &str, value: &str) {
        let left_out = value.is_empty() || (key == "SLOT" && value == "0");
        let mut fields: Vec<(String, String)> =
            self.fields().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        if left_out {
            fields.retain(|(name, _)| name != key);
        } else {
            set_sorted(&mut fields, key, value.to_owned());
        }
        *self = Entry::of(fields.iter().map(|(name, value)| (name, value)));
    }
}

/// The key that Portage sorts by: its internal name (`_pkgindex_translated_keys`).
fn internal(key: &str) -> &str {
    match key {
        "DESC" => "DESCRIPTION",
        "MTIME" => "_mtime_",
        "REPO" => "repository",
        other => other,
    }
}

fn set_sorted(fields: &mut Vec<(String, String)>, key: &str, value: String) {
    if let Some(field) = fields.iter_mut().rev().find(|(name, _)| name == key) {
        field.1 = value;
        return;
    }
    let place = fields.iter().position(|(name, _)| internal(name) > internal(key));
    fields.insert(place.unwrap_or(fields.len()), (key.to_owned(), value));
}

fn render_fields(out: &mut Vec<u8>, fields: &[(String, String)]) {
    for (key, value) in fields {
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.push(b'\n');
    }
    out.push(b'\n');
}

/// The lines up to the next blank one, and where to go on.
fn next_block(text: &[u8], start: usize) -> (std::ops::Range<usize>, usize) {
    let rest = text.get(start..).unwrap_or_default();
    if rest.first() == Some(&b'\n') {
        return (start..start, start + 1);
    }
    match memchr::memmem::find(rest, b"\n\n") {
        Some(at) => (start..start + at + 1, start + at + 2),
        None => (start..text.len(), text.len()),
    }
}

/// Keys and values of a block: the value is what follows the colon but for one character, lines without a colon are
/// passed over (`PackageIndex._readpkgindex`).
pub(crate) fn fields(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = block;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let (line, after) = rest.split_at_checked(end)?;
            rest = after.get(1..).unwrap_or_default();
            if let Some((key, value)) = memchr::memchr(b':', line).and_then(|colon| line.split_at_checked(colon)) {
                return Some((key, value.get(2..).unwrap_or_default()));
            }
        }
    })
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests;
