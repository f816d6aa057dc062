//! Portage's update pass, played through on the entries of the index.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::gather::gather;
use super::instance::{Facts, Instance, Instances, Origin, build_time, text};
use super::{Change, Collision, Layout, Name, Overwrites, Plan, Situation, Step, names_in};
use crate::portage::atom::{Cpv, CpvBuf, Eapi, Slot, repository_name};
use crate::portage::index::DEPENDENCY_KEYS;
use crate::portage::updates::{Rewriter, Update, UpdateCommand};

/// More passes than any history without an end needs: each must at least rename something.
const PASS_LIMIT: usize = 1000;

/// The updates of one repository.
struct List {
    updates: Vec<Arc<Update>>,
    rewriter: Arc<Rewriter>,
}

pub(super) struct Simulation<'a> {
    situation: &'a Situation<'a>,
    lists: Vec<List>,
    by_repo: HashMap<String, usize>,
    main: Option<usize>,
    instances: Instances,
    paths: HashSet<String>,
    collisions: Vec<Collision>,
    /// The same, to see whether one is new.
    seen_collisions: HashSet<Collision>,
}

impl<'a> Simulation<'a> {
    pub(super) fn new(situation: &'a Situation<'a>) -> Simulation<'a> {
        let mut rewriters: HashMap<*const Vec<Update>, Arc<Rewriter>> = HashMap::new();
        let mut lists = Vec::new();
        let mut by_repo = HashMap::new();
        for repo in &situation.updates.repos {
            by_repo.insert(repo.name.clone(), lists.len());
            let rewriter =
                rewriters.entry(Arc::as_ptr(&repo.updates)).or_insert_with(|| Arc::new(Rewriter::new(&repo.updates)));
            lists.push(List {
                updates: repo.updates.iter().map(|update| Arc::new(update.clone())).collect(),
                rewriter: Arc::clone(rewriter),
            });
        }
        let main = situation.main_repository.and_then(|name| by_repo.get(name).copied());
        Simulation {
            situation,
            lists,
            by_repo,
            main,
            instances: Instances::default(),
            paths: HashSet::new(),
            collisions: Vec::new(),
            seen_collisions: HashSet::new(),
        }
    }

    pub(super) fn run(mut self) -> Plan {
        self.read_index();
        let mut dirty: Vec<usize> = (0..self.instances.len()).collect();
        for _ in 0..PASS_LIMIT {
            let before = self.instances.len();
            self.move_names_and_slots();
            dirty.extend(before..self.instances.len());
            dirty.extend((0..before).filter(|&id| self.is_touched(id)));
            dirty.sort_unstable();
            dirty.dedup();
            for &id in &dirty {
                self.rewrite_dependencies(id);
            }
            dirty = self.end_pass();
            if dirty.is_empty() && self.instances.len() == before {
                return gather(self.instances, self.collisions);
            }
        }
        for id in dirty {
            if let Some(instance) = self.instances.get_mut(id) {
                instance.endless = instance.changes.last().map(|change| change.update.clone());
            }
        }
        gather(self.instances, self.collisions)
    }

    /// Which list of updates counts for a package of this repository (`_global_updates`: `repo_match`, `repo_dict`).
    fn list_for(&self, repo: &str) -> Option<usize> {
        self.by_repo.get(repo).copied().or(self.main)
    }

    /// Takes in the entries that can matter: those whose name an update speaks of, and those whose dependencies change.
    fn read_index(&mut self) {
        let names = names_in(self.situation.updates);
        let index = self.situation.index;
        let inherited = index.header("REPO").unwrap_or_default().to_owned();
        for number in 0..index.len() {
            let Some(block) = index.raw(number) else { continue };
            let facts = Facts::of(block);
            if facts.cpv.is_empty() {
                continue;
            }
            if !facts.path.is_empty() {
                // only asked for packages that are renamed
                let named_so =
                    |name: &[u8]| std::str::from_utf8(name).is_ok_and(|path| self.may_be_new_name(&names, path));
                if named_so(facts.path) {
                    self.paths.insert(text(facts.path));
                }
            }
            self.take_in(number, &facts, &names, &inherited);
        }
    }

    /// Whether a path lies where a copy under one of the updates' names could come.
    fn may_be_new_name(&self, names: &HashSet<&str>, path: &str) -> bool {
        match self.situation.layout {
            Layout::MultiInstance => path.rsplit_once('/').is_some_and(|(folder, _)| names.contains(folder)),
            Layout::Flat => true,
        }
    }

    fn take_in(&mut self, number: usize, facts: &Facts<'_>, names: &HashSet<&str>, inherited: &str) {
        let Ok(cpv_text) = std::str::from_utf8(facts.cpv) else { return };
        let Some(cpv) = Cpv::parse(cpv_text) else { return };
        let named = names.contains(cpv.cp());
        let repo = facts.repo.map_or(Cow::Borrowed(inherited), String::from_utf8_lossy);
        let repo = repository_name(&repo);
        let list = self.list_for(&repo).and_then(|list| self.lists.get(list));
        let Some(list) = list.filter(|list| !list.updates.is_empty() || named) else { return };
        let eapi = Eapi::parse(&facts.eapi.map_or(Cow::Borrowed("0"), String::from_utf8_lossy));
        let depends = || {
            // without a parent, so blockers against the package itself count here as well
            let changes = |value: &&[u8]| {
                list.rewriter.may_change(value)
                    && list.rewriter.rewrite(&String::from_utf8_lossy(value), eapi, None).is_some()
            };
            facts.dependencies.iter().any(changes)
        };
        if !named && !depends() {
            return;
        }
        let slot = facts.slot.map_or_else(|| "0".to_owned(), text);
        let path = if facts.path.is_empty() { format!("{cpv_text}.tbz2") } else { text(facts.path) };
        let build_id = text(facts.build_id);
        let mut instance = Instance {
            number,
            origin: Origin::Index,
            path,
            name: Name {
                cp: cpv.cp().to_owned(),
                version: cpv.version.to_owned(),
                slot,
                eapi,
                repo: repo.into_owned(),
            },
            build_time: build_time(facts.build_time),
            build_id: (!build_id.is_empty()).then_some(build_id),
            iuse: text(facts.iuse),
            use_flags: text(facts.use_flags),
            dependencies: facts.dependencies.map(text),
            steps: Vec::new(),
            changes: Vec::new(),
            // what it is now, and what it comes to
            history: Vec::with_capacity(2),
            touched: None,
            endless: None,
        };
        instance.history.push(instance.state());
        self.instances.push(instance);
    }

    fn is_touched(&self, id: usize) -> bool {
        self.instances.get(id).is_some_and(|instance| instance.touched.is_some())
    }

    fn applies(&self, list: usize, id: usize) -> bool {
        self.instances.get(id).is_some_and(|instance| self.list_for(&instance.name.repo) == Some(list))
    }

    /// The first part of a pass: every update in order, each seeing what those before it have done.
    fn move_names_and_slots(&mut self) {
        for list in 0..self.lists.len() {
            let updates = self.lists.get(list).map(|list| list.updates.clone()).unwrap_or_default();
            for update in updates {
                match &update.command {
                    UpdateCommand::Move { old, new } => {
                        for id in self.instances.called(old).to_vec() {
                            if self.applies(list, id) {
                                self.move_one(id, &update, new);
                            }
                        }
                    }
                    UpdateCommand::SlotMove { atom, old, new } => {
                        let Ok(atom) = atom.with_slot(old) else { continue };
                        for id in self.instances.called(atom.cp()).to_vec() {
                            let instance = self.instances.get(id);
                            let chosen = instance.is_some_and(|instance| atom.selects(&instance.candidate()));
                            if chosen && self.applies(list, id) {
                                self.move_slot(id, &update, new);
                            }
                        }
                    }
                }
            }
        }
    }

    /// `binarytree.move_ent` for one package.
    fn move_one(&mut self, id: usize, update: &Arc<Update>, new: &str) {
        let Some(source) = self.instances.get(id).filter(|instance| instance.endless.is_none()) else { return };
        let Name { cp: old, version, .. } = &source.name;
        let new_cpv = format!("{new}-{version}");
        if self.instances.has_build(new, version, source.build_time) {
            // applied before
            return;
        }
        let pn = |cp: &str| cp.split_once('/').map(|(_, pn)| pn.to_owned());
        let keeps_name = pn(old) == pn(new);
        let in_the_way = self.instances.oldest_build(&new_cpv).map(|other| other.path.clone());
        let number = source.number;
        let source_path = source.path.clone();
        let collide = |destination: String, overwrites| Collision {
            source: number,
            source_path,
            destination,
            update: update.text.clone(),
            overwrites,
        };
        let collision = match (keeps_name, in_the_way) {
            (false, Some(path)) => Some(collide(path, Overwrites::No)),
            _ if self.situation.layout == Layout::Flat => {
                let path = flat_path(&new_cpv);
                (self.is_path_taken(&path)).then(|| collide(path, Overwrites::Yes))
            }
            _ => None,
        };
        if let Some(collision) = collision {
            if self.seen_collisions.insert(collision.clone()) {
                self.collisions.push(collision);
            }
            return;
        }
        if let Some(new_cpv) = CpvBuf::new(&new_cpv) {
            self.copy(id, update, new, new_cpv);
        }
    }

    fn is_path_taken(&self, path: &str) -> bool {
        self.paths.contains(path) || (self.situation.is_taken)(path)
    }

    fn copy(&mut self, id: usize, update: &Arc<Update>, new: &str, new_cpv: CpvBuf) {
        let Some(mut copy) = self.instances.get(id).cloned() else { return };
        let (path, build_id) = self.allocate(&copy, new, new_cpv.as_str());
        let before = copy.name.clone();
        copy.origin = Origin::Move;
        copy.path = path;
        copy.build_id = build_id;
        copy.touched = None;
        let mut keys = vec!["PF".to_owned(), "CATEGORY".to_owned()];
        for (key, value) in DEPENDENCY_KEYS.iter().zip(&mut copy.dependencies) {
            if let Some(rewritten) = rewrite_by(update, value, &before) {
                *value = rewritten;
                keys.push((*key).to_owned());
            }
        }
        copy.changes.push(Change { update: update.text.clone(), keys });
        copy.steps.push(Step::Move { update: Arc::clone(update), before, cpv: new_cpv });
        new.clone_into(&mut copy.name.cp);
        copy.history = vec![copy.state()];
        self.paths.insert(copy.path.clone());
        self.instances.push(copy);
    }

    /// Where a copy comes, and its build id (`binarytree._allocate_filename*`): its own id if that path is free, else
    /// the next one.
    fn allocate(&self, copy: &Instance, new: &str, new_cpv: &str) -> (String, Option<String>) {
        if self.situation.layout == Layout::Flat {
            return (flat_path(new_cpv), copy.build_id.clone());
        }
        let pf = new_cpv.split_once('/').map_or(new_cpv, |(_, pf)| pf);
        let path = |id: u64| format!("{new}/{pf}-{id}.gpkg.tar");
        let own = copy.build_id.as_deref().and_then(|id| id.parse::<u64>().ok()).filter(|&id| id > 0);
        if let Some(own) = own.filter(|&own| !self.is_path_taken(&path(own))) {
            return (path(own), Some(own.to_string()));
        }
        let next = self.instances.highest_build_id(new_cpv).saturating_add(1);
        let id = (next..=u64::MAX).find(|&id| !self.is_path_taken(&path(id))).unwrap_or(u64::MAX);
        (path(id), Some(id.to_string()))
    }

    /// `dbapi.move_slot_ent` for one package. Other than there, a sub-slot never leaks into the next match.
    fn move_slot(&mut self, id: usize, update: &Arc<Update>, new: &str) {
        let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.endless.is_none()) else { return };
        let old = Slot::parse(&instance.name.slot, instance.name.eapi);
        let slot = if old.sub_slot == old.slot || old.sub_slot == new {
            new.to_owned()
        } else {
            format!("{new}/{}", old.sub_slot)
        };
        instance.steps.push(Step::Slot { slot: slot.clone() });
        instance.changes.push(Change { update: update.text.clone(), keys: vec!["SLOT".to_owned()] });
        instance.name.slot = slot;
        instance.touched = Some(update.text.clone());
    }

    /// `dbapi.update_ents` for one package.
    fn rewrite_dependencies(&mut self, id: usize) {
        let Some(instance) = self.instances.get(id).filter(|instance| instance.endless.is_none()) else { return };
        let Some(list) = self.list_for(&instance.name.repo).and_then(|list| self.lists.get(list)) else { return };
        let package = instance.candidate();
        let mut dependencies = instance.dependencies.clone();
        let mut acted: Vec<(usize, Vec<String>)> = Vec::new();
        for (key, value) in DEPENDENCY_KEYS.iter().zip(&mut dependencies) {
            let Some(rewritten) = list.rewriter.rewrite_traced(value, package.eapi, Some(&package)) else { continue };
            *value = rewritten.text;
            for update in rewritten.updates {
                match acted.iter_mut().find(|(seen, _)| *seen == update) {
                    Some((_, keys)) => keys.push((*key).to_owned()),
                    None => acted.push((update, vec![(*key).to_owned()])),
                }
            }
        }
        if dependencies == instance.dependencies {
            return;
        }
        acted.sort();
        let changes: Vec<Change> = acted
            .into_iter()
            .filter_map(|(place, keys)| Some(Change { update: list.updates.get(place)?.text.clone(), keys }))
            .collect();
        let rewriter = Arc::clone(&list.rewriter);
        if let Some(instance) = self.instances.get_mut(id) {
            instance.touched = changes.last().map(|change| change.update.clone()).or(Some(String::new()));
            // nearly always the only ones: a vector that grows makes room for four
            instance.changes.reserve_exact(changes.len());
            instance.changes.extend(changes);
            instance.steps.reserve_exact(1);
            instance.steps.push(Step::Dependencies { rewriter, package: instance.name.clone() });
            instance.dependencies = dependencies;
        }
    }

    /// Ends a pass: returns what it touched, without the packages that came back to what they were once; with those
    /// it would never end.
    fn end_pass(&mut self) -> Vec<usize> {
        let mut dirty = Vec::new();
        for (id, instance) in self.instances.iter_mut().enumerate() {
            let Some(update) = instance.touched.take() else { continue };
            let state = instance.state();
            if instance.history.contains(&state) {
                instance.endless = Some(update);
            } else {
                instance.history.push(state);
                dirty.push(id);
            }
        }
        dirty
    }
}

fn flat_path(cpv: &str) -> String {
    format!("{cpv}.gpkg.tar")
}

fn rewrite_by(update: &Update, value: &str, package: &Name) -> Option<String> {
    update.rewrite(value, package.eapi, Some(&package.candidate()))
}
