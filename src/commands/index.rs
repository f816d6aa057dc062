//! `index`: brings the package index into agreement with the files, as `emaint binhost --fix` does where the clients'
//! keyring trusts the key that signed them; no keyring is asked here.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use serde::Serialize;

use super::{Error, Mode, Run};
use crate::pkgdir::Pkgdir;
use crate::pkgdir::renewal::{Change, Renewal, Renewer, Scope, Stray, What, Wrong};
use crate::portage::atom::CpvBuf;
use crate::portage::index::PackageIndex;
use crate::portage::names::BuildId;
use crate::report::{Detail, Level, Status, Style, mark, plural, printable};

/// What `index` has done, or would do.
#[derive(Debug, Serialize)]
pub(crate) struct Correction {
    command: &'static str,
    status: Status,
    packages: Vec<Corrected>,
    counts: Counts,
    seconds: f64,
    pretend: bool,
    error: Option<String>,
    /// What was done to the index as a whole.
    #[serde(skip)]
    fate: Fate,
}

/// What becomes of the index as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It agrees with the files.
    Agrees,
    /// Only its form was wrong: the order, a number in its header, its compressed copy.
    Tidied,
    /// Some blocks were wrong.
    Corrected,
    /// There was none that could be used.
    Made,
    /// The run was interrupted before.
    Interrupted,
}

/// One block or file.
#[derive(Debug, Serialize)]
struct Corrected {
    path: String,
    cpv: Option<CpvBuf>,
    build_id: Option<BuildId>,
    outcome: Outcome,
    reason: Option<Reason>,
}

/// What becomes of a block or file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    /// A file that was not in the index is.
    Listed,
    /// Its block is made anew.
    Renewed,
    /// Its block is gone.
    Dropped,
    /// It cannot be in the index.
    Refused,
}

#[derive(Debug, Serialize)]
struct Reason {
    code: &'static str,
    text: String,
}

#[derive(Debug, Default, Serialize)]
struct Counts {
    listed: usize,
    renewed: usize,
    dropped: usize,
    refused: usize,
}

/// Corrects the index, or makes it.
///
/// # Errors
/// The configuration cannot be understood, or PKGDIR not be read or written.
pub(crate) fn index(run: &Run<'_>, scope: Scope) -> Result<Correction, Error> {
    let began = Instant::now();
    let (changes, fate) = match run.pkgdir()? {
        Some(pkgdir) => correct(run, &pkgdir, scope)?,
        None => (Vec::new(), Fate::Agrees),
    };
    let packages: Vec<Corrected> = changes.into_iter().map(Corrected::of).collect();
    let count = |outcome| packages.iter().filter(|package| package.outcome == outcome).count();
    let counts = Counts {
        listed: count(Outcome::Listed),
        renewed: count(Outcome::Renewed),
        dropped: count(Outcome::Dropped),
        refused: count(Outcome::Refused),
    };
    let status = match fate {
        _ if counts.refused > 0 => Status::Incomplete,
        Fate::Interrupted => Status::Incomplete,
        Fate::Agrees => Status::NothingToDo,
        Fate::Tidied | Fate::Corrected | Fate::Made => Status::Done,
    };
    let seconds = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    let pretend = run.mode == Mode::Pretend;
    Ok(Correction { command: "index", status, packages, counts, seconds, pretend, error: None, fate })
}

fn correct(run: &Run<'_>, pkgdir: &Pkgdir, scope: Scope) -> Result<(Vec<Change>, Fate), Error> {
    let codec = run.codec()?;
    let header = run.settings.index_header()?;
    let renewer = Renewer {
        pkgdir,
        codec: &codec,
        scope,
        jobs: run.jobs,
        interrupt: run.interrupt,
        progress: run.progress,
        made: Mutex::new(HashMap::new()),
    };
    // without the lock first: most of the work, and often there is none
    let there = pkgdir.read_good_index()?;
    let compression = run.index_compression()?;
    let tidy =
        there.as_ref().is_some_and(PackageIndex::is_rendered) && pkgdir.has_right_compressed_index(compression)?;
    let mut fate = match &there {
        None => Fate::Made,
        Some(_) if tidy => Fate::Agrees,
        Some(_) => Fate::Tidied,
    };
    let index = there.unwrap_or_else(|| PackageIndex::new(header.clone()));
    let Some(Renewal { changes, .. }) = renewer.renew(index)? else { return Ok((Vec::new(), Fate::Interrupted)) };
    if changes.iter().any(Change::is_done) && fate != Fate::Made {
        fate = Fate::Corrected;
    }
    // what a run left that was cut short may have to be finished
    if fate == Fate::Agrees && !pkgdir.has_state() || run.mode == Mode::Pretend {
        return Ok((changes, fate));
    }
    let mut store = run.open_store(pkgdir)?;
    let mut last = None;
    let written = store.replace_index(|there| {
        // another program may have written it meanwhile; what has been read counts as long as it is what it was
        let index = there.unwrap_or_else(|| PackageIndex::new(header));
        let Some(Renewal { index, changes }) = renewer.renew(index)? else { return Ok(None) };
        if fate == Fate::Agrees && changes.iter().any(Change::is_done) {
            fate = Fate::Corrected;
        }
        last = Some(changes);
        Ok((fate != Fate::Agrees).then_some(index))
    });
    if let Err(error) = store.finish() {
        log::warn!("{error}; what is held is found all the same");
    }
    written?;
    Ok(last.map_or_else(|| (Vec::new(), Fate::Interrupted), |changes| (changes, fate)))
}

impl Corrected {
    fn of(change: Change) -> Corrected {
        let said = |key: &str| change.entry.as_ref().and_then(|entry| entry.get(key));
        let (cpv, build_id) = (said("CPV").and_then(CpvBuf::new), said("BUILD_ID").and_then(BuildId::new));
        let (outcome, reason) = match &change.what {
            What::Listed => (Outcome::Listed, None),
            What::Renewed(wrong) => (Outcome::Renewed, Some(Reason { code: code(wrong), text: wrong.to_string() })),
            What::Dropped(stray) => {
                let code = match stray {
                    Stray::Missing => "missing",
                    Stray::Astray => "astray",
                    Stray::Twice => "twice",
                };
                (Outcome::Dropped, Some(Reason { code, text: stray.to_string() }))
            }
            What::Refused(error) => (Outcome::Refused, Some(Reason { code: "no-package", text: error.to_string() })),
            What::Unknown(error) => (Outcome::Refused, Some(Reason { code: "unreadable", text: error.to_string() })),
        };
        Corrected { cpv, build_id, path: change.path, outcome, reason }
    }
}

fn code(wrong: &Wrong) -> &'static str {
    match wrong {
        Wrong::Differs(_) => "differs",
        Wrong::Lacks(_) => "lacks",
        Wrong::Misnamed(_) => "misnamed",
        Wrong::OddPath(_) => "odd-path",
    }
}

impl Correction {
    /// 0, or 1 where a file cannot be in the index.
    #[must_use]
    pub(crate) fn exit_status(&self) -> u8 {
        self.status.exit_status()
    }

    /// One JSON object.
    ///
    /// # Errors
    /// It cannot be made (it always can).
    pub(crate) fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// The text for people: what is not as it should be, then how the index is.
    #[must_use]
    pub(crate) fn to_text(&self, style: Style, detail: Detail) -> String {
        let mut out = String::new();
        let mut line = |level, text: String| out += &format!("{}{}\n", mark(level, style), printable(&text));
        let verb = |real: &'static str, pretended: &'static str| if self.pretend { pretended } else { real };
        let shown = self.pretend || detail == Detail::Verbose;
        for package in &self.packages {
            let reason = package.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", reason.text));
            let path = &package.path;
            match package.outcome {
                Outcome::Refused => line(Level::Error, format!("not in the index: {path}{reason}")),
                Outcome::Dropped if shown || detail >= Detail::Normal => {
                    line(Level::Warning, format!("{} {path}{reason}", verb("dropped", "would drop")));
                }
                Outcome::Listed if shown => line(Level::Info, format!("{} {path}", verb("listed", "would list"))),
                Outcome::Renewed if shown => {
                    line(Level::Info, format!("{} {path}{reason}", verb("renewed", "would renew")));
                }
                Outcome::Dropped | Outcome::Listed | Outcome::Renewed => {}
            }
        }
        if detail == Detail::Quiet {
            return out;
        }
        let counts = &self.counts;
        let done = format!(
            "{} listed, {} renewed, {} dropped",
            plural(counts.listed, "package", "packages"),
            counts.renewed,
            counts.dropped
        );
        line(
            Level::Info,
            match self.fate {
                Fate::Agrees => "the package index agrees with the files".to_owned(),
                Fate::Tidied => {
                    verb("the package index was put in order", "the package index is to be put in order").to_owned()
                }
                Fate::Corrected => {
                    format!("{}: {done}", verb("Package index corrected", "Package index to be corrected"))
                }
                Fate::Made => format!("{}: {done}", verb("Package index made anew", "Package index to be made anew")),
                Fate::Interrupted => "interrupted; the package index is what it was".to_owned(),
            },
        );
        out
    }
}
