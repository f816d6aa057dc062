//! PKGDIR, its index, what is held, and what the next sync would find.

use std::collections::HashSet;

use super::Doctor;
use crate::commands::{Error, Run};
use crate::pkgdir::Pkgdir;
use crate::pkgdir::agreement::differs_from_file;
use crate::pkgdir::store::Reader;
use crate::portage::index::PackageIndex;
use crate::portage::names::{PkgPath, SUFFIX};
use crate::portage::updates::Selection;
use crate::report::plural;

/// PKGDIR and its index: readable, writable, in agreement.
pub(super) fn packages(doctor: &mut Doctor, run: &Run<'_>) -> Result<(), Error> {
    let shown = run.settings.pkgdir()?.display();
    let Some(pkgdir) = run.pkgdir()? else {
        doctor.warn("pkgdir", format!("PKGDIR {shown} is not there yet"), "the first package that is built makes it");
        return Ok(());
    };
    match pkgdir.check_writable() {
        Ok(()) => doctor.ok("pkgdir", format!("PKGDIR {shown} can be written")),
        Err(error) => doctor.problem("pkgdir", error.to_string(), "run this as root"),
    }
    match pkgdir.read_index() {
        Ok(Some(index)) => agreement(doctor, &pkgdir, &index)?,
        Ok(None) if pkgdir.has_packages() => {
            let text = format!("{shown} has packages and no index");
            doctor.problem("index", text, "`binpkg-resign index` makes it");
        }
        Ok(None) => doctor.ok("index", "there are no packages yet"),
        Err(error) => doctor.problem("index", error.to_string(), "`binpkg-resign index` makes it anew"),
    }
    Ok(())
}

fn agreement(doctor: &mut Doctor, pkgdir: &Pkgdir, index: &PackageIndex) -> Result<(), Error> {
    let mut wrong = Vec::new();
    let mut listed: HashSet<String> = HashSet::new();
    for entry in index.entries() {
        // what is no gpkg is none of our business
        let Some(path) = entry.get("PATH").filter(|path| path.ends_with(SUFFIX)) else { continue };
        let there = PkgPath::new(path).ok().and_then(|path| pkgdir.open_package(&path).ok());
        if there.is_none_or(|there| differs_from_file(&entry, &there.identity).is_some()) {
            wrong.push(path.to_owned());
        }
        listed.insert(path.to_owned());
    }
    let files = pkgdir.packages()?;
    let unlisted: Vec<&PkgPath> =
        files.iter().map(|file| &file.path).filter(|path| !listed.contains(path.as_str())).collect();
    if let Some(first) = wrong.first() {
        let text = format!("the index does not agree with {} of {} packages ({first} …)", wrong.len(), listed.len());
        doctor.problem("index", text, "`binpkg-resign index` corrects it; `binpkg-resign verify` looks closer");
    } else if let Some(first) = unlisted.first() {
        let files = plural(unlisted.len(), "package file is", "package files are");
        let text = format!("{files} not in the index ({first} …): neither Portage nor a client sees them");
        doctor.problem("index", text, "`binpkg-resign index` adds them");
    } else {
        doctor.ok("index", format!("the index agrees with its {}", plural(listed.len(), "package", "packages")));
    }
    Ok(())
}

pub(super) fn held(doctor: &mut Doctor, run: &Run<'_>) -> Result<(), Error> {
    let count = match run.pkgdir()? {
        Some(pkgdir) => Reader::new(&pkgdir)?.records()?.len(),
        None => 0,
    };
    if count == 0 {
        doctor.ok("held", "no package is held");
    } else {
        doctor.warn(
            "held",
            plural(count, "package is held", "packages are held"),
            "`binpkg-resign held` says why; `held retry` tries again",
        );
    }
    Ok(())
}

/// How many packages the updates concern that Portage has yet to process.
pub(super) fn next_sync(doctor: &mut Doctor, run: &Run<'_>) -> Result<(), Error> {
    let updates = run.updates(Selection::Pending)?;
    let concerned = match run.pkgdir()? {
        Some(pkgdir) => run.concerned(&updates, &pkgdir).map_or(0, |concerned| concerned.jobs.len()),
        None => 0,
    };
    if concerned == 0 {
        doctor.ok("pending", "no package waits for an update");
    } else {
        doctor.warn(
            "pending",
            format!("{concerned} packages wait for updates: the next emerge applies them, and no hook runs before it"),
            "run `binpkg-resign apply` first (`apply --pretend` shows what it does)",
        );
    }
    Ok(())
}
