//! What is held, in memory: found by what it is held as, and by where it belongs.

use std::collections::HashMap;

use super::journal::Record;
use crate::portage::names::PkgPath;

/// The records of held packages, by their names.
#[derive(Debug, Default)]
pub(super) struct Records {
    by_held: HashMap<PkgPath, Record>,
    by_path: HashMap<PkgPath, Vec<PkgPath>>,
}

impl Records {
    pub(super) fn insert(&mut self, record: Record) {
        let names = self.by_path.entry(record.path.clone()).or_default();
        if !names.contains(&record.held) {
            names.push(record.held.clone());
        }
        self.by_held.insert(record.held.clone(), record);
    }

    pub(super) fn remove(&mut self, held: &PkgPath) -> Option<Record> {
        let record = self.by_held.remove(held)?;
        if let Some(names) = self.by_path.get_mut(&record.path) {
            names.retain(|name| name != held);
        }
        Some(record)
    }

    pub(super) fn get_mut(&mut self, held: &PkgPath) -> Option<&mut Record> {
        self.by_held.get_mut(held)
    }

    pub(super) fn contains(&self, held: &PkgPath) -> bool {
        self.by_held.contains_key(held)
    }

    /// What is held of a path.
    pub(super) fn of(&self, path: &PkgPath) -> impl Iterator<Item = &Record> {
        self.by_path.get(path).into_iter().flatten().filter_map(|held| self.by_held.get(held))
    }

    /// All of them, in the order of their paths.
    pub(super) fn in_order(&self) -> Vec<&Record> {
        let mut records: Vec<&Record> = self.by_held.values().collect();
        records.sort_by(|a, b| a.held.cmp(&b.held));
        records
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_held.is_empty()
    }
}
