//! What stands between the command line and the commands: settings, messages, output, exit status.

mod bar;
mod looks;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Colour, Command, Common, HeldCommand, completions};
use crate::commands::doctor::{self, Diagnosis};
use crate::commands::index::{self, Correction};
use crate::commands::sign::{self, Wanted};
use crate::commands::status::{self, Overview};
use crate::commands::verify::{self, Audit};
use crate::commands::{Error, Run, apply, held, rekey};
use crate::interrupt::Interrupt;
use crate::outcome::Mode;
use crate::pkgdir::renewal::Scope;
use crate::portage::settings::{Environment, Locations, Settings};
use crate::portage::updates::Selection;
use crate::report::{Detail, Level, Report, Styles, Texts, Told, mark, printable};

use bar::Bar;
use looks::Looks;

/// Reads the command line, and runs what it asks for; prints what there is to say.
#[must_use]
pub fn start() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => run(&cli),
        Err(error) if is_wrong_usage(&error) => {
            // as every other error; clap's own mark is another one
            let style = Looks::new(Colour::Auto).style(std::io::stderr().is_terminal());
            let text = error.render().to_string();
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            let said: String =
                lines.map(|line| format!("{}{}\n", mark(Level::Error, style), printable(without_mark(line)))).collect();
            let _ = std::io::stderr().write_all(said.as_bytes());
            if let Some(json) = wrong_usage_as_json(text.trim_end(), std::env::args_os()) {
                let _ = writeln!(std::io::stdout(), "{json}");
            }
            ExitCode::from(2)
        }
        // help, or the version
        Err(error) => error.exit(),
    }
}

fn is_wrong_usage(error: &clap::Error) -> bool {
    error.use_stderr() && error.kind() != clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}

/// The same as an object, if that was asked for.
fn wrong_usage_as_json(said: &str, arguments: impl Iterator<Item = OsString>) -> Option<String> {
    let arguments: Vec<OsString> = arguments.skip(1).take_while(|argument| argument != "--").collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let command = Command::NAMES.into_iter().find(|name| has(name)).unwrap_or_default();
    let object = has("--json").then(|| Report::of_error(command, Mode::Real, without_mark(said).to_owned()).to_json());
    object?.ok()
}

fn without_mark(line: &str) -> &str {
    line.strip_prefix("error: ").unwrap_or(line)
}

fn run(cli: &Cli) -> ExitCode {
    let looks = Looks::new(cli.common.color);
    start_log(&cli.common, looks.clone());
    let interrupt = Interrupt::default();
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let number = usize::try_from(signal).unwrap_or(1);
        let flag = std::sync::Arc::clone(&interrupt.0);
        if let Err(error) = signal_hook::flag::register_usize(signal, flag, number) {
            log::debug!("signal {signal} cannot be caught: {error}");
        }
    }
    let bar = Bar::new(&cli.common);
    let outcome = execute(cli, &interrupt, &bar, &looks);
    bar.finish();
    let answer = outcome.unwrap_or_else(|error| {
        let mode = cli.command.mode();
        Answer::Report(Report::of_error(cli.command.name(), mode, error.to_string()))
    });
    if let Some(error) = answer.error() {
        log::error!("{error}");
    }
    let texts = if cli.common.json {
        Texts::of(answer.to_json().map_or_else(|error| error.to_string(), |json| json + "\n"))
    } else {
        let out = looks.style(std::io::stdout().is_terminal());
        let err = looks.style(std::io::stderr().is_terminal());
        answer.to_texts(Styles { out, err }, detail(&cli.common))
    };
    // a reader that went away (a closed pipe) is no failure of the run
    let _ = std::io::stdout().write_all(texts.out.as_bytes());
    let _ = std::io::stderr().write_all(texts.err.as_bytes());
    match interrupt.signal() {
        Some(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(130)),
        None => ExitCode::from(answer.exit_status()),
    }
}

/// What a command has to say.
enum Answer {
    /// What a run did.
    Report(Report),
    /// What was asked to be shown.
    List(Report),
    Audit(Audit),
    Overview(Overview),
    Diagnosis(Diagnosis),
    Correction(Correction),
    Text(String),
}

impl Answer {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        match self {
            Answer::Report(report) | Answer::List(report) => report.to_json(),
            Answer::Audit(audit) => audit.to_json(),
            Answer::Overview(overview) => overview.to_json(),
            Answer::Diagnosis(diagnosis) => diagnosis.to_json(),
            Answer::Correction(correction) => correction.to_json(),
            Answer::Text(text) => serde_json::to_string(text),
        }
    }

    fn to_texts(&self, styles: Styles, detail: Detail) -> Texts {
        let style = styles.out;
        Texts::of(match self {
            Answer::Report(report) => return report.to_texts(styles, detail),
            Answer::List(report) => report.to_text(style, detail),
            Answer::Audit(audit) => audit.to_text(style, detail),
            Answer::Overview(overview) => overview.to_text(style),
            Answer::Diagnosis(diagnosis) => diagnosis.to_text(style),
            Answer::Correction(correction) => correction.to_text(style, detail),
            Answer::Text(text) => text.clone(),
        })
    }

    /// What kept the run, or a part of it, from its work.
    fn error(&self) -> Option<&str> {
        match self {
            Answer::Report(report) | Answer::List(report) => report.error.as_deref(),
            Answer::Audit(_) | Answer::Overview(_) | Answer::Diagnosis(_) | Answer::Correction(_) | Answer::Text(_) => {
                None
            }
        }
    }

    fn exit_status(&self) -> u8 {
        match self {
            Answer::Report(report) | Answer::List(report) => report.exit_status(),
            Answer::Audit(audit) => audit.exit_status(),
            Answer::Diagnosis(diagnosis) => diagnosis.exit_status(),
            Answer::Correction(correction) => correction.exit_status(),
            Answer::Overview(overview) => overview.exit_status(),
            Answer::Text(_) => 0,
        }
    }
}

fn execute(cli: &Cli, interrupt: &Interrupt, bar: &Bar, looks: &Looks) -> Result<Answer, Error> {
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
    locations.check()?;
    let settings = Settings::load(&locations, Environment::of_process())?;
    looks.heed(&settings);
    let progress = |step| bar.show(step);
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
        Command::Held { command: None } => Answer::List(held::list(&run(mode), &[])),
        Command::Held { command: Some(HeldCommand::List { names }) } => Answer::List(held::list(&run(mode), names)),
        Command::Held { command: Some(HeldCommand::Retry { names, .. }) } => {
            Answer::Report(held::retry(&run(mode), names))
        }
        Command::Held { command: Some(HeldCommand::Drop { names, .. }) } => {
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

fn jobs(common: &Common) -> usize {
    let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    common.jobs.map_or_else(processors, std::num::NonZeroUsize::get)
}

/// The terminal that Portage would name in `GPG_TTY`: that of standard output.
fn terminal() -> Option<String> {
    let name = rustix::termios::ttyname(std::io::stdout(), Vec::new()).ok()?;
    name.into_string().ok()
}

fn detail(common: &Common) -> Detail {
    match (common.quiet, common.verbose) {
        (true, _) => Detail::Quiet,
        (_, true) => Detail::Verbose,
        _ => Detail::Normal,
    }
}

/// Messages go to standard error, marked as Portage marks them.
fn start_log(common: &Common, looks: Looks) {
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
            let style = looks.style(std::io::stderr().is_terminal());
            writeln!(out, "{}{}", mark(level, style), printable(&record.args().to_string()))
        })
        .try_init();
    if let Err(error) = started {
        log::debug!("the log was started before: {error}");
    }
}
