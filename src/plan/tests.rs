use super::*;
use crate::portage::atom::Cpv;
use crate::portage::updates::{Mtimedb, RepoSource, Selection};
use std::path::Path;

/// Repositories with their update lines.
fn updates(repos: &[(&str, &str)]) -> (tempfile::TempDir, UpdateSet) {
    let folder = tempfile::tempdir().unwrap();
    let sources: Vec<RepoSource> = repos
        .iter()
        .map(|(name, lines)| {
            let dir = folder.path().join(name).join("profiles/updates");
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("1Q-2024"), lines).unwrap();
            RepoSource { name: (*name).to_owned(), updates_dir: dir }
        })
        .collect();
    let set = UpdateSet::read(&sources, &Mtimedb::default(), Selection::All);
    assert!(set.problems.is_empty(), "{:?}", set.problems);
    (folder, set)
}

/// An index of packages: cpv, build id, further lines.
fn index(packages: &[(&str, &str, &str)]) -> PackageIndex {
    let mut text = "VERSION: 0\n\n".to_owned();
    for (cpv, build_id, more) in packages {
        let (category, pf) = cpv.split_once('/').unwrap();
        let pn = Cpv::parse(cpv).unwrap().pn;
        text += &format!("BUILD_ID: {build_id}\nBUILD_TIME: 1{build_id}\nCPV: {cpv}\nEAPI: 8\n");
        text += &format!("PATH: {category}/{pn}/{pf}-{build_id}.gpkg.tar\n{more}REPO: gentoo\n\n");
    }
    PackageIndex::parse(text.into(), Path::new("Packages")).unwrap()
}

fn plan_in(layout: Layout, index: &PackageIndex, updates: &UpdateSet) -> Plan {
    plan(&Situation { index, updates, main_repository: Some("gentoo"), layout, is_taken: &|_| false })
}

fn plan_for(packages: &[(&str, &str, &str)], lines: &str) -> Plan {
    let (_folder, set) = updates(&[("gentoo", lines)]);
    plan_in(Layout::MultiInstance, &index(packages), &set)
}

/// What a key of the index becomes, for the package called `cpv` itself.
fn value_after(index: &PackageIndex, plan: &Plan, cpv: &str, key: &str) -> String {
    let work = plan.works.iter().find(|work| work.cpv.as_str() == cpv).unwrap();
    let entry = work.in_place.as_ref().unwrap().entry(&index.entry(work.number).unwrap());
    entry.get(key).unwrap_or_default().to_owned()
}

#[test]
fn dependencies_are_rewritten_and_others_left_alone() {
    let packages =
        [("a/user-1", "1", "RDEPEND: >=dev-util/strace-6 b/c\n"), ("a/other-1", "1", "RDEPEND: dev-util/strace-gui\n")];
    let plan = plan_for(&packages, "move dev-util/strace dev-debug/strace\n");
    assert_eq!(plan.works.len(), 1);
    let work = &plan.works[0];
    assert!(work.is_at_risk() && work.copies.is_empty());
    let edit = work.in_place.as_ref().unwrap();
    assert_eq!(value_after(&index(&packages), &plan, "a/user-1", "RDEPEND"), ">=dev-debug/strace-6 b/c");
    assert_eq!(edit.path.as_str(), "a/user/user-1-1.gpkg.tar");
    let change = Change { update: "move dev-util/strace dev-debug/strace".into(), keys: vec!["RDEPEND".into()] };
    assert_eq!(edit.changes, vec![change]);
}

#[test]
fn a_move_makes_a_copy_and_leaves_the_old_file() {
    let plan = plan_for(&[("dev-util/strace-6.6", "3", "")], "move dev-util/strace dev-debug/strace\n");
    let work = &plan.works[0];
    assert!(work.in_place.is_none() && !work.is_at_risk());
    assert_eq!(work.copies[0].path.as_str(), "dev-debug/strace/strace-6.6-3.gpkg.tar");
    assert_eq!(work.copies[0].cpv.as_str(), "dev-debug/strace-6.6");
    assert_eq!(work.copies[0].build_id, BuildId::new("3"));
}

#[test]
fn a_build_that_was_moved_before_is_not_moved_again() {
    let packages = [("x/a-1", "1", ""), ("y/a-1", "1", "")];
    assert!(plan_for(&packages, "move x/a y/a\n").works.is_empty());
}

#[test]
fn a_taken_build_id_gives_the_next_one() {
    let packages = [("x/a-1", "1", ""), ("y/a-1", "1", "")];
    let (_folder, set) = updates(&[("gentoo", "move x/a y/a\n")]);
    let text = String::from_utf8(index(&packages).render(0)).unwrap();
    // another build under the new name, built at another time
    let text = text.replacen("BUILD_TIME: 11\nCPV: y/a-1", "BUILD_TIME: 99\nCPV: y/a-1", 1);
    let index = PackageIndex::parse(text.into(), Path::new("Packages")).unwrap();
    let plan = plan_in(Layout::MultiInstance, &index, &set);
    let copy = &plan.works[0].copies[0];
    assert_eq!((copy.path.as_str(), copy.build_id), ("y/a/a-1-2.gpkg.tar", BuildId::new("2")));
}

#[test]
fn a_new_package_name_does_not_overwrite() {
    let packages = [("x/a-1", "1", ""), ("x/b-1", "7", "")];
    let plan = plan_for(&packages, "move x/a x/b\n");
    assert!(plan.works.is_empty());
    assert_eq!(plan.collisions[0].overwrites, Overwrites::No);
}

#[test]
fn chains_are_followed_to_their_end_whatever_their_order() {
    for lines in ["move x/a x/b\nmove x/b x/c\n", "move x/b x/c\nmove x/a x/b\n"] {
        let packages = [("z/u-1", "1", "DEPEND: x/a\n"), ("x/a-1", "1", "")];
        let plan = plan_for(&packages, lines);
        assert_eq!(value_after(&index(&packages), &plan, "z/u-1", "DEPEND"), "x/c", "{lines}");
        let moved = plan.works.iter().find(|work| work.cpv.as_str() == "x/a-1").unwrap();
        let names: Vec<&str> = moved.copies.iter().map(|copy| copy.cpv.as_str()).collect();
        assert_eq!(names, ["x/b-1", "x/c-1"], "{lines}");
    }
}

#[test]
fn there_and_back_changes_no_dependency() {
    assert!(plan_for(&[("z/u-1", "1", "DEPEND: x/a\n")], "move x/a x/b\nmove x/b x/a\n").works.is_empty());
}

#[test]
fn slots_keep_a_sub_slot_of_their_own_and_none_leaks() {
    let packages = [
        ("x/a-1", "1", "SLOT: 0/1\n"),
        ("x/a-2", "1", "SLOT: 0/2.30\n"),
        ("x/a-3", "1", ""),
        ("x/a-4", "1", "SLOT: 0/2\n"),
    ];
    let plan = plan_for(&packages, "slotmove x/a 0 2\n");
    let slots: Vec<&str> = plan.works.iter().map(|work| work.in_place.as_ref().unwrap().slot.as_str()).collect();
    assert_eq!(slots, ["2/1", "2/2.30", "2", "2"]);
}

#[test]
fn a_versioned_slotmove_takes_only_its_versions() {
    let packages = [("x/a-1", "1", ""), ("x/a-2", "1", ""), ("z/u-1", "1", "DEPEND: x/a:0\n")];
    let plan = plan_for(&packages, "slotmove >=x/a-2 0 2\n");
    assert_eq!(plan.works.iter().map(|work| work.cpv.as_str()).collect::<Vec<_>>(), ["x/a-2"]);
}

#[test]
fn a_slotmove_reaches_the_copy_just_made() {
    let plan = plan_for(&[("x/a-1", "1", "")], "move x/a y/a\nslotmove y/a 0 2\n");
    let work = &plan.works[0];
    assert!(work.in_place.is_none());
    assert_eq!(work.copies[0].slot, "2");
}

#[test]
fn a_blocker_against_the_package_itself_stays() {
    let packages = [("x/b-1", "1", "RDEPEND: !!x/a !!x/a:3\n")];
    let plan = plan_for(&packages, "move x/a x/b\n");
    assert_eq!(value_after(&index(&packages), &plan, "x/b-1", "RDEPEND"), "!!x/a !!x/b:3");
}

#[test]
fn a_history_without_an_end_is_recognised() {
    let packages = [("x/a-1", "1", ""), ("z/u-1", "1", "RDEPEND: x/c\n")];
    let plan = plan_for(&packages, "slotmove x/a 0 2\nslotmove x/a 2 0\nmove x/c x/d\n");
    let endless = plan.works.iter().find(|work| work.cpv.as_str() == "x/a-1").unwrap();
    assert!(endless.doomed.is_some() && endless.in_place.is_none() && endless.is_at_risk());
    assert_eq!(value_after(&index(&packages), &plan, "z/u-1", "RDEPEND"), "x/d");
}

#[test]
fn a_slotmove_to_the_same_slot_has_no_end() {
    assert!(plan_for(&[("x/a-1", "1", "")], "slotmove x/a 0 0\n").works[0].doomed.is_some());
}

#[test]
fn each_repository_has_its_own_updates() {
    let entry = |repo: &str, cpv: &str| {
        format!("BUILD_ID: 1\nCPV: {cpv}\nEAPI: 8\nPATH: {cpv}-1.gpkg.tar\nRDEPEND: x/a\nREPO: {repo}\n\n")
    };
    let text = format!(
        "VERSION: 0\n\n{}{}{}{}",
        entry("gentoo", "p/main-1"),
        entry("own", "p/own-1"),
        entry("empty", "p/empty-1"),
        entry("gone", "p/gone-1")
    );
    let index = PackageIndex::parse(text.into(), Path::new("Packages")).unwrap();
    let (_folder, set) = updates(&[("gentoo", "move x/a x/m\n"), ("own", "move x/a x/o\n"), ("empty", "")]);
    let plan = plan_in(Layout::MultiInstance, &index, &set);
    let found: Vec<&str> = plan.works.iter().map(|work| work.cpv.as_str()).collect();
    assert_eq!(found, ["p/main-1", "p/own-1", "p/gone-1"]);
    for (cpv, wanted) in [("p/main-1", "x/m"), ("p/own-1", "x/o"), ("p/gone-1", "x/m")] {
        assert_eq!(value_after(&index, &plan, cpv, "RDEPEND"), wanted);
    }
}

#[test]
fn in_the_flat_layout_nothing_is_overwritten() {
    let entry = |cpv: &str, time: u32| {
        format!("BUILD_TIME: {time}\nCPV: {cpv}\nEAPI: 8\nPATH: {cpv}.gpkg.tar\nREPO: gentoo\n\n")
    };
    let text = format!("VERSION: 0\n\n{}{}{}", entry("x/a-1", 1), entry("x/a-2", 1), entry("y/a-1", 5));
    let index = PackageIndex::parse(text.into(), Path::new("Packages")).unwrap();
    let (_folder, set) = updates(&[("gentoo", "move x/a y/a\n")]);
    let plan = plan_in(Layout::Flat, &index, &set);
    assert_eq!(plan.works.len(), 1);
    assert_eq!(plan.works[0].copies[0].path.as_str(), "y/a-2.gpkg.tar");
    assert_eq!(plan.collisions.len(), 1);
    assert_eq!(plan.collisions[0].overwrites, Overwrites::Yes);
    assert_eq!(plan.collisions[0].destination, "y/a-1.gpkg.tar");
}

#[test]
fn xpak_packages_are_none_of_ours() {
    let text = "VERSION: 0\n\nCPV: x/a-1\nEAPI: 8\nRDEPEND: x/b\nREPO: gentoo\n\n";
    let index = PackageIndex::parse(text.into(), Path::new("Packages")).unwrap();
    let (_folder, set) = updates(&[("gentoo", "move x/b x/c\n")]);
    assert!(plan_in(Layout::Flat, &index, &set).works.is_empty());
}

#[test]
fn the_block_for_the_index_has_the_new_values() {
    let packages = [("x/a-1", "1", "RDEPEND: x/b\nX-UNKNOWN: kept\n")];
    let (_folder, set) = updates(&[("gentoo", "move x/a y/a\nmove x/b y/b\nslotmove y/a 0 4\n")]);
    let index = index(&packages);
    let plan = plan_in(Layout::MultiInstance, &index, &set);
    let entry = plan.works[0].copies[0].entry(&index.entry(0).unwrap());
    let wanted = "BUILD_ID: 1\nBUILD_TIME: 11\nCPV: y/a-1\nEAPI: 8\nPATH: y/a/a-1-1.gpkg.tar\nRDEPEND: y/b\n\
        SLOT: 4\nX-UNKNOWN: kept\nREPO: gentoo\n";
    assert_eq!(entry.to_text(), wanted);
}

/// A package whose path the index has as `said`, and that a move concerns.
fn plan_with_path(said: &[&str]) -> Plan {
    let mut text = "VERSION: 0\n\n".to_owned();
    for (number, path) in said.iter().enumerate() {
        text += &format!("CPV: x/a-1\nEAPI: 8\nPATH: {path}\nRDEPEND: o/old\nSIZE: {number}\nREPO: gentoo\n\n");
    }
    let index = PackageIndex::parse(text.into_bytes(), Path::new("Packages")).unwrap();
    let (_folder, set) = updates(&[("gentoo", "move o/old n/new\n")]);
    plan_in(Layout::MultiInstance, &index, &set)
}

#[test]
fn a_path_that_leads_out_of_pkgdir_is_named_and_the_others_go_on() {
    let plan = plan_with_path(&["../x/a-1-1.gpkg.tar", "x/a/a-1-2.gpkg.tar", "/x/a-1-1.gpkg.tar"]);
    let astray: Vec<&str> = plan.astray.iter().map(|astray| astray.path.as_str()).collect();
    assert_eq!(astray, ["../x/a-1-1.gpkg.tar", "/x/a-1-1.gpkg.tar"]);
    assert_eq!(plan.works.len(), 1);
    assert!(plan.works[0].in_place.is_some());
}

#[test]
fn a_path_that_is_oddly_written_can_only_be_held() {
    for said in ["./x/a/a-1-1.gpkg.tar", "x//a/a-1-1.gpkg.tar", "x/a/./a-1-1.gpkg.tar"] {
        let plan = plan_with_path(&[said]);
        assert_eq!(plan.works[0].path.as_str(), "x/a/a-1-1.gpkg.tar");
        assert_eq!(plan.works[0].doomed, Some(Doom::OddPath { path: said.to_owned() }));
    }
}

#[test]
fn of_two_blocks_with_one_path_the_last_one_counts() {
    let plan = plan_with_path(&["x/a/a-1-1.gpkg.tar", "x/a/a-1-1.gpkg.tar"]);
    assert_eq!(plan.works.len(), 1);
    assert_eq!(plan.works[0].number, 1);
}
