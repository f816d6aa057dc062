//! PKGDIR, its index, what is held, and what the next sync would find.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Doctor, sync};
use crate::commands::{self, Error, Run};
use crate::package::gpkg::Container;
use crate::pkgdir::store::{self, Store};
use crate::plan::Work;
use crate::portage::index::PackageIndex;
use crate::portage::updates::Selection;

/// PKGDIR and its index: readable, writable, in agreement.
pub(super) fn packages(doctor: &mut Doctor, run: &Run<'_>) -> Result<(), Error> {
    let pkgdir = run.settings.pkgdir()?;
    let shown = pkgdir.display();
    if !pkgdir.is_dir() {
        doctor.warn("pkgdir", format!("PKGDIR {shown} is not there yet"), "the first package that is built makes it");
        return Ok(());
    }
    match rustix::fs::access(pkgdir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::READ_OK) {
        Ok(()) => doctor.ok("pkgdir", format!("PKGDIR {shown} can be written")),
        Err(error) => {
            doctor.problem("pkgdir", format!("PKGDIR {shown} cannot be written: {error}"), "run this as root")
        }
    }
    match commands::read_index(pkgdir) {
        Ok(Some(index)) => agreement(doctor, pkgdir, &index),
        Ok(None) => doctor.ok("index", "there are no packages yet"),
        Err(error) => doctor.problem("index", error.to_string(), "binpkg-resign index"),
    }
    Ok(())
}

fn agreement(doctor: &mut Doctor, pkgdir: &Path, index: &PackageIndex) {
    let mut wrong = Vec::new();
    for entry in (0..index.len()).filter_map(|number| index.entry(number)) {
        let Some(path) = entry.get("PATH") else { continue };
        let Ok(full) = store::below(pkgdir, path) else {
            wrong.push(path.to_owned());
            continue;
        };
        let fits = full.symlink_metadata().is_ok_and(|facts| {
            entry.get("SIZE").is_none_or(|size| *size == facts.size().to_string())
                && entry.get("MTIME").is_none_or(|mtime| *mtime == facts.mtime().to_string())
        });
        if !fits {
            wrong.push(path.to_owned());
        }
    }
    if wrong.is_empty() {
        doctor.ok("index", format!("the index agrees with its {} packages", index.len()));
    } else {
        let first = wrong.first().cloned().unwrap_or_default();
        let text = format!("the index does not agree with {} of {} packages ({first} …)", wrong.len(), index.len());
        doctor.problem("index", text, "binpkg-resign index; `binpkg-resign verify` looks closer");
    }
}

pub(super) fn held(doctor: &mut Doctor, run: &Run<'_>) -> Result<(), Error> {
    let count = Store::held_packages(run.settings.pkgdir()?)?.len();
    if count == 0 {
        doctor.ok("held", "no package is held");
    } else {
        doctor.warn(
            "held",
            format!("{count} packages are held"),
            "`binpkg-resign held` says why; `held retry` tries again",
        );
    }
    Ok(())
}

/// What the next emerge would do to signed packages, and what earlier ones have done that no run of ours saw.
pub(super) fn next_emerge(doctor: &mut Doctor, run: &Run<'_>) -> Result<(), Error> {
    let pkgdir = run.settings.pkgdir()?;
    let Ok(Some(index)) = commands::read_index(pkgdir) else { return Ok(()) };
    let signed_works = |selection| {
        let updates = commands::read_updates(run.settings, selection)?;
        let plan = commands::apply::make_plan(run.settings, &index, &updates, pkgdir)?;
        Ok::<Vec<Work>, Error>(plan.works.into_iter().filter(|work| is_signed(pkgdir, &work.path)).collect())
    };
    let pending = signed_works(Selection::Pending)?;
    next_pass(doctor, run, &pending)?;
    let all = signed_works(Selection::All)?;
    let left: Vec<&Work> = (all.iter())
        .filter(|work| !work.copies.is_empty() && !pending.iter().any(|waiting| waiting.path == work.path))
        .collect();
    unseen_passes(doctor, &left);
    Ok(())
}

/// The next update pass: what it changes in a signed package, it removes; what has another name now, it passes over.
fn next_pass(doctor: &mut Doctor, run: &Run<'_>, works: &[Work]) -> Result<(), Error> {
    let (removed, stale): (Vec<&Work>, Vec<&Work>) = works.iter().partition(|work| work.in_place.is_some());
    if works.is_empty() {
        doctor.ok("pending", "the next emerge removes no signed package");
        return Ok(());
    }
    let text = format!(
        "the next emerge removes {} signed packages{}, and leaves {} under names that are no more",
        removed.len(),
        example(&removed),
        stale.len()
    );
    let fix = "run `binpkg-resign apply` first (`apply --pretend` shows what it does)";
    if sync::moves_are_off(run)? {
        doctor.warn("pending", format!("without --package-moves=n, {text}"), fix);
    } else {
        doctor.problem("pending", text, fix);
    }
    Ok(())
}

/// Packages that a pass has passed over: it ran without us before it, and may have removed others.
fn unseen_passes(doctor: &mut Doctor, left: &[&Work]) {
    if left.is_empty() {
        doctor.ok("processed", "nothing shows that Portage has processed updates behind our back");
        return;
    }
    doctor.warn(
        "processed",
        format!(
            "Portage has processed updates that no run of ours saw: {} signed packages have names that are no more{}; \
             others it may have removed",
            left.len(),
            example(left)
        ),
        "`binpkg-resign apply --all` brings up to date what is there; doc/syncing.md says how to be in time",
    );
}

fn example(works: &[&Work]) -> String {
    works.first().map(|work| format!(" ({} …)", work.cpv)).unwrap_or_default()
}

fn is_signed(pkgdir: &Path, path: &str) -> bool {
    let Ok((file, _)) = store::open_package(pkgdir, path) else { return false };
    Container::open(file, &pkgdir.join(path)).and_then(|container| container.has_signatures()).unwrap_or(true)
}
