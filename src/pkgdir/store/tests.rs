use super::*;
use crate::portage::index::Entry;
use std::io::Write;

const PATH: &str = "a/b/b-1-1.gpkg.tar";
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

    fn store(&self) -> Store {
        Store::open(self.folder.path(), IndexCompression::Gzip).unwrap()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn held(&self) -> PathBuf {
        self.path(".binpkg-resign/held").join(HELD)
    }
}

fn at_risk() -> AtRisk {
    AtRisk {
        path: PATH.into(),
        cpv: "a/b-1".into(),
        build_id: Some("1".into()),
        updates: vec!["move x/a x/b".into()],
        entry: "CPV: a/b-1\nPATH: a/b/b-1-1.gpkg.tar\n".into(),
    }
}

/// A new version of the package, ready for its commit.
fn ready(store: &Store, destination: &str, replaces: Option<Identity>) -> Ready {
    let (mut staged, mut file) = store.stager().stage(destination).unwrap();
    file.write_all(b"new!").unwrap();
    let (size, mtime) = staged.seal(&file).unwrap();
    let entry = format!("CPV: a/b-1\nPATH: {destination}\nSIZE: {size}\nMTIME: {mtime}\n");
    Ready { package: 0, staged, replaces, releases: Some(HELD.into()), entry: Entry::from_text(&entry), size, mtime }
}

fn identity(store: &Store) -> Identity {
    open_package(store.pkgdir(), PATH).unwrap().1
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
    store.begin(vec![at_risk()], vec![PATH.into()]).unwrap();
    assert_eq!(std::fs::read(place.held()).unwrap(), b"old");
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(place.path(".binpkg-resign")), 0o700);
    let was = identity(&store);
    let package = ready(&store, PATH, Some(was));
    assert_eq!(place.text(PATH), "old");
    assert_eq!(store.commit(vec![package]).unwrap(), [Committed::Done]);
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
    store.begin(vec![at_risk()], vec![]).unwrap();
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
    let mut store = Store::open(place.folder.path(), IndexCompression::None).unwrap();
    store.begin(vec![at_risk()], vec![]).unwrap();
    let package = ready(&store, PATH, Some(identity(&store)));
    store.commit(vec![package]).unwrap();
    assert!(!place.path("Packages.gz").exists());
}

#[test]
fn a_package_that_changed_meanwhile_is_not_overwritten() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()], vec![]).unwrap();
    let package = ready(&store, PATH, Some(identity(&store)));
    std::fs::remove_file(place.path(PATH)).unwrap();
    std::fs::write(place.path(PATH), b"built just now").unwrap();
    assert_eq!(store.commit(vec![package]).unwrap(), [Committed::Changed]);
    assert_eq!(place.text(PATH), "built just now");
    assert!(!place.text("Packages").contains("SIZE: 4"));
}

#[test]
fn a_package_that_disappeared_is_held() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()], vec![]).unwrap();
    let package = ready(&store, PATH, Some(identity(&store)));
    std::fs::remove_file(place.path(PATH)).unwrap();
    assert_eq!(store.commit(vec![package]).unwrap(), [Committed::Gone]);
    assert!(store.keep(HELD, "gone"));
    store.finish().unwrap();
    let records = Store::held_packages(place.folder.path()).unwrap();
    assert_eq!((records.len(), records[0].reason.as_deref()), (1, Some("gone")));
    assert_eq!(std::fs::read(place.held()).unwrap(), b"old");
}

#[test]
fn a_new_name_that_was_taken_stays_with_who_took_it() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()], vec![]).unwrap();
    let package = ready(&store, "n/b/b-1-1.gpkg.tar", None);
    std::fs::write(place.path("n/b/b-1-1.gpkg.tar"), b"another").unwrap();
    let in_place = ready(&store, PATH, Some(identity(&store)));
    assert_eq!(store.commit(vec![package, in_place]).unwrap(), [Committed::Taken, Committed::Apart]);
    assert_eq!(place.text("n/b/b-1-1.gpkg.tar"), "another");
    assert_eq!(place.text(PATH), "old", "a package and its copy do not part");
    assert_eq!(place.text("Packages"), INDEX.replace("TIMESTAMP: 1", &timestamp(&place)));
    assert_eq!(std::fs::read(place.held()).unwrap(), b"old");
}

#[test]
fn other_packages_of_the_batch_do_not_wait_for_one_that_failed() {
    let place = Place::new();
    let mut store = place.store();
    let copy = ready(&store, "n/b/b-1-1.gpkg.tar", None);
    std::fs::write(place.path("n/b/b-1-1.gpkg.tar"), b"another").unwrap();
    let other = Ready { package: 1, ..ready(&store, PATH, Some(identity(&store))) };
    assert_eq!(store.commit(vec![copy, other]).unwrap(), [Committed::Taken, Committed::Done]);
    assert_eq!(place.text(PATH), "new!");
    assert!(place.text("Packages").contains("SIZE: 4\n"));
}

#[test]
fn entries_made_meanwhile_by_others_survive() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()], vec![]).unwrap();
    let package = ready(&store, PATH, Some(identity(&store)));
    std::fs::write(place.path("Packages"), format!("{INDEX}CPV: e/f-1\nPATH: e/f/f-1-1.gpkg.tar\n\n")).unwrap();
    store.commit(vec![package]).unwrap();
    assert!(place.text("Packages").contains("CPV: e/f-1\n"));
}

#[test]
fn a_package_that_is_not_ours_loses_only_its_second_name() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()], vec![]).unwrap();
    store.release(HELD).unwrap();
    store.finish().unwrap();
    assert_eq!(place.text(PATH), "old");
    assert!(!place.path(".binpkg-resign").exists());
}

/// Ends a run as `kill -9` would: nothing is tidied up.
fn die(store: Store) {
    let lock = store.pkgdir.join(".binpkg-resign/lock");
    drop(store);
    assert!(!lock.exists());
}

#[test]
fn after_a_crash_before_anything_was_done_nothing_is_left() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()], vec![PATH.into()]).unwrap();
    std::mem::forget(ready(&store, PATH, None));
    die(store);
    place.store().finish().unwrap();
    assert_eq!(place.text(PATH), "old");
    assert!(!place.path(".binpkg-resign").exists());
    assert!(!place.path("a/b/.b-1-1.gpkg.tar.resign").exists());
}

#[test]
fn what_portage_removed_after_a_crash_is_held() {
    let place = Place::new();
    let mut store = place.store();
    store.begin(vec![at_risk()], vec![PATH.into()]).unwrap();
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
    store.begin(vec![at_risk()], vec![]).unwrap();
    std::fs::remove_file(place.path(".binpkg-resign/journal")).unwrap();
    die(store);
    std::fs::remove_file(place.path(PATH)).unwrap();
    let store = place.store();
    assert_eq!(store.records()[0].path, PATH);
}

#[test]
fn a_batch_that_was_cut_short_is_finished() {
    // the second block is for a file that the index did not list: Portage is to read it again
    for leave_out in ["", "MTIME"] {
        let place = Place::new();
        let mut store = place.store();
        store.begin(vec![at_risk()], vec![PATH.into()]).unwrap();
        let package = ready(&store, PATH, Some(identity(&store)));
        let mut entry = package.entry.clone();
        entry.set(leave_out, "");
        let note = journal::CommitNote {
            items: vec![journal::CommitItem {
                destination: PATH.into(),
                replaces: true,
                size: package.size,
                mtime: package.mtime,
                entry: entry.to_text(),
                releases: Some(HELD.into()),
            }],
        };
        note.write(&place.path(".binpkg-resign")).unwrap();
        std::mem::forget(package);
        die(store);
        place.store().finish().unwrap();
        assert_eq!(place.text(PATH), "new!");
        assert!(place.text("Packages").contains("SIZE: 4\n"));
        assert!(!place.path(".binpkg-resign").exists(), "without {leave_out:?}");
    }
}

#[test]
fn paths_do_not_leave_pkgdir() {
    let place = Place::new();
    for path in ["../x", "/etc/passwd", "", "a/../../x", "a//b", "./a", "a/./b", "a\0b"] {
        assert!(matches!(below(place.folder.path(), path), Err(StoreError::Escapes { .. })), "{path:?}");
    }
    std::os::unix::fs::symlink("/etc/passwd", place.path("a/link.gpkg.tar")).unwrap();
    let error = open_package(place.folder.path(), "a/link.gpkg.tar").unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("p.gpkg.tar"), b"x").unwrap();
    std::os::unix::fs::symlink(outside.path(), place.path("out")).unwrap();
    assert!(matches!(open_package(place.folder.path(), "out/p.gpkg.tar"), Err(StoreError::Escapes { .. })));
    let store = place.store();
    assert!(matches!(store.stager().stage("out/n.gpkg.tar"), Err(StoreError::Escapes { .. })));
    assert!(!outside.path().join(".n.gpkg.tar.resign").exists());
}

#[test]
fn a_new_index_is_seen_behind_a_symbolic_link_too() {
    let place = Place::new();
    std::fs::rename(place.path("Packages"), place.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", place.path("Packages")).unwrap();
    let before = Store::index_identity(place.folder.path());
    assert!(before.is_some() && before == Store::index_identity(place.folder.path()));
    let mut store = place.store();
    let package = ready(&store, PATH, Some(identity(&store)));
    assert_eq!(store.commit(vec![package]).unwrap(), [Committed::Done]);
    assert!(std::fs::symlink_metadata(place.path("Packages")).unwrap().is_symlink());
    assert_ne!(before, Store::index_identity(place.folder.path()));
}
