//! Mutated journals and commit notes through the recovery of a run that was cut short: no panic, no endless loop, nothing
//! outside PKGDIR touched, and no package lost, whatever they say.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

#[path = "../../../tests/cases/mod.rs"]
mod cases;
#[path = "../../../tests/cases/mutated.rs"]
mod mutated;

use self::mutated::{Edits, edits};
use super::*;
use crate::interrupt::Interrupt;
use crate::portage::index::Entry;

const CASES: u32 = 1_000;
const PATHS: [&str; 2] = ["a/b/b-1-1.gpkg.tar", "c/d/d-1-1.gpkg.tar"];
const INDEX: &str = "PACKAGES: 2\nTIMESTAMP: 1\nVERSION: 0\n\nCPV: a/b-1\nPATH: a/b/b-1-1.gpkg.tar\nSIZE: 5\n\n\
    CPV: c/d-1\nPATH: c/d/d-1-1.gpkg.tar\nSIZE: 5\n\n";

/// A folder with PKGDIR in it and something beside it.
struct Place(tempfile::TempDir);

impl Place {
    /// Two packages of different content with their backups, and a new version of each that waits for its commit; the
    /// bytes of the journal and of the note that a run would leave which ends there.
    fn interrupted() -> (Place, Vec<u8>, Vec<u8>) {
        let place = Place(tempfile::tempdir().unwrap());
        std::fs::write(place.0.path().join("outside"), "not ours").unwrap();
        for path in PATHS {
            std::fs::create_dir_all(place.pkgdir().join(path).parent().unwrap()).unwrap();
            std::fs::write(place.pkgdir().join(path), Place::old(path)).unwrap();
        }
        std::fs::write(place.pkgdir().join("Packages"), INDEX).unwrap();
        let mut store = place.store();
        let at_risk = PATHS.map(|path| AtRisk {
            path: PkgPath::new(path).unwrap(),
            cpv: crate::portage::atom::CpvBuf::new("a/b-1").unwrap(),
            build_id: None,
            updates: vec!["move x/a x/b".into()],
            entry: format!("CPV: a/b-1\nPATH: {path}\n"),
        });
        let backups = store.begin(at_risk);
        let journal = std::fs::read(place.state().join("journal")).unwrap();
        let mut items = Vec::new();
        for (path, backup) in PATHS.into_iter().zip(backups) {
            let (mut staged, mut file) = store.stager().stage(&PkgPath::new(path).unwrap()).unwrap();
            file.write_all(b"new").unwrap();
            let (size, mtime) = staged.seal(&file).unwrap();
            let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
            items.push(journal::CommitItem {
                destination: PkgPath::new(path).unwrap(),
                temporary: staged.name.clone(),
                beside: false,
                replaces: true,
                size,
                mtime,
                inode,
                entry: Entry::from_text(&format!("CPV: a/b-1\nPATH: {path}\n")).to_text(),
                releases: backup.held().cloned(),
            });
            // it stays, as after the end of the process
            staged.committed = true;
        }
        drop(store);
        let note = serde_json::to_vec(&journal::CommitNote { items }).unwrap();
        (place, journal, note)
    }

    fn old(path: &str) -> String {
        format!("old {}", &path[..1])
    }

    fn pkgdir(&self) -> PathBuf {
        self.0.path().join("pkgdir")
    }

    fn state(&self) -> PathBuf {
        self.pkgdir().join(".binpkg-resign")
    }

    fn store(&self) -> Store {
        let pkgdir = Pkgdir::open(&self.pkgdir()).unwrap().unwrap();
        let patience = Patience { limit: Some(Duration::from_secs(5)), interrupt: Interrupt::default() };
        Store::open(&pkgdir, IndexCompression::None, patience).unwrap()
    }

    /// Everything below, by its name.
    fn contents(&self) -> BTreeMap<String, String> {
        fn walk(folder: &Path, found: &mut BTreeMap<String, String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else {
                    let bytes = std::fs::read(&path).unwrap();
                    found.insert(path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned());
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(self.0.path(), &mut found);
        found
    }
}

/// What a run finds that comes after these were left, and a second one after it.
fn recovered(journal_edits: Option<&Edits>, note_edits: Option<&Edits>) -> (Place, BTreeMap<String, String>) {
    let (place, journal, note) = Place::interrupted();
    let edited = |bytes: &[u8], edits: Option<&Edits>| edits.map_or(bytes.to_vec(), |edits| edits.of(bytes).0);
    std::fs::write(place.state().join("journal"), edited(&journal, journal_edits)).unwrap();
    std::fs::write(place.state().join("commit"), edited(&note, note_edits)).unwrap();
    if journal_edits.is_some() {
        std::fs::remove_file(place.state().join("commit")).unwrap();
    }
    // Portage's pass
    std::fs::remove_file(place.pkgdir().join(PATHS[0])).unwrap();
    drop(place.store());
    place.store().finish().unwrap();
    let contents = place.contents();
    (place, contents)
}

fn check(place: &Place, contents: &BTreeMap<String, String>) -> Result<(), TestCaseError> {
    let outside: Vec<_> = contents.keys().filter(|name| !name.contains("/pkgdir/")).collect();
    prop_assert_eq!(outside.len(), 1, "{:?}", contents);
    prop_assert_eq!(&contents[&place.0.path().join("outside").display().to_string()], "not ours");
    for path in PATHS {
        let at_its_name = contents.get(&place.pkgdir().join(path).display().to_string());
        let held = contents.values().any(|text| *text == Place::old(path));
        // the new one is what a whole note leaves
        prop_assert!(held || at_its_name.is_some_and(|text| text == "new"), "{} is lost: {:?}", path, contents);
    }
    Ok(())
}

#[test]
fn journals() {
    cases::check(CASES, edits(), |edits| {
        let (place, contents) = recovered(Some(&edits), None);
        check(&place, &contents)
    });
}

#[test]
fn a_whole_note_is_followed() {
    let (place, contents) = recovered(None, None);
    check(&place, &contents).unwrap();
    for path in PATHS {
        assert_eq!(contents[&place.pkgdir().join(path).display().to_string()], "new");
    }
}

#[test]
fn commit_notes() {
    cases::check(CASES, edits(), |edits| {
        let (place, contents) = recovered(None, Some(&edits));
        check(&place, &contents)?;
        let left = contents.keys().any(|name| name.ends_with("/commit"));
        prop_assert!(!left, "the note stays: {:?}", contents);
        Ok(())
    });
}
