//! Outcomes → what a person reads, or JSON.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::plan::Change;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The command: `apply`, `rekey`, ….
    pub command: &'static str,
    /// The run as a whole.
    pub status: Status,
    /// One record for each package of ours, and each signed by somebody else, that the updates concern.
    pub packages: Vec<Outcome>,
    /// How many of each outcome.
    pub counts: Counts,
    /// How long it took.
    pub seconds: f64,
    /// Packages held from earlier runs and still not signed.
    #[serde(skip)]
    pub still_held: usize,
    /// Whether anything was written.
    #[serde(skip)]
    pub mode: Mode,
    /// Why nothing was done, where signing is not configured.
    #[serde(skip)]
    pub why: Option<String>,
}

/// Whether a run writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It does what is to be done.
    Real,
    /// It only says what it would do.
    Pretend,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Everything of ours was saved.
    Done,
    /// No package of ours is concerned.
    NothingToDo,
    /// Signing is not configured.
    NotConfigured,
    /// Some package of ours could not be saved in this run.
    Incomplete,
}

/// What became of one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Its file, below PKGDIR.
    pub path: String,
    /// Category, name and version.
    pub cpv: String,
    /// Its build id, if it has one.
    pub build_id: Option<String>,
    /// What became of it.
    pub outcome: Kind,
    /// The new file, below PKGDIR, where it was moved.
    pub new_path: Option<String>,
    /// Which updates change which keys.
    pub changes: Vec<Change>,
    /// Why, where it was not signed.
    pub reason: Option<String>,
    /// For a held package: since when, in seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// For a held package: its size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// What can become of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Updated and signed in place.
    Resigned,
    /// Written and signed under its new name.
    Moved,
    /// Kept safe in the folder of held packages.
    Held,
    /// Signed by somebody else, left to Portage.
    Foreign,
    /// Left as it is, and safe.
    Skipped,
}

/// How many packages came to which end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Updated and signed in place.
    pub resigned: usize,
    /// Written under a new name.
    pub moved: usize,
    /// Held.
    pub held: usize,
    /// Left to Portage.
    pub foreign: usize,
    /// Left as they are.
    pub skipped: usize,
}

impl Counts {
    fn of(packages: &[Outcome]) -> Counts {
        let count = |kind| packages.iter().filter(|package| package.outcome == kind).count();
        Counts {
            resigned: count(Kind::Resigned),
            moved: count(Kind::Moved),
            held: count(Kind::Held),
            foreign: count(Kind::Foreign),
            skipped: count(Kind::Skipped),
        }
    }
}

impl Report {
    /// A report of these outcomes.
    #[must_use]
    pub fn new(command: &'static str, mode: Mode, mut packages: Vec<Outcome>, elapsed: Duration) -> Report {
        packages.sort_by(|a, b| (&a.path, &a.new_path).cmp(&(&b.path, &b.new_path)));
        let counts = Counts::of(&packages);
        let status = match packages.is_empty() {
            _ if counts.held > 0 => Status::Incomplete,
            true => Status::NothingToDo,
            false => Status::Done,
        };
        let seconds = (elapsed.as_secs_f64() * 1000.0).round() / 1000.0;
        Report { command, status, packages, counts, seconds, still_held: 0, mode, why: None }
    }

    /// A report of a run that had nothing to do.
    #[must_use]
    pub fn nothing(command: &'static str, mode: Mode) -> Report {
        Report::new(command, mode, Vec::new(), Duration::ZERO)
    }

    /// The exit status that the contract gives it: 0, or 1 where a package of ours could not be saved.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        u8::from(self.status == Status::Incomplete)
    }

    /// A report of a host where packages are not signed.
    #[must_use]
    pub fn not_configured(command: &'static str, mode: Mode, why: String) -> Report {
        Report { status: Status::NotConfigured, why: Some(why), ..Report::nothing(command, mode) }
    }

    fn of(&self, kind: Kind) -> Vec<&Outcome> {
        self.packages.iter().filter(|package| package.outcome == kind).collect()
    }

    /// The one JSON object of the contract.
    ///
    /// # Errors
    /// It cannot be made (it always can).
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// The text for people.
    #[must_use]
    pub fn to_text(&self, style: Style, detail: Detail) -> String {
        Text { report: self, style, detail, out: String::new() }.render()
    }
}

/// Whether output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// With Portage's colours.
    Coloured,
    /// Without.
    Plain,
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Only what went wrong.
    Quiet,
    /// A summary, and what needs somebody's attention.
    Normal,
    /// A line for each package.
    Verbose,
}

/// The importance of a line, shown by the colour of its mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As Portage's `einfo`.
    Info,
    /// As Portage's `ewarn`.
    Warning,
    /// As Portage's `eerror`.
    Error,
}

/// How the reason begins that names who signed a package.
pub const SIGNED_BY: &str = "signed by ";

/// Portage's mark before a line (`EOutput.einfo` and the like).
#[must_use]
pub fn mark(level: Level, style: Style) -> String {
    let colour = match level {
        Level::Info => "32",
        Level::Warning => "33",
        Level::Error => "31",
    };
    match style {
        Style::Coloured => format!(" \u{1b}[{colour};01m*\u{1b}[39;49;00m "),
        Style::Plain => " * ".to_owned(),
    }
}

struct Text<'a> {
    report: &'a Report,
    style: Style,
    detail: Detail,
    out: String,
}

impl Text<'_> {
    fn line(&mut self, level: Level, text: &str) {
        let _ = writeln!(self.out, "{}{text}", mark(level, self.style));
    }

    fn render(mut self) -> String {
        if self.detail >= Detail::Normal {
            self.packages();
            self.summary();
        }
        self.foreign();
        self.held();
        self.out
    }

    fn packages(&mut self) {
        let report = self.report;
        let shown = self.detail == Detail::Verbose || report.mode == Mode::Pretend;
        // somebody else's package that nothing happens to is worth a word only to those who ask
        let odd = |package: &Outcome| {
            let foreign = package.reason.as_deref().is_some_and(|reason| reason.starts_with(SIGNED_BY));
            package.outcome == Kind::Skipped && !foreign && report.command != "held"
        };
        for package in report.packages.iter().filter(|package| shown || odd(package)) {
            let name = package.name();
            let text = match package.outcome {
                Kind::Resigned => format!("{} {name}", self.verb("signed again", "would sign again")),
                Kind::Moved => {
                    let new_path = package.new_path.as_deref().unwrap_or_default();
                    format!("{} {name} to {new_path}", self.verb("moved", "would move"))
                }
                Kind::Skipped => format!("left alone {name}: {}", package.reason.as_deref().unwrap_or_default()),
                Kind::Held | Kind::Foreign => continue,
            };
            self.line(Level::Info, &text);
            for change in &package.changes {
                self.line(Level::Info, &format!("    {}: {}", change.update, change.keys.join(" ")));
            }
        }
    }

    fn verb(&self, real: &'static str, pretended: &'static str) -> &'static str {
        match self.report.mode {
            Mode::Real => real,
            Mode::Pretend => pretended,
        }
    }

    fn summary(&mut self) {
        let counts = self.report.counts;
        match self.report.status {
            Status::NotConfigured => {
                let why = self.report.why.clone().unwrap_or_default();
                if self.detail == Detail::Verbose {
                    self.line(Level::Info, &format!("binary packages are not signed here ({why}): nothing to do"));
                }
            }
            Status::NothingToDo if self.report.command == "held" => self.line(Level::Info, "no package is held"),
            Status::NothingToDo => {
                if self.detail == Detail::Verbose || self.report.mode == Mode::Pretend {
                    self.line(Level::Info, "no signed binary package is concerned by the updates: nothing to do");
                }
            }
            Status::Done | Status::Incomplete => {
                if self.report.command == "held" && counts.skipped > 0 {
                    self.line(Level::Info, &plural(counts.skipped, "held package given up", "held packages given up"));
                }
                let signed = counts.resigned + counts.moved;
                if signed > 0 {
                    let text = format!(
                        "{}: {} updated in place, {} copied to a new name",
                        self.verb("Signed binary packages saved from removal", "Signed binary packages to be saved"),
                        counts.resigned,
                        counts.moved
                    );
                    self.line(Level::Info, &text);
                }
            }
        }
        let still_held = self.report.still_held;
        if still_held > 0 {
            let text = format!(
                "{} still held from earlier runs: see `binpkg-resign held`",
                plural(still_held, "package is", "packages are")
            );
            self.line(Level::Warning, &text);
        }
    }

    fn foreign(&mut self) {
        let foreign = self.report.of(Kind::Foreign);
        if foreign.is_empty() || self.detail < Detail::Normal {
            return;
        }
        let text = format!(
            "{} signed by somebody else; Portage will remove {}:",
            plural(foreign.len(), "package is", "packages are"),
            if foreign.len() == 1 { "it" } else { "them" }
        );
        self.line(Level::Warning, &text);
        for package in foreign {
            let reason = package.reason.as_deref().unwrap_or_default();
            self.line(Level::Warning, &format!("    {}: {reason}", package.name()));
        }
        self.line(Level::Warning, "    (BINPKG_RESIGN_FOREIGN=hold in make.conf keeps such packages)");
    }

    fn held(&mut self) {
        let held = self.report.of(Kind::Held);
        if held.is_empty() {
            return;
        }
        let text = match self.report.mode {
            Mode::Real => format!(
                "{} kept safe in PKGDIR/.binpkg-resign/held, not signed:",
                plural(held.len(), "package is", "packages are")
            ),
            Mode::Pretend => format!("{} would be held, not signed:", plural(held.len(), "package", "packages")),
        };
        self.line(Level::Error, &text);
        for (reason, packages) in by_reason(&held) {
            self.line(Level::Error, &format!("    {reason}"));
            for package in packages {
                self.line(Level::Error, &format!("        {}{}", package.name(), package.held_facts()));
            }
        }
        if self.report.mode == Mode::Real {
            self.line(
                Level::Error,
                "When that is mended, run `binpkg-resign held retry`; nothing needs to be rebuilt.",
            );
        }
    }
}

/// Held packages with the same reason together, so that a locked key is explained once.
fn by_reason<'o>(held: &[&'o Outcome]) -> Vec<(&'o str, Vec<&'o Outcome>)> {
    let mut groups: Vec<(&str, Vec<&Outcome>)> = Vec::new();
    for package in held {
        let reason = package.reason.as_deref().unwrap_or_default();
        match groups.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, packages)) => packages.push(package),
            None => groups.push((reason, vec![package])),
        }
    }
    groups
}

/// A number of bytes for people.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count;
    let mut rest = 0;
    let mut unit = 0;
    while value >= 1024 && unit + 1 < UNITS.len() {
        rest = value % 1024;
        value /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{value} {name}") } else { format!("{value}.{} {name}", rest * 10 / 1024) }
}

/// A time span for people, in its largest unit.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => plural_of(seconds, "second"),
        60..3600 => plural_of(seconds / 60, "minute"),
        3600..86400 => plural_of(seconds / 3600, "hour"),
        _ => plural_of(seconds / 86400, "day"),
    }
}

fn plural_of(count: u64, unit: &str) -> String {
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

impl Outcome {
    /// Whether it was signed again.
    #[must_use]
    pub fn is_saved(&self) -> bool {
        matches!(self.outcome, Kind::Resigned | Kind::Moved)
    }

    /// Size and age of a package in a list of held ones.
    fn held_facts(&self) -> String {
        let (Some(size), Some(since)) = (self.size, self.since) else { return String::new() };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        format!(" ({}, {} ago; {})", bytes(size), age(now.saturating_sub(since)), self.path)
    }

    /// The package as users name it: category, name, version and build id.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.build_id {
            Some(build_id) => format!("{}-{build_id}", self.cpv),
            None => self.cpv.clone(),
        }
    }
}
