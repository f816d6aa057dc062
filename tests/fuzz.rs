//! Random and mutated bytes through the parsers: no panic, no endless loop, and what is read comes out again.
//!
//! `BINPKG_RESIGN_FUZZ=N` sets the number of inputs for each parser (`make fuzz` takes many). Containers have a fuzzer of
//! their own in `tests/gpkg`, atoms in `tests/atoms.rs`, make.conf files in `tests/settings.rs`.

use std::path::Path;

use binpkg_resign::package::gpkg::{Codec, Compression, Manifest, Metadata};
use binpkg_resign::plan::{Layout, Situation, plan};
use binpkg_resign::portage::atom::{Atom, Cpv, Eapi, vercmp};
use binpkg_resign::portage::index::{Entry, PackageIndex};
use binpkg_resign::portage::updates::{Mtimedb, RepoSource, Selection, UpdateSet};

fn inputs() -> usize {
    std::env::var("BINPKG_RESIGN_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

/// Marsaglia's xorshift: the same numbers every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or(0) % sides.max(1)
    }

    /// A few bytes changed, taken out, doubled, or put in.
    fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
        const ODD: &[&[u8]] =
            &[b"\n", b"\n\n", b": ", b"\0", b"\xff\xfe", b"\r\n", b"/", b"..", b"-", b"=", b"99999999999999999999"];
        let mut bytes = seed.to_vec();
        for _ in 0..=self.roll(6) {
            let at = self.roll(bytes.len() + 1);
            match self.roll(5) {
                0 if at < bytes.len() => bytes[at] = u8::try_from(self.roll(256)).unwrap_or_default(),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => drop(bytes.splice(at..at, ODD[self.roll(ODD.len())].iter().copied())),
                3 => bytes.truncate(at),
                _ => {
                    let from = self.roll(bytes.len() + 1);
                    let to = (from + self.roll(40)).min(bytes.len());
                    let piece = bytes[from..to].to_vec();
                    drop(bytes.splice(at..at, piece));
                }
            }
        }
        bytes
    }
}

const INDEX: &[u8] =
    b"ARCH: amd64\nPACKAGES: 2\nTIMESTAMP: 1\nVERSION: 0\n\nBDEPEND: a/old\nBUILD_ID: 1\nBUILD_TIME: 5\n\
    CPV: a/old-1.0-r1\nEAPI: 8\nPATH: a/old/old-1.0-r1-1.gpkg.tar\nRDEPEND: !!a/old >=b/c-1:0/2=[d?]\nSLOT: 0/2\n\
    MTIME: 3\nREPO: gentoo\n\nCPV: b/c-2\nEAPI: 8\nPATH: b/c/c-2-1.gpkg.tar\nSIZE: 4\n\n";

const UPDATES: &[u8] = b"move a/old a/new\nslotmove a/new 0 2\nslotmove >=b/c-1 0 1\nmove b/c b/d\nmove b/d b/c\n";

#[test]
fn indexes_and_plans() {
    let folder = tempfile::tempdir().unwrap();
    let updates_dir = folder.path().join("profiles/updates");
    std::fs::create_dir_all(&updates_dir).unwrap();
    let mut dice = Dice(0x2545_F491_4F6C_DD1D);
    let mut read = 0;
    for number in 0..inputs() {
        // new update files now and then: a file each time would be slow
        if number % 50 == 0 {
            std::fs::write(updates_dir.join("1Q-2024"), dice.mutate(UPDATES)).unwrap();
        }
        let source = RepoSource { name: "gentoo".into(), updates_dir: updates_dir.clone() };
        let bytes = dice.mutate(INDEX);
        let Ok(index) = PackageIndex::parse(bytes, Path::new("Packages")) else { continue };
        read += 1;
        let out = index.render(1);
        let again = PackageIndex::parse(out.clone(), Path::new("Packages")).unwrap();
        assert_eq!(out, again.render(1), "what was written is read and written alike");
        if number % 10 == 0 {
            let updates = UpdateSet::read(&[source], &Mtimedb::default(), Selection::All);
            for layout in [Layout::MultiInstance, Layout::Flat] {
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
                        assert_eq!(Entry::from_text(&text).to_text(), text);
                    }
                }
            }
        }
    }
    assert!(read > inputs() / 10, "{read} of {} could be read", inputs());
}

#[test]
fn manifests_and_metadata() {
    let manifest = format!("DATA image.tar.zst 5 BLAKE2B {} SHA512 {}\n", "ab".repeat(64), "cd".repeat(64));
    let codec = Codec::default();
    let mut metadata = Metadata::default();
    metadata.set("PF", b"a-1\n".to_vec());
    metadata.set("environment.bz2", vec![0xff; 700]);
    let path = Path::new("a.gpkg.tar");
    let packed = metadata.pack(1, Compression::Zstd, &codec, path).unwrap();
    let plain = metadata.pack(1, Compression::None, &codec, path).unwrap();
    assert_eq!(Metadata::read(&packed, Compression::Zstd, &codec, path).unwrap(), metadata);
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for _ in 0..inputs() {
        let text = dice.mutate(manifest.as_bytes());
        if let Ok(manifest) = Manifest::parse(&String::from_utf8_lossy(&text), path) {
            Manifest::parse(&manifest.render(), path).unwrap();
        }
        let _ = Metadata::read(&dice.mutate(&plain), Compression::None, &codec, path);
        let _ = Metadata::read(&dice.mutate(&packed), Compression::Zstd, &codec, path);
    }
}

#[test]
fn names_and_atoms() {
    let mut dice = Dice(0xD1B5_4A32_D192_ED03);
    let seeds: [&[u8]; 4] = [b">=dev-libs/a-1.2.3_rc4-r5:0/3=[b(+)?,-c]::gentoo", b"!!x/y", b"=a/b-1*", b"a/b-1.0-r0"];
    for _ in 0..inputs() * 5 {
        let bytes = dice.mutate(seeds[dice.0 as usize % seeds.len()]);
        let text = String::from_utf8_lossy(&bytes);
        for eapi in [Eapi::UNSPECIFIED, Eapi::parse("0"), Eapi::parse("8")] {
            if let Ok(atom) = Atom::parse(&text, eapi) {
                assert_eq!(atom.as_str(), text);
            }
        }
        let _ = Cpv::parse(&text);
        let _ = vercmp(&text, "1.0");
    }
}
