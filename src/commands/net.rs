//! The safety net of a run: which packages Portage's update pass has removed while no hook ran, and filling it anew.
//!
//! A package that is gone was removed by the pass if update files that Portage has processed since the net was filled
//! would have changed it, and if it went after those files came. What is gone otherwise, its user or eclean-pkg removed.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Error, Run};
use crate::outcome::{Outcome, OutcomeKind, Reason};
use crate::pkgdir::Pkgdir;
use crate::pkgdir::store::{Caught, Net, NetPlace, NetState, Record, Remark, Store};
use crate::plan::Work;
use crate::portage::index::{Entry, PackageIndex};
use crate::portage::names::{BuildId, PkgPath};
use crate::portage::settings::NetSetting;
use crate::portage::updates::{Mtimedb, Selection, UpdateSet};

/// A package that Portage's pass has removed.
pub(super) struct Removed {
    caught: Caught,
    record: Record,
}

impl Removed {
    /// What is said of it where nothing is written.
    pub(super) fn outcome(&self) -> Outcome {
        Outcome {
            path: self.record.path.to_string(),
            cpv: self.record.cpv.clone(),
            build_id: self.record.build_id,
            kind: OutcomeKind::Restored,
            new_path: None,
            changes: Vec::new(),
            reason: self.record.reason.clone().map(Reason::Remembered),
            since: None,
            size: None,
        }
    }
}

/// The net of a run that found it out of date.
pub(super) struct NetRun {
    /// What Portage's pass has removed since it was filled.
    pub(super) removed: Vec<Removed>,
}

impl Run<'_> {
    /// The net, where there is to be one and the index has changed since it was filled; none where there is nothing to
    /// do about it.
    pub(super) fn stale_net(&self, pkgdir: &Pkgdir) -> Result<Option<NetRun>, Error> {
        if self.net_place(pkgdir)?.is_none() {
            return Ok(None);
        }
        let net = match Net::look(pkgdir) {
            Ok(net) => net,
            Err(error) => {
                log::warn!("there is no safety net: {error}");
                return Ok(None);
            }
        };
        let state = net.as_ref().and_then(Net::state);
        if Net::is_current(state.as_ref(), pkgdir) {
            return Ok(None);
        }
        let removed = match (&net, &state) {
            (Some(net), Some(state)) => self.removed_by_portage(net, state, pkgdir)?,
            _ => Vec::new(),
        };
        Ok(Some(NetRun { removed }))
    }

    /// Where the net is to lie; none where there is to be none.
    fn net_place(&self, pkgdir: &Pkgdir) -> Result<Option<NetPlace>, Error> {
        Ok(match self.settings.net()? {
            NetSetting::No => None,
            NetSetting::Auto if !Net::can_be_beside(pkgdir) => None,
            NetSetting::Auto => Some(NetPlace::Beside),
            NetSetting::Yes => Some(NetPlace::BesideOrInside),
        })
    }

    /// Which packages of the net Portage's pass has removed.
    fn removed_by_portage(&self, net: &Net, state: &NetState, pkgdir: &Pkgdir) -> Result<Vec<Removed>, Error> {
        let gone = net.gone(pkgdir);
        let Some(index) = net.old_index().filter(|_| !gone.is_empty()) else { return Ok(Vec::new()) };
        let then: Mtimedb = state.mtimes.iter().map(|(file, mtime)| (file.clone(), *mtime)).collect();
        let processed = self.processed_since(&then)?;
        let touched = self.touched(&index, &processed, pkgdir)?;
        let mut removed = Vec::new();
        let mut unexplained = Vec::new();
        for caught in gone {
            match touched.get(&caught.path) {
                // what went before the update came was removed by somebody else
                Some(work) if net.lost_at(&caught).is_none_or(|lost| lost >= came(&processed, work)) => {
                    removed.extend(record(&index, work, caught));
                }
                Some(_) => {}
                None => unexplained.push(caught),
            }
        }
        removed.extend(self.removed_by_movebin(&index, unexplained, pkgdir)?);
        Ok(removed)
    }

    /// `emaint movebin` and `fixpackages` take every update file, whatever Portage remembers; a container may remember
    /// nothing. They leave no package behind that any update would change.
    fn removed_by_movebin(
        &self,
        index: &PackageIndex,
        gone: Vec<Caught>,
        pkgdir: &Pkgdir,
    ) -> Result<Vec<Removed>, Error> {
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let all = self.updates(Selection::All)?;
        let touched = self.touched(index, &all, pkgdir)?;
        let is_touched = |caught: &Caught| touched.contains_key(&caught.path);
        if !gone.iter().any(is_touched) || self.is_any_left(&all, pkgdir)? {
            return Ok(Vec::new());
        }
        let found = gone.into_iter().filter_map(|caught| record(index, touched.get(&caught.path)?, caught));
        Ok(found.collect())
    }

    /// Whether a package lies there that these updates would change.
    fn is_any_left(&self, updates: &UpdateSet, pkgdir: &Pkgdir) -> Result<bool, Error> {
        let Ok(Some(index)) = pkgdir.read_index() else { return Ok(false) };
        let touched = self.touched(&index, updates, pkgdir)?;
        Ok(touched.keys().any(|path| pkgdir.is_taken(path)))
    }

    /// The packages of an index that a pass with these updates would remove if they were signed.
    fn touched(
        &self,
        index: &PackageIndex,
        updates: &UpdateSet,
        pkgdir: &Pkgdir,
    ) -> Result<HashMap<PkgPath, Work>, Error> {
        if updates.is_empty() {
            return Ok(HashMap::new());
        }
        let works = self.plan(index, updates, pkgdir)?.works;
        Ok(works.into_iter().filter(Work::is_at_risk).map(|work| (work.path.clone(), work)).collect())
    }

    /// The updates that Portage has processed since it remembered `then`. Where it remembers nothing at all, nobody can
    /// tell, and all that were pending then count.
    fn processed_since(&self, then: &Mtimedb) -> Result<UpdateSet, Error> {
        let mut updates = self.updates_not_in(then)?;
        if self.settings.mtimedb_path()?.exists() {
            let now = self.remembered()?;
            let mut known: HashMap<std::sync::Arc<Path>, bool> = HashMap::new();
            updates.retain(|update| {
                *known.entry(update.file.clone()).or_insert_with(|| {
                    update.file.metadata().is_ok_and(|facts| now.mtime(&update.file) == Some(facts.mtime()))
                })
            });
        }
        Ok(updates)
    }

    /// Gives what was removed back to the store, as held packages.
    pub(super) fn take_back(&self, net: &NetRun, store: &mut Store) {
        let Ok(Some(open)) = Net::look(store.pkgdir()) else { return };
        for removed in &net.removed {
            match store.hold_from_net(&open, &removed.caught, removed.record.clone()) {
                Ok(()) => {}
                Err(error) => log::error!("{} cannot be brought back: {error}", removed.record.path),
            }
        }
    }

    /// Fills the net from what is there now.
    pub(super) fn fill_net(&self, store: &Store) {
        if let Err(error) = self.try_to_fill_net(store) {
            log::warn!("the safety net could not be filled: {error}");
        }
    }

    fn try_to_fill_net(&self, store: &Store) -> Result<(), Error> {
        let pkgdir = store.pkgdir();
        let Some(place) = self.net_place(pkgdir)? else { return Ok(()) };
        let Some(net) = Net::open(pkgdir, place, store)? else { return Ok(()) };
        if Net::is_current(net.state().as_ref(), pkgdir) {
            return Ok(());
        }
        let mtimes = self.remembered()?.iter().map(|(file, mtime)| (file.to_owned(), mtime)).collect();
        Ok(net.fill(pkgdir, mtimes)?)
    }
}

/// When the first of the updates that concern a package came to this machine, in seconds and nanoseconds since the
/// epoch: a file that is checked out, copied or linked anew has that as its time of change.
fn came(updates: &UpdateSet, work: &Work) -> (i64, i64) {
    let texts: HashSet<&str> =
        work.in_place.iter().flat_map(|edit| &edit.changes).map(|change| change.update.as_str()).collect();
    let files = updates.repos.iter().flat_map(|repo| repo.updates.iter());
    let files: HashSet<&Path> =
        files.filter(|update| texts.contains(update.text.as_str())).map(|update| &*update.file).collect();
    let times =
        files.into_iter().filter_map(|file| file.metadata().ok()).map(|facts| (facts.ctime(), facts.ctime_nsec()));
    times.min().unwrap_or((i64::MIN, 0))
}

fn record(index: &PackageIndex, work: &Work, caught: Caught) -> Option<Removed> {
    let entry: Entry = index.entry(work.number)?;
    let mut updates: Vec<String> = Vec::new();
    for change in work.in_place.iter().chain(&work.copies).flat_map(|edit| &edit.changes) {
        if !updates.contains(&change.update) {
            updates.push(change.update.clone());
        }
    }
    let text = "Portage's update pass had removed it".to_owned();
    let record = Record {
        path: work.path.clone(),
        held: work.path.clone(),
        cpv: work.cpv.clone(),
        build_id: entry.get("BUILD_ID").and_then(BuildId::new),
        size: entry.get("SIZE").and_then(|size| size.parse().ok()).unwrap_or_default(),
        since: 0,
        reason: Some(Remark { code: "removed-by-portage".to_owned(), text }),
        updates,
        entry: entry.to_text(),
    };
    Some(Removed { caught, record })
}
