//! The settings, compared with what the real Portage makes of the same files and environment.
//!
//! `tests/oracle/settings.py` builds the config roots and asks Portage; without one the comparison is skipped, and says
//! so. Portage 3.0.60 passes over sections of repos.conf that are named by an alias of their repository, so some cases
//! differ there.

#![allow(clippy::unwrap_used)] // a test may

mod cases;
#[path = "settings/given.rs"]
mod given;
mod oracle;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use binpkg_resign::portage::settings::{Environment, Locations, Settings, SettingsError, split_words};
use oracle::Oracle;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

/// What Portage makes of one configuration.
#[derive(Deserialize)]
struct Case {
    name: String,
    root: PathBuf,
    env: BTreeMap<String, String>,
    error: Option<String>,
    r#where: Option<(PathBuf, usize)>,
    #[serde(default)]
    values: BTreeMap<String, Option<String>>,
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    pkgdir: PathBuf,
    #[serde(default)]
    environ: BTreeMap<String, String>,
    #[serde(default)]
    repositories: Vec<Repository>,
    main: Option<String>,
    #[serde(default)]
    expand: Vec<(String, String)>,
    hook: bool,
    hook_env: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Debug, PartialEq, Eq)]
struct Repository {
    name: String,
    location: PathBuf,
    masters: Vec<String>,
    priority: i64,
}

/// What differed.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn compare<T: PartialEq + std::fmt::Debug>(&mut self, case: &Case, what: &str, ours: &T, theirs: &T) {
        if ours != theirs {
            self.0.push(format!(
                "{} ({}): {what} is {ours:?}, Portage says {theirs:?}",
                case.name,
                case.root.display()
            ));
        }
    }
}

fn environment(variables: &BTreeMap<String, String>) -> Environment {
    variables.iter().collect()
}

fn load(variables: &BTreeMap<String, String>) -> Result<Settings, SettingsError> {
    Settings::load(&Locations::default(), environment(variables))
}

/// Whether our settings answer as Portage does; `names` says which variables can be asked for.
fn compare(
    case: &Case,
    settings: &Settings,
    names: &dyn Fn(&str) -> bool,
    differences: &mut Differences,
) -> Result<(), SettingsError> {
    for (name, value) in case.values.iter().filter(|(name, _)| names(name)) {
        differences.compare(case, name, &settings.get(name)?.map(str::to_owned), value);
    }
    differences.compare(case, "features()", &settings.features()?.iter().cloned().collect(), &case.features);
    differences.compare(case, "pkgdir()", &settings.pkgdir()?.to_owned(), &case.pkgdir);
    let path = |name: &str| PathBuf::from(case.values.get(name).cloned().flatten().unwrap_or_default());
    differences.compare(case, "eroot()", &settings.eroot()?.to_owned(), &path("EROOT"));
    differences.compare(case, "eprefix()", &settings.eprefix().to_owned(), &path("EPREFIX"));
    differences.compare(case, "config_root()", &settings.config_root().to_owned(), &path("PORTAGE_CONFIGROOT"));
    let repositories = settings.repositories()?;
    let ours: Vec<Repository> = repositories
        .iter()
        .map(|repository| Repository {
            name: repository.name.clone(),
            location: repository.location.clone(),
            masters: repository.masters.clone(),
            priority: repository.priority,
        })
        .collect();
    differences.compare(case, "repositories()", &ours, &case.repositories);
    differences.compare(case, "main()", &repositories.main().map(|main| main.name.clone()), &case.main);
    for (text, expanded) in &case.expand {
        differences.compare(case, &format!("expand({text:?})"), &settings.expand(text)?, expanded);
    }
    Ok(())
}

/// A plain shell: everything comes from the files and the environment.
fn compare_in_shell(case: &Case, differences: &mut Differences) {
    let mut found = Differences::default();
    let result = load(&case.env).and_then(|settings| {
        compare(case, &settings, &|_| true, &mut found)?;
        let ours = settings.command_environment()?;
        for (name, value) in &case.environ {
            let ours = ours.get(std::ffi::OsStr::new(name)).map(|value| value.to_string_lossy().into_owned());
            found.compare(case, &format!("the command's {name}"), &ours.as_ref(), &Some(value));
        }
        Ok(())
    });
    match (result, &case.error) {
        (Ok(()), None) => differences.0.append(&mut found.0),
        (Ok(()), Some(error)) => differences.0.push(format!("{}: accepted, but Portage says {error}", case.name)),
        (Err(error), None) => differences.0.push(format!("{}: {error}, but Portage accepts it", case.name)),
        (Err(error), Some(_)) => {
            if let Some(theirs) = &case.r#where {
                let ours = match error {
                    SettingsError::Syntax { path, line, .. } => Some((path, line)),
                    _ => None,
                };
                differences.compare(case, "the place of the error", &ours.as_ref(), &Some(theirs));
            }
        }
    }
}

/// A hook: the same answers, and from the environment alone but for the variables that Portage keeps back.
fn compare_in_hook(case: &Case, environment: &BTreeMap<String, String>, differences: &mut Differences) {
    let etc = case.root.join("etc");
    let away = case.root.join("etc.away");
    let handed_on = |name: &str| case.environ.contains_key(name) || !case.values.contains_key(name);
    std::fs::rename(&etc, &away).unwrap();
    let without_files = load(environment).and_then(|settings| compare(case, &settings, &handed_on, differences));
    std::fs::rename(&away, &etc).unwrap();
    if let Err(error) = without_files {
        differences.0.push(format!("{}, in the hook, without files: {error}", case.name));
    }
    // What the environment of the caller alone had, nobody can know later.
    let in_files = |name: &str| !case.env.contains_key(name);
    let with_files = load(environment).and_then(|settings| compare(case, &settings, &in_files, differences));
    if let Err(error) = with_files {
        differences.0.push(format!("{}, in the hook: {error}", case.name));
    }
}

/// ::gentoo's profiles, unpacked below `folder`; the archive is not part of the project.
fn gentoo_profiles(folder: &Path) -> Option<PathBuf> {
    let archive = oracle::shared("data/gentoo-profiles.tar.xz")?;
    let target = folder.join("gentoo-profiles");
    std::fs::create_dir(&target).unwrap();
    let status = Command::new("tar").arg("-xJf").arg(&archive).arg("-C").arg(&target).status();
    if !status.is_ok_and(|status| status.success()) {
        println!("skipped: the profiles of ::gentoo (tar cannot unpack {})", archive.display());
        return None;
    }
    Some(target.canonicalize().unwrap())
}

/// How much was compared.
#[derive(Default)]
struct Counts {
    configurations: Cell<usize>,
    refused: Cell<usize>,
    hooks: Cell<usize>,
}

impl Counts {
    /// Compares one configuration with what the oracle says of it, in every way there is.
    fn compare(&self, answer: &Value) -> Differences {
        let add = |count: &Cell<usize>, more: bool| count.set(count.get() + usize::from(more));
        let case: Case = serde_json::from_value(answer.clone()).unwrap();
        let mut differences = Differences::default();
        add(&self.configurations, true);
        add(&self.refused, case.error.is_some());
        compare_in_shell(&case, &mut differences);
        match &case.hook_env {
            Some(environment) => {
                add(&self.hooks, true);
                compare_in_hook(&case, environment, &mut differences);
            }
            None if case.hook && case.error.is_none() => println!("skipped: {} (git is missing)", case.name),
            None => {}
        }
        differences
    }
}

/// A folder for config roots: very many small files, so in memory if possible.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[test]
fn settings_are_what_portage_says() {
    let folder = folder();
    let profiles = gentoo_profiles(folder.path());
    let mut arguments = vec![folder.path().as_os_str(), "written".as_ref()];
    arguments.extend(profiles.as_deref().map(Path::as_os_str));
    let Some(portage) = Oracle::start("settings.py", &arguments) else { return };
    let counts = Counts::default();
    let mut differences = Differences::default();
    while let Some(answer) = portage.next() {
        differences.0.append(&mut counts.compare(&answer).0);
    }
    let (configurations, refused, hooks) = (counts.configurations.get(), counts.refused.get(), counts.hooks.get());
    println!("{configurations} configurations ({refused} of them refused), {hooks} hooks");
    for difference in differences.0.iter().take(40) {
        println!("{difference}");
    }
    assert!(differences.0.is_empty(), "{} differences from Portage", differences.0.len());
    assert!(configurations > 400 && refused > 50 && hooks > 2, "the oracle has lost most of its cases");
}

#[test]
fn generated_settings_are_what_portage_says() {
    let folder = folder();
    let Some(portage) = Oracle::start("settings.py", &[folder.path().as_os_str()]) else { return };
    let counts = Counts::default();
    let compare = |case: Value| {
        let differences = counts.compare(&portage.ask(&case)).0;
        prop_assert!(differences.is_empty(), "{}", differences.join("\n"));
        Ok(())
    };
    cases::check(300, given::make_conf(), compare);
    cases::check(400, given::soup(), compare);
    cases::check(200, given::repositories(), compare);
    cases::check(120, given::layers(), compare);
    let (configurations, refused, hooks) = (counts.configurations.get(), counts.refused.get(), counts.hooks.get());
    println!("{configurations} configurations ({refused} of them refused), {hooks} hooks");
    assert!(configurations >= 1020 && refused > 150 && hooks > 10, "too little was tried");
}

#[test]
fn command_lines_are_split_as_portage_splits_them() {
    let folder = folder();
    let Some(portage) = Oracle::start("settings.py", &[folder.path().as_os_str()]) else { return };
    let compare = |text: String| {
        prop_assert_eq!(json!(split_words(&text)), portage.ask(&json!(text)));
        Ok(())
    };
    for text in ["", " ", "a b", "a 'b c' d", "'", "\"", "\\", "a\\ b", "''", "a''b", "\"a\\\"b\"", "\"a\\b\"", "a #b"]
    {
        compare(text.to_owned()).unwrap();
    }
    cases::check(400, given::command_line(), compare);
}
