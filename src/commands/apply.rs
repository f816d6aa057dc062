//! `apply`: the whole walk, from the settings to the report.
//!
//! It goes in rounds: what the updates concern is signed and put in place, then it is planned once more over what is
//! there by then. A run ends well only when that plan is empty but for what is held, or somebody else's: so a package
//! that another program has changed meanwhile is taken up again, and nothing is believed done because a stage said so.

use std::collections::{HashMap, HashSet};

use super::account::Account;
use super::concerned::Concerned;
use super::net::{NetRun, Removed};
use super::{Error, Mode, Run};
use crate::outcome::{Outcome, OutcomeKind, Reason};
use crate::pkgdir::store::{Reader, Store};
use crate::pkgdir::{Identity, Pkgdir};
use crate::portage::names::PkgPath;
use crate::portage::settings::{NetSetting, Signing};
use crate::portage::updates::{Selection, UpdateSet};
use crate::report::Report;
use crate::resign::{self, History, Job, Purpose, Results, Settled};

/// So often a package is taken up that another program changes while it is being signed.
const ROUNDS: usize = 3;

/// Applies updates to the signed binary packages that are ours: in PKGDIR, and in every other one that Portage's passes
/// go over as well, as that of the running root where ROOT is set.
#[must_use]
pub(crate) fn apply(run: &Run<'_>, selection: Selection) -> Report {
    let report = apply_to_one(run, selection);
    match run.settings.other_pkgdirs() {
        Ok(others) => others.iter().fold(report, |report, settings| {
            let terminal = run.terminal.clone();
            report.and(apply_to_one(&Run { settings, terminal, ..*run }, selection))
        }),
        Err(error) => report.and(Report::of_error("apply", run.mode, error.to_string())),
    }
}

fn apply_to_one(run: &Run<'_>, selection: Selection) -> Report {
    let mut account = Account::new("apply", run.mode);
    if let Err(error) = walk(run, selection, &mut account) {
        account.fail(error);
    }
    account.into_report()
}

fn walk(run: &Run<'_>, selection: Selection, account: &mut Account) -> Result<(), Error> {
    let Some(signing) = run.settings.signing()? else {
        account.not_configured(run.why_not_configured()?, run.audience());
        return keep_net_for_the_host_that_signs(run, account);
    };
    let updates = run.updates(selection)?;
    for problem in &updates.problems {
        log::warn!("{problem}");
    }
    let Some(pkgdir) = run.pkgdir()? else { return Ok(()) };
    // what is wrong with it must not keep packages from their backups
    let (net, no_net) = match run.stale_net(&pkgdir) {
        Ok(net) => (net, None),
        Err(error) => (None, Some(error)),
    };
    if updates.is_empty() && !pkgdir.has_state() && net.is_none() {
        return no_net.map_or(Ok(()), Err);
    }
    // planned without the lock: most runs have nothing to do, and leave no trace
    let planned_from = pkgdir.index_identity();
    let mut concerned = run.concerned(&updates, &pkgdir)?;
    concerned.only_hold = concerned.only_hold.or(no_net);
    let situation = Situation { signing: &signing, updates: &updates, pkgdir: &pkgdir, planned_from };
    match run.mode {
        Mode::Pretend => pretend(run, &situation, concerned, net, account),
        Mode::Real => save(run, &situation, concerned, net, account),
    }
}

/// What a run has found.
struct Situation<'s> {
    signing: &'s Signing,
    updates: &'s UpdateSet,
    pkgdir: &'s Pkgdir,
    /// The index that was planned from.
    planned_from: Option<Identity>,
}

/// A builder that does not sign can have a net, by choice: what Portage removed is held for the host that signs.
fn keep_net_for_the_host_that_signs(run: &Run<'_>, account: &mut Account) -> Result<(), Error> {
    if run.settings.net()? != NetSetting::Yes || run.mode == Mode::Pretend {
        return Ok(());
    }
    let Some(pkgdir) = run.pkgdir()? else { return Ok(()) };
    let Some(mut net) = run.stale_net(&pkgdir)? else { return Ok(()) };
    let mut store = run.open_store(&pkgdir)?;
    for failed in run.take_back(&mut net, &mut store) {
        log::error!("{}: {}", failed.path, failed.reason.map(|reason| reason.to_string()).unwrap_or_default());
    }
    account.add(net.removed.iter().map(|removed| Outcome { kind: OutcomeKind::Held, ..removed.outcome() }));
    run.fill_net(Some(&net), &store);
    account.close(store);
    Ok(())
}

fn pretend(
    run: &Run<'_>,
    situation: &Situation<'_>,
    concerned: Concerned,
    net: Option<NetRun>,
    account: &mut Account,
) -> Result<(), Error> {
    let Situation { signing, pkgdir, .. } = *situation;
    account.add(net.iter().flat_map(|net| &net.removed).map(Removed::outcome));
    let reader = Reader::new(pkgdir)?;
    account.still_held(reader.records()?.len());
    account.add(concerned.astray);
    let (outcomes, error) = match concerned.only_hold {
        None => run.pretend(signing, &concerned.repository, &reader, &concerned.jobs, Purpose::Updates),
        Some(error) => {
            let reason = Reason::Setup(error.to_string().into());
            (resign::would_keep_all(&reader, &concerned.jobs, Purpose::Updates, &reason), Some(error))
        }
    };
    account.add(outcomes);
    error.map_or(Ok(()), Err)
}

fn save(
    run: &Run<'_>,
    situation: &Situation<'_>,
    mut concerned: Concerned,
    mut net: Option<NetRun>,
    account: &mut Account,
) -> Result<(), Error> {
    let Situation { signing, updates, pkgdir, planned_from } = *situation;
    if concerned.jobs.is_empty() && concerned.astray.is_empty() && !pkgdir.has_state() && net.is_none() {
        return concerned.only_hold.map_or(Ok(()), Err);
    }
    let mut store = match run.open_store(pkgdir) {
        Ok(store) => store,
        Err(error) if is_for_the_net_alone(&concerned, net.as_ref(), pkgdir) => {
            log::warn!("the safety net could not be filled: {error}");
            return Ok(());
        }
        Err(error) => {
            expose(account, concerned, &error);
            return Err(error);
        }
    };
    if let Some(net) = &mut net {
        account.add(run.take_back(net, &mut store));
    }
    // another run had the lock meanwhile: what it has done must not be done again
    if pkgdir.index_identity() != planned_from || !store.holds_nothing() {
        let only_hold = concerned.only_hold.take();
        concerned = run.concerned(updates, pkgdir)?;
        concerned.only_hold = concerned.only_hold.or(only_hold);
    }
    account.add(std::mem::take(&mut concerned.astray));
    // what was held before is safe, and must not keep others from their backups
    let held = run.jobs_for_held(&store.reader(), &store.records(), store.removed()).unwrap_or_else(|error| {
        account.fail(error);
        Vec::new()
    });
    take_in_held(&mut concerned.jobs, held);
    let ended = Rounds { run, signing, updates, store: &mut store, account, passed_over: HashMap::new() }.go(concerned);
    run.fill_net(net.as_ref(), &store);
    account.close(store);
    ended
}

/// Packages that are held already have a job of their own, in which the updates they are held for come first. One that
/// lies in its place as well is in Portage's reach there if the updates that are pending now concern it.
fn take_in_held(jobs: &mut Vec<Job>, mut held: Vec<Job>) {
    let at_risk: HashSet<PkgPath> =
        jobs.iter().filter(|job| job.work.is_at_risk()).filter_map(Job::file).cloned().collect();
    for job in &mut held {
        if job.file().is_some_and(|path| at_risk.contains(path)) {
            job.history = History::HeldAndAtRisk;
        }
    }
    let held_in_place: HashSet<&PkgPath> = held.iter().filter_map(Job::file).collect();
    jobs.retain(|job| job.file().is_none_or(|path| !held_in_place.contains(path)));
    jobs.extend(held);
}

/// Whether a run would only fill the net: that it cannot is no danger to any package now.
fn is_for_the_net_alone(concerned: &Concerned, net: Option<&NetRun>, pkgdir: &Pkgdir) -> bool {
    let nothing_else = concerned.jobs.is_empty() && concerned.astray.is_empty() && concerned.only_hold.is_none();
    nothing_else && !pkgdir.has_state() && net.is_none_or(|net| net.removed.is_empty())
}

/// Nothing can be written at all.
fn expose(account: &mut Account, concerned: Concerned, error: &Error) {
    let reason = Reason::Setup(error.to_string().into());
    account.add(concerned.astray);
    account.add(concerned.jobs.iter().map(|job| {
        let kind = if job.work.is_at_risk() { OutcomeKind::Exposed } else { OutcomeKind::Skipped };
        job.outcome(kind, Some(reason.clone()))
    }));
}

/// The rounds of a run.
struct Rounds<'r> {
    run: &'r Run<'r>,
    signing: &'r Signing,
    updates: &'r UpdateSet,
    store: &'r mut Store,
    account: &'r mut Account,
    /// Packages that are somebody else's business, as long as they stay what they were.
    passed_over: HashMap<PkgPath, Option<Identity>>,
}

impl Rounds<'_> {
    fn go(&mut self, mut concerned: Concerned) -> Result<(), Error> {
        for _ in 0..ROUNDS {
            if concerned.jobs.is_empty() {
                return Ok(());
            }
            if self.run.interrupt.signal().is_some() {
                break;
            }
            self.run.begin(self.store, &mut concerned.jobs);
            let (results, error) = match concerned.only_hold.take() {
                None => {
                    let (repository, purpose) = (&concerned.repository, Purpose::Updates);
                    self.run.resign(self.signing, repository, self.store, &concerned.jobs, purpose)
                }
                Some(error) => {
                    let reason = Reason::Setup(error.to_string().into());
                    (resign::keep_all(self.store, &concerned.jobs, &reason), Some(error))
                }
            };
            self.take_in(results);
            if let Err(error) = self.store.finish_interrupted_batch() {
                log::error!("a batch could not be finished: {error}; the next run tries again");
            }
            if let Some(error) = error {
                return Err(error);
            }
            // the next plan is made over a whole index, and needs none of these
            concerned.jobs = Vec::new();
            concerned = self.still_concerned()?;
        }
        self.hold(concerned.jobs);
        Ok(())
    }

    fn take_in(&mut self, results: Results) {
        self.passed_over.extend(results.passed_over);
        self.account.add_round(results.settled);
    }

    /// The closing check: what Portage's pass would still be concerned with, as everything lies now.
    fn still_concerned(&self) -> Result<Concerned, Error> {
        self.run.concerned_among(self.updates, self.store.pkgdir(), |path| !self.is_settled(path))
    }

    fn is_settled(&self, path: &PkgPath) -> bool {
        let Ok(there) = self.store.pkgdir().identity(path) else {
            // it was told of, and can be told of only once
            return self.account.has_told(path.as_str());
        };
        // what an earlier run has held and this one could not settle lies there, within reach, and nobody was told
        let is_held = || self.account.has_told(path.as_str()) && self.store.is_held_as_it_is(path);
        there.is_none() || self.passed_over.get(path) == Some(&there) || is_held()
    }

    /// What is still not done after so many rounds, or when a signal came, is kept safe.
    fn hold(&mut self, mut jobs: Vec<Job>) {
        self.run.begin(self.store, &mut jobs);
        let saved = self.account.saved();
        let settled = jobs.into_iter().map(|job| {
            let was_saved = saved.contains(job.work.path.as_str());
            let reason = match self.run.interrupt.signal() {
                Some(_) => Reason::Interrupted,
                None if was_saved => Reason::StillConcerned,
                None => Reason::Changing,
            };
            let kind = resign::keep(self.store, &job, &reason);
            let held = job.backup.as_ref().and_then(|backup| backup.held().cloned());
            Settled { history: job.history, outcome: job.outcome(kind, Some(reason)), held }
        });
        let settled: Vec<Settled> = settled.collect();
        self.account.add_round(settled);
    }
}
