//! The layers of the configuration, and what they come to (`portage.package.ebuild.config`).
//!
//! From the bottom up: profile.env, make.globals, the make.defaults of the profiles, make.conf, the environment.
//! A value hides those below it; but incremental variables add up, `-x` taking away and `-*` everything.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::files::{self, absolute, join, words};
use super::make_conf::{self, Sourcing, Variables};
use super::profile;
use super::repos::{Loaded, Repositories, Sources, Written};
use super::roots::{Roots, Start};
use super::shlex;
use super::{Environment, SettingsError};

/// The variables that add up over the layers (`portage.const.INCREMENTALS`, without USE, which we do not compute).
const INCREMENTALS: [&str; 11] = [
    "ACCEPT_KEYWORDS",
    "CONFIG_PROTECT",
    "CONFIG_PROTECT_MASK",
    "ENV_UNSET",
    "FEATURES",
    "IUSE_IMPLICIT",
    "PROFILE_ONLY_VARIABLES",
    "USE_EXPAND",
    "USE_EXPAND_HIDDEN",
    "USE_EXPAND_IMPLICIT",
    "USE_EXPAND_UNPREFIXED",
];

/// Variables that belong to Portage or to one ebuild, and are dropped wherever they are set (`env_blacklist`).
const INTERNAL: &str = "A AA BASH_FUNC____in_portage_iuse%% BDEPEND BROOT CATEGORY DEPEND DESCRIPTION DOCS EAPI \
    EBUILD_FORCE_TEST EBUILD_PHASE EBUILD_PHASE_FUNC EBUILD_SKIP_MANIFEST ED EMERGE_FROM EPREFIX EROOT GREP_OPTIONS \
    HOMEPAGE IDEPEND INHERITED IUSE IUSE_EFFECTIVE KEYWORDS LICENSE MERGE_TYPE PDEPEND PF PKGUSE PORTAGE_BACKGROUND \
    PORTAGE_BACKGROUND_UNMERGE PORTAGE_BUILDDIR_LOCKED PORTAGE_BUILT_USE PORTAGE_CONFIGROOT PORTAGE_EBUILD_EXIT_FD \
    PORTAGE_EXPLICIT_INHERIT PORTAGE_INTERNAL_CALLER PORTAGE_IPC_ALIVE_FD PORTAGE_IUSE PORTAGE_NONFATAL \
    PORTAGE_PIPE_FD PORTAGE_REPO_NAME PORTAGE_USE PROPERTIES RDEPEND REPOSITORY REQUIRED_USE RESTRICT ROOT \
    SANDBOX_LOG SLOT SRC_URI _";

/// Commands that must exist to be taken; otherwise the one of make.globals is (`validate_commands`).
const COMMANDS: [&str; 3] = ["PORTAGE_BZIP2_COMMAND", "PORTAGE_BUNZIP2_COMMAND", "PORTAGE_LOG_FILTER_FILE_CMD"];

/// What the whole configuration comes to.
#[derive(Debug)]
pub(super) struct Layers {
    /// Every variable's final value.
    pub(super) values: Variables,
    pub(super) roots: Roots,
    pub(super) repositories: Repositories,
}

impl Layers {
    /// Reads everything, in Portage's order.
    pub(super) fn load(start: &Start, environment: &Environment) -> Result<Self, SettingsError> {
        start.check()?;
        let make_conf_paths = make_conf_paths(start);
        // A first time only for what the rest depends on; it sees nothing but its own variables.
        let first = make_conf(&make_conf_paths, &mut Variables::new())?;
        let roots = start.finish(first.get("ROOT").map(String::as_str))?;
        let mut env_d = env_d(&roots)?;
        let mut known = env_d.clone();
        for (name, value) in roots.variables() {
            known.insert(name.to_owned(), value.to_owned());
        }
        let globals_folder = start.globals();
        let mut globals = make_conf::read(&globals_folder.join("make.globals"), Sourcing::Word, Some(&mut known))?
            .unwrap_or_default();
        for (name, value) in [("ACCEPT_PROPERTIES", "*"), ("PORTAGE_BZIP2_COMMAND", "bzip2")] {
            globals.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        let mut env = environment_layer(environment, &env_d);
        let mut locations = Vec::new();
        let loaded =
            Loaded::load(&repository_sources(&roots, &globals_folder, [&globals, &first, &env], &mut locations)?)?;
        if let Some(portdir) = loaded.main_place.clone() {
            known.insert("PORTDIR".to_owned(), portdir.clone());
            env.insert("PORTDIR".to_owned(), portdir);
        } else {
            let portdir = [&globals, &first, &env].iter().rev().find_map(|layer| layer.get("PORTDIR")).cloned();
            env.insert("PORTDIR".to_owned(), portdir.unwrap_or_default());
        }
        let overlays = overlays(&loaded);
        known.insert("PORTDIR_OVERLAY".to_owned(), overlays.clone());
        env.insert("PORTDIR_OVERLAY".to_owned(), overlays);

        let mut defaults = Variables::new();
        for profile in profile::chain(&roots.config_root, &loaded, &locations)? {
            // A profile must not add to the USE of its parents by naming it.
            known.remove("USE");
            let path = profile.location.join("make.defaults");
            let own = if profile.has_directories {
                make_conf::read_recursively(&path, Sourcing::Word, &mut known)?
            } else {
                make_conf::read(&path, Sourcing::Word, Some(&mut known))?
            };
            for (name, value) in own.unwrap_or_default() {
                stack(&mut defaults, name, &value);
            }
        }
        let mut conf = make_conf(&make_conf_paths, &mut known)?;

        let profile_only = plus_minus(defaults.get("PROFILE_ONLY_VARIABLES").map(String::as_str));
        for name in &profile_only {
            for layer in [&mut env_d, &mut conf] {
                layer.remove(name);
            }
        }
        for name in INTERNAL.split(' ') {
            for layer in [&mut env_d, &mut globals, &mut defaults, &mut conf, &mut env] {
                layer.remove(name);
            }
        }
        for (name, value) in roots.variables() {
            env.insert(name.to_owned(), value.to_owned());
        }
        package_env(&roots, &known, &profile_only, &mut conf)?;

        let mut layers = [env_d, globals, defaults, conf, env];
        validate_commands(&mut layers, environment)?;
        let mut values = Variables::new();
        for layer in &layers {
            values.extend(layer.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        // Of these, the environment may hide the others, but not add to them.
        layers[4].retain(|name, _| !profile_only.contains(name));
        for name in INCREMENTALS {
            if values.contains_key(name) {
                let stacked = plus_minus(layers.iter().filter_map(|layer| layer.get(name)).map(String::as_str));
                values.insert(name.to_owned(), Vec::from_iter(stacked).join(" "));
            }
        }
        derive(&mut values, &roots);
        Ok(Self { values, roots, repositories: loaded.repositories })
    }
}

/// Where repositories are configured in a hook: in PORTAGE_REPOSITORIES alone.
pub(super) fn computed_sources(roots: &Roots, repositories: &str) -> Sources {
    Sources {
        written: Written::DuringSync,
        variable: Some(repositories.to_owned()),
        defaults: repository_defaults(roots, ""),
        eprefix: roots.eprefix.clone(),
        ..Sources::default()
    }
}

fn make_conf_paths(start: &Start) -> Vec<PathBuf> {
    let paths = ["etc/make.conf", "etc/portage/make.conf"].map(|path| PathBuf::from(join(&start.config_root, path)));
    let [one, other] = paths.each_ref().map(|path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino())));
    let same = one.is_some() && one == other;
    paths.into_iter().take(if same { 1 } else { 2 }).collect()
}

/// The variables of make.conf but for those that begin with `__`, which are its own business.
fn make_conf(paths: &[PathBuf], known: &mut Variables) -> Result<Variables, SettingsError> {
    let mut all = Variables::new();
    for path in paths {
        all.extend(make_conf::read_recursively(path, Sourcing::Allowed, known)?.unwrap_or_default());
    }
    all.retain(|name, _| !name.starts_with("__"));
    Ok(all)
}

/// The variables of /etc/profile.env, in the prefix of Portage and in `EROOT` (`config._get_env_d`).
fn env_d(roots: &Roots) -> Result<Variables, SettingsError> {
    const BROOT_ONLY: [&str; 3] = ["PATH", "PREROOTPATH", "ROOTPATH"];
    const EROOT_ONLY: [&str; 5] = ["CONFIG_PROTECT", "CONFIG_PROTECT_MASK", "INFODIR", "INFOPATH", "MANPATH"];
    let read = |path: PathBuf| make_conf::read(&path, Sourcing::Word, None).map(Option::unwrap_or_default);
    let mut all = read(PathBuf::from(format!("{}/etc/profile.env", roots.broot)))?;
    let eroot = read(roots.in_eroot("etc/profile.env"))?;
    all.retain(|name, _| !EROOT_ONLY.contains(&name.as_str()) && !name.starts_with("PKG_CONFIG_"));
    all.extend(eroot.into_iter().filter(|(name, _)| !BROOT_ONLY.contains(&name.as_str())));
    Ok(all)
}

/// The environment without what profile.env has put there. Values that are not UTF-8 stay out.
fn environment_layer(environment: &Environment, env_d: &Variables) -> Variables {
    let text = environment.iter().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
    let own = text.filter(|(name, value)| env_d.get(*name).is_none_or(|known| known != value));
    own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// What the repositories are configured by. `locations` gets the places that PORTDIR and PORTDIR_OVERLAY name.
fn repository_sources(
    roots: &Roots,
    globals: &Path,
    layers: [&Variables; 3],
    locations: &mut Vec<String>,
) -> Result<Sources, SettingsError> {
    let last = |name: &str| layers.iter().rev().find_map(|layer| layer.get(name)).cloned().unwrap_or_default();
    let mut overlays = Vec::new();
    for layer in layers {
        locations.extend(layer.get("PORTDIR").cloned());
        if let Some(list) = layer.get("PORTDIR_OVERLAY") {
            overlays = split("PORTDIR_OVERLAY", list)?;
            locations.extend(overlays.clone());
        }
    }
    let [_, _, env] = layers;
    let variable = env.get("PORTAGE_REPOSITORIES").cloned();
    let (portdir, overlays) = match variable {
        Some(_) => Default::default(),
        None => (last("PORTDIR"), overlays),
    };
    Ok(Sources {
        written: Written::Before,
        variable,
        files: vec![globals.join("repos.conf"), PathBuf::from(join(&roots.config_root, "etc/portage/repos.conf"))],
        defaults: repository_defaults(roots, &last("PORTAGE_RSYNC_EXTRA_OPTS")),
        portdir,
        overlays,
        eprefix: roots.eprefix.clone(),
    })
}

/// The words of a variable; an error where quotes are left open, as in Portage.
fn split(name: &'static str, value: &str) -> Result<Vec<String>, SettingsError> {
    shlex::split(value).map_err(|shlex::Unfinished(why)| SettingsError::Value { name, value: value.to_owned(), why })
}

fn repository_defaults(roots: &Roots, rsync_options: &str) -> Vec<(&'static str, String)> {
    vec![
        ("eprefix", roots.eprefix.clone()),
        ("eroot", roots.eroot.clone()),
        ("portage_configroot", roots.config_root.clone()),
        ("root", roots.root.clone()),
        ("sync-rsync-extra-opts", rsync_options.to_owned()),
    ]
}

/// What Portage puts into PORTDIR_OVERLAY: all repositories but the main one, quoted for a shell.
fn overlays(loaded: &Loaded) -> String {
    let skipped = usize::from(loaded.main_place.is_some() && loaded.places.first() == loaded.main_place.as_ref());
    loaded.places.iter().skip(skipped).map(|path| quote(path)).collect::<Vec<_>>().join(" ")
}

/// `text` as one word of a shell (`shlex.quote`).
fn quote(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !text.is_empty() && text.chars().all(safe) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\"'\"'"))
    }
}

/// Sets a variable of a layer that is put together from several files (`stack_dicts`).
fn stack(layer: &mut Variables, name: String, value: &str) {
    let adds_up = name == "USE" || INCREMENTALS.contains(&name.as_str());
    match layer.get_mut(&name) {
        Some(old) if adds_up => {
            old.push(' ');
            old.push_str(value);
        }
        _ => {
            layer.insert(name, value.to_owned());
        }
    }
}

/// What incremental values come to, from the bottom up.
pub(super) fn plus_minus<'a>(values: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    let mut set = BTreeSet::new();
    for word in values.into_iter().flat_map(words) {
        if word == "-*" {
            set.clear();
            continue;
        }
        // Portage complains of a plus sign, and takes it as not there.
        let word = word.strip_prefix('+').unwrap_or(word);
        match word.strip_prefix('-') {
            Some(word) => {
                set.remove(word);
            }
            None if word.is_empty() => {}
            None => {
                set.insert(word.to_owned());
            }
        }
    }
    set
}

/// Adds to make.conf what /etc/portage/package.env sets for every package (`*/*`).
fn package_env(
    roots: &Roots,
    known: &Variables,
    profile_only: &BTreeSet<String>,
    conf: &mut Variables,
) -> Result<(), SettingsError> {
    let user = join(&roots.config_root, "etc/portage");
    let mut names = Vec::new();
    for file in files::recursive_files(Path::new(&join(&user, "package.env")))? {
        for line in files::grab_lines(&file)? {
            let mut words = words(&line);
            if words.next() == Some("*/*") {
                names.extend(words.map(str::to_owned));
            }
        }
    }
    let mut known = known.clone();
    let mut all = Variables::new();
    for name in names {
        let path = PathBuf::from(join(&join(&user, "env"), &name));
        let Some(variables) = make_conf::read(&path, Sourcing::Allowed, Some(&mut known))? else {
            log::warn!("{user}/package.env names {path:?}, which does not exist");
            continue;
        };
        for (name, value) in variables {
            let internal = name == "CONFIG_PROTECT" || INTERNAL.split(' ').any(|known| known == name);
            if internal || profile_only.contains(&name) {
                log::warn!("{path:?} may not set {name}");
            } else {
                stack(&mut all, name, &value);
            }
        }
    }
    for (name, value) in all {
        stack(conf, name, &value);
    }
    Ok(())
}

/// Puts the default in place of commands that are not there (`config._validate_commands`).
fn validate_commands(layers: &mut [Variables; 5], environment: &Environment) -> Result<(), SettingsError> {
    for name in COMMANDS {
        let Some(value) = layers.iter().rev().find_map(|layer| layer.get(name)).cloned() else { continue };
        if is_command(name, &value, environment)? {
            continue;
        }
        log::warn!("{name}={value:?} is no command that can be run; the default is used");
        let [_, globals, ..] = &*layers;
        let mut default = globals.get(name).cloned();
        if let Some(value) = &default {
            if !is_command(name, value, environment)? {
                default = (name == "PORTAGE_BZIP2_COMMAND").then(|| "bzip2".to_owned());
            }
        }
        for layer in layers.iter_mut() {
            layer.remove(name);
        }
        let [_, globals, ..] = &mut *layers;
        globals.extend(default.filter(|value| !value.is_empty()).map(|value| (name.to_owned(), value)));
    }
    Ok(())
}

/// Whether the first word of `command`, the value of `name`, can be run.
fn is_command(name: &'static str, command: &str, environment: &Environment) -> Result<bool, SettingsError> {
    use rustix::fs::{Access, access};
    let words = split(name, command)?;
    let Some(program) = words.first() else { return Ok(false) };
    if program.starts_with('/') {
        return Ok(access(program.as_str(), Access::EXEC_OK).is_ok());
    }
    let path = environment.get("PATH")?.unwrap_or_default();
    let found = path
        .split(':')
        .map(|folder| absolute(&join(folder, program)))
        .any(|file| Path::new(&file).is_file() && access(file.as_str(), Access::EXEC_OK).is_ok());
    Ok(found)
}

/// Sets what Portage derives from the rest.
fn derive(values: &mut Variables, roots: &Roots) {
    let mut default = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|_| !values.contains_key(name)) {
            values.insert(name.to_owned(), value);
        }
    };
    default("USE_ORDER", Some("env:pkg:conf:defaults:pkginternal:features:repo:env.d".to_owned()));
    default("USERLAND", Some("GNU".to_owned()));
    default("PORTAGE_DEPCACHEDIR", Some(format!("{}/var/cache/edb/dep", roots.broot)));
    let chost = values.get("CHOST").cloned();
    if let Some(chost) = chost {
        values.entry("CBUILD".to_owned()).or_insert(chost);
    }
    for name in ["AUTOCLEAN", "NOCOLOR", "NO_COLOR"] {
        if let Some(value) = values.get_mut(name) {
            *value = value.to_lowercase();
        }
    }
    if is_unprivileged(roots) {
        let features = plus_minus([values.get("FEATURES").map_or("", String::as_str), "unprivileged"]);
        values.insert("FEATURES".to_owned(), Vec::from_iter(features).join(" "));
    }
    // We do not compute it; no value is better than a wrong one.
    values.remove("USE");
}

/// Whether we are not root, but may write to `EROOT` (`portage.data._unprivileged_mode`).
fn is_unprivileged(roots: &Roots) -> bool {
    use rustix::fs::{Access, access};
    let eroot = Path::new(&roots.eroot);
    let Some(existing) = eroot.ancestors().find(|path| path.exists()) else { return false };
    let Ok(metadata) = std::fs::metadata(existing) else { return false };
    !rustix::process::getuid().is_root() && access(existing, Access::WRITE_OK).is_ok() && metadata.mode() & 0o002 == 0
}
