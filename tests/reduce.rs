//! Dependency strings reduced by USE, compared with the real Portage.
//!
//! `tests/oracle/reduce.py` makes the strings and has Portage reduce them. Needs a Python that has Portage
//! (`BINPKG_RESIGN_PORTAGE_PYTHON`, or what `make setup` makes), and says that it is skipped where there is none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use binpkg_resign::portage::reduce::{Words, reduce};

type Record = (String, String, Vec<String>, Option<String>);

#[test]
fn strings_are_reduced_as_portage_reduces_them() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = |variable, default| env::var_os(variable).map_or_else(|| top.join(default), PathBuf::from);
    let python = path("BINPKG_RESIGN_PORTAGE_PYTHON", "target/portage-3.0.83/bin/python");
    if !python.exists() {
        println!("skipped: no Python with Portage at {}", python.display());
        return;
    }
    let shared = path("BINPKG_RESIGN_SHARED", "../shared");
    let mut command = Command::new(python);
    command.arg(top.join("tests/oracle/reduce.py")).arg("40000");
    if shared.join("data/guru-2024-01-md5-cache.tar.xz").is_file() {
        command.arg(shared);
    } else {
        println!("without real packages: no data at {}", shared.display());
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (mut compared, mut refused, mut changed, mut differences) = (0, 0, 0, 0);
    for line in text.lines() {
        let (key, text, flags, expected): Record = serde_json::from_str(line).unwrap();
        let flags: HashSet<&str> = flags.iter().map(String::as_str).collect();
        let ours = reduce(&text, Words::of_key(&key), &flags).ok();
        compared += 1;
        refused += usize::from(expected.is_none());
        changed += usize::from(expected.as_ref().is_some_and(|expected| *expected != text));
        if ours != expected {
            differences += 1;
            if differences <= 20 {
                println!("{key} {text:?} {flags:?}\n  we:      {ours:?}\n  Portage: {expected:?}");
            }
        }
    }
    println!("{compared} compared, {changed} changed, {refused} refused, {differences} differences");
    assert!(compared >= 40000 && changed >= 10000 && refused >= 1000, "the oracle gave too little");
    assert_eq!(differences, 0);
}
