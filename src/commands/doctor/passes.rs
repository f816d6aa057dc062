//! What the next emerge would do to signed packages, and what earlier ones have done that no run of ours saw.

use std::collections::HashSet;

use super::{Doctor, sync};
use crate::commands::signers::{Maker, maker, owner_of};
use crate::commands::{Error, Run};
use crate::package::openpgp::{Keyring, Owner};
use crate::pkgdir::store::Reader;
use crate::pkgdir::{Pkgdir, PkgdirError};
use crate::plan::Work;
use crate::portage::fingerprint::KeyHandle;
use crate::portage::names::PkgPath;
use crate::portage::settings::{Foreign, NetSetting};
use crate::portage::updates::Selection;
use crate::report::plural;

/// A signed package that updates concern.
struct Signed {
    work: Work,
    /// The key that it says it is signed by; none where that is unclear.
    key: Option<KeyHandle>,
}

/// Signed packages by what a run of ours does about them.
#[derive(Default)]
struct Piles {
    /// They are signed again, or held.
    ours: Vec<Signed>,
    /// They are somebody else's, and left to Portage.
    foreign: Vec<Signed>,
}

pub(super) fn passes(doctor: &mut Doctor, run: &Run<'_>, pkgdir: &Pkgdir) -> Result<(), Error> {
    let held = held_in_place(pkgdir)?;
    let pending = signed(run, pkgdir, Selection::Pending, &held)?;
    let mut left = signed(run, pkgdir, Selection::All, &held)?;
    let waiting: HashSet<&PkgPath> = pending.iter().map(|one| &one.work.path).collect();
    left.retain(|one| !one.work.copies.is_empty() && !waiting.contains(&one.work.path));
    // a setting that is wrong was told of
    let net = if run.settings.net().is_ok() { run.stale_net(pkgdir)? } else { None };
    let removed = net.map_or(0, |net| net.removed.len());
    let Some(signing) = run.settings.signing()? else {
        next_pass_without_us(doctor, run, &pending)?;
        unseen_passes(doctor, removed, &left, &Advice::where_nothing_is_signed(run));
        return Ok(());
    };
    let keyring = match pending.is_empty() && left.is_empty() {
        true => None,
        // where the keys, or settings, cannot be used, everything is held
        false => run.open_keyring(&signing).ok().and_then(Result::ok),
    };
    let piles = Piles::of(pending, run, keyring.as_ref())?;
    next_pass(doctor, run, &piles)?;
    let left = Piles::of(left, run, keyring.as_ref())?.ours;
    unseen_passes(doctor, removed, &left, &Advice::where_packages_are_signed());
    Ok(())
}

/// Packages that Portage has not removed yet, and that are held: they have been told of.
fn held_in_place(pkgdir: &Pkgdir) -> Result<HashSet<PkgPath>, Error> {
    let reader = Reader::new(pkgdir)?;
    let records = reader.records()?;
    Ok(records.into_iter().filter(|record| reader.is_in_place(record)).map(|record| record.path).collect())
}

/// The signed packages that these updates concern, and that are not held.
fn signed(run: &Run<'_>, pkgdir: &Pkgdir, selection: Selection, held: &HashSet<PkgPath>) -> Result<Vec<Signed>, Error> {
    let jobs = match run.concerned(&run.updates(selection)?, pkgdir) {
        Ok(concerned) => concerned.jobs,
        // Portage sees no package there, and removes none; the index has been told of
        Err(Error::NoIndex { .. } | Error::Pkgdir(PkgdirError::Index(_))) => Vec::new(),
        Err(error) => return Err(error),
    };
    let works = jobs.into_iter().map(|job| job.work).filter(|work| !held.contains(&work.path));
    Ok(works.filter_map(|work| Signed::read(work, pkgdir)).collect())
}

impl Signed {
    /// None where it is not signed, or is not there any more.
    fn read(work: Work, pkgdir: &Pkgdir) -> Option<Signed> {
        let opened = pkgdir.open_package(&work.path).ok()?;
        match maker(opened.file, &pkgdir.path().join(work.path.as_str())) {
            Maker::Nobody => None,
            Maker::Key(key) => Some(Signed { work, key: Some(key) }),
            Maker::Unclear => Some(Signed { work, key: None }),
        }
    }
}

impl Piles {
    fn of(all: Vec<Signed>, run: &Run<'_>, keyring: Option<&Keyring>) -> Result<Piles, Error> {
        let leaves_foreign = run.settings.foreign().is_ok_and(|foreign| foreign == Foreign::Leave);
        let mut piles = Piles::default();
        for signed in all {
            let is_foreign = match (keyring, &signed.key) {
                (Some(keyring), Some(key)) => leaves_foreign && owner_of(keyring, key)? == Owner::Other,
                _ => false,
            };
            if is_foreign { &mut piles.foreign } else { &mut piles.ours }.push(signed);
        }
        piles.foreign.retain(|signed| signed.work.is_at_risk());
        Ok(piles)
    }
}

/// The next update pass: what it changes in a signed package, it removes; what has another name now, it passes over.
fn next_pass(doctor: &mut Doctor, run: &Run<'_>, piles: &Piles) -> Result<(), Error> {
    let whose = if piles.foreign.is_empty() { "signed package" } else { "signed package of ours" };
    if piles.ours.is_empty() {
        doctor.ok("pending", format!("the next emerge removes no {whose}"));
    } else {
        let text = removes(&piles.ours);
        let fix = "run `binpkg-resign apply` first (`apply --pretend` shows what it does)";
        if sync::moves_are_off(run)? {
            doctor.warn("pending", format!("without --package-moves=n, {text}"), fix);
        } else {
            doctor.problem("pending", text, fix);
        }
    }
    if !piles.foreign.is_empty() {
        let packages = plural(piles.foreign.len(), "package", "packages");
        let text = format!("the next emerge removes {packages} signed by somebody else{}", example(&piles.foreign));
        let fix =
            "that is as it was set; BINPKG_RESIGN_FOREIGN=\"hold\" in make.conf has `binpkg-resign apply` hold them";
        doctor.warn("foreign", unless_moves_are_off(run, text)?, fix);
    }
    Ok(())
}

/// The same where packages are not signed, and so nothing is done about them.
fn next_pass_without_us(doctor: &mut Doctor, run: &Run<'_>, pending: &[Signed]) -> Result<(), Error> {
    if pending.is_empty() {
        doctor.ok("pending", "the next emerge removes no signed package");
        return Ok(());
    }
    let fix = match run.settings.net() {
        Ok(NetSetting::Yes) => {
            "`binpkg-resign apply` before and after it holds what it removes, for the host that signs them"
        }
        _ => {
            "they are signed again only where signing is set up; with BINPKG_RESIGN_NET=\"yes\" in make.conf \
             `binpkg-resign apply`, before and after it, holds what it removes"
        }
    };
    doctor.warn("pending", unless_moves_are_off(run, removes(pending))?, fix);
    Ok(())
}

fn unless_moves_are_off(run: &Run<'_>, text: String) -> Result<String, Error> {
    Ok(if sync::moves_are_off(run)? { format!("without --package-moves=n, {text}") } else { text })
}

fn removes(pending: &[Signed]) -> String {
    let (removed, stale): (Vec<&Signed>, Vec<&Signed>) = pending.iter().partition(|signed| signed.work.is_at_risk());
    format!(
        "the next emerge removes {}{}, and leaves {} under names that are no more",
        plural(removed.len(), "signed package", "signed packages"),
        example(removed),
        stale.len()
    )
}

/// What can be done about packages after a pass that ran without us.
struct Advice {
    for_removed: &'static str,
    for_left: &'static str,
}

impl Advice {
    fn where_packages_are_signed() -> Advice {
        Advice {
            for_removed: "`binpkg-resign apply` brings them back; doc/syncing.md says how to be in time",
            for_left: "`binpkg-resign apply --all` brings up to date what is there; doc/syncing.md says how to be in \
                       time",
        }
    }

    fn where_nothing_is_signed(run: &Run<'_>) -> Advice {
        let for_removed = match run.settings.net() {
            Ok(NetSetting::Yes) => "`binpkg-resign apply` holds them for the host that signs",
            _ => "with BINPKG_RESIGN_NET=\"yes\" in make.conf `binpkg-resign apply` holds them for the host that signs",
        };
        Advice { for_removed, for_left: "only the host that signs them can bring them up to date" }
    }
}

/// Packages that a pass has removed, as the net knows, or has passed over: it ran without us before it, and may have
/// removed others.
fn unseen_passes(doctor: &mut Doctor, removed: usize, left: &[Signed], advice: &Advice) {
    if removed > 0 {
        let packages = plural(removed, "signed package", "signed packages");
        doctor.warn(
            "processed",
            format!("Portage has processed updates that no run of ours saw, and removed {packages}; the net has them"),
            advice.for_removed,
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
        advice.for_left,
    );
}

fn example<'s>(all: impl IntoIterator<Item = &'s Signed>) -> String {
    all.into_iter().next().map(|signed| format!(" ({} …)", signed.work.cpv)).unwrap_or_default()
}
