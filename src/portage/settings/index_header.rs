//! What the header of a new package index says of the configuration (`binarytree._update_pkgindex_header`).

use std::path::Path;

use super::files::words;
use super::{Settings, SettingsError};

/// The variables that are always in it (`_pkgindex_header_keys`).
const KEYS: [&str; 16] = [
    "ACCEPT_KEYWORDS",
    "ACCEPT_LICENSE",
    "ACCEPT_PROPERTIES",
    "ACCEPT_RESTRICT",
    "CBUILD",
    "CONFIG_PROTECT",
    "CONFIG_PROTECT_MASK",
    "FEATURES",
    "GENTOO_MIRRORS",
    "INSTALL_MASK",
    "IUSE_IMPLICIT",
    "USE",
    "USE_EXPAND",
    "USE_EXPAND_HIDDEN",
    "USE_EXPAND_IMPLICIT",
    "USE_EXPAND_UNPREFIXED",
];

/// What Portage takes where it is set nowhere (`config.regenerate`).
const ACCEPT_LICENSE: &str = "* -@EULA";

impl Settings {
    /// The header of a new index: what clients need to know of the profile it was made with. Values that are empty are
    /// left out, and so is `USE` where it is not known ([`Settings::get`]): Portage puts it there when it writes the
    /// index for the next package.
    ///
    /// # Errors
    /// See [`Settings::get`].
    pub fn index_header(&self) -> Result<Vec<(String, String)>, SettingsError> {
        let mut header = Vec::new();
        let mut put = |key: &str, value: Option<&str>| {
            header.extend(value.filter(|value| !value.is_empty()).map(|value| (key.to_owned(), value.to_owned())));
        };
        put("CHOST", self.get("CHOST")?);
        let Some(profile) = self.profile_name()?.filter(|_| matches!(self.get("IUSE_IMPLICIT"), Ok(Some(_)))) else {
            return Ok(header);
        };
        put("PROFILE", Some(&profile));
        put("URI", self.get("PORTAGE_BINHOST_HEADER_URI")?);
        put("TTL", self.get("PORTAGE_BINHOST_TTL")?);
        for key in KEYS {
            let default = (key == "ACCEPT_LICENSE").then_some(ACCEPT_LICENSE);
            put(key, self.get(key)?.or(default));
        }
        let implicit = self.get("USE_EXPAND_IMPLICIT")?.unwrap_or_default().to_owned();
        let unprefixed = self.get("USE_EXPAND_UNPREFIXED")?.unwrap_or_default().to_owned();
        for key in words(&implicit).chain(words(&unprefixed)).filter(|key| !KEYS.contains(key)) {
            put(key, self.get(key)?);
        }
        for key in words(&implicit) {
            let key = format!("USE_EXPAND_VALUES_{key}");
            put(&key, self.get(&key)?);
        }
        Ok(header)
    }

    /// The profile's folder, below those of the main repository where it is there; none without a profile.
    fn profile_name(&self) -> Result<Option<String>, SettingsError> {
        let real = |path: &Path| path.canonicalize().ok();
        let links = ["etc/portage/make.profile", "etc/make.profile"].map(|link| self.config_root().join(link));
        let Some(profile) = links.iter().find(|link| link.is_dir()).and_then(|link| real(link)) else {
            return Ok(None);
        };
        let main = self.repositories()?.main().and_then(|main| real(&main.location.join("profiles")));
        let below = main.and_then(|profiles| profile.strip_prefix(profiles).ok().map(Path::to_owned));
        Ok(Some(below.unwrap_or(profile).to_string_lossy().into_owned()))
    }
}
