//! What can be wrong with a container.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::Compression;

/// Why a container cannot be read, trusted or written. Each names the container and the member.
#[derive(Debug, thiserror::Error)]
pub enum GpkgError {
    /// The system could not read the file.
    #[error("{}: cannot read {what}: {source}", path.display())]
    Read {
        /// The container.
        path: PathBuf,
        /// The part that was read.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The system could not write the new container.
    #[error("cannot write {what} of the new container for {}: {source}; is there room on the disk?", path.display())]
    Write {
        /// The old container.
        path: PathBuf,
        /// The part that was written.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no tar that Portage can tell the format of.
    #[error("{}: not a gpkg binary package ({why}); if it should be one, build it again", path.display())]
    NotATar {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: &'static str,
    },
    /// The file is a package in Portage's format before gpkg.
    #[error("{}: in the old format (xpak), which has no signatures; BINPKG_FORMAT=\"gpkg\" in make.conf and building it again makes a gpkg", path.display())]
    OldFormat {
        /// The file.
        path: PathBuf,
    },
    /// A tar header that cannot be trusted.
    #[error("{}: the tar header at byte {offset} {why}; the package is damaged or was tampered with, build it again", path.display())]
    Header {
        /// The container.
        path: PathBuf,
        /// Where the header starts, in bytes.
        offset: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The file ends before the member does.
    #[error("{}: cut short: {member} ends at byte {end}, the file at {length}; fetch or build it again", path.display())]
    Truncated {
        /// The container.
        path: PathBuf,
        /// The member.
        member: String,
        /// Where the member should end, in bytes, with its padding.
        end: u64,
        /// The file's length in bytes.
        length: u64,
    },
    /// A member that GLEP 78 does not allow.
    #[error("{}: the member {member:?} {why}; the package was not made by Portage, or was tampered with", path.display())]
    Structure {
        /// The container.
        path: PathBuf,
        /// The member.
        member: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A member that every gpkg has is not there.
    #[error("{}: it has no {member}{ending}; the package is damaged, build it again", path.display())]
    Missing {
        /// The container.
        path: PathBuf,
        /// The member.
        member: &'static str,
        /// How the archive ended, if it did so oddly.
        ending: String,
    },
    /// Something is larger than anything honest.
    #[error("{}: {what} takes more than the {limit} that are allowed", path.display())]
    TooLarge {
        /// The container.
        path: PathBuf,
        /// What is too large.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// The Manifest is no Manifest.
    #[error("{}: Manifest line {line}: {why}", path.display())]
    Manifest {
        /// The container.
        path: PathBuf,
        /// The line of the signed text, from 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The Manifest and the container do not belong together.
    #[error("{}: {member} {why}; the package is damaged or was tampered with, build it again", path.display())]
    Mismatch {
        /// The container.
        path: PathBuf,
        /// The member.
        member: String,
        /// How the two differ.
        why: String,
    },
    /// A program that packs or unpacks is not configured, or not to be split into words.
    #[error(
        "{}: there is no command to {action} {compression}; look at BINPKG_COMPRESS, BINPKG_COMPRESS_FLAGS and \
         PORTAGE_BZIP2_COMMAND in make.conf", path.display()
    )]
    NoCommand {
        /// The container.
        path: PathBuf,
        /// `pack` or `unpack`.
        action: &'static str,
        /// The compression.
        compression: Compression,
    },
    /// A program that packs or unpacks cannot be started.
    #[error("{}: cannot run {program}: {source}; is it installed?", path.display())]
    Start {
        /// The container.
        path: PathBuf,
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program that packs or unpacks failed.
    #[error("{}: {program} failed ({status}){words}", path.display())]
    Failed {
        /// The container.
        path: PathBuf,
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said, after a colon.
        words: String,
    },
    /// The metadata archive cannot be unpacked or packed.
    #[error("{}: cannot {action} the metadata ({compression}): {source}", path.display())]
    Packing {
        /// The container.
        path: PathBuf,
        /// `pack` or `unpack`.
        action: &'static str,
        /// The compression.
        compression: Compression,
        /// What is wrong.
        source: io::Error,
    },
    /// The metadata archive holds something that Portage does not take.
    #[error("{}: the metadata entry {entry:?} {why}; the package is damaged or was tampered with, build it again", path.display())]
    Metadata {
        /// The container.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The new container cannot be made as asked.
    #[error("cannot make a new container {name:?} from {}: {why}", path.display())]
    New {
        /// The old container.
        path: PathBuf,
        /// The new one's prefix.
        name: String,
        /// Why not.
        why: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn every_error_is_told() {
        let path = || PathBuf::from("/pkgdir/a/b/b-1-1.gpkg.tar");
        let member = || "b-1-1/image.tar.zst".to_owned();
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let (compression, status) = (Compression::Zstd, ExitStatus::from_raw(256));
        let errors = [
            GpkgError::Read { path: path(), what: member(), source: gone() },
            GpkgError::Write { path: path(), what: member(), source: io::ErrorKind::StorageFull.into() },
            GpkgError::NotATar { path: path(), why: "it is empty" },
            GpkgError::OldFormat { path: path() },
            GpkgError::Header { path: path(), offset: 512, why: "is for a sparse file" },
            GpkgError::Truncated { path: path(), member: member(), end: 2048, length: 1024 },
            GpkgError::Structure { path: path(), member: member(), why: "is there twice" },
            GpkgError::Missing { path: path(), member: "Manifest", ending: String::new() },
            GpkgError::TooLarge { path: path(), what: member(), limit: "1 MiB".to_owned() },
            GpkgError::Manifest { path: path(), line: 2, why: "no DATA" },
            GpkgError::Mismatch { path: path(), member: member(), why: "has another SHA512 digest".to_owned() },
            GpkgError::NoCommand { path: path(), action: "unpack", compression },
            GpkgError::Start { path: path(), program: "zstd".to_owned(), source: gone() },
            GpkgError::Failed { path: path(), program: "zstd".to_owned(), status, words: ": no space".to_owned() },
            GpkgError::Packing { path: path(), action: "pack", compression, source: gone() },
            GpkgError::Metadata { path: path(), entry: "metadata/SLOT".to_owned(), why: "is there twice" },
            GpkgError::New { path: path(), name: "b-1-1".to_owned(), why: "it is too long" },
        ];
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!("gpkg-errors", told.join("\n"));
    }
}
