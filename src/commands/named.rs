//! Which path below PKGDIR a user means by a file. What names mean, `verify`, `sign` and `held` decide, each by what it
//! knows of packages.

use std::path::{Component, Path, PathBuf};

use crate::pkgdir::Pkgdir;
use crate::portage::names::PkgPath;

/// The path below PKGDIR of a file, however it is named: through links, from the working directory, or as the index
/// names it. None where it lies elsewhere.
pub(super) fn path_below(pkgdir: &Pkgdir, name: &Path) -> Option<PkgPath> {
    let real = |path: &Path| path.canonicalize().ok();
    let top = real(pkgdir.path())?;
    let below = |path: PathBuf| {
        let below = path.strip_prefix(&top).or_else(|_| path.strip_prefix(pkgdir.path())).ok()?;
        PkgPath::new(below.to_str()?).ok()
    };
    // as it is written first: folders below PKGDIR may be links to other disks
    let written = std::path::absolute(name).ok();
    let written = written.filter(|path| !path.components().any(|name| name == Component::ParentDir));
    let in_real_folder = || {
        let folder = name.parent()?;
        let folder = real(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?;
        Some(folder.join(name.file_name()?))
    };
    (written.and_then(below))
        .or_else(|| in_real_folder().and_then(below))
        .or_else(|| real(name).and_then(below))
        .or_else(|| PkgPath::new(name.to_str()?).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_that_leads_into_pkgdir_is_pkgdirs() {
        let place = tempfile::tempdir().unwrap();
        let at = place.path().canonicalize().unwrap();
        for folder in ["real/app-misc", "disk/dev-util", "elsewhere"] {
            std::fs::create_dir_all(at.join(folder)).unwrap();
        }
        for file in ["real/app-misc/a-1.gpkg.tar", "disk/dev-util/b-1.gpkg.tar", "elsewhere/c-1.gpkg.tar"] {
            std::fs::write(at.join(file), "").unwrap();
        }
        symlink("real", at.join("pkgdir")).unwrap();
        symlink("../disk/dev-util", at.join("real/dev-util")).unwrap();
        symlink("../real/app-misc/a-1.gpkg.tar", at.join("elsewhere/link")).unwrap();
        let pkgdir = Pkgdir::open(&at.join("pkgdir")).unwrap().unwrap();
        for (name, below) in [
            ("pkgdir/app-misc/a-1.gpkg.tar", Some("app-misc/a-1.gpkg.tar")),
            ("real/app-misc/a-1.gpkg.tar", Some("app-misc/a-1.gpkg.tar")),
            ("elsewhere/../pkgdir/./app-misc//a-1.gpkg.tar", Some("app-misc/a-1.gpkg.tar")),
            ("elsewhere/link", Some("app-misc/a-1.gpkg.tar")),
            ("pkgdir/dev-util/b-1.gpkg.tar", Some("dev-util/b-1.gpkg.tar")),
            ("elsewhere/c-1.gpkg.tar", None),
            ("pkgdir/../elsewhere/c-1.gpkg.tar", None),
            ("pkgdir/.binpkg-resign/held/a", None),
        ] {
            let found = path_below(&pkgdir, &at.join(name));
            assert_eq!(found.as_ref().map(PkgPath::as_str), below, "{name}");
        }
        let as_the_index_names_it = path_below(&pkgdir, Path::new("app-misc/a-1.gpkg.tar")).unwrap();
        assert_eq!(as_the_index_names_it.as_str(), "app-misc/a-1.gpkg.tar");
    }
}
