//! Which packages the updates concern: the plan over what Portage's pass will see, as jobs.

use std::collections::HashMap;

use super::{Error, Run};
use crate::outcome::{Outcome, OutcomeKind, Reason};
use crate::package::gpkg::Container;
use crate::pkgdir::from_files::FromFiles;
use crate::pkgdir::{Pkgdir, PkgdirError};
use crate::plan::{self, Collision, Doom, Overwrites, Plan, Situation, Work};
use crate::portage::atom::CpvBuf;
use crate::portage::index::PackageIndex;
use crate::portage::names::PkgPath;
use crate::portage::updates::UpdateSet;
use crate::resign::Job;

/// What the updates concern.
#[derive(Default)]
pub(super) struct Concerned {
    /// The packages, in the index's order.
    pub(super) jobs: Vec<Job>,
    /// Those whose path leads out of PKGDIR: there is nothing to be done about them.
    pub(super) astray: Vec<Outcome>,
    /// The repository of packages of which the index names none.
    pub(super) repository: String,
    /// Why packages can only be kept safe: there is no index that could be written.
    pub(super) only_hold: Option<Error>,
}

/// What Portage's pass sees of PKGDIR.
enum Seen {
    /// The index.
    Index(PackageIndex),
    /// The files, and the index if it can be used.
    Files(FromFiles, Option<PackageIndex>),
    /// No package.
    Nothing,
}

impl Run<'_> {
    /// What these updates ask for, package by package.
    pub(super) fn concerned(&self, updates: &UpdateSet, pkgdir: &Pkgdir) -> Result<Concerned, Error> {
        self.concerned_among(updates, pkgdir, |_| true)
    }

    /// The same for those packages of which `counts` says that they count; of others nothing is kept in memory.
    pub(super) fn concerned_among(
        &self,
        updates: &UpdateSet,
        pkgdir: &Pkgdir,
        counts: impl Fn(&PkgPath) -> bool,
    ) -> Result<Concerned, Error> {
        if updates.is_empty() {
            return Ok(Concerned::default());
        }
        let (seen, only_hold) = self.what_portage_sees(pkgdir)?;
        let (index, base) = match &seen {
            Seen::Nothing => return Ok(Concerned { only_hold, ..Concerned::default() }),
            Seen::Index(index) => (index, Some(index)),
            Seen::Files(files, index) => (&files.index, index.as_ref()),
        };
        let repository = index.header("REPO").unwrap_or_default().to_owned();
        let plan = self.plan(index, updates, pkgdir)?;
        let astray = plan.astray.iter().map(astray).collect();
        let entry = |number| match &seen {
            Seen::Files(files, _) => files.base(base, number),
            Seen::Index(_) | Seen::Nothing => index.entry(number),
        };
        let Plan { works, collisions, .. } = plan;
        let jobs = works.into_iter().filter(|work| counts(&work.path)).filter_map(|work| {
            let base = entry(work.number)?;
            Some(Job::new(work, base))
        });
        let mut jobs: Vec<Job> = jobs.collect();
        foresee_collisions(&mut jobs, &collisions, index, pkgdir);
        jobs.retain(|job| counts(&job.work.path));
        jobs.shrink_to_fit();
        Ok(Concerned { jobs, astray, repository, only_hold })
    }

    /// Foresees Portage's pass over an index.
    pub(super) fn plan(&self, index: &PackageIndex, updates: &UpdateSet, pkgdir: &Pkgdir) -> Result<Plan, Error> {
        let main_repository = self.settings.repositories()?.main().map(|repository| repository.name.as_str());
        let is_taken = |path: &str| PkgPath::new(path).map_or(true, |path| pkgdir.is_taken(&path));
        let layout = self.layout()?;
        Ok(plan::plan(&Situation { index, updates, main_repository, layout, is_taken: &is_taken }))
    }

    /// With a trusted index Portage does not look at the files; without, it reads them all. An index that it cannot read
    /// it takes as empty.
    fn what_portage_sees(&self, pkgdir: &Pkgdir) -> Result<(Seen, Option<Error>), Error> {
        let trusted = self.settings.trusts_index()?;
        let no_index = || Error::NoIndex { pkgdir: pkgdir.path().to_owned() };
        let (index, error) = match pkgdir.read_index() {
            Ok(Some(index)) if trusted => return Ok((Seen::Index(index), None)),
            Ok(Some(index)) => (Some(index), None),
            Ok(None) if !pkgdir.has_packages() => return Ok((Seen::Nothing, None)),
            Ok(None) => (None, Some(no_index())),
            Err(error @ PkgdirError::Index(_)) => (None, Some(error.into())),
            // Portage follows what we do not
            Err(error) => {
                let files = FromFiles::read(None, pkgdir, &self.codec()?)?;
                return Ok((Seen::Files(files, None), Some(error.into())));
            }
        };
        match (trusted, error) {
            // it sees no package, and so removes none
            (true, Some(error)) => Err(error),
            (_, error) => {
                let files = FromFiles::read(index.as_ref(), pkgdir, &self.codec()?)?;
                Ok((Seen::Files(files, index), error))
            }
        }
    }
}

fn astray(astray: &plan::Astray) -> Outcome {
    Outcome {
        path: astray.path.clone(),
        cpv: Some(astray.cpv.clone()),
        build_id: None,
        kind: OutcomeKind::Exposed,
        new_path: None,
        changes: Vec::new(),
        metadata: Vec::new(),
        reason: Some(Reason::Astray),
        since: None,
        size: None,
    }
}

/// In the flat layout Portage moves an unsigned package over another one of its new name. Where that other one is
/// signed, it is kept safe before.
fn foresee_collisions(jobs: &mut Vec<Job>, collisions: &[Collision], index: &PackageIndex, pkgdir: &Pkgdir) {
    if collisions.is_empty() {
        return;
    }
    let is_signed = |path: &PkgPath| {
        let opened = pkgdir.open_package(path).ok()?;
        let container = Container::open(opened.file, &pkgdir.path().join(path.as_str()));
        container.and_then(|container| container.has_signatures()).ok()
    };
    let by_path = index.by_path();
    let mut places: HashMap<PkgPath, usize> =
        jobs.iter().enumerate().map(|(place, job)| (job.work.path.clone(), place)).collect();
    for collision in collisions.iter().filter(|collision| collision.overwrites == Overwrites::Yes) {
        let paths = (PkgPath::new(&collision.source_path), PkgPath::new(&collision.destination));
        let (Ok(source_path), Ok(path)) = paths else { continue };
        if is_signed(&source_path) != Some(false) || is_signed(&path) == Some(false) {
            continue;
        }
        let doom = Doom::Overwritten { source_path, update: collision.update.clone() };
        if let Some(job) = places.get(&path).and_then(|&place| jobs.get_mut(place)) {
            job.work.doomed = Some(doom);
            continue;
        }
        let found = by_path.get(path.as_str()).and_then(|numbers| numbers.first());
        let Some((number, base)) = found.and_then(|&number| Some((number, index.entry(number)?))) else { continue };
        let Some(cpv) = base.get("CPV").and_then(CpvBuf::new) else { continue };
        let work = Work {
            number,
            path: path.clone(),
            cpv,
            build_id: base.get("BUILD_ID").and_then(crate::portage::names::BuildId::new),
            in_place: None,
            copies: Vec::new(),
            doomed: Some(doom),
        };
        places.insert(path, jobs.len());
        jobs.push(Job::new(work, base));
    }
}
