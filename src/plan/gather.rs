//! What the simulation came to, package by package.

use std::collections::HashMap;

use super::instance::{Instance, Instances, Origin};
use super::{Astray, Collision, Doom, Edit, Plan, Work};
use crate::portage::atom::CpvBuf;
use crate::portage::names::{BuildId, PkgPath};

/// A package of the index, with what becomes of it.
struct Gathered {
    work: Work,
    place: PathFit,
    is_concerned: bool,
}

/// What a `PATH` of the index is worth.
enum PathFit {
    /// A path, and nothing else.
    Proper,
    /// Something that the system takes for that path.
    Odd(String),
    /// Something that leads out of PKGDIR.
    Astray(String),
}

/// Makes the plan.
pub(super) fn gather(instances: Instances, collisions: Vec<Collision>) -> Plan {
    let mut all: Vec<Gathered> = Vec::new();
    let mut places: HashMap<usize, usize> = HashMap::new();
    for instance in instances {
        let has_work = instance.origin == Origin::Move || !instance.steps.is_empty() || instance.endless.is_some();
        if instance.origin == Origin::Index {
            places.insert(instance.number, all.len());
            all.extend(begin(&instance));
        }
        let Some(gathered) = places.get(&instance.number).and_then(|&place| all.get_mut(place)) else { continue };
        if has_work {
            gathered.is_concerned = true;
            gathered.add(instance);
        }
    }
    let mut plan = Plan { works: Vec::new(), collisions, astray: Vec::new() };
    // of two blocks with one path the last one counts, as it does for Portage
    let mut by_path: HashMap<PkgPath, usize> = HashMap::new();
    for Gathered { mut work, place, .. } in all.into_iter().filter(|gathered| gathered.is_concerned) {
        match place {
            PathFit::Astray(path) => plan.astray.push(Astray { path, cpv: work.cpv }),
            _ if work.path.stem().is_none() => {}
            place => {
                if let PathFit::Odd(path) = place {
                    work.doomed = Some(Doom::OddPath { path });
                }
                match by_path.get(&work.path).and_then(|&place| plan.works.get_mut(place)) {
                    Some(before) => *before = work,
                    None => {
                        by_path.insert(work.path.clone(), plan.works.len());
                        plan.works.push(work);
                    }
                }
            }
        }
    }
    plan
}

fn begin(instance: &Instance) -> Option<Gathered> {
    let said = &instance.path;
    let (path, place) = match (PkgPath::new(said), PkgPath::cleaned(said)) {
        (Ok(path), _) => (path, PathFit::Proper),
        (Err(_), Ok(path)) => (path, PathFit::Odd(said.clone())),
        // a stand-in, which nobody is given
        (Err(_), Err(_)) => (PkgPath::new("astray").ok()?, PathFit::Astray(said.clone())),
    };
    let work = Work {
        number: instance.number,
        path,
        cpv: CpvBuf::new(&instance.name.cpv())?,
        build_id: instance.build_id.as_deref().and_then(BuildId::new),
        in_place: None,
        copies: Vec::new(),
        doomed: instance.endless.clone().map(|update| Doom::Endless { update }),
    };
    Some(Gathered { work, place, is_concerned: false })
}

impl Gathered {
    /// Adds what becomes of the package itself, or a copy of it.
    fn add(&mut self, instance: Instance) {
        if instance.endless.is_some() {
            return;
        }
        let path = match instance.origin {
            Origin::Index => self.work.path.clone(),
            // made of a category, a name and a version
            Origin::Move => match PkgPath::new(&instance.path) {
                Ok(path) => path,
                Err(_) => return,
            },
        };
        let Some(cpv) = CpvBuf::new(&instance.name.cpv()) else { return };
        let edit = Edit {
            cpv,
            path,
            build_id: instance.build_id.as_deref().and_then(BuildId::new),
            slot: instance.name.slot,
            steps: instance.steps,
            changes: instance.changes,
        };
        match instance.origin {
            Origin::Index => self.work.in_place = Some(edit),
            Origin::Move => self.work.copies.push(edit),
        }
    }
}
