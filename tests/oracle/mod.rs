//! The real Portage, asked through a script of this folder: a line of JSON to it, a line of JSON back.
//!
//! Needs a Python that has Portage: `BINPKG_RESIGN_PORTAGE_PYTHON`, or `target/portage-3.0.83/bin/python` (which
//! `make setup` makes).

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A running Portage. A test that asks it in a closure needs no more than a shared reference.
pub(crate) struct Oracle {
    child: Child,
    requests: RefCell<Option<ChildStdin>>,
    answers: RefCell<BufReader<ChildStdout>>,
}

impl Oracle {
    /// Runs a script with these arguments; `None`, which it says, where there is no Portage.
    pub(crate) fn start(script: &str, arguments: &[&OsStr]) -> Option<Oracle> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = std::env::var_os("BINPKG_RESIGN_PORTAGE_PYTHON").map(PathBuf::from);
        let python = python.unwrap_or_else(|| folder.join("target/portage-3.0.83/bin/python"));
        if !python.exists() {
            println!("skipped: no Python with Portage at {}", python.display());
            return None;
        }
        let mut child = Command::new(python)
            .arg("-B")
            .arg(folder.join("tests/oracle").join(script))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let requests = RefCell::new(child.stdin.take());
        let answers = RefCell::new(BufReader::new(child.stdout.take().unwrap()));
        Some(Oracle { child, requests, answers })
    }

    /// Its answer to a request.
    pub(crate) fn ask(&self, request: &Value) -> Value {
        writeln!(self.requests.borrow_mut().as_mut().unwrap(), "{request}").unwrap();
        self.read()
    }

    /// The next line of a script that says something without being asked; `null` ends it.
    pub(crate) fn next(&self) -> Option<Value> {
        Some(self.read()).filter(|value| !value.is_null())
    }

    fn read(&self) -> Value {
        let mut line = String::new();
        self.answers.borrow_mut().read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the oracle has ended; it says why on stderr");
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // at the end of its input it clears up and ends
        *self.requests.borrow_mut() = None;
        let _ = self.child.wait();
    }
}

/// A file or folder of the real data, which is no part of the project: in the folder `BINPKG_RESIGN_SHARED` or
/// `../shared`. `None`, which it says, where it is missing.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("BINPKG_RESIGN_SHARED").map(PathBuf::from);
    let path = folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared")).join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: no real data at {}", path.display());
    None
}
