//! What `verify` found: of each package, of all of them, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::package::gpkg::GpkgError;
use crate::package::verify::{Refusal, SignatureFault};
use crate::pkgdir::PkgdirError;
use crate::portage::atom::CpvBuf;
use crate::portage::fingerprint::KeyHandle;
use crate::portage::index::Entry;
use crate::portage::names::BuildId;
use crate::report::{Detail, Level, Status, Style, Told, mark, plural, printable};

/// What `verify` found.
#[derive(Debug, Serialize)]
pub(crate) struct Audit {
    command: &'static str,
    status: Status,
    packages: Vec<Finding>,
    counts: GradeCounts,
    /// How many packages each key has signed, by its fingerprint or id; one counts for every key that has.
    keys: BTreeMap<KeyHandle, usize>,
    seconds: f64,
    #[serde(skip)]
    asked: Asked,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of PKGDIR.
    All,
    /// These packages: each is told of, and one that could not be checked is a failure.
    Named,
}

/// What was found of one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The file, below PKGDIR or as it was given.
    path: String,
    /// Category, name and version, where the index has it.
    cpv: Option<CpvBuf>,
    /// Its build id, if it has one.
    build_id: Option<BuildId>,
    #[serde(flatten)]
    judgement: Judgement,
}

/// How good a package is, whose, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Judgement {
    /// Whether it is good, and whose.
    #[serde(rename = "outcome")]
    pub grade: Grade,
    /// The keys that signed it.
    pub signers: Vec<KeyHandle>,
    /// Which kind of thing is wrong; none where nothing is.
    pub fault: Option<Fault>,
    /// What is wrong, or what could not be found out.
    pub reason: Option<String>,
}

/// How a package fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Grade {
    /// Whole, and signed by us.
    Ours,
    /// Signed by somebody else.
    Foreign,
    /// Whole, and not signed.
    Unsigned,
    /// Something is wrong with it.
    Bad,
}

/// Kinds of things that keep a package from being good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Fault {
    /// The file, a digest in it or a signature on it is wrong.
    Corrupt,
    /// The signature is that of a key that is not trusted: revoked, expired, or not the configured one.
    Untrusted,
    /// The signature is that of a key that is not known here, and was not checked.
    UnknownKey,
    /// It has no signature.
    Unsigned,
    /// It is not what the index, or the name of its file, says.
    Index,
    /// It is no gpkg, but has the format of before.
    OldFormat,
    /// It could not be read, or gpg could not be asked.
    Unchecked,
}

impl Fault {
    /// The word before a package that has it.
    fn label(self) -> &'static str {
        match self {
            Fault::Corrupt => "corrupt",
            Fault::Untrusted => "untrusted",
            Fault::UnknownKey => "unknown key",
            Fault::Unsigned => "unsigned",
            Fault::Index => "index",
            Fault::OldFormat => "old format",
            Fault::Unchecked => "unchecked",
        }
    }

    /// What is said of bad packages in the summary.
    fn summary(self) -> &'static str {
        match self {
            Fault::Corrupt => "corrupt",
            Fault::Untrusted => "signed by a key that is not trusted",
            Fault::UnknownKey => "signed by a key that is not known here",
            Fault::Unsigned => "not signed",
            Fault::Index => "not what the index says",
            Fault::OldFormat => "in the old format, without signatures",
            Fault::Unchecked => "could not be checked",
        }
    }
}

#[derive(Debug, Default, Clone, Copy, Serialize)]
struct GradeCounts {
    ours: usize,
    foreign: usize,
    unsigned: usize,
    bad: usize,
}

/// What is wrong with a package, and in words, which do not name its file again.
#[derive(Debug)]
pub(super) struct Wrong {
    pub fault: Fault,
    pub text: String,
}

impl Wrong {
    /// The system did not let us.
    pub(super) fn unreadable(action: &str, source: &io::Error) -> Wrong {
        Wrong { fault: Fault::Unchecked, text: format!("cannot {action} it: {source}") }
    }

    /// The package at `path` could not be opened.
    pub(super) fn not_opened(error: &PkgdirError, path: &Path) -> Wrong {
        match error {
            PkgdirError::Io { action, path: at, source } if at == path => Wrong::unreadable(action, source),
            error => Wrong { fault: Fault::Unchecked, text: without_path(&error.to_string(), path) },
        }
    }

    /// The package at `path` is not good.
    pub(super) fn refused(refusal: &Refusal, path: &Path) -> Wrong {
        let fault = match refusal {
            Refusal::Container(GpkgError::OldFormat { .. }) => Fault::OldFormat,
            Refusal::Container(
                GpkgError::Read { .. }
                | GpkgError::Write { .. }
                | GpkgError::New { .. }
                | GpkgError::NoCommand { .. }
                | GpkgError::Start { .. },
            ) => Fault::Unchecked,
            Refusal::Container(_) | Refusal::NoSignature { .. } => Fault::Corrupt,
            Refusal::Gpg(_) => Fault::Unchecked,
            Refusal::Signature { fault, .. } => match fault {
                SignatureFault::Bad(_) => Fault::Corrupt,
                SignatureFault::NotChecked(_) => Fault::Unchecked,
                SignatureFault::Revoked
                | SignatureFault::ExpiredKey
                | SignatureFault::Expired
                | SignatureFault::AnotherOfOurs
                | SignatureFault::SignedBefore => Fault::Untrusted,
            },
        };
        Wrong { fault, text: without_path(&refusal.to_string(), path) }
    }
}

/// A message without the path that it begins with: the line that it stands in has it already.
pub(super) fn without_path(message: &str, path: &Path) -> String {
    match message.strip_prefix(&*path.to_string_lossy()) {
        None => message.to_owned(),
        Some(rest) => rest.strip_prefix(": ").map_or_else(|| format!("it{rest}"), str::to_owned),
    }
}

impl Judgement {
    /// A package that nothing is wrong with.
    pub(super) fn good(grade: Grade, signers: Vec<KeyHandle>) -> Judgement {
        Judgement { grade, signers, fault: None, reason: None }
    }

    /// Whether its signature, if it has one, could not be checked.
    fn is_in_doubt(&self) -> bool {
        self.fault == Some(Fault::UnknownKey)
    }

    /// The word before it.
    fn label(&self) -> &'static str {
        match (self.grade, self.fault) {
            (Grade::Ours, _) => "ours",
            (Grade::Unsigned, _) => "unsigned",
            (Grade::Bad | Grade::Foreign, Some(fault)) if fault != Fault::Index || self.grade == Grade::Bad => {
                fault.label()
            }
            (Grade::Foreign, _) => "foreign",
            (Grade::Bad, _) => "bad",
        }
    }
}

impl From<Wrong> for Judgement {
    fn from(wrong: Wrong) -> Judgement {
        Judgement { grade: Grade::Bad, signers: Vec::new(), fault: Some(wrong.fault), reason: Some(wrong.text) }
    }
}

impl Finding {
    /// What was found of the file that is shown as `path`, of which the index says `entry`.
    pub(super) fn new(path: String, entry: Option<&Entry>, judgement: Judgement) -> Finding {
        let said = |key: &str| entry.and_then(|entry| entry.get(key));
        let (cpv, build_id) = (said("CPV").and_then(CpvBuf::new), said("BUILD_ID").and_then(BuildId::new));
        Finding { path, cpv, build_id, judgement }
    }

    fn line(&self) -> String {
        let Judgement { signers, reason, .. } = &self.judgement;
        let signers: Vec<&str> = signers.iter().map(KeyHandle::as_str).collect();
        let by = if signers.is_empty() { String::new() } else { format!(" ({})", signers.join(", ")) };
        let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("{:<11} {}{by}{reason}", self.judgement.label(), self.path)
    }
}

impl Told for Audit {
    fn status(&self) -> Status {
        self.status
    }
}

impl Audit {
    pub(super) fn new(asked: Asked, mut packages: Vec<Finding>, elapsed: Duration) -> Audit {
        packages.sort_by(|a, b| a.path.cmp(&b.path));
        let count = |grade| packages.iter().filter(|finding| finding.judgement.grade == grade).count();
        let counts = GradeCounts {
            ours: count(Grade::Ours),
            foreign: count(Grade::Foreign),
            unsigned: count(Grade::Unsigned),
            bad: count(Grade::Bad),
        };
        let mut keys: BTreeMap<KeyHandle, usize> = BTreeMap::new();
        for signer in packages.iter().flat_map(|finding| &finding.judgement.signers) {
            *keys.entry(signer.clone()).or_default() += 1;
        }
        let in_doubt = packages.iter().any(|finding| finding.judgement.is_in_doubt());
        let status = match packages.len() {
            _ if counts.bad > 0 || asked == Asked::Named && in_doubt => Status::Incomplete,
            0 => Status::NothingToDo,
            _ => Status::Done,
        };
        let seconds = (elapsed.as_secs_f64() * 1000.0).round() / 1000.0;
        Audit { command: "verify", status, packages, counts, keys, seconds, asked }
    }

    /// The text for people: what is wrong, then how many are how.
    #[must_use]
    pub(crate) fn to_text(&self, style: Style, detail: Detail) -> String {
        let mut out = String::new();
        let mut line = |level, text: String| out += &format!("{}{}\n", mark(level, style), printable(&text));
        let all_told = detail == Detail::Verbose || self.asked == Asked::Named && detail == Detail::Normal;
        for finding in &self.packages {
            match finding.judgement.grade {
                Grade::Bad => line(Level::Error, finding.line()),
                _ if self.asked == Asked::Named && finding.judgement.is_in_doubt() => {
                    line(Level::Error, finding.line());
                }
                _ if all_told => line(Level::Info, finding.line()),
                _ => {}
            }
        }
        if detail >= Detail::Normal {
            let level = if self.status == Status::Incomplete { Level::Error } else { Level::Info };
            line(level, self.summary());
            for (count, fault) in self.faults() {
                line(Level::Error, format!("    {count} {}", fault.summary()));
            }
            let unchecked = self.unchecked_keys();
            for (key, count) in &self.keys {
                let remark = if unchecked.contains(key) { ", which is not known here" } else { "" };
                line(Level::Info, format!("    {count} signed by {key}{remark}"));
            }
        }
        out
    }

    /// How many packages there are, and how they fare; only what there is.
    fn summary(&self) -> String {
        let counts = self.counts;
        let in_doubt = self.packages.iter().filter(|finding| finding.judgement.is_in_doubt()).count();
        let parts = [
            (counts.ours, "signed by us"),
            (counts.foreign.saturating_sub(in_doubt), "by others"),
            (in_doubt, "by keys not known here (not checked)"),
            (counts.unsigned, "not signed"),
            (counts.bad, "bad"),
        ];
        let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let parts: Vec<String> = parts.collect();
        let packages = plural(self.packages.len(), "package", "packages");
        if parts.is_empty() { packages } else { format!("{packages}: {}", parts.join(", ")) }
    }

    /// How many bad packages there are of each kind.
    fn faults(&self) -> Vec<(usize, Fault)> {
        let mut counts: BTreeMap<Fault, usize> = BTreeMap::new();
        let bad = self.packages.iter().filter(|finding| finding.judgement.grade == Grade::Bad);
        for fault in bad.filter_map(|finding| finding.judgement.fault) {
            *counts.entry(fault).or_default() += 1;
        }
        counts.into_iter().map(|(fault, count)| (count, fault)).collect()
    }

    fn unchecked_keys(&self) -> BTreeSet<&KeyHandle> {
        let in_doubt = self.packages.iter().filter(|finding| finding.judgement.is_in_doubt());
        in_doubt.flat_map(|finding| &finding.judgement.signers).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, judgement: Judgement) -> Finding {
        Finding::new(path.to_owned(), None, judgement)
    }

    fn bad(fault: Fault, text: &str) -> Judgement {
        Wrong { fault, text: text.to_owned() }.into()
    }

    fn one_of_each() -> Vec<Finding> {
        let key = |name: &str| vec![KeyHandle::new(name).unwrap()];
        let unknown = Judgement {
            fault: Some(Fault::UnknownKey),
            reason: Some("the key that signed it is not known here: its signature was not checked".to_owned()),
            ..Judgement::good(Grade::Foreign, key("00000000000000CC"))
        };
        let unsigned = Judgement { fault: Some(Fault::Unsigned), ..Judgement::good(Grade::Unsigned, Vec::new()) };
        let path = Path::new("/pkgdir/a/h-1.gpkg.tar");
        let revoked = Refusal::Signature {
            path: path.to_owned(),
            part: "Manifest".to_owned(),
            key: "00000000000000AA".to_owned(),
            fault: SignatureFault::Revoked,
        };
        let old = Refusal::Container(GpkgError::OldFormat { path: path.to_owned() });
        let gone = PkgdirError::Io { action: "open", path: path.to_owned(), source: io::ErrorKind::NotFound.into() };
        vec![
            found("a/a-1.gpkg.tar", Judgement::good(Grade::Ours, key("00000000000000AA"))),
            found("a/b-1.gpkg.tar", Judgement::good(Grade::Foreign, key("00000000000000BB"))),
            found("a/c-1.gpkg.tar", unknown),
            found("a/d-1.gpkg.tar", unsigned),
            found("a/e-1.gpkg.tar", bad(Fault::Corrupt, "its image has another SHA512 digest")),
            found("a/f-1.gpkg.tar", bad(Fault::Index, "the index says SIZE 1, the file has 2")),
            found("a/h-1.gpkg.tar", Wrong::refused(&revoked, path).into()),
            found("a/h-1.tbz2", Wrong::refused(&old, path).into()),
            found("a/i-1.gpkg.tar", Wrong::not_opened(&gone, path).into()),
        ]
    }

    #[test]
    fn every_kind_of_package_has_its_word() {
        let named = Audit::new(Asked::Named, one_of_each(), Duration::ZERO);
        insta::assert_snapshot!("verify-named", named.to_text(Style::Plain, Detail::Normal));
        let all = Audit::new(Asked::All, one_of_each(), Duration::ZERO);
        insta::assert_snapshot!("verify-all", all.to_text(Style::Plain, Detail::Normal));
    }

    #[test]
    fn a_named_package_that_was_not_checked_is_a_failure() {
        let unknown = || one_of_each().into_iter().filter(|finding| finding.judgement.is_in_doubt()).collect();
        let status = |asked| Audit::new(asked, unknown(), Duration::ZERO).exit_status();
        assert_eq!((status(Asked::Named), status(Asked::All)), (1, 0));
        let quiet = Audit::new(Asked::Named, unknown(), Duration::ZERO).to_text(Style::Plain, Detail::Quiet);
        assert!(quiet.contains("unknown key a/c-1.gpkg.tar"), "{quiet}");
    }
}
