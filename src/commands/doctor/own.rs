//! Our own settings: names that nobody knows, values that cannot be.

use super::Doctor;
use crate::commands::{Error, Run};
use crate::portage::settings::SettingsError;

const KNOWN: [&str; 3] = ["BINPKG_RESIGN_FOREIGN", "BINPKG_RESIGN_NET", "BINPKG_RESIGN_TIMEOUT"];

/// Whether every value of ours can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    Good,
    Wrong,
}

pub(super) fn settings(doctor: &mut Doctor, run: &Run<'_>) -> Result<Values, Error> {
    let settings = run.settings;
    let unknown: Vec<String> =
        settings.names("BINPKG_RESIGN_")?.into_iter().filter(|name| !KNOWN.contains(&name.as_str())).collect();
    let results: [Result<(), SettingsError>; 4] = [
        settings.foreign().map(drop),
        settings.net().map(drop),
        settings.sign_timeout().map(drop),
        settings.key_migrations().map(drop),
    ];
    let mut wrong = Vec::new();
    for result in results {
        match result {
            Err(error @ SettingsError::Value { .. }) => wrong.push(error.to_string()),
            other => other?,
        }
    }
    if !unknown.is_empty() {
        let text = format!("nobody knows the settings {}", unknown.join(", "));
        doctor.warn("settings", text, &format!("there are {} and BINPKG_GPG_SIGNING_KEY_MIGRATION", KNOWN.join(", ")));
    }
    for error in &wrong {
        doctor.problem("settings", error.clone(), "until then, every run ends at once");
    }
    if unknown.is_empty() && wrong.is_empty() {
        doctor.ok("settings", "our own settings are in order");
    }
    Ok(if wrong.is_empty() { Values::Good } else { Values::Wrong })
}
