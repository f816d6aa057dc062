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
