//! Packages made by Portage, as we read them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use binpkg_resign::package::gpkg::{Codec, Compression, Container, Format, Manifest};
use serde_json::{Value, json};

use crate::build::examine_file;
use crate::oracle::{Oracle, hex};

/// Metadata with everything that a package may have: no UTF-8, nothing, much, long names.
pub(crate) fn entries() -> BTreeMap<String, Vec<u8>> {
    let long = format!("{}-1.ebuild", "n".repeat(80));
    [
        ("CATEGORY", b"app-misc\n".to_vec()),
        ("DESCRIPTION", b"caf\xe9 \xff\xfe\x00\n".to_vec()),
        ("PF", b"foo-1\n".to_vec()),
        ("RDEPEND", "dev-util/strace ü\n".into()),
        ("SLOT", b"0\n".to_vec()),
        ("empty", Vec::new()),
        ("environment.bz2", noise(150_000, 5)),
        ("ünicode", b"x".to_vec()),
        (&long, b"EAPI=8\n".to_vec()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// Bytes that cannot be packed.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A map of bytes as Portage takes it.
pub(crate) fn hexed(entries: &BTreeMap<String, Vec<u8>>) -> Value {
    entries
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(hex(value))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// A package to be made by Portage.
pub(crate) struct Recipe<'r> {
    pub basename: &'r str,
    pub compression: Compression,
    pub signed: bool,
    pub image: usize,
}

impl Recipe<'_> {
    /// Has Portage make it in `folder`.
    pub(crate) fn make(&self, portage: &mut Oracle, folder: &Path) -> PathBuf {
        let file = folder.join(format!("{}.gpkg.tar", self.basename));
        portage.ask(&json!({
            "do": "make", "basename": self.basename, "file": file, "signed": self.signed,
            "settings": {"BINPKG_COMPRESS": self.compression.name()},
            "image": {"usr/file": hex(&noise(self.image, 7))}, "metadata": hexed(&entries()),
        }));
        file
    }
}

/// Portage's commands with Portage's defaults.
pub(crate) fn codec() -> Codec {
    codec_with(&[])
}

/// Portage's commands with these settings.
pub(crate) fn codec_with(settings: &[(&str, &str)]) -> Codec {
    let all: BTreeMap<&str, &str> = [("PORTAGE_BZIP2_COMMAND", "bzip2")].iter().chain(settings).copied().collect();
    let words = |command: &str| {
        let expanded =
            all.iter().fold(command.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value));
        Some(expanded.split_whitespace().filter(|word| !word.starts_with('$')).map(str::to_owned).collect())
    };
    Codec::from_portage(|name| all.get(name).map(|value| (*value).to_owned()), words)
}

/// Every way to pack that this machine has.
pub(crate) fn compressions() -> Vec<Compression> {
    let codec = codec();
    let mut found = vec![Compression::None];
    for compression in Compression::PACKING {
        let program = codec.commands(compression).0.first().unwrap().clone();
        let paths = std::env::var_os("PATH").unwrap();
        if std::env::split_paths(&paths).any(|folder| folder.join(&program).exists()) {
            found.push(compression);
        } else {
            eprintln!("skipped: {compression}, there is no {program}");
        }
    }
    found
}

/// Compares the members that we and Portage see.
pub(crate) fn assert_same_members(container: &Container, answer: &Value, prefix: &str, what: &str) {
    let ours: Vec<Value> = (container.members().iter())
        .map(|member| {
            let attributes = member.attributes();
            json!([
                format!("{prefix}/{}", member.name()),
                member.size(),
                member.offset(),
                attributes.mode,
                attributes.uid,
                attributes.gid,
                attributes.mtime,
                hex(&attributes.uname),
                hex(&attributes.gname)
            ])
        })
        .collect();
    assert_eq!(Value::from(ours), answer["members"], "{what}");
}

#[test]
fn packages_made_by_portage() {
    let folder = tempfile::tempdir().unwrap();
    for mut portage in Oracle::every() {
        for compression in compressions() {
            for signed in [true, false] {
                let recipe = Recipe { basename: "foo-1-3", compression, signed, image: 3000 };
                let file = recipe.make(&mut portage, folder.path());
                let container = Container::open(File::open(&file).unwrap(), &file).unwrap();
                assert_eq!(container.format(), Format::Ustar);
                assert_eq!((container.metadata().1, container.image().1), (compression, compression));
                assert_eq!(container.has_signatures().unwrap(), signed);
                assert_eq!(container.signature_of(container.image().0).is_some(), signed);
                let settings = json!({"BINPKG_COMPRESS": compression.name()});
                let answer = portage.ask(&json!({"do": "read", "file": file, "signed": signed, "settings": settings}));
                assert_same_members(&container, &answer, "foo-1-3", compression.name());
                if signed {
                    let text = portage.signed_text(&container.manifest_bytes().unwrap());
                    let manifest = Manifest::parse(&text, &file).unwrap();
                    manifest.check_complete(&container).unwrap();
                    let metadata = container.read_metadata(&manifest, &codec()).unwrap();
                    let metadata: BTreeMap<_, _> =
                        metadata.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
                    assert_eq!(metadata, entries(), "{compression}");
                } else {
                    let seen = examine_file(File::open(&file).unwrap(), &codec()).unwrap();
                    assert_eq!(seen.metadata, entries(), "{compression}");
                }
            }
        }
    }
}

#[test]
fn long_names_and_other_dialects() {
    let Some(mut portage) = Oracle::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    for length in [60, 99, 120, 153, 154, 155] {
        let basename = format!("{}-1", "n".repeat(length - 2));
        let recipe = Recipe { basename: &basename, compression: Compression::Zstd, signed: false, image: 100 };
        let file = recipe.make(&mut portage, folder.path());
        let container = Container::open(File::open(&file).unwrap(), &file).unwrap();
        assert_eq!(container.format(), if length < 154 { Format::Ustar } else { Format::Gnu }, "{length}");
        let answer = portage.ask(&json!({"do": "read", "file": file}));
        assert_same_members(&container, &answer, &basename, "ustar or gnu");

        for (name, format) in [("gnu", Format::Gnu), ("pax", Format::Pax)] {
            let attributes = match format {
                Format::Pax => json!({"mtime": 1_700_000_000.5, "uname": "pörtage", "uid": 30_000_000, "gid": 250}),
                _ => json!({"mtime": 1_700_000_000, "uname": "portage", "uid": 30_000_000, "mode": 0o600}),
            };
            let members: Vec<Value> = (container.members().iter())
                .map(|member| {
                    let bytes = container.read_member(member, u64::MAX).unwrap();
                    json!([format!("{basename}/{}", member.name()), hex(&bytes), attributes])
                })
                .collect();
            let bytes = portage.bytes(&json!({"do": "tar", "format": name, "members": members}));
            let other = folder.path().join("other.gpkg.tar");
            std::fs::write(&other, bytes).unwrap();
            let container = Container::open(File::open(&other).unwrap(), &other).unwrap();
            assert_eq!(container.format(), format);
            let answer = portage.ask(&json!({"do": "read", "file": other}));
            assert_eq!(answer["format"], name);
            assert_same_members(&container, &answer, &basename, name);
            examine_file(File::open(&other).unwrap(), &codec()).unwrap();
        }
    }
}

#[test]
fn commands_are_those_of_portage() {
    let Some(mut portage) = Oracle::start() else { return };
    let settings: [&[(&str, &str)]; 5] = [
        &[("MAKEOPTS", "-j7")],
        &[("MAKEOPTS", "-l3 --jobs= 5 -k"), ("BINPKG_COMPRESS_FLAGS", "-9")],
        &[
            ("MAKEOPTS", "-j3 -j 12"),
            ("BINPKG_COMPRESS_FLAGS", "-9"),
            ("BINPKG_COMPRESS_FLAGS_ZSTD", "--ultra -22 --long=31"),
        ],
        &[("MAKEOPTS", "-j2"), ("PORTAGE_BUNZIP2_COMMAND", "pbunzip2 -q"), ("BINPKG_COMPRESS_FLAGS_XZ", "-e")],
        &[("MAKEOPTS", "-j2"), ("PORTAGE_BZIP2_COMMAND", ""), ("BINPKG_COMPRESS_FLAGS_GZIP", "")],
    ];
    for settings in settings {
        let codec = codec_with(settings);
        let map: serde_json::Map<String, Value> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
        let answer = portage.ask(&json!({"do": "commands", "settings": map}));
        for compression in Compression::PACKING {
            let (pack, unpack) = codec.commands(compression);
            assert_eq!(json!([pack, unpack]), answer[compression.name()], "{compression} with {settings:?}");
        }
    }
}

#[test]
fn a_signature_before_its_member() {
    // any order will do for Portage, but that a signature comes after what it signs
    let Some(mut portage) = Oracle::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe { basename: "foo-1", compression: Compression::Zstd, signed: true, image: 100 };
    let file = recipe.make(&mut portage, folder.path());
    let container = Container::open(File::open(&file).unwrap(), &file).unwrap();
    let order = |portage: &mut Oracle, order: [usize; 6]| {
        let members = order.map(|index| {
            let member = &container.members()[index];
            json!([format!("foo-1/{}", member.name()), hex(&container.read_member(member, u64::MAX).unwrap()), {}])
        });
        let other = folder.path().join("other.gpkg.tar");
        std::fs::write(&other, portage.bytes(&json!({"do": "tar", "format": "ustar", "members": members}))).unwrap();
        let text = portage.signed_text(&container.manifest_bytes().unwrap());
        let container = Container::open(File::open(&other).unwrap(), &other).unwrap();
        let ours = Manifest::parse(&text, &other).unwrap().check_complete(&container);
        (ours, portage.try_ask(&json!({"do": "verify", "file": other, "signed": true})))
    };
    let (ours, theirs) = order(&mut portage, [5, 3, 1, 4, 2, 0]);
    assert!(ours.is_ok() && theirs.is_ok(), "{ours:?} {theirs:?}");
    let (ours, theirs) = order(&mut portage, [0, 2, 1, 3, 4, 5]);
    assert!(ours.unwrap_err().to_string().contains("comes after its signature"));
    assert!(theirs.unwrap_err().starts_with("MissingSignature"));
}
