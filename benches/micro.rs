//! The planner and the index by themselves: `cargo bench`, which `make bench` runs first.
//!
//! Each line is the median of several runs over an index in memory, of the size that real entries have. It needs
//! `../shared/data/gentoo-updates` for the planner, and says so where that is missing.

#![allow(clippy::expect_used, missing_docs)]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use binpkg_resign::plan::{Layout, Situation, plan};
use binpkg_resign::portage::index::PackageIndex;
use sha2::Digest;

use binpkg_resign::portage::updates::{Mtimedb, RepoSource, Rewriter, Selection, UpdateSet};

const PACKAGES: usize = 60_000;
const RUNS: usize = 7;

fn main() {
    growth();
    let quiet = index_text(PACKAGES, |_| "dev-libs/other");
    let path = Path::new("Packages");
    println!("an index of {PACKAGES} packages, {:.0} MB; medians of {RUNS} runs", megabytes(quiet.len()));
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

    let block = vec![b'x'; 256 << 20];
    measure("digest: BLAKE2B", block.len(), || usize::from(blake2::Blake2b512::digest(&block)[0]));
    measure("digest: SHA512", block.len(), || usize::from(sha2::Sha512::digest(&block)[0]));
    measure("digest: MD5", block.len(), || usize::from(md5::Md5::digest(&block)[0]));
    measure("digest: SHA1", block.len(), || usize::from(sha1::Sha1::digest(&block)[0]));
    drop(block);

    let Some(updates) = gentoo_updates() else {
        println!("planner: skipped, ../shared/data/gentoo-updates is not there");
        return;
    };
    let count: usize = updates.repos.iter().map(|repo| repo.updates.len()).sum();
    println!("{count} updates of ::gentoo");
    measure("planner: nothing concerns", quiet.len(), || make_plan(&index, &updates));
    for (name, every) in [("planner: one of 100 is concerned", 100), ("planner: one of 3 is concerned", 3)] {
        let text =
            index_text(PACKAGES, |number| if number % every == 0 { "dev-util/strace" } else { "dev-libs/other" });
        let index = PackageIndex::parse(text, path).expect("an index");
        measure(name, quiet.len(), || make_plan(&index, &updates));
    }
    let all: Vec<_> = updates.repos.iter().flat_map(|repo| repo.updates.iter().cloned()).collect();
    let rewriter = Rewriter::new(&all);
    let depend = depend("dev-util/strace");
    measure("rewriter: 10000 strings, a word changes", 10_000 * depend.len(), || {
        (0..10_000)
            .filter(|_| {
                rewriter.rewrite(black_box(&depend), binpkg_resign::portage::atom::Eapi::parse("8"), None).is_some()
            })
            .count()
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
    updates_dir.is_dir().then(|| {
        let source = RepoSource { name: "gentoo".to_owned(), updates_dir };
        UpdateSet::read(&[source], &Mtimedb::default(), Selection::All)
    })
}

fn make_plan(index: &PackageIndex, updates: &UpdateSet) -> usize {
    let is_taken = |_: &str| false;
    let layout = Layout::MultiInstance;
    plan(&Situation { index, updates, main_repository: Some("gentoo"), layout, is_taken: &is_taken }).works.len()
}
