//! What Portage's pass sees where it does not trust the index (`FEATURES=-pkgdir-index-trusted`): the files themselves
//! (`binarytree._populate_local`), also those that the index does not list.
//!
//! Nothing is verified here: this only tells which packages the pass would touch.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::commands::Error;
use crate::package::gpkg::{Codec, Container, METADATA_LIMIT, Metadata};
use crate::pkgdir::store::{self, STATE_DIRECTORY};
use crate::portage::atom::Cpv;
use crate::portage::index::{DEPENDENCY_KEYS, Entry, PackageIndex};

/// What the index says of a package besides its dependencies, by the names of both (`_pkgindex_aux_keys`).
const OTHER_KEYS: [(&str, &str); 13] = [
    ("BUILD_ID", "BUILD_ID"),
    ("BUILD_TIME", "BUILD_TIME"),
    ("CHOST", "CHOST"),
    ("DEFINED_PHASES", "DEFINED_PHASES"),
    ("IUSE", "IUSE"),
    ("KEYWORDS", "KEYWORDS"),
    ("LICENSE", "LICENSE"),
    ("PROPERTIES", "PROPERTIES"),
    ("PROVIDES", "PROVIDES"),
    ("REQUIRES", "REQUIRES"),
    ("RESTRICT", "RESTRICT"),
    ("USE", "USE"),
    ("repository", "REPO"),
];

/// The packages of a PKGDIR as their files have them.
pub(crate) struct Reread {
    /// The blocks of the index with the dependencies whole, not reduced by USE, and behind them those of the files that
    /// it does not list.
    pub(crate) index: PackageIndex,
    /// The blocks that were made from files, by their numbers.
    made: HashMap<usize, Entry>,
}

impl Reread {
    /// Reads the metadata of every package.
    ///
    /// # Errors
    /// None that a file could cause: one that cannot be read is passed over, or stays as the index has it.
    pub(crate) fn read(index: &PackageIndex, pkgdir: &Path, codec: &Codec) -> Result<Reread, Error> {
        let mut text = format!("REPO: {}\nVERSION: 0\n\n", index.header("REPO").unwrap_or_default());
        let mut add = |entry: &Entry| {
            text += &entry.to_text();
            text += "\n";
        };
        // as everybody's who writes an index: what the header says need not be said again
        let chost = index.header("CHOST").unwrap_or_default();
        let leave_out_chost = |entry: &mut Entry| {
            if entry.get("CHOST") == Some(chost) {
                entry.set("CHOST", "");
            }
        };
        let mut made = HashMap::new();
        let mut listed = HashSet::new();
        let mut number = 0;
        for entry in (0..index.len()).filter_map(|number| index.entry(number)) {
            let path = entry.get("PATH").unwrap_or_default().to_owned();
            let read = store::open_package(pkgdir, &path).ok().map(|(file, _)| (is_described_by(&file, &entry), file));
            match read {
                Some((true, file)) => add(&with_whole_dependencies(&entry, file, &pkgdir.join(&path), codec)),
                Some((false, file)) => match entry_of(file, pkgdir, &path, codec) {
                    Some(mut entry) => {
                        leave_out_chost(&mut entry);
                        add(&entry);
                        made.insert(number, entry);
                    }
                    None => add(&entry),
                },
                None => add(&entry),
            }
            listed.insert(path);
            number += 1;
        }
        for path in packages(pkgdir).into_iter().filter(|path| !listed.contains(path)) {
            let file = store::open_package(pkgdir, &path).ok();
            if let Some(mut entry) = file.and_then(|(file, _)| entry_of(file, pkgdir, &path, codec)) {
                leave_out_chost(&mut entry);
                add(&entry);
                made.insert(number, entry);
                number += 1;
            }
        }
        Ok(Reread { index: PackageIndex::parse(text.into_bytes(), Path::new("PKGDIR"))?, made })
    }

    /// The block to make a package's new block from: that of the `index`, or one made from the file.
    pub(crate) fn base(&self, index: &PackageIndex, number: usize) -> Option<Entry> {
        self.made.get(&number).cloned().or_else(|| index.entry(number))
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
fn is_described_by(file: &File, entry: &Entry) -> bool {
    let number = |key: &str| entry.get(key).and_then(|value| value.trim().parse::<i128>().ok());
    file.metadata()
        .is_ok_and(|facts| number("SIZE") == Some(facts.size().into()) && number("MTIME") == Some(facts.mtime().into()))
}

fn metadata_of(file: File, path: &Path, codec: &Codec) -> Option<Metadata> {
    let container = Container::open(file, path).ok()?;
    let (member, compression) = container.metadata();
    let packed = container.read_member(member, METADATA_LIMIT).ok()?;
    Metadata::read(&packed, compression, codec, path).ok()
}

/// A value as the index would have it.
fn value_of(metadata: &Metadata, key: &str) -> String {
    let value = String::from_utf8_lossy(metadata.get(key).unwrap_or_default()).into_owned();
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A block for a file that the index does not describe; none where Portage would pass it over.
///
/// It has no `MTIME`, and neither has what is made from it: so Portage reads the file once more and writes the block
/// itself, reduced by USE.
pub(crate) fn entry_of(file: File, pkgdir: &Path, path: &str, codec: &Codec) -> Option<Entry> {
    let metadata = metadata_of(file, &pkgdir.join(path), codec)?;
    let value = |key: &str| value_of(&metadata, key);
    let (category, pf, slot, build_id) = (value("CATEGORY"), value("PF"), value("SLOT"), value("BUILD_ID"));
    let cpv_text = format!("{category}/{pf}");
    let cpv = Cpv::parse(&cpv_text)?;
    let (folder, name) = path.rsplit_once('/')?;
    let stem = name.strip_suffix(".gpkg.tar")?;
    let is_numbered = stem.strip_prefix(&pf).and_then(|rest| rest.strip_prefix('-')).is_some_and(is_build_id);
    let in_its_place = match is_numbered {
        true => folder == cpv.cp(),
        false => stem == pf && (folder == category || folder == "All"),
    };
    if slot.is_empty() || !in_its_place || !(build_id.is_empty() || build_id.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return None;
    }
    let mut entry = Entry::from_text("");
    entry.set("CPV", &cpv_text);
    entry.set("PATH", path);
    entry.set("SLOT", &slot);
    let eapi = value("EAPI");
    entry.set("EAPI", if eapi == "0" { "" } else { &eapi });
    for (key, name) in OTHER_KEYS {
        entry.set(name, &value(key));
    }
    for key in DEPENDENCY_KEYS {
        entry.set(key, &value(key));
    }
    Some(entry)
}

/// `_parse_build_id`: a number above 0.
fn is_build_id(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_ok_and(|id| id > 0)
}

/// The paths of the containers below PKGDIR, without our own folder; links are not followed.
fn packages(pkgdir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(pkgdir.join(&folder)) else { continue };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && path != STATE_DIRECTORY => folders.push(path),
                Ok(kind) if kind.is_file() && path.ends_with(".gpkg.tar") => found.push(path),
                _ => {}
            }
        }
    }
    found.sort_unstable();
    found
}
