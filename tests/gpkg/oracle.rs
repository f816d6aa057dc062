//! The real Portage, asked through `tests/oracle/gpkg.py`.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// A running Portage.
pub(crate) struct Oracle {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    /// The newest Portage there is. Says so where there is none.
    pub(crate) fn start() -> Option<Oracle> {
        let python = pythons().into_iter().next();
        if python.is_none() {
            eprintln!("skipped: no Portage (set BINPKG_RESIGN_PORTAGE_PYTHON, or make target/portage-3.0.83)");
        }
        python.map(Oracle::run)
    }

    /// Every Portage there is.
    pub(crate) fn every() -> Vec<Oracle> {
        let pythons = pythons();
        if pythons.is_empty() {
            eprintln!("skipped: no Portage (set BINPKG_RESIGN_PORTAGE_PYTHON, or make target/portage-3.0.83)");
        }
        pythons.into_iter().map(Oracle::run).collect()
    }

    fn run(python: PathBuf) -> Oracle {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/gpkg.py");
        let mut child = Command::new(&python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", python.display()));
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Oracle { child, requests, answers }
    }

    /// The answer, or what Portage raised.
    pub(crate) fn try_ask(&mut self, request: &Value) -> Result<Value, String> {
        writeln!(self.requests.as_mut().unwrap(), "{request}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("oracle died: {error}: {line}"));
        match answer.get("error").and_then(Value::as_str) {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer),
        }
    }

    /// The answer to a request that must succeed.
    pub(crate) fn ask(&mut self, request: &Value) -> Value {
        self.try_ask(request).unwrap_or_else(|error| panic!("Portage says {error} to {:.300}", request.to_string()))
    }

    /// The bytes that a request comes to.
    pub(crate) fn bytes(&mut self, request: &Value) -> Vec<u8> {
        from_hex(self.ask(request)["bytes"].as_str().unwrap())
    }

    /// Signs with the throw-away key; `mode` is `detached` or `clear`.
    pub(crate) fn sign(&mut self, mode: &str, bytes: &[u8]) -> Vec<u8> {
        self.bytes(&json!({"do": "sign", "mode": mode, "bytes": hex(bytes)}))
    }

    /// What was signed in a clear-signed text.
    pub(crate) fn signed_text(&mut self, bytes: &[u8]) -> String {
        String::from_utf8(self.bytes(&json!({"do": "signed_text", "bytes": hex(bytes)}))).unwrap()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // at the end of its input it clears up and ends
        self.requests = None;
        let _ = self.child.wait();
    }
}

fn pythons() -> Vec<PathBuf> {
    if let Some(python) = std::env::var_os("BINPKG_RESIGN_PORTAGE_PYTHON") {
        return vec![python.into()];
    }
    let target = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target"));
    ["portage-3.0.83", "portage-3.0.60"]
        .into_iter()
        .map(|version| target.join(version).join("bin/python"))
        .filter(|python| python.exists())
        .collect()
}

/// Asks what Portage reads in a container.
///
/// Portage unpacks an archive that is not packed with the program for `BINPKG_COMPRESS`, so that must be none.
pub(crate) fn read_request(bytes: &[u8]) -> Value {
    json!({"do": "read", "bytes": hex(bytes), "settings": {"BINPKG_COMPRESS": "none"}})
}

/// Bytes as hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Bytes from hex.
pub(crate) fn from_hex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
