//! Pure: a package's metadata and the plan for it → its new metadata.
//!
//! What is rewritten and then signed must come from a [verified](crate::package::verify) package; who signs sees to that.
//!
//! The index holds dependencies reduced by USE, the file holds them whole. Portage writes the reduced form back into
//! the file; here the same rewriting is done inside the conditionals, so that nothing is lost and the index is the same.

use std::borrow::Cow;

use crate::package::gpkg::Metadata;
use crate::plan::{Edit, Step};
use crate::portage::atom::Cpv;
use crate::portage::index::DEPENDENCY_KEYS;
use crate::portage::names::BuildId;

/// Entries that no update touches (`portage.update.ignored_dbentries`).
const IGNORED: [&str; 2] = ["CONTENTS", "environment.bz2"];

/// What `metadata` becomes by the steps of `edit`.
#[must_use]
pub(crate) fn rewrite(metadata: &Metadata, edit: &Edit) -> Metadata {
    let mut metadata = metadata.clone();
    for step in &edit.steps {
        match step {
            Step::Move { update, before, cpv } => {
                let package = before.candidate();
                change_texts(
                    &mut metadata,
                    |name| !IGNORED.contains(&name),
                    |text| update.rewrite(text, package.eapi, Some(&package)),
                );
                rename(&mut metadata, &before.cpv(), cpv.parts());
            }
            Step::Slot { slot } => {
                metadata.set("SLOT", format!("{slot}\n").into_bytes());
                remove_empty(&mut metadata);
            }
            Step::Dependencies { rewriter, package } => {
                let package = package.candidate();
                change_texts(
                    &mut metadata,
                    |name| DEPENDENCY_KEYS.contains(&name),
                    |text| rewriter.rewrite(text, package.eapi, Some(&package)),
                );
                remove_empty(&mut metadata);
            }
        }
    }
    if let Some(build_id) = edit.build_id
        && BuildId::new(text_of(&metadata, "BUILD_ID").trim()) != Some(build_id)
    {
        metadata.set("BUILD_ID", format!("{build_id}\n").into_bytes());
    }
    metadata
}

/// What one entry of the metadata loses, and what it gains instead.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Difference {
    /// The entry, as it is called afterwards.
    pub key: String,
    /// What goes: atoms of a dependency, lines of another text.
    pub old: Vec<String>,
    /// What takes their place.
    pub new: Vec<String>,
}

/// What makes new metadata differ from the old, entry by entry.
#[must_use]
pub(crate) fn differences(old: &Metadata, new: &Metadata) -> Vec<Difference> {
    let mut found: Vec<Difference> = Vec::new();
    for (key, value) in new.iter() {
        // an ebuild is renamed with its package
        let before =
            old.get(key).or_else(|| old.iter().find(|(name, _)| is_ebuild(key) && is_ebuild(name)).map(|it| it.1));
        let (before, after) = (String::from_utf8_lossy(before.unwrap_or_default()), String::from_utf8_lossy(value));
        if before != after {
            let in_words = DEPENDENCY_KEYS.contains(&key);
            let parts = |text: &str| -> Vec<String> {
                match in_words {
                    true => text.split_whitespace().map(str::to_owned).collect(),
                    false => text.lines().map(str::to_owned).collect(),
                }
            };
            let (mut gone, mut come) = (Vec::new(), Vec::new());
            for (old, new) in changed_parts(parts(&before), parts(&after)) {
                gone.extend(old);
                come.extend(new);
            }
            found.push(Difference { key: key.to_owned(), old: gone, new: come });
        }
    }
    found.retain(|difference| difference.old != difference.new);
    found
}

fn is_ebuild(name: &str) -> bool {
    name.ends_with(".ebuild")
}

/// The parts that take each other's place, each pair once. An update replaces parts one by one; where it does not, all
/// between the first and the last that differ are replaced.
fn changed_parts(old: Vec<String>, new: Vec<String>) -> Vec<(Option<String>, Option<String>)> {
    let is_one_by_one = old.len() == new.len();
    let same = |pair: &(&String, &String)| pair.0 == pair.1;
    let head = old.iter().zip(&new).take_while(same).count();
    let most = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev()).take(most).take_while(same).count();
    let middle = |parts: Vec<String>| {
        let count = parts.len() - head - tail;
        parts.into_iter().skip(head).take(count)
    };
    let (mut old, mut new) = (middle(old), middle(new));
    let mut pairs = Vec::new();
    loop {
        let pair = (old.next(), new.next());
        if pair == (None, None) {
            return pairs;
        }
        if !(is_one_by_one && (pair.0 == pair.1 || pairs.contains(&pair))) {
            pairs.push(pair);
        }
    }
}

fn text_of<'m>(metadata: &'m Metadata, name: &str) -> Cow<'m, str> {
    metadata.get(name).map_or(Cow::Borrowed(""), String::from_utf8_lossy)
}

/// Sets what a package is called, as `binarytree.move_ent` does.
fn rename(metadata: &mut Metadata, old: &str, new: Cpv<'_>) {
    metadata.set("PF", format!("{}\n", new.pf()).into_bytes());
    metadata.set("CATEGORY", format!("{}\n", new.category).into_bytes());
    let old_pf = old.split_once('/').map_or(old, |(_, pf)| pf);
    if old_pf != new.pf() {
        metadata.rename(&format!("{old_pf}.ebuild"), &format!("{}.ebuild", new.pf()));
    }
}

/// Portage leaves out empty entries when it updates a package in place (`bindbapi.aux_update`).
fn remove_empty(metadata: &mut Metadata) {
    let empty: Vec<String> =
        metadata.iter().filter(|(_, value)| value.is_empty()).map(|(name, _)| name.to_owned()).collect();
    for name in empty {
        metadata.remove(&name);
    }
}

/// Applies `change` to the texts of the chosen entries; bytes that are no UTF-8 become the replacement character in a
/// text that changes, as Portage has it, and only there.
fn change_texts(metadata: &mut Metadata, chosen: impl Fn(&str) -> bool, change: impl Fn(&str) -> Option<String>) {
    let changed: Vec<(String, String)> = metadata
        .iter()
        .filter(|(name, _)| chosen(name))
        .filter_map(|(name, value)| Some((name.to_owned(), change(&String::from_utf8_lossy(value))?)))
        .collect();
    for (name, text) in changed {
        metadata.set(&name, text.into_bytes());
    }
}

#[cfg(test)]
mod tests;
