use super::*;
use crate::interrupt::Interrupt;
use crate::portage::index::Entry;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

const PATH: &str = "a/b/b-1-1.gpkg.tar";
/// Where its backup is while a run goes on, and where when it has ended.
const FIRST: &str = "a~b~b-1-1.gpkg.tar.held";
const HELD: &str = "a/b/b-1-1.gpkg.tar.held";
const INDEX: &str = "PACKAGES: 2\nTIMESTAMP: 1\nVERSION: 0\n\nCPV: a/b-1\nPATH: a/b/b-1-1.gpkg.tar\nSIZE: 3\n\n\
    CPV: c/d-1\nPATH: c/d/d-1-1.gpkg.tar\nODD: kept\n\n";

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join(PATH), b"old").unwrap();
        std::fs::write(folder.path().join("Packages"), INDEX).unwrap();
        Place { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pkgdir(&self) -> Pkgdir {
        Pkgdir::open(self.folder.path()).unwrap().unwrap()
    }

    fn store(&self) -> Store {
        self.store_with(IndexCompression::Gzip)
    }

    fn store_with(&self, compression: IndexCompression) -> Store {
        let patience = Patience { limit: Some(Duration::from_secs(5)), interrupt: Interrupt::default() };
        Store::open(&self.pkgdir(), compression, patience).unwrap()
    }

    fn records(&self) -> Vec<Record> {
        Reader::new(&self.pkgdir()).unwrap().records().unwrap()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn first(&self) -> PathBuf {
        self.path(".binpkg-resign/held").join(FIRST)
    }

    fn held(&self) -> PathBuf {
        self.path(".binpkg-resign/held").join(HELD)
    }
}

fn path(text: &str) -> PkgPath {
    PkgPath::new(text).unwrap()
}

fn remark(text: &str) -> Remark {
    Remark { code: "test".into(), text: text.into() }
}

fn at_risk() -> AtRisk {
    AtRisk {
        path: path(PATH),
        cpv: crate::portage::atom::CpvBuf::new("a/b-1").unwrap(),
        build_id: crate::portage::names::BuildId::new("1"),
        updates: vec!["move x/a x/b".into()],
        entry: "CPV: a/b-1\nPATH: a/b/b-1-1.gpkg.tar\n".into(),
    }
}

/// A new version of the package, ready for its commit.
fn ready(store: &Store, destination: &str, replaces: Option<Identity>) -> Ready {
    let (mut staged, mut file) = store.stager().stage(&path(destination)).unwrap();
    file.write_all(b"new!").unwrap();
    let (size, mtime) = staged.seal(&file).unwrap();
    let entry = format!("CPV: a/b-1\nPATH: {destination}\nSIZE: {size}\nMTIME: {mtime}\n");
    Ready { package: 0, staged, replaces, releases: Some(path(FIRST)), entry: Entry::from_text(&entry), size, mtime }
}

/// What came of each file of a batch.
fn words(committed: &[Committed]) -> String {
    committed.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join(" ")
}

fn identity(store: &Store) -> Identity {
    store.pkgdir().open_package(&path(PATH)).unwrap().at_name
}

/// The line of the index.
fn timestamp(place: &Place) -> String {
    let text = place.text("Packages");
    text.lines().find(|line| line.starts_with("TIMESTAMP")).unwrap().to_owned()
}

#[test]
fn a_whole_run_leaves_the_new_package_and_nothing_else() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()]);
    assert_eq!(std::fs::read(place.first()).unwrap(), b"old");
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(place.path(".binpkg-resign")), 0o700);
    let was = identity(&store);
    let package = ready(&store, PATH, Some(was));
    assert_eq!(place.text(PATH), "old");
    assert_eq!(words(&store.commit(vec![package]).unwrap()), "Done");
    store.finish().unwrap();
    assert_eq!(place.text(PATH), "new!");
    assert_eq!(mode(place.path(PATH)) & 0o644, 0o644);
    assert!(place.text("Packages").contains("SIZE: 4\n"));
    assert!(place.text("Packages").contains("ODD: kept\n"));
    assert!(place.path("Packages.gz").exists());
    let mut names: Vec<_> =
        std::fs::read_dir(place.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["Packages", "Packages.gz", "a"]);
    assert_eq!(std::fs::read_dir(place.path("a/b")).unwrap().count(), 1);
}

#[test]
fn the_index_has_its_timestamp_as_its_time() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()]);
    let package = ready(&store, PATH, Some(identity(&store)));
    store.commit(vec![package]).unwrap();
    let text = place.text("Packages");
    let timestamp: i64 = text.lines().find_map(|line| line.strip_prefix("TIMESTAMP: ")).unwrap().parse().unwrap();
    for name in ["Packages", "Packages.gz"] {
        assert_eq!(std::fs::metadata(place.path(name)).unwrap().mtime(), timestamp);
    }
}

#[test]
fn without_compression_no_old_gz_stays() {
    let place = Place::new();
    std::fs::write(place.path("Packages.gz"), b"stale").unwrap();
    let mut store = place.store_with(IndexCompression::None);
    store.begin(vec![at_risk()]);
    let package = ready(&store, PATH, Some(identity(&store)));
    store.commit(vec![package]).unwrap();
    assert!(!place.path("Packages.gz").exists());
}

#[test]
fn a_package_that_changed_meanwhile_is_not_overwritten() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()]);
    let package = ready(&store, PATH, Some(identity(&store)));
    std::fs::remove_file(place.path(PATH)).unwrap();
    std::fs::write(place.path(PATH), b"built just now").unwrap();
    assert_eq!(words(&store.commit(vec![package]).unwrap()), "Changed");
    assert_eq!(place.text(PATH), "built just now");
    assert!(!place.text("Packages").contains("SIZE: 4"));
}

#[test]
fn a_package_that_disappeared_is_held() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()]);
    let package = ready(&store, PATH, Some(identity(&store)));
    std::fs::remove_file(place.path(PATH)).unwrap();
    assert_eq!(words(&store.commit(vec![package]).unwrap()), "Gone");
    assert!(store.keep(&path(FIRST), remark("gone")));
    store.finish().unwrap();
    let records = place.records();
    assert_eq!((records.len(), records[0].reason.clone()), (1, Some(remark("gone"))));
    assert_eq!(std::fs::read(place.held()).unwrap(), b"old");
}

#[test]
fn a_new_name_that_was_taken_stays_with_who_took_it() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()]);
    let package = ready(&store, "n/b/b-1-1.gpkg.tar", None);
    std::fs::write(place.path("n/b/b-1-1.gpkg.tar"), b"another").unwrap();
    let in_place = ready(&store, PATH, Some(identity(&store)));
    assert_eq!(words(&store.commit(vec![package, in_place]).unwrap()), "Taken Apart");
    assert_eq!(place.text("n/b/b-1-1.gpkg.tar"), "another");
    assert_eq!(place.text(PATH), "old", "a package and its copy do not part");
    assert_eq!(place.text("Packages"), INDEX.replace("TIMESTAMP: 1", &timestamp(&place)));
    assert_eq!(std::fs::read(place.first()).unwrap(), b"old");
}

#[test]
fn other_packages_of_the_batch_do_not_wait_for_one_that_failed() {
    let place = Place::new();
    let mut store = place.store();
    let copy = ready(&store, "n/b/b-1-1.gpkg.tar", None);
    std::fs::write(place.path("n/b/b-1-1.gpkg.tar"), b"another").unwrap();
    let other = Ready { package: 1, ..ready(&store, PATH, Some(identity(&store))) };
    assert_eq!(words(&store.commit(vec![copy, other]).unwrap()), "Taken Done");
    assert_eq!(place.text(PATH), "new!");
    assert!(place.text("Packages").contains("SIZE: 4\n"));
}

#[test]
fn entries_made_meanwhile_by_others_survive() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()]);
    let package = ready(&store, PATH, Some(identity(&store)));
    std::fs::write(place.path("Packages"), format!("{INDEX}CPV: e/f-1\nPATH: e/f/f-1-1.gpkg.tar\n\n")).unwrap();
    store.commit(vec![package]).unwrap();
    assert!(place.text("Packages").contains("CPV: e/f-1\n"));
}

#[test]
fn a_package_that_is_not_ours_loses_only_its_second_name() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()]);
    store.release(&path(FIRST)).unwrap();
    store.finish().unwrap();
    assert_eq!(place.text(PATH), "old");
    assert!(!place.path(".binpkg-resign").exists());
}

/// Ends a run as `kill -9` would: nothing is tidied up.
fn die(store: Store) {
    let lock = store.pkgdir.path().join(".binpkg-resign/lock");
    drop(store);
    assert!(!lock.exists());
}

#[test]
fn after_a_crash_before_anything_was_done_nothing_is_left() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()]);
    std::mem::forget(ready(&store, PATH, None));
    die(store);
    place.store().finish().unwrap();
    assert_eq!(place.text(PATH), "old");
    assert!(!place.path(".binpkg-resign").exists());
}

#[test]
fn what_portage_removed_after_a_crash_is_held() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()]);
    die(store);
    std::fs::remove_file(place.path(PATH)).unwrap();
    let store = place.store();
    assert_eq!(store.records().len(), 1);
    assert_eq!(store.records()[0].updates, ["move x/a x/b"]);
    store.finish().unwrap();
    assert_eq!(std::fs::read(place.held()).unwrap(), b"old");
}

#[test]
fn a_second_name_without_a_journal_is_found() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()]);
    std::fs::remove_file(place.path(".binpkg-resign/journal")).unwrap();
    die(store);
    std::fs::remove_file(place.path(PATH)).unwrap();
    let store = place.store();
    assert_eq!(store.records()[0].path, path(PATH));
}

#[test]
fn a_batch_that_was_cut_short_is_finished() {
    // the second block is for a file that the index did not list: Portage is to read it again
    for leave_out in ["", "MTIME"] {
        let place = Place::new();
        let mut store = place.store();
        store.begin(vec![at_risk()]);
        let package = ready(&store, PATH, Some(identity(&store)));
        let mut entry = package.entry.clone();
        entry.set(leave_out, "");
        let note = journal::CommitNote {
            items: vec![journal::CommitItem {
                destination: path(PATH),
                temporary: package.staged.name.clone(),
                beside: false,
                replaces: true,
                inode: package.staged.identity.unwrap().inode(),
                size: package.size,
                mtime: package.mtime,
                entry: entry.to_text(),
                releases: Some(path(FIRST)),
            }],
        };
        note.write(&store.state.folder).unwrap();
        std::mem::forget(package);
        die(store);
        place.store().finish().unwrap();
        assert_eq!(place.text(PATH), "new!");
        assert!(place.text("Packages").contains("SIZE: 4\n"));
        assert!(!place.path(".binpkg-resign").exists(), "without {leave_out:?}");
    }
}

#[test]
fn a_link_that_leads_out_of_pkgdir_is_not_followed() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let place = Place::new();
    // as on many hosts: a group may write in it
    std::fs::set_permissions(place.folder.path(), std::fs::Permissions::from_mode(0o2775)).unwrap();
    std::fs::set_permissions(place.path("a"), std::fs::Permissions::from_mode(0o2775)).unwrap();
    symlink("/etc/passwd", place.path("a/link.gpkg.tar")).unwrap();
    let error = place.pkgdir().open_package(&path("a/link.gpkg.tar")).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("p.gpkg.tar"), b"x").unwrap();
    symlink(outside.path(), place.path("out")).unwrap();
    assert!(matches!(place.pkgdir().open_package(&path("out/p.gpkg.tar")), Err(PkgdirError::Link { .. })));
    let store = place.store();
    assert!(matches!(store.stager().stage(&path("out/n.gpkg.tar")), Err(PkgdirError::Link { .. })));
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn a_folder_that_is_not_ours_is_moved_aside() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let victim = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(victim.path().join("held/a/b")).unwrap();
    std::fs::write(victim.path().join("held/a/b/precious"), b"x").unwrap();
    for plant in ["link", "open to all", "a link inside"] {
        let place = Place::new();
        let state = place.path(".binpkg-resign");
        match plant {
            "link" => symlink(victim.path(), &state).unwrap(),
            "open to all" => {
                std::fs::create_dir(&state).unwrap();
                std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).unwrap();
                symlink(victim.path().join("held"), state.join("held")).unwrap();
            }
            _ => {
                std::fs::create_dir(&state).unwrap();
                std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
                symlink(victim.path().join("held"), state.join("held")).unwrap();
            }
        }
        let mut store = place.store();
        let backups = store.begin(vec![at_risk()]);
        drop(backups);
        let _ = store.finish();
        assert!(victim.path().join("held/a/b/precious").exists(), "{plant}");
        assert_eq!(std::fs::read_dir(victim.path().join("held/a/b")).unwrap().count(), 1, "{plant}");
        assert_eq!(place.path(".binpkg-resign.not-ours.1").symlink_metadata().is_ok(), plant != "a link inside");
    }
}

#[test]
fn a_name_that_has_no_room_for_more_is_held_all_the_same() {
    let place = Place::new();
    let long = format!("a/b/{}.gpkg.tar", "x".repeat(252 - ".gpkg.tar".len()));
    std::fs::rename(place.path(PATH), place.path(&long)).unwrap();
    let mut store = place.store();
    let backups = store.begin(vec![AtRisk { path: path(&long), ..at_risk() }]);
    let held = backups[0].held().cloned().expect("a backup");
    assert!(store.keep(&held, remark("because")));
    assert_eq!(store.open_held(&held).unwrap().identity.size(), 3);
    store.finish().unwrap();
    assert_eq!(place.records()[0].path, path(&long));
}

#[test]
fn two_builds_of_one_name_are_two_packages() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()]);
    store.keep(&path(FIRST), remark("first"));
    std::fs::remove_file(place.path(PATH)).unwrap();
    std::fs::write(place.path(PATH), b"newer").unwrap();
    let backups = store.begin(vec![at_risk()]);
    let held = backups[0].held().unwrap().clone();
    assert_ne!(held, path(FIRST));
    let names = [store.stager().stage(&path(PATH)).unwrap(), store.stager().stage(&path(PATH)).unwrap()];
    assert_ne!(names[0].0.name, names[1].0.name);
    drop(names);
    store.keep(&held, remark("second"));
    store.finish().unwrap();
    assert_eq!(place.records().len(), 2);
}

#[test]
fn a_run_that_ends_while_backups_get_their_places_leaves_one_of_each() {
    for has_new_name in [false, true] {
        let place = Place::new();
        let mut store = place.store();
        store.begin(vec![at_risk()]);
        store.keep(&path(FIRST), remark("because"));
        let record = Record { held: path(HELD), ..store.records()[0].clone() };
        journal::Journal::append(&store.state.folder, &[store.records()[0].clone(), record], &[]).unwrap();
        die(store);
        std::fs::create_dir_all(place.path(".binpkg-resign/held/a/b")).unwrap();
        if has_new_name {
            std::fs::hard_link(place.first(), place.held()).unwrap();
        }
        std::fs::remove_file(place.path(PATH)).unwrap();
        let store = place.store();
        assert_eq!(store.records().len(), 1, "{has_new_name}");
        assert_eq!(store.records()[0].reason, Some(remark("because")));
        store.finish().unwrap();
        assert_eq!(std::fs::read(place.held()).unwrap(), b"old");
        assert!(!place.first().exists());
        let records = place.records();
        assert_eq!((records.len(), &records[0].held), (1, &path(HELD)));
    }
}

#[test]
fn a_path_that_a_name_could_not_tell_has_its_folders_at_once() {
    let place = Place::new();
    let odd = "a~b/b-1-1.gpkg.tar";
    std::fs::create_dir(place.path("a~b")).unwrap();
    std::fs::rename(place.path(PATH), place.path(odd)).unwrap();
    let mut store = place.store();
    let backups = store.begin(vec![AtRisk { path: path(odd), ..at_risk() }]);
    assert_eq!(backups[0].held().map(PkgPath::as_str), Some("a~b/b-1-1.gpkg.tar.held"));
}

#[test]
fn a_held_build_whose_name_was_taken_is_never_removed() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()]);
    die(store);
    std::fs::remove_file(place.path(PATH)).unwrap();
    std::fs::write(place.path(PATH), b"new").unwrap();
    // the index agrees with the new build
    std::fs::write(place.path("Packages"), INDEX).unwrap();
    let store = place.store();
    assert_eq!(store.records().len(), 1);
    assert_eq!(std::fs::read(place.first()).unwrap(), b"old");
}

#[test]
fn what_0_1_held_is_found() {
    let place = Place::new();
    let state = place.path(".binpkg-resign");
    std::fs::create_dir_all(state.join("held/a/b")).unwrap();
    std::fs::rename(place.path(PATH), place.held()).unwrap();
    std::fs::write(place.path("a/b/.b-1-1.gpkg.tar.resign"), b"half").unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
    let journal = r#"{"records":[{"path":"a/b/b-1-1.gpkg.tar","held":"a/b/b-1-1.gpkg.tar.held","cpv":"a/b-1",
        "build_id":"1","size":3,"since":1700000000,"reason":"the key is locked","updates":["move x/a x/b"],
        "entry":"CPV: a/b-1\n"}],"staged":["a/b/b-1-1.gpkg.tar","../x"]}"#;
    std::fs::write(state.join("journal"), journal.replace(",\"../x\"", "")).unwrap();
    let store = place.store();
    let record = store.records()[0].clone();
    assert_eq!((record.path.as_str(), record.since), (PATH, 1_700_000_000));
    assert_eq!(record.reason.map(|reason| reason.text).as_deref(), Some("the key is locked"));
    assert!(!place.path("a/b/.b-1-1.gpkg.tar.resign").exists());
    store.finish().unwrap();
    assert_eq!(place.records().len(), 1);
}

#[test]
fn a_new_index_is_seen_behind_a_symbolic_link_too() {
    let place = Place::new();
    std::fs::rename(place.path("Packages"), place.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", place.path("Packages")).unwrap();
    let before = place.pkgdir().index_identity();
    assert!(before.is_some() && before == place.pkgdir().index_identity());
    let mut store = place.store();
    let package = ready(&store, PATH, Some(identity(&store)));
    assert_eq!(words(&store.commit(vec![package]).unwrap()), "Done");
    assert!(std::fs::symlink_metadata(place.path("Packages")).unwrap().is_symlink());
    assert_ne!(before, place.pkgdir().index_identity());
}
