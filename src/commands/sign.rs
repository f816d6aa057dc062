//! `sign`: signs packages that nobody has signed yet, as `gpkg-sign` does, and brings their blocks of the index up to
//! date. It is how a host that never signed begins to.
//!
//! A package is signed as it is, so a run vouches for whatever lies in PKGDIR: it is asked for by name, says first what
//! it is about to vouch for, and takes only what agrees with its own Manifest, its name and its block of the index. A new
//! package takes its place in one step, and Portage removes no unsigned one meanwhile, so nothing is held here.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::account::Account;
use super::named::path_below;
use super::{Error, Mode, Run};
use crate::outcome::{Outcome, OutcomeKind, Reason};
use crate::package::gpkg::Container;
use crate::package::verify::Refusal;
use crate::pkgdir::Pkgdir;
use crate::pkgdir::store::Reader;
use crate::portage::index::{Entry, PackageIndex};
use crate::portage::names::PkgPath;
use crate::portage::settings::Signing;
use crate::report::{Audience, Report, plural};
use crate::resign::{Crew, Job, Purpose};

/// Which packages are to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted<'w> {
    /// Every one that is not signed.
    All,
    /// These, by name or file.
    Named(&'w [String]),
}

/// Signs the packages that are wanted and that nobody has signed.
#[must_use]
pub(crate) fn sign(run: &Run<'_>, wanted: &Wanted<'_>) -> Report {
    let mut account = Account::new("sign", run.mode);
    if let Err(error) = walk(run, wanted, &mut account) {
        account.fail(error);
    }
    account.into_report()
}

fn walk(run: &Run<'_>, wanted: &Wanted<'_>, account: &mut Account) -> Result<(), Error> {
    let Some(signing) = run.settings.signing()? else {
        // asked for by name
        account.not_configured(run.why_not_configured()?, Audience::Person);
        return Ok(());
    };
    let Some(pkgdir) = run.pkgdir()? else {
        return match wanted {
            Wanted::Named([name, ..]) => Err(Error::NoSuchPackage { name: name.clone() }),
            Wanted::Named([]) | Wanted::All => Ok(()),
        };
    };
    let found = survey(&pkgdir, wanted)?;
    // what a run left that was cut short is finished first, which may be all that there is to do
    let is_idle = found.jobs.is_empty() && !pkgdir.has_state();
    if is_idle || run.mode == Mode::Pretend {
        account.add(found.outcomes);
        return if found.jobs.is_empty() { Ok(()) } else { pretend(run, &signing, &pkgdir, &found.jobs, account) };
    }
    run.refusals()?.forget();
    let mut store = run.open_store(&pkgdir)?;
    // with the lock, since another run may have had it until now
    let Found { jobs, outcomes, repository } = survey(&pkgdir, wanted)?;
    account.add(outcomes);
    if jobs.is_empty() {
        account.close(store);
        return Ok(());
    }
    let reader = store.reader();
    let signed = run.with_crew(&signing, &repository, &reader, Purpose::Sign, |crew| {
        announce(crew, &jobs);
        crew.keyring.problem().map_or_else(|| Ok(crew.run(&mut store, &jobs)), Err)
    });
    let ended = match signed {
        Ok(Ok(Ok(results))) => {
            account.add_round(results.settled);
            Ok(())
        }
        Ok(Ok(Err(problem))) => Err(Error::KeyProblem(problem)),
        Ok(Err(error)) => Err(error.into()),
        Err(error) => Err(error),
    };
    account.close(store);
    ended
}

fn pretend(
    run: &Run<'_>,
    signing: &Signing,
    pkgdir: &Pkgdir,
    jobs: &[Job],
    account: &mut Account,
) -> Result<(), Error> {
    let reader = Reader::new(pkgdir)?;
    let repository = pkgdir.read_index()?.and_then(|index| index.header("REPO").map(str::to_owned)).unwrap_or_default();
    let outcomes = run.with_crew(signing, &repository, &reader, Purpose::Sign, |crew| {
        announce(crew, jobs);
        crew.keyring.problem().map_or_else(|| Ok(crew.pretend(jobs)), Err)
    })?;
    account.add(outcomes?.map_err(Error::KeyProblem)?);
    Ok(())
}

/// What there is to sign.
#[derive(Default)]
struct Found {
    jobs: Vec<Job>,
    /// What is said of packages that are not signed.
    outcomes: Vec<Outcome>,
    /// The repository of packages of which the index names none.
    repository: String,
}

/// Finds the packages that are wanted and have no signature.
fn survey(pkgdir: &Pkgdir, wanted: &Wanted<'_>) -> Result<Found, Error> {
    let index = match pkgdir.read_index()? {
        Some(index) => index,
        None if pkgdir.has_packages() => return Err(Error::NoIndex { pkgdir: pkgdir.path().to_owned() }),
        None => return Ok(Found::default()),
    };
    let mut found = Found { repository: index.header("REPO").unwrap_or_default().to_owned(), ..Found::default() };
    let (jobs, mut unlisted) = candidates(pkgdir, &index)?;
    let jobs = match wanted {
        Wanted::All => jobs,
        Wanted::Named(names) => {
            let mut chosen: Vec<Job> = Vec::new();
            let mut left = jobs;
            let mut chosen_unlisted: Vec<PkgPath> = Vec::new();
            for name in *names {
                let below = path_below(pkgdir, Path::new(name));
                let (called, others): (Vec<Job>, Vec<Job>) =
                    left.into_iter().partition(|job| is_called(job, name, below.as_ref()));
                left = others;
                let named_twice = chosen.iter().any(|job| is_called(job, name, below.as_ref()));
                let file = unlisted.iter().find(|path| below.as_ref() == Some(path)).cloned();
                if called.is_empty() && !named_twice && file.is_none() {
                    return Err(Error::NoSuchPackage { name: name.clone() });
                }
                chosen.extend(called);
                chosen_unlisted.extend(file);
            }
            unlisted = chosen_unlisted;
            chosen
        }
    };
    for job in jobs {
        match (look_at(pkgdir, &job.work.path), wanted) {
            (Looked::Unsigned, _) => found.jobs.push(job),
            (Looked::Signed, Wanted::All) => {}
            (Looked::Signed, Wanted::Named(_)) => {
                found.outcomes.push(job.outcome(OutcomeKind::Skipped, Some(Reason::SignedAlready)));
            }
            (Looked::Bad(reason), _) => found.outcomes.push(job.outcome(OutcomeKind::Skipped, Some(reason))),
        }
    }
    for path in unlisted {
        if matches!(look_at(pkgdir, &path), Looked::Unsigned) {
            found.outcomes.push(unlisted_outcome(&path));
        }
    }
    Ok(found)
}

/// The packages of the index, each once, and the files that it does not have.
fn candidates(pkgdir: &Pkgdir, index: &PackageIndex) -> Result<(Vec<Job>, Vec<PkgPath>), Error> {
    let mut listed: HashSet<PkgPath> = HashSet::new();
    let jobs = index.entries().enumerate().filter_map(|(number, base)| Job::unchanged(number, base));
    let jobs: Vec<Job> = jobs.filter(|job| listed.insert(job.work.path.clone())).collect();
    let files = pkgdir.packages()?.into_iter().map(|file| file.path);
    Ok((jobs, files.filter(|path| !listed.contains(path)).collect()))
}

fn is_called(job: &Job, name: &str, below: Option<&PkgPath>) -> bool {
    let shown = job.outcome(OutcomeKind::Skipped, None).name();
    [job.work.path.as_str(), job.work.cpv.as_str(), &shown].contains(&name) || below == Some(&job.work.path)
}

/// How a package looks before anything is verified.
enum Looked {
    Unsigned,
    Signed,
    Bad(Reason),
}

fn look_at(pkgdir: &Pkgdir, path: &PkgPath) -> Looked {
    let opened = match pkgdir.open_package(path) {
        Ok(opened) => opened,
        Err(error) if error.is_absence() => return Looked::Bad(Reason::Missing),
        Err(error) => return Looked::Bad(Reason::Pkgdir(Arc::new(error))),
    };
    let shown = pkgdir.path().join(path.as_str());
    let signatures = Container::open(opened.file, &shown)
        .and_then(|container| Ok((container.has_signatures()?, container.part_without_signature()?)));
    match signatures {
        Ok((false, _)) => Looked::Unsigned,
        Ok((true, None)) => Looked::Signed,
        Ok((true, Some(part))) => Looked::Bad(Reason::Refused(Arc::new(Refusal::NoSignature { path: shown, part }))),
        Err(error) => Looked::Bad(Reason::Container(Arc::new(error))),
    }
}

fn unlisted_outcome(path: &PkgPath) -> Outcome {
    Outcome {
        path: path.to_string(),
        cpv: None,
        build_id: None,
        kind: OutcomeKind::Skipped,
        new_path: None,
        changes: Vec::new(),
        metadata: Vec::new(),
        reason: Some(Reason::Unlisted),
        since: None,
        size: None,
    }
}

/// Says what is about to be vouched for.
fn announce(crew: &Crew<'_>, jobs: &[Job]) {
    let packages = plural(jobs.len(), "package", "packages");
    log::warn!("signing {packages} as {} vouches for all that is in them:", crew.keyring.user_id());
    let mut by_repository: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for job in jobs {
        let repository = job.base.get("REPO").unwrap_or(crew.repository);
        by_repository.entry(repository).or_default().push(&job.base);
    }
    for (repository, entries) in by_repository {
        let count = plural(entries.len(), "package", "packages");
        let from =
            if repository.is_empty() { "no repository".to_owned() } else { format!("the repository {repository}") };
        let times = entries.iter().filter_map(|entry| entry.get("BUILD_TIME")?.parse::<u64>().ok());
        let (first, last) = (times.clone().min(), times.max());
        let built = match first.zip(last).map(|(first, last)| (date(first), date(last))) {
            Some((first, last)) if first == last => format!("built on {first}"),
            Some((first, last)) => format!("built from {first} to {last}"),
            None => "built nobody knows when".to_owned(),
        };
        log::warn!("    {count} from {from}, {built}");
    }
}

/// A day of the Gregorian calendar, UTC, from seconds since the epoch.
fn date(seconds: u64) -> String {
    // days of a year that begins in March, so that the leap day is its last
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{}-{month:02}-{day:02}", year_of_era + era * 400 + carry)
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn seconds_are_a_day() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_700_000_000, "2023-11-14"),
            (1_735_689_599, "2024-12-31"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(seconds), day);
        }
    }
}
