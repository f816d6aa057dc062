//! Where backups lie. While a run goes on they lie side by side in `held`, `~` for each `/`: making folders, and flushing
//! each of them, takes ten times as long as the links, and Portage does not wait. What is still held when the run ends
//! goes to `held/PATH.held` (`.held.2` for a second build), where a person finds it; it stays flat where folders do not
//! fit. A path with a `~` goes there at once.

use std::collections::BTreeSet;
use std::io;

use rustix::io::Errno;

use super::super::error::{PkgdirError, failed};
use super::super::folder::Folder;
use super::hold::{Made, folder_of_held};
use super::journal::{Journal, Record};
use super::{Store, state, warn_of};
use crate::portage::names::{PkgPath, SUFFIX};

/// The longest name that filesystems take, in bytes.
const NAME_LIMIT: usize = 255;
/// So many builds of one name are held, at the most.
const HELD_LIMIT: u32 = 99_999;
/// What stands for a slash in the name of a backup that has no folder of its own; no package has it in its name (PMS 3.1).
const FLAT_SLASH: &str = "~";
/// So many backups get their last places at once: each has its folder open meanwhile.
const SETTLED_AT_ONCE: usize = 128;
/// What stands where a name is cut, and makes no path.
const CUT: &str = "~~";

/// A free place: its folder, the name there, and its name below `held`.
type Place = (Folder, String, PkgPath);

impl Store {
    /// A free place for a new backup: in `held` itself, unless its name would not tell the path there.
    pub(super) fn first_place(&self, path: &PkgPath, made: &mut Made) -> Result<Place, PkgdirError> {
        let flat = flat_name(path);
        if !path.as_str().contains(FLAT_SLASH) && !flat.contains(CUT) {
            let top = self.state.make_held()?;
            made.folders.insert(String::new());
            if let Some(place) = self.free_name(&top, "", &flat)? {
                return Ok(place);
            }
        }
        self.place_by_path(path, &mut made.folders)
    }

    /// A free place for what stays held: below `held` as the path says; in `held` itself where there is no room for
    /// folders, or the name is too long.
    fn place_by_path(&self, path: &PkgPath, folders: &mut BTreeSet<String>) -> Result<Place, PkgdirError> {
        let top = self.state.make_held()?;
        folders.insert(String::new());
        let mut prefix = String::new();
        let mut folder = top.clone();
        let fits = |number: u32| held_name(path.file_name(), number).len() <= NAME_LIMIT;
        let whole = fits(1) && {
            let mut parts = path.folder().split('/').filter(|part| !part.is_empty());
            parts.all(|part| match state::below(&folder, part) {
                Ok(inner) => {
                    folder = inner;
                    prefix.push_str(part);
                    prefix.push('/');
                    folders.insert(prefix.clone());
                    true
                }
                Err(error) => {
                    log::debug!("{error}: the backup lies in {}", top.path().display());
                    false
                }
            })
        };
        if whole && let Some(place) = self.free_name(&folder, &prefix, path.file_name())? {
            return Ok(place);
        }
        self.free_name(&top, "", &flat_name(path))?.ok_or_else(|| {
            failed("find a name for a backup of", &self.pkgdir.path().join(path.as_str()))(io::Error::from(
                Errno::EXIST,
            ))
        })
    }

    /// A name in a folder below `held` that nothing has; none where all that fit are taken.
    fn free_name(&self, folder: &Folder, prefix: &str, stem: &str) -> Result<Option<Place>, PkgdirError> {
        for number in 1..=HELD_LIMIT {
            let name = held_name(stem, number);
            if name.len() > NAME_LIMIT {
                break;
            }
            let held = PkgPath::new(&format!("{prefix}{name}"))
                .map_err(|error| failed("name", folder.path())(io::Error::other(error)))?;
            if !self.records.contains(&held) && folder.look(&name)?.is_none() {
                return Ok(Some((folder.clone(), name, held)));
            }
        }
        Ok(None)
    }

    /// Gives what stays held the place that its path says. The new name is written down, made and flushed before the
    /// first one goes, so that there are two names at the worst ([`Store::drop_doubles`]).
    pub(super) fn settle_held(&mut self) {
        let lies_flat = |record: &&Record| !record.held.as_str().contains('/') && record.path.as_str().contains('/');
        let flat = self.records.in_order().into_iter().filter(lies_flat);
        let flat: Vec<PkgPath> = flat.map(|record| record.held.clone()).collect();
        for some in flat.chunks(SETTLED_AT_ONCE) {
            self.settle(some);
        }
    }

    fn settle(&mut self, flat: &[PkgPath]) {
        let mut folders = BTreeSet::new();
        let mut records: Vec<Record> = Vec::new();
        let mut moves: Vec<(&PkgPath, Folder, String)> = Vec::new();
        for old in flat {
            let Some(record) = self.records.get_mut(old).map(|record| record.clone()) else { continue };
            match self.place_by_path(&record.path, &mut folders) {
                Ok((to, name, held)) if held.as_str().contains('/') => {
                    let new = Record { held, ..record };
                    // so that the next one of this path gets another name
                    self.records.insert(new.clone());
                    records.push(new);
                    moves.push((old, to, name));
                }
                Ok(_) => {}
                Err(error) => log::debug!("{error}: the backup stays where it is"),
            }
        }
        let written = Journal::append(&self.state.folder, &records, &[]);
        let is_written = written.is_ok();
        warn_of(written);
        let mut made: Vec<&PkgPath> = Vec::new();
        for ((old, to, name), new) in moves.into_iter().zip(&records) {
            let placed = if is_written { self.give_place(old, &to, &name) } else { Ok(false) };
            if let Err(error) = &placed {
                log::debug!("{error}: the backup stays where it is");
            }
            match placed {
                Ok(true) => made.push(old),
                Ok(false) | Err(_) => {
                    self.records.remove(&new.held);
                }
            }
        }
        // else both names stay, until a later run can flush the new one
        if made.is_empty() || !self.flush_held(&folders) {
            return;
        }
        for old in made {
            warn_of(self.remove_held(old).map(|_| ()));
        }
        self.flush_held(&BTreeSet::from([String::new()]));
    }

    /// Gives a backup a second name; where there are no links, the new one instead. Whether it has it.
    fn give_place(&self, held: &PkgPath, to: &Folder, name: &str) -> Result<bool, PkgdirError> {
        let Some(folder) = folder_of_held(&self.state, held)? else { return Ok(false) };
        match folder.link(held.file_name(), to, name) {
            Err(error) if !error.is_absence() => {
                log::debug!("{error}: renaming");
                folder.rename(held.file_name(), to, name).map(|()| true)
            }
            made => made.map(|()| true),
        }
    }

    /// Takes away the first of two names of one backup, which a run has that ended between them.
    pub(super) fn drop_doubles(&mut self) {
        let is_flat = |record: &&Record| !record.held.as_str().contains('/');
        let records = self.records.in_order().into_iter().filter(is_flat);
        let doubles: Vec<PkgPath> =
            records.filter(|record| self.has_double(record)).map(|record| record.held.clone()).collect();
        for held in doubles {
            warn_of(self.remove_held(&held).map(|_| ()));
        }
    }

    /// Whether a backup has another name as well.
    fn has_double(&self, record: &Record) -> bool {
        let mut others = self.records.of(&record.path).filter(|other| other.held != record.held).peekable();
        if others.peek().is_none() {
            return false;
        }
        let Ok(opened) = self.open_held(&record.held) else { return false };
        others.any(|other| self.open_held(&other.held).is_ok_and(|held| held.identity.is_same_inode(&opened.identity)))
    }
}

/// The name of the backup with this number.
fn held_name(stem: &str, number: u32) -> String {
    if number == 1 { format!("{stem}.held") } else { format!("{stem}.held.{number}") }
}

/// The name of a backup in `held` itself. One that is too long is cut; whose it is then only the journal tells, until
/// somebody looks into the package.
fn flat_name(path: &PkgPath) -> String {
    let flat = path.as_str().replace('/', FLAT_SLASH);
    let stem = flat.strip_suffix(SUFFIX).unwrap_or(&flat);
    let room = NAME_LIMIT - ".held.99999".len() - SUFFIX.len();
    if stem.len() <= room {
        return flat;
    }
    let mut end = room - CUT.len();
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{CUT}{SUFFIX}", stem.get(..end).unwrap_or_default())
}

/// The path below PKGDIR of a held file, from its name below the folder `held`.
pub(super) fn path_of_held(held: &PkgPath) -> Option<PkgPath> {
    let text = held.as_str();
    let numberless = match text.rsplit_once('.') {
        Some((head, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => head,
        _ => text,
    };
    let path = numberless.strip_suffix(".held")?;
    let path = if path.contains('/') { path.to_owned() } else { path.replace(FLAT_SLASH, "/") };
    PkgPath::new(&path).ok()
}
