//! PKGDIR, its index, what is held, and what the next sync would find.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Doctor;
use crate::commands::{self, Error, Run};
use crate::pkgdir::store::{self, Store};
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
        Err(error) => doctor.problem("index", error.to_string(), "emaint binhost --fix"),
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
        doctor.problem("index", text, "emaint binhost --fix; `binpkg-resign verify` looks closer");
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

/// How many packages the updates concern that Portage has yet to process.
pub(super) fn next_sync(doctor: &mut Doctor, run: &Run<'_>) -> Result<(), Error> {
    let updates = commands::read_updates(run.settings, Selection::Pending)?;
    let concerned = match commands::read_index(run.settings.pkgdir()?) {
        Ok(Some(index)) => {
            commands::apply::make_plan(run.settings, &index, &updates, run.settings.pkgdir()?)?.works.len()
        }
        _ => 0,
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
