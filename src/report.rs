//! Outcomes → what a person reads, or JSON.

mod diff;
mod style;
mod told;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::outcome::{Mode, Outcome, OutcomeKind, Reason};

pub(crate) use style::{Detail, Level, Style, Styles, Texts, mark, package_name, printable};
pub(crate) use told::Told;

/// What a run came to.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// The command: `apply`, `rekey`, ….
    pub command: &'static str,
    /// The run as a whole.
    pub status: Status,
    /// One record for each package of ours, and each signed by somebody else, that the run was concerned with.
    pub packages: Vec<Outcome>,
    /// How many of each outcome.
    pub counts: OutcomeCounts,
    /// How long it took.
    pub seconds: f64,
    /// Whether it only said what it would do.
    pub pretend: bool,
    /// What kept the run, or a part of it, from its work.
    pub error: Option<String>,
    /// Packages held from earlier runs and still not signed.
    #[serde(skip)]
    pub still_held: usize,
    /// Why nothing was done, where signing is not configured, and who is to be told.
    #[serde(skip)]
    pub not_configured: Option<(String, Audience)>,
}

/// Who reads that nothing was to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Somebody at a terminal, or who has asked for just that.
    Person,
    /// Nobody: a hook, a script.
    Nobody,
}

/// How a run ended; of two runs, what comes later here counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Status {
    /// Signing is not configured.
    NotConfigured,
    /// No package of ours is concerned.
    NothingToDo,
    /// Everything of ours was saved.
    Done,
    /// Some package of ours could not be saved in this run.
    Incomplete,
    /// Wrong configuration, or something that the run could not do without.
    Error,
}

impl Status {
    /// The exit status that the contract gives it.
    #[must_use]
    pub(crate) fn exit_status(self) -> u8 {
        match self {
            Status::Done | Status::NothingToDo | Status::NotConfigured => 0,
            Status::Incomplete => 1,
            Status::Error => 2,
        }
    }
}

/// How many packages came to which end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct OutcomeCounts {
    /// Updated and signed in place.
    pub resigned: usize,
    /// Written under a new name.
    pub moved: usize,
    /// Brought back.
    pub restored: usize,
    /// Signed for the first time.
    pub signed: usize,
    /// Held.
    pub held: usize,
    /// Still within Portage's reach.
    pub exposed: usize,
    /// Left to Portage.
    pub foreign: usize,
    /// Out of Portage's reach without us.
    pub skipped: usize,
}

impl OutcomeCounts {
    fn of(packages: &[Outcome]) -> OutcomeCounts {
        let count = |kind| packages.iter().filter(|package| package.kind == kind).count();
        OutcomeCounts {
            resigned: count(OutcomeKind::Resigned),
            moved: count(OutcomeKind::Moved),
            restored: count(OutcomeKind::Restored),
            signed: count(OutcomeKind::Signed),
            held: count(OutcomeKind::Held),
            exposed: count(OutcomeKind::Exposed),
            foreign: count(OutcomeKind::Foreign),
            skipped: count(OutcomeKind::Skipped),
        }
    }
}

impl Told for Report {
    fn status(&self) -> Status {
        self.status
    }
}

impl Report {
    /// A report of these outcomes.
    #[must_use]
    pub(crate) fn new(command: &'static str, mode: Mode, mut packages: Vec<Outcome>, elapsed: Duration) -> Report {
        packages.sort_by(|a, b| (&a.path, &a.new_path).cmp(&(&b.path, &b.new_path)));
        let failed = packages.iter().any(Outcome::is_failure);
        let status = match packages.is_empty() {
            _ if failed => Status::Incomplete,
            true => Status::NothingToDo,
            false => Status::Done,
        };
        let seconds = (elapsed.as_secs_f64() * 1000.0).round() / 1000.0;
        let counts = OutcomeCounts::of(&packages);
        let pretend = mode == Mode::Pretend;
        Report { command, status, packages, counts, seconds, pretend, error: None, still_held: 0, not_configured: None }
    }

    /// A report of a run that could not even begin.
    #[must_use]
    pub(crate) fn of_error(command: &'static str, mode: Mode, error: String) -> Report {
        let report = Report::new(command, mode, Vec::new(), Duration::ZERO);
        Report { status: Status::Error, error: Some(error), ..report }
    }

    /// This report and that of another PKGDIR in one.
    #[must_use]
    pub(crate) fn and(mut self, other: Report) -> Report {
        self.packages.extend(other.packages);
        self.counts = OutcomeCounts::of(&self.packages);
        self.status = self.status.max(other.status);
        self.seconds += other.seconds;
        self.still_held += other.still_held;
        self.error = self.error.or(other.error);
        self
    }

    fn of(&self, kind: OutcomeKind) -> Vec<&Outcome> {
        self.packages.iter().filter(|package| package.kind == kind).collect()
    }

    /// The text for people, as one.
    #[must_use]
    pub(crate) fn to_text(&self, style: Style, detail: Detail) -> String {
        let styles = Styles { out: style, err: style };
        Text { report: self, styles, errors: Stream::Out, detail, texts: Texts::default() }.render().out
    }

    /// The text for people: what a run did, and on standard error what went wrong, as Portage's `eerror` does it. What
    /// is only shown because it was asked for goes to standard output.
    #[must_use]
    pub(crate) fn to_texts(&self, styles: Styles, detail: Detail) -> Texts {
        let errors = if self.pretend { Stream::Out } else { Stream::Err };
        Text { report: self, styles, errors, detail, texts: Texts::default() }.render()
    }
}

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

struct Text<'a> {
    report: &'a Report,
    styles: Styles,
    /// Where errors go.
    errors: Stream,
    detail: Detail,
    texts: Texts,
}

impl Text<'_> {
    fn line(&mut self, level: Level, text: &str) {
        self.line_about("", level, text);
    }

    /// A line in which the package of this name is coloured.
    fn line_about(&mut self, name: &str, level: Level, text: &str) {
        let (out, style) = match (level, self.errors) {
            (Level::Error, Stream::Err) => (&mut self.texts.err, self.styles.err),
            _ => (&mut self.texts.out, self.styles.out),
        };
        let (before, after) = if name.is_empty() { None } else { text.split_once(name) }.unwrap_or((text, ""));
        let name = if before.len() == text.len() { String::new() } else { package_name(name, style) };
        let _ = writeln!(out, "{}{}{name}{}", mark(level, style), printable(before), printable(after));
    }

    fn render(mut self) -> Texts {
        if self.detail >= Detail::Normal {
            self.packages();
            self.summary();
        }
        self.foreign();
        self.not_signed();
        self.held();
        self.exposed();
        self.texts
    }

    fn packages(&mut self) {
        let report = self.report;
        let shown = self.detail == Detail::Verbose || report.pretend;
        // somebody else's package that nothing happens to is worth a word only to those who ask
        let odd = |package: &Outcome| {
            let quiet = matches!(package.reason, Some(Reason::Foreign(_) | Reason::GivenUp));
            package.kind == OutcomeKind::Restored || package.kind == OutcomeKind::Skipped && !quiet
        };
        for package in report.packages.iter().filter(|package| shown || odd(package)) {
            let name = package.name();
            let text = match package.kind {
                OutcomeKind::Resigned => format!("{} {name}", self.verb("signed again", "would sign again")),
                OutcomeKind::Moved => {
                    let new_path = package.new_path.as_ref().map(ToString::to_string).unwrap_or_default();
                    format!("{} {name} to {new_path}", self.verb("moved", "would move"))
                }
                OutcomeKind::Restored => format!("{} {name}", self.verb("brought back", "would bring back")),
                OutcomeKind::Signed => format!("{} {name}", self.verb("signed", "would sign")),
                OutcomeKind::Skipped if self.is_asked_for() && package.is_failure() => continue,
                OutcomeKind::Skipped if matches!(package.reason, Some(Reason::GivenUp)) => {
                    format!("{} {name} ({})", self.verb("gave up", "would give up"), package.path)
                }
                OutcomeKind::Skipped => format!("left alone {name}: {}", reason_of(package)),
                OutcomeKind::Held | OutcomeKind::Exposed | OutcomeKind::Foreign => continue,
            };
            self.line_about(&name, Level::Info, &text);
            for change in &package.changes {
                self.line(Level::Info, &format!("    {}: {}", change.update, change.keys.join(" ")));
            }
            if self.detail == Detail::Verbose {
                self.texts.out += &diff::lines(&package.metadata, self.styles.out);
            }
        }
    }

    fn verb(&self, real: &'static str, pretended: &'static str) -> &'static str {
        if self.report.pretend { pretended } else { real }
    }

    fn summary(&mut self) {
        let report = self.report;
        let counts = report.counts;
        match report.status {
            Status::NotConfigured => {
                if let Some((why, audience)) = &report.not_configured
                    && (self.detail == Detail::Verbose || *audience == Audience::Person)
                {
                    self.line(Level::Info, &format!("binary packages are not signed here ({why}): nothing to do"));
                }
            }
            Status::NothingToDo if report.command == "held" => self.line(Level::Info, "no package is held"),
            Status::NothingToDo if report.command == "sign" => {
                self.line(Level::Info, "every package of the index is signed: nothing to do");
            }
            Status::NothingToDo if report.command == "rekey" => {
                self.line(Level::Info, "no package is signed by a key that has been replaced: nothing to do");
            }
            Status::NothingToDo => {
                if self.detail == Detail::Verbose || report.pretend {
                    self.line(Level::Info, "no signed binary package is concerned by the updates: nothing to do");
                }
            }
            Status::Done | Status::Incomplete | Status::Error => {
                let given_up =
                    report.packages.iter().filter(|package| matches!(package.reason, Some(Reason::GivenUp))).count();
                if given_up > 0 {
                    let packages = plural(given_up, "held package", "held packages");
                    self.line(Level::Info, &format!("{packages} {}", self.verb("given up", "to be given up")));
                }
                self.signed_again();
            }
        }
        if counts.signed > 0 {
            let packages = plural(counts.signed, "package", "packages");
            self.line(Level::Info, &format!("{}: {packages}", self.verb("Signed", "To be signed")));
        }
        if counts.restored > 0 {
            let text = format!(
                "{} {} that Portage's update pass had removed while no hook ran before it: `binpkg-resign doctor` says how to be in time",
                plural(counts.restored, "package", "packages"),
                self.verb("brought back", "to be brought back")
            );
            self.line(Level::Warning, &text);
        }
        let still_held = report.still_held;
        if still_held > 0 {
            let text = format!(
                "{} still held from earlier runs: see `binpkg-resign held`",
                plural(still_held, "package is", "packages are")
            );
            self.line(Level::Warning, &text);
        }
    }

    /// How many packages were signed again, and what for.
    fn signed_again(&mut self) {
        let counts = self.report.counts;
        let signed = counts.resigned + counts.moved;
        if signed == 0 {
            return;
        }
        let what = match self.report.command {
            "rekey" => {
                let packages = plural(signed, "package", "packages");
                let what = self.verb("Signed again with the new key", "To be signed again with the new key");
                return self.line(Level::Info, &format!("{what}: {packages}"));
            }
            "held" => self.verb("Held packages brought back", "Held packages to be brought back"),
            _ => self.verb("Signed binary packages saved from removal", "Signed binary packages to be saved"),
        };
        let text = format!("{what}: {} updated in place, {} copied to a new name", counts.resigned, counts.moved);
        self.line(Level::Info, &text);
    }

    /// Whether every package is one that somebody wants signed, and Portage removes none meanwhile.
    fn is_asked_for(&self) -> bool {
        matches!(self.report.command, "sign" | "rekey")
    }

    fn foreign(&mut self) {
        let foreign = self.report.of(OutcomeKind::Foreign);
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
            let name = package.name();
            self.line_about(&name, Level::Warning, &format!("    {name}: {}", reason_of(package)));
        }
        self.line(Level::Warning, "    (BINPKG_RESIGN_FOREIGN=hold in make.conf keeps such packages)");
    }

    /// What `sign` or `rekey` was asked for and could not do.
    fn not_signed(&mut self) {
        let mut failed = self.report.of(OutcomeKind::Skipped);
        failed.retain(|package| self.is_asked_for() && package.is_failure());
        if !failed.is_empty() {
            let text = match self.report.pretend {
                false => plural(failed.len(), "package was left as it was", "packages were left as they were"),
                true => plural(failed.len(), "package would be left as it is", "packages would be left as they are"),
            };
            let what = if self.report.command == "sign" { "not signed" } else { "not signed with the new key" };
            self.line(Level::Error, &format!("{text}, {what}:"));
            self.by_reason(&failed);
        }
    }

    fn held(&mut self) {
        let held = self.report.of(OutcomeKind::Held);
        if held.is_empty() {
            return;
        }
        let text = match self.report.pretend {
            false => format!(
                "{} kept safe in PKGDIR/.binpkg-resign/held, not signed:",
                plural(held.len(), "package is", "packages are")
            ),
            true => {
                let would = if self.report.command == "held" { "would stay held" } else { "would be held" };
                format!("{} {would}, not signed:", plural(held.len(), "package", "packages"))
            }
        };
        self.line(Level::Error, &text);
        self.by_reason(&held);
        if !self.report.pretend {
            let ended = |package: &&Outcome| package.reason.as_ref().is_some_and(Reason::is_interruption);
            let when = if held.iter().all(ended) { "To go on" } else { "When that is fixed" };
            self.line(Level::Error, &format!("{when}, run `binpkg-resign held retry`; nothing needs to be rebuilt."));
        }
    }

    /// What is still within Portage's reach: the loudest of all.
    fn exposed(&mut self) {
        let exposed = self.report.of(OutcomeKind::Exposed);
        if exposed.is_empty() {
            return;
        }
        let text = format!(
            "{} NEITHER SIGNED NOR KEPT SAFE: Portage's next update pass may remove {}:",
            plural(exposed.len(), "package is", "packages are"),
            if exposed.len() == 1 { "it" } else { "them" }
        );
        self.line(Level::Error, &text);
        self.by_reason(&exposed);
        self.line(
            Level::Error,
            "Copy them elsewhere, or fix the cause and run `binpkg-resign apply`, before the next emerge; `emerge --package-moves=n` leaves them alone.",
        );
    }

    fn by_reason(&mut self, packages: &[&Outcome]) {
        for (reason, packages) in by_reason(packages) {
            self.line(Level::Error, &format!("    {reason}"));
            for package in packages {
                let name = package.name();
                self.line_about(&name, Level::Error, &format!("        {name}{}", held_facts(package)));
            }
        }
    }
}

fn reason_of(package: &Outcome) -> String {
    package.reason.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Packages with the same reason together, in the order of the first of each, so that a locked key is explained once.
fn by_reason<'o>(packages: &[&'o Outcome]) -> Vec<(String, Vec<&'o Outcome>)> {
    let mut groups: Vec<(String, Vec<&Outcome>)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for package in packages {
        let reason = reason_of(package);
        let place = *places.entry(reason.clone()).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, packages)) => packages.push(package),
            None => groups.push((reason, vec![package])),
        }
    }
    groups
}

/// Size, age and path of a package in a list of held ones.
fn held_facts(package: &Outcome) -> String {
    let (Some(size), Some(since)) = (package.size, package.since) else { return String::new() };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    // one that nothing names is called by its path
    let path = package.cpv.as_ref().map_or_else(String::new, |_| format!("; {}", package.path));
    format!(" ({}, {} ago{path})", bytes(size), age(now.saturating_sub(since)))
}

/// A number of bytes for people.
#[must_use]
pub(crate) fn bytes(count: u64) -> String {
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
#[must_use]
pub(crate) fn age(seconds: u64) -> String {
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

/// A number with the right word behind it.
#[must_use]
pub(crate) fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests;
