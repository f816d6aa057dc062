//! Update files, from the folder to the changed text.

use super::*;
use crate::portage::atom::{Cpv, Slot};

/// A repository's updates folder with these files, and an mtimedb that remembers some.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Folder {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("updates")).unwrap();
        for (name, content) in files {
            fs::write(dir.path().join("updates").join(name), content).unwrap();
        }
        Folder(dir)
    }

    fn updates(&self) -> PathBuf {
        self.0.path().join("updates")
    }

    fn source(&self, name: &str) -> RepoSource {
        RepoSource { name: name.to_owned(), updates_dir: self.updates() }
    }

    /// An mtimedb with this file's mtime and `more` seconds.
    fn remember(&self, name: &str, more: i64) -> Mtimedb {
        let file = self.updates().join(name);
        let mtime = fs::metadata(&file).unwrap().mtime() + more;
        let mtimedb = self.0.path().join("mtimedb");
        fs::write(&mtimedb, format!("{{\"updates\": {{{file:?}: {mtime}}}}}")).unwrap();
        Mtimedb::read(&mtimedb).unwrap()
    }
}

fn read(folder: &Folder, mtimedb: &Mtimedb, selection: Selection) -> UpdateSet {
    UpdateSet::read(&[folder.source("r")], mtimedb, selection)
}

/// The commands of a file with these lines.
fn updates(lines: &str) -> Arc<Vec<Update>> {
    let folder = Folder::new(&[("1Q-2024", lines)]);
    let set = read(&folder, &Mtimedb::default(), Selection::All);
    assert!(set.problems.is_empty(), "{:?}", set.problems);
    Arc::clone(&set.repos[0].updates)
}

#[test]
fn pending_files_are_those_with_another_mtime() {
    let folder = Folder::new(&[("1Q-2024", "move a/b c/d\n"), (".swp", "move x/y c/d\n")]);
    fs::create_dir(folder.updates().join("folder")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.updates().join("broken")).unwrap();
    let remembered = folder.remember("1Q-2024", 0);
    let changed = folder.remember("1Q-2024", 1);
    assert!(read(&folder, &remembered, Selection::Pending).is_empty());
    assert_eq!(read(&folder, &remembered, Selection::Pending).repos.len(), 1);
    for set in [
        read(&folder, &remembered, Selection::All),
        read(&folder, &changed, Selection::Pending),
        read(&folder, &Mtimedb::default(), Selection::Pending),
    ] {
        let shown: Vec<String> = set.repos[0].updates.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["move a/b c/d"]);
        assert!(set.problems.is_empty());
    }
}

#[test]
fn a_repository_without_the_folder_gets_the_main_ones() {
    let folder = Folder::new(&[("1Q-2024", "move a/b c/d\n")]);
    let empty = Folder::new(&[]);
    let none = RepoSource { name: "none".to_owned(), updates_dir: folder.updates().join("no") };
    let sources = [empty.source("empty"), folder.source("main"), none, folder.source("link")];
    let set = UpdateSet::read(&sources, &Mtimedb::default(), Selection::Pending);
    let for_repo = |name: &str| set.for_repository(name, Some("main")).map(|repo| repo.updates.len());
    assert_eq!((for_repo("main"), for_repo("none"), for_repo("unknown")), (Some(1), Some(1), Some(1)));
    assert_eq!(for_repo("empty"), Some(0));
    assert!(set.for_repository("none", None).is_none());
    let names: Vec<&str> = set.repos.iter().map(|repo| repo.name.as_str()).collect();
    assert_eq!(names, ["empty", "main", "link"]);
    assert!(Arc::ptr_eq(&set.repos[1].updates, &set.repos[2].updates));
}

#[test]
fn bad_lines_are_named_and_skipped() {
    let folder = Folder::new(&[(
        "1Q-2024",
        "# a comment\r\nmove a/b c/d # why\x0cmove a/b-1 c/d\nslotmove a/b 0 1/2\n\nslotmove !a/b 0 1\nslotmove a 0 1\nmove a/b c/d",
    )]);
    let set = read(&folder, &Mtimedb::default(), Selection::Pending);
    assert_eq!((set.repos[0].updates.len(), set.repos[0].updates[0].line), (1, 8));
    let shown: Vec<String> = set.problems.iter().map(ToString::to_string).collect();
    for (problem, (line, why)) in shown.iter().zip([
        (1, "no update command"),
        (2, "has 4 words after the command instead of 2"),
        (3, "\"a/b-1\" is no plain"),
        (4, "\"1/2\" is no slot"),
        (6, "blocker"),
        (7, "\"a\" is no package atom"),
    ]) {
        assert!(problem.contains(&format!("1Q-2024, line {line}: ")) && problem.contains(why), "{problem}");
    }
    assert_eq!(shown.len(), 6);
}

#[test]
fn what_stops_portage_is_a_problem_and_the_rest_counts() {
    let folder = Folder::new(&[("1Q-2024", "move a/b c/d\n")]);
    std::os::unix::fs::symlink("loop", folder.updates().join("loop")).unwrap();
    let set = read(&folder, &Mtimedb::default(), Selection::Pending);
    assert_eq!(set.repos[0].updates.len(), 1);
    assert!(matches!(set.problems.as_slice(), [Problem::File { file, .. }] if file.ends_with("loop")));
}

#[test]
fn a_word_follows_its_package_through_the_list() {
    let list = updates("move a/b c/d\nmove c/d e/f\nslotmove e/f 0 1\nmove a/b g/h");
    let rewriter = Rewriter::new(&list);
    let rewritten = rewriter.rewrite_traced("x?\u{a0}( >=a/b-1:0/0=[u] ) e/f:0/2\n", Eapi::parse("8"), None).unwrap();
    assert_eq!(rewritten.text, "x?\u{a0}( >=e/f-1:1/1=[u] ) e/f:1/2\n");
    assert_eq!(rewritten.updates, [0, 1, 2]);
    for unchanged in ["", " ", "a/bb", "a/b/", "(a/b)", "RDEPEND=\"a/b", "=a/b", "a/b-1", "e/f", "e/f:2"] {
        assert_eq!(rewriter.rewrite(unchanged, Eapi::parse("8"), None), None, "{unchanged:?}");
    }
}

#[test]
fn there_and_back_is_no_change() {
    let list = updates("move a/b c/d\nmove c/d a/b\nmove x/y x/y");
    assert_eq!(Rewriter::new(&list).rewrite("a/b x/y", Eapi::UNSPECIFIED, None), None);
    let traced = Rewriter::new(&list).rewrite_traced("x/y c/d", Eapi::UNSPECIFIED, None);
    assert_eq!(traced.map(|rewritten| rewritten.updates), Some(vec![1]));
}

#[test]
fn the_order_of_the_list_counts() {
    let list = updates("move b/b c/c\nmove a/a b/b");
    assert_eq!(Rewriter::new(&list).rewrite("a/a b/b", Eapi::UNSPECIFIED, None).as_deref(), Some("b/b c/c"));
}

#[test]
fn slotmoves_with_a_version_change_no_text() {
    let list = updates("slotmove =a/b-1* 0 1\nslotmove a/b::r 0 2");
    assert_eq!(list[0].rewrite("a/b:0", Eapi::UNSPECIFIED, None), None);
    // The repository narrows down the packages, not the text.
    assert_eq!(list[1].rewrite("a/b:0", Eapi::UNSPECIFIED, None).as_deref(), Some("a/b:2"));
}

#[test]
fn no_package_is_made_to_block_itself() {
    let list = updates("move a/b c/d");
    let cpv = Cpv::parse("c/d-2").unwrap();
    let eapi = Eapi::parse("8");
    let slot = Slot::parse("1", eapi);
    let parent = Candidate {
        cp: cpv.cp(),
        version: cpv.version,
        slot: slot.slot,
        sub_slot: slot.sub_slot,
        repo: Some("r"),
        build_id: None,
        eapi,
        iuse: "",
        use_flags: "",
    };
    let rewrite = |text: &str| list[0].rewrite(text, eapi, Some(&parent));
    assert_eq!(rewrite("!a/b !!<a/b-3:1"), None);
    assert_eq!(rewrite("!<a/b-2 !a/b:0 a/b !a/b").as_deref(), Some("!<c/d-2 !c/d:0 c/d !a/b"));
    // Its own EAPI counts: 8 has no repositories in atoms.
    assert_eq!(list[0].rewrite("a/b::r", Eapi::UNSPECIFIED, Some(&parent)), None);
}
