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

fn measure(what: &str, bytes: usize, action: impl Fn() -> usize) {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let began = Instant::now();
            black_box(action());
            began.elapsed()
        })
        .collect();
    times.sort();
    let median = times.get(RUNS / 2).copied().unwrap_or_default();
    println!(
        "  {what:<42} {:>9.1} ms  {:>7.0} MB/s",
        median.as_secs_f64() * 1e3,
        megabytes(bytes) / median.as_secs_f64()
    );
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
