//! Plans made of real update lines, carried out on metadata made here.

use std::path::Path;

use super::*;
use crate::plan::{Layout, Plan, Situation, plan};
use crate::portage::index::PackageIndex;
use crate::portage::updates::{Mtimedb, RepoSource, Selection, UpdateSet};

/// The plan for one package of ::gentoo, whose block has these lines besides its name and place.
fn planned(cpv: &str, block: &str, lines: &str) -> Plan {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1Q-2024"), lines).unwrap();
    let source = RepoSource { name: "gentoo".into(), updates_dir: folder.path().into() };
    let updates = UpdateSet::read(&[source], &Mtimedb::default(), Selection::All);
    assert!(updates.problems.is_empty(), "{:?}", updates.problems);
    let parsed = Cpv::parse(cpv).unwrap();
    let path = format!("{}/{}-1.gpkg.tar", parsed.cp(), parsed.pf());
    let text = format!("VERSION: 0\n\nBUILD_ID: 1\nCPV: {cpv}\nEAPI: 8\nPATH: {path}\n{block}REPO: gentoo\n\n");
    let index = PackageIndex::parse(text.into(), Path::new("Packages")).unwrap();
    plan(&Situation {
        index: &index,
        updates: &updates,
        main_repository: Some("gentoo"),
        layout: Layout::MultiInstance,
        is_taken: &|_| false,
    })
}

/// The plan's change of the package itself.
fn in_place(plan: &Plan) -> &Edit {
    plan.works[0].in_place.as_ref().unwrap()
}

/// Metadata with these entries behind the build id 1, which an entry can override.
fn metadata(entries: &[(&str, &str)]) -> Metadata {
    let mut metadata = Metadata::default();
    for (name, value) in [("BUILD_ID", "1\n")].iter().chain(entries) {
        metadata.set(name, value.as_bytes().to_vec());
    }
    metadata
}

fn texts(metadata: &Metadata) -> Vec<(&str, Cow<'_, str>)> {
    metadata.iter().map(|(name, value)| (name, String::from_utf8_lossy(value))).collect()
}

/// Whether `before` becomes `after`.
#[track_caller]
fn assert_rewritten(before: &[(&str, &str)], edit: &Edit, after: &[(&str, &str)]) {
    assert_eq!(texts(&rewrite(&metadata(before), edit)), texts(&metadata(after)));
}

#[test]
fn a_dependency_changes_inside_its_use_conditional_which_the_index_has_not() {
    let plan = planned("a/user-1", "RDEPEND: dev-util/strace\n", "move dev-util/strace dev-debug/strace\n");
    let before = [("RDEPEND", "x? ( >=dev-util/strace-6:0= ) y? ( b/c )\n"), ("KEYWORDS", "amd64\n"), ("SLOT", "0\n")];
    let after = [("RDEPEND", "x? ( >=dev-debug/strace-6:0= ) y? ( b/c )\n"), before[1], before[2]];
    assert_rewritten(&before, in_place(&plan), &after);
}

#[test]
fn only_dependencies_are_rewritten_in_place_and_empty_entries_go() {
    let plan = planned("a/user-1", "BDEPEND: dev-util/strace\n", "move dev-util/strace dev-debug/strace\n");
    let before =
        [("DESCRIPTION", "dev-util/strace\n"), ("LICENSE", ""), ("BDEPEND", "dev-util/strace\n"), ("PDEPEND", "\n")];
    let after = [before[0], ("BDEPEND", "dev-debug/strace\n"), before[3]];
    assert_rewritten(&before, in_place(&plan), &after);
}

#[test]
fn a_move_renames_the_package_its_ebuild_and_what_its_texts_say() {
    let plan = planned("dev-util/strace-6.6-r1", "", "move dev-util/strace dev-debug/tracer\n");
    let before = [
        ("CATEGORY", "dev-util\n"),
        ("CONTENTS", "obj /usr/bin/x dev-util/strace 1\n"),
        ("PF", "strace-6.6-r1\n"),
        ("QA_NOTE", "see dev-util/strace\n"),
        ("RDEPEND", "!dev-util/strace !<dev-util/strace-5\n"),
        ("environment.bz2", "dev-util/strace"),
        ("strace-6.6-r1.ebuild", "EAPI=8\n"),
    ];
    let after = [
        ("CATEGORY", "dev-debug\n"),
        before[1],
        ("PF", "tracer-6.6-r1\n"),
        ("QA_NOTE", "see dev-debug/tracer\n"),
        // the parent is still called by its old name there
        ("RDEPEND", "!dev-debug/tracer !<dev-debug/tracer-5\n"),
        before[5],
        ("tracer-6.6-r1.ebuild", "EAPI=8\n"),
    ];
    assert_rewritten(&before, &plan.works[0].copies[0], &after);
}

#[test]
fn a_move_to_another_category_keeps_the_ebuilds_name() {
    let plan = planned("dev-util/strace-6", "", "move dev-util/strace dev-debug/strace\n");
    let before = [("CATEGORY", "dev-util\n"), ("PF", "strace-6\n"), ("strace-6.ebuild", "EAPI=8\n")];
    let after = [("CATEGORY", "dev-debug\n"), before[1], before[2]];
    assert_rewritten(&before, &plan.works[0].copies[0], &after);
}

#[test]
fn a_slotmove_sets_the_slot_and_keeps_a_sub_slot() {
    let plan = planned("a/lib-2", "SLOT: 0/2.30\n", "slotmove a/lib 0 2\n");
    let before = [("SLOT", "0/2.30\n"), ("REQUIRES", ""), ("RDEPEND", "a/lib:0=\n")];
    assert_rewritten(&before, in_place(&plan), &[("SLOT", "2/2.30\n"), before[2]]);
    let plan = planned("a/lib-2", "RDEPEND: a/lib:0=\nSLOT: 0/2.30\n", "slotmove a/lib 0 2\n");
    assert_rewritten(&before, in_place(&plan), &[("SLOT", "2/2.30\n"), ("RDEPEND", "a/lib:2=\n")]);
}

#[test]
fn a_build_id_is_written_only_where_it_is_another_one() {
    let plan = planned("a/user-1", "RDEPEND: x/y\n", "move x/y x/z\n");
    let edit = |build_id: Option<&str>| Edit { build_id: build_id.and_then(BuildId::new), ..in_place(&plan).clone() };
    // the bytes stay where the number is the same
    assert_rewritten(&[("BUILD_ID", " 7\n")], &edit(Some("7")), &[("BUILD_ID", " 7\n")]);
    assert_rewritten(&[("BUILD_ID", " 7\n")], &edit(Some("8")), &[("BUILD_ID", "8\n")]);
    assert_rewritten(&[("BUILD_ID", " 7\n")], &edit(None), &[("BUILD_ID", " 7\n")]);
    assert_eq!(rewrite(&Metadata::default(), &edit(Some("1"))), metadata(&[]));
}

#[test]
fn bytes_that_are_no_utf8_stay_where_nothing_changes() {
    let plan = planned("a/user-1", "DEPEND: x/y\n", "move x/y x/z\n");
    let mut before = Metadata::default();
    before.set("RDEPEND", b"\xff a/b\n".to_vec());
    before.set("DEPEND", b"\xff x/y\n".to_vec());
    let after = rewrite(&before, in_place(&plan));
    assert_eq!(after.get("RDEPEND"), Some(&b"\xff a/b\n"[..]));
    assert_eq!(after.get("DEPEND"), Some("\u{fffd} x/z\n".as_bytes()));
}

#[test]
fn what_goes_and_what_comes() {
    let told = |old: &[(&str, &str)], new: &[(&str, &str)]| -> Vec<String> {
        let found = differences(&metadata(old), &metadata(new));
        found.iter().map(|found| format!("{}: {:?} {:?}", found.key, found.old, found.new)).collect()
    };
    let whole = |old: &str, new: &str| told(&[("RDEPEND", old)], &[("RDEPEND", new)]);
    assert_eq!(whole("a/a b/b", "a/a b/b"), [""; 0]);
    // each atom once, in their order, and no blanks
    assert_eq!(
        whole("x? ( a/a ) b/b || ( a/a c/c )\n", "x? ( d/d ) b/b || ( d/d e/e ) "),
        [r#"RDEPEND: ["a/a", "c/c"] ["d/d", "e/e"]"#]
    );
    assert_eq!(whole("a/a  b/b\n", "a/a b/b"), [""; 0]);
    // not one by one
    assert_eq!(whole("a/a x/x b/b", "a/a b/b"), [r#"RDEPEND: ["x/x"] []"#]);
    assert_eq!(whole("a/a", "a/a a/a"), [r#"RDEPEND: [] ["a/a"]"#]);
    // an ebuild is compared with that of the old name, and by its lines; an empty entry that goes is nothing
    let ebuild =
        |name: &str, atom: &str| (format!("{name}.ebuild"), format!("EAPI=8\nRDEPEND=\"a/b {atom}\"\nSLOT=0\n"));
    let (old, new) = (ebuild("old-1", "a/a"), ebuild("new-1", "d/d"));
    assert_eq!(
        told(&[("PF", "old-1\n"), (&old.0, &old.1), ("PDEPEND", "")], &[("PF", "new-1\n"), (&new.0, &new.1)]),
        [
            r#"PF: ["old-1"] ["new-1"]"#.to_owned(),
            r#"new-1.ebuild: ["RDEPEND=\"a/b a/a\""] ["RDEPEND=\"a/b d/d\""]"#.to_owned(),
        ]
    );
}
