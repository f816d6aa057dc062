//! How a repository is synced: the `sync-*` options of its section in repos.conf.

use std::path::{Path, PathBuf};

use super::files::{is_dir, join, real_path, strip};
use super::ini::Section;

/// How a repository is synced (`portage.repository.config.RepoConfig`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncSettings {
    /// `sync-type`: git, rsync, webrsync …; empty where it is not synced.
    pub sync_type: String,
    /// `auto-sync`: whether a sync that names no repository has it with it.
    pub auto_sync: bool,
    /// `sync-hooks-only-on-change`: whether its sync runs the hooks only when something has changed. Portage's update
    /// pass runs all the same.
    pub hooks_only_on_change: bool,
    /// `sync-rcu-store-dir` where `sync-rcu` is set: each sync makes a new snapshot there, and `latest` links to it.
    pub rcu_store: Option<PathBuf>,
    /// `sync-webrsync-delta`: whether webrsync is `emerge-delta-webrsync`.
    pub webrsync_delta: bool,
}

impl SyncSettings {
    pub(super) fn new(options: &Section) -> Self {
        let value = |option: &str| options.raw(option).map(strip).unwrap_or_default();
        let is_set = |option: &str| ["true", "yes"].contains(&value(option).to_lowercase().as_str());
        let store = value("sync-rcu-store-dir");
        Self {
            sync_type: value("sync-type").to_owned(),
            auto_sync: options.raw("auto-sync").is_none() || is_set("auto-sync"),
            hooks_only_on_change: is_set("sync-hooks-only-on-change"),
            rcu_store: (is_set("sync-rcu") && !store.is_empty()).then(|| PathBuf::from(store)),
            webrsync_delta: is_set("sync-webrsync-delta"),
        }
    }

    /// Whether a sync that names no repository syncs this one.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.auto_sync && !self.sync_type.is_empty()
    }

    /// Where a sync has put the repository that was at `location` when it began: `location`, unless that is a snapshot
    /// that is not the latest any more (`portage.repository.storage.hardlink_rcu`).
    pub(super) fn after_sync(&self, location: &str) -> String {
        let Some(store) = self.rcu_store.as_deref().and_then(Path::to_str) else { return location.to_owned() };
        let snapshots = real_path(&join(store, "snapshots"));
        let latest = real_path(&join(store, "latest"));
        let is_snapshot = |path: &str| Path::new(path).parent() == Some(Path::new(&snapshots));
        if is_snapshot(location) && is_snapshot(&latest) && is_dir(Path::new(&latest)).unwrap_or(false) {
            latest
        } else {
            location.to_owned()
        }
    }
}
