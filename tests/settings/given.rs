//! Configurations as people write them, with what may go wrong; each is what `tests/oracle/settings.py` takes for a case.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Select, select, subsequence};
use serde_json::{Map, Value, json};

const MAKE_CONF: &str = "etc/portage/make.conf";
const GENTOO: &str = "var/db/repos/gentoo";

fn one(of: &'static [&'static str]) -> Select<&'static str> {
    select(of)
}

/// So many of these pieces, one behind the other.
fn joined(
    pieces: impl Strategy<Value = &'static str>,
    length: std::ops::RangeInclusive<usize>,
) -> impl Strategy<Value = String> {
    vec(pieces, length).prop_map(|pieces| pieces.concat())
}

/// A make.conf in one file or in several.
pub(crate) fn make_conf() -> impl Strategy<Value = Value> {
    const NAMES: &[&str] =
        &["V", "B", "C", "FEATURES", "PKGDIR", "CHOST", "BINPKG_COMPRESS", "BINPKG_GPG_SIGNING_KEY", "ACCEPT_KEYWORDS"];
    const PIECES: &[&str] = &[
        "x",
        "y z",
        "-x",
        "-*",
        "$V",
        "${B}",
        "${C}",
        "\\$V",
        "\\\\",
        "\\\"",
        "'",
        "#",
        " # ",
        "\n",
        "\\\n",
        "/a//b/..",
        "\u{e9}",
        "$PKGDIR",
        "${FEATURES}",
        "\t",
        "\\n",
        "=",
        "%",
        "`",
        "~",
    ];
    const BARE: &[&str] =
        &["x", "-x", "$V", "${B}", "\\ ", "\\$V", "\\\\", "/a/b", "a:b", "~", "*", "@", "%", "{a,b}", "\\#", "a#b"];
    let quoted = || joined(one(PIECES), 0..=6);
    let line = prop_oneof![
        45 => (one(NAMES), quoted()).prop_map(|(name, value)| format!("{name}=\"{value}\"")),
        15 => (one(NAMES), quoted()).prop_map(|(name, value)| format!("{name}='{}'", value.replace('\'', ""))),
        25 => (one(NAMES), joined(one(BARE), 1..=4)).prop_map(|(name, value)| format!("{name}={value}")),
        5 => one(&["# comment 'x ", " ", "   ", "export "]).prop_map(str::to_owned),
        5 => (one(NAMES), one(BARE), one(&PIECES[..6])).prop_map(|(name, one, two)| format!("export {name}={one}\"{two}\"'z'")),
        5 => Just("source more".to_owned()),
    ];
    let end = || one(&["", "\n"]);
    let more = (one(NAMES), one(NAMES), end()).prop_map(|(name, value, end)| format!("{name}=\"${value}m\"{end}"));
    (vec(line, 1..=12), end(), more, proptest::bool::weighted(0.3)).prop_map(|(lines, end, more, is_directory)| {
        let mut files = Map::new();
        files.insert("etc/portage/more".to_owned(), json!(more));
        if is_directory {
            let (first, second) = lines.split_at(lines.len() / 2);
            files.insert(MAKE_CONF.to_owned(), json!(false));
            files.insert(format!("{MAKE_CONF}/1"), json!(first.join("\n") + "\n"));
            files.insert(format!("{MAKE_CONF}/2"), json!(second.join("\n")));
            files.insert(format!("{MAKE_CONF}/more"), json!("V=${V}more\n"));
        } else {
            files.insert(MAKE_CONF.to_owned(), json!(lines.join("\n") + end));
        }
        json!({"name": "a make.conf", "files": files, "names": ["V", "B", "C"]})
    })
}

/// A file made of nothing but what the lexer knows.
pub(crate) fn soup() -> impl Strategy<Value = Value> {
    const TOKENS: &[&str] = &[
        "V",
        "B",
        "=",
        "=",
        "=",
        " ",
        "\n",
        "\n",
        "\"",
        "\"",
        "'",
        "'",
        "\\",
        "$",
        "${",
        "}",
        "$V",
        "${V}",
        "#",
        "export ",
        "source ",
        "more",
        "x",
        "\t",
        "\r",
        "(",
        "]",
        "\u{e9}",
        "1",
        ";",
        "+",
        "\u{c}",
        "V=b\n",
        "B=\"$V\"\n",
        "-",
        "\\\n",
        "\\\\",
    ];
    let around = option::weighted(0.6, (one(&["B=", "B=\"", "B='"]), one(&["", "\"", "'", "\n", "\"\n", "'\n"])));
    (joined(one(TOKENS), 1..=18), around).prop_map(|(text, around)| {
        let text = match around {
            Some((before, after)) => format!("V=1\n{before}{text}{after}"),
            None => text,
        };
        let files = json!({MAKE_CONF: text, "etc/portage/more": "V=more\n"});
        json!({"name": "soup", "files": files, "names": ["V", "B", "x", "VV", "VB", "BV", "more"]})
    })
}

/// repos.conf and the repositories' layouts, thrown together.
pub(crate) fn repositories() -> impl Strategy<Value = Value> {
    const NAMES: &[&str] = &["gentoo", "other", "third", "fourth"];
    let place = |name: &str| if name == "gentoo" { GENTOO.to_owned() } else { name.to_owned() };
    let layout = (
        option::weighted(0.8, one(&["", "gentoo", "other", "third gentoo", "nowhere"])),
        option::weighted(0.4, subsequence(vec!["a", "b", "c", "other", "-a"], 2).prop_shuffle()),
        option::weighted(0.1, one(NAMES)),
    )
        .prop_map(|(masters, aliases, name)| {
            let masters = masters.map(|masters| format!("masters = {masters}\n")).unwrap_or_default();
            let aliases = aliases.map(|aliases| format!("aliases = {}\n", aliases.join(" "))).unwrap_or_default();
            masters + &aliases + &name.map(|name| format!("repo-name = {name}\n")).unwrap_or_default()
        });
    // the name that a repository has of itself: usually the one it is known by
    let own_name = prop_oneof![54 => Just(Some("")), 9 => Just(Some("other")), 9 => Just(Some("x y")), 8 => Just(None)];
    let section = (
        proptest::bool::weighted(0.11),
        option::weighted(0.4, one(&["-1000", "-1", "0", "1", "5", "5", "x"])),
        option::weighted(0.2, one(&["a", "b", "third", "-b a"])),
        option::weighted(0.2, one(&["", "gentoo", "a"])),
    );
    (
        vec((own_name, layout), NAMES.len()),
        option::weighted(0.9, one(&["gentoo", "gentoo", "other", "a"])),
        subsequence(vec!["gentoo", "other", "third", "fourth", "a"], 1..=5).prop_shuffle(),
        vec(section, 5),
        proptest::bool::weighted(0.15),
        option::weighted(0.15, one(&["other", GENTOO])),
    )
        .prop_map(move |(repositories, main, sections, options, has_overlay, portdir)| {
            let mut files = Map::new();
            for (name, (own_name, layout)) in NAMES.iter().zip(repositories) {
                if let Some(own_name) = own_name {
                    let own_name = if own_name.is_empty() { *name } else { own_name };
                    files.insert(format!("{}/profiles/repo_name", place(name)), json!(format!("{own_name}\n")));
                }
                files.insert(format!("{}/metadata/layout.conf", place(name)), json!(layout));
            }
            let mut text = main.map(|main| format!("[DEFAULT]\nmain-repo = {main}\n")).unwrap_or_default();
            for (name, (is_missing, priority, aliases, masters)) in sections.into_iter().zip(options) {
                let location = match (is_missing, name) {
                    (true, _) => "nowhere".to_owned(),
                    (false, "a") => "other".to_owned(),
                    (false, name) => place(name),
                };
                text += &format!("[{name}]\nlocation = @ROOT@/{location}\n");
                for (key, value) in [("priority", priority), ("aliases", aliases), ("masters", masters)] {
                    text += &value.map(|value| format!("{key} = {value}\n")).unwrap_or_default();
                }
            }
            files.insert("etc/portage/repos.conf".to_owned(), json!(text));
            let mut env = Map::new();
            if has_overlay {
                env.insert("PORTDIR_OVERLAY".to_owned(), json!("@ROOT@/third"));
            }
            if let Some(portdir) = portdir {
                env.insert("PORTDIR".to_owned(), json!(format!("@ROOT@/{portdir}")));
            }
            json!({"name": "repositories", "files": files, "env": env})
        })
}

/// `FEATURES` and their like over all layers, with profiles that inherit each other.
pub(crate) fn layers() -> impl Strategy<Value = Value> {
    const KEYS: [&str; 6] = ["FEATURES", "CONFIG_PROTECT", "USE_EXPAND_HIDDEN", "V", "B", "ENV_UNSET"];
    let some = || {
        let flag = one(&["a", "b", "c", "-a", "-b", "-c", "-*", "+a", "strict", "-news"]);
        vec(flag, 0..=4).prop_map(|flags| flags.join(" "))
    };
    let lines =
        (subsequence(KEYS.to_vec(), 3).prop_shuffle(), vec((any::<bool>(), some()), 3)).prop_map(|(keys, values)| {
            let lines = keys.into_iter().zip(values).map(|(key, (adds, value))| match adds {
                true => format!("{key}=\"${{{key}}} {value}\"\n"),
                false => format!("{key}=\"{value}\"\n"),
            });
            lines.collect::<String>()
        });
    let parent = (any::<proptest::sample::Index>(), one(&["../", "gentoo:", ":"]));
    let profile = (lines, one(&["0", "5", "6", "7", "8"]), option::weighted(0.8, vec(parent, 1..=2)));
    (
        vec(profile, 1..=6),
        option::weighted(0.4, some()),
        (some(), some()),
        option::of(some()),
        proptest::bool::weighted(0.2),
    )
        .prop_map(|(profiles, user, (features, protected), environment, is_hook)| {
            let mut files = Map::new();
            let last = profiles.len() - 1;
            for (number, (lines, eapi, parents)) in profiles.into_iter().enumerate() {
                let folder = format!("{GENTOO}/profiles/p{number}");
                files.insert(format!("{folder}/make.defaults"), json!(lines));
                files.insert(format!("{folder}/eapi"), json!(format!("{eapi}\n")));
                if let Some(parents) = parents.filter(|_| number > 0) {
                    // only those before it, so that there are no circles
                    let mut lower: Vec<_> =
                        parents.iter().map(|(parent, prefix)| (parent.index(number), prefix)).collect();
                    lower.dedup_by_key(|(parent, _)| *parent);
                    let lines = lower.iter().map(|(parent, prefix)| format!("{prefix}p{parent}\n"));
                    files.insert(format!("{folder}/parent"), json!(lines.collect::<String>()));
                }
            }
            files.insert("etc/portage/make.profile".to_owned(), json!(format!("->@/{GENTOO}/profiles/p{last}")));
            if let Some(user) = user {
                let text = format!("FEATURES=\"{user}\"\nA=\"${{V}}u\"\n");
                files.insert("etc/portage/profile/make.defaults".to_owned(), json!(text));
            }
            let text = format!("FEATURES=\"{features}\"\nB=\"$V\"\nCONFIG_PROTECT=\"{protected}\"\n");
            files.insert(MAKE_CONF.to_owned(), json!(text));
            let env = environment.map(|features| json!({"FEATURES": features})).unwrap_or_else(|| json!({}));
            json!({"name": "layers", "files": files, "env": env, "hook": is_hook})
        })
}

/// A command line to take apart.
pub(crate) fn command_line() -> impl Strategy<Value = String> {
    const TOKENS: &[&str] = &[
        "a", "b", " ", " ", "\"", "'", "\\", "\n", "#", "=", "\u{e9}", "\t", "''", "\"\"", "\\\\", "\u{a0}", "$x", "&",
    ];
    joined(one(TOKENS), 0..=12)
}
