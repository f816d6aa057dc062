//! Atoms, versions, slots, update files and changed dependency strings, compared with the real Portage.
//!
//! `tests/oracle/atoms.py` makes the input, has Portage judge it, and prints both; here the same input
//! goes through the crate. Needs a Python that has Portage: `BINPKG_RESIGN_PORTAGE_PYTHON`, or
//! `target/portage-3.0.83/bin/python` (which `make setup` makes); else each test says that it is skipped. The real
//! data is in the folder `BINPKG_RESIGN_SHARED` or `../shared`, and is left out where it is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::sync::Arc;

use binpkg_resign::portage::atom::{
    Atom, Blocker, Candidate, Cpv, Eapi, Operator, Slot, SlotOperator, UseDefault, UseState, repository_name, vercmp,
};
use binpkg_resign::portage::updates::{
    Mtimedb, Problem, RepoSource, Rewriter, Selection, Update, UpdateCommand, UpdateSet,
};
use serde_json::{Value, json};

/// The Python that has Portage.
fn portage_python() -> Option<PathBuf> {
    let python = match env::var_os("BINPKG_RESIGN_PORTAGE_PYTHON") {
        Some(python) => PathBuf::from(python),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/portage-3.0.83/bin/python"),
    };
    if python.exists() {
        return Some(python);
    }
    println!("skipped: no Python with Portage at {}", python.display());
    None
}

/// The folder with the real data.
fn shared() -> Option<PathBuf> {
    let shared = match env::var_os("BINPKG_RESIGN_SHARED") {
        Some(shared) => PathBuf::from(shared),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
    };
    if shared.join("data/gentoo-updates").is_dir() {
        return Some(shared);
    }
    println!("skipped: no real data at {}", shared.display());
    None
}

/// What went through, and what differed.
#[derive(Default)]
struct Comparison {
    compared: usize,
    differences: usize,
}

impl Comparison {
    fn same(&mut self, input: &Value, ours: &Value, portage: &Value) {
        self.compared += 1;
        if ours != portage {
            self.differences += 1;
            if self.differences <= 20 {
                println!("{input}\n  we:      {ours}\n  Portage: {portage}");
            }
        }
    }

    fn finish(self, what: &str, at_least: usize) {
        println!("{what}: {} compared, {} differences", self.compared, self.differences);
        assert!(self.compared >= at_least, "the oracle gave too little");
        assert_eq!(self.differences, 0);
    }
}

/// Runs a section of the oracle, and hands on its records.
fn oracle(python: &Path, arguments: &[&Path], mut record: impl FnMut(&[Value])) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/atoms.py");
    let mut child = process::Command::new(python)
        .arg(script)
        .args(arguments)
        .env("PYTHONHASHSEED", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let values: Vec<Value> = serde_json::from_str(&line.unwrap()).unwrap();
        record(&values);
    }
    assert!(child.wait().unwrap().success());
}

fn eapi(value: &Value) -> Eapi {
    value.as_str().map_or(Eapi::UNSPECIFIED, Eapi::parse)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn operator(operator: Operator) -> &'static str {
    match operator {
        Operator::Less => "<",
        Operator::LessOrEqual => "<=",
        Operator::Equal => "=",
        Operator::Glob => "=*",
        Operator::AnyRevision => "~",
        Operator::GreaterOrEqual => ">=",
        Operator::Greater => ">",
    }
}

/// The fields of an atom as the oracle writes them.
fn fields(atom: &Atom) -> Value {
    let flags = |wanted: &dyn Fn(UseState, Option<UseDefault>) -> bool| {
        let mut flags: Vec<&str> =
            atom.use_deps().filter(|dep| wanted(dep.state, dep.default)).map(|dep| dep.flag).collect();
        flags.sort_unstable();
        flags.dedup();
        json!(flags)
    };
    let deps = atom.use_text().map(|deps| {
        json!([
            format!("[{deps}]"),
            flags(&|_, default| default.is_none()),
            flags(&|state, _| state == UseState::Enabled),
            flags(&|state, _| state == UseState::Disabled),
            flags(&|_, default| default == Some(UseDefault::Enabled)),
            flags(&|_, default| default == Some(UseDefault::Disabled)),
            flags(&|state, _| state == UseState::Conditional),
        ])
    });
    json!([
        atom.blocker().map(|blocker| match blocker {
            Blocker::Weak => "!",
            Blocker::Strong => "!!",
        }),
        atom.operator().map(operator),
        atom.cp(),
        atom.version(),
        atom.build_id(),
        atom.slot(),
        atom.sub_slot(),
        atom.slot_operator().map(SlotOperator::as_str),
        atom.repo(),
        deps,
        atom.with_slot("7/8=").map(|atom| atom.to_string()).unwrap(),
    ])
}

#[test]
fn atoms_are_read_as_portage_reads_them() {
    let Some(python) = portage_python() else {
        return;
    };
    let shared = shared();
    let mut arguments = vec![Path::new("atoms")];
    arguments.extend(shared.as_deref());
    let (mut real, mut made) = (Comparison::default(), Comparison::default());
    oracle(&python, &arguments, |record| {
        let [kind, atom, in_eapi, portage] = record else { panic!("{record:?}") };
        let ours = Atom::parse(text(atom), eapi(in_eapi)).map_or(Value::Null, |atom| fields(&atom));
        let comparison = if kind == "real" { &mut real } else { &mut made };
        comparison.same(&json!([atom, in_eapi]), &ours, portage);
    });
    made.finish("made-up atoms", 300_000);
    real.finish("real atoms", if shared.is_some() { 40_000 } else { 0 });
}

#[test]
fn names_and_slots_are_read_as_portage_reads_them() {
    let Some(python) = portage_python() else {
        return;
    };
    let mut comparison = Comparison::default();
    oracle(&python, &[Path::new("names")], |record| match record {
        [kind, cpv, portage] if kind == "cpv" => {
            let ours = Cpv::parse(text(cpv))
                .map_or(Value::Null, |cpv| json!([cpv.cp(), cpv.category, cpv.pn, cpv.version, cpv.pf()]));
            comparison.same(cpv, &ours, portage);
        }
        [kind, slot, in_eapi, portage] if kind == "slot" => {
            let ours = Slot::parse(text(slot), eapi(in_eapi));
            comparison.same(&json!([slot, in_eapi]), &json!([ours.slot, ours.sub_slot]), portage);
        }
        [kind, repo, portage] if kind == "repo" => {
            comparison.same(repo, &json!(repository_name(text(repo))), portage);
        }
        _ => panic!("{record:?}"),
    });
    comparison.finish("names", 90_000);
}

#[test]
fn versions_are_in_portages_order() {
    let Some(python) = portage_python() else {
        return;
    };
    let mut comparison = Comparison::default();
    oracle(&python, &[Path::new("versions")], |record| {
        let [_, one, other, portage] = record else { panic!("{record:?}") };
        let ours = vercmp(text(one), text(other)).map(|order| order as i8);
        comparison.same(&json!([one, other]), &json!(ours), portage);
    });
    comparison.finish("versions", 140_000);
}

/// A package as the oracle describes it: full name, EAPI, SLOT, repository.
fn candidate<'a>(package: &'a [Value], repo: &'a mut String) -> Candidate<'a> {
    let [cpv, eapi, slot, repository, ..] = package else { panic!("{package:?}") };
    let cpv = Cpv::parse(text(cpv)).unwrap();
    let eapi = Eapi::parse(text(eapi));
    let slot = Slot::parse(text(slot), eapi);
    *repo = repository_name(text(repository)).into_owned();
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

#[test]
fn atoms_match_what_they_match_in_portage() {
    let Some(python) = portage_python() else {
        return;
    };
    let mut packages: Vec<Vec<Value>> = Vec::new();
    let (mut matched, mut selected) = (Comparison::default(), Comparison::default());
    let (mut found, mut refused) = (0, 0);
    oracle(&python, &[Path::new("matching")], |record| match record {
        [kind, package @ ..] if kind == "package" => packages.push(package.to_vec()),
        [_, atom, some, matches, selects] => {
            let parsed = Atom::parse(text(atom), Eapi::UNSPECIFIED).unwrap();
            for (index, package) in packages.iter().enumerate() {
                let mut repo = String::new();
                let candidate = Candidate {
                    build_id: package[4].as_u64(),
                    iuse: text(&package[5]),
                    use_flags: text(&package[6]),
                    ..candidate(package, &mut repo)
                };
                let index = json!(index);
                let contains = |list: &Value| list.as_array().unwrap().contains(&index);
                let input = json!([atom, package]);
                if contains(some) {
                    let portage = contains(matches);
                    *(if portage { &mut found } else { &mut refused }) += 1;
                    matched.same(&input, &json!(parsed.matches(&candidate)), &json!(portage));
                }
                if !selects.is_null() {
                    let ours = parsed.selects(&candidate);
                    selected.same(&input, &json!(ours), &json!(contains(selects)));
                }
            }
        }
        _ => panic!("{record:?}"),
    });
    println!("match_from_list: {found} found, {refused} refused");
    assert!(found > 5_000 && refused > 50_000);
    matched.finish("match_from_list", 100_000);
    selected.finish("match", 500_000);
}

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

#[test]
fn dependency_strings_change_as_portage_changes_them() {
    let Some(python) = portage_python() else {
        return;
    };
    let (mut whole, mut single, mut traced) = <(Comparison, Comparison, Comparison)>::default();
    let mut changed = 0;
    oracle(&python, &[Path::new("histories")], |record| {
        let [_, lines, before, in_eapi, parent, portage] = record else { panic!("{record:?}") };
        let lines: Vec<&str> = lines.as_array().unwrap().iter().map(text).collect();
        let updates = updates_of(&lines);
        let mut repo = String::new();
        let parent = parent.as_array().map(|parent| candidate(parent, &mut repo));
        let in_eapi = eapi(in_eapi);
        changed += usize::from(!portage.is_null());
        let input = json!(record);
        let ours = Rewriter::new(&updates).rewrite_traced(text(before), in_eapi, parent.as_ref());
        whole.same(&input, &json!(ours.as_ref().map(|ours| &ours.text)), portage);

        // One command after the other gives the same, and it is the same ones that act.
        let mut step_by_step = text(before).to_owned();
        let mut acted = Vec::new();
        for (index, update) in updates.iter().enumerate() {
            if let Some(after) = update.rewrite(&step_by_step, in_eapi, parent.as_ref()) {
                step_by_step = after;
                acted.push(index);
            }
        }
        let after = portage.as_str().unwrap_or(text(before));
        single.same(&input, &json!(step_by_step), &json!(after));
        if let Some(ours) = ours {
            traced.same(&input, &json!(ours.updates), &json!(acted));
        }
    });
    println!("{changed} strings were changed");
    assert!(changed > 5_000);
    whole.finish("made-up histories", 20_000);
    single.finish("made-up histories, command by command", 20_000);
    traced.finish("made-up histories, which updates acted", 5_000);
}

#[test]
fn update_files_are_read_as_portage_reads_them() {
    let Some(python) = portage_python() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut commands = 0;
    let mut comparison = Comparison::default();
    oracle(&python, &[Path::new("files"), dir.path()], |record| {
        let [_, updates_dir, mtimedb, selection, portage, faults] = record else { panic!("{record:?}") };
        let mtimedb = Mtimedb::read(Path::new(text(mtimedb))).unwrap();
        let selection = if selection == "all" { Selection::All } else { Selection::Pending };
        let source = RepoSource { name: "r".to_owned(), updates_dir: text(updates_dir).into() };
        let set = UpdateSet::read(&[source], &mtimedb, selection);
        let ours: Vec<Value> = set.repos[0]
            .updates
            .iter()
            .map(|update| json!([update.file.as_ref(), update.line, update.to_string()]))
            .collect();
        commands += ours.len();
        let input = json!([updates_dir, record[3]]);
        comparison.same(&input, &json!(ours), portage);
        let ours: Vec<Value> = set
            .problems
            .iter()
            .map(|problem| match problem {
                Problem::Line { file, line, .. } => json!([file.as_ref(), line]),
                other => panic!("{other}"),
            })
            .collect();
        comparison.same(&input, &json!(ours), faults);
    });
    println!("{commands} commands");
    assert!(commands > 2_000);
    comparison.finish("directories with update files", 600);
}

#[test]
fn real_dependency_strings_change_as_portage_changes_them() {
    let (Some(python), Some(shared)) = (portage_python(), shared()) else {
        return;
    };
    let mut rewriter = Rewriter::new(&[]);
    let mut comparison = Comparison::default();
    let mut changed = 0;
    oracle(&python, &[Path::new("real"), &shared], |record| match record {
        [kind, updates_dir, portage, errors] if kind == "updates" => {
            let source = RepoSource { name: "r".to_owned(), updates_dir: text(updates_dir).into() };
            let set = UpdateSet::read(&[source], &Mtimedb::default(), Selection::All);
            let updates = &set.repos[0].updates;
            let ours: Vec<String> = updates.iter().map(ToString::to_string).collect();
            comparison.same(&json!("updates"), &json!(ours), portage);
            assert_eq!(json!(set.problems.len()), *errors);
            rewriter = Rewriter::new(updates);
        }
        [_, cpv, in_eapi, slot, before, portage] => {
            let package = [cpv.clone(), in_eapi.clone(), slot.clone(), json!("gentoo")];
            let mut repo = String::new();
            let parent = slot.is_string().then(|| candidate(&package, &mut repo));
            let ours = rewriter.rewrite(text(before), eapi(in_eapi), parent.as_ref());
            changed += usize::from(!portage.is_null());
            comparison.same(&json!([cpv, slot, before]), &json!(ours), portage);
        }
        _ => panic!("{record:?}"),
    });
    println!("{changed} strings were changed");
    assert!(changed > 1_000);
    comparison.finish("real strings", 20_000);
}
