//! How metadata and image archives are packed, by the suffix of their names.

/// A way to pack an archive, as Portage knows them (`gpkg.ext_list`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// Not packed.
    None,
    /// zstd, the default.
    Zstd,
    /// gzip.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// lz4.
    Lz4,
    /// lzip.
    Lzip,
    /// lzop.
    Lzop,
}

impl Compression {
    /// Every way that packs.
    pub const PACKING: [Compression; 7] = [
        Compression::Gzip,
        Compression::Bzip2,
        Compression::Lz4,
        Compression::Lzip,
        Compression::Lzop,
        Compression::Xz,
        Compression::Zstd,
    ];

    /// What comes after `.tar` in the name of an archive packed so.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Zstd => ".zst",
            Compression::Gzip => ".gz",
            Compression::Bzip2 => ".bz2",
            Compression::Xz => ".xz",
            Compression::Lz4 => ".lz4",
            Compression::Lzip => ".lz",
            Compression::Lzop => ".lzo",
        }
    }

    /// The name in `BINPKG_COMPRESS`, and of the program.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Zstd => "zstd",
            Compression::Gzip => "gzip",
            Compression::Bzip2 => "bzip2",
            Compression::Xz => "xz",
            Compression::Lz4 => "lz4",
            Compression::Lzip => "lzip",
            Compression::Lzop => "lzop",
        }
    }

    /// What `BINPKG_COMPRESS` asks for: a name, or nothing or `none` for no packing. `None` for an unknown name.
    #[must_use]
    pub fn from_setting(name: &str) -> Option<Compression> {
        if name.is_empty() || name == "none" {
            return Some(Compression::None);
        }
        Compression::PACKING.into_iter().find(|compression| compression.name() == name)
    }

    /// How the archive `stem` is packed if `name` is a name for it: `metadata.tar.xz` for the stem `metadata`.
    #[must_use]
    pub fn of_archive(name: &str, stem: &str) -> Option<Compression> {
        let suffix = name.strip_prefix(stem)?.strip_prefix(".tar")?;
        if suffix.is_empty() {
            return Some(Compression::None);
        }
        Compression::PACKING.into_iter().find(|compression| compression.suffix() == suffix)
    }

    /// The name of the archive `stem` packed so.
    #[must_use]
    pub fn archive_name(self, stem: &str) -> String {
        format!("{stem}.tar{}", self.suffix())
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}
