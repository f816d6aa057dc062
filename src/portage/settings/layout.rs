//! What a repository says of itself: `profiles/repo_name`, `profiles/eapi` and `metadata/layout.conf`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::SettingsError;
use super::files::{basename, join, read_text, read_text_if_possible, strip, words};

/// The profile formats that Portage knows; others are dropped.
const PROFILE_FORMATS: [&str; 9] = [
    "pms",
    "portage-1",
    "portage-2",
    "profile-bashrcs",
    "profile-set",
    "profile-default-eapi",
    "build-id",
    "profile-repo-deps",
    "profile-license",
];

/// What metadata/layout.conf says, as far as it concerns names, masters and profiles
/// (`portage.repository.config.parse_layout_conf`).
#[derive(Debug, Clone, Default)]
pub(super) struct LayoutConf {
    /// `masters`; `None` where it is not set, which is not the same as set to nothing.
    pub(super) masters: Option<Vec<String>>,
    /// `aliases`.
    pub(super) aliases: Vec<String>,
    /// `repo-name`, made valid.
    pub(super) repo_name: Option<String>,
    /// `profile-formats`.
    pub(super) profile_formats: Vec<String>,
    /// The EAPI of profiles that name none, where layout.conf sets it.
    pub(super) profile_eapi: Option<String>,
}

/// Reads the layout.conf of the repository at `location`.
pub(super) fn read_layout(location: &str) -> Result<LayoutConf, SettingsError> {
    let data = key_values(Path::new(&join(location, "metadata/layout.conf")))?;
    let list = |key: &str| data.get(key).map(|value| words(value).map(str::to_owned).collect::<Vec<_>>());
    let profile_formats = match list("profile-formats") {
        Some(formats) => formats.into_iter().filter(|format| PROFILE_FORMATS.contains(&format.as_str())).collect(),
        None => {
            let eapi = read_eapi(&join(location, "profiles")).unwrap_or_else(|| "0".to_owned());
            vec![if eapi_has_directories(&eapi) { "portage-1" } else { "portage-1-compat" }.to_owned()]
        }
    };
    let has_default_eapi = profile_formats.iter().any(|format| format == "profile-default-eapi");
    let profile_eapi = data.get("profile_eapi_when_unspecified").filter(|eapi| has_default_eapi && eapi_is_known(eapi));
    Ok(LayoutConf {
        masters: list("masters"),
        aliases: list("aliases").unwrap_or_default(),
        repo_name: data.get("repo-name").and_then(|name| valid_repo_name(name)),
        profile_eapi: profile_eapi.cloned(),
        profile_formats,
    })
}

/// The EAPI that the `eapi` file in `folder` names, if it is one line (`read_corresponding_eapi_file`).
pub(super) fn read_eapi(folder: &str) -> Option<String> {
    let text = read_text_if_possible(Path::new(&join(folder, "eapi")))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    (!text.is_empty() && !line.contains('\n')).then(|| line.to_owned())
}

/// The name in `profiles/repo_name`, made valid.
#[derive(Debug)]
pub(super) struct RepoName {
    /// The name; made up from the location's where the file is missing.
    pub(super) name: String,
    /// Whether the file is missing or cannot be read.
    pub(super) missing: bool,
}

/// Reads the name of the repository at `location` (`RepoConfig._read_valid_repo_name`).
pub(super) fn read_repo_name(location: &str) -> RepoName {
    let made_up = format!("x-{}", basename(location));
    let text = read_text_if_possible(Path::new(&join(location, "profiles/repo_name")));
    let missing = text.is_none();
    let name = match &text {
        Some(text) => strip(text.split('\n').next().unwrap_or_default()),
        None => &made_up,
    };
    let name = valid_repo_name(name).or_else(|| valid_repo_name(&made_up)).unwrap_or(made_up);
    RepoName { name, missing }
}

/// `name` with what PMS 3.1.5 does not allow replaced by hyphens; `None` if nothing is left.
fn valid_repo_name(name: &str) -> Option<String> {
    let spaced: String =
        name.chars().map(|c| if c.is_alphanumeric() || c == '_' || c == '-' { c } else { ' ' }).collect();
    let joined = words(&spaced).collect::<Vec<_>>().join("-");
    Some(joined.trim_start_matches('-')).filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Whether profiles and repositories of this EAPI may have directories for files (EAPI 7 and later).
pub(super) fn eapi_has_directories(eapi: &str) -> bool {
    eapi_number(eapi).is_some_and(|number| number >= 7)
}

/// Whether `profiles/eapi` of this EAPI also names the EAPI of the profiles that name none (EAPI 9 and later).
pub(super) fn eapi_is_default_for_profiles(eapi: &str) -> bool {
    eapi_number(eapi).is_some_and(|number| number >= 9)
}

/// Whether Portage can read profiles of this EAPI. EAPIs that came after us count as known: a system whose Portage
/// did not know them would not have such profiles.
pub(super) fn eapi_is_known(eapi: &str) -> bool {
    eapi_number(strip(eapi)).is_some()
}

fn eapi_number(eapi: &str) -> Option<u32> {
    let number = match eapi {
        "3_pre1" | "3_pre2" => "3",
        "4_pre1" => "4",
        "5_pre1" | "5_pre2" => "5",
        "6_pre1" => "6",
        "7_pre1" => "7",
        "9-pre1" => "9",
        other => other,
    };
    let plain = number == "0" || !number.starts_with('0');
    number.parse().ok().filter(|_| plain && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The `key = value` lines of a file, or of the files below a directory (`KeyValuePairFileLoader`).
fn key_values(path: &Path) -> Result<BTreeMap<String, String>, SettingsError> {
    let mut data = BTreeMap::new();
    for file in loader_files(path) {
        let text = match read_text(&file) {
            Ok(text) => text.unwrap_or_default(),
            Err(SettingsError::Read { path, source }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
                log::warn!("{path:?} may not be read and is passed over");
                continue;
            }
            Err(error) => return Err(error),
        };
        for line in text.split('\n').map(strip).filter(|line| !line.starts_with('#')) {
            if let Some((key, value)) = line.split_once('=').filter(|(key, _)| !strip(key).is_empty()) {
                data.insert(strip(key).to_owned(), strip(value).to_owned());
            }
        }
    }
    Ok(data)
}

/// The file itself, or the files of a directory of that name; nobody has one, so one level will do.
fn loader_files(path: &Path) -> Vec<PathBuf> {
    match std::fs::metadata(path) {
        Err(_) => Vec::new(),
        Ok(metadata) if metadata.is_dir() => {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            let visible = entries.filter(|entry| {
                let name = entry.file_name();
                let name = name.as_encoded_bytes();
                !name.starts_with(b".") && !name.ends_with(b"~") && entry.path().is_file()
            });
            visible.map(|entry| entry.path()).collect()
        }
        Ok(_) => vec![path.to_owned()],
    }
}
