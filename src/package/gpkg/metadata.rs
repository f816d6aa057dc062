//! The metadata archive: `metadata/KEY` files in a packed tar.

use std::path::Path;

use super::archive::{Attributes, Format, ReadAt, TarEntry, TarFault, TarWalk};
use super::header::{self, header};
use super::{Codec, Compression, GpkgError, METADATA_ENTRY_LIMIT, METADATA_LIMIT};

/// A package's metadata: names and values, in the archive's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    entries: Vec<(String, Vec<u8>)>,
}

impl Metadata {
    /// Unpacks and reads a metadata archive, as `gpkg.unpack_metadata` does. `path` is the container, for messages.
    ///
    /// Portage takes the last of two entries with one name where it only reads, and refuses the package where it
    /// installs it; here it is refused.
    ///
    /// # Errors
    /// The archive cannot be unpacked, takes more than [`METADATA_LIMIT`] bytes or [`METADATA_ENTRY_LIMIT`] entries, is
    /// no tar, or has an entry that is no regular file below `metadata/`, or is there twice.
    pub fn read(packed: &[u8], compression: Compression, codec: &Codec, path: &Path) -> Result<Metadata, GpkgError> {
        let archive = codec.unpack(packed, compression, METADATA_LIMIT, path)?;
        let mut metadata = Metadata::default();
        let mut walk = TarWalk::new(archive.as_slice(), u64::try_from(archive.len()).unwrap_or(u64::MAX));
        while let Some(entry) = walk.next().map_err(|fault| describe(fault, path))? {
            metadata.add(entry, &archive, path)?;
        }
        if metadata.entries.is_empty() {
            let why = "is missing: the metadata archive is empty or no tar";
            return Err(GpkgError::Metadata { path: path.to_owned(), entry: "metadata/…".to_owned(), why });
        }
        Ok(metadata)
    }

    fn add(&mut self, entry: TarEntry, archive: &[u8], path: &Path) -> Result<(), GpkgError> {
        let bad = |why| GpkgError::Metadata { path: path.to_owned(), entry: entry.name.clone(), why };
        if !entry.regular {
            return Err(bad("is no regular file"));
        }
        let name = entry.name.strip_prefix("metadata/").ok_or(bad("is not below metadata/"))?;
        if name.contains('\0') || name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(bad("has no proper name"));
        }
        if self.get(name).is_some() {
            return Err(bad("is there twice"));
        }
        if self.entries.len() >= METADATA_ENTRY_LIMIT {
            return Err(bad("is one too many"));
        }
        let mut value = vec![0; usize::try_from(entry.size).unwrap_or_default()];
        archive.read_fully(&mut value, entry.offset).map_err(|_| bad("is cut short"))?;
        self.entries.push((name.to_owned(), value));
        Ok(())
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.entries.iter().find(|(entry, _)| entry == name).map(|(_, value)| value.as_slice())
    }

    /// Every name and value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// Gives `name` a value, in its place, or at the end if it is new.
    pub fn set(&mut self, name: &str, value: Vec<u8>) {
        match self.entries.iter_mut().find(|(entry, _)| entry == name) {
            Some((_, old)) => *old = value,
            None => self.entries.push((name.to_owned(), value)),
        }
    }

    /// Gives the entry `old` the name `new`, in its place; an entry that had that name goes. Without `old` nothing
    /// happens.
    pub fn rename(&mut self, old: &str, new: &str) {
        if old == new || self.get(old).is_none() {
            return;
        }
        self.remove(new);
        if let Some((name, _)) = self.entries.iter_mut().find(|(entry, _)| entry == old) {
            new.clone_into(name);
        }
    }

    /// Takes `name` out and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<Vec<u8>> {
        let at = self.entries.iter().position(|(entry, _)| entry == name)?;
        Some(self.entries.remove(at).1)
    }

    /// The archive, not packed, as `gpkg._add_metadata` makes it: ustar, every entry with mode 0644 and the time
    /// `mtime` in seconds. A name that ustar cannot hold (Portage makes no such package) gets a GNU long name.
    #[must_use]
    pub fn to_tar(&self, mtime: u64) -> Vec<u8> {
        let attributes = Attributes::new(mtime);
        let mut tar = Vec::new();
        for (name, value) in &self.entries {
            let name = format!("metadata/{name}");
            let format = if header::fits_ustar(&name) { Format::Ustar } else { Format::Gnu };
            let size = u64::try_from(value.len()).unwrap_or(u64::MAX);
            tar.extend_from_slice(&header(format, &name, size, &attributes));
            tar.extend_from_slice(value);
            header::pad(&mut tar);
        }
        let length = header::archive_length(u64::try_from(tar.len()).unwrap_or_default());
        tar.resize(usize::try_from(length).unwrap_or(tar.len()), 0);
        tar
    }

    /// The packed archive: [`Metadata::to_tar`], then `codec`. `path` is the container, for messages.
    ///
    /// # Errors
    /// The program that packs it fails or is not there.
    pub fn pack(&self, mtime: u64, compression: Compression, codec: &Codec, path: &Path) -> Result<Vec<u8>, GpkgError> {
        codec.pack(&self.to_tar(mtime), compression, path)
    }
}

fn describe(fault: TarFault, path: &Path) -> GpkgError {
    let (entry, why) = match fault {
        TarFault::Header { offset, why } => (format!("with its header at byte {offset}"), why),
        TarFault::Truncated { name, .. } => (name, "is cut short"),
        TarFault::Io(_) => ("metadata/…".to_owned(), "is cut short"),
    };
    GpkgError::Metadata { path: path.to_owned(), entry, why }
}
