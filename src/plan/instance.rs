//! The packages that the simulation of Portage's pass moves about, and what the index says of them.

use std::cmp::Ordering;
use std::collections::{HashMap, hash_map};

use super::{Change, Name, Step};
use crate::portage::atom::{Candidate, vercmp};
use crate::portage::index::{DEPENDENCY_KEYS, fields};

/// One package in the simulation: an entry of the index, or a copy that a move made.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) number: usize,
    pub(super) origin: Origin,
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

/// Where an instance comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It is a block of the index.
    Index,
    /// A move made it of another instance.
    Move,
}

impl Instance {
    pub(super) fn candidate(&self) -> Candidate<'_> {
        Candidate {
            build_id: self.build_id.as_deref().and_then(|id| id.parse().ok()),
            iuse: &self.iuse,
            use_flags: &self.use_flags,
            ..self.name.candidate()
        }
    }

    pub(super) fn state(&self) -> (String, [String; 5]) {
        (self.name.slot.clone(), self.dependencies.clone())
    }
}

/// All instances, and who is called what; an instance never changes its name, and none goes.
///
/// A move asks for each instance it concerns what there is under the new name, so that must not be a walk over all of
/// them: there may be many thousand builds of one package.
#[derive(Default)]
pub(super) struct Instances {
    all: Vec<Instance>,
    /// By `category/name`, oldest first (`dbapi._cpv_sort_ascending`): by version, then by build time.
    by_name: HashMap<String, Vec<usize>>,
    by_cpv: HashMap<String, Builds>,
}

/// The instances of one version of one package.
struct Builds {
    /// The one that was built first.
    oldest: usize,
    /// The highest build id, 0 without any.
    highest_build_id: u64,
}

impl Instances {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, id: usize) -> Option<&Instance> {
        self.all.get(id)
    }

    pub(super) fn get_mut(&mut self, id: usize) -> Option<&mut Instance> {
        self.all.get_mut(id)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Instance> {
        self.all.iter_mut()
    }

    /// Takes one more.
    pub(super) fn push(&mut self, instance: Instance) {
        let id = self.all.len();
        let build_time = instance.build_time;
        let name = &instance.name;
        let mut called = self.by_name.remove(&name.cp).unwrap_or_default();
        called.insert(self.count_before(&called, Ordering::is_le, &name.version, build_time), id);
        self.by_name.insert(name.cp.clone(), called);
        let build_id = instance.build_id.as_deref().and_then(|id| id.parse().ok()).unwrap_or(0);
        let oldest = |id: usize| self.all.get(id).map(|oldest| oldest.build_time);
        match self.by_cpv.entry(name.cpv()) {
            hash_map::Entry::Occupied(mut known) => {
                let builds = known.get_mut();
                builds.highest_build_id = builds.highest_build_id.max(build_id);
                if oldest(builds.oldest).is_some_and(|oldest| build_time < oldest) {
                    builds.oldest = id;
                }
            }
            hash_map::Entry::Vacant(new) => {
                new.insert(Builds { oldest: id, highest_build_id: build_id });
            }
        }
        self.all.push(instance);
    }

    /// Those called `cp`, oldest first.
    pub(super) fn called(&self, cp: &str) -> &[usize] {
        self.by_name.get(cp).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether one called `cp` has this version, however it is written, and was built at this time.
    pub(super) fn has_build(&self, cp: &str, version: &str, build_time: i64) -> bool {
        let called = self.called(cp);
        let count = |ends: fn(Ordering) -> bool| self.count_before(called, ends, version, build_time);
        count(Ordering::is_lt) < count(Ordering::is_le)
    }

    /// The oldest build of exactly this name and version.
    pub(super) fn oldest_build(&self, cpv: &str) -> Option<&Instance> {
        self.get(self.by_cpv.get(cpv)?.oldest)
    }

    /// The highest build id of exactly this name and version, 0 without any.
    pub(super) fn highest_build_id(&self, cpv: &str) -> u64 {
        self.by_cpv.get(cpv).map_or(0, |builds| builds.highest_build_id)
    }

    /// How many of these, which are in order, come before a version and build time.
    fn count_before(&self, called: &[usize], is_before: fn(Ordering) -> bool, version: &str, build_time: i64) -> usize {
        called.partition_point(|&id| {
            let order = self.get(id).and_then(|instance| {
                let versions = vercmp(&instance.name.version, version)?;
                Some(versions.then(instance.build_time.cmp(&build_time)))
            });
            order.is_some_and(is_before)
        })
    }
}

impl IntoIterator for Instances {
    type Item = Instance;
    type IntoIter = std::vec::IntoIter<Instance>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.into_iter()
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

    use super::*;
    use crate::portage::atom::Eapi;

    fn instance(number: usize, cp: &str, version: &str, build_time: i64, build_id: Option<u64>) -> Instance {
        let (cp, version) = (cp.to_owned(), version.to_owned());
        Instance {
            number,
            origin: Origin::Index,
            path: String::new(),
            name: Name { cp, version, slot: "0".to_owned(), eapi: Eapi::parse("8"), repo: String::new() },
            build_time,
            build_id: build_id.map(|id| id.to_string()),
            iuse: String::new(),
            use_flags: String::new(),
            dependencies: Default::default(),
            steps: Vec::new(),
            changes: Vec::new(),
            history: Vec::new(),
            touched: None,
            endless: None,
        }
    }

    /// What is looked up is what a walk over all instances would find.
    #[test]
    fn lookups_find_what_a_walk_finds() {
        let names = || select(vec!["a/b", "c/d"]);
        let versions = || select(vec!["1", "1-r0", "1.0", "1.10", "1.9", "2_rc1"]);
        let one = (names(), versions(), -1..3_i64, proptest::option::of(1..4_u64));
        let given = (vec(one, 0..12), names(), versions(), -1..3_i64);
        let config = Config { failure_persistence: None, ..Config::with_cases(2000) };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let tried = runner.run(&given, |(packages, cp, version, build_time)| {
            let mut instances = Instances::default();
            for (number, (cp, version, build_time, build_id)) in packages.iter().enumerate() {
                instances.push(instance(number, cp, version, *build_time, *build_id));
            }
            let mut walk: Vec<_> = (packages.iter().enumerate()).filter(|(_, package)| package.0 == cp).collect();
            walk.sort_by(|(_, one), (_, other)| vercmp(one.1, other.1).unwrap().then(one.2.cmp(&other.2)));
            prop_assert_eq!(instances.called(cp), walk.iter().map(|(id, _)| *id).collect::<Vec<_>>());
            let same = |other: &str| vercmp(version, other).unwrap().is_eq();
            let has_build = walk.iter().any(|(_, package)| same(package.1) && package.2 == build_time);
            prop_assert_eq!(instances.has_build(cp, version, build_time), has_build);
            let exactly = walk.iter().filter(|(_, package)| package.1 == version);
            let oldest = instances.oldest_build(&format!("{cp}-{version}")).map(|instance| instance.number);
            prop_assert_eq!(oldest, exactly.clone().map(|(id, _)| *id).next());
            let highest = exactly.filter_map(|(_, package)| package.3).max().unwrap_or(0);
            prop_assert_eq!(instances.highest_build_id(&format!("{cp}-{version}")), highest);
            Ok(())
        });
        tried.unwrap();
    }
}
