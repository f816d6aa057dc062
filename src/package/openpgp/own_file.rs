//! Writing the small files that we keep for ourselves in `/var/lib/binpkg-resign`: whole, or not at all.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Puts `text` in place of what `file` says, so that it is there whole or not at all; makes its folder where there is none.
///
/// # Errors
/// The system's.
pub(super) fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    if !folder.is_dir() {
        // only the last one is ours: a new root may not even have a /var
        if let Some(above) = folder.parent().filter(|above| !above.is_dir()) {
            DirBuilder::new().recursive(true).create(above)?;
        }
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(text.as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_our_folder_is_closed_to_others() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("var/lib/binpkg-resign/file");
        for text in ["one", "two"] {
            replace(&file, text).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
        let mode = |path: &str| std::fs::metadata(root.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("var/lib/binpkg-resign"), 0o700);
        std::fs::create_dir(root.path().join("as-usual")).unwrap();
        assert_eq!((mode("var"), mode("var/lib")), (mode("as-usual"), mode("as-usual")));
    }
}
