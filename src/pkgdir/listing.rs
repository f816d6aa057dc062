//! Which packages lie in PKGDIR.

use rustix::fs::FileType;

use super::folder::Folder;
use super::{Pkgdir, PkgdirError};
use crate::portage::names::{PkgPath, SUFFIX};

/// How deep packages lie, at the most: `category/name/file`, and a level for old habits.
const DEPTH: usize = 4;

/// A package file below PKGDIR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Where it lies.
    pub path: PkgPath,
    /// How it is reached.
    pub reach: Reach,
}

/// How a package file is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Through folders. Only such packages are seen by Portage where it looks at the files (`os.walk`).
    Folders,
    /// It, or a folder on the way, is a link.
    Link,
}

impl Pkgdir {
    /// Every package file, in the order of the paths, but for those in folders with a dot before their name. Links of
    /// folders are followed if root alone can have made them.
    ///
    /// # Errors
    /// PKGDIR itself cannot be listed; a folder that cannot be is warned of.
    pub(crate) fn packages(&self) -> Result<Vec<Listed>, PkgdirError> {
        let mut found = Vec::new();
        list(&self.folder, "", Reach::Folders, DEPTH, &mut found)?;
        found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Whether there is any package file.
    #[must_use]
    pub(crate) fn has_packages(&self) -> bool {
        self.packages().is_ok_and(|found| !found.is_empty())
    }
}

fn list(folder: &Folder, above: &str, reach: Reach, depth: usize, found: &mut Vec<Listed>) -> Result<(), PkgdirError> {
    for (name, kind) in folder.names()? {
        if name.starts_with('.') {
            continue;
        }
        let path = format!("{above}{name}");
        let reach = if kind == FileType::Symlink { Reach::Link } else { reach };
        match kind {
            _ if name.ends_with(SUFFIX) && kind != FileType::Directory => {
                found.extend(PkgPath::new(&path).ok().map(|path| Listed { path, reach }));
            }
            FileType::Directory | FileType::Symlink if depth > 1 => {
                let inner = match folder.folder(&name) {
                    Ok(inner) => inner,
                    Err(error) if kind == FileType::Symlink => {
                        log::debug!("{error}");
                        continue;
                    }
                    Err(error) => {
                        log::warn!("{error}");
                        continue;
                    }
                };
                if let Err(error) = list(&inner, &format!("{path}/"), reach, depth - 1, found) {
                    log::warn!("{error}");
                }
            }
            _ => {}
        }
    }
    Ok(())
}
