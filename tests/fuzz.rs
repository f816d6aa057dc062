//! Mutated bytes through the parsers: no panic, no endless loop, and what is read comes out again.
//!
//! Containers have a fuzzer of their own in `tests/gpkg`, atoms in `tests/atoms.rs`, make.conf files in
//! `tests/settings.rs`; `tests/cases` says how to have more cases or others.

mod cases;
#[path = "cases/mutated.rs"]
mod mutated;

use std::cell::Cell;
use std::path::Path;

use binpkg_resign::package::gpkg::{Codec, Compression, Manifest, Metadata};
use binpkg_resign::plan::{Layout, Situation, plan};
use binpkg_resign::portage::atom::{Atom, Cpv, Eapi, vercmp};
use binpkg_resign::portage::index::{Entry, PackageIndex};
use binpkg_resign::portage::updates::{Mtimedb, RepoSource, Selection, UpdateSet};
use mutated::{Bytes, edits};
use proptest::prelude::*;
use proptest::sample::select;

const CASES: u32 = 20_000;

/// The bytes with a few changes.
fn mutated(seed: &[u8]) -> impl Strategy<Value = Bytes> + use<> {
    let seed = seed.to_vec();
    edits().prop_map(move |edits| edits.of(&seed))
}

const INDEX: &[u8] =
    b"ARCH: amd64\nPACKAGES: 2\nTIMESTAMP: 1\nVERSION: 0\n\nBDEPEND: a/old\nBUILD_ID: 1\nBUILD_TIME: 5\n\
    CPV: a/old-1.0-r1\nEAPI: 8\nPATH: a/old/old-1.0-r1-1.gpkg.tar\nRDEPEND: !!a/old >=b/c-1:0/2=[d?]\nSLOT: 0/2\n\
    MTIME: 3\nREPO: gentoo\n\nCPV: b/c-2\nEAPI: 8\nPATH: b/c/c-2-1.gpkg.tar\nSIZE: 4\n\n";

const UPDATES: &[u8] = b"move a/old a/new\nslotmove a/new 0 2\nslotmove >=b/c-1 0 1\nmove b/c b/d\nmove b/d b/c\n";

#[test]
fn indexes() {
    let read = Cell::new(0);
    cases::check(CASES, mutated(INDEX), |Bytes(bytes)| {
        let Ok(index) = PackageIndex::parse(bytes, Path::new("Packages")) else { return Ok(()) };
        read.set(read.get() + 1);
        let out = index.render(1);
        let again = PackageIndex::parse(out.clone(), Path::new("Packages")).unwrap();
        prop_assert_eq!(Bytes(out), Bytes(again.render(1)), "what was written is not read and written alike");
        Ok(())
    });
    let all = cases::times(CASES);
    assert!(read.get() > all / 10, "{} of {all} could be read", read.get());
}

#[test]
fn plans() {
    let folder = tempfile::tempdir().unwrap();
    let updates_dir = folder.path().join("profiles/updates");
    std::fs::create_dir_all(&updates_dir).unwrap();
    let concerned = Cell::new(0);
    let layouts = select(vec![Layout::MultiInstance, Layout::Flat]);
    cases::check(CASES / 5, (mutated(INDEX), mutated(UPDATES), layouts), |(Bytes(index), Bytes(updates), layout)| {
        let Ok(index) = PackageIndex::parse(index, Path::new("Packages")) else { return Ok(()) };
        std::fs::write(updates_dir.join("1Q-2024"), updates).unwrap();
        let source = RepoSource { name: "gentoo".into(), updates_dir: updates_dir.clone() };
        let updates = UpdateSet::read(&[source], &Mtimedb::default(), Selection::All);
        let situation = Situation {
            index: &index,
            updates: &updates,
            main_repository: Some("gentoo"),
            layout,
            is_taken: &|_| false,
        };
        for work in plan(&situation).works {
            let base = index.entry(work.number).unwrap();
            for edit in work.in_place.iter().chain(&work.copies) {
                let text = edit.entry(&base).to_text();
                prop_assert_eq!(Entry::from_text(&text).to_text(), text);
                concerned.set(concerned.get() + 1);
            }
        }
        Ok(())
    });
    assert!(concerned.get() > cases::times(CASES) / 20, "only {} packages were concerned", concerned.get());
}

#[test]
fn manifests() {
    let manifest = format!("DATA image.tar.zst 5 BLAKE2B {} SHA512 {}\n", "ab".repeat(64), "cd".repeat(64));
    let path = Path::new("a.gpkg.tar");
    cases::check(CASES, mutated(manifest.as_bytes()), |Bytes(text)| {
        if let Ok(manifest) = Manifest::parse(&String::from_utf8_lossy(&text), path) {
            prop_assert_eq!(Manifest::parse(&manifest.render(), path).unwrap(), manifest);
        }
        Ok(())
    });
}

#[test]
fn metadata_archives() {
    let codec = Codec::default();
    let mut metadata = Metadata::default();
    metadata.set("PF", b"a-1\n".to_vec());
    metadata.set("environment.bz2", vec![0xff; 700]);
    let path = Path::new("a.gpkg.tar");
    for compression in [Compression::None, Compression::Zstd] {
        let packed = metadata.pack(1, compression, &codec, path).unwrap();
        assert_eq!(Metadata::read(&packed, compression, &codec, path).unwrap(), metadata);
        cases::check(CASES, mutated(&packed), |Bytes(bytes)| {
            if let Ok(metadata) = Metadata::read(&bytes, compression, &codec, path) {
                let again = metadata.pack(1, compression, &codec, path).unwrap();
                prop_assert_eq!(Metadata::read(&again, compression, &codec, path).unwrap(), metadata);
            }
            Ok(())
        });
    }
}

#[test]
fn names_and_atoms() {
    let seeds: [&[u8]; 4] = [b">=dev-libs/a-1.2.3_rc4-r5:0/3=[b(+)?,-c]::gentoo", b"!!x/y", b"=a/b-1*", b"a/b-1.0-r0"];
    let texts = prop_oneof![mutated(seeds[0]), mutated(seeds[1]), mutated(seeds[2]), mutated(seeds[3])];
    cases::check(CASES * 5, texts, |Bytes(bytes)| {
        let text = String::from_utf8_lossy(&bytes);
        for eapi in [Eapi::UNSPECIFIED, Eapi::parse("0"), Eapi::parse("8")] {
            if let Ok(atom) = Atom::parse(&text, eapi) {
                prop_assert_eq!(atom.as_str(), &text);
            }
        }
        let _ = Cpv::parse(&text);
        let _ = vercmp(&text, "1.0");
        Ok(())
    });
}
