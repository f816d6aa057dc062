//! The command line: options and help texts only.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

use crate::outcome::Mode;

/// Keeps signed binary packages through package moves: applies profiles/updates to them and signs them again, before
/// Portage's own update pass removes them.
#[derive(Debug, Parser)]
#[command(name = "binpkg-resign", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Common {
    /// Where etc/portage lies (as PORTAGE_CONFIGROOT)
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, global = true)]
    pub config_root: Option<PathBuf>,
    /// The system that packages are for (as ROOT)
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, global = true)]
    pub root: Option<PathBuf>,
    /// The prefix that Portage is installed in (as EPREFIX)
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, global = true)]
    pub prefix: Option<PathBuf>,
    /// Where the binary packages lie (as PKGDIR)
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, global = true)]
    pub pkgdir: Option<PathBuf>,
    /// How many packages to prepare at once [default: the number of processors]
    #[arg(short, long, value_name = "N", value_hint = ValueHint::Other, global = true)]
    pub jobs: Option<std::num::NonZeroUsize>,
    /// Say what becomes of each package; with --pretend, what its metadata would lose and gain
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Say only what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Colour the output
    #[arg(long, value_name = "WHEN", global = true, value_enum, default_value_t = Colour::Auto)]
    pub color: Colour,
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal that is not dumb, unless NO_COLOR or NOCOLOR is against it.
    Auto,
    /// Always.
    #[value(alias = "yes", alias = "always")]
    Y,
    /// Never.
    #[value(alias = "no", alias = "never")]
    N,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Apply pending updates to signed binary packages and sign them again; the hook runs this
    Apply {
        /// Say what would change, package by package, and why; write nothing and sign nothing
        #[arg(short, long)]
        pretend: bool,
        /// Take every update file, not only those that Portage has yet to process
        #[arg(long)]
        all: bool,
    },
    /// Show packages that are kept safe because they could not be signed; try again; give them up
    Held {
        /// What to do about them [default: list]
        #[command(subcommand)]
        command: Option<HeldCommand>,
    },
    /// Check signatures and digests of every package in PKGDIR, or of those given
    Verify {
        /// Packages (category/name-version, with or without build id), or files in PKGDIR or elsewhere
        #[arg(value_name = "PACKAGE", value_hint = ValueHint::FilePath)]
        packages: Vec<PathBuf>,
    },
    /// Show on one screen what there is: packages by key, what is held, the net, the next sync; nothing is verified
    Status,
    /// Check that signing, keys, hook, PKGDIR and index are in order, and say how to fix what is not
    Doctor,
    /// Sign again what a migrated key has signed (BINPKG_GPG_SIGNING_KEY_MIGRATION)
    Rekey {
        /// Say which packages would be signed again; write nothing and sign nothing
        #[arg(short, long)]
        pretend: bool,
    },
    /// Sign packages that nobody has signed yet; what is signed is vouched for
    #[command(group = clap::ArgGroup::new("wanted").args(["all", "names"]).required(true))]
    Sign {
        /// Say which packages would be signed; write nothing and sign nothing
        #[arg(short, long)]
        pretend: bool,
        /// Every unsigned package of the index
        #[arg(long)]
        all: bool,
        /// Packages (category/name-version, with or without build id), or their files
        #[arg(value_name = "PACKAGE", value_hint = ValueHint::FilePath)]
        names: Vec<String>,
    },
    /// Bring the package index into agreement with the files; no keyring is asked
    Index {
        /// Say what would change about the index; write nothing
        #[arg(short, long)]
        pretend: bool,
        /// Read every file, not only those of which the index says nothing, or another size or time
        #[arg(long)]
        all: bool,
    },
    /// Print completions for a shell
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What to do about held packages.
#[derive(Debug, Clone, Subcommand)]
pub enum HeldCommand {
    /// Show them: package, size, since when, why
    List {
        /// Only these, by name or path
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Do what is still to be done and bring them back
    Retry {
        /// Say what would be done; write nothing and sign nothing
        #[arg(short, long)]
        pretend: bool,
        /// Only these, by name or path, as `held list` shows them
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Give them up: remove them for good
    Drop {
        /// Only say what would be removed
        #[arg(short, long)]
        pretend: bool,
        /// Their names or paths, as `held list` shows them
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

impl Command {
    /// What every command is called.
    pub const NAMES: [&str; 9] =
        ["apply", "held", "verify", "status", "doctor", "rekey", "sign", "index", "completions"];

    /// The name of the command.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Command::Apply { .. } => "apply",
            Command::Held { .. } => "held",
            Command::Verify { .. } => "verify",
            Command::Status => "status",
            Command::Doctor => "doctor",
            Command::Rekey { .. } => "rekey",
            Command::Sign { .. } => "sign",
            Command::Index { .. } => "index",
            Command::Completions { .. } => "completions",
        }
    }

    /// Whether it is to write.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self {
            Command::Apply { pretend: true, .. }
            | Command::Rekey { pretend: true }
            | Command::Sign { pretend: true, .. }
            | Command::Index { pretend: true, .. }
            | Command::Held {
                command: Some(HeldCommand::Retry { pretend: true, .. } | HeldCommand::Drop { pretend: true, .. }),
            } => Mode::Pretend,
            _ => Mode::Real,
        }
    }
}

const PROGRAM: &str = "binpkg-resign";

/// The completions of this command line for a shell.
pub fn completions(shell: Shell) -> String {
    // Bash reads a name with an underscore as well, and clap_complete's function for bash finds no subcommand of a
    // program that has a hyphen in its name (clap-rs/clap#6421): its case labels spell the hyphen in two ways.
    let (name, more) = match shell {
        Shell::Bash => ("binpkg_resign", format!("complete -F _binpkg_resign -o bashdefault -o default {PROGRAM}\n")),
        _ => (PROGRAM, String::new()),
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), name, &mut text);
    String::from_utf8_lossy(&text).into_owned() + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_named() {
        let cli = Cli::command();
        let names: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(names, Command::NAMES);
    }

    /// The help of every command, as it stands.
    #[test]
    fn help() {
        let mut cli = Cli::command().term_width(100);
        cli.build();
        insta::assert_snapshot!("help", cli.render_long_help().to_string());
        for command in cli.get_subcommands_mut() {
            let name = format!("help-{}", command.get_name());
            insta::assert_snapshot!(name, command.render_long_help().to_string());
        }
    }
}
