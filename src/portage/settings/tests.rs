//! What the comparison with Portage (tests/settings.rs) does not reach: errors and their words, limits, the hook's
//! economy, and our own settings.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::fingerprint::Fingerprint;
use super::expand::{Expanded, expand};
use super::ini::Ini;
use super::make_conf::{self, Sourcing, Variables};
use super::{Environment, Foreign, KeyMigration, Locations, NotSigning, Settings, SettingsError, files, split_words};

/// A prefix with make.globals and the files of a test.
struct Prefix {
    folder: tempfile::TempDir,
}

impl Prefix {
    fn new(files: &[(&str, &str)]) -> Self {
        let prefix = Self { folder: tempfile::tempdir().unwrap() };
        prefix.write("usr/share/portage/config/make.globals", "PKGDIR=/pkg\nFEATURES=strict\n");
        prefix.write("etc/portage/none", "");
        for (name, text) in files {
            prefix.write(name, text);
        }
        prefix
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn settings(&self, environment: &[(&str, &str)]) -> Settings {
        let locations = Locations { eprefix: Some(self.folder.path().to_owned()), ..Locations::default() };
        Settings::load(&locations, environment.iter().copied().collect()).unwrap()
    }
}

/// The environment of a hook, as far as it tells that it is one; the configuration root does not exist.
fn hook(more: &[(&str, &str)]) -> Settings {
    let usual = [
        ("FEATURES", "binpkg-multi-instance news"),
        ("PORTAGE_FEATURES", "binpkg-multi-instance news"),
        ("PORTAGE_BIN_PATH", "/usr/lib/portage/python3.13"),
        ("PORTAGE_CONFIGROOT", "/nowhere/at/all/"),
        ("PORTAGE_OVERRIDE_EPREFIX", ""),
        ("PORTAGE_REPOSITORIES", ""),
        ("EPREFIX", ""),
        ("EROOT", ""),
        ("ROOT", ""),
        ("SYSROOT", ""),
        ("PKGDIR", "/var/cache//binpkgs/"),
    ];
    Settings::load(&Locations::default(), usual.iter().chain(more).copied().collect()).unwrap()
}

#[test]
fn the_hook_needs_no_file() {
    let settings = hook(&[]);
    assert_eq!(settings.signing().unwrap(), None);
    assert_eq!(settings.why_not_signing().unwrap(), Some(NotSigning::Feature));
    assert_eq!(settings.pkgdir().unwrap(), Path::new("/var/cache/binpkgs"));
    assert_eq!(settings.get("ROOT").unwrap(), Some("/"));
    assert_eq!(settings.mtimedb_path().unwrap(), Path::new("/var/cache/edb/mtimedb"));
    assert_eq!(settings.get("BINPKG_RESIGN_FOREIGN").unwrap(), None);
    assert_eq!(settings.repositories().unwrap().iter().count(), 0);
    // This one Portage keeps to itself, so that the files are asked; they are not there.
    assert!(matches!(settings.get("BINPKG_COMPRESS"), Err(SettingsError::ConfigRoot { .. })));
}

#[test]
fn what_is_no_hook_reads_the_files() {
    for more in [("PORTAGE_FEATURES", "other"), ("EBUILD_PHASE", "postinst")] {
        assert!(matches!(hook(&[more]).features(), Err(SettingsError::ConfigRoot { .. })), "{more:?}");
    }
}

#[test]
fn the_command_line_wins() {
    let prefix = Prefix::new(&[("etc/portage/make.conf", "PKGDIR=/conf\nROOT=/conf\n")]);
    let locations = Locations {
        eprefix: Some(prefix.folder.path().to_owned()),
        root: Some("/given/root".into()),
        pkgdir: Some("/given//pkgdir/x/..".into()),
        config_root: None,
    };
    let variables = [("PKGDIR", "/env"), ("ROOT", "/env"), ("EPREFIX", "/env"), ("PORTAGE_OVERRIDE_EPREFIX", "/env")];
    let settings = Settings::load(&locations, variables.into_iter().collect()).unwrap();
    assert_eq!(settings.pkgdir().unwrap(), Path::new("/given/pkgdir"));
    assert_eq!(settings.eprefix(), prefix.folder.path());
    assert_eq!(settings.eroot().unwrap(), Path::new("/given/root").join(prefix.path("").strip_prefix("/").unwrap()));
    assert_eq!(settings.config_root(), prefix.folder.path());
    assert_eq!(settings.get("PKGDIR").unwrap(), Some("/env"));
}

#[test]
fn errors_name_file_and_line() {
    let prefix = Prefix::new(&[("etc/portage/make.conf", "A=1\n\nB [\n")]);
    let text = prefix.settings(&[]).features().unwrap_err().to_string();
    assert!(text.contains("etc/portage/make.conf\", line 3:"), "{text}");
    let prefix = Prefix::new(&[("etc/portage/make.conf/x", "source ../more\n"), ("etc/portage/more", "\n\nA [\n")]);
    let text = prefix.settings(&[]).features().unwrap_err().to_string();
    assert!(text.contains("more\", line 3:"), "{text}");
    let prefix = Prefix::new(&[("etc/portage/make.conf", "\nsource nowhere\n")]);
    let text = prefix.settings(&[]).features().unwrap_err().to_string();
    assert!(text.contains("make.conf\", line") && text.contains("nowhere\" does not exist"), "{text}");
}

#[test]
fn a_missing_portage_is_said_to_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let locations = Locations { eprefix: Some(folder.path().to_owned()), ..Locations::default() };
    let settings = Settings::load(&locations, Environment::default()).unwrap();
    assert!(matches!(settings.pkgdir(), Err(SettingsError::Unset { name: "PKGDIR", .. })));
}

#[test]
fn values_that_are_not_utf_8_are_errors_where_they_count() {
    let prefix = Prefix::new(&[]);
    let locations = Locations { eprefix: Some(prefix.folder.path().to_owned()), ..Locations::default() };
    let bad = OsString::from_vec(b"/x\xff".to_vec());
    let environment: Environment = [(OsString::from("PKGDIR"), bad.clone()), (bad.clone(), bad)].into_iter().collect();
    let settings = Settings::load(&locations, environment).unwrap();
    assert!(settings.has_feature("strict").unwrap());
    assert!(matches!(settings.pkgdir(), Err(SettingsError::NotUtf8 { name }) if name == "PKGDIR"));
    assert_eq!(settings.command_environment().unwrap().get(&OsString::from("FEATURES")), Some(&"strict".into()));
}

#[test]
fn files_that_have_no_end_are_refused() {
    let doubling: String = std::iter::once("A=xxxxxxxx\n").chain(std::iter::repeat_n("A=$A$A\n", 60)).collect();
    let deep: String = (0..300).map(|number| format!("A{number}=x\n")).collect();
    for (name, text) in [
        ("etc/portage/make.conf", "source make.conf\n"),
        ("etc/portage/make.conf", doubling.as_str()),
        ("etc/portage/make.profile/parent", "."),
        ("etc/portage/make.profile/parent", "../make.profile\n../make.profile\n"),
    ] {
        let prefix = Prefix::new(&[(name, text)]);
        let error = prefix.settings(&[]).features().unwrap_err();
        assert!(matches!(error, SettingsError::TooMuch { .. }), "{error}");
    }
    assert!(Prefix::new(&[("etc/portage/make.conf", &deep)]).settings(&[]).features().is_ok());
}

#[test]
fn directories_in_circles_come_to_an_end() {
    let prefix = Prefix::new(&[("etc/portage/make.conf/a", "A=$A.\n")]);
    for name in ["b", "c"] {
        std::os::unix::fs::symlink(".", prefix.path("etc/portage/make.conf").join(name)).unwrap();
    }
    assert!(matches!(prefix.settings(&[]).features(), Err(SettingsError::TooMuch { .. })));
}

#[test]
fn interpolation_without_end_is_refused() {
    let many = |name: &str| format!("%({name})s").repeat(200);
    let mut text = "[x]\na =\n".to_owned();
    for pair in ["ab", "bc", "cd", "de", "ef", "fg"] {
        let (inner, outer) = pair.split_at(1);
        text += &format!("{outer} = {}\n", many(inner));
    }
    let mut ini = Ini::default();
    ini.read(Path::new("repos.conf"), &text).unwrap();
    assert!(ini.options(ini.sections.first().unwrap()).is_err());
    let options: String = (0..20_000).map(|number| format!("o{number} = x\n")).collect();
    assert!(Ini::default().read(Path::new("repos.conf"), &format!("[x]\n{options}")).is_err());
}

/// Nothing that a file may hold makes us panic.
#[test]
fn any_bytes_will_do() {
    let pieces =
        ["A", "=", "\"", "'", "\\", "$", "{", "}", "\n", " ", "#", "%(", ")s", "[", "]", "é", "\u{fffd}", "source "];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("make.conf");
    let mut state: u64 = 1;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..1000 {
        let text: String = (0..next(20)).map(|_| pieces[next(pieces.len())]).collect();
        let _ = split_words(&text);
        let _ = expand(&text, &mut |name| Ok(Some(name.to_owned())));
        let mut ini = Ini::default();
        if ini.read(&path, &format!("[x]\n{text}")).is_ok() {
            for section in &ini.sections {
                let _ = ini.options(section);
            }
        }
        let _ = files::normalize(&text);
        std::fs::write(&path, &text).unwrap();
        let _ = make_conf::read(&path, Sourcing::Allowed, Some(&mut Variables::new()));
    }
}

#[test]
fn expansion_follows_portage() {
    let value = |text: &str| match expand(text, &mut |name| Ok((name == "A").then(|| "1".to_owned()))).unwrap() {
        Expanded::Value(value) => Some(value),
        Expanded::Bad(_) | Expanded::TooLong => None,
    };
    for (text, expected) in [
        ("${A}$A-$B", Some("11-")),
        ("'$A' \"'$A'\"", Some("'$A' \"'1'\"")),
        ("a\nb\\\nc\\nd", Some("a bc\\nd")),
        ("\\$A\\\\$A$", Some("$A\\$A$")),
        ("${A:-x}", None),
        ("$(x)", None),
        ("${A", None),
    ] {
        assert_eq!(value(text).as_deref(), expected, "{text}");
    }
}

#[test]
fn paths_are_normalized_by_name() {
    for (path, expected) in
        [("", "."), ("/", "/"), ("//a//b/./../c/", "/a/c"), ("../a/..", ".."), ("a/..", "."), ("/../a", "/a")]
    {
        assert_eq!(files::normalize(path), expected, "{path:?}");
    }
}

#[test]
fn signing_needs_three_things() {
    let features = ("FEATURES", "binpkg-signing");
    let home = ("BINPKG_GPG_SIGNING_GPG_HOME", "/root/gpg");
    let key = ("BINPKG_GPG_SIGNING_KEY", "0xABC");
    let prefix = Prefix::new(&[]);
    for (variables, missing) in [
        (vec![home, key], NotSigning::Feature),
        (vec![features, key], NotSigning::Home),
        (vec![features, home], NotSigning::Key),
        (vec![features, home, ("BINPKG_GPG_SIGNING_KEY", " ")], NotSigning::Key),
    ] {
        let settings = prefix.settings(&variables);
        assert_eq!(settings.why_not_signing().unwrap(), Some(missing));
        assert_eq!(settings.signing().unwrap(), None);
    }
    let settings = prefix.settings(&[features, home, key, ("BINPKG_GPG_SIGNING_BASE_COMMAND", "sign $HOME")]);
    let signing = settings.signing().unwrap().unwrap();
    assert_eq!(settings.why_not_signing().unwrap(), None);
    assert_eq!((signing.home.as_str(), signing.key.as_str()), ("/root/gpg", "0xABC"));
    assert_eq!((signing.digest.as_str(), signing.base_command.as_str()), ("SHA512", "sign $HOME"));
}

#[test]
fn our_own_settings_are_checked() {
    let prefix = Prefix::new(&[]);
    let migrations = |value: &str| prefix.settings(&[("BINPKG_GPG_SIGNING_KEY_MIGRATION", value)]).key_migrations();
    let (a, b, c) = ("a".repeat(40), "B".repeat(40), "0".repeat(64));
    let pair = |old: &str, new: &str| KeyMigration {
        old: Fingerprint::new(old).unwrap(),
        new: Fingerprint::new(new).unwrap(),
    };
    assert_eq!(migrations("").unwrap(), []);
    assert_eq!(
        migrations(&format!(" {a}=0x{b}\n{c}={b} {a}={b}")).unwrap(),
        [pair(&a, &b), pair(&c, &b)],
        "a pair given twice counts once"
    );
    for wrong in [a.clone(), format!("{a}="), format!("{a}={b}x"), format!("{a}={a}"), format!("{a}={b} {a}={c}")] {
        let error = migrations(&wrong).unwrap_err().to_string();
        assert!(error.starts_with("BINPKG_GPG_SIGNING_KEY_MIGRATION="), "{error}");
    }

    let foreign = |value: &str| prefix.settings(&[("BINPKG_RESIGN_FOREIGN", value)]).foreign();
    assert_eq!((foreign("").unwrap(), foreign("leave").unwrap()), (Foreign::Leave, Foreign::Leave));
    assert_eq!(foreign(" hold ").unwrap(), Foreign::Hold);
    assert!(foreign("keep").is_err() && foreign("leave hold").is_err());

    let timeout = |value: &str| prefix.settings(&[("BINPKG_RESIGN_TIMEOUT", value)]).sign_timeout();
    assert_eq!(timeout("").unwrap(), Duration::from_secs(60));
    assert_eq!(timeout(" 5 ").unwrap(), Duration::from_secs(5));
    for wrong in ["0", "-1", "+1", "1.5", "1m", "99999999999"] {
        assert!(timeout(wrong).is_err(), "{wrong}");
    }
}

/// A section of PORTAGE_REPOSITORIES, as Portage writes it, for the repository `name` at `location`.
fn section(name: &str, location: &Path, more: &str) -> String {
    let main = "[DEFAULT]\nmain-repo = gentoo\n\n";
    format!("{main}[{name}]\nauto-sync = yes\nlocation = {}\nsync-type = rsync\n{more}\n", location.display())
}

#[test]
fn after_a_sync_the_latest_snapshot_counts() {
    use std::os::unix::fs::symlink;
    let prefix = Prefix::new(&[
        ("rcu/snapshots/1/profiles/repo_name", "gentoo"),
        ("rcu/snapshots/2/profiles/repo_name", "gentoo"),
        ("elsewhere/profiles/repo_name", "gentoo"),
    ]);
    let [first, second, elsewhere] =
        ["rcu/snapshots/1", "rcu/snapshots/2", "elsewhere"].map(|name| prefix.path(name).canonicalize().unwrap());
    let rcu = format!("sync-rcu = true\nsync-rcu-store-dir = {}", prefix.path("rcu").display());
    let location = |location: &Path, more: &str| {
        let settings = hook(&[("PORTAGE_REPOSITORIES", &section("gentoo", location, more))]);
        settings.repositories().unwrap().get("gentoo").unwrap().location.clone()
    };
    // without `latest`, there is nothing newer
    assert_eq!(location(&first, &rcu), first);
    symlink("snapshots/2", prefix.path("rcu/latest")).unwrap();
    assert_eq!(location(&first, &rcu), second);
    assert_eq!(location(&second, &rcu), second);
    assert_eq!(location(&elsewhere, &rcu), elsewhere, "not in the store");
    assert_eq!(location(&first, &rcu.replace("true", "false")), first);
    // from a shell Portage takes what it says there, be it the latest or not
    let shell = prefix.settings(&[("PORTAGE_REPOSITORIES", &section("gentoo", &first, &rcu))]);
    assert_eq!(shell.repositories().unwrap().get("gentoo").unwrap().location, first);
    std::fs::remove_file(prefix.path("rcu/latest")).unwrap();
    symlink("/nowhere", prefix.path("rcu/latest")).unwrap();
    assert_eq!(location(&first, &rcu), first, "a link to nowhere");
}

#[test]
fn how_a_repository_is_synced() {
    let prefix = Prefix::new(&[("repo/profiles/repo_name", "gentoo")]);
    let sync = |more: &str| {
        let text = format!("[gentoo]\nlocation = {}\n{more}", prefix.path("repo").display());
        prefix.write("etc/portage/repos.conf", &text);
        prefix.settings(&[]).repositories().unwrap().get("gentoo").unwrap().sync.clone()
    };
    let none = sync("");
    assert!(none.auto_sync && !none.is_synced() && !none.hooks_only_on_change && none.rcu_store.is_none());
    let rsync =
        sync("sync-type = rsync\nsync-rcu = Yes\nsync-rcu-store-dir = /rcu\nsync-hooks-only-on-change = TRUE\n");
    assert!(rsync.is_synced() && rsync.hooks_only_on_change);
    assert_eq!((rsync.sync_type.as_str(), rsync.rcu_store.as_deref()), ("rsync", Some(Path::new("/rcu"))));
    assert_eq!(sync("sync-type = rsync\nsync-rcu = yes\n").rcu_store, None);
    assert!(sync("sync-type = webrsync\nsync-webrsync-delta = true\n").webrsync_delta);
    for word in ["no", "false", "elephant", ""] {
        assert!(!sync(&format!("sync-type = git\nauto-sync = {word}\n")).is_synced(), "{word}");
    }
}

#[test]
fn portdir_takes_nothing_from_how_it_is_synced() {
    let prefix = Prefix::new(&[("repo/profiles/repo_name", "gentoo")]);
    let location = prefix.path("repo");
    let text = section("gentoo", &location, "sync-hooks-only-on-change = yes");
    prefix.write("etc/portage/repos.conf", &text);
    prefix.write("etc/portage/make.conf", &format!("PORTDIR={}\n", location.display()));
    let settings = prefix.settings(&[]);
    let sync = &settings.repositories().unwrap().get("gentoo").unwrap().sync;
    assert!(sync.is_synced() && sync.hooks_only_on_change, "{sync:?}");
}

#[test]
fn the_running_root_has_its_own_configuration() {
    let prefix = Prefix::new(&[
        ("etc/portage/make.conf", "PKGDIR=/pkg\n"),
        ("target/etc/portage/make.conf", "PKGDIR=/target/pkg\n"),
        ("repo/profiles/repo_name", "gentoo"),
    ]);
    let text = section("gentoo", &prefix.path("repo"), "");
    prefix.write("target/etc/portage/repos.conf", &text);
    let eprefix = prefix.folder.path();
    let mtimedb = |root: &str| Path::new(root).join(eprefix.strip_prefix("/").unwrap()).join("var/cache/edb/mtimedb");
    assert!(prefix.settings(&[]).running_root().unwrap().is_none());
    assert!(prefix.settings(&[("ROOT", "/")]).second_mtimedb_path().unwrap().is_none());

    let one = prefix.settings(&[("ROOT", "/x"), ("FEATURES", "-strict")]);
    assert_eq!(one.mtimedb_path().unwrap(), mtimedb("/x"));
    assert_eq!(one.second_mtimedb_path().unwrap(), Some(mtimedb("/")));
    let running = one.running_root().unwrap().unwrap();
    assert!(running.has_feature("strict").unwrap(), "the caller's environment is for the target");
    assert!(running.running_root().unwrap().is_none());

    let target = prefix.path("target");
    let other = prefix.settings(&[("ROOT", "/x"), ("PORTAGE_CONFIGROOT", target.to_str().unwrap())]);
    assert_eq!(other.pkgdir().unwrap(), Path::new("/target/pkg"));
    assert_eq!(other.second_mtimedb_path().unwrap(), None, "another PKGDIR");
    let running = other.running_root().unwrap().unwrap();
    assert_eq!(running.pkgdir().unwrap(), Path::new("/pkg"));
    assert!(running.repositories().unwrap().get("gentoo").is_some(), "the target's repositories");
}

#[test]
fn a_repository_that_the_sync_has_renamed_is_looked_for_in_the_files() {
    let prefix = Prefix::new(&[
        ("repo/profiles/repo_name", "new"),
        ("repo/metadata/layout.conf", "masters =\naliases = section"),
        ("other/profiles/repo_name", "other"),
    ]);
    let place = prefix.path("repo").canonicalize().unwrap();
    let before = section("old", &place, "");
    let root = format!("{}/", prefix.folder.path().display());
    let names = |before: &str, files: &str| -> Vec<String> {
        prefix.write("etc/portage/repos.conf", files);
        let variables = [("PORTAGE_REPOSITORIES", before), ("PORTAGE_CONFIGROOT", root.as_str())];
        let settings = hook(&variables);
        settings.repositories().unwrap().iter().map(|repository| repository.name.clone()).collect()
    };
    let in_files = section("section", &place, "");
    assert_eq!(names(&before, &in_files), ["new"]);
    // the caller's environment had another one
    let other = section("other", &prefix.path("other"), "");
    assert_eq!(names(&before, &other), Vec::<String>::new());
    assert_eq!(names(&other, &in_files), ["other"]);
}

#[test]
fn the_index_is_trusted_where_hook_and_files_agree() {
    let prefix = Prefix::new(&[]);
    let root = format!("{}/", prefix.folder.path().display());
    let trusted = |environment: &str, files: &str| {
        prefix.write("etc/portage/make.conf", &format!("FEATURES=\"{files}\"\n"));
        let features = [("FEATURES", environment), ("PORTAGE_FEATURES", environment)];
        hook(&[features[0], features[1], ("PORTAGE_CONFIGROOT", root.as_str())]).trusts_index().unwrap()
    };
    assert!(trusted("pkgdir-index-trusted", "pkgdir-index-trusted"));
    assert!(!trusted("pkgdir-index-trusted", "") && !trusted("", "pkgdir-index-trusted"));
    assert!(
        hook(&[("FEATURES", "pkgdir-index-trusted"), ("PORTAGE_FEATURES", "pkgdir-index-trusted")])
            .trusts_index()
            .unwrap()
    );
}

#[test]
fn every_pkgdir_that_a_pass_goes_over() {
    let prefix = Prefix::new(&[("etc/portage/make.conf", "PKGDIR=/files\n")]);
    let root = format!("{}/", prefix.folder.path().display());
    let others = |settings: &Settings| -> Vec<PathBuf> {
        settings.other_pkgdirs().unwrap().iter().map(|other| other.pkgdir().unwrap().to_owned()).collect()
    };
    assert_eq!(others(&prefix.settings(&[("PKGDIR", "/env")])), Vec::<PathBuf>::new());
    assert_eq!(others(&prefix.settings(&[("PKGDIR", "/env"), ("ROOT", "/x")])), [Path::new("/files")]);
    let place = ("PORTAGE_CONFIGROOT", root.as_str());
    assert_eq!(others(&hook(&[place])), [Path::new("/files")]);
    assert_eq!(others(&hook(&[place, ("PKGDIR", "/files")])), Vec::<PathBuf>::new());
    assert_eq!(others(&hook(&[])), Vec::<PathBuf>::new(), "there are no files");
}
