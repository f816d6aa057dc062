//! `index`: brings the package index into agreement with the files, as `emaint binhost --fix` does where the clients'
//! keyring trusts the key that signed them; no keyring is asked here.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use serde::Serialize;

use super::{Error, Mode, Run};
use crate::pkgdir::Pkgdir;
use crate::pkgdir::renewal::{BlockChange, Renewal, Renewer, Scope, Stray, What, Wrong};
use crate::portage::atom::CpvBuf;
use crate::portage::index::PackageIndex;
use crate::portage::names::BuildId;
use crate::report::{Detail, Level, Status, Style, Told, mark, plural, printable};

/// What `index` has done, or would do.
#[derive(Debug, Serialize)]
pub(crate) struct Correction {
    command: &'static str,
    status: Status,
    packages: Vec<Corrected>,
    counts: BlockCounts,
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
    outcome: BlockOutcome,
    reason: Option<BlockReason>,
}

/// What becomes of a block or file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum BlockOutcome {
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
struct BlockReason {
    code: &'static str,
    text: String,
}

#[derive(Debug, Default, Serialize)]
struct BlockCounts {
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
    let counts = BlockCounts {
        listed: count(BlockOutcome::Listed),
        renewed: count(BlockOutcome::Renewed),
        dropped: count(BlockOutcome::Dropped),
        refused: count(BlockOutcome::Refused),
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

fn correct(run: &Run<'_>, pkgdir: &Pkgdir, scope: Scope) -> Result<(Vec<BlockChange>, Fate), Error> {
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
    if changes.iter().any(BlockChange::is_done) && fate != Fate::Made {
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
        if fate == Fate::Agrees && changes.iter().any(BlockChange::is_done) {
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
    fn of(change: BlockChange) -> Corrected {
        let said = |key: &str| change.entry.as_ref().and_then(|entry| entry.get(key));
        let (cpv, build_id) = (said("CPV").and_then(CpvBuf::new), said("BUILD_ID").and_then(BuildId::new));
        let (outcome, reason) = match &change.what {
            What::Listed => (BlockOutcome::Listed, None),
            What::Renewed(wrong) => {
                (BlockOutcome::Renewed, Some(BlockReason { code: code(wrong), text: wrong.to_string() }))
            }
            What::Dropped(stray) => {
                let code = match stray {
                    Stray::Missing => "missing",
                    Stray::Astray => "astray",
                    Stray::Twice => "twice",
                };
                (BlockOutcome::Dropped, Some(BlockReason { code, text: stray.to_string() }))
            }
            What::Refused(error) => {
                (BlockOutcome::Refused, Some(BlockReason { code: "no-package", text: error.to_string() }))
            }
            What::Unknown(error) => {
                (BlockOutcome::Refused, Some(BlockReason { code: "unreadable", text: error.to_string() }))
            }
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

impl Told for Correction {
    fn status(&self) -> Status {
        self.status
    }
}

impl Correction {
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
                BlockOutcome::Refused => line(Level::Error, format!("not in the index: {path}{reason}")),
                BlockOutcome::Dropped if shown || detail >= Detail::Normal => {
                    line(Level::Warning, format!("{} {path}{reason}", verb("dropped", "would drop")));
                }
                BlockOutcome::Listed if shown => line(Level::Info, format!("{} {path}", verb("listed", "would list"))),
                BlockOutcome::Renewed if shown => {
                    line(Level::Info, format!("{} {path}{reason}", verb("renewed", "would renew")));
                }
                BlockOutcome::Dropped | BlockOutcome::Listed | BlockOutcome::Renewed => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    fn corrected(name: &str, outcome: BlockOutcome, reason: Option<(&'static str, &str)>) -> Corrected {
        let path = format!("app-misc/{name}/{name}-1-1.gpkg.tar");
        let reason = reason.map(|(code, text)| BlockReason { code, text: text.to_owned() });
        Corrected {
            path,
            cpv: CpvBuf::new(&format!("app-misc/{name}-1")),
            build_id: BuildId::new("1"),
            outcome,
            reason,
        }
    }

    fn all_ways(name: &str, correction: &Correction) {
        for (detail, word) in [(Detail::Quiet, "quiet"), (Detail::Normal, "normal"), (Detail::Verbose, "verbose")] {
            insta::assert_snapshot!(format!("{name}-{word}"), correction.to_text(Style::Plain, detail));
        }
    }

    #[test]
    fn every_correction_is_told() {
        let packages = || {
            vec![
                corrected("new", BlockOutcome::Listed, None),
                corrected("rebuilt", BlockOutcome::Renewed, Some(("differs", "the index has SIZE 7, the file 8"))),
                corrected("gone", BlockOutcome::Dropped, Some(("missing", "there is no such file"))),
                corrected("broken", BlockOutcome::Refused, Some(("no-package", "it is no gpkg"))),
            ]
        };
        let counts = || BlockCounts { listed: 1, renewed: 1, dropped: 1, refused: 1 };
        let correction = |pretend| Correction {
            command: "index",
            status: Status::Incomplete,
            packages: packages(),
            counts: counts(),
            seconds: 0.0,
            pretend,
            error: None,
            fate: Fate::Corrected,
        };
        all_ways("index", &correction(false));
        all_ways("index-pretend", &correction(true));
        insta::assert_snapshot!("index-json", correction(false).to_json().unwrap());
        let nothing = |status, fate| Correction {
            status,
            packages: Vec::new(),
            counts: BlockCounts::default(),
            fate,
            ..correction(false)
        };
        for (name, status, fate) in [
            ("index-agrees", Status::NothingToDo, Fate::Agrees),
            ("index-tidied", Status::Done, Fate::Tidied),
            ("index-made", Status::Done, Fate::Made),
            ("index-interrupted", Status::Incomplete, Fate::Interrupted),
        ] {
            all_ways(name, &nothing(status, fate));
        }
    }
}
