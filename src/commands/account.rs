//! What a run keeps of what became of packages, and the report of it, which comes out whatever happens.

use std::collections::HashSet;
use std::time::Instant;

use super::{Error, Mode};
use crate::outcome::{Outcome, OutcomeKind};
use crate::pkgdir::store::Store;
use crate::report::{Audience, Report, Status};
use crate::resign::{History, Settled};

/// The book that a run keeps.
pub(super) struct Account {
    command: &'static str,
    mode: Mode,
    began: Instant,
    settled: Vec<Settled>,
    still_held: usize,
    error: Option<Error>,
    /// Why nothing was done, where signing is not configured.
    not_configured: Option<(String, Audience)>,
}

impl Account {
    pub(super) fn new(command: &'static str, mode: Mode) -> Account {
        Account {
            command,
            mode,
            began: Instant::now(),
            settled: Vec::new(),
            still_held: 0,
            error: None,
            not_configured: None,
        }
    }

    /// Takes in what a round came to; what an earlier round said of the same packages does not count any more.
    pub(super) fn add_round(&mut self, round: Vec<Settled>) {
        let again: HashSet<String> = round.iter().map(|settled| settled.outcome.path.clone()).collect();
        self.settled.retain(|settled| !again.contains(&settled.outcome.path));
        if self.settled.is_empty() {
            self.settled = round;
        } else {
            self.settled.extend(round);
        }
    }

    /// Takes in what is said of packages that no job was made for.
    pub(super) fn add(&mut self, outcomes: impl IntoIterator<Item = Outcome>) {
        let settled = |outcome| Settled { history: History::New, outcome, held: None };
        self.settled.extend(outcomes.into_iter().map(settled));
    }

    /// The first error is the one to tell of.
    pub(super) fn fail(&mut self, error: Error) {
        match &self.error {
            None => self.error = Some(error),
            Some(_) => log::error!("{error}"),
        }
    }

    pub(super) fn not_configured(&mut self, why: String, audience: Audience) {
        self.not_configured = Some((why, audience));
    }

    pub(super) fn still_held(&mut self, count: usize) {
        self.still_held = count;
    }

    /// The packages that were said to be saved.
    pub(super) fn saved(&self) -> HashSet<&str> {
        let saved = self.settled.iter().filter(|settled| settled.outcome.kind.is_saved());
        saved.map(|settled| settled.outcome.path.as_str()).collect()
    }

    /// Whether anything was said of a package.
    pub(super) fn has_told(&self, path: &str) -> bool {
        self.settled.iter().any(|settled| settled.outcome.path == path)
    }

    /// Ends the run.
    pub(super) fn close(&mut self, store: Store) {
        for settled in &mut self.settled {
            let is_held = settled.held.as_ref().is_some_and(|held| store.holds(held));
            if settled.outcome.kind == OutcomeKind::Held && settled.held.is_some() && !is_held {
                // its batch was cut short, and finished by the next one
                settled.outcome.kind = match settled.history {
                    _ if settled.outcome.new_path.is_some() => OutcomeKind::Moved,
                    History::Removed => OutcomeKind::Restored,
                    History::New | History::HeldBefore | History::HeldAndAtRisk => OutcomeKind::Resigned,
                };
                settled.outcome.reason = None;
            }
        }
        let told = |settled: &&Settled| settled.outcome.kind == OutcomeKind::Held && is_told_of(self.command, settled);
        let told: HashSet<_> = self.settled.iter().filter(told).filter_map(|settled| settled.held.clone()).collect();
        self.still_held = store.records().len().saturating_sub(told.len());
        if let Err(error) = store.finish() {
            log::warn!("{error}; what is held is found all the same");
        }
    }

    pub(super) fn into_report(self) -> Report {
        let told = self.settled.into_iter().filter(|settled| is_told_of(self.command, settled));
        let outcomes = told.map(|settled| settled.outcome).collect();
        let report = Report::new(self.command, self.mode, outcomes, self.began.elapsed());
        let status = match (&self.error, &self.not_configured) {
            // a package that may be lost is more than a configuration that is wrong
            (Some(_), _) if report.counts.exposed > 0 => report.status,
            (Some(_), _) => Status::Error,
            (None, Some(_)) => Status::NotConfigured,
            (None, None) => report.status,
        };
        let error = self.error.map(|error| error.to_string());
        Report { status, error, still_held: self.still_held, not_configured: self.not_configured, ..report }
    }
}

/// A package that was held before and could not be signed now either is counted in a sync, and not told of anew.
fn is_told_of(command: &str, settled: &Settled) -> bool {
    let kind = settled.outcome.kind;
    command != "apply" || settled.history != History::HeldBefore || kind.is_saved() || kind == OutcomeKind::Exposed
}
