//! Update files, and what updates make of dependency strings.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use binpkg_resign::portage::atom::{Atom, Candidate, Cpv, Eapi, Slot, repository_name};
use binpkg_resign::portage::updates::{
    Mtimedb, Problem, RepoSource, Rewriter, Selection, Update, UpdateCommand, UpdateSet,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use crate::given::{EAPIS, OPERATORS, mutated};
use crate::oracle::{Oracle, shared};
use crate::{Count, cases, eapi, read};

/// The updates that these lines, which are known to be good, stand for.
fn updates_of(lines: &[&str]) -> Vec<Update> {
    let command = |line: &str| match line.split(' ').collect::<Vec<_>>().as_slice() {
        ["move", old, new] => UpdateCommand::Move { old: (*old).to_owned(), new: (*new).to_owned() },
        ["slotmove", atom, old, new] => UpdateCommand::SlotMove {
            atom: Atom::parse(atom, Eapi::UNSPECIFIED).unwrap(),
            old: (*old).to_owned(),
            new: (*new).to_owned(),
        },
        _ => panic!("{line}"),
    };
    let file: Arc<Path> = Path::new("1Q-2024").into();
    let lines = lines.iter().enumerate();
    lines
        .map(|(index, line)| Update {
            command: command(line),
            file: Arc::clone(&file),
            line: index + 1,
            text: (*line).to_owned(),
        })
        .collect()
}

/// A package with a text: full name, EAPI, SLOT, repository.
#[derive(Debug, Clone)]
struct Parent(String, String, String, &'static str);

impl Parent {
    fn candidate<'a>(&'a self, repo: &'a str) -> Candidate<'a> {
        let Parent(cpv, eapi, slot, _) = self;
        let cpv = Cpv::parse(cpv).unwrap();
        let eapi = Eapi::parse(eapi);
        let slot = Slot::parse(slot, eapi);
        Candidate {
            cp: cpv.cp(),
            version: cpv.version,
            slot: slot.slot,
            sub_slot: slot.sub_slot,
            repo: Some(repo),
            build_id: None,
            eapi,
            iuse: "",
            use_flags: "",
        }
    }
}

const CPS: &[&str] = &["a/b", "a/bb", "a/b-c", "c/b", "a/1", "b/b", "c/a", "aa/b", "a/b-", "a/1-r1", "a/b-1-"];

fn parent() -> impl Strategy<Value = Parent> {
    (
        (select(CPS), select(&["1", "1.2", "2-r1", "10", "0.1"][..]))
            .prop_map(|(cp, version)| format!("{cp}-{version}")),
        select(&["0", "2", "4", "5", "7", "8", "strange"][..]).prop_map(str::to_owned),
        select(&["0", "2", "0/1", "2/0"][..]).prop_map(str::to_owned),
        select(&["gentoo", "guru", ""][..]),
    )
        .prop_map(|(cpv, eapi, slot, repo)| Parent(cpv, eapi, slot, repo))
}

/// A line of an update file that is known to be good.
fn command() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        15 => (select(OPERATORS), select(CPS)).prop_map(|(operator, cp)| format!("{operator}{cp}-1")),
        15 => (select(CPS), select(&[":0", "::gentoo", "[a]", ":=", ":0/1"][..])).prop_map(|(cp, more)| format!("{cp}{more}")),
        70 => select(CPS).prop_map(str::to_owned),
    ];
    let slot = |slots: &'static [&'static str]| select(slots);
    prop_oneof![
        6 => (select(CPS), select(CPS)).prop_map(|(old, new)| format!("move {old} {new}")),
        4 => (atom, slot(&["0", "1", "2"]), slot(&["0", "1", "2", "3"]))
            .prop_map(|(atom, old, new)| format!("slotmove {atom} {old} {new}")),
    ]
}

/// A word of a dependency string, an atom or not.
fn word() -> impl Strategy<Value = String> {
    let part = |times: f64, parts: &'static [&'static str]| {
        option::weighted(times, select(parts)).prop_map(Option::unwrap_or_default)
    };
    let around =
        |before: &'static str, after: &'static str| select(CPS).prop_map(move |cp| format!("{before}{cp}{after}"));
    let odd = prop_oneof![
        9 => select(&["(", ")", "||", "a?", "!a?", "a/b/c", "^^", "/", "a/", "!"][..]).prop_map(str::to_owned),
        1 => around("RDEPEND=\"", ""),
        1 => around("(", ")"),
        1 => around("", "\""),
        1 => around("http://", ""),
        1 => around("!!", "x"),
    ];
    let versioned = (
        select(OPERATORS),
        select(CPS),
        select(&["1", "1.2", "2-r1", "0", "10", "1-2", "1-r1-3"][..]),
        option::weighted(0.4, Just("*")),
    )
        .prop_map(|(operator, cp, version, star)| {
            let star = star.filter(|_| operator == "=").unwrap_or_default();
            format!("{operator}{cp}-{version}{star}")
        });
    let atom = (
        select(&["", "", "", "", "!", "!!"][..]),
        prop_oneof![versioned, select(CPS).prop_map(str::to_owned)],
        part(0.6, &[":0", ":1", ":2", ":0/1", ":0/0", ":2/0", ":1/1=", ":0=", ":2=", ":0/3=", ":=", ":*"]),
        part(0.1, &["::gentoo", "::guru"]),
        part(0.2, &["[a]", "[a,-b]", "[a?,b(+)]", "[b=]"]),
    )
        .prop_map(|(blocker, name, slot, repo, uses)| format!("{blocker}{name}{slot}{repo}{uses}"));
    prop_oneof![2 => odd, 8 => mutated(atom, 5)]
}

fn text() -> impl Strategy<Value = String> {
    const SPACES: &[&str] = &[
        " ", " ", " ", "  ", "\n", "\t", "\r\n", "\u{b}", "\u{c}", "\u{1c}", "\u{1d}", "\u{1e}", "\u{1f}", "\u{85}",
        "\u{a0}", "\u{1680}", "\u{2003}", "\u{2028}", "\u{202f}", "\u{3000}", "\u{200b}", "\u{feff}", "\u{180e}",
    ];
    (select(&["", "", " ", "\n"][..]), vec((word(), select(SPACES)), 1..=9), any::<bool>()).prop_map(
        |(start, words, is_cut)| {
            let mut text = start.to_owned();
            for (word, space) in words {
                text += &word;
                text += space;
            }
            if is_cut {
                text.pop();
            }
            text
        },
    )
}

#[test]
fn dependency_strings_change_as_portage_changes_them() {
    let Some(portage) = Oracle::start("atoms.py", &[]) else { return };
    let (whole, single, traced, changed) = <(Count, Count, Count, Count)>::default();
    let given = (vec(command(), 1..=8), text(), option::weighted(0.67, parent()), select(EAPIS));
    cases::check(25_000, given, |(lines, before, parent, name)| {
        // with a package its EAPI counts
        let name = name.filter(|_| parent.is_none());
        let described = parent.as_ref().map(|Parent(cpv, eapi, slot, repo)| [cpv, eapi, slot, *repo]);
        let answer = portage.ask(&json!(["rewritten", lines, before, name, described]));
        changed.add(usize::from(!answer.is_null()));

        let repo = parent.as_ref().map(|parent| repository_name(parent.3)).unwrap_or_default();
        let parent = parent.as_ref().map(|parent| parent.candidate(&repo));
        let in_eapi = eapi(name);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let updates = updates_of(&lines);
        let ours = Rewriter::new(&updates).rewrite_traced(&before, in_eapi, parent.as_ref());
        prop_assert_eq!(&json!(ours.as_ref().map(|ours| &ours.text)), &answer);
        whole.add(1);

        // one command after the other gives the same, and it is the same ones that act
        let mut step_by_step = before.clone();
        let mut acted = Vec::new();
        for (index, update) in updates.iter().enumerate() {
            if let Some(after) = update.rewrite(&step_by_step, in_eapi, parent.as_ref()) {
                step_by_step = after;
                acted.push(index);
            }
        }
        prop_assert_eq!(step_by_step.as_str(), answer.as_str().unwrap_or(&before), "command by command");
        single.add(1);
        if let Some(ours) = ours {
            prop_assert_eq!(ours.updates, acted, "which updates act");
            traced.add(1);
        }
        Ok(())
    });
    changed.finish("strings that were changed", 5_000);
    whole.finish("made-up histories", 20_000);
    single.finish("made-up histories, command by command", 20_000);
    traced.finish("made-up histories, which updates acted", 5_000);
}

/// A file in a directory of updates.
#[derive(Debug, Clone)]
struct UpdateFile {
    name: &'static str,
    lines: Vec<(String, &'static str)>,
    /// Bytes at the end that are no UTF-8.
    odd_end: Option<&'static [u8]>,
    mtime: i64,
    nanoseconds: u32,
    remembered: Option<Remembered>,
}

/// What the mtimedb has for a file.
#[derive(Debug, Clone, Copy)]
enum Remembered {
    Same,
    Later,
    Fraction,
    Text,
    TextWithBlanks,
    Other(i64),
    True,
}

impl UpdateFile {
    fn write(&self, folder: &Path) {
        let text: String = self.lines.iter().flat_map(|(line, end)| [line.as_str(), end]).collect();
        let path = folder.join(self.name);
        fs::write(&path, [text.as_bytes(), self.odd_end.unwrap_or_default()].concat()).unwrap();
        let whole = Duration::from_secs(self.mtime.unsigned_abs());
        let epoch = SystemTime::UNIX_EPOCH;
        let second = if self.mtime < 0 { epoch - whole } else { epoch + whole };
        let time = second + Duration::from_nanos(self.nanoseconds.into());
        File::options().write(true).open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
    }

    fn remembered(&self) -> Option<Value> {
        let mtime = self.mtime;
        self.remembered.map(|remembered| match remembered {
            Remembered::Same => json!(mtime),
            Remembered::Later => json!(mtime + 1),
            Remembered::Fraction => Value::Number(serde_json::Number::from_f64(mtime as f64 + 0.5).unwrap()),
            Remembered::Text => json!(mtime.to_string()),
            Remembered::TextWithBlanks => json!(format!(" {mtime} ")),
            Remembered::Other(other) => json!(other),
            Remembered::True => json!(true),
        })
    }
}

fn line() -> impl Strategy<Value = String> {
    const LINES: &[&str] = &[
        "move a/b c/d",
        "slotmove a/b 0 1",
        "move a/b",
        "slotmove a/b 0/1 2",
        "move =a/b-1 c/d",
        "# x",
        "slotmove =a/b-1* 0 1",
        "slotmove !a/b 0 1",
        "move a/b c/d # why",
        "moved a/b c/d",
        "",
        "  ",
        "slotmove a/b::r[x] 0 _",
        "slotmove >=a/b-1-2 0 1",
        "move a/b-1 c/d",
        "slotmove a/b 0 -1",
        "slotmove a/b:0 0 1",
        "move a/b:0 c/d",
        "move !a/b c/d",
        "move a/b c/d-1",
        "\u{feff}move a/b c/d",
        "slotmove */* 0 1",
        "move  a/b\tc/d ",
        "move a/b\u{a0}c/d",
        "slotmove a/b 0 1 2",
        "move a/\u{e4} c/d",
    ];
    mutated(select(LINES), 30)
}

fn files() -> impl Strategy<Value = Vec<UpdateFile>> {
    const NAMES: &[&str] = &[
        "1Q-2020", "2Q-2020", "3Q-2020", "4Q-2020", "1Q-2021", "2Q-2021", "3Q-2021", "4Q-2021", "back~", ".hidden",
        "1Q-2024", "README", "zz z", "\u{e4}",
    ];
    const ENDS: &[&str] = &[
        "\n", "\n", "\n", "\r\n", "\r", "\n\r", "\u{c}", "\u{b}", "\u{1c}", "\u{1e}", "\u{1f}", "\u{85}", "\u{2028}",
        "\u{2029}", "\n\n",
    ];
    const ODD: &[&[u8]] = &[b"\xff", b"move a/\xe4 c/d", b"move a/b c/d\xe2\x80"];
    let remembered = prop_oneof![
        2 => Just(Remembered::Same),
        1 => Just(Remembered::Fraction),
        1 => Just(Remembered::Text),
        1 => Just(Remembered::Later),
        2 => (-1..=0_i64).prop_map(Remembered::Other),
        1 => Just(Remembered::True),
        1 => Just(Remembered::TextWithBlanks),
    ];
    let file = (
        vec((line(), select(ENDS)), 0..=30),
        option::weighted(0.2, select(ODD)),
        prop_oneof![2 => 2..1_i64 << 31, 1 => -1..=1_i64],
        0..1_000_000_000_u32,
        option::of(remembered),
    );
    (subsequence(NAMES.to_vec(), 0..=8), vec(file, 8)).prop_map(|(names, files)| {
        let files = names.into_iter().zip(files);
        files
            .map(|(name, (lines, odd_end, mtime, nanoseconds, remembered))| UpdateFile {
                name,
                lines,
                odd_end,
                mtime,
                nanoseconds,
                remembered,
            })
            .collect()
    })
}

/// What is in the place of the mtimedb.
#[derive(Debug, Clone, Copy)]
enum Database {
    Whole,
    Missing,
    CutShort,
    /// An older format's key beside the present one, which does not know our files.
    Old,
    Text(&'static str),
}

impl Database {
    fn write(self, path: &Path, remembered: &Value) {
        let whole = json!({"updates": remembered, "resume": {"mergelist": [["a", 1, null, 1e3]]}, "version": "x"});
        let text = match self {
            Database::Whole => whole.to_string(),
            Database::Missing => return,
            Database::CutShort => whole.to_string()[..whole.to_string().len() - 3].to_owned(),
            Database::Old => json!({"old": remembered, "updates": {"/x": 1}, "cur": {}}).to_string(),
            Database::Text(text) => text.to_owned(),
        };
        fs::write(path, text).unwrap();
    }
}

fn database() -> impl Strategy<Value = Database> {
    prop_oneof![
        72 => Just(Database::Whole),
        10 => Just(Database::CutShort),
        10 => Just(Database::Old),
        3 => Just(Database::Missing),
        5 => select(&["", "{}", "nonsense", "\u{feff}{}", "{\"updates\": {}} x"][..]).prop_map(Database::Text),
    ]
}

/// What we take, as the oracle says it.
fn taken(set: &UpdateSet) -> Value {
    let commands: Vec<Value> = (set.repos[0].updates.iter())
        .map(|update| json!([update.file.as_ref(), update.line, update.to_string()]))
        .collect();
    let faults: Vec<Value> = (set.problems.iter())
        .map(|problem| match problem {
            Problem::Line { file, line, .. } => json!([file.as_ref(), line]),
            other => panic!("{other}"),
        })
        .collect();
    json!([commands, faults])
}

#[test]
fn update_files_are_read_as_portage_reads_them() {
    let Some(portage) = Oracle::start("atoms.py", &[]) else { return };
    let (count, commands) = <(Count, Count)>::default();
    cases::check(150, (files(), database(), proptest::bool::weighted(0.3)), |(files, database, has_link)| {
        let folder = tempfile::tempdir().unwrap();
        let updates_dir = folder.path().join("profiles/updates");
        fs::create_dir_all(updates_dir.join("folder")).unwrap();
        symlink("nowhere", updates_dir.join("broken")).unwrap();
        files.iter().for_each(|file| file.write(&updates_dir));
        if has_link && files.iter().any(|file| file.name == "1Q-2020") {
            symlink("1Q-2020", updates_dir.join("link")).unwrap();
        }
        let remembered = files.iter().filter_map(|file| {
            let path = updates_dir.join(file.name).to_str().unwrap().to_owned();
            Some((path, file.remembered()?))
        });
        let path = folder.path().join("mtimedb");
        database.write(&path, &Value::Object(remembered.collect()));

        let mtimedb = Mtimedb::read(&path).unwrap();
        let source = RepoSource { name: "r".to_owned(), updates_dir: updates_dir.clone() };
        let ours = [Selection::Pending, Selection::All]
            .map(|selection| UpdateSet::read(std::slice::from_ref(&source), &mtimedb, selection));
        let answer = portage.ask(&json!(["taken", updates_dir, path]));
        prop_assert_eq!(json!(ours.each_ref().map(taken)), answer);
        count.add(4);
        commands.add(ours.iter().map(|set| set.repos[0].updates.len()).sum());
        Ok(())
    });
    commands.finish("commands", 2_000);
    count.finish("directories with update files", 600);
}

/// The atoms and dependency strings of real packages, and what real updates make of them.
#[test]
fn real_strings_are_read_and_changed_as_portage_does_it() {
    let Some(data) = shared("data") else { return };
    let Some(portage) = Oracle::start("atoms.py", &[data.as_os_str()]) else { return };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (atoms, strings, changed) = <(Count, Count, Count)>::default();
    let mut rewriter = Rewriter::new(&[]);
    while let Some(record) = portage.next() {
        let record = record.as_array().unwrap().as_slice();
        match record {
            [kind, atom, name, answer] if kind == "real" => {
                assert_eq!(&read(&text(atom), eapi(name.as_str())), answer, "{atom} in {name}");
                atoms.add(1);
            }
            [kind, updates_dir, answer, errors] if kind == "updates" => {
                let source = RepoSource { name: "r".to_owned(), updates_dir: text(updates_dir).into() };
                let set = UpdateSet::read(&[source], &Mtimedb::default(), Selection::All);
                let updates = &set.repos[0].updates;
                assert_eq!(&json!(updates.iter().map(ToString::to_string).collect::<Vec<_>>()), answer);
                assert_eq!(json!(set.problems.len()), *errors);
                rewriter = Rewriter::new(updates);
            }
            [_, cpv, name, slot, before, answer] => {
                let parent = slot.is_string().then(|| Parent(text(cpv), text(name), text(slot), "gentoo"));
                let parent = parent.as_ref().map(|parent| parent.candidate("gentoo"));
                let ours = rewriter.rewrite(&text(before), eapi(name.as_str()), parent.as_ref());
                assert_eq!(&json!(ours), answer, "{cpv} {slot}: {before}");
                changed.add(usize::from(!answer.is_null()));
                strings.add(1);
            }
            _ => panic!("{record:?}"),
        }
    }
    atoms.finish("real atoms", 40_000);
    changed.finish("real strings that were changed", 1_000);
    strings.finish("real strings", 20_000);
}
