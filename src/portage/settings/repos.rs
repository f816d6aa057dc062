//! The ebuild repositories, as `portage.repository.config.RepoConfigLoader` finds them.

use std::path::{Path, PathBuf};

use super::SettingsError;
use super::files::{self, is_dir, join, normalize, real_path, words};
use super::ini::{BrokenIni, Ini, Section};
use super::layout::{LayoutConf, eapi_is_default_for_profiles, read_eapi, read_layout, read_repo_name};
use super::sync::SyncSettings;

/// An ebuild repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Its name, as packages carry it in `repository`.
    pub name: String,
    /// Its real path, without symbolic links (`portdb.getRepositoryPath`); mtimedb names update files by it. In a hook,
    /// this is where the repository is after the sync, which is where the update pass looks for it.
    pub location: PathBuf,
    /// Other names it goes by.
    pub aliases: Vec<String>,
    /// The names of its masters, those that exist.
    pub masters: Vec<String>,
    /// Its priority; a higher one goes before a lower one. 0 where none was set, -1000 for such a main repository.
    pub priority: i64,
    /// How it is synced.
    pub sync: SyncSettings,
}

/// All ebuild repositories that Portage uses.
#[derive(Debug, Clone, Default)]
pub struct Repositories {
    ordered: Vec<Repository>,
    main: Option<Repository>,
}

impl Repositories {
    /// The repositories in the order of `portdb.getRepositories()`, in which the update pass goes through them: the
    /// highest priority first, so the main repository usually last.
    pub fn iter(&self) -> impl Iterator<Item = &Repository> {
        self.ordered.iter()
    }

    /// The main repository (`main-repo`). It may be one that [`Repositories::iter`] does not have, because it has no
    /// directory yet.
    pub fn main(&self) -> Option<&Repository> {
        self.main.as_ref()
    }

    /// The repository of that name; aliases do not count.
    pub fn get(&self, name: &str) -> Option<&Repository> {
        self.ordered.iter().find(|repository| repository.name == name)
    }
}

/// When the configuration of the repositories was written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Written {
    /// By the user, before anything.
    #[default]
    Before,
    /// By Portage, while a sync may have put them elsewhere.
    DuringSync,
}

/// Where repositories are configured.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// When that was written.
    pub(super) written: Written,
    /// `PORTAGE_REPOSITORIES`, which replaces everything else.
    pub(super) variable: Option<String>,
    /// The repos.conf files or directories, in the order of reading.
    pub(super) files: Vec<PathBuf>,
    /// What values may refer to as `%(EPREFIX)s` and so on.
    pub(super) defaults: Vec<(&'static str, String)>,
    /// `PORTDIR`, from before there was repos.conf.
    pub(super) portdir: String,
    /// The places in `PORTDIR_OVERLAY`, likewise.
    pub(super) overlays: Vec<String>,
    /// The target's `EPREFIX`.
    pub(super) eprefix: String,
}

/// A repository while its name and place are not settled.
#[derive(Debug, Clone, Default)]
pub(super) struct RepositoryDraft {
    pub(super) name: String,
    pub(super) location: Option<String>,
    pub(super) profile_formats: Vec<String>,
    /// The EAPI of its profiles that name none.
    pub(super) eapi: String,
    aliases: Option<Vec<String>>,
    masters: Option<Vec<String>>,
    priority: Option<i64>,
    missing_repo_name: bool,
    main_repo: Option<String>,
    sync: SyncSettings,
}

impl RepositoryDraft {
    /// The repository that a section describes (`RepoConfig.__init__`).
    fn new(name: Option<&str>, options: &Section, written: Written) -> Result<Self, SettingsError> {
        let list = |key: &str| options.raw(key).map(|value| words(value).map(str::to_owned).collect::<Vec<_>>());
        let mut draft = Self {
            name: name.unwrap_or_default().to_owned(),
            aliases: list("aliases"),
            masters: list("masters"),
            priority: options.raw("priority").and_then(integer),
            main_repo: options.raw("main-repo").map(str::to_owned),
            sync: SyncSettings::new(options),
            missing_repo_name: name != Some("DEFAULT"),
            ..Self::default()
        };
        let Some(location) = options.raw("location").filter(|location| !files::strip(location).is_empty()) else {
            return Ok(draft);
        };
        let location = if Path::new(location).is_dir() { real_path(location) } else { location.to_owned() };
        let location = match written {
            Written::Before => location,
            Written::DuringSync => draft.sync.after_sync(&location),
        };
        let found = read_repo_name(&location);
        draft.missing_repo_name = found.missing;
        if !found.missing || name.is_none() {
            draft.name = found.name;
        }
        let LayoutConf { masters, aliases, repo_name, profile_formats, profile_eapi } = read_layout(&location)?;
        if draft.masters.is_none() {
            draft.masters = masters;
        }
        if !aliases.is_empty() {
            draft.aliases = Some([aliases, draft.aliases.unwrap_or_default()].concat());
        }
        if let Some(name) = repo_name {
            draft.name = name;
            draft.missing_repo_name = false;
        }
        let own = read_eapi(&join(&location, "profiles")).filter(|eapi| eapi_is_default_for_profiles(eapi));
        draft.eapi = own.or(profile_eapi).unwrap_or_else(|| "0".to_owned());
        draft.profile_formats = profile_formats;
        draft.location = Some(location);
        Ok(draft)
    }
}

/// Drafts under all their names, in Python's order of a dictionary.
#[derive(Debug, Default)]
struct RepositoryNames {
    entries: Vec<(String, usize)>,
    drafts: Vec<RepositoryDraft>,
}

impl RepositoryNames {
    fn number(&self, name: &str) -> Option<usize> {
        self.entries.iter().find(|(known, _)| known == name).map(|(_, number)| *number)
    }

    fn get(&self, name: &str) -> Option<&RepositoryDraft> {
        self.number(name).and_then(|number| self.drafts.get(number))
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut RepositoryDraft> {
        self.number(name).and_then(|number| self.drafts.get_mut(number))
    }

    fn add(&mut self, name: &str, draft: RepositoryDraft) {
        self.drafts.push(draft);
        self.point(name, self.drafts.len() - 1);
    }

    fn point(&mut self, name: &str, number: usize) {
        match self.entries.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = number,
            None => self.entries.push((name.to_owned(), number)),
        }
    }

    fn remove(&mut self, name: &str) {
        self.entries.retain(|(known, _)| known != name);
    }

    fn snapshot(&self) -> Vec<(String, usize, RepositoryDraft)> {
        let all = self.entries.iter();
        all.filter_map(|(name, number)| Some((name.clone(), *number, self.drafts.get(*number)?.clone()))).collect()
    }
}

/// The repositories, and what the profiles need to know of them.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) repositories: Repositories,
    /// Where the main repository is configured to be, for `PORTDIR`.
    pub(super) main_place: Option<String>,
    /// Where all are, the lowest priority first, for `PORTDIR_OVERLAY`.
    pub(super) places: Vec<String>,
    /// Where those are that were passed over, because section and repository do not agree on the name.
    pub(super) passed_over: Vec<String>,
    names: RepositoryNames,
    by_location: Vec<(String, String)>,
    by_name: Vec<(String, String)>,
}

impl Loaded {
    /// Finds all repositories. Broken configurations and single broken repositories are passed over where Portage
    /// passes them over, with a warning.
    pub(super) fn load(sources: &Sources) -> Result<Self, SettingsError> {
        let mut names = match parse(sources)? {
            Ok(names) => names,
            Err(BrokenIni(what)) => {
                log::warn!("repos.conf cannot be used, Portage does without all of it: {what}");
                let mut names = RepositoryNames::default();
                names.add("DEFAULT", RepositoryDraft::new(Some("DEFAULT"), &Section::default(), sources.written)?);
                names
            }
        };
        let portdir = add_overlays(&mut names, sources)?;
        let portdir = if files::strip(&portdir).is_empty() { portdir } else { real_path(&portdir) };
        let mut loaded = Self { names, ..Self::default() };
        loaded.check_sections()?;
        loaded.add_aliases();
        loaded.choose_main(&portdir)?;
        loaded.order()?;
        Ok(loaded)
    }

    /// The draft of the repository at the real path `location`.
    pub(super) fn at_location(&self, location: &str) -> Option<&RepositoryDraft> {
        value(&self.by_location, location).and_then(|name| self.names.get(name))
    }

    /// The location of the repository with this name or alias.
    pub(super) fn location_of(&self, name: &str) -> Option<&str> {
        value(&self.by_name, name)
    }

    fn check_sections(&mut self) -> Result<(), SettingsError> {
        for (section, _, draft) in self.names.snapshot() {
            let Some(location) = &draft.location else {
                if section != "DEFAULT" {
                    log::warn!("the section [{section}] of repos.conf has no location and is passed over");
                    self.names.remove(&section);
                }
                continue;
            };
            let aliases = draft.aliases.as_deref().unwrap_or_default();
            let why = if !is_dir(Path::new(location))? && draft.name != "gentoo" {
                "has a location that does not exist"
            } else if draft.missing_repo_name && draft.name != section {
                "is another repository without profiles/repo_name"
            } else if draft.name != section && !aliases.contains(&section) {
                "has another name than the repository at its location"
            } else {
                put(&mut self.by_location, location, &draft.name);
                put(&mut self.by_name, &draft.name, location);
                continue;
            };
            log::warn!("the section [{section}] of repos.conf {why} and is passed over: {location}");
            self.passed_over.push(location.clone());
            self.names.remove(&section);
        }
        Ok(())
    }

    fn add_aliases(&mut self) {
        for (section, number, draft) in self.names.snapshot() {
            for name in stack(draft.aliases.as_deref().unwrap_or_default()).iter().chain([&draft.name]) {
                if self.names.get(name).is_some_and(|draft| draft.location.is_some()) {
                    if *name != section {
                        log::debug!("the name or alias {name} of the repository {section} belongs to another already");
                    }
                    continue;
                }
                self.names.point(name, number);
                if let Some(location) = &draft.location {
                    if value(&self.by_location, location).is_none() {
                        put(&mut self.by_location, location, name);
                    }
                    put(&mut self.by_name, name, location);
                }
            }
        }
    }

    fn choose_main(&mut self, portdir: &str) -> Result<(), SettingsError> {
        let default = self.names.get("DEFAULT").ok_or(SettingsError::DefaultSection { option: "location" })?;
        if default.masters.as_ref().is_some_and(|masters| !masters.is_empty()) {
            return Err(SettingsError::DefaultSection { option: "masters" });
        }
        let known = default.main_repo.clone().filter(|name| self.names.get(name).is_some());
        let main = known.or_else(|| value(&self.by_location, portdir).map(str::to_owned));
        if let Some(draft) = main.as_deref().and_then(|name| self.names.get_mut(name)) {
            draft.priority.get_or_insert(-1000);
        }
        if let Some(default) = self.names.get_mut("DEFAULT") {
            default.main_repo = main;
        }
        Ok(())
    }

    fn order(&mut self) -> Result<(), SettingsError> {
        let main = self.names.get("DEFAULT").and_then(|default| default.main_repo.clone());
        let number = main.and_then(|name| self.names.number(&name));
        let main = number.and_then(|number| self.names.drafts.get(number)).cloned();
        let mut drafts = self.names.snapshot();
        drafts.sort_by(|(_, _, one), (_, _, other)| {
            (one.priority.unwrap_or(0), &one.name).cmp(&(other.priority.unwrap_or(0), &other.name))
        });
        // Portage keeps the lowest priority first, and portdb turns that round.
        for (name, number, draft) in drafts.iter().rev() {
            let Some(location) = draft.location.as_deref().filter(|_| *name == draft.name && name != "DEFAULT") else {
                continue;
            };
            if is_dir(Path::new(location))? {
                self.repositories.ordered.push(self.finish(*number, draft, main.as_ref()));
                self.places.insert(0, location.to_owned());
            } else {
                log::warn!("the repository {name} is not there: {location}");
            }
        }
        for (name, _, draft) in &drafts {
            let Some(location) = draft.location.as_deref().filter(|_| *name != draft.name && name != "DEFAULT") else {
                continue;
            };
            if !is_dir(Path::new(location))? {
                return Err(SettingsError::AliasOfNothing { alias: name.clone(), location: PathBuf::from(location) });
            }
        }
        self.main_place = main.as_ref().and_then(|draft| draft.location.clone());
        self.repositories.main =
            number.zip(main.as_ref()).map(|(number, draft)| self.finish(number, draft, main.as_ref()));
        Ok(())
    }

    fn finish(&self, number: usize, draft: &RepositoryDraft, main: Option<&RepositoryDraft>) -> Repository {
        // Where no masters are set, it is the name that Portage comes upon first that must not be the main one's.
        let first = self.names.entries.iter().find(|(_, other)| *other == number).map(|(name, _)| name);
        let masters = match &draft.masters {
            Some(masters) => masters.iter().filter_map(|name| self.names.get(name)).map(|draft| &draft.name).collect(),
            None => main.map(|main| &main.name).filter(|main| first != Some(main)).into_iter().collect::<Vec<_>>(),
        };
        Repository {
            name: draft.name.clone(),
            location: PathBuf::from(
                value(&self.by_name, &draft.name).or(draft.location.as_deref()).unwrap_or_default(),
            ),
            aliases: stack(draft.aliases.as_deref().unwrap_or_default()),
            masters: masters.into_iter().cloned().collect(),
            priority: draft.priority.unwrap_or(0),
            sync: draft.sync.clone(),
        }
    }
}

/// Reads repos.conf or its replacement; `Err` inside where Portage does without it (`RepoConfigLoader._parse`).
fn parse(sources: &Sources) -> Result<Result<RepositoryNames, BrokenIni>, SettingsError> {
    let mut ini = Ini::default();
    for (name, value) in &sources.defaults {
        ini.defaults.set(name, value.clone());
    }
    if let Some(text) = &sources.variable {
        if let Err(broken) = ini.read(Path::new("PORTAGE_REPOSITORIES"), text) {
            return Ok(Err(broken));
        }
    } else {
        for path in &sources.files {
            for file in files::recursive_files(path)? {
                let Some(text) = files::read_text_if_possible(&file) else { continue };
                if let Err(broken) = ini.read(&file, &text) {
                    return Ok(Err(broken));
                }
            }
        }
    }
    let mut names = RepositoryNames::default();
    names.add("DEFAULT", RepositoryDraft::new(Some("DEFAULT"), &ini.defaults, sources.written)?);
    for section in &ini.sections {
        match ini.options(section) {
            Ok(options) => {
                names.add(&section.name, RepositoryDraft::new(Some(&section.name), &options, sources.written)?)
            }
            Err(broken) => return Ok(Err(broken)),
        }
    }
    Ok(Ok(names))
}

/// Adds `PORTDIR` and `PORTDIR_OVERLAY`, and returns what `PORTDIR` has come to (`_add_repositories`).
fn add_overlays(names: &mut RepositoryNames, sources: &Sources) -> Result<String, SettingsError> {
    let known = names.snapshot();
    let old_default = ["var/db/repos/gentoo", "usr/portage"]
        .map(|path| join(&join("/", sources.eprefix.trim_start_matches('/')), path))
        .into_iter()
        .enumerate()
        .find(|(number, path)| *number == 1 || known.iter().any(|(_, _, draft)| draft.location.as_ref() == Some(path)))
        .map(|(_, path)| path)
        .unwrap_or_default();
    let mut portdir = if sources.portdir.is_empty() { String::new() } else { normalize(&sources.portdir) };
    let original = portdir.clone();
    let defaults = known.iter().find(|(name, _, _)| name == "DEFAULT").map(|(_, _, draft)| draft);
    let main_repo = defaults.and_then(|draft| draft.main_repo.clone());
    let mut options = Section::default();
    for (option, list) in [("aliases", defaults.map(|d| &d.aliases)), ("masters", defaults.map(|d| &d.masters))] {
        if let Some(Some(list)) = list {
            options.set(option, list.join(" "));
        }
    }
    let mut next_priority = 0;
    let first = Some(original.clone()).filter(|path| !path.is_empty()).map(|path| (true, path));
    for (is_portdir, path) in first.into_iter().chain(sources.overlays.iter().map(|path| (false, normalize(path)))) {
        if !is_portdir && !is_dir(Path::new(&path))? {
            log::warn!("PORTDIR_OVERLAY has {path:?}, which is no directory");
            continue;
        }
        options.set("location", path.clone());
        let mut draft = RepositoryDraft::new(main_repo.as_deref().filter(|_| is_portdir), &options, sources.written)?;
        if let Some((_, _, configured)) = known.iter().find(|(name, _, _)| *name == draft.name) {
            draft.aliases = configured.aliases.clone().or(draft.aliases);
            draft.masters = configured.masters.clone().or(draft.masters);
            draft.priority = configured.priority.or(draft.priority);
            draft.sync.clone_from(&configured.sync);
        }
        let old = names.get(&draft.name).and_then(|old| old.location.clone());
        if let (Some(old), Some(new)) = (old, &draft.location) {
            if old != *new && !(next_priority == 0 && old == old_default) && old == portdir {
                portdir.clone_from(new);
            }
        }
        if draft.priority.is_none() && !(next_priority == 0 && path == original) {
            draft.priority = Some(next_priority);
            next_priority += 1;
        }
        let name = draft.name.clone();
        names.add(&name, draft);
    }
    Ok(portdir)
}

/// The items of a list in which `-item` takes away an earlier one and `-*` all of them.
fn stack(items: &[String]) -> Vec<String> {
    let mut stacked: Vec<String> = Vec::new();
    for item in items {
        match item.strip_prefix('-') {
            Some("*") => stacked.clear(),
            Some(removed) => stacked.retain(|known| known != removed),
            None if stacked.contains(item) => {}
            None => stacked.push(item.clone()),
        }
    }
    stacked
}

/// A priority, in what Python's `int()` takes for a number.
fn integer(text: &str) -> Option<i64> {
    let text = files::strip(text);
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    if digits.split('_').any(|group| group.is_empty() || !group.bytes().all(|byte| byte.is_ascii_digit())) {
        return None;
    }
    let number = digits.replace('_', "").parse::<i64>().unwrap_or(i64::MAX);
    Some(if negative { -number } else { number })
}

fn value<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
}

fn put(pairs: &mut Vec<(String, String)>, key: &str, new: &str) {
    match pairs.iter_mut().find(|(known, _)| known == key) {
        Some((_, old)) => *old = new.to_owned(),
        None => pairs.push((key.to_owned(), new.to_owned())),
    }
}
