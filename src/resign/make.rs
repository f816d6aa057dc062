//! One package through verify → rewrite → sign, up to its commit.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use super::{Crew, Job, Purpose, Source};
use crate::outcome::Reason;
use crate::package::check_identity;
use crate::package::gpkg::{
    Container, Draft, FileDigests, GpkgError, ImageSignature, NewContainer, Target, file_digests,
};
use crate::package::openpgp::{Signer, Verifier};
use crate::package::rewrite::{Difference, differences, rewrite};
use crate::package::verify::{Depth, Unsigned, Verdict, Verified, Whose, verify};
use crate::pkgdir::agreement::{differs_from_bytes, differs_from_file};
use crate::pkgdir::store::{Reader, Ready, Staged, Stager};
use crate::pkgdir::{Identity, Opened};
use crate::plan::Edit;
use crate::portage::fingerprint::KeyHandle;

/// A new file that waits for its batch.
pub(super) struct Made {
    /// Which of the package's copies it is; none for its new version in place.
    pub(super) copy: Option<usize>,
    pub(super) ready: Ready,
}

/// Why there is no new package.
pub(super) enum Unmade {
    /// It is Portage's business: not signed, or, for a rekey, not signed by an old key of ours.
    NothingToDo,
    /// Somebody else has signed it.
    Foreign(Vec<KeyHandle>),
    /// It is not there.
    Missing,
    /// It could not be made.
    Failed(Reason),
}

/// A package that may be signed.
pub(super) struct Examined {
    package: Signable,
    /// What lies under its name in PKGDIR.
    at_name: Identity,
}

impl Examined {
    /// What an edit would make other of its metadata.
    pub(super) fn differences(&self, edit: &Edit) -> Vec<Difference> {
        match &self.package {
            Signable::Ours(verified) => differences(verified.metadata(), &rewrite(verified.metadata(), edit)),
            Signable::Unsigned(_) => Vec::new(),
        }
    }
}

/// What may be signed.
enum Signable {
    /// Ours already.
    Ours(Box<Verified>),
    /// Nobody's, and asked for by name; it agrees with its Manifest and its block of the index.
    Unsigned(Box<Unsigned>),
}

/// Whether the key is unlocked; asked once a run.
pub(super) type Unlocked = OnceLock<Result<(), Reason>>;

/// What one thread works with.
pub(super) struct Tools<'run> {
    pub(super) stager: Stager,
    pub(super) signer: Signer<'run>,
    pub(super) unlocked: &'run Unlocked,
}

/// One file to be made of a package: a copy under a new name, or its new version.
struct Part<'job> {
    package: usize,
    copy: Option<usize>,
    edit: &'job Edit,
    replaces: Option<Identity>,
}

impl Crew<'_> {
    /// Everything for one package up to its commit.
    pub(super) fn make(&self, place: usize, job: &Job, tools: &mut Tools<'_>) -> Result<Vec<Made>, Unmade> {
        let Tools { stager, signer, unlocked } = tools;
        let Examined { package, at_name } = self.examine(job, signer.verifier())?;
        if let Some(doom) = &job.work.doomed {
            return Err(Unmade::Failed(Reason::Doomed(doom.clone())));
        }
        // the first package of ours, and only that, asks for the passphrase
        unlocked.get_or_init(|| self.unlock(signer)).clone().map_err(Unmade::Failed)?;
        let part = |copy, edit| Part { package: place, copy, edit, replaces: None };
        // the copies first: the store never puts the new version in place without them
        let copies = job.work.copies.iter().enumerate().map(|(number, edit)| part(Some(number), edit));
        let replaces = (job.source == Source::Package).then_some(at_name);
        let in_place = job.work.in_place.iter().map(|edit| Part { replaces, ..part(None, edit) });
        copies
            .chain(in_place)
            .map(|part| {
                let ready = match &package {
                    Signable::Ours(verified) => self.sign(job, verified, &part, stager, signer),
                    Signable::Unsigned(unsigned) => self.sign_first(job, unsigned, &part, stager, signer),
                };
                Ok(Made { copy: part.copy, ready: ready.map_err(Unmade::Failed)? })
            })
            .collect()
    }

    /// Opens a package and finds out whose it is, and whether it is what it is taken for.
    pub(super) fn examine(&self, job: &Job, verifier: &mut Verifier<'_>) -> Result<Examined, Unmade> {
        let opened = open(self.reader, job)?;
        let path = shown_path(self.reader, job);
        let failed = Unmade::Failed;
        let again = opened.file.try_clone().map_err(|source| {
            let what = "it".to_owned();
            failed(Reason::Container(Arc::new(GpkgError::Read { path: path.clone(), what, source })))
        })?;
        let verdict = verify(opened.file, &path, self.codec, verifier, Depth::Metadata)
            .map_err(|refusal| failed(Reason::Refused(Arc::new(refusal))))?;
        let package = match (verdict, self.purpose) {
            (Verdict::Ours(verified), Purpose::Rekey) if verified.whose() == Whose::Current => {
                return Err(Unmade::NothingToDo);
            }
            (Verdict::Ours(verified), Purpose::Updates | Purpose::Rekey) => Signable::Ours(verified),
            (Verdict::Unsigned(unsigned), Purpose::Sign) => Signable::Unsigned(unsigned),
            (Verdict::Foreign(foreign), Purpose::Updates) => return Err(Unmade::Foreign(foreign.signers)),
            (Verdict::Ours(_), Purpose::Sign)
            | (Verdict::Unsigned(_), Purpose::Updates | Purpose::Rekey)
            | (Verdict::Foreign(_), Purpose::Rekey | Purpose::Sign) => return Err(Unmade::NothingToDo),
        };
        let metadata = match &package {
            Signable::Ours(verified) => verified.metadata(),
            Signable::Unsigned(unsigned) => unsigned.metadata(),
        };
        check_identity(metadata, &job.work.path, &job.base, self.repository)
            .map_err(|misnamed| failed(Reason::Misnamed(Arc::new(misnamed))))?;
        if self.purpose == Purpose::Sign {
            agrees_with_index(job, &opened.identity, &again, &path).map_err(failed)?;
        }
        Ok(Examined { package, at_name: opened.at_name })
    }

    /// One test signature, as `emerge` makes to unlock the key (`portage/gpg.py`).
    fn unlock(&self, signer: &mut Signer<'_>) -> Result<(), Reason> {
        if let Some(problem) = self.keyring.problem() {
            return Err(Reason::Key(problem));
        }
        if self.command.asks_a_person() && !self.keyring.asks_nobody() {
            // one line before gpg asks, if it has to
            let key = self.keyring.user_id();
            log::warn!("binary packages are to be signed again with the key of {key}, which may need its passphrase");
        }
        signer.detached(b"").map_err(|error| Reason::Sign(Arc::new(error)))?;
        // before the first package has such a signature
        self.keyring.remember_signing();
        Ok(())
    }

    /// Writes one new package and signs it.
    fn sign(
        &self,
        job: &Job,
        package: &Verified,
        part: &Part<'_>,
        stager: &Stager,
        signer: &mut Signer<'_>,
    ) -> Result<Ready, Reason> {
        let container_failed = |error| Reason::Container(Arc::new(error));
        let pkgdir_failed = |error| Reason::Pkgdir(Arc::new(error));
        let sign_failed = |error| Reason::Sign(Arc::new(error));
        let mtime = now();
        let edit = part.edit;
        let container = package.container();
        let compression = self.compression.unwrap_or(container.metadata().1);
        let metadata = rewrite(package.metadata(), edit)
            .pack(mtime, compression, self.codec, container.path())
            .map_err(container_failed)?;
        let (staged, file) = stager.stage(&edit.path).map_err(pkgdir_failed)?;
        // made of verified metadata; the image is verified as it is written, before the Manifest is signed
        let metadata_signature = signer.detached(&metadata).map_err(sign_failed)?;
        let prefix = edit.path.stem().unwrap_or_default().to_owned();
        let new = NewContainer { prefix, metadata, compression, mtime, metadata_signature };
        let target = Target::metered(file, &self.meter);
        let draft = Draft::begin(target, container, package.manifest(), new).map_err(container_failed)?;
        let image_signature = match package.whose() {
            Whose::Current => ImageSignature::CarriedOver,
            Whose::Migrated => ImageSignature::New(signer.detached_stream(&|| draft.image()).map_err(sign_failed)?),
        };
        let unsealed = draft.signed(image_signature).map_err(container_failed)?;
        let manifest = signer.clear(&unsealed.manifest_text()).map_err(sign_failed)?;
        let (file, digests) = unsealed.finish(&manifest).map_err(container_failed)?;
        self.seal(job, part, staged, &file, &digests)
    }

    /// Signs a package that nobody has signed: the same bytes, and three signatures.
    fn sign_first(
        &self,
        job: &Job,
        package: &Unsigned,
        part: &Part<'_>,
        stager: &Stager,
        signer: &mut Signer<'_>,
    ) -> Result<Ready, Reason> {
        let container_failed = |error| Reason::Container(Arc::new(error));
        let sign_failed = |error| Reason::Sign(Arc::new(error));
        let metadata = package.packed_metadata().map_err(container_failed)?;
        let (staged, file) = stager.stage(&part.edit.path).map_err(|error| Reason::Pkgdir(Arc::new(error)))?;
        let signature = signer.detached(&metadata).map_err(sign_failed)?;
        let target = Target::metered(file, &self.meter);
        let draft = Draft::begin_unsigned(target, package.container(), package.manifest(), &signature, now())
            .map_err(container_failed)?;
        let image = signer.detached_stream(&|| draft.image()).map_err(sign_failed)?;
        let unsealed = draft.signed(ImageSignature::New(image)).map_err(container_failed)?;
        let manifest = signer.clear(&unsealed.manifest_text()).map_err(sign_failed)?;
        let (file, digests) = unsealed.finish(&manifest).map_err(container_failed)?;
        self.seal(job, part, staged, &file, &digests)
    }

    /// Makes a finished file ready for its batch.
    fn seal(
        &self,
        job: &Job,
        part: &Part<'_>,
        mut staged: Staged,
        file: &File,
        digests: &FileDigests,
    ) -> Result<Ready, Reason> {
        let edit = part.edit;
        let (size, mtime) = staged.seal(file).map_err(|error| Reason::Pkgdir(Arc::new(error)))?;
        let mut entry = edit.entry(&job.base);
        entry.set("SIZE", &size.to_string());
        if job.base.get("MTIME").is_some() {
            // without one Portage reads the file again and writes the block itself
            entry.set("MTIME", &mtime.to_string());
        }
        entry.set("MD5", &digests.md5);
        entry.set("SHA1", &digests.sha1);
        let releases = job.backup.as_ref().and_then(|backup| backup.held().cloned());
        let (package, replaces) = (part.package, part.replaces);
        Ok(Ready { package, staged, replaces, releases, entry, size, mtime })
    }
}

/// Whether a package is the one that the index speaks of: its size, and every byte.
fn agrees_with_index(job: &Job, identity: &Identity, file: &File, path: &Path) -> Result<(), Reason> {
    let has = |key: &str| job.base.get(key).is_some();
    if !(has("SIZE") && has("MD5") && has("SHA1")) {
        return Err(Reason::Unlisted);
    }
    // the time alone tells nothing
    if let Some(disagreement) = differs_from_file(&job.base, identity).filter(|differs| differs.key == "SIZE") {
        return Err(Reason::Disagrees(disagreement));
    }
    let digests = file_digests(file).map_err(|source| {
        Reason::Container(Arc::new(GpkgError::Read { path: path.to_owned(), what: "it".to_owned(), source }))
    })?;
    differs_from_bytes(&job.base, &digests).map_or(Ok(()), |differs| Err(Reason::Disagrees(differs)))
}

/// The time, in seconds since the epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn shown_path(reader: &Reader, job: &Job) -> PathBuf {
    reader.pkgdir().path().join(job.work.path.as_str())
}

/// Opens the bytes of a package, wherever they are.
fn open(reader: &Reader, job: &Job) -> Result<Opened, Unmade> {
    let held = job.backup.as_ref().and_then(|backup| backup.held());
    let opened = match (job.source, held) {
        (Source::Held, Some(held)) => reader.open_held(held),
        _ => reader.pkgdir().open_package(&job.work.path),
    };
    opened.map_err(|error| match error.is_absence() {
        true => Unmade::Missing,
        false => Unmade::Failed(Reason::Pkgdir(Arc::new(error))),
    })
}

/// What is to be said of a package whose signatures cannot be verified, for this reason.
pub(super) fn unexamined(reader: &Reader, job: &Job, reason: &Reason) -> Unmade {
    let opened = match open(reader, job) {
        Ok(opened) => opened,
        Err(unmade) => return unmade,
    };
    let container = Container::open(opened.file, &shown_path(reader, job));
    match container.and_then(|container| container.has_signatures()) {
        Ok(true) => Unmade::Failed(reason.clone()),
        Ok(false) => Unmade::NothingToDo,
        Err(error) => Unmade::Failed(Reason::Container(Arc::new(error))),
    }
}
