//! PKGDIR, its index, what is held, and the safety net.

use std::collections::HashSet;

use super::{Doctor, remedy};
use crate::commands::{Error, Run};
use crate::pkgdir::Pkgdir;
use crate::pkgdir::agreement::differs_from_file;
use crate::pkgdir::store::{Net, Reader};
use crate::portage::index::PackageIndex;
use crate::portage::names::{PkgPath, SUFFIX};
use crate::portage::settings::NetSetting;
use crate::report::{bytes, plural};

/// Whether PKGDIR can be written.
pub(super) fn writable(doctor: &mut Doctor, pkgdir: &Pkgdir) {
    match pkgdir.check_writable() {
        Ok(()) => doctor.ok("pkgdir", format!("PKGDIR {} can be written", pkgdir.path().display())),
        Err(error) => doctor.problem("pkgdir", error.to_string(), remedy(&error, "packages are left as they are")),
    }
}

/// Whether there is an index, and it agrees with the packages.
pub(super) fn index(doctor: &mut Doctor, pkgdir: &Pkgdir) -> Result<(), Error> {
    match pkgdir.read_index() {
        Ok(Some(index)) => agreement(doctor, pkgdir, &index)?,
        Ok(None) if pkgdir.has_packages() => {
            let text = format!("{} has packages and no index", pkgdir.path().display());
            doctor.problem("index", text, "`binpkg-resign index` makes it");
        }
        Ok(None) => doctor.ok("index", "there are no packages yet"),
        Err(error) => {
            doctor.problem("index", error.to_string(), remedy(&error, "`binpkg-resign index` makes it anew"));
        }
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

pub(super) fn held(doctor: &mut Doctor, pkgdir: &Pkgdir) -> Result<(), Error> {
    let count = Reader::new(pkgdir)?.records()?.len();
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
pub(super) fn net(doctor: &mut Doctor, run: &Run<'_>, pkgdir: &Pkgdir) -> Result<(), Error> {
    let setting = run.settings.net()?;
    let fix = "set BINPKG_RESIGN_NET=\"yes\" in make.conf to have it in PKGDIR/.binpkg-resign; a mirror of PKGDIR then carries it";
    match Net::look(pkgdir) {
        Ok(Some(net)) if setting == NetSetting::No => {
            let path = net.path().display().to_string();
            let text = format!("BINPKG_RESIGN_NET=no, and the net of earlier, {path}, still keeps what it had then");
            doctor.warn("net", text, &format!("remove it with `rm -r {path}`, or switch the net on again"));
        }
        _ if setting == NetSetting::No => doctor.ok("net", "there is no safety net (BINPKG_RESIGN_NET=no)"),
        _ if setting == NetSetting::Auto && !Net::can_be_beside(pkgdir) => {
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
        Err(error) => {
            let fix = remedy(&error, "move that folder away");
            doctor.warn("net", format!("there is no safety net: {error}"), fix);
        }
    }
    Ok(())
}
