//! The safety net: a hard link to every signed package, or a reflink between subvolumes of btrfs, so that what Portage's
//! update pass has removed while no hook ran can be brought back.
//!
//! It is a folder of ours beside PKGDIR, where a mirror of PKGDIR does not carry it, or in our folder there. In it are
//! the index as it was when the net was filled (a link, too: Portage replaces an index, it does not change one), and a
//! list of the links. The ctime of an inode tells when its name in PKGDIR went; a reflink does not tell.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use super::super::error::{PkgdirError, failed};
use super::super::folder::{Folder, Identity, Opened};
use super::super::{INDEX, Pkgdir};
use super::{replace_file, state, warn_of};
use crate::package::gpkg::Container;
use crate::portage::index::PackageIndex;
use crate::portage::names::PkgPath;

/// The folder in our own one, where the net lies in PKGDIR.
const INSIDE: &str = "net";
/// The index as it was.
const OLD_INDEX: &str = "index";
/// The list of the links.
const LIST: &str = "list";
const NEW_LIST: &str = "list.new";
/// What the net was filled from.
const STATE: &str = "state";
const NEW_STATE: &str = "state.new";
/// The most bytes of a list or a state that are read.
const LIMIT: u64 = 1 << 30;

/// Where the net lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NetPlace {
    /// Beside PKGDIR; nowhere, if that is another filesystem.
    Beside,
    /// Beside PKGDIR, or else in our folder in it.
    BesideOrInside,
}

/// What the net was filled from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetState {
    /// The index: device, inode, size, mtime in seconds and nanoseconds.
    index: [i128; 5],
    /// When it was filled, in seconds since the epoch.
    pub(crate) filled: u64,
}

/// A package in the net.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Caught {
    /// Where it lay in PKGDIR.
    pub(crate) path: PkgPath,
    /// Its inode, which names the link.
    inode: u64,
    /// The inode in the net, where that is a reflink and not a hard link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reflink: Option<u64>,
}

/// The net, open.
#[derive(Debug)]
pub(crate) struct Net {
    folder: Folder,
}

impl Net {
    /// Opens the net; none where there is none.
    ///
    /// # Errors
    /// It is there, and not ours, or cannot be read.
    pub(crate) fn look(pkgdir: &Pkgdir) -> Result<Option<Net>, PkgdirError> {
        if let Some((parent, name)) = beside(pkgdir)
            && let Some(folder) = state::ours_in(&parent, &name)?
        {
            return Ok(Some(Net { folder }));
        }
        let Some(state) = state::State::look(pkgdir)? else { return Ok(None) };
        Ok(state::existing(&state.folder, INSIDE)?.map(|folder| Net { folder }))
    }

    /// The same, made where it is not there; none where it can lie nowhere.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn open(pkgdir: &Pkgdir, place: NetPlace, store: &super::Store) -> Result<Option<Net>, PkgdirError> {
        if let Some((parent, name)) = beside(pkgdir).filter(|(parent, _)| is_in_reach(parent, pkgdir)) {
            if state::ours_in(&parent, &name)?.is_none() {
                parent.make_folder(&name, rustix::fs::Mode::RWXU)?;
            }
            return Ok(state::ours_in(&parent, &name)?.map(|folder| Net { folder }));
        }
        match place {
            NetPlace::Beside => Ok(None),
            NetPlace::BesideOrInside => Ok(Some(Net { folder: state::below(&store.state.folder, INSIDE)? })),
        }
    }

    /// Whether PKGDIR lies so that its net can be beside it.
    #[must_use]
    pub(crate) fn can_be_beside(pkgdir: &Pkgdir) -> bool {
        beside(pkgdir).is_some_and(|(parent, _)| is_in_reach(&parent, pkgdir))
    }

    /// What it was filled from; none where it was not, or that cannot be understood.
    pub(crate) fn state(&self) -> Option<NetState> {
        let (bytes, _) = self.folder.read(STATE, LIMIT).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    /// Whether the index is still the one that the net was filled from.
    #[must_use]
    pub(crate) fn is_current(state: Option<&NetState>, pkgdir: &Pkgdir) -> bool {
        state.map(|state| state.index) == pkgdir.index_identity().map(|identity| identity.numbers())
    }

    /// The packages in it.
    pub(crate) fn caught(&self) -> Vec<Caught> {
        let Ok(Some((bytes, _))) = self.folder.read(LIST, LIMIT) else { return Vec::new() };
        bytes.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    /// The index as it was.
    pub(crate) fn old_index(&self) -> Option<PackageIndex> {
        let (bytes, _) = self.folder.read(OLD_INDEX, super::super::INDEX_LIMIT).ok()??;
        PackageIndex::parse(bytes, &self.folder.path().join(OLD_INDEX)).ok()
    }

    /// Opens a package in the net; none where its link is not what the list says.
    pub(crate) fn file(&self, caught: &Caught) -> Option<Opened> {
        self.folder.file(&caught.link()).ok().filter(|opened| opened.identity.inode() == caught.kept())
    }

    /// Whether a file is the very one that the net has of a package.
    pub(crate) fn has(&self, caught: &Caught, opened: &Opened) -> bool {
        self.file(caught).is_some_and(|kept| kept.identity.is_same_inode(&opened.identity))
    }

    /// When a package lost its name in PKGDIR, in seconds and nanoseconds since the epoch: unlinking changes the inode.
    /// A reflink does not tell.
    pub(crate) fn lost_at(&self, caught: &Caught) -> Option<(i64, i64)> {
        if caught.reflink.is_some() {
            return None;
        }
        let facts = self.folder.look(&caught.link()).ok()??;
        #[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "the type differs by machine")]
        Some((facts.st_ctime as i64, facts.st_ctime_nsec as i64))
    }

    /// The packages that are gone from PKGDIR, and those that are there as they were; of those whose name another file
    /// has, neither is said.
    pub(crate) fn gone_and_there(&self, pkgdir: &Pkgdir) -> (Vec<Caught>, Vec<Caught>) {
        let (mut gone, mut there) = (Vec::new(), Vec::new());
        for caught in self.caught() {
            match pkgdir.identity(&caught.path) {
                Ok(None) => gone.push(caught),
                Ok(Some(identity)) if identity.inode() == caught.inode => there.push(caught),
                Ok(Some(_)) | Err(_) => {}
            }
        }
        (gone, there)
    }

    /// The folder and the name of a link, to be given a further name.
    pub(super) fn place(&self, caught: &Caught) -> (&Folder, String) {
        (&self.folder, caught.link())
    }

    /// Gives every signed package of the index its link, takes those away that belong to no package any more, and
    /// writes down what is so. Packages whose link is there are not opened.
    ///
    /// # Errors
    /// The index cannot be read, or the list not be written. A package that cannot be linked is warned of.
    pub(crate) fn fill(&self, pkgdir: &Pkgdir) -> Result<(), PkgdirError> {
        let Some(identity) = pkgdir.index_identity() else { return Ok(()) };
        let Some(index) = pkgdir.read_index()? else { return Ok(()) };
        let known: HashMap<PkgPath, Caught> =
            self.caught().into_iter().map(|caught| (caught.path.clone(), caught)).collect();
        let mut list = Vec::new();
        let mut failed_links = 0_usize;
        for number in 0..index.len() {
            let path = index.fields(number).find(|(key, _)| key == "PATH").map(|(_, path)| path.into_owned());
            let Some(path) = path.and_then(|path| PkgPath::new(&path).ok()).filter(|path| path.stem().is_some()) else {
                continue;
            };
            match self.catch(pkgdir, path, &known) {
                Ok(caught) => list.extend(caught),
                Err(error) => {
                    failed_links += 1;
                    log::debug!("{error}");
                }
            }
        }
        if failed_links > 0 {
            let packages = if failed_links == 1 { "1 package has" } else { &format!("{failed_links} packages have") };
            log::warn!("{packages} no link in the safety net {}", self.folder.path().display());
        }
        if list.iter().any(|caught| caught.reflink.is_some()) {
            let path = self.folder.path();
            rustix::fs::syncfs(&self.folder).map_err(|error| failed("flush", path)(std::io::Error::from(error)))?;
        }
        self.write_list(&list)?;
        self.keep_index(pkgdir)?;
        let filled = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let state = NetState { index: identity.numbers(), filled };
        let bytes = serde_json::to_vec(&state)
            .map_err(|source| PkgdirError::State { path: self.folder.path().join(STATE), source })?;
        replace_file(&self.folder, STATE, NEW_STATE, &bytes)?;
        self.release_others(&list)
    }

    /// Takes packages out of the net that have been given up: no run is to bring them back.
    ///
    /// # Errors
    /// The list cannot be written.
    pub(crate) fn forget(&self, given_up: &[Caught]) -> Result<(), PkgdirError> {
        if given_up.is_empty() {
            return Ok(());
        }
        let mut list = self.caught();
        list.retain(|caught| !given_up.contains(caught));
        self.write_list(&list)?;
        self.release_others(&list)
    }

    fn write_list(&self, list: &[Caught]) -> Result<(), PkgdirError> {
        let mut bytes = Vec::new();
        for caught in list {
            let path = || self.folder.path().join(LIST);
            serde_json::to_writer(&mut bytes, caught).map_err(|source| PkgdirError::State { path: path(), source })?;
            bytes.push(b'\n');
        }
        replace_file(&self.folder, LIST, NEW_LIST, &bytes)
    }

    /// Links one package, if it is signed.
    fn catch(
        &self,
        pkgdir: &Pkgdir,
        path: PkgPath,
        known: &HashMap<PkgPath, Caught>,
    ) -> Result<Option<Caught>, PkgdirError> {
        let folder = match pkgdir.folder_of(&path) {
            Ok(folder) => folder,
            Err(error) if error.is_absence() => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(there) = folder.identity(path.file_name())? else { return Ok(None) };
        if let Some(caught) = known.get(&path).filter(|caught| caught.inode == there.inode()) {
            if self.still_has(caught, &there) {
                return Ok(Some(caught.clone()));
            }
            self.folder.remove(&caught.link())?;
        }
        let opened = folder.file(path.file_name())?;
        let inode = opened.identity.inode();
        let shown = pkgdir.path().join(path.as_str());
        // whether there are signatures is seen from the headers; what cannot be read is caught as well
        let signed = Container::open(opened.file, &shown).and_then(|container| container.has_signatures());
        if !signed.unwrap_or(true) {
            return Ok(None);
        }
        let caught = Caught { path, inode, reflink: None };
        let name = caught.link();
        match folder.link(caught.path.file_name(), &self.folder, &name) {
            Ok(()) => {}
            Err(PkgdirError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {}
            // another mount, or another subvolume of btrfs, or there are as many links as the filesystem has
            Err(error) => return self.reflink(&folder, caught).map(Some).map_err(|_| error),
        }
        let linked = self.folder.identity(&name)?;
        if linked.is_some_and(|linked| linked.inode() == inode) {
            Ok(Some(caught))
        } else {
            // another package took the name just now, or the link is one of another time
            self.folder.remove(&name)?;
            Err(failed("link", &shown)(std::io::Error::from(rustix::io::Errno::STALE)))
        }
    }

    /// Gives a package a file of its own in the net that shares its blocks.
    fn reflink(&self, folder: &Folder, caught: Caught) -> Result<Caught, PkgdirError> {
        let opened = folder.file(caught.path.file_name())?;
        let (name, path) = (caught.link(), self.folder.path().join(caught.link()));
        let refused = |error: rustix::io::Errno| failed("make a reflink", &path)(std::io::Error::from(error));
        if opened.identity.inode() != caught.inode {
            return Err(refused(rustix::io::Errno::STALE));
        }
        let file = self.folder.create(&name)?;
        let modified = opened.file.metadata().and_then(|facts| facts.modified()).map_err(failed("look at", &path))?;
        let made = rustix::fs::ioctl_ficlone(&file, &opened.file).map_err(refused);
        let times = std::fs::FileTimes::new().set_modified(modified);
        let made = made.and_then(|()| file.set_times(times).map_err(failed("set the time of", &path)));
        match made.and_then(|()| self.folder.identity(&name)) {
            Ok(Some(kept)) => Ok(Caught { reflink: Some(kept.inode()), ..caught }),
            Ok(None) => Err(refused(rustix::io::Errno::STALE)),
            Err(error) => {
                self.folder.remove(&name)?;
                Err(error)
            }
        }
    }

    /// Whether the file in the net is still what its package is: a hard link is, by its inode; of reflinks the inode of
    /// the package may have gone to another file.
    fn still_has(&self, caught: &Caught, there: &Identity) -> bool {
        let kept = || self.folder.identity(&caught.link()).ok().flatten();
        caught.reflink.is_none() || kept().is_some_and(|kept| kept.inode() == caught.kept() && kept.is_like(there))
    }

    /// Keeps the index as it is now.
    fn keep_index(&self, pkgdir: &Pkgdir) -> Result<(), PkgdirError> {
        let (folder, name) = pkgdir.folder.locate(INDEX)?;
        self.folder.remove(OLD_INDEX)?;
        if folder.link(&name, &self.folder, OLD_INDEX).is_ok() {
            return Ok(());
        }
        match pkgdir.folder.read(INDEX, super::super::INDEX_LIMIT)? {
            Some((bytes, _)) => replace_file(&self.folder, OLD_INDEX, "index.new", &bytes),
            None => Ok(()),
        }
    }

    /// Takes away the links of packages that are not in the list.
    fn release_others(&self, list: &[Caught]) -> Result<(), PkgdirError> {
        let kept: std::collections::HashSet<String> = list.iter().map(Caught::link).collect();
        for (name, kind) in self.folder.names()? {
            let is_link = name.strip_prefix(PREFIX).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
            if is_link && kind == FileType::RegularFile && !kept.contains(&name) {
                warn_of(self.folder.remove(&name));
            }
        }
        self.folder.sync()
    }

    /// How many packages it has, and their bytes that lie nowhere else.
    pub(crate) fn size(&self) -> (usize, u64) {
        let caught = self.caught();
        let alone = |caught: &Caught| {
            if caught.reflink.is_some() {
                return None;
            }
            let facts = self.folder.look(&caught.link()).ok()??;
            (facts.st_nlink == 1).then(|| Identity::of(&facts).size())
        };
        let bytes = caught.iter().filter_map(alone).sum();
        (caught.len(), bytes)
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// How the names of links begin.
const PREFIX: &str = "package.";

impl Caught {
    fn link(&self) -> String {
        format!("{PREFIX}{}", self.inode)
    }

    /// The inode in the net.
    fn kept(&self) -> u64 {
        self.reflink.unwrap_or(self.inode)
    }
}

/// The folder that PKGDIR really lies in, and what the net is called there.
fn beside(pkgdir: &Pkgdir) -> Option<(Folder, String)> {
    let real: PathBuf = std::fs::canonicalize(pkgdir.path()).ok()?;
    let name = real.file_name()?.to_str()?;
    let parent = Folder::open(real.parent()?).ok()?;
    Some((parent, format!(".{name}.binpkg-resign-net")))
}

/// Whether a file of PKGDIR can get a hard link in this folder, or at least a reflink, as between subvolumes of btrfs.
fn is_in_reach(folder: &Folder, pkgdir: &Pkgdir) -> bool {
    folder.is_beside(&pkgdir.folder) || btrfs(folder).is_some_and(|here| Some(here) == btrfs(&pkgdir.folder))
}

/// Which btrfs a folder is on: half of the id is the filesystem's, the other half the subvolume's (`btrfs_statfs`).
fn btrfs(folder: &Folder) -> Option<u32> {
    const BTRFS_SUPER_MAGIC: u32 = 0x9123_683E;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the type differs by machine")]
    let is_btrfs = rustix::fs::fstatfs(folder).ok()?.f_type as u32 == BTRFS_SUPER_MAGIC;
    #[allow(clippy::cast_possible_truncation, reason = "one half is meant")]
    is_btrfs.then_some(rustix::fs::fstatvfs(folder).ok()?.f_fsid as u32)
}
