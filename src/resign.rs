//! Package after package through verify → rewrite → sign → commit: several are verified and prepared ahead while the
//! signing command works on others, and what is ready is put in place a batch at a time.

mod examine;
mod ledger;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::SystemTime;

use crate::package::gpkg::{Codec, Compression, Draft, ImageSignature, NewContainer};
use crate::package::openpgp::{Keyring, Signer, SigningCommand};
use crate::package::rewrite::rewrite;
use crate::package::verify::{Verified, Whose};
use crate::pkgdir::store::{Identity, Ready, Stager, Store};
use crate::plan::{Edit, Work};
use crate::portage::index::Entry;
use crate::portage::settings::Foreign;
use crate::report::Outcome;

pub use examine::{keep_all, pretend, would_keep_all};
use ledger::Ledger;

/// One package with what is to be done to it.
#[derive(Debug)]
pub struct Job {
    /// The plan for it.
    pub work: Work,
    /// Its block of the index.
    pub base: Entry,
    /// Where its bytes are.
    pub source: Source,
    /// Its second name, below the folder `held`; none for a file that is not there.
    pub held: Option<String>,
    /// Whether it was held before this run.
    pub history: History,
}

/// Where the bytes of a package are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// In its place in PKGDIR.
    Package,
    /// Only in the folder of held packages, under [`Job::held`].
    Held,
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Updates are applied.
    Updates,
    /// What a migrated key has signed is signed anew; nothing else is touched.
    Rekey,
}

/// Whether a package was held before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// This run is the first that is concerned with it.
    New,
    /// An earlier run could not sign it.
    HeldBefore,
}

impl Job {
    /// A job for a package in its place.
    #[must_use]
    pub fn new(work: Work, base: Entry) -> Job {
        Job { work, base, source: Source::Package, held: None, history: History::New }
    }
}

/// Tells a run to come to its end: the number of the signal that asked for it, or 0.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(pub Arc<AtomicUsize>);

impl Interrupt {
    /// The signal that asked for the end.
    #[must_use]
    pub fn signal(&self) -> Option<usize> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&signal| signal != 0)
    }
}

/// What all the threads of a run share.
pub struct Crew<'run> {
    /// The certificates that count as ours.
    pub keyring: &'run Keyring,
    /// The signing command.
    pub command: &'run SigningCommand,
    /// The programs and settings for packing metadata.
    pub codec: &'run Codec,
    /// How new metadata is packed; none for as the old was.
    pub compression: Option<Compression>,
    /// Makes the new files.
    pub stager: Stager,
    /// What to do about packages signed by somebody else.
    pub foreign: Foreign,
    /// What the run is for.
    pub purpose: Purpose,
    /// How many packages are prepared at once.
    pub jobs: usize,
    /// Ends the run early.
    pub interrupt: &'run Interrupt,
    /// Told how many packages are done, of how many.
    pub progress: &'run (dyn Fn(usize, usize) + Sync),
}

/// One file to be made of a package: a copy under a new name, or its new version.
struct Part<'job> {
    package: usize,
    copy: Option<usize>,
    edit: &'job Edit,
    replaces: Option<Identity>,
}

/// A package that waits for its batch.
struct Made {
    copy: Option<usize>,
    ready: Ready,
}

/// Why there is no new package.
enum Unmade {
    NothingToDo,
    Foreign(Vec<String>),
    Missing(String),
    Failed(String),
}

impl Crew<'_> {
    /// Does the jobs. Every package at risk must have its second name already ([`Store::begin`]).
    pub fn run(&self, store: &mut Store, jobs: &[Job]) -> Vec<(History, Outcome)> {
        let next = AtomicUsize::new(0);
        let unlocked = OnceLock::new();
        let (sender, receiver) = mpsc::sync_channel(self.jobs);
        let mut ledger = Ledger::new(self.foreign, store, jobs);
        let mut seen = vec![false; jobs.len()];
        std::thread::scope(|scope| {
            // two more than there are processors, so that the signing command never waits for a package to be prepared
            for _ in 0..(self.jobs + 2).min(jobs.len()) {
                let sender = sender.clone();
                let (next, unlocked) = (&next, &unlocked);
                scope.spawn(move || self.work_on(jobs, next, unlocked, &sender));
            }
            drop(sender);
            let mut done = 0;
            for (place, result) in receiver {
                if let Some(seen) = seen.get_mut(place) {
                    *seen = true;
                }
                ledger.enter(place, result);
                done += 1;
                (self.progress)(done, jobs.len());
            }
        });
        ledger.commit();
        let missed = seen.iter().enumerate().filter(|(_, seen)| !**seen).map(|(place, _)| place).collect::<Vec<_>>();
        for place in missed {
            ledger.settle(place, Unmade::Failed("the run was interrupted before its turn".to_owned()));
        }
        ledger.into_outcomes()
    }

    /// One thread: takes the next job until there are no more.
    fn work_on(
        &self,
        jobs: &[Job],
        next: &AtomicUsize,
        unlocked: &OnceLock<Result<(), String>>,
        sender: &mpsc::SyncSender<(usize, Result<Vec<Made>, Unmade>)>,
    ) {
        let signer = self.keyring.verifier().map(|verifier| Signer::new(self.command, verifier));
        let mut signer = match signer {
            Ok(signer) => Ok(signer),
            Err(error) => Err(error.to_string()),
        };
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(place) else { return };
            if self.interrupt.signal().is_some() {
                return;
            }
            let result = match &mut signer {
                Ok(signer) => self.make(place, job, signer, unlocked),
                Err(reason) => Err(Unmade::Failed(reason.clone())),
            };
            if sender.send((place, result)).is_err() {
                return;
            }
        }
    }

    /// Everything for one package up to its commit.
    fn make(
        &self,
        place: usize,
        job: &Job,
        signer: &mut Signer<'_>,
        unlocked: &OnceLock<Result<(), String>>,
    ) -> Result<Vec<Made>, Unmade> {
        let (verified, identity) =
            examine::package(self.stager.pkgdir(), job, self.codec, self.purpose, signer.verifier())?;
        if let Some(reason) = &job.work.doomed {
            return Err(Unmade::Failed(reason.clone()));
        }
        // the first package of ours, and only that, asks for the passphrase
        unlocked.get_or_init(|| self.unlock(signer)).clone().map_err(Unmade::Failed)?;
        let part = |copy, edit| Part { package: place, copy, edit, replaces: None };
        // the copies first: the store never puts the new version in place without them
        let copies = job.work.copies.iter().enumerate().map(|(number, edit)| part(Some(number), edit));
        let replaces = (job.source == Source::Package).then_some(identity);
        let in_place = job.work.in_place.iter().map(|edit| Part { replaces, ..part(None, edit) });
        copies
            .chain(in_place)
            .map(|part| {
                let ready = self.sign(job, &verified, &part, signer).map_err(Unmade::Failed)?;
                Ok(Made { copy: part.copy, ready })
            })
            .collect()
    }

    /// One test signature, as `emerge` makes to unlock the key (`portage/gpg.py`).
    fn unlock(&self, signer: &mut Signer<'_>) -> Result<(), String> {
        if let Some(problem) = self.keyring.unusable() {
            return Err(problem.to_string());
        }
        if self.command.terminal().is_some() {
            // one line before gpg asks, if it has to
            let key = &self.keyring.signing().user_id;
            log::warn!("binary packages are to be signed again with the key of {key}, which may need its passphrase");
        }
        signer.detached(b"").map(|_| ()).map_err(|error| error.to_string())
    }

    /// Writes one new package beside its place and signs it.
    fn sign(&self, job: &Job, package: &Verified, part: &Part<'_>, signer: &mut Signer<'_>) -> Result<Ready, String> {
        let mtime = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let edit = part.edit;
        let container = package.container();
        let compression = self.compression.unwrap_or(container.metadata().1);
        let metadata =
            rewrite(package.metadata(), edit).pack(mtime, compression, self.codec, container.path()).map_err(text)?;
        let (mut staged, file) = self.stager.stage(&edit.path).map_err(text)?;
        // made of verified metadata; the image is verified as it is written, before the Manifest is signed
        let metadata_signature = signer.detached(&metadata).map_err(text)?;
        let prefix = prefix(&edit.path).to_owned();
        let new = NewContainer { prefix, metadata, compression, mtime, metadata_signature };
        let draft = Draft::begin(file, container, package.manifest(), new).map_err(text)?;
        let image_signature = match package.whose() {
            Whose::Current => ImageSignature::CarriedOver,
            Whose::Migrated => ImageSignature::New(signer.detached_stream(&|| draft.image()).map_err(text)?),
        };
        let unsealed = draft.signed(image_signature).map_err(text)?;
        let manifest = signer.clear(&unsealed.manifest_text()).map_err(text)?;
        let (file, digests) = unsealed.finish(&manifest).map_err(text)?;
        let (size, mtime) = staged.seal(&file).map_err(text)?;
        let mut entry = edit.entry(&job.base);
        entry.set("SIZE", &size.to_string());
        if job.base.get("MTIME").is_some() {
            // without one Portage reads the file again and writes the block itself
            entry.set("MTIME", &mtime.to_string());
        }
        entry.set("MD5", &digests.md5);
        entry.set("SHA1", &digests.sha1);
        let (package, replaces, releases) = (part.package, part.replaces, job.held.clone());
        Ok(Ready { package, staged, replaces, releases, entry, size, mtime })
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The folder inside the container: the file's name without `.gpkg.tar` (GLEP 78).
fn prefix(path: &str) -> &str {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    name.strip_suffix(".gpkg.tar").unwrap_or(name)
}
