//! What became of a package: its kind, why, and whether Portage can still do it harm. Of the commands that sign or hold,
//! report and JSON are made of this, and so is the exit status, unless an error kept the run from its work.

use std::fmt;
use std::sync::Arc;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::package::Misnamed;
use crate::package::gpkg::GpkgError;
use crate::package::openpgp::{GpgError, KeyError, SignError, VerifyError};
use crate::package::rewrite::Difference;
use crate::package::verify::Refusal;
use crate::pkgdir::PkgdirError;
use crate::pkgdir::agreement::Disagreement;
use crate::pkgdir::store::Remark;
use crate::plan::{Change, Doom};
use crate::portage::atom::CpvBuf;
use crate::portage::fingerprint::KeyHandle;
use crate::portage::names::{BuildId, PkgPath};

/// Whether a run writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It does what is to be done.
    Real,
    /// It only says what it would do.
    Pretend,
}

/// What became of one package.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    /// Its file, below PKGDIR, as the index has it.
    pub path: String,
    /// Category, name and version; none where nothing that can be read tells.
    pub cpv: Option<CpvBuf>,
    /// Its build id, if it has one.
    pub build_id: Option<BuildId>,
    /// What became of it.
    #[serde(rename = "outcome")]
    pub kind: OutcomeKind,
    /// The new file, below PKGDIR, where it was moved.
    pub new_path: Option<PkgPath>,
    /// Which updates change which keys.
    pub changes: Vec<Change>,
    /// What its metadata lose and gain; only where it is just said what would be done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<Difference>,
    /// Why, where it was not signed.
    pub reason: Option<Reason>,
    /// For a held package: since when, in seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// For a held package: its size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl Outcome {
    /// Whether a package of ours could not be saved, or not be signed as it was asked for.
    #[must_use]
    pub(crate) fn is_failure(&self) -> bool {
        match self.kind.safety() {
            Safety::Held | Safety::Exposed => true,
            Safety::NotOurs => false,
            Safety::Safe => {
                let fine = |reason: &Reason| {
                    matches!(reason, Reason::Missing | Reason::Foreign(_) | Reason::GivenUp | Reason::SignedAlready)
                };
                self.kind == OutcomeKind::Skipped && !self.reason.as_ref().is_some_and(fine)
            }
        }
    }

    /// The package as users name it: category, name, version and build id; by its path where nothing tells its name.
    #[must_use]
    pub(crate) fn name(&self) -> String {
        match (&self.cpv, &self.build_id) {
            (Some(cpv), Some(build_id)) => format!("{cpv}-{build_id}"),
            (Some(cpv), None) => cpv.to_string(),
            (None, _) => self.path.clone(),
        }
    }
}

/// What can become of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OutcomeKind {
    /// Updated and signed in place.
    Resigned,
    /// Written and signed under its new name.
    Moved,
    /// Portage had removed it; brought back and signed.
    Restored,
    /// Nobody had signed it; signed because it was asked for.
    Signed,
    /// Kept safe in the folder of held packages.
    Held,
    /// Ours, and still within Portage's reach: neither signed nor held.
    Exposed,
    /// Signed by somebody else, left to Portage.
    Foreign,
    /// Out of Portage's reach without us.
    Skipped,
}

/// Whether Portage's update pass can still take a package away for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Safety {
    /// It cannot.
    Safe,
    /// It can take the file, whose bytes are held.
    Held,
    /// It can.
    Exposed,
    /// It can, and that is not our business.
    NotOurs,
}

impl OutcomeKind {
    /// Whether Portage's update pass can still take such a package away.
    #[must_use]
    pub(crate) fn safety(self) -> Safety {
        match self {
            OutcomeKind::Resigned
            | OutcomeKind::Moved
            | OutcomeKind::Restored
            | OutcomeKind::Signed
            | OutcomeKind::Skipped => Safety::Safe,
            OutcomeKind::Held => Safety::Held,
            OutcomeKind::Exposed => Safety::Exposed,
            OutcomeKind::Foreign => Safety::NotOurs,
        }
    }

    /// Whether it was signed again.
    #[must_use]
    pub(crate) fn is_saved(self) -> bool {
        matches!(self, OutcomeKind::Resigned | OutcomeKind::Moved | OutcomeKind::Restored | OutcomeKind::Signed)
    }
}

/// Why a package was not signed. What caused it is kept whole.
#[derive(Debug, Clone)]
pub(crate) enum Reason {
    /// It is not good, or could not be verified.
    Refused(Arc<Refusal>),
    /// It is not what it is taken for.
    Misnamed(Arc<Misnamed>),
    /// The keys cannot be used.
    Key(Arc<KeyError>),
    /// gpg cannot be used.
    Gpg(Arc<VerifyError>),
    /// There is no signature.
    Sign(Arc<SignError>),
    /// The new container could not be made.
    Container(Arc<GpkgError>),
    /// Something could not be done in PKGDIR.
    Pkgdir(Arc<PkgdirError>),
    /// The configuration, or what else the run needs, is broken; in the words of that error.
    Setup(Arc<str>),
    /// Somebody else signed it: these keys.
    Foreign(Vec<KeyHandle>),
    /// Portage would take it away even if it were signed.
    Doomed(Doom),
    /// The index names it, and there is no such file.
    Missing,
    /// Its path leads out of PKGDIR.
    Astray,
    /// Another program has changed it each time that it was being signed.
    Changing,
    /// It disappeared while it was being signed.
    Gone,
    /// Another package has taken the new name meanwhile.
    Taken(PkgPath),
    /// It was signed, so it was said, and Portage's pass would still concern it.
    StillConcerned,
    /// The index says something else of it than what it is.
    Disagrees(Disagreement),
    /// The index does not have it, or not what a package that is to be signed must agree with.
    Unlisted,
    /// It has signatures already.
    SignedAlready,
    /// Another program has changed it while it was being signed.
    ChangedMeanwhile,
    /// The run came to its end before.
    Interrupted,
    /// Its user has given it up.
    GivenUp,
    /// No run has said why: one is under way, or was cut short, or the journal is lost.
    UnderWay,
    /// What an earlier run said.
    Remembered(Remark),
}

impl Reason {
    /// A word for programs; once given, it does not change.
    #[must_use]
    pub(crate) fn code(&self) -> &str {
        match self {
            Reason::Refused(refusal) => match &**refusal {
                Refusal::Container(_) => "damaged",
                Refusal::Gpg(_) => "gpg",
                Refusal::NoSignature { .. } => "half-signed",
                Refusal::Signature { .. } => "bad-signature",
            },
            Reason::Misnamed(_) => "misnamed",
            Reason::Key(_) => "key",
            Reason::Gpg(_) => "gpg",
            Reason::Sign(_) => "sign",
            Reason::Container(_) => "container",
            Reason::Pkgdir(_) => "pkgdir",
            Reason::Setup(_) => "setup",
            Reason::Foreign(_) => "foreign",
            Reason::Doomed(Doom::Endless { .. }) => "endless",
            Reason::Doomed(Doom::Overwritten { .. }) => "overwritten",
            Reason::Doomed(Doom::OddPath { .. }) => "odd-path",
            Reason::Doomed(Doom::NewerBuild) => "newer-build",
            Reason::Missing => "missing",
            Reason::Astray => "astray",
            Reason::Changing => "changing",
            Reason::Gone => "gone",
            Reason::Taken(_) => "taken",
            Reason::StillConcerned => "still-concerned",
            Reason::Disagrees(_) => "index",
            Reason::Unlisted => "unlisted",
            Reason::SignedAlready => "signed",
            Reason::ChangedMeanwhile => "changing",
            Reason::Interrupted => "interrupted",
            Reason::GivenUp => "given-up",
            Reason::UnderWay => "under-way",
            Reason::Remembered(remark) => &remark.code,
        }
    }

    /// Whether nothing is wrong but that the run was ended.
    #[must_use]
    pub(crate) fn is_interruption(&self) -> bool {
        match self {
            Reason::Interrupted => true,
            Reason::Sign(error) => {
                matches!(**error, SignError::Interrupted | SignError::Verify(VerifyError::Interrupted))
            }
            Reason::Gpg(error) => matches!(**error, VerifyError::Interrupted),
            Reason::Refused(refusal) => matches!(**refusal, Refusal::Gpg(VerifyError::Interrupted)),
            Reason::Key(error) => {
                matches!(**error, KeyError::Gpg { source: GpgError::Interrupted, .. })
            }
            Reason::Pkgdir(error) => matches!(**error, PkgdirError::Interrupted { .. }),
            _ => false,
        }
    }

    /// What is kept of it with a held package.
    #[must_use]
    pub(crate) fn remark(&self) -> Remark {
        // it is kept with each package: what a growing text has taken more than it needs goes
        let mut text = self.to_string();
        text.shrink_to_fit();
        Remark { code: self.code().to_owned(), text }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Refused(error) => error.fmt(f),
            Reason::Misnamed(error) => error.fmt(f),
            Reason::Key(error) => error.fmt(f),
            Reason::Gpg(error) => error.fmt(f),
            Reason::Sign(error) => error.fmt(f),
            Reason::Container(error) => error.fmt(f),
            Reason::Pkgdir(error) => error.fmt(f),
            Reason::Setup(text) => f.write_str(text),
            Reason::Foreign(signers) => {
                write!(f, "signed by {}", signers.iter().map(KeyHandle::as_str).collect::<Vec<_>>().join(", "))
            }
            Reason::Doomed(doom) => doom.fmt(f),
            Reason::Missing => {
                f.write_str("the index names it, and the file is not there; `binpkg-resign index` corrects the index")
            }
            Reason::Astray => f.write_str(
                "the index has a path for it that leads out of PKGDIR, where nothing is touched; \
                 `binpkg-resign index` corrects the index",
            ),
            Reason::Changing => f.write_str(
                "another program has changed it each time that it was being signed; run `binpkg-resign held retry` \
                 when that has ended",
            ),
            Reason::Gone => f.write_str("it disappeared from PKGDIR while it was being signed"),
            Reason::Taken(path) => write!(f, "another package has taken the name {path} meanwhile"),
            Reason::StillConcerned => {
                f.write_str("it was to be signed, and Portage's update pass would still concern it; please report this")
            }
            Reason::Disagrees(disagreement) => write!(
                f,
                "{disagreement}: it is not what was built here, or the index is out of date; look who has changed it, then \
                 run `binpkg-resign index` and try again"
            ),
            Reason::Unlisted => {
                f.write_str("the index does not have it, or not its size and digests; run `binpkg-resign index` first")
            }
            Reason::SignedAlready => f.write_str("it is signed already"),
            Reason::ChangedMeanwhile => {
                f.write_str("another program has changed it while it was being signed; try again when that has ended")
            }
            Reason::Interrupted => f.write_str("the run was interrupted before its turn"),
            Reason::GivenUp => f.write_str("given up"),
            Reason::UnderWay => f.write_str(
                "no run has said why: one is under way, or was cut short; `binpkg-resign held retry` goes on with it",
            ),
            Reason::Remembered(remark) => f.write_str(&remark.text),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut reason = serializer.serialize_struct("Reason", 2)?;
        reason.serialize_field("code", self.code())?;
        reason.serialize_field("text", &self.to_string())?;
        reason.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_out_of_reach_is_safe() {
        use OutcomeKind::{Exposed, Foreign, Held, Moved, Resigned, Restored, Signed, Skipped};
        for (kind, safety) in [
            (Resigned, Safety::Safe),
            (Moved, Safety::Safe),
            (Restored, Safety::Safe),
            (Signed, Safety::Safe),
            (Skipped, Safety::Safe),
            (Held, Safety::Held),
            (Exposed, Safety::Exposed),
            (Foreign, Safety::NotOurs),
        ] {
            assert_eq!(kind.safety(), safety, "{kind:?}");
        }
    }

    #[test]
    fn a_reason_is_a_word_and_a_sentence() {
        let json = serde_json::to_value(Reason::Foreign(vec![KeyHandle::new("BC6B7A03F2E92BDB").unwrap()])).unwrap();
        assert_eq!(json, serde_json::json!({"code": "foreign", "text": "signed by BC6B7A03F2E92BDB"}));
    }
}
