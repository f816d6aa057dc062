//! Package after package through verify → rewrite → sign → commit: several are verified and prepared ahead while the
//! signing command works on others, and what is ready is put in place a batch at a time.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::SystemTime;

use crate::gpkg::{self, Codec, Compression, Container, Draft, ImageSignature, NewContainer};
use crate::index::Entry;
use crate::openpgp::{Keyring, Signer, SigningCommand, Verifier};
use crate::plan::{Edit, Work};
use crate::report::{Kind, Outcome};
use crate::rewrite::rewrite;
use crate::settings::Foreign;
use crate::store::{self, Committed, Identity, Ready, Stager, Store, StoreError};
use crate::verify::{self, Verdict, Verified, Whose};

/// A batch is put in place when it has this many packages, …
const BATCH_PACKAGES: usize = 64;
/// … or this many bytes: so much more disk a run needs at the most.
const BATCH_BYTES: u64 = 512 << 20;

/// One package with what is to be done to it.
#[derive(Debug)]
pub struct Job {
    /// The plan for it.
    pub work: Work,
    /// Its block of the index.
    pub base: Entry,
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
    /// How many packages are prepared at once.
    pub jobs: usize,
    /// Ends the run early.
    pub interrupt: &'run Interrupt,
    /// Told how many packages are done, of how many.
    pub progress: &'run (dyn Fn(usize, usize) + Sync),
}

/// A package that waits for its batch.
struct Made {
    job: usize,
    copy: Option<usize>,
    ready: Ready,
}

/// Why there is no new package.
enum Unmade {
    Unsigned,
    Foreign(Vec<String>),
    Missing(String),
    Failed(String),
}

impl Crew<'_> {
    /// Does the jobs. Every package at risk must have its second name already ([`Store::begin`]).
    pub fn run(&self, store: &mut Store, jobs: &[Job]) -> Vec<Outcome> {
        let next = AtomicUsize::new(0);
        let unlocked = OnceLock::new();
        let (sender, receiver) = mpsc::sync_channel(self.jobs);
        let mut ledger = Ledger { crew: self, store, jobs, outcomes: Vec::new(), batch: Vec::new(), bytes: 0 };
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
        ledger.outcomes
    }

    /// One thread: takes the next job until there are no more.
    fn work_on(
        &self,
        jobs: &[Job],
        next: &AtomicUsize,
        unlocked: &OnceLock<Result<u64, String>>,
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
        unlocked: &OnceLock<Result<u64, String>>,
    ) -> Result<Vec<Made>, Unmade> {
        let (verified, identity) = self.verified(job, signer)?;
        if let Some(update) = &job.work.endless {
            return Err(Unmade::Failed(endless(update)));
        }
        // the first package of ours, and only that, asks for the passphrase
        let size = unlocked.get_or_init(|| self.unlock(signer)).clone().map_err(Unmade::Failed)?;
        let copies = job.work.copies.iter().enumerate().map(|(number, edit)| (Some(number), edit));
        let edits = job.work.in_place.iter().map(|edit| (None, edit)).chain(copies);
        edits
            .map(|(copy, edit)| {
                let replaces = copy.is_none().then_some(identity);
                let ready = self.sign(job, &verified, edit, replaces, size, signer).map_err(Unmade::Failed)?;
                Ok(Made { job: place, copy, ready })
            })
            .collect()
    }

    fn verified(&self, job: &Job, signer: &mut Signer<'_>) -> Result<(Box<Verified>, Identity), Unmade> {
        examine(self.stager.pkgdir(), &job.work.path, self.codec, signer.verifier())
    }

    /// One test signature, as `emerge` makes to unlock the key (`portage/gpg.py`); its size tells where the image of
    /// new packages will lie.
    fn unlock(&self, signer: &mut Signer<'_>) -> Result<u64, String> {
        if let Some(problem) = self.keyring.unusable() {
            return Err(problem.to_string());
        }
        signer.detached(b"").map(|signature| signature.len() as u64).map_err(|error| error.to_string())
    }

    /// Writes one new package beside its place and signs it.
    fn sign(
        &self,
        job: &Job,
        package: &Verified,
        edit: &Edit,
        replaces: Option<Identity>,
        signature_size: u64,
        signer: &mut Signer<'_>,
    ) -> Result<Ready, String> {
        let mtime = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let container = package.container();
        let compression = self.compression.unwrap_or(container.metadata().1);
        let metadata = rewrite(package, edit).pack(mtime, compression, self.codec, container.path()).map_err(text)?;
        let (staged, file) = self.stager.stage(&edit.path).map_err(text)?;
        let prefix = prefix(&edit.path).to_owned();
        let new = NewContainer { prefix, metadata, compression, mtime, signature_size };
        let draft = Draft::begin(file, container, package.manifest(), new).map_err(text)?;
        // from here on every byte has been verified: only now is anything signed
        let metadata_signature = signer.detached(draft.metadata_bytes()).map_err(text)?;
        let image_signature = match package.whose() {
            Whose::Current => ImageSignature::CarriedOver,
            Whose::Migrated => ImageSignature::New(signer.detached_stream(&|| draft.image()).map_err(text)?),
        };
        let unsealed = draft.signed(metadata_signature, image_signature).map_err(text)?;
        let manifest = signer.clear(&unsealed.manifest_text()).map_err(text)?;
        let file = unsealed.finish(&manifest).map_err(text)?;
        let digests = gpkg::file_digests(&file)
            .map_err(|error| format!("cannot read {} for its digests: {error}", staged.path().display()))?;
        let (size, mtime) = staged.seal(&file).map_err(text)?;
        let mut entry = edit.entry(&job.base);
        entry.set("SIZE", &size.to_string());
        entry.set("MTIME", &mtime.to_string());
        entry.set("MD5", &digests.md5);
        entry.set("SHA1", &digests.sha1);
        Ok(Ready { staged, replaces, releases: Some(job.work.path.clone()), entry, size })
    }
}

/// Opens a package and finds out whose it is.
fn examine(
    pkgdir: &Path,
    path: &str,
    codec: &Codec,
    verifier: &mut Verifier<'_>,
) -> Result<(Box<Verified>, Identity), Unmade> {
    let (file, identity) = open(pkgdir, path)?;
    match verify::verify(file, &pkgdir.join(path), codec, verifier) {
        Verdict::Ours(verified) => Ok((verified, identity)),
        Verdict::Unsigned => Err(Unmade::Unsigned),
        Verdict::Foreign { signers } => Err(Unmade::Foreign(signers)),
        Verdict::Refused { reason } => Err(Unmade::Failed(reason)),
    }
}

fn open(pkgdir: &Path, path: &str) -> Result<(File, Identity), Unmade> {
    store::open_package(pkgdir, path).map_err(|error| match &error {
        StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Unmade::Missing(format!("{error}; the index is out of date, `emaint binhost --fix` makes it anew"))
        }
        _ => Unmade::Failed(error.to_string()),
    })
}

fn endless(update: &str) -> String {
    format!("the updates never come to an end with it: every pass repeats {update:?}")
}

/// What a run would do, without writing or signing anything: every package is verified.
pub fn pretend(pkgdir: &Path, jobs: &[Job], keyring: &Keyring, codec: &Codec, foreign: Foreign) -> Vec<Outcome> {
    let mut verifier = keyring.verifier();
    let mut outcomes = Vec::new();
    for job in jobs {
        let examined = match &mut verifier {
            Ok(verifier) => examine(pkgdir, &job.work.path, codec, verifier).map(|_| ()),
            Err(error) => Err(Unmade::Failed(error.to_string())),
        };
        let problem = keyring.unusable().map(ToString::to_string).or(job.work.endless.as_deref().map(endless));
        match (examined, problem) {
            (Ok(()), None) => {
                let copies = job.work.copies.iter().map(|edit| (Kind::Moved, edit));
                for (kind, edit) in job.work.in_place.iter().map(|edit| (Kind::Resigned, edit)).chain(copies) {
                    let new_path = (kind == Kind::Moved).then(|| edit.path.clone());
                    outcomes.push(Outcome { new_path, changes: edit.changes.clone(), ..job.outcome(kind, None) });
                }
            }
            (Ok(()), Some(problem)) => outcomes.push(job.outcome(Kind::Held, Some(problem))),
            (Err(Unmade::Unsigned), _) => {}
            (Err(Unmade::Missing(reason)), _) => outcomes.push(job.outcome(Kind::Skipped, Some(reason))),
            (Err(Unmade::Foreign(signers)), _) => {
                let kind = foreign_kind(job, foreign);
                outcomes.push(job.outcome(kind, Some(signed_by(&signers))));
            }
            (Err(Unmade::Failed(reason)), _) => outcomes.push(job.outcome(Kind::Held, Some(reason))),
        }
    }
    outcomes
}

/// Where our keys cannot be used at all, nobody knows whose a package is: everything that is signed, or cannot be
/// read, is kept safe.
pub fn keep_all(store: &mut Store, jobs: &[Job], reason: &str) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for job in jobs {
        let path = &job.work.path;
        match unexamined(store.pkgdir(), path, reason) {
            Unmade::Unsigned => {
                if let Err(error) = store.release(path) {
                    log::warn!("{error}");
                }
            }
            Unmade::Missing(reason) => outcomes.push(job.outcome(Kind::Skipped, Some(reason))),
            Unmade::Foreign(_) => {}
            Unmade::Failed(reason) => outcomes.push(job.outcome(keep(store, path, &reason), Some(reason))),
        }
    }
    outcomes
}

/// The same for a run that only says what it would do.
pub fn would_keep_all(pkgdir: &Path, jobs: &[Job], reason: &str) -> Vec<Outcome> {
    let outcome = |job: &Job| match unexamined(pkgdir, &job.work.path, reason) {
        Unmade::Unsigned | Unmade::Foreign(_) => None,
        Unmade::Missing(reason) => Some(job.outcome(Kind::Skipped, Some(reason))),
        Unmade::Failed(reason) => Some(job.outcome(Kind::Held, Some(reason))),
    };
    jobs.iter().filter_map(outcome).collect()
}

/// What is to be said of a package whose signatures cannot be verified, for this reason.
fn unexamined(pkgdir: &Path, path: &str, reason: &str) -> Unmade {
    let signed = open(pkgdir, path).and_then(|(file, _)| {
        let container = Container::open(file, &pkgdir.join(path));
        container.and_then(|container| container.has_signatures()).map_err(|error| Unmade::Failed(error.to_string()))
    });
    match signed {
        Ok(true) => Unmade::Failed(reason.to_owned()),
        Ok(false) => Unmade::Unsigned,
        Err(unmade) => unmade,
    }
}

fn keep(store: &mut Store, path: &str, reason: &str) -> Kind {
    if store.keep(path, reason) { Kind::Held } else { Kind::Skipped }
}

fn signed_by(signers: &[String]) -> String {
    format!("signed by {}", signers.join(", "))
}

/// What becomes of a package of somebody else: Portage removes it only where it must change in place.
fn foreign_kind(job: &Job, foreign: Foreign) -> Kind {
    match foreign {
        _ if !job.work.is_at_risk() => Kind::Skipped,
        Foreign::Hold => Kind::Held,
        Foreign::Leave => Kind::Foreign,
    }
}

impl Job {
    /// A record for this package as a whole.
    fn outcome(&self, outcome: Kind, reason: Option<String>) -> Outcome {
        let edits = self.work.in_place.iter().chain(&self.work.copies);
        Outcome {
            path: self.work.path.clone(),
            cpv: self.work.cpv.clone(),
            build_id: self.work.build_id.clone(),
            outcome,
            new_path: None,
            changes: edits.flat_map(|edit| edit.changes.clone()).collect(),
            reason,
        }
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

/// Collects batches, commits them, and writes down what became of each package.
struct Ledger<'run> {
    crew: &'run Crew<'run>,
    store: &'run mut Store,
    jobs: &'run [Job],
    outcomes: Vec<Outcome>,
    batch: Vec<Made>,
    bytes: u64,
}

impl Ledger<'_> {
    fn enter(&mut self, place: usize, result: Result<Vec<Made>, Unmade>) {
        match result {
            Ok(made) => {
                self.bytes += made.iter().map(|made| made.ready.size).sum::<u64>();
                self.batch.extend(made);
                if self.batch.len() >= BATCH_PACKAGES || self.bytes >= BATCH_BYTES {
                    self.commit();
                }
            }
            Err(unmade) => self.settle(place, unmade),
        }
    }

    fn commit(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.bytes = 0;
        let (tags, batch): (Vec<(usize, Option<usize>)>, Vec<Ready>) =
            std::mem::take(&mut self.batch).into_iter().map(|made| ((made.job, made.copy), made.ready)).unzip();
        match self.store.commit(batch) {
            Ok(committed) => {
                for ((place, copy), committed) in tags.into_iter().zip(committed) {
                    self.settle_commit(place, copy, committed);
                }
            }
            Err(error) => {
                let mut places: Vec<usize> = tags.into_iter().map(|(place, _)| place).collect();
                places.dedup();
                for place in places {
                    self.settle(place, Unmade::Failed(error.to_string()));
                }
            }
        }
    }

    fn settle_commit(&mut self, place: usize, copy: Option<usize>, committed: Committed) {
        let Some(job) = self.jobs.get(place) else { return };
        let edit = match copy {
            None => job.work.in_place.as_ref(),
            Some(number) => job.work.copies.get(number),
        };
        let Some(edit) = edit else { return };
        let (kind, reason) = match committed {
            Committed::Done if copy.is_some() => (Kind::Moved, None),
            Committed::Done => (Kind::Resigned, None),
            Committed::Changed => {
                (Kind::Skipped, Some("another program has replaced it meanwhile; its version stays".to_owned()))
            }
            Committed::Gone => {
                let reason = "it disappeared from PKGDIR while it was being signed";
                (keep(self.store, &job.work.path, reason), Some(reason.to_owned()))
            }
            Committed::Taken => {
                let reason = format!("another package has taken the name {} meanwhile", edit.path);
                (keep(self.store, &job.work.path, &reason), Some(reason))
            }
        };
        if committed == Committed::Changed {
            self.release(&job.work.path);
        }
        let new_path = copy.is_some().then(|| edit.path.clone());
        self.outcomes.push(Outcome { new_path, changes: edit.changes.clone(), ..job.outcome(kind, reason) });
    }

    fn settle(&mut self, place: usize, unmade: Unmade) {
        let Some(job) = self.jobs.get(place) else { return };
        let path = &job.work.path;
        let (kind, reason) = match unmade {
            Unmade::Unsigned => return self.release(path),
            Unmade::Missing(reason) => (Kind::Skipped, reason),
            Unmade::Foreign(signers) => {
                let reason = signed_by(&signers);
                match foreign_kind(job, self.crew.foreign) {
                    Kind::Held => (keep(self.store, path, &reason), reason),
                    kind => {
                        self.release(path);
                        (kind, reason)
                    }
                }
            }
            Unmade::Failed(reason) => (keep(self.store, path, &reason), reason),
        };
        self.outcomes.push(job.outcome(kind, Some(reason)));
    }

    fn release(&mut self, path: &str) {
        if let Err(error) = self.store.release(path) {
            log::warn!("{error}");
        }
    }
}
