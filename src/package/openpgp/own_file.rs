//! Writing the small files that we keep for ourselves in `/var/lib/binpkg-resign`: whole, or not at all.

use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Puts `text` in place of what `file` says, so that it is there whole or not at all; makes its folder where there is none.
///
/// # Errors
/// The system's.
pub(super) fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(text.as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}
