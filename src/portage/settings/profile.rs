//! The chain of profiles behind `make.profile` (PMS 5; `LocationsManager.load_profiles`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::SettingsError;
use super::files::{
    self, absolute, exists, grab_lines, is_dir, join, normalize, read_text_if_possible, real_path, strip,
};
use super::layout::{eapi_has_directories, eapi_is_known, read_layout};
use super::repos::Loaded;

/// How long a chain of parents may get; Portage breaks at some hundreds.
const DEPTH: usize = 128;
/// How many profiles there may be in all, each counted as often as it is inherited.
const NODES: usize = 20_000;

/// One profile, to be read after its parents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    /// Its directory.
    pub(super) location: PathBuf,
    /// Whether its files may be directories of files.
    pub(super) has_directories: bool,
}

/// A repository that profiles may lie in.
struct Known {
    /// Its real path, with a slash at the end.
    location: String,
    formats: Vec<String>,
    eapi: Option<String>,
}

/// What a chain of profiles breaks on.
enum ChainFault {
    /// Portage says so, and goes on without any profile.
    Chain(String),
    /// Portage stops.
    Settings(SettingsError),
}

impl From<SettingsError> for ChainFault {
    fn from(error: SettingsError) -> Self {
        Self::Settings(error)
    }
}

/// The profiles from the bottom of the chain up, the user's own last. `locations` are the places where repositories
/// are, beyond those of `repositories`.
pub(super) fn chain(
    config_root: &str,
    repositories: &Loaded,
    locations: &[String],
) -> Result<Vec<Profile>, SettingsError> {
    let user = join(config_root, "etc/portage");
    let mut start = None;
    for candidate in [join(&user, "make.profile"), join(config_root, "etc/make.profile")] {
        if start.is_none() && is_dir(Path::new(&candidate))? {
            start = Some(candidate);
        }
    }
    let Some(start) = start else { return Ok(Vec::new()) };
    let known = known_repositories(repositories, locations)?;
    let mut walk = ProfileWalk { repositories, known, profiles: Vec::new() };
    match walk.add(&real_path(&start), 0) {
        Ok(()) => {}
        Err(ChainFault::Chain(what)) => {
            log::warn!("the profile {start} cannot be used, Portage does without it: {what}");
            return Ok(Vec::new());
        }
        Err(ChainFault::Settings(error)) => return Err(error),
    }
    let own = PathBuf::from(join(&user, "profile"));
    if own.exists() {
        walk.profiles.push(Profile { location: own, has_directories: true });
    }
    Ok(walk.profiles)
}

fn known_repositories(repositories: &Loaded, locations: &[String]) -> Result<Vec<Known>, SettingsError> {
    let configured = repositories.repositories.iter().map(|repository| repository.location.to_string_lossy());
    let all: BTreeSet<String> =
        locations.iter().map(|location| real_path(location)).chain(configured.map(|path| real_path(&path))).collect();
    let known = all.into_iter().map(|location| {
        let (formats, eapi) = match repositories.at_location(&location) {
            Some(draft) => (draft.profile_formats.clone(), Some(draft.eapi.clone())),
            None => {
                let layout = read_layout(&location)?;
                (layout.profile_formats, layout.profile_eapi)
            }
        };
        Ok(Known { location: format!("{location}/"), formats, eapi })
    });
    known.collect()
}

struct ProfileWalk<'a> {
    repositories: &'a Loaded,
    known: Vec<Known>,
    profiles: Vec<Profile>,
}

impl ProfileWalk<'_> {
    /// Adds the parents of the profile at `path`, then itself (`LocationsManager._addProfile`).
    fn add(&mut self, path: &str, depth: usize) -> Result<(), ChainFault> {
        if depth > DEPTH || self.profiles.len() > NODES {
            let what = "profiles inherit each other without end";
            return Err(SettingsError::too_much(Path::new(path), what).into());
        }
        let absolute = absolute(path);
        let around = self.known.iter().filter(|known| absolute.starts_with(&known.location));
        let home = around.max_by_key(|known| known.location.len());
        let mut eapi = home.and_then(|known| known.eapi.clone()).unwrap_or_else(|| "0".to_owned());
        if let Some(text) = read_text_if_possible(Path::new(&join(path, "eapi"))) {
            eapi = strip(text.split('\n').next().unwrap_or_default()).to_owned();
            if !eapi_is_known(&eapi) {
                return Err(ChainFault::Chain(format!("{path}/eapi has the unknown EAPI {eapi:?}")));
            }
        }
        let has = |names: &[&str]| {
            home.is_none_or(|known| known.formats.iter().any(|format| names.contains(&format.as_str())))
        };
        let has_directories = eapi_has_directories(&eapi) || has(&["portage-1-compat", "portage-1", "portage-2"]);
        let may_name_repositories = has(&["portage-2"]);
        let home = home.map(|known| known.location.clone());
        let parents = join(path, "parent");
        if exists(Path::new(&parents))? {
            let lines = grab_lines(Path::new(&parents))?;
            if lines.is_empty() {
                return Err(ChainFault::Chain(format!("{parents} is empty")));
            }
            for line in lines {
                let parent = if line.starts_with('/') || !may_name_repositories {
                    line.clone()
                } else {
                    self.in_repository(&line, home.as_deref()).ok_or_else(|| missing(&line, &parents))?
                };
                let mut parent = normalize(&join(path, &parent));
                if line.starts_with('/') || home.as_ref().is_none_or(|home| !parent.starts_with(home)) {
                    // It may lie outside of this repository, so links count.
                    parent = real_path(&parent);
                }
                if !exists(Path::new(&parent))? {
                    return Err(missing(&parent, &parents));
                }
                self.add(&parent, depth + 1)?;
            }
        }
        self.profiles.push(Profile { location: PathBuf::from(path), has_directories });
        Ok(())
    }

    /// What `repository:path` stands for, or `:path` for this repository; a path alone stays as it is.
    fn in_repository(&self, parent: &str, home: Option<&str>) -> Option<String> {
        let Some((name, path)) = parent.split_once(':') else { return Some(parent.to_owned()) };
        let location = if name.is_empty() { home? } else { self.repositories.location_of(name)? };
        Some(normalize(&join(&files::join(location, "profiles"), path)))
    }
}

fn missing(parent: &str, parents: &str) -> ChainFault {
    ChainFault::Chain(format!("{parents} names {parent:?}, which does not exist"))
}
