//! Whether the hook runs before Portage's update pass on this host.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Doctor;
use crate::commands::{Error, Run};

/// The hook as it is installed, but for the place of the program, which is filled in then.
const HOOK: &str = include_str!("../../../hooks/postsync.d/50-binpkg-resign");

pub(super) fn hook(doctor: &mut Doctor, run: &Run<'_>) {
    let folder = run.settings.config_root().join("etc/portage/postsync.d");
    let mut found = Vec::new();
    hooks_below(&folder, 8, &mut found);
    found.sort_by_key(|(path, text)| switched_off(path, text).is_some());
    let Some((path, text)) = found.into_iter().next() else {
        let text = format!("no hook below {}: emerge --sync will remove signed packages", folder.display());
        doctor.problem("hook", text, "install hooks/postsync.d/50-binpkg-resign there, executable");
        return;
    };
    let shown = path.display();
    if let Some(Off { how, on }) = switched_off(&path, &text) {
        let text = format!("{shown} is switched off ({how}): emerge --sync will remove signed packages");
        doctor.problem("hook", text, &format!("to switch it on again: {on}"));
        return;
    }
    if without_program(&text) != without_program(HOOK) {
        doctor.warn("hook", format!("{shown} is not the hook of this version"), "compare it with the one shipped");
    } else {
        doctor.ok("hook", format!("{shown} is installed"));
    }
    hook_program(doctor, &path, &text);
}

/// How a hook is switched off, and how it is switched on again.
struct Off {
    how: &'static str,
    on: String,
}

/// Portage passes over a hook that is not executable; and one whose first command ends it does nothing.
fn switched_off(path: &Path, text: &str) -> Option<Off> {
    let shown = path.display();
    if !is_executable(path) {
        return Some(Off { how: "it is not executable", on: format!("chmod +x {shown}") });
    }
    let first = text.lines().map(str::trim_start).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let ends = first.split([' ', '\t', ';', '#']).next() == Some("exit");
    ends.then(|| Off {
        how: "its first command is exit",
        on: format!("take the line `{}` out of it", first.trim_end()),
    })
}

/// Where programs are looked for under many crons.
const CRON_PATH: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Whether the program that the hook names is there, also with the PATH of cron.
fn hook_program(doctor: &mut Doctor, hook: &Path, text: &str) {
    let Some(program) = text.lines().find_map(|line| line.strip_prefix("program=")) else { return };
    let program = program.trim_matches(['"', '\'']);
    let shown = hook.display();
    let fix = "write the full path of binpkg-resign into its line program=";
    if program.contains('/') {
        if is_executable(Path::new(program)) {
            doctor.ok("program", format!("{shown} runs {program}"));
        } else {
            doctor.problem("program", format!("{shown} runs {program}, which is not there"), fix);
        }
    } else if CRON_PATH.iter().any(|folder| is_executable(&Path::new(folder).join(program))) {
        doctor.ok("program", format!("{shown} finds {program} also under cron"));
    } else {
        let text = format!("{shown} looks for {program} in PATH, and under cron that is {}", CRON_PATH.join(":"));
        doctor.warn("program", text, fix);
    }
}

pub(super) fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

/// A hook without the line that says where the program lies.
fn without_program(hook: &str) -> Vec<&str> {
    hook.lines().filter(|line| !line.starts_with("program=")).collect()
}

/// Files that mention us, as Portage walks the folder: recursively, names with a dot before or `~` behind passed over.
fn hooks_below(folder: &Path, depth: usize, found: &mut Vec<(PathBuf, String)>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        if path.is_dir() && depth > 0 {
            hooks_below(&path, depth - 1, found);
        } else if let Ok(text) = std::fs::read_to_string(&path)
            && text.contains("binpkg-resign")
        {
            found.push((path, text));
        }
    }
}

/// Settings of Portage's that keep the hook, or the pass, from running.
pub(super) fn switches(doctor: &mut Doctor, run: &Run<'_>) -> Result<(), Error> {
    let repositories = run.settings.repositories()?;
    let mut synced = repositories.iter().filter(|repository| repository.sync.is_synced()).peekable();
    if synced.peek().is_some() && synced.all(|repository| repository.sync.hooks_only_on_change) {
        doctor.problem(
            "hooks",
            "sync-hooks-only-on-change is set on every repository: Portage's pass can run without the hook before it",
            "take it out of repos.conf for one repository",
        );
    } else {
        doctor.ok("hooks", "every sync runs the hooks");
    }
    if moves_are_off(run)? {
        doctor.warn(
            "moves",
            "EMERGE_DEFAULT_OPTS has --package-moves=n: Portage applies no updates at all",
            "with the hook it is not needed any more: take it out",
        );
    } else {
        doctor.ok("moves", "Portage applies package moves");
    }
    Ok(())
}

/// Whether emerge leaves package moves.
pub(super) fn moves_are_off(run: &Run<'_>) -> Result<bool, Error> {
    let options = run.settings.get("EMERGE_DEFAULT_OPTS")?.unwrap_or_default();
    let words: Vec<&str> = options.split_whitespace().collect();
    Ok(words.contains(&"--package-moves=n") || words.windows(2).any(|pair| pair == ["--package-moves", "n"]))
}
