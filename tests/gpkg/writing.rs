//! Containers that we write, as Portage reads them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use binpkg_resign::package::gpkg::{
    Codec, Compression, Container, Draft, FileDigests, Format, GpkgError, ImageSignature, Manifest, Metadata,
    NewContainer, file_digests,
};
use serde_json::{Value, json};

use crate::build::{Part, examine, honest, line, members, tar};
use crate::oracle::{Oracle, from_hex, hex};
use crate::reading::{Recipe, codec, compressions, entries, hexed};

const MTIME: u64 = 1_700_000_000;

/// A signed package, as the caller has it after verifying it.
struct Verified {
    container: Container,
    manifest: Manifest,
    metadata: Metadata,
}

fn open(portage: &mut Oracle, file: &Path) -> Verified {
    let container = Container::open(File::open(file).unwrap(), file).unwrap();
    let text = portage.signed_text(&container.manifest_bytes().unwrap());
    let manifest = Manifest::parse(&text, file).unwrap();
    manifest.check_complete(&container).unwrap();
    let metadata = container.read_metadata(&manifest, &codec()).unwrap();
    Verified { container, manifest, metadata }
}

/// With a signature that is still to come.
fn new_container(metadata: &Metadata, prefix: &str, compression: Compression) -> NewContainer {
    let metadata = metadata.pack(MTIME, compression, &codec(), Path::new("foo")).unwrap();
    NewContainer { prefix: prefix.to_owned(), metadata, compression, mtime: MTIME, metadata_signature: Vec::new() }
}

/// The metadata with an update applied.
fn updated(metadata: &Metadata) -> Metadata {
    let mut metadata = metadata.clone();
    metadata.set("RDEPEND", "dev-debug/strace ü\n".into());
    metadata.set("PF", b"bar-1\n".to_vec());
    metadata.rename("SLOT", "SLOT2");
    metadata.remove("empty");
    metadata
}

fn as_map(metadata: &Metadata) -> BTreeMap<String, Vec<u8>> {
    metadata.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
}

/// Writes a new container.
fn write(portage: &mut Oracle, old: &Verified, mut new: NewContainer) -> Vec<u8> {
    new.metadata_signature = portage.sign("detached", &new.metadata);
    let draft = Draft::begin(tempfile::tempfile().unwrap(), &old.container, &old.manifest, new).unwrap();
    let unsealed = draft.signed(ImageSignature::CarriedOver).unwrap();
    let manifest = portage.sign("clear", unsealed.manifest_text().as_bytes());
    bytes_of(unsealed.finish(&manifest).unwrap())
}

fn bytes_of((mut file, digests): (File, FileDigests)) -> Vec<u8> {
    assert_eq!(digests, file_digests(&file).unwrap());
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn read_signed(portage: &mut Oracle, bytes: &[u8], compression: Compression) -> Value {
    let settings = json!({"BINPKG_COMPRESS": compression.name()});
    portage.ask(&json!({"do": "read", "bytes": hex(bytes), "signed": true, "unpack": true, "settings": settings}))
}

fn metadata_in(answer: &Value) -> BTreeMap<String, Vec<u8>> {
    let entries = answer["metadata"].as_object().unwrap().iter();
    entries.map(|(name, value)| (name.clone(), from_hex(value.as_str().unwrap()))).collect()
}

/// The header facts of a member, by the end of its name.
fn facts<'a>(answer: &'a Value, end: &str) -> &'a [Value] {
    let members = answer["members"].as_array().unwrap().iter().map(|member| member.as_array().unwrap());
    let mut found = members.filter(|member| member[0].as_str().unwrap().ends_with(end));
    &found.next().unwrap()[3..]
}

#[test]
fn portage_accepts_what_we_write() {
    let folder = tempfile::tempdir().unwrap();
    for mut portage in Oracle::every() {
        for compression in compressions() {
            let recipe = Recipe { basename: "foo-1-3", compression, signed: true, image: 5000 };
            let file = recipe.make(&mut portage, folder.path());
            let old = open(&mut portage, &file);
            let settings = json!({"BINPKG_COMPRESS": compression.name()});
            let before =
                portage.ask(&json!({"do": "read", "file": file, "signed": true, "unpack": true, "settings": settings}));
            let metadata = updated(&old.metadata);
            let new = new_container(&metadata, "bar-1-3", compression);
            let bytes = write(&mut portage, &old, new);
            let answer = read_signed(&mut portage, &bytes, compression);
            assert_eq!(metadata_in(&answer), as_map(&metadata), "{compression}");
            assert_eq!((&answer["prefix"], &answer["format"]), (&json!("bar-1-3"), &json!("ustar")));
            assert_eq!((&answer["image"], &answer["files"]), (&before["image"], &before["files"]), "{compression}");
            let image = format!("/{}", compression.archive_name("image"));
            assert_eq!(facts(&answer, &image), facts(&before, &image));
            // byte for byte what Python's tarfile makes of these members
            assert_eq!(portage.bytes(&json!({"do": "retar", "bytes": hex(&bytes)})), bytes, "{compression}");
        }
    }
}

#[test]
fn like_portage_updating_the_same_package_unsigned() {
    let Some(mut portage) = Oracle::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe { basename: "foo-1-3", compression: Compression::Zstd, signed: true, image: 5000 };
    let file = recipe.make(&mut portage, folder.path());
    let old = open(&mut portage, &file);
    let metadata = updated(&old.metadata);
    let new = new_container(&metadata, "bar-1-3", Compression::Zstd);
    let bytes = write(&mut portage, &old, new);
    let ours = read_signed(&mut portage, &bytes, Compression::Zstd);

    let unsigned = tempfile::tempdir().unwrap();
    let file = Recipe { signed: false, ..recipe }.make(&mut portage, unsigned.path());
    let request = json!({"do": "rewrite", "file": file, "basename": "bar-1-3", "metadata": hexed(&as_map(&metadata))});
    portage.ask(&request);
    let theirs = portage.ask(&json!({"do": "read", "file": file, "unpack": true}));
    for what in ["metadata", "prefix", "format", "files"] {
        assert_eq!(ours[what], theirs[what], "{what}");
    }
    for member in ["/gpkg-1", "/metadata.tar.zst", "/image.tar.zst", "/Manifest"] {
        // but for the time
        let without_time = |facts: &[Value]| [&facts[..3], &facts[4..]].concat();
        assert_eq!(without_time(facts(&ours, member)), without_time(facts(&theirs, member)), "{member}");
    }
    // the metadata archive itself, as Python's tarfile makes it of its entries
    let tar = metadata.to_tar(MTIME);
    assert_eq!(portage.bytes(&json!({"do": "retar", "bytes": hex(&tar)})), tar);
}

#[test]
fn in_chunks_and_threads() {
    let Some(mut portage) = Oracle::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe { basename: "foo-1-3", compression: Compression::Gzip, signed: true, image: 5_300_000 };
    let file = recipe.make(&mut portage, folder.path());
    let old = open(&mut portage, &file);
    assert!(old.container.image().0.size() > 5 << 20);
    let bytes = write(&mut portage, &old, new_container(&updated(&old.metadata), "foo-1-3", Compression::Gzip));
    read_signed(&mut portage, &bytes, Compression::Gzip);
}

#[test]
fn long_names_and_other_dialects() {
    let Some(mut portage) = Oracle::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe { basename: "foo-1-3", compression: Compression::Zstd, signed: true, image: 100 };
    let file = recipe.make(&mut portage, folder.path());
    let prefixes = [7, 90, 100, 120, 153, 154, 200, 240].map(|length| "n".repeat(length - 2) + "-1");
    for dialect in ["ustar", "gnu", "pax"] {
        let plain = Container::open(File::open(&file).unwrap(), &file).unwrap();
        let facts =
            json!({"mtime": if dialect == "pax" { 1_600_000_000.5 } else { 1_600_000_000.0 }, "uname": "me", "gid": 3});
        let members: Vec<Value> = (plain.members().iter())
            .map(|member| {
                json!([format!("foo-1-3/{}", member.name()), hex(&plain.read_member(member, u64::MAX).unwrap()), facts])
            })
            .collect();
        let other = folder.path().join("other.gpkg.tar");
        std::fs::write(&other, portage.bytes(&json!({"do": "tar", "format": dialect, "members": members}))).unwrap();
        let old = open(&mut portage, &other);
        for prefix in &prefixes {
            let new = new_container(&old.metadata, prefix, Compression::Zstd);
            let bytes = write(&mut portage, &old, new);
            let answer = read_signed(&mut portage, &bytes, Compression::Zstd);
            let gnu = dialect == "gnu" || prefix.len() >= 154;
            assert_eq!(answer["format"], if gnu { "gnu" } else { "ustar" }, "{dialect} {prefix}");
            assert_eq!(answer["prefix"], prefix.as_str());
            assert_eq!(
                self::facts(&answer, "/image.tar.zst"),
                json!([0o644, 0, 3, 1_600_000_000, hex(b"me"), ""]).as_array().unwrap()
            );
            assert_eq!(portage.bytes(&json!({"do": "retar", "bytes": hex(&bytes)})), bytes, "{dialect} {prefix}");
        }
    }
}

#[test]
fn a_new_key_signs_the_image_anew() {
    let Some(mut portage) = Oracle::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe { basename: "foo-1-3", compression: Compression::Xz, signed: true, image: 9000 };
    let file = recipe.make(&mut portage, folder.path());
    let old = open(&mut portage, &file);
    // from xz to zstd, too
    let new = new_container(&old.metadata, "foo-1-3", Compression::Zstd);
    let metadata_signature = portage.sign("detached", &new.metadata);
    let new = NewContainer { metadata_signature, ..new };
    let draft = Draft::begin(tempfile::tempfile().unwrap(), &old.container, &old.manifest, new).unwrap();
    let mut image = Vec::new();
    draft.image().read_to_end(&mut image).unwrap();
    assert_eq!(image, old.container.read_member(old.container.image().0, u64::MAX).unwrap());
    let image = portage.sign("detached", &image);
    let unsealed = draft.signed(ImageSignature::New(image.clone())).unwrap();
    let manifest = portage.sign("clear", unsealed.manifest_text().as_bytes());
    let bytes = bytes_of(unsealed.finish(&manifest).unwrap());
    let answer = read_signed(&mut portage, &bytes, Compression::Zstd);
    assert_eq!(metadata_in(&answer), entries());
    assert!(bytes.windows(image.len()).any(|window| window == image));
}

/// Members as a signed package has them, with nonsense for signatures, and one more; `change` comes after the Manifest.
fn forged(change: impl FnOnce(&mut Vec<Part>)) -> (Container, Manifest) {
    let mut parts = honest();
    parts[0].data = b"what gpkg-1 may say".to_vec();
    parts.push(Part::new("foo-1/metadata.tar.sig", "metadata's"));
    parts.push(Part::new("foo-1/image.tar.sig", "image's"));
    parts.push(Part::new("foo-1/extra", vec![b'e'; 1300]));
    parts.push(Part::new("foo-1/extra.sig", "extra's"));
    let text: String = parts.iter().map(line).collect::<String>().replace("DATA extra ", "DATA  extra\t");
    parts.push(Part::new("foo-1/Manifest", text.clone()));
    change(&mut parts);
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &tar(&parts)).unwrap();
    let container = Container::open(file, Path::new("foo-1.gpkg.tar")).unwrap();
    let manifest = Manifest::parse(&text, Path::new("foo-1.gpkg.tar")).unwrap();
    manifest.check_complete(&container).unwrap();
    (container, manifest)
}

fn forged_metadata() -> NewContainer {
    let metadata = Metadata::read(
        &crate::build::metadata(&[("PF", b"bar-1")]),
        Compression::None,
        &Codec::default(),
        Path::new("x"),
    );
    new_container(&metadata.unwrap(), "bar-1", Compression::None)
}

fn begin<'c>((container, manifest): &'c (Container, Manifest), out: File) -> Result<Draft<'c>, GpkgError> {
    Draft::begin(out, container, manifest, forged_metadata())
}

#[test]
fn everything_else_is_carried_over() {
    let old = forged(|_| {});
    let draft = begin(&old, tempfile::tempfile().unwrap()).unwrap();
    let unsealed = draft.signed(ImageSignature::CarriedOver).unwrap();
    let text = unsealed.manifest_text();
    let bytes = bytes_of(unsealed.finish(text.as_bytes()).unwrap());
    let seen = examine(&bytes).unwrap();
    assert_eq!(seen.metadata, [("PF".to_owned(), b"bar-1".to_vec())].into());
    let names: Vec<_> = text.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(
        names,
        ["gpkg-1", "metadata.tar", "metadata.tar.sig", "image.tar", "image.tar.sig", "extra", "extra.sig"]
    );
    for line in old.1.render().lines().filter(|line| !line.contains(" metadata")) {
        assert!(text.contains(&format!("{line}\n")), "{line}");
    }
    assert!(text.contains("DATA  extra\t1300"));
    assert!(bytes.windows(19).any(|window| window == b"what gpkg-1 may say"));
    // a new key cannot vouch for the rest
    let draft = begin(&old, tempfile::tempfile().unwrap()).unwrap();
    let refused = draft.signed(ImageSignature::New(b"new".to_vec())).unwrap_err();
    assert!(refused.to_string().contains("only the old key"), "{refused}");
}

#[test]
fn the_end_is_where_tarfile_puts_it() {
    let old = forged(|_| {});
    for length in (0..11_000).step_by(97) {
        let mut new = forged_metadata();
        new.metadata_signature = vec![b's'; length % 1500];
        let draft = Draft::begin(tempfile::tempfile().unwrap(), &old.0, &old.1, new).unwrap();
        let unsealed = draft.signed(ImageSignature::CarriedOver).unwrap();
        // longer than a Manifest is, to come over every kind of end
        let manifest = [unsealed.manifest_text().into_bytes(), vec![b'\n'; length]].concat();
        let bytes = bytes_of(unsealed.finish(&manifest).unwrap());
        examine(&bytes).unwrap();
        let content = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
        assert_eq!(bytes.len(), (content.next_multiple_of(512) + 1024).next_multiple_of(10240), "{length}");
    }
}

#[test]
fn completeness_is_checked_before_any_digest() {
    let (container, manifest) = forged(|_| {});
    let other = |change: &dyn Fn(&str) -> String| {
        Manifest::parse(&change(&manifest.render()), Path::new("x")).unwrap().check_complete(&container)
    };
    assert!(other(&str::to_owned).is_ok());
    for (from, to, words) in [
        ("image.tar 10240", "image.tar 10241", "10240 bytes, its Manifest says 10241"),
        ("DATA image.tar ", "DATA image.tar2 ", "not in its Manifest"),
        ("extra.sig", "extra.sig2", "not in its Manifest"),
    ] {
        assert!(manifest.render().contains(from), "{from}");
        let refused = other(&|text| text.replace(from, to)).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn a_tampered_container_never_comes_to_a_new_manifest() {
    let new = || ImageSignature::New(b"new".to_vec());
    for (index, name) in [(0, "gpkg-1"), (2, "image.tar"), (4, "image.tar.sig"), (5, "extra"), (6, "extra.sig")] {
        for image in [ImageSignature::CarriedOver, new()] {
            let old = forged(|parts| *parts[index].data.last_mut().unwrap() ^= 1);
            let drafted = begin(&old, tempfile::tempfile().unwrap());
            let refused = drafted.and_then(|draft| draft.signed(image.clone())).unwrap_err();
            match refused {
                GpkgError::Mismatch { member, .. } => assert_eq!(member, name),
                // the new key does not get to the rest
                other => assert!(image == new() && index > 2, "{other}"),
            }
        }
    }
}

#[test]
fn changed_between_the_steps() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let bytes = {
        let mut parts = honest();
        parts.push(Part::new("foo-1/metadata.tar.sig", "metadata's"));
        parts.push(Part::new("foo-1/image.tar.sig", "image's"));
        let text: String = parts.iter().map(line).collect();
        parts.push(Part::new("foo-1/Manifest", text));
        members(&parts)
    };
    for name in ["image.tar", "image.tar.sig"] {
        std::fs::write(file.path(), &bytes).unwrap();
        let container = Container::open(file.reopen().unwrap(), Path::new("foo-1.gpkg.tar")).unwrap();
        let text = String::from_utf8(container.manifest_bytes().unwrap()).unwrap();
        let old = (container, Manifest::parse(&text, Path::new("foo-1.gpkg.tar")).unwrap());
        let writable = File::options().write(true).open(file.path()).unwrap();
        let tamper = || std::os::unix::fs::FileExt::write_all_at(&writable, b"t", old.0.member(name).unwrap().offset());
        let refused = if name == "image.tar.sig" {
            let draft = begin(&old, tempfile::tempfile().unwrap()).unwrap();
            tamper().unwrap();
            draft.signed(ImageSignature::CarriedOver).unwrap_err()
        } else {
            tamper().unwrap();
            begin(&old, tempfile::tempfile().unwrap()).unwrap_err()
        };
        assert!(matches!(&refused, GpkgError::Mismatch { member, .. } if member == name), "{refused}");
    }
}

#[test]
fn a_file_that_cannot_be_written() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let refused = begin(&forged(|_| {}), File::open(file.path()).unwrap()).unwrap_err();
    assert!(matches!(&refused, GpkgError::Write { what, .. } if what == "gpkg-1"), "{refused}");
    for prefix in ["", ".", "..", "a/b", "a\0"] {
        let old = forged(|_| {});
        let metadata = Metadata::default();
        let new = new_container(&metadata, prefix, Compression::None);
        let refused = Draft::begin(tempfile::tempfile().unwrap(), &old.0, &old.1, new).unwrap_err();
        assert!(matches!(refused, GpkgError::New { .. }), "{refused}");
    }
    assert_eq!(forged(|_| {}).0.format(), Format::Ustar);
}
