//! Containers of more than 8 GiB, with `BINPKG_RESIGN_FULL=1`: needs 10 GB in the folder for temporary files, and minutes.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use binpkg_resign::package::gpkg::{
    Codec, Compression, Container, DigestPair, Draft, Format, ImageSignature, Manifest, ManifestLine, NewContainer,
    file_digests,
};
use serde_json::json;

use crate::build::{ENTRIES, GNU, Part, line, members, metadata, record};
use crate::oracle::{Oracle, from_hex};
use crate::reading::assert_same_members;

const MEGABYTES: u64 = 8200;
const SIZE: u64 = MEGABYTES << 20;

/// A container with an image of zeros, most of it a hole.
fn container(file: &mut File, pax: bool, image: &ManifestLine, signature: &[u8]) {
    let magic = if pax { crate::build::USTAR } else { GNU };
    let with = |part: Part| Part { magic, ..part };
    let mut parts =
        vec![with(Part::new("foo-1/gpkg-1", "")), with(Part::new("foo-1/metadata.tar", metadata(&ENTRIES)))];
    parts.push(with(Part::new("foo-1/metadata.tar.sig", "metadata's")));
    let signature = with(Part::new("foo-1/image.tar.sig", signature));
    let mut text: String = parts.iter().chain([&signature]).map(line).collect();
    text += &Manifest::new(vec![image.clone()], Path::new("large")).render();
    if pax {
        parts.push(Part::of_kind(b'x', "x", record("size", &SIZE.to_string())));
        parts.push(Part::new("foo-1/image.tar", ""));
    } else {
        let mut size = [0; 12];
        size[0] = 0x80;
        size[4..].copy_from_slice(&SIZE.to_be_bytes());
        parts.push(with(Part::new("foo-1/image.tar", "").sized(&size)));
    }
    let head = members(&parts);
    file.write_all_at(&head, 0).unwrap();
    let tail = members(&[signature, with(Part::new("foo-1/Manifest", text))]);
    let end = head.len() as u64 + SIZE;
    file.write_all_at(&tail, end).unwrap();
    file.set_len((end + tail.len() as u64 + 1024).next_multiple_of(10240)).unwrap();
    file.flush().unwrap();
}

#[test]
fn more_than_eight_gibibytes() {
    if std::env::var("BINPKG_RESIGN_FULL").as_deref() != Ok("1") {
        eprintln!("skipped: set BINPKG_RESIGN_FULL=1 to try a container of more than 8 GiB");
        return;
    }
    let Some(mut portage) = Oracle::start() else { return };
    let digests = portage.ask(&json!({"do": "zeros", "megabytes": MEGABYTES}));
    let digest = |name: &str| digests[name].as_str().unwrap().to_owned();
    let signature = from_hex(
        portage.ask(&json!({"do": "sign", "mode": "detached", "megabytes": MEGABYTES}))["bytes"].as_str().unwrap(),
    );
    let pair = DigestPair { blake2b: digest("blake2b"), sha512: digest("sha512") };
    for pax in [true, false] {
        let mut file = tempfile::NamedTempFile::with_suffix(".gpkg.tar").unwrap();
        container(file.as_file_mut(), pax, &ManifestLine::new("image.tar", SIZE, pair.clone()), &signature);
        let old = Container::open(file.reopen().unwrap(), file.path()).unwrap();
        assert_eq!((old.image().0.size(), old.image().1), (SIZE, Compression::None));
        assert_same_members(&old, &portage.ask(&json!({"do": "members", "file": file.path()})), "foo-1", "large");
        let text = String::from_utf8(old.manifest_bytes().unwrap()).unwrap();
        let manifest = Manifest::parse(&text, file.path()).unwrap();
        manifest.check_complete(&old).unwrap();
        if !pax {
            continue;
        }
        // a PAX container of that size is written as GNU
        let metadata = old.read_metadata(&manifest, &Codec::default()).unwrap();
        let metadata = metadata.pack(0, Compression::None, &Codec::default(), Path::new("x")).unwrap();
        let metadata_signature = portage.sign("detached", &metadata);
        let new = NewContainer {
            prefix: "bar-1".to_owned(),
            metadata,
            compression: Compression::None,
            mtime: 0,
            metadata_signature,
        };
        let out = tempfile::NamedTempFile::with_suffix(".gpkg.tar").unwrap();
        let draft = Draft::begin(out.reopen().unwrap(), &old, &manifest, new).unwrap();
        let unsealed = draft.signed(ImageSignature::CarriedOver).unwrap();
        let manifest = portage.sign("clear", unsealed.manifest_text().as_bytes());
        let (file, digests) = unsealed.finish(&manifest).unwrap();
        assert_eq!(digests, file_digests(&file).unwrap());
        let new = Container::open(out.reopen().unwrap(), out.path()).unwrap();
        assert_eq!(new.format(), Format::Gnu);
        assert_same_members(
            &new,
            &portage.ask(&json!({"do": "members", "file": out.path()})),
            "bar-1",
            "large and new",
        );
        portage.ask(&json!({"do": "verify", "file": out.path(), "signed": true}));
    }
}
