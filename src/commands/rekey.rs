//! `rekey`: signs again what a migrated key has signed, every package of the index, updates or not.

use super::account::Account;
use super::{Error, Mode, Run};
use crate::pkgdir::Pkgdir;
use crate::pkgdir::store::Reader;
use crate::portage::index::PackageIndex;
use crate::report::Report;
use crate::resign::{Job, Purpose};

/// Signs every package of the migrated keys (`BINPKG_GPG_SIGNING_KEY_MIGRATION`) anew.
///
/// Portage removes none of them meanwhile, and a new package takes its place in one step, so nothing is held here.
#[must_use]
pub(crate) fn rekey(run: &Run<'_>) -> Report {
    let mut account = Account::new("rekey", run.mode);
    if let Err(error) = walk(run, &mut account) {
        account.fail(error);
    }
    account.into_report()
}

fn walk(run: &Run<'_>, account: &mut Account) -> Result<(), Error> {
    let settings = run.settings;
    let Some(signing) = settings.signing()? else {
        account.not_configured(run.why_not_configured()?, run.audience());
        return Ok(());
    };
    let Some(pkgdir) = run.pkgdir()? else { return Ok(()) };
    for others in run.signers(&signing, &pkgdir)?.iter().filter(|signers| signers.is_unnamed()) {
        log::warn!("{}: {}", others.text(), others.advice());
    }
    if settings.key_migrations()?.is_empty() {
        log::warn!("BINPKG_GPG_SIGNING_KEY_MIGRATION is not set (OLD=NEW, fingerprints): no key has been replaced");
        return Ok(());
    }
    if run.mode == Mode::Pretend {
        let Some(index) = read_index(&pkgdir)? else { return Ok(()) };
        let reader = Reader::new(&pkgdir)?;
        let (outcomes, error) = run.pretend(&signing, repository(&index), &reader, &jobs(&index), Purpose::Rekey);
        account.add(outcomes);
        return error.map_or(Ok(()), Err);
    }
    if read_index(&pkgdir)?.is_none() {
        return Ok(());
    }
    run.refusals()?.forget();
    let mut store = run.open_store(&pkgdir)?;
    // with the lock, since another run may have had it until now
    let mut ended = Ok(());
    if let Some(index) = read_index(&pkgdir)? {
        let (results, error) = run.resign(&signing, repository(&index), &mut store, &jobs(&index), Purpose::Rekey);
        account.add_round(results.settled);
        ended = error.map_or(Ok(()), Err);
    }
    account.close(store);
    ended
}

fn repository(index: &PackageIndex) -> &str {
    index.header("REPO").unwrap_or_default()
}

fn read_index(pkgdir: &Pkgdir) -> Result<Option<PackageIndex>, Error> {
    match pkgdir.read_index()? {
        None if pkgdir.has_packages() => Err(Error::NoIndex { pkgdir: pkgdir.path().to_owned() }),
        index => Ok(index),
    }
}

/// Every package of the index, to stay what it is.
fn jobs(index: &PackageIndex) -> Vec<Job> {
    index.entries().enumerate().filter_map(|(number, base)| Job::unchanged(number, base)).collect()
}
