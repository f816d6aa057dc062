//! How this host syncs, beside `emerge --sync` and its hook, and what runs `binpkg-resign apply` there.
//!
//! What is found in other programs' files is found by words. So it is a hint, and never more than a warning where
//! something of ours runs regularly.

use std::path::{Path, PathBuf};

use super::Doctor;
use super::sync::is_executable;
use crate::commands::{Error, Run};

const OURS: &str = "binpkg-resign";
/// Commands that end with an emerge.
const SNAPSHOTS: [&str; 2] = ["emerge-webrsync", "emerge-delta-webrsync"];
const NO_MOVES: &str = "--package-moves=n";
/// A file longer than this is nobody's crontab.
const LONGEST: u64 = 1 << 20;

/// A line of a file that a scheduler reads, or of a script that it runs.
struct Line {
    file: PathBuf,
    text: String,
}

pub(super) fn triggers(doctor: &mut Doctor, run: &Run<'_>) -> Result<(), Error> {
    let lines = scheduled(run.settings.eprefix());
    let after: Vec<PathBuf> = regular(run, &lines);
    match after.first() {
        Some(first) => doctor.ok("regular", format!("{} runs binpkg-resign regularly, too", first.display())),
        None => doctor.ok("regular", "nothing but the hook runs binpkg-resign on this host"),
    }
    let note = |doctor: &mut Doctor, name: &'static str, text: String, fix: &str| match after.is_empty() {
        true => doctor.problem(name, text, fix),
        false => doctor.warn(name, format!("{text}; {OURS} has to bring them back afterwards"), fix),
    };
    if let Some(text) = delta(run)? {
        note(doctor, "delta", text, "ln -s ../postsync.d/50-binpkg-resign /etc/portage/bin/post_sync");
    }
    if let Some(text) = outside(run)?.filter(|_| after.is_empty()) {
        doctor.warn("outside", text, "have `binpkg-resign apply` run then, or a timer; see syncing.md");
    }
    if let Some(text) = eix(run)? {
        note(doctor, "eix", text, "add the lines of eix-sync.conf in the documentation directory");
    }
    for text in schedules(run, &lines)? {
        doctor.warn("schedule", text, "see syncing.md in the documentation directory");
    }
    Ok(())
}

/// What runs us after the pass: post_emerge, a timer, cron.
fn regular(run: &Run<'_>, lines: &[Line]) -> Vec<PathBuf> {
    let post_emerge = run.settings.config_root().join("etc/portage/bin/post_emerge");
    let timer = run.settings.eprefix().join("etc/systemd/system/timers.target.wants/binpkg-resign.timer");
    let mut found = Vec::new();
    if is_executable(&post_emerge) && read(&post_emerge).is_some_and(|text| text.contains(OURS)) {
        found.push(post_emerge);
    }
    if timer.symlink_metadata().is_ok() {
        found.push(timer);
    }
    let alone = lines.iter().filter(|line| line.text.contains(OURS) && command_in(&line.text).is_none());
    found.extend(alone.map(|line| line.file.clone()));
    found
}

/// A repository whose sync ends with an emerge, before any hook.
fn delta(run: &Run<'_>) -> Result<Option<String>, Error> {
    let mut repositories = run.settings.repositories()?.iter();
    let found = repositories.find(|repository| {
        let sync = &repository.sync;
        sync.is_synced() && sync.sync_type == "webrsync" && sync.webrsync_delta
    });
    let Some(repository) = found else { return Ok(None) };
    let post_sync = run.settings.config_root().join("etc/portage/bin/post_sync");
    let is_ours = is_executable(&post_sync) && read(&post_sync).is_some_and(|text| text.contains(OURS));
    if is_ours || !ends_with_emerge(run)? {
        return Ok(None);
    }
    Ok(Some(format!(
        "{} has sync-webrsync-delta: emerge-delta-webrsync ends with an emerge, which removes packages before the hook runs",
        repository.name
    )))
}

/// A repository with updates that no `emerge --sync` touches, so that no hook runs when it changes.
fn outside(run: &Run<'_>) -> Result<Option<String>, Error> {
    let mut repositories = run.settings.repositories()?.iter();
    let has_updates = |location: &Path| location.join("profiles/updates").is_dir();
    let found = repositories.find(|repository| !repository.sync.is_synced() && has_updates(&repository.location));
    Ok(found.map(|repository| {
        let name = &repository.name;
        format!("`emerge --sync` does not sync {name}, so that no hook runs when it changes, and the next emerge removes packages")
    }))
}

/// eix-sync with options by which it runs no hook, but without our lines.
fn eix(run: &Run<'_>) -> Result<Option<String>, Error> {
    let path = run.settings.config_root().join("etc/eix-sync.conf");
    let Some(text) = read(&path) else { return Ok(None) };
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    let options = || lines.iter().filter(|line| line.starts_with('-')).flat_map(|line| line.split_whitespace());
    let has = |letters: &[char]| {
        options().any(|word| word.strip_prefix('-').is_some_and(|letters_of| letters_of.starts_with(letters)))
    };
    let applies = lines.iter().any(|line| line.starts_with('@') && !line.starts_with("@@") && line.contains(OURS));
    let leaves_moves = lines.iter().any(|line| line.starts_with('!') && line.contains(NO_MOVES));
    let shown = path.display();
    let text = if has(&['w', 'W', 's', 'c']) && !applies {
        format!("{shown} has options by which eix-sync runs no hook, but no line that runs binpkg-resign")
    } else if has(&['w', 'W']) && !leaves_moves && ends_with_emerge(run)? {
        format!("{shown} has -w or -W, which end with an emerge: the line that runs binpkg-resign comes too late")
    } else {
        return Ok(None);
    };
    Ok(Some(text))
}

/// What a scheduler runs that changes a repository without us, or with us too late.
fn schedules(run: &Run<'_>, lines: &[Line]) -> Result<Vec<String>, Error> {
    let too_late = ends_with_emerge(run)?;
    let locations: Vec<String> =
        run.settings.repositories()?.iter().map(|repository| repository.location.display().to_string()).collect();
    let mut found = Vec::new();
    for line in lines {
        let file = line.file.display();
        let with_us = lines.iter().any(|other| other.file == line.file && other.text.contains(OURS));
        let changes = ["git", "rsync"].iter().any(|program| line.text.contains(program))
            && locations.iter().any(|location| line.text.contains(location));
        match command_in(&line.text) {
            Some(command) if too_late && !line.text.contains(NO_MOVES) => {
                found.push(format!("{file} runs {command}, which ends with an emerge that removes packages"));
            }
            Some(command) if !with_us => {
                found.push(format!("{file} runs {command} without `binpkg-resign apply` after it"))
            }
            None if changes && !with_us => {
                found.push(format!("{file} changes a repository without `binpkg-resign apply` after it"));
            }
            _ => {}
        }
    }
    Ok(found)
}

fn command_in(text: &str) -> Option<&'static str> {
    SNAPSHOTS.into_iter().find(|command| text.contains(command))
}

/// Whether emerge-webrsync and emerge-delta-webrsync call emerge at their end, and that runs the update pass.
fn ends_with_emerge(run: &Run<'_>) -> Result<bool, Error> {
    let calls = run.settings.has_feature("news")? || run.settings.has_feature("metadata-transfer")?;
    Ok(calls && !super::sync::moves_are_off(run)?)
}

/// Every line, but for comments, of what cron and systemd run.
fn scheduled(root: &Path) -> Vec<Line> {
    let folders = ["cron.d", "cron.hourly", "cron.daily", "cron.weekly", "cron.monthly", "systemd/system"]
        .map(|name| root.join("etc").join(name));
    let tables = ["var/spool/cron/root", "var/spool/cron/crontabs/root", "etc/crontab"].map(|name| root.join(name));
    let in_folders = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok());
    let mut files: Vec<PathBuf> = in_folders.flat_map(|entries| entries.flatten().map(|entry| entry.path())).collect();
    files.extend(tables);
    files.sort();
    let mut lines = Vec::new();
    for file in files {
        let text = read(&file).unwrap_or_default();
        let own = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.extend(own.map(|line| Line { file: file.clone(), text: line.to_owned() }));
    }
    lines
}

/// The text of a plain file of reasonable length.
fn read(path: &Path) -> Option<String> {
    let facts = path.metadata().ok()?;
    (facts.is_file() && facts.len() <= LONGEST).then(|| std::fs::read_to_string(path).ok()).flatten()
}
