//! What stands between the command line and the library: settings, messages, output, exit status.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use crate::cli::{Cli, Colour, Command, Common, HeldCommand};
use crate::pipeline::Interrupt;
use crate::report::{Detail, Level, Mode, Report, Style, mark};
use crate::settings::{Environment, Locations, Settings};
use crate::updates::Selection;
use crate::{Error, Run, held, rekey};

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
    let outcome = execute(cli, &interrupt);
    let report = match outcome {
        Ok(report) => report,
        Err(error) => {
            log::error!("{error}");
            return ExitCode::from(2);
        }
    };
    let text = if cli.common.json {
        report.to_json().map(|json| json + "\n").unwrap_or_else(|error| error.to_string())
    } else {
        report.to_text(style(std::io::stdout().is_terminal()), detail(&cli.common))
    };
    // a reader that went away (a closed pipe) is no failure of the run
    let _ = std::io::stdout().write_all(text.as_bytes());
    match interrupt.signal() {
        Some(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(130)),
        None => ExitCode::from(report.exit_status()),
    }
}

fn execute(cli: &Cli, interrupt: &Interrupt) -> Result<Report, Error> {
    let common = &cli.common;
    let locations = Locations {
        config_root: common.config_root.clone(),
        root: common.root.clone(),
        eprefix: common.prefix.clone(),
        pkgdir: common.pkgdir.clone(),
    };
    let settings = Settings::load(&locations, Environment::of_process())?;
    let run = |pretend: bool| Run {
        settings: &settings,
        mode: if pretend { Mode::Pretend } else { Mode::Real },
        jobs: jobs(common),
        terminal: terminal(),
        interrupt,
        progress: &|_, _| {},
    };
    match &cli.command {
        Command::Apply { pretend, all } => {
            crate::apply(&run(*pretend), if *all { Selection::All } else { Selection::Pending })
        }
        Command::Held { command } => match command {
            None | Some(HeldCommand::List) => held::list(&run(false)),
            Some(HeldCommand::Retry) => held::retry(&run(false)),
            Some(HeldCommand::Drop { paths }) => held::give_up(&run(false), paths),
        },
        Command::Rekey { pretend } => rekey::rekey(&run(*pretend)),
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
            writeln!(out, "{}{}", mark(level, style), record.args())
        })
        .try_init();
    if let Err(error) = started {
        log::debug!("the log was started before: {error}");
    }
}
