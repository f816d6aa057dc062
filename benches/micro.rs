//! The parts by themselves: `cargo bench --bench micro`, which `make bench` runs first. After `--`, the names of sections.
//!
//! Each line has the median of several runs, over an index in memory with entries of the size that real ones have. The
//! planner needs `../shared/data/gentoo-updates`, and says so where that is missing.

#![allow(clippy::expect_used, missing_docs)]

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use binpkg_resign::package::gpkg::{
    Compression, Container, DigestPair, Draft, ImageSignature, Manifest, ManifestLine, NewContainer,
};
use binpkg_resign::plan::{Layout, Situation, plan};
use binpkg_resign::portage::atom::Eapi;
use binpkg_resign::portage::index::PackageIndex;
use binpkg_resign::portage::updates::{Mtimedb, RepoSource, Rewriter, Selection, UpdateSet};
use sha2::Digest;

const PACKAGES: usize = 60_000;
const RUNS: usize = 7;

fn main() {
    const SECTIONS: [(&str, fn()); 6] = [
        ("index", index),
        ("planner", planner),
        ("scan", scan),
        ("growth", growth),
        ("digest", digest),
        ("container", container),
    ];
    // cargo itself gives `--bench`
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for (name, section) in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            section();
        }
    }
}

fn index() {
    let quiet = index_text(PACKAGES, |_| "dev-libs/other");
    let path = Path::new("Packages");
    println!("an index of {PACKAGES} packages, {:.0} MB", megabytes(quiet.len()));
    measure("index: parse", quiet.len(), || PackageIndex::parse(quiet.clone(), path).expect("an index").len());
    measure("index: (of that, copying the bytes)", quiet.len(), || black_box(quiet.clone()).len());
    let index = PackageIndex::parse(quiet.clone(), path).expect("an index");
    measure("index: take a batch of 64 in", quiet.len(), || {
        let mut index = index.clone();
        let batch = (0..64).filter_map(|number| index.entry(number * 900)).collect();
        index.inject_all(batch);
        index.len()
    });
    measure("index: (of that, copying it)", quiet.len(), || black_box(index.clone()).len());
    measure("index: render", quiet.len(), || index.render(1).len());
}

fn digest() {
    let block = vec![b'x'; 256 << 20];
    println!("{:.0} MB", megabytes(block.len()));
    measure("digest: BLAKE2B", block.len(), || usize::from(blake2::Blake2b512::digest(&block)[0]));
    measure("digest: SHA512", block.len(), || usize::from(sha2::Sha512::digest(&block)[0]));
    measure("digest: MD5", block.len(), || usize::from(md5::Md5::digest(&block)[0]));
    measure("digest: SHA1", block.len(), || usize::from(sha1::Sha1::digest(&block)[0]));
}

fn planner() {
    let Some(updates) = gentoo_updates() else { return };
    let path = Path::new("Packages");
    for (name, every) in [
        ("planner: nothing concerns", usize::MAX),
        ("planner: one of 100 is concerned", 100),
        ("planner: one of 3 is concerned", 3),
    ] {
        let depend = |number: usize| match number % every {
            0 if every < usize::MAX => "dev-util/strace",
            _ => "dev-libs/other",
        };
        let text = index_text(PACKAGES, depend);
        let size = text.len();
        let index = PackageIndex::parse(text, path).expect("an index");
        measure(name, size, || make_plan(&index, &updates));
    }
}

/// The planner's question about each string: does an update concern it? By the filter, and by looking at every word.
fn scan() {
    let Some(updates) = gentoo_updates() else { return };
    let all: Vec<_> = updates.repos.iter().flat_map(|repo| repo.updates.iter().cloned()).collect();
    let rewriter = Rewriter::new(&all);
    let eapi = Eapi::parse("8");
    let (quiet, concerned) = (depend("dev-libs/other"), depend("dev-util/strace"));
    let strings = 2 * PACKAGES;
    println!("{strings} strings of 26 dependencies");
    measure("scan: the filter", strings * quiet.len(), || {
        (0..strings).filter(|_| rewriter.may_change(black_box(quiet.as_bytes()))).count()
    });
    measure("scan: every word", strings * quiet.len(), || {
        (0..strings)
            .filter(|_| rewriter.rewrite(&String::from_utf8_lossy(black_box(quiet.as_bytes())), eapi, None).is_some())
            .count()
    });
    measure("scan: a word changes, in 10000 of them", 10_000 * concerned.len(), || {
        (0..10_000).filter(|_| rewriter.rewrite(black_box(&concerned), eapi, None).is_some()).count()
    });
}

/// One large container made of another, and flushed to the disk.
fn container() {
    const IMAGE: u64 = 2 << 30;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on the disk");
    let path = folder.path().join("old.gpkg.tar");
    let mut tar = tar::Builder::new(File::create(&path).expect("a file"));
    let mut add = |name: &str, size: u64, bytes: &mut dyn Read| {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("a-1/{name}"), bytes).expect("a member");
    };
    let (mut blake2b, mut sha512) = (blake2::Blake2b512::new(), sha2::Sha512::new());
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..IMAGE / (1 << 20) {
        blake2b.update(&chunk);
        sha512.update(&chunk);
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let image = DigestPair { blake2b: hex(&blake2b.finalize()), sha512: hex(&sha512.finalize()) };
    let small: [(&str, &[u8]); 4] =
        [("gpkg-1", b""), ("metadata.tar", b"old"), ("metadata.tar.sig", b"s"), ("image.tar.sig", b"s")];
    for (name, mut bytes) in small {
        add(name, bytes.len() as u64, &mut bytes);
    }
    add("image.tar", IMAGE, &mut std::io::repeat(b'x').take(IMAGE));
    let mut lines: Vec<_> = small.iter().map(|(name, bytes)| ManifestLine::of(name, bytes)).collect();
    lines.push(ManifestLine::new("image.tar", IMAGE, image));
    let manifest = Manifest::new(lines, &path);
    let text = manifest.render();
    add("Manifest", text.len() as u64, &mut text.as_bytes());
    tar.into_inner().and_then(|file| file.sync_all()).expect("a container");

    let old = Container::open(File::open(&path).expect("a container"), &path).expect("a container");
    println!("a container of {:.0} MB", IMAGE as f64 / 1e6);
    measure("container: copy and flush", IMAGE as usize, || {
        let out = tempfile::tempfile_in(folder.path()).expect("a file");
        let new = NewContainer {
            prefix: "b-1".to_owned(),
            metadata: b"new".to_vec(),
            compression: Compression::None,
            mtime: 1,
            metadata_signature: b"s".to_vec(),
        };
        let draft = Draft::begin(out, &old, &manifest, new).expect("a copy");
        let unsealed = draft.signed(ImageSignature::CarriedOver).expect("a copy");
        let text = unsealed.manifest_text();
        let (file, digests) = unsealed.finish(text.as_bytes()).expect("a copy");
        file.sync_all().expect("a flush");
        digests.size as usize
    });
}

/// What it is, its update lines, and the block of each package.
type Case<'a> = (&'a str, String, &'a dyn Fn(usize) -> String);

/// A tenth of the packages is concerned: what it costs must grow as the index does, whatever they have in common.
fn growth() {
    let folder = tempfile::tempdir().expect("a folder for update files");
    for packages in [50_000, 100_000, 200_000] {
        let concerned = packages / 10;
        println!("{concerned} of {packages} packages are concerned");
        let cases: [Case<'_>; 4] = [
            ("planner: dependencies", "move dev-util/strace dev-debug/strace\n".to_owned(), &|number| {
                let depend = if number < concerned { "dev-util/strace" } else { "dev-libs/other" };
                small_entry(&format!("app-misc/pkg{number:06}"), "1", 1, depend)
            }),
            (
                "planner: moves of as many names",
                (0..concerned).map(|number| format!("move app-misc/old{number} app-misc/new{number}\n")).collect(),
                &|number| {
                    let name = if number < concerned { "old" } else { "pkg" };
                    small_entry(&format!("app-misc/{name}{number}"), "1", 1, "dev-libs/other")
                },
            ),
            ("planner: moves of one name, all versions", "move app-misc/old app-misc/new\n".to_owned(), &|number| {
                let name = if number < concerned { "old".to_owned() } else { format!("pkg{number}") };
                small_entry(&format!("app-misc/{name}"), &format!("{number}.1"), 1, "dev-libs/other")
            }),
            ("planner: moves of one version, all builds", "move app-misc/old sys-apps/old\n".to_owned(), &|number| {
                let name = if number < concerned { "old".to_owned() } else { format!("pkg{number}") };
                small_entry(&format!("app-misc/{name}"), "1", number, "dev-libs/other")
            }),
        ];
        for (case, lines, entry) in cases {
            let updates_dir = folder.path().join("profiles/updates");
            std::fs::create_dir_all(&updates_dir).expect("a folder");
            std::fs::write(updates_dir.join("1Q-2024"), lines).expect("an update file");
            let source = RepoSource { name: "gentoo".to_owned(), updates_dir };
            let updates = UpdateSet::read(&[source], &Mtimedb::default(), Selection::All);
            let text = "VERSION: 0\n\n".to_owned() + &(0..packages).map(entry).collect::<String>();
            let size = text.len();
            let index = PackageIndex::parse(text.into_bytes(), Path::new("Packages")).expect("an index");
            measure(case, size, || {
                let works = make_plan(&index, &updates);
                assert_eq!(works, concerned, "all of these are concerned");
                works
            });
            if case == "planner: dependencies" {
                let changed: Vec<_> = (0..concerned).filter_map(|number| index.entry(number * 10)).collect();
                measure("index: put these in", size, || {
                    let mut index = index.clone();
                    index.inject_all(changed.clone());
                    index.len()
                });
                measure("index: by path", size, || index.by_path().len());
            }
        }
    }
}

fn small_entry(cp: &str, version: &str, build: usize, depend: &str) -> String {
    let pn = cp.rsplit('/').next().unwrap_or_default();
    format!(
        "BUILD_ID: {build}\nBUILD_TIME: 17{build:08}\nCPV: {cp}-{version}\nDEPEND: {depend} dev-libs/library\nEAPI: 8\n\
         PATH: {cp}/{pn}-{version}-{build}.gpkg.tar\nSIZE: 20480\nMTIME: 1700000000\nREPO: gentoo\n\n"
    )
}

/// Prints the median and the best of some runs; the best is what to compare where other work runs on the machine.
fn measure(what: &str, bytes: usize, action: impl Fn() -> usize) {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let began = Instant::now();
            black_box(action());
            began.elapsed()
        })
        .collect();
    times.sort();
    let milliseconds = |place: usize| times.get(place).copied().unwrap_or_default().as_secs_f64() * 1e3;
    let (best, median) = (milliseconds(0), milliseconds(RUNS / 2));
    let speed = megabytes(bytes) / (median / 1e3);
    println!("  {what:<42} {median:>9.1} ms  {speed:>7.0} MB/s  best {best:>9.1} ms");
}

fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

fn depend(first: &str) -> String {
    let others = (0..25).map(|n| format!(" >=dev-libs/library{n}-1.{n}:0/{n}=[abi_x86_64(-)]"));
    first.to_owned() + &others.collect::<String>()
}

/// As `synthetic_index` in bench.py.
fn index_text(count: usize, dependency: impl Fn(usize) -> &'static str) -> Vec<u8> {
    let mut text = format!("ARCH: amd64\nPACKAGES: {count}\nTIMESTAMP: 1\nVERSION: 0\n\n");
    for number in 0..count {
        let depend = depend(dependency(number));
        text += &format!(
            "BDEPEND: app-arch/unzip virtual/pkgconfig >=dev-build/ninja-1.8\nBUILD_ID: 1\nBUILD_TIME: 1700000000\n\
             CPV: app-misc/pkg{number:06}-1.2.3\nDEFINED_PHASES: compile configure install\nDEPEND: {depend}\nEAPI: 8\n\
             IUSE: abi_x86_64 doc test +ssl\nKEYWORDS: amd64\nLICENSE: GPL-2\nMD5: {number:032x}\n\
             PATH: app-misc/pkg{number:06}/pkg{number:06}-1.2.3-1.gpkg.tar\nRDEPEND: {depend}\nSHA1: {number:040x}\n\
             SIZE: 20480\nUSE: abi_x86_64 ssl\nMTIME: 1700000000\nREPO: gentoo\n\n"
        );
    }
    text.into_bytes()
}

fn gentoo_updates() -> Option<UpdateSet> {
    let updates_dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/gentoo-updates");
    if !updates_dir.is_dir() {
        println!("skipped: {} is not there", updates_dir.display());
        return None;
    }
    let source = RepoSource { name: "gentoo".to_owned(), updates_dir };
    let updates = UpdateSet::read(&[source], &Mtimedb::default(), Selection::All);
    println!("{} updates of ::gentoo", updates.repos.iter().map(|repo| repo.updates.len()).sum::<usize>());
    Some(updates)
}

fn make_plan(index: &PackageIndex, updates: &UpdateSet) -> usize {
    let is_taken = |_: &str| false;
    let layout = Layout::MultiInstance;
    plan(&Situation { index, updates, main_repository: Some("gentoo"), layout, is_taken: &is_taken }).works.len()
}
