//! What stands between the command line and the library: settings, messages, output, exit status.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::cli::{Cli, Colour, Command, Common, HeldCommand, completions};
use crate::commands::doctor::{self, Diagnosis};
use crate::commands::index::{self, Correction};
use crate::commands::sign::{self, Wanted};
use crate::commands::status::{self, Overview};
use crate::commands::verify::{self, Audit};
use crate::commands::{Error, Run, apply, held, rekey};
use crate::interrupt::Interrupt;
use crate::pkgdir::renewal::Scope;
use crate::portage::settings::{Environment, Locations, Settings};
use crate::portage::updates::Selection;
use crate::report::{Detail, Level, Report, Style, mark, printable};

/// Runs a command; prints what there is to say.
#[must_use]
pub fn run(cli: &Cli) -> ExitCode {
    let style = |stream_is_terminal: bool| match cli.common.color {
        Colour::Y => Style::Coloured,
        Colour::Auto if stream_is_terminal && !colours_unwanted() => Style::Coloured,
        Colour::Auto | Colour::N => Style::Plain,
    };
    start_log(&cli.common, style(std::io::stderr().is_terminal()));
    let interrupt = Interrupt::default();
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let number = usize::try_from(signal).unwrap_or(1);
        let flag = std::sync::Arc::clone(&interrupt.0);
        if let Err(error) = signal_hook::flag::register_usize(signal, flag, number) {
            log::debug!("signal {signal} cannot be caught: {error}");
        }
    }
    let bar = Progress::new(&cli.common);
    let outcome = execute(cli, &interrupt, &bar);
    bar.finish();
    let answer = outcome.unwrap_or_else(|error| {
        let mode = cli.command.mode();
        Answer::Report(Report::of_error(cli.command.name(), mode, error.to_string()))
    });
    if let Some(error) = answer.error() {
        log::error!("{error}");
    }
    let text = if cli.common.json {
        answer.to_json().map_or_else(|error| error.to_string(), |json| json + "\n")
    } else {
        answer.to_text(style(std::io::stdout().is_terminal()), detail(&cli.common))
    };
    // a reader that went away (a closed pipe) is no failure of the run
    let _ = std::io::stdout().write_all(text.as_bytes());
    match interrupt.signal() {
        Some(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(130)),
        None => ExitCode::from(answer.exit_status()),
    }
}

/// What a command has to say.
enum Answer {
    Report(Report),
    Audit(Audit),
    Overview(Overview),
    Diagnosis(Diagnosis),
    Correction(Correction),
    Text(String),
}

impl Answer {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        match self {
            Answer::Report(report) => report.to_json(),
            Answer::Audit(audit) => audit.to_json(),
            Answer::Overview(overview) => overview.to_json(),
            Answer::Diagnosis(diagnosis) => diagnosis.to_json(),
            Answer::Correction(correction) => correction.to_json(),
            Answer::Text(text) => serde_json::to_string(text),
        }
    }

    fn to_text(&self, style: Style, detail: Detail) -> String {
        match self {
            Answer::Report(report) => report.to_text(style, detail),
            Answer::Audit(audit) => audit.to_text(style, detail),
            Answer::Overview(overview) => overview.to_text(style),
            Answer::Diagnosis(diagnosis) => diagnosis.to_text(style),
            Answer::Correction(correction) => correction.to_text(style, detail),
            Answer::Text(text) => text.clone(),
        }
    }

    /// What kept the run, or a part of it, from its work.
    fn error(&self) -> Option<&str> {
        match self {
            Answer::Report(report) => report.error.as_deref(),
            Answer::Audit(_) | Answer::Overview(_) | Answer::Diagnosis(_) | Answer::Correction(_) | Answer::Text(_) => {
                None
            }
        }
    }

    fn exit_status(&self) -> u8 {
        match self {
            Answer::Report(report) => report.exit_status(),
            Answer::Audit(audit) => audit.exit_status(),
            Answer::Diagnosis(diagnosis) => diagnosis.exit_status(),
            Answer::Correction(correction) => correction.exit_status(),
            Answer::Overview(_) | Answer::Text(_) => 0,
        }
    }
}

fn execute(cli: &Cli, interrupt: &Interrupt, bar: &Progress) -> Result<Answer, Error> {
    let common = &cli.common;
    if let Command::Completions { shell } = cli.command {
        return Ok(Answer::Text(completions(shell)));
    }
    let locations = Locations {
        config_root: common.config_root.clone(),
        root: common.root.clone(),
        eprefix: common.prefix.clone(),
        pkgdir: common.pkgdir.clone(),
    };
    let settings = Settings::load(&locations, Environment::of_process())?;
    let progress = |done, all| bar.show(done, all);
    let run = |mode| Run {
        settings: &settings,
        mode,
        jobs: jobs(common),
        terminal: terminal(),
        interrupt,
        progress: &progress,
    };
    let mode = cli.command.mode();
    Ok(match &cli.command {
        Command::Apply { all, .. } => {
            let selection = if *all { Selection::All } else { Selection::Pending };
            Answer::Report(apply::apply(&run(mode), selection))
        }
        Command::Held { command: None } => Answer::Report(held::list(&run(mode), &[])),
        Command::Held { command: Some(HeldCommand::List { names }) } => Answer::Report(held::list(&run(mode), names)),
        Command::Held { command: Some(HeldCommand::Retry { names, .. }) } => {
            Answer::Report(held::retry(&run(mode), names))
        }
        Command::Held { command: Some(HeldCommand::Drop { names }) } => {
            Answer::Report(held::give_up(&run(mode), names))
        }
        Command::Rekey { .. } => Answer::Report(rekey::rekey(&run(mode))),
        Command::Sign { all, names, .. } => {
            let wanted = if *all { Wanted::All } else { Wanted::Named(names) };
            Answer::Report(sign::sign(&run(mode), &wanted))
        }
        Command::Index { all, .. } => {
            let scope = if *all { Scope::All } else { Scope::Changed };
            Answer::Correction(index::index(&run(mode), scope)?)
        }
        Command::Verify { packages } => Answer::Audit(verify::audit(&run(mode), packages)?),
        Command::Status => Answer::Overview(status::status(&run(mode))?),
        Command::Doctor => Answer::Diagnosis(doctor::diagnose(&run(mode))?),
        Command::Completions { .. } => Answer::Text(String::new()),
    })
}

/// A bar on a terminal, for what takes longer than a second.
struct Progress {
    began: Instant,
    bar: Option<indicatif::ProgressBar>,
}

impl Progress {
    fn new(common: &Common) -> Progress {
        let wanted = !common.json && !common.quiet && std::io::stderr().is_terminal();
        let bar = wanted.then(|| {
            let style = indicatif::ProgressStyle::with_template(" * {bar:40} {pos} of {len} packages, {eta} left");
            let bar = indicatif::ProgressBar::hidden();
            match style {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        Progress { began: Instant::now(), bar }
    }

    fn show(&self, done: usize, all: usize) {
        let Some(bar) = &self.bar else { return };
        if bar.is_hidden() && self.began.elapsed() > Duration::from_secs(1) {
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        }
        bar.set_length(u64::try_from(all).unwrap_or_default());
        bar.set_position(u64::try_from(done).unwrap_or_default());
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn jobs(common: &Common) -> usize {
    let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    common.jobs.map_or_else(processors, std::num::NonZeroUsize::get)
}

/// The terminal that Portage would name in `GPG_TTY`: that of standard output.
fn terminal() -> Option<String> {
    let name = rustix::termios::ttyname(std::io::stdout(), Vec::new()).ok()?;
    name.into_string().ok()
}

fn colours_unwanted() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let portage_off = std::env::var("NOCOLOR").is_ok_and(|value| matches!(value.as_str(), "yes" | "true"));
    portage_off || set("NO_COLOR")
}

fn detail(common: &Common) -> Detail {
    match (common.quiet, common.verbose) {
        (true, _) => Detail::Quiet,
        (_, true) => Detail::Verbose,
        _ => Detail::Normal,
    }
}

/// Messages go to standard error, marked as Portage marks them.
fn start_log(common: &Common, style: Style) {
    let level = match detail(common) {
        Detail::Quiet => "error",
        Detail::Normal => "warn",
        Detail::Verbose => "info",
    };
    let environment = env_logger::Env::default().default_filter_or(level);
    let started = env_logger::Builder::from_env(environment)
        .format(move |out, record| {
            let level = match record.level() {
                log::Level::Error => Level::Error,
                log::Level::Warn => Level::Warning,
                _ => Level::Info,
            };
            writeln!(out, "{}{}", mark(level, style), printable(&record.args().to_string()))
        })
        .try_init();
    if let Err(error) = started {
        log::debug!("the log was started before: {error}");
    }
}
