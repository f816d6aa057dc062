//! Keeps signed Gentoo binary packages through package moves.
//!
//! When a repository renames a package (`profiles/updates`), Portage rewrites the dependencies inside all binary
//! packages. It cannot do that to a signed one (gpkg, GLEP 78), so it removes it. binpkg-resign runs between the sync
//! and Portage's update pass: it applies the updates to the packages that are ours as Portage would, signs them again
//! with the same key, and renews the index, so that Portage finds nothing left to do.
//!
//! One run is one straight walk, each stage in its own room:
//!
//! | stage | room | makes |
//! |---|---|---|
//! | settings | [`settings`] | what Portage's configuration comes to |
//! | updates | [`updates`] | the update files that Portage has yet to process, as ordered commands |
//! | index | [`index`] | the `Packages` file |
//! | plan | [`plan`](mod@plan) | what changes in which package, and why |
//! | verify | [`verify`] on [`gpkg`] and [`openpgp`] | packages that are ours and whole |
//! | rewrite | [`rewrite`](mod@rewrite) | their new metadata |
//! | sign | [`openpgp::sign`], in [`pipeline`] | their new signatures |
//! | commit | [`store`] | new files and the new index in place |
//! | report | [`report`] | what a person or a script reads |

pub mod atom;
pub mod cli;
pub mod front;
pub mod gpkg;
pub mod index;
pub mod openpgp;
pub mod pipeline;
pub mod plan;
pub mod report;
pub mod rewrite;
pub mod settings;
pub mod store;
pub mod updates;
pub mod verify;

use std::path::Path;
use std::time::Instant;

use gpkg::{Codec, Compression};
use index::PackageIndex;
use openpgp::{KeyError, Keyring, SigningCommand};
use pipeline::{Crew, Interrupt, Job};
use plan::{Layout, Plan, Situation, Work};
use report::{Mode, Report};
use settings::{Settings, Signing};
use store::{AtRisk, IndexCompression, Store};
use updates::{Mtimedb, RepoSource, Selection, UpdateSet};

/// Why a run could not be begun: nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Portage's configuration.
    #[error(transparent)]
    Settings(#[from] settings::SettingsError),
    /// What Portage remembers of the update files.
    #[error(transparent)]
    Updates(#[from] updates::UpdatesError),
    /// The index.
    #[error(transparent)]
    Index(#[from] index::IndexError),
    /// PKGDIR cannot be written, or our journal not read.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// The signing command as configured.
    #[error(transparent)]
    Sign(#[from] openpgp::SignError),
}

/// How `apply` is to be run.
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    /// Whether to write.
    pub mode: Mode,
    /// Which update files.
    pub selection: Selection,
    /// How many packages to prepare at once.
    pub jobs: usize,
    /// The terminal where a passphrase can be asked for; none under cron.
    pub terminal: Option<String>,
}

/// Applies updates to the signed binary packages that are ours: the whole walk.
///
/// # Errors
/// See [`Error`]; what goes wrong with one package is an outcome in the report, not an error.
pub fn apply(
    settings: &Settings,
    options: &ApplyOptions,
    interrupt: &Interrupt,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Report, Error> {
    let began = Instant::now();
    let nothing = || Report::nothing("apply", options.mode);
    let Some(signing) = settings.signing()? else {
        let why = settings.why_not_signing()?.map(|why| why.to_string());
        return Ok(Report::not_configured("apply", options.mode, why.unwrap_or_default()));
    };
    let updates = read_updates(settings, options.selection)?;
    let pkgdir = settings.pkgdir()?;
    if updates.is_empty() && !Store::has_left_overs(pkgdir) {
        return Ok(nothing());
    }
    let store = match options.mode {
        Mode::Real if Store::has_left_overs(pkgdir) => Some(open_store(settings, pkgdir)?),
        _ => None,
    };
    let Some(index) = PackageIndex::read(&pkgdir.join("Packages"))? else {
        return Ok(nothing());
    };
    let plan = make_plan(settings, &index, &updates, pkgdir)?;
    let jobs = jobs_of(plan, &index);
    drop(index);
    if jobs.is_empty() {
        return Ok(nothing());
    }
    let outcomes = match options.mode {
        Mode::Pretend => match open_keyring(settings, &signing)? {
            Ok(keyring) => pipeline::pretend(pkgdir, &jobs, &keyring, &codec(settings)?, settings.foreign()?),
            Err(error) => pipeline::would_keep_all(pkgdir, &jobs, &error.to_string()),
        },
        Mode::Real => {
            let mut store = match store {
                Some(store) => store,
                None => open_store(settings, pkgdir)?,
            };
            let (at_risk, staged) = risks(&jobs);
            store.begin(at_risk, staged)?;
            let outcomes = resign(settings, &signing, options, interrupt, progress, &mut store, &jobs)?;
            store.finish()?;
            outcomes
        }
    };
    Ok(Report::new("apply", options.mode, outcomes, began.elapsed()))
}

/// The updates to apply, in Portage's order; lines it cannot use are warned of.
fn read_updates(settings: &Settings, selection: Selection) -> Result<UpdateSet, Error> {
    let sources: Vec<RepoSource> = (settings.repositories()?.iter())
        .map(|repository| RepoSource {
            name: repository.name.clone(),
            updates_dir: repository.location.join("profiles/updates"),
        })
        .collect();
    let remembered = match selection {
        Selection::Pending => Mtimedb::read(&settings.mtimedb_path()?)?,
        Selection::All => Mtimedb::default(),
    };
    let updates = UpdateSet::read(&sources, &remembered, selection);
    for problem in &updates.problems {
        log::warn!("{problem}");
    }
    Ok(updates)
}

fn make_plan(settings: &Settings, index: &PackageIndex, updates: &UpdateSet, pkgdir: &Path) -> Result<Plan, Error> {
    let layout = if settings.has_feature("binpkg-multi-instance")? { Layout::MultiInstance } else { Layout::Flat };
    let main_repository = settings.repositories()?.main().map(|repository| repository.name.as_str());
    let is_taken = |path: &str| store::below(pkgdir, path).map_or(true, |full| full.symlink_metadata().is_ok());
    Ok(plan::plan(&Situation { index, updates, main_repository, layout, is_taken: &is_taken }))
}

fn jobs_of(plan: Plan, index: &PackageIndex) -> Vec<Job> {
    (plan.works.into_iter()).filter_map(|work| Some(Job { base: index.entry(work.number)?, work })).collect()
}

fn open_store(settings: &Settings, pkgdir: &Path) -> Result<Store, Error> {
    let gzip = settings.has_feature("compress-index")?;
    let compression = if gzip { IndexCompression::Gzip } else { IndexCompression::None };
    Ok(Store::open(pkgdir, compression)?)
}

/// What gets a second name before anything is changed, and the places where new files will come.
fn risks(jobs: &[Job]) -> (Vec<AtRisk>, Vec<String>) {
    let edits = |work: &Work| work.in_place.iter().chain(&work.copies).cloned().collect::<Vec<_>>();
    let at_risk = jobs.iter().map(|job| {
        let mut updates: Vec<String> = Vec::new();
        for change in edits(&job.work).iter().flat_map(|edit| &edit.changes) {
            if !updates.contains(&change.update) {
                updates.push(change.update.clone());
            }
        }
        AtRisk {
            path: job.work.path.clone(),
            cpv: job.work.cpv.clone(),
            build_id: job.work.build_id.clone(),
            updates,
            entry: job.base.to_text(),
        }
    });
    let staged = jobs.iter().flat_map(|job| edits(&job.work)).map(|edit| edit.path);
    (at_risk.collect(), staged.collect())
}

/// Verify, rewrite, sign and commit; where the keys cannot be used at all, everything signed is kept safe.
fn resign(
    settings: &Settings,
    signing: &Signing,
    options: &ApplyOptions,
    interrupt: &Interrupt,
    progress: &(dyn Fn(usize, usize) + Sync),
    store: &mut Store,
    jobs: &[Job],
) -> Result<Vec<report::Outcome>, Error> {
    let keyring = match open_keyring(settings, signing)? {
        Ok(keyring) => keyring,
        Err(error) => return Ok(pipeline::keep_all(store, jobs, &error.to_string())),
    };
    let command = signing_command(settings, signing, options)?;
    let crew = Crew {
        keyring: &keyring,
        command: &command,
        codec: &codec(settings)?,
        compression: compression(settings)?,
        stager: store.stager(),
        foreign: settings.foreign()?,
        jobs: options.jobs,
        interrupt,
        progress,
    };
    Ok(crew.run(store, jobs))
}

/// Our certificates; the inner error is one that concerns the keys, not the configuration.
fn open_keyring(settings: &Settings, signing: &Signing) -> Result<Result<Keyring, KeyError>, Error> {
    let migrations = settings.key_migrations()?.into_iter().map(|pair| (pair.old, pair.new)).collect::<Vec<_>>();
    Ok(Keyring::open(Path::new(&signing.home), &signing.key, &migrations))
}

fn signing_command(settings: &Settings, signing: &Signing, options: &ApplyOptions) -> Result<SigningCommand, Error> {
    let line = settings.expand(&openpgp::sign::with_config(signing, openpgp::sign::Kind::Detached))?;
    let clear = settings.expand(&openpgp::sign::with_config(signing, openpgp::sign::Kind::Clear))?;
    let environment = settings.command_environment()?;
    let terminal = options.terminal.clone();
    Ok(SigningCommand::new(&line, &clear, &signing.digest, environment, terminal, settings.sign_timeout()?)?)
}

/// The programs and settings for packing metadata.
fn codec(settings: &Settings) -> Result<Codec, Error> {
    // a broken file is found here, so that the look-ups below have nothing to report
    settings.get("BINPKG_COMPRESS_FLAGS")?;
    let setting = |name: &str| settings.get(name).ok().flatten().map(str::to_owned);
    let words = |line: &str| settings::split_words(&settings.expand(line).ok()?);
    Ok(Codec::from_portage(setting, words))
}

/// How Portage would pack new metadata; none where the setting is not one it knows.
fn compression(settings: &Settings) -> Result<Option<Compression>, Error> {
    Ok(Compression::from_setting(settings.get("BINPKG_COMPRESS")?.unwrap_or_default()))
}
