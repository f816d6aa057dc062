//! The safety net of a run: which packages Portage's update pass has removed while no hook ran, and filling it anew.
//!
//! A pass changes every package that an update line concerns. So a line explains that a package is gone unless another
//! package that it concerns is still what it was, or the package went before that line came to this machine. What no line
//! explains, its user or eclean-pkg removed. In doubt a package comes back: one too many can be removed again.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};

use super::{Error, Run};
use crate::outcome::{Outcome, OutcomeKind, Reason};
use crate::pkgdir::Pkgdir;
use crate::pkgdir::store::{Caught, Net, NetPlace, Reader, Record, Remark, Store};
use crate::plan::Work;
use crate::portage::atom::CpvBuf;
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
            metadata: Vec::new(),
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
    /// What is gone, whoever removed it: only of these is it known what is to become of their links.
    gone: HashSet<PkgPath>,
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
        let Some(net) = net.filter(|_| state.is_some()) else {
            return Ok(Some(NetRun { removed: Vec::new(), gone: HashSet::new() }));
        };
        let (gone, there): (Vec<Caught>, Vec<Caught>) = net.gone_and_there(pkgdir);
        let paths = gone.iter().map(|caught| caught.path.clone()).collect();
        let mut removed =
            if gone.is_empty() { Vec::new() } else { self.removed_by_portage(&net, gone, &there, pkgdir)? };
        if !removed.is_empty() {
            // a run held it before Portage's pass came: it is not for the net to bring it back
            let reader = Reader::new(pkgdir)?;
            let records = reader.records()?;
            removed.retain(|removed| !is_held(&net, &removed.caught, &reader, &records));
        }
        Ok(Some(NetRun { removed, gone: paths }))
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

    /// Which of the packages that are gone Portage's pass has removed; `there` are those that are what they were.
    fn removed_by_portage(
        &self,
        net: &Net,
        gone: Vec<Caught>,
        there: &[Caught],
        pkgdir: &Pkgdir,
    ) -> Result<Vec<Removed>, Error> {
        let Some(index) = net.old_index() else {
            // nobody can tell any more what was to be changed in them
            return Ok(gone.into_iter().filter_map(|caught| record(None, None, caught)).collect());
        };
        // all of them: `emaint movebin` and `fixpackages` take every file, and a container may remember nothing
        let updates = self.updates(Selection::All)?;
        let works = self.plan(&index, &updates, pkgdir)?.works;
        let touched: HashMap<PkgPath, Work> =
            works.into_iter().filter(Work::is_at_risk).map(|work| (work.path.clone(), work)).collect();
        let left = there.iter().filter_map(|caught| touched.get(&caught.path)).flat_map(lines).collect();
        let mut last_loss: HashMap<String, Time> = HashMap::new();
        for (line, lost) in gone
            .iter()
            .filter_map(|caught| Some((touched.get(&caught.path)?, net.lost_at(caught)?)))
            .flat_map(|(work, lost)| lines(work).map(move |line| (line.to_owned(), lost)))
        {
            let last = last_loss.entry(line).or_insert(lost);
            *last = lost.max(*last);
        }
        let (processed, written) = (self.remembered()?, self.mtimedb_written()?);
        let evidence = Evidence { left, last_loss, updates: &updates, processed, written };
        let explained = |caught: &Caught| {
            let lost = net.lost_at(caught);
            touched.get(&caught.path).is_some_and(|work| lines(work).any(|line| evidence.explains(line, lost)))
        };
        let removed = gone.into_iter().filter(explained);
        Ok(removed.filter_map(|caught| record(Some(&index), touched.get(&caught.path), caught)).collect())
    }

    /// When Portage last wrote what it remembers of update files; none where it never did.
    fn mtimedb_written(&self) -> Result<Option<Time>, Error> {
        let paths = [Some(self.settings.mtimedb_path()?), self.settings.second_mtimedb_path()?];
        let written = paths.iter().flatten().map(|path| rustix::fs::stat(path).ok());
        Ok(written.map(|facts| facts.map(|facts| (facts.st_mtime, facts.st_mtime_nsec as i64))).min().flatten())
    }

    /// Gives what was removed back to the store, as held packages; returns what is said of those that cannot be given
    /// back now. They stay in the net, which is not filled anew before they are.
    pub(super) fn take_back(&self, net: &mut NetRun, store: &mut Store) -> Vec<Outcome> {
        let open = Net::look(store.pkgdir()).unwrap_or_else(|error| {
            log::error!("{error}");
            None
        });
        if open.is_none() {
            net.gone.clear();
        }
        let mut failed = Vec::new();
        for removed in &net.removed {
            let held = open.as_ref().map(|open| store.hold_from_net(open, &removed.caught, removed.record.clone()));
            if let Some(Err(error)) = held {
                net.gone.remove(&removed.record.path);
                let reason = Some(Reason::Pkgdir(std::sync::Arc::new(error)));
                failed.push(Outcome { kind: OutcomeKind::Held, reason, ..removed.outcome() });
            }
        }
        failed
    }

    /// Fills the net from what is there now; `net` is what was found out of what is gone.
    pub(super) fn fill_net(&self, net: Option<&NetRun>, store: &Store) {
        if let Err(error) = self.try_to_fill_net(net, store) {
            log::warn!("the safety net could not be filled: {error}");
        }
    }

    fn try_to_fill_net(&self, net: Option<&NetRun>, store: &Store) -> Result<(), Error> {
        let pkgdir = store.pkgdir();
        let Some(place) = self.net_place(pkgdir)? else { return Ok(()) };
        let Some(open) = Net::open(pkgdir, place, store)? else { return Ok(()) };
        if Net::is_current(open.state().as_ref(), pkgdir) {
            return Ok(());
        }
        // a link goes only where it is known why its package has gone: what went meanwhile is for the next run to judge
        let judged = |caught: &Caught| net.is_some_and(|net| net.gone.contains(&caught.path));
        if open.state().is_some() && !open.gone_and_there(pkgdir).0.iter().all(judged) {
            log::info!("packages have gone meanwhile: the safety net stays as it is until the next run");
            return Ok(());
        }
        Ok(open.fill(pkgdir)?)
    }
}

/// Whether the very file that the net has is held as well.
fn is_held(net: &Net, caught: &Caught, reader: &Reader, records: &[Record]) -> bool {
    let is_same = |record: &Record| reader.open_held(&record.held).is_ok_and(|held| net.has(caught, &held));
    records.iter().filter(|record| record.path == caught.path).any(is_same)
}

/// What the net still has of held packages that are about to be given up, and that PKGDIR does not have any more; none
/// where there is no net.
pub(super) fn given_up(reader: &Reader, records: &[Record]) -> Option<(Net, Vec<Caught>)> {
    let net = Net::look(reader.pkgdir()).ok().flatten()?;
    let (gone, _) = net.gone_and_there(reader.pkgdir());
    let given_up = gone.into_iter().filter(|caught| is_held(&net, caught, reader, records)).collect();
    Some((net, given_up))
}

/// Seconds and nanoseconds since the epoch.
type Time = (i64, i64);

/// What there is to be known of update lines.
struct Evidence<'e> {
    /// Lines that concern a package that is still what it was: no pass has come to them.
    left: HashSet<&'e str>,
    /// Of each line, when the last of the packages that it concerns went.
    last_loss: HashMap<String, Time>,
    updates: &'e UpdateSet,
    /// What Portage remembers of the update files.
    processed: Mtimedb,
    /// When it wrote that down.
    written: Option<Time>,
}

impl Evidence<'_> {
    /// Whether a pass with this line can have removed a package that went at `lost`.
    fn explains(&self, line: &str, lost: Option<Time>) -> bool {
        !self.left.contains(line) && !lost.is_some_and(|lost| self.came_later(line, lost))
    }

    /// Whether it is certain that the line came to this machine after `lost`: the file was made later, and it is the very
    /// one that a pass has read since. A file that only grew later proves nothing.
    fn came_later(&self, line: &str, lost: Time) -> bool {
        let mut files = self.updates.repos.iter().flat_map(|repo| repo.updates.iter());
        let Some(file) = files.find(|update| update.text == line).map(|update| &*update.file) else { return false };
        let Some((born, mtime)) = born(file).filter(|(born, _)| lost < *born) else { return false };
        let was_read = self.last_loss.get(line).is_some_and(|last| *last >= born);
        // mtimes are remembered in whole seconds: a file that grew within the second in which another was read looks read
        was_read || (self.processed.mtime(file) == Some(mtime) && self.written >= Some(born))
    }
}

/// When a file came into being here, and its mtime in seconds; none where the filesystem does not tell. Other than the
/// mtime, that does not move when a file gets another owner or a further link.
fn born(file: &Path) -> Option<(Time, i64)> {
    let facts = rustix::fs::statx(CWD, file, AtFlags::empty(), StatxFlags::BASIC_STATS | StatxFlags::BTIME).ok()?;
    let known = StatxFlags::from_bits_retain(facts.stx_mask).contains(StatxFlags::BTIME);
    known.then(|| ((facts.stx_btime.tv_sec, facts.stx_btime.tv_nsec.into()), facts.stx_mtime.tv_sec))
}

/// The update lines for which a pass would remove a package.
fn lines(work: &Work) -> impl Iterator<Item = &str> {
    work.in_place.iter().flat_map(|edit| &edit.changes).map(|change| change.update.as_str())
}

/// What is held of a package; without the old index its block is made from the file.
fn record(index: Option<&PackageIndex>, work: Option<&Work>, caught: Caught) -> Option<Removed> {
    let entry: Option<Entry> = match (index, work) {
        (Some(index), Some(work)) => Some(index.entry(work.number)?),
        _ => None,
    };
    let get = |key: &str| entry.as_ref().and_then(|entry| entry.get(key));
    let mut updates: Vec<String> = Vec::new();
    for change in
        work.into_iter().flat_map(|work| work.in_place.iter().chain(&work.copies)).flat_map(|edit| &edit.changes)
    {
        if !updates.contains(&change.update) {
            updates.push(change.update.clone());
        }
    }
    let path = caught.path.clone();
    let text = "Portage's update pass had removed it".to_owned();
    let record = Record {
        cpv: work.map(|work| work.cpv.clone()).or_else(|| get("CPV").and_then(CpvBuf::new)),
        build_id: get("BUILD_ID").and_then(BuildId::new),
        size: get("SIZE").and_then(|size| size.parse().ok()).unwrap_or_default(),
        held: path.clone(),
        path,
        since: 0,
        reason: Some(Remark { code: "removed-by-portage".to_owned(), text }),
        updates,
        entry: entry.as_ref().map(Entry::to_text).unwrap_or_default(),
    };
    Some(Removed { caught, record })
}
