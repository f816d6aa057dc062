//! The index as the files would have it: what Portage's pass sees where it does not trust the index
//! (`FEATURES=-pkgdir-index-trusted`, `binarytree._populate_local`), also of files that the index does not list.
//!
//! Nothing is verified here: this only tells which packages the pass would touch.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;

use super::agreement::differs_from_file;
use super::entry::{described, value_of};
use super::listing::Reach;
use super::{Opened, Pkgdir, PkgdirError};
use crate::package::gpkg::{Codec, Container, METADATA_LIMIT, Metadata};
use crate::portage::index::{DEPENDENCY_KEYS, Entry, PackageIndex};
use crate::portage::names::PkgPath;

/// The packages of a PKGDIR as their files have them.
pub(crate) struct FromFiles {
    /// The blocks of the index with the dependencies whole, not reduced by USE, and behind them those of the files that
    /// it does not list.
    pub(crate) index: PackageIndex,
    /// The blocks that were made from files, by their numbers.
    made: HashMap<usize, Entry>,
}

impl FromFiles {
    /// Reads the metadata of every package; `index` is none where there is none that Portage could read.
    ///
    /// # Errors
    /// PKGDIR cannot be listed. A file that cannot be read is passed over, or stays as the index has it.
    pub(crate) fn read(index: Option<&PackageIndex>, pkgdir: &Pkgdir, codec: &Codec) -> Result<FromFiles, PkgdirError> {
        let header = |key: &str| index.and_then(|index| index.header(key)).unwrap_or_default();
        let mut text = format!("REPO: {}\nVERSION: 0\n\n", header("REPO"));
        let mut add = |entry: &Entry| {
            text += &entry.to_text();
            text += "\n";
        };
        // as everybody's who writes an index: what the header says need not be said again
        let chost = header("CHOST");
        let leave_out_chost = |entry: &mut Entry| {
            if entry.get("CHOST") == Some(chost) {
                entry.set("CHOST", "");
            }
        };
        let mut made = HashMap::new();
        let mut listed = HashSet::new();
        let mut number = 0;
        for entry in index.into_iter().flat_map(PackageIndex::entries) {
            let path = PkgPath::new(entry.get("PATH").unwrap_or_default()).ok();
            let read = path.as_ref().and_then(|path| Some((path, pkgdir.open_package(path).ok()?)));
            let block = match read {
                Some((path, opened)) if is_described_by(&opened, &entry) => {
                    Some(with_whole_dependencies(&entry, opened.file, &pkgdir.path().join(path.as_str()), codec))
                }
                Some((path, opened)) => entry_of(opened.file, pkgdir, path, codec).map(|mut entry| {
                    leave_out_chost(&mut entry);
                    made.insert(number, entry.clone());
                    entry
                }),
                None => None,
            };
            add(block.as_ref().unwrap_or(&entry));
            listed.extend(path);
            number += 1;
        }
        for found in pkgdir.packages()? {
            if found.reach == Reach::Link || listed.contains(&found.path) {
                continue;
            }
            let opened = pkgdir.open_package(&found.path).ok();
            if let Some(mut entry) = opened.and_then(|opened| entry_of(opened.file, pkgdir, &found.path, codec)) {
                leave_out_chost(&mut entry);
                add(&entry);
                made.insert(number, entry);
                number += 1;
            }
        }
        Ok(FromFiles { index: PackageIndex::parse(text.into_bytes(), pkgdir.path())?, made })
    }

    /// The block to make a package's new block from: that of the `index`, or one made from the file.
    pub(crate) fn base(&self, index: Option<&PackageIndex>, number: usize) -> Option<Entry> {
        self.made.get(&number).cloned().or_else(|| index?.entry(number))
    }
}

/// The block of a package with the dependencies as its file has them; unchanged where that cannot be read.
pub(crate) fn with_whole_dependencies(entry: &Entry, file: File, path: &Path, codec: &Codec) -> Entry {
    let mut entry = entry.clone();
    if let Some(metadata) = metadata_of(file, path, codec) {
        for key in DEPENDENCY_KEYS {
            entry.set(key, &value_of(&metadata, key));
        }
    }
    entry
}

/// Whether a block of the index is about this very file.
fn is_described_by(opened: &Opened, entry: &Entry) -> bool {
    let says = |key: &str| entry.get(key).is_some();
    says("SIZE") && says("MTIME") && differs_from_file(entry, &opened.identity).is_none()
}

fn metadata_of(file: File, path: &Path, codec: &Codec) -> Option<Metadata> {
    let container = Container::open(file, path).ok()?;
    let (member, compression) = container.metadata();
    let packed = container.read_member(member, METADATA_LIMIT).ok()?;
    Metadata::read(&packed, compression, codec, path).ok()
}

/// A block for a file that the index does not describe; none where Portage would pass it over.
///
/// It has no `MTIME`, and neither has what is made from it: so Portage reads the file once more and writes the block
/// itself, reduced by USE.
fn entry_of(file: File, pkgdir: &Pkgdir, path: &PkgPath, codec: &Codec) -> Option<Entry> {
    let metadata = metadata_of(file, &pkgdir.path().join(path.as_str()), codec)?;
    described(&metadata, path).ok()
}
