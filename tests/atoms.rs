//! Atoms, versions, slots, update files and changed dependency strings, compared with the real Portage.
//!
//! The input is generated here (`tests/atoms/given.rs`), and Portage judges it (`tests/oracle/atoms.py`); without a
//! Portage each test says that it is skipped. Real data is looked at, too, where it is present.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;
#[path = "atoms/given.rs"]
mod given;
mod oracle;
#[path = "atoms/updates.rs"]
mod updates;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use binpkg_resign::portage::atom::{
    Atom, Blocker, Candidate, Cpv, Eapi, Operator, Slot, SlotOperator, UseDefault, UseState, repository_name, vercmp,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use given::{EAPIS, mostly, mutated};
use oracle::Oracle;

fn eapi(name: Option<&str>) -> Eapi {
    name.map_or(Eapi::UNSPECIFIED, Eapi::parse)
}

/// How many comparisons there were; too few make a test fail that finds no difference.
#[derive(Default)]
struct Count(Cell<usize>);

impl Count {
    fn add(&self, more: usize) {
        self.0.set(self.0.get() + more);
    }

    #[track_caller]
    fn finish(&self, what: &str, at_least: usize) {
        println!("{what}: {} compared", self.0.get());
        assert!(self.0.get() >= at_least, "these are too few");
    }
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

/// What we make of an atom, as the oracle would say it.
fn read(text: &str, eapi: Eapi) -> Value {
    Atom::parse(text, eapi).map_or(Value::Null, |atom| fields(&atom))
}

#[test]
fn atoms_are_read_as_portage_reads_them() {
    let Some(portage) = Oracle::start("atoms.py", &[]) else { return };
    let count = Count::default();
    let seen = RefCell::new(HashSet::new());
    let eapis = || select(&EAPIS[1..]);
    let compare = |text: &str, eapis: &[Option<&str>]| {
        let ours: Vec<Value> = eapis.iter().map(|name| read(text, eapi(*name))).collect();
        prop_assert_eq!(json!(ours), portage.ask(&json!(["atom", text, eapis])), "{:?} in {:?}", text, eapis);
        if seen.borrow_mut().insert(text.to_owned()) {
            count.add(eapis.len());
        }
        Ok::<(), TestCaseError>(())
    };
    cases::check(135_000, (mutated(given::atom(), 50), eapis(), eapis()), |(text, one, other)| {
        compare(&text, &[None, one, other])
    });
    for digits in [4300, 4301] {
        compare(&format!("=a/b-1-{}", "9".repeat(digits)), &[None]).unwrap();
    }
    count.finish("made-up atoms", 360_000);
}

#[test]
fn names_and_slots_are_read_as_portage_reads_them() {
    let Some(portage) = Oracle::start("atoms.py", &[]) else { return };
    let count = Count::default();
    cases::check(40_000, mutated(given::cpv(), 40), |text| {
        if !text.contains('/') || text.contains('\n') {
            // we are stricter here, on purpose
            return Ok(());
        }
        let ours =
            Cpv::parse(&text).map_or(Value::Null, |cpv| json!([cpv.cp(), cpv.category, cpv.pn, cpv.version, cpv.pf()]));
        prop_assert_eq!(ours, portage.ask(&json!(["cpv", text])));
        count.add(1);
        Ok(())
    });
    let slots = mutated(mostly(given::SLOTS, given::BAD_SLOTS, 40), 40);
    cases::check(40_000, (slots, select(EAPIS)), |(text, name)| {
        let ours = Slot::parse(&text, eapi(name));
        prop_assert_eq!(json!([ours.slot, ours.sub_slot]), portage.ask(&json!(["slot", text, name])));
        count.add(1);
        Ok(())
    });
    cases::check(20_000, mutated(mostly(given::REPOS, given::BAD_REPOS, 40), 60), |text| {
        // outside ASCII, which letters count is Unicode's business
        if text.is_ascii() {
            prop_assert_eq!(json!(repository_name(&text)), portage.ask(&json!(["repo", text])));
            count.add(1);
        }
        Ok(())
    });
    count.finish("names", 90_000);
}

#[test]
fn versions_are_in_portages_order() {
    let Some(portage) = Oracle::start("atoms.py", &[]) else { return };
    let one = || {
        prop_oneof![
            3 => mostly(given::VERSIONS, &["", "a", "1.", "1..2", "1aa", "1_", "1_foo", "1-r", "1-1", "1A", "1 ", "1\u{b2}"], 6)
                .prop_map(str::to_owned),
            7 => given::made_version(),
        ]
    };
    // a version that shares its beginning with another
    const ENDS: &[&str] = &["", ".0", ".1", ".01", "0", "1", "a", "_p", "_p0", "_rc1", "-r0", "-r1", "_alpha"];
    let other = prop_oneof![
        2 => (any::<proptest::sample::Index>(), select(ENDS)).prop_map(|near| (Some(near), String::new())),
        2 => one().prop_map(|other| (None, other)),
    ];
    let end = prop_oneof![99 => Just(""), 1 => Just("\n")];
    let pairs = (one(), other, end).prop_map(|(one, (near, other), end)| {
        let cut = |cut: proptest::sample::Index| one.chars().take(cut.index(one.len() + 1)).collect::<String>();
        let other = near.map_or(other, |(at, end)| cut(at) + end);
        (one, other + end)
    });
    let pairs = pairs.prop_flat_map(|(one, other)| (Just(one), mutated(Just(other), 5)));
    let count = Count::default();
    cases::check(150_000, pairs, |(one, other)| {
        // decimal digits of other scripts are the one known difference
        if [&one, &other].iter().any(|text| text.contains(['\u{661}', '\u{1d7d8}'])) {
            return Ok(());
        }
        let ours = vercmp(&one, &other).map(|order| order as i8);
        prop_assert_eq!(json!(ours), portage.ask(&json!(["vercmp", one, other])));
        count.add(1);
        Ok(())
    });
    count.finish("versions", 140_000);
}

/// A built package: full name, EAPI, SLOT, repository, build id, IUSE, USE.
#[derive(Debug, Clone)]
struct Package {
    cpv: String,
    eapi: &'static str,
    slot: &'static str,
    repo: &'static str,
    build_id: &'static str,
    iuse: String,
    used: String,
}

impl Package {
    /// As we see it, with the build id that Portage read, and the repository's name as it is made valid.
    fn candidate<'a>(&'a self, build_id: Option<u64>, repo: &'a str) -> Candidate<'a> {
        let cpv = Cpv::parse(&self.cpv).unwrap();
        let eapi = Eapi::parse(self.eapi);
        let slot = Slot::parse(self.slot, eapi);
        Candidate {
            cp: cpv.cp(),
            version: cpv.version,
            slot: slot.slot,
            sub_slot: slot.sub_slot,
            repo: Some(repo),
            build_id,
            eapi,
            iuse: &self.iuse,
            use_flags: &self.used,
        }
    }
}

const MATCHED_CPS: &[&str] = &["a/b", "a/b-1xy", "a/1", "a/b-x", "virtual/b"];

fn matched_version() -> impl Strategy<Value = &'static str> {
    const MORE: &[&str] =
        &["1.2", "1.2.3_p1", "12", "1.2a", "1.23", "01.2", "1.2a-r1", "1.2a_p1", "1_p-r1", "1_p_beta", "1a-r1"];
    let short = given::VERSIONS.iter().filter(|version| version.len() < 12);
    select(short.chain(MORE).copied().collect::<Vec<_>>())
}

fn package() -> impl Strategy<Value = Package> {
    let flags = |of: &[&'static str]| subsequence(of.to_vec(), 0..=4);
    let iuse = (flags(&["a", "b", "c", "d", "e"]), vec(select(&["", "+", "-"][..]), 4))
        .prop_map(|(flags, signs)| flags.iter().zip(signs).map(|(flag, sign)| format!("{sign}{flag} ")).collect());
    (
        (select(MATCHED_CPS), matched_version()).prop_map(|(cp, version)| format!("{cp}-{version}")),
        select(&["4", "5", "8", "strange"][..]),
        select(&["0", "2", "0/1", "0/2", "2/2", "1", "-"][..]),
        select(&["gentoo", "guru", "x y", ""][..]),
        select(&["", "1", "2", "10", "x"][..]),
        iuse,
        flags(&["a", "b", "c", "d", "e", "f"]).prop_map(|flags| flags.join(" ")),
    )
        .prop_map(|(cpv, eapi, slot, repo, build_id, iuse, used)| Package {
            cpv,
            eapi,
            slot,
            repo,
            build_id,
            iuse,
            used,
        })
}

fn matching_atom() -> impl Strategy<Value = String> {
    const USES: &[&str] =
        &["a", "-a", "b(+)", "-b(+)", "c(-)", "-c(-)", "d?", "e(+)?", "f", "-f", "!d=", "-e(+)", "g", "-g(-)"];
    let part = |times: f64, parts: &'static [&'static str]| {
        proptest::option::weighted(times, select(parts)).prop_map(Option::unwrap_or_default)
    };
    let version = prop_oneof![
        25 => Just((String::new(), String::new())),
        75 => (select(&["=", "=", "~", ">", "<", ">=", "<=", "=*", "=*"][..]), matched_version(), part(0.3, &["-1", "-2", "-10", "-1-2"]))
            .prop_map(|(operator, version, build_id)| match operator {
                "=" => ("=".to_owned(), format!("-{version}{build_id}")),
                "=*" => ("=".to_owned(), format!("-{version}*")),
                other => (other.to_owned(), format!("-{version}")),
            }),
    ];
    (
        select(&["", "", "", "!", "!!"][..]),
        version,
        select(MATCHED_CPS),
        part(0.3, &[":0", ":2", ":0/1", ":0/2", ":0=", ":=", ":*", ":2/2="]),
        part(0.2, &["::gentoo", "::guru", "::x-y", "::__unknown__"]),
        proptest::option::weighted(0.3, subsequence(USES.to_vec(), 1..=3)),
    )
        .prop_map(|(blocker, (operator, version), cp, slot, repo, uses)| {
            let uses = uses.map(|uses| format!("[{}]", uses.join(","))).unwrap_or_default();
            format!("{blocker}{operator}{cp}{version}{slot}{repo}{uses}")
        })
}

#[test]
fn atoms_match_what_they_match_in_portage() {
    const PACKAGES: usize = 400;
    let Some(portage) = Oracle::start("atoms.py", &[]) else { return };
    let (matched, selected) = <(Count, Count)>::default();
    let (found, refused) = <(Count, Count)>::default();
    let some = subsequence((0..PACKAGES).collect::<Vec<_>>(), 40);
    let packages = RefCell::new(Vec::new());
    cases::check(u32::try_from(PACKAGES).unwrap(), package(), |package| {
        let mut packages = packages.borrow_mut();
        if packages.len() < PACKAGES {
            let Package { cpv, eapi, slot, repo, build_id, iuse, used } = &package;
            let build_id = portage.ask(&json!(["built", cpv, eapi, slot, repo, build_id, iuse, used]));
            packages.push((package.clone(), build_id.as_u64(), repository_name(package.repo)));
        }
        Ok(())
    });
    let packages = packages.into_inner();
    cases::check(4000, (matching_atom(), some), |(text, some)| {
        let answer = portage.ask(&json!(["matched", text, some]));
        let Ok(atom) = Atom::parse(&text, Eapi::UNSPECIFIED) else {
            prop_assert_eq!(answer, Value::Null, "only we refuse it");
            return Ok(());
        };
        prop_assert!(!answer.is_null(), "only Portage refuses it");
        let ours = |numbers: &mut dyn Iterator<Item = usize>, fits: &dyn Fn(&Candidate<'_>) -> bool| {
            let fitting = numbers.filter(|number| {
                let (package, build_id, repo) = &packages[*number];
                fits(&package.candidate(*build_id, repo))
            });
            json!(fitting.collect::<Vec<_>>())
        };
        let we_match = ours(&mut some.iter().copied(), &|candidate| atom.matches(candidate));
        prop_assert_eq!(&we_match, &answer[0]);
        let hits = we_match.as_array().unwrap().len();
        found.add(hits);
        refused.add(some.len() - hits);
        matched.add(some.len());
        if !answer[1].is_null() {
            prop_assert_eq!(&ours(&mut (0..packages.len()), &|candidate| atom.selects(candidate)), &answer[1]);
            selected.add(packages.len());
        }
        Ok(())
    });
    found.finish("match_from_list, found", 5_000);
    refused.finish("match_from_list, refused", 50_000);
    matched.finish("match_from_list", 100_000);
    selected.finish("match", 500_000);
}
