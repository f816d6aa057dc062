//! `doctor`: whether signing, keys, hook, PKGDIR and index are in order, and how to fix what is not.

mod clients;
mod keys;
mod own;
mod packages;
mod passes;
mod sync;
mod triggers;

pub(crate) use keys::expiry;

use std::io;
use std::time::Instant;

use serde::Serialize;

use super::{Error, Run};
use crate::pkgdir::Pkgdir;
use crate::report::{Level, Status, Style, Told, mark};

/// What `doctor` found.
#[derive(Debug, Serialize)]
pub(crate) struct Diagnosis {
    command: &'static str,
    status: Status,
    checks: Vec<Check>,
    counts: Counts,
    seconds: f64,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// What was found.
    pub text: String,
    /// How to fix it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// In order.
    Ok,
    /// It works, but somebody should know.
    Warning,
    /// Packages can be lost, or cannot be signed.
    Problem,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Counts {
    ok: usize,
    warning: usize,
    problem: usize,
}

#[derive(Default)]
struct Doctor {
    checks: Vec<Check>,
}

impl Doctor {
    fn note(&mut self, name: &'static str, state: State, text: impl Into<String>, fix: Option<&str>) {
        self.checks.push(Check { name, state, text: text.into(), fix: fix.map(str::to_owned) });
    }

    fn ok(&mut self, name: &'static str, text: impl Into<String>) {
        self.note(name, State::Ok, text, None);
    }

    fn warn(&mut self, name: &'static str, text: impl Into<String>, fix: &str) {
        self.note(name, State::Warning, text, Some(fix));
    }

    fn problem(&mut self, name: &'static str, text: impl Into<String>, fix: &str) {
        self.note(name, State::Problem, text, Some(fix));
    }

    /// Has one thing looked at. That it cannot be is a problem, and keeps nothing else from being looked at.
    fn look(&mut self, name: &'static str, what: &str, look: impl FnOnce(&mut Doctor) -> Result<(), Error>) {
        if let Err(error) = look(self) {
            self.problem(
                name,
                format!("{what} cannot be told: {error}"),
                remedy(&error, "correct that, and look again"),
            );
        }
    }
}

/// What to do about an error: where root alone may do what was tried, to be root, and else `otherwise`.
fn remedy<'a>(error: &(dyn std::error::Error + 'static), otherwise: &'a str) -> &'a str {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let denied = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    let is_root = rustix::process::geteuid().is_root();
    if !is_root && causes.into_iter().any(denied) { "run this as root" } else { otherwise }
}

/// Looks at everything that must be in order for a sync to cost no package. Nothing is changed; one test signature is
/// made, as `emerge` makes to unlock the key.
///
/// # Errors
/// Portage's configuration cannot be read at all.
pub(crate) fn diagnose(run: &Run<'_>) -> Result<Diagnosis, Error> {
    let began = Instant::now();
    let mut doctor = Doctor::default();
    let values = own::settings(&mut doctor, run)?;
    let place = run.settings.pkgdir()?;
    let pkgdir = run.pkgdir();
    match run.settings.signing()? {
        Some(signing) => {
            doctor.ok("signing", format!("binary packages are signed with {}", signing.key));
            if values == own::Values::Good {
                let pkgdir = pkgdir.as_ref().ok().and_then(Option::as_ref);
                doctor.look("key", "whether the key can sign", |doctor| keys::keys_of(doctor, run, &signing, pkgdir));
            }
        }
        None => doctor.warn(
            "signing",
            format!("binary packages are not signed here ({})", run.why_not_configured()?),
            "to sign them, set FEATURES=\"binpkg-signing\", BINPKG_GPG_SIGNING_GPG_HOME and BINPKG_GPG_SIGNING_KEY",
        ),
    }
    sync::hook(&mut doctor, run);
    doctor.look("hooks", "whether every sync runs the hooks", |doctor| sync::switches(doctor, run));
    doctor.look("regular", "what else runs binpkg-resign", |doctor| triggers::triggers(doctor, run));
    match &pkgdir {
        Ok(Some(pkgdir)) => in_pkgdir(&mut doctor, run, pkgdir, values),
        Ok(None) => {
            let text = format!("PKGDIR {} is not there yet", place.display());
            doctor.warn("pkgdir", text, "the first package that is built makes it");
        }
        Err(error) => doctor.problem("pkgdir", error.to_string(), remedy(error, "set PKGDIR to a folder")),
    }
    let count = |state| doctor.checks.iter().filter(|check| check.state == state).count();
    let counts = Counts { ok: count(State::Ok), warning: count(State::Warning), problem: count(State::Problem) };
    let status = if counts.problem > 0 { Status::Incomplete } else { Status::Done };
    let seconds = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    Ok(Diagnosis { command: "doctor", status, checks: doctor.checks, counts, seconds })
}

/// What is in PKGDIR, and what becomes of it.
fn in_pkgdir(doctor: &mut Doctor, run: &Run<'_>, pkgdir: &Pkgdir, values: own::Values) {
    packages::writable(doctor, pkgdir);
    doctor.look("index", "whether the index agrees with the packages", |doctor| packages::index(doctor, pkgdir));
    doctor.look("held", "whether a package is held", |doctor| packages::held(doctor, pkgdir));
    if values == own::Values::Good {
        doctor.look("net", "whether there is a safety net", |doctor| packages::net(doctor, run, pkgdir));
    }
    doctor.look("pending", "what the next emerge removes", |doctor| passes::passes(doctor, run, pkgdir));
}

impl Told for Diagnosis {
    fn status(&self) -> Status {
        self.status
    }
}

impl Diagnosis {
    /// The text for people: a line a check, with the way to fix it beneath.
    #[must_use]
    pub(crate) fn to_text(&self, style: Style) -> String {
        let mut out = String::new();
        for check in &self.checks {
            let (level, word) = match check.state {
                State::Ok => (Level::Info, "ok     "),
                State::Warning => (Level::Warning, "warning"),
                State::Problem => (Level::Error, "problem"),
            };
            out += &format!("{}{word}  {}\n", mark(level, style), check.text);
            if let Some(fix) = &check.fix {
                for line in fix.lines() {
                    out += &format!("{}           {line}\n", mark(level, style));
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_check_with_the_fix_beneath() {
        let mut doctor = Doctor::default();
        doctor.ok("key", "the secret key is there");
        doctor.warn("trust", "the keyring does not trust the key", "getuto");
        doctor.problem("hook", "there is no hook", "install it");
        let counts = Counts { ok: 1, warning: 1, problem: 1 };
        let (command, status, seconds) = ("doctor", Status::Incomplete, 0.0);
        let diagnosis = Diagnosis { command, status, checks: doctor.checks, counts, seconds };
        assert_eq!(diagnosis.exit_status(), 1);
        insta::assert_snapshot!("doctor", diagnosis.to_text(Style::Plain));
        insta::assert_snapshot!("doctor-json", diagnosis.to_json().unwrap());
    }
}
