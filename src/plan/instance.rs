//! The packages that the simulation of Portage's pass moves about, and what the index says of them.

use super::{Change, Name, Step};
use crate::portage::atom::{Candidate, Cpv, Slot};
use crate::portage::index::{DEPENDENCY_KEYS, fields};

/// One package in the simulation: an entry of the index, or a copy that a move made.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) number: usize,
    pub(super) kind: Kind,
    pub(super) path: String,
    pub(super) name: Name,
    pub(super) build_time: i64,
    pub(super) build_id: Option<String>,
    pub(super) iuse: String,
    pub(super) use_flags: String,
    pub(super) dependencies: [String; 5],
    pub(super) steps: Vec<Step>,
    pub(super) changes: Vec<Change>,
    /// Slot and dependencies after each pass that touched it.
    pub(super) history: Vec<(String, [String; 5])>,
    /// Touched in the pass under way: Portage would write it, or remove it where it is signed.
    pub(super) touched: Option<String>,
    pub(super) endless: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Original,
    Copy,
}

impl Instance {
    pub(super) fn cpv(&self) -> Option<Cpv<'_>> {
        Cpv::parse(&self.name.cpv)
    }

    pub(super) fn candidate(&self) -> Option<Candidate<'_>> {
        let cpv = self.cpv()?;
        let slot = Slot::parse(&self.name.slot, self.name.eapi);
        Some(Candidate {
            cp: cpv.cp(),
            version: cpv.version,
            slot: slot.slot,
            sub_slot: slot.sub_slot,
            repo: Some(&self.name.repo),
            build_id: self.build_id.as_deref().and_then(|id| id.parse().ok()),
            eapi: self.name.eapi,
            iuse: &self.iuse,
            use_flags: &self.use_flags,
        })
    }

    pub(super) fn state(&self) -> (String, [String; 5]) {
        (self.name.slot.clone(), self.dependencies.clone())
    }
}

/// What a block of the index says, before anything is copied out of it.
#[derive(Default)]
pub(super) struct Facts<'a> {
    pub(super) cpv: &'a [u8],
    pub(super) path: &'a [u8],
    pub(super) slot: Option<&'a [u8]>,
    pub(super) eapi: Option<&'a [u8]>,
    pub(super) repo: Option<&'a [u8]>,
    pub(super) build_id: &'a [u8],
    pub(super) build_time: &'a [u8],
    pub(super) iuse: &'a [u8],
    pub(super) use_flags: &'a [u8],
    pub(super) dependencies: [&'a [u8]; 5],
}

impl<'a> Facts<'a> {
    pub(super) fn of(block: &'a [u8]) -> Facts<'a> {
        let mut facts = Facts::default();
        for (key, value) in fields(block) {
            match key {
                b"CPV" => facts.cpv = value,
                b"PATH" => facts.path = value,
                b"SLOT" => facts.slot = Some(value),
                b"EAPI" => facts.eapi = Some(value),
                b"REPO" => facts.repo = Some(value),
                b"BUILD_ID" => facts.build_id = value,
                b"BUILD_TIME" => facts.build_time = value,
                b"IUSE" => facts.iuse = value,
                b"USE" => facts.use_flags = value,
                _ => {
                    let place = DEPENDENCY_KEYS.iter().position(|name| name.as_bytes() == key);
                    if let Some(slot) = place.and_then(|place| facts.dependencies.get_mut(place)) {
                        *slot = value;
                    }
                }
            }
        }
        facts
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `BUILD_TIME` as `_pkg_str` reads it: a missing one counts as 0, one that is no number as -1.
pub(super) fn build_time(value: &[u8]) -> i64 {
    match std::str::from_utf8(value).map(str::trim) {
        Ok("") => 0,
        Ok(number) => number.parse().unwrap_or(-1),
        Err(_) => -1,
    }
}
