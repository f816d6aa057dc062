//! Atoms, names, versions and all they are made of: mostly good, sometimes not, and with a few characters changed.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::Union;

pub(crate) const EAPIS: &[Option<&str>] = &[
    None,
    Some("0"),
    Some("1"),
    Some("2"),
    Some("3"),
    Some("4"),
    Some("5"),
    Some("6"),
    Some("7"),
    Some("8"),
    Some("9"),
    Some("9-pre1"),
    Some("strange"),
];

pub(crate) const CATEGORIES: &[&str] = &["a", "dev-libs", "x11-base", "_c", "9c", "c+.-x", "virtual", "r1-1", "A.b"];
pub(crate) const BAD_CATEGORIES: &[&str] = &["", "-a", ".a", "+a", "a b", "\u{e4}", "a*", "a/b"];
pub(crate) const NAMES: &[&str] = &[
    "b", "foo-bar", "b-", "b--", "b-1xy", "1", "1-r1", "b-r1", "gtk+", "_", "0", "b-x-1yy", "r1", "b-1-", "B_c", "1-",
    "b-1a-c",
];
pub(crate) const BAD_NAMES: &[&str] =
    &["", "b-1", "b-1-r1", "-b", "+b", "b.c", "b-1.0", "b-1_p", "\u{e4}", "b*", "b-1-2", "b c"];
pub(crate) const VERSIONS: &[&str] = &[
    "0",
    "1",
    "1.0",
    "1.00",
    "1.01",
    "1.2.3",
    "1.10",
    "01",
    "001.2",
    "00",
    "0.1",
    "1a",
    "1.2z",
    "1_p",
    "1_p0",
    "1_p1",
    "1_alpha",
    "1_alpha1_beta2",
    "1_pre3",
    "1_rc",
    "1-r0",
    "1-r1",
    "1-r01",
    "1-r00",
    "1.0-r2",
    "1_p1-r3",
    "2",
    "10",
    "1.1.0_rc2-r0",
    "20240101",
    "9999999999999999999999999999999999999999",
    "9999999999999999999999999999999999999998",
    "1.0000000000000000000000000000001",
    "1_p777777777777777777777777777777",
    "1-r333333333333333333333333333333",
];
const BUILD_VERSIONS: &[&str] =
    &["1-2", "1-0", "1-10", "1.0-r1-2", "1-2-3", "1_p-5", "1-44444444444444444444", "1-r0-1", "1-18446744073709551616"];
const BAD_VERSIONS: &[&str] = &[
    "",
    "a",
    "1.",
    ".1",
    "1..2",
    "1aa",
    "1_",
    "1_foo",
    "1-r",
    "1-02",
    "1-2-r1",
    "1-1a",
    "1A",
    "1_P",
    "\u{661}",
    "1\u{662}",
    "1\u{b2}",
    "1-r\u{663}",
    "1_p\u{664}",
    "v1",
    "1_p1a",
    "1-00",
    "1-r1-r1",
    "1 ",
];
pub(crate) const OPERATORS: &[&str] = &["=", "~", ">", "<", ">=", "<="];
pub(crate) const SLOTS: &[&str] =
    &["0", "2", "2.30", "0/1", "0/0", "0/2.3-x", "_", "5/5=", "0=", "=", "*", "a+b", "1-2", "0/1="];
pub(crate) const BAD_SLOTS: &[&str] = &[
    "", "-1", ".1", "+1", "0*", "0/", "/1", "0/1/2", "0/-", "0==", "*=", "0/1*", "/", "0=/1", "\u{e4}", "0 ", "0\n",
    "0/1\n",
];
pub(crate) const REPOS: &[&str] = &["gentoo", "r", "my-overlay", "_x", "9"];
pub(crate) const BAD_REPOS: &[&str] = &["", "-r", "r.x", "r+", "\u{e4}", "r:"];
const USES: &[&str] =
    &["a", "-a", "a?", "!a?", "a=", "!a=", "a(+)", "-b(-)", "c(-)?", "!c(+)=", "l10n_sr@latin", "9", "A+b", "d", "-d"];
const BAD_USES: &[&str] = &[
    "", "!a", "-a?", "-a=", "--a", "a(", "a(+", "a(*)", "a(+)(-)", "_a", "@a", "a b", "a??", "a=?", "\u{e4}", "a(+)-",
    "!", "-", "?", "a[b", "a]", "a\n", "a(+)\n",
];
const HOSTILE: &str =
    "!<>=~*:/[]()+-_.@,?#|'\"\\ \t\n\r\u{c}\u{1f}\u{85}\u{a0}\u{e4}\u{661}\u{b2}\u{2028}\u{1d7d8}aZrp019";

/// One of the good ones, but so many times in a hundred one of the bad.
pub(crate) fn mostly(
    good: &'static [&'static str],
    bad: &'static [&'static str],
    times: u32,
) -> Union<proptest::sample::Select<&'static str>> {
    Union::new_weighted(vec![(100 - times, select(good)), (times, select(bad))])
}

/// A version, so many times in a hundred a bad one or one with a build id.
fn version(times: u32) -> impl Strategy<Value = &'static str> {
    prop_oneof![
        100 - times => select(VERSIONS),
        times => prop_oneof![24 => select(BAD_VERSIONS), 9 => select(BUILD_VERSIONS)],
    ]
}

/// A version made of parts.
pub(crate) fn made_version() -> impl Strategy<Value = String> {
    const NUMBERS: &[&str] = &["0", "1", "2", "9", "10", "00", "01", "010", "100", "0001", "12345678901234567890123"];
    const SUFFIXES: &[&str] = &["_alpha", "_beta", "_pre", "_rc", "_p"];
    let suffix = (select(SUFFIXES), select(&["", "0", "1", "01", "00", "2", "99999999999999999999"][..]));
    (
        vec(select(NUMBERS), 1..5),
        option::weighted(0.2, select(&["a", "b", "z"][..])),
        vec(suffix, 0..3),
        option::weighted(0.3, select(&["0", "1", "01", "00", "2", "18446744073709551617"][..])),
    )
        .prop_map(|(numbers, letter, suffixes, revision)| {
            let suffixes: String = suffixes.iter().flat_map(|(name, number)| [*name, *number]).collect();
            let revision = revision.map(|revision| format!("-r{revision}")).unwrap_or_default();
            format!("{}{}{suffixes}{revision}", numbers.join("."), letter.unwrap_or_default())
        })
}

/// An atom, often a valid one.
pub(crate) fn atom() -> impl Strategy<Value = String> {
    // operator and version belong together, but for a few
    let version = prop_oneof![
        48 => (mostly(OPERATORS, &["", "==", "=>", "=<", "<>", "~="], 3), version(15).prop_map(|v| format!("-{v}"))),
        12 => (Just("="), (version(15), mostly(&["*"], &["**", "*.", "-*", ".*"], 5)).prop_map(|(v, star)| format!("-{v}{star}"))),
        37 => (Just(""), Just(String::new())),
        2 => (Just(""), version(15).prop_map(|v| format!("-{v}"))),
        1 => (Just(""), Just("*".to_owned())),
    ];
    (
        prop_oneof![97 => select(&["", "", "", "", "", "!", "!!"][..]), 3 => select(&["!!!", "! ", "-"][..])],
        version,
        mostly(CATEGORIES, BAD_CATEGORIES, 3),
        mostly(NAMES, BAD_NAMES, 6),
        option::weighted(0.4, mostly(SLOTS, BAD_SLOTS, 6)),
        option::weighted(0.15, mostly(REPOS, BAD_REPOS, 6)),
        option::weighted(0.3, vec(mostly(USES, BAD_USES, 3), 1..=4)),
    )
        .prop_map(|(blocker, (operator, version), category, name, slot, repo, uses)| {
            let slot = slot.map(|slot| format!(":{slot}")).unwrap_or_default();
            let repo = repo.map(|repo| format!("::{repo}")).unwrap_or_default();
            let uses = uses.map(|uses| format!("[{}]", uses.join(","))).unwrap_or_default();
            format!("{blocker}{operator}{category}/{name}{version}{slot}{repo}{uses}")
        })
}

/// A package's full name, often a valid one.
pub(crate) fn cpv() -> impl Strategy<Value = String> {
    (mostly(CATEGORIES, BAD_CATEGORIES, 6), mostly(NAMES, BAD_NAMES, 6), version(6))
        .prop_map(|(category, name, version)| format!("{category}/{name}-{version}"))
}

/// One change to a text.
#[derive(Debug, Clone)]
enum Edit {
    Insert(Index, char),
    Remove(Index, usize),
    Replace(Index, char),
    Repeat(Index, usize),
    Swap(Index, Index),
}

impl Edit {
    fn apply(&self, chars: &mut Vec<char>) {
        let all = chars.len();
        let end = |at: usize, length: usize| (at + length).min(all);
        match self {
            Edit::Insert(at, new) => chars.insert(at.index(chars.len() + 1), *new),
            Edit::Remove(at, length) => {
                let at = at.index(chars.len() + 1);
                chars.drain(at..end(at, *length));
            }
            Edit::Replace(at, new) => {
                let at = at.index(chars.len() + 1);
                chars.splice(at..end(at, 1), [*new]);
            }
            Edit::Repeat(at, length) => {
                let at = at.index(chars.len() + 1);
                let piece = chars[at..end(at, *length)].to_vec();
                chars.splice(at..at, piece);
            }
            Edit::Swap(one, other) if !chars.is_empty() => {
                let (one, other) = (one.index(chars.len()), other.index(chars.len()));
                chars.swap(one, other);
            }
            Edit::Swap(..) => {}
        }
    }
}

/// The same texts, but so many times in a hundred with a few characters changed.
pub(crate) fn mutated<S: Strategy<Value: AsRef<str>>>(texts: S, times: u32) -> impl Strategy<Value = String> {
    let odd = || select(HOSTILE.chars().collect::<Vec<_>>());
    let edit = prop_oneof![
        (any::<Index>(), odd()).prop_map(|(at, new)| Edit::Insert(at, new)),
        (any::<Index>(), 1..=3_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        (any::<Index>(), odd()).prop_map(|(at, new)| Edit::Replace(at, new)),
        (any::<Index>(), 1..=6_usize).prop_map(|(at, length)| Edit::Repeat(at, length)),
        (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Edit::Swap(one, other)),
    ];
    (texts, option::weighted(f64::from(times) / 100.0, vec(edit, 1..=3))).prop_map(|(text, edits)| {
        let mut chars: Vec<char> = text.as_ref().chars().collect();
        edits.iter().flatten().for_each(|edit| edit.apply(&mut chars));
        chars.into_iter().collect()
    })
}
