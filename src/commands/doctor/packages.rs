//! PKGDIR, its index, what is held, the safety net, what the next emerge would remove, and what earlier ones have.

use std::collections::HashSet;

use super::{Doctor, sync};
use crate::commands::{Error, Run};
use crate::package::gpkg::Container;
use crate::pkgdir::Pkgdir;
use crate::pkgdir::agreement::differs_from_file;
use crate::pkgdir::store::{Net, Reader};
use crate::plan::Work;
use crate::portage::index::PackageIndex;
use crate::portage::names::{PkgPath, SUFFIX};
use crate::portage::settings::NetSetting;
use crate::portage::updates::Selection;
use crate::report::{bytes, plural};

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
        let text = format!(
            "the index does not agree with {} of its {} ({first} …)",
            wrong.len(),
            plural(listed.len(), "package", "packages")
        );
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

/// Whether what Portage removes behind our back can be brought back.
pub(super) fn net(doctor: &mut Doctor, run: &Run<'_>) -> Result<(), Error> {
    let Some(pkgdir) = run.pkgdir()? else { return Ok(()) };
    let setting = run.settings.net()?;
    let fix = "set BINPKG_RESIGN_NET=\"yes\" in make.conf to have it in PKGDIR/.binpkg-resign; a mirror of PKGDIR then carries it";
    match Net::look(&pkgdir) {
        Ok(Some(net)) if setting == NetSetting::No => {
            let path = net.path().display().to_string();
            let text = format!("BINPKG_RESIGN_NET=no, and the net of earlier, {path}, still keeps what it had then");
            doctor.warn("net", text, &format!("remove it with `rm -r {path}`, or switch the net on again"));
        }
        _ if setting == NetSetting::No => doctor.ok("net", "there is no safety net (BINPKG_RESIGN_NET=no)"),
        _ if setting == NetSetting::Auto && !Net::can_be_beside(&pkgdir) => {
            let text =
                "there is no safety net: PKGDIR is a mount point of its own, and beside it is another filesystem";
            doctor.warn("net", text, fix);
        }
        Ok(Some(net)) => {
            let (count, alone) = net.size();
            let text = format!(
                "the safety net {} has {}; {} lie nowhere else",
                net.path().display(),
                plural(count, "package", "packages"),
                bytes(alone)
            );
            doctor.ok("net", text);
        }
        Ok(None) => doctor.ok("net", "the next `binpkg-resign apply` makes the safety net"),
        Err(error) => doctor.warn("net", format!("there is no safety net: {error}"), "move that folder away"),
    }
    Ok(())
}

/// What the next emerge would do to signed packages, and what earlier ones have done that no run of ours saw.
pub(super) fn next_emerge(doctor: &mut Doctor, run: &Run<'_>) -> Result<(), Error> {
    let Some(pkgdir) = run.pkgdir()? else { return Ok(()) };
    let signed_works = |selection| {
        // an index that cannot be read has been told of
        let jobs = run.concerned(&run.updates(selection)?, &pkgdir).map_or(Vec::new(), |concerned| concerned.jobs);
        let works = jobs.into_iter().map(|job| job.work);
        Ok::<Vec<Work>, Error>(works.filter(|work| is_signed(&pkgdir, &work.path)).collect())
    };
    let held = held_in_place(&pkgdir)?;
    let not_held = |works: Vec<Work>| works.into_iter().filter(|work| !held.contains(&work.path)).collect::<Vec<_>>();
    let pending = not_held(signed_works(Selection::Pending)?);
    next_pass(doctor, run, &pending)?;
    let all = not_held(signed_works(Selection::All)?);
    let left: Vec<&Work> = (all.iter())
        .filter(|work| !work.copies.is_empty() && !pending.iter().any(|waiting| waiting.path == work.path))
        .collect();
    // a setting that is wrong was told of
    let net = if run.settings.net().is_ok() { run.stale_net(&pkgdir)? } else { None };
    let removed = net.map_or(0, |net| net.removed.len());
    unseen_passes(doctor, removed, &left);
    Ok(())
}

/// Packages that Portage has not removed yet, and that are held: they have been told of.
fn held_in_place(pkgdir: &Pkgdir) -> Result<HashSet<PkgPath>, Error> {
    let reader = Reader::new(pkgdir)?;
    let records = reader.records()?;
    Ok(records.into_iter().filter(|record| reader.is_in_place(record)).map(|record| record.path).collect())
}

/// The next update pass: what it changes in a signed package, it removes; what has another name now, it passes over.
fn next_pass(doctor: &mut Doctor, run: &Run<'_>, works: &[Work]) -> Result<(), Error> {
    let (removed, stale): (Vec<&Work>, Vec<&Work>) = works.iter().partition(|work| work.is_at_risk());
    if works.is_empty() {
        doctor.ok("pending", "the next emerge removes no signed package");
        return Ok(());
    }
    let text = format!(
        "the next emerge removes {}{}, and leaves {} under names that are no more",
        plural(removed.len(), "signed package", "signed packages"),
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

/// Packages that a pass has removed, as the net knows, or has passed over: it ran without us before it, and may have
/// removed others.
fn unseen_passes(doctor: &mut Doctor, removed: usize, left: &[&Work]) {
    if removed > 0 {
        let packages = plural(removed, "signed package", "signed packages");
        doctor.warn(
            "processed",
            format!("Portage has processed updates that no run of ours saw, and removed {packages}; the net has them"),
            "`binpkg-resign apply` brings them back; doc/syncing.md says how to be in time",
        );
        return;
    }
    if left.is_empty() {
        doctor.ok("processed", "nothing shows that Portage has processed updates behind our back");
        return;
    }
    doctor.warn(
        "processed",
        format!(
            "Portage has processed updates that no run of ours saw: {} with a name that is no more{}; \
             others it may have removed",
            plural(left.len(), "signed package", "signed packages"),
            example(left)
        ),
        "`binpkg-resign apply --all` brings up to date what is there; doc/syncing.md says how to be in time",
    );
}

fn example(works: &[&Work]) -> String {
    works.first().map(|work| format!(" ({} …)", work.cpv)).unwrap_or_default()
}

fn is_signed(pkgdir: &Pkgdir, path: &PkgPath) -> bool {
    let Ok(opened) = pkgdir.open_package(path) else { return false };
    let container = Container::open(opened.file, &pkgdir.path().join(path.as_str()));
    container.and_then(|container| container.has_signatures()).unwrap_or(true)
}
