//! Whether there are colours, by Portage's rules, and which letters the terminal has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::Colour;
use crate::portage::settings::Settings;
use crate::report::Style;

/// Whether output is coloured: `--color` decides, else the terminal, `NO_COLOR` and `NOCOLOR`, which make.conf can have, too.
#[derive(Debug, Clone)]
pub(super) struct Looks {
    wanted: Colour,
    plain: Arc<AtomicBool>,
}

impl Looks {
    /// By the environment alone.
    pub(super) fn new(wanted: Colour) -> Looks {
        let plain = is_dumb() || no_color(variable);
        Looks { wanted, plain: Arc::new(AtomicBool::new(plain)) }
    }

    /// By make.conf as well, from now on.
    pub(super) fn heed(&self, settings: &Settings) {
        let set = |name: &str| variable(name).or_else(|| settings.get(name).ok().flatten().map(str::to_owned));
        self.plain.store(is_dumb() || no_color(set), Ordering::Relaxed);
    }

    /// The style of what goes to a terminal, or elsewhere.
    pub(super) fn style(&self, is_terminal: bool) -> Style {
        match self.wanted {
            Colour::Y => Style::Coloured,
            Colour::Auto if is_terminal && !self.plain.load(Ordering::Relaxed) => Style::Coloured,
            Colour::Auto | Colour::N => Style::Plain,
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Whether the terminal can do no more than show letters.
pub(super) fn is_dumb() -> bool {
    variable("TERM").as_deref() == Some("dumb")
}

/// As `portage.util.no_color`: NO_COLOR goes first, and an empty one asks for colours.
fn no_color(variable: impl Fn(&str) -> Option<String>) -> bool {
    match variable("NO_COLOR") {
        Some(value) => !value.is_empty(),
        None => variable("NOCOLOR").is_some_and(|value| matches!(value.to_lowercase().as_str(), "yes" | "true")),
    }
}

/// Whether the locale has more letters than ASCII: of `LC_ALL`, `LC_CTYPE` and `LANG` the first that is set.
pub(super) fn has_unicode() -> bool {
    is_unicode(variable)
}

fn is_unicode(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &&str| variable(name).filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set).unwrap_or_default().to_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'v>(values: &'v [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'v {
        |name| values.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn colours_are_unwanted_where_portage_says_so() {
        for (values, unwanted) in [
            (&[][..], false),
            (&[("NOCOLOR", "true")], true),
            (&[("NOCOLOR", "Yes")], true),
            (&[("NOCOLOR", "1")], false),
            (&[("NOCOLOR", "false")], false),
            (&[("NO_COLOR", "1")], true),
            (&[("NO_COLOR", "no")], true),
            (&[("NO_COLOR", ""), ("NOCOLOR", "true")], false),
        ] {
            assert_eq!(no_color(of(values)), unwanted, "{values:?}");
        }
    }

    #[test]
    fn the_first_locale_that_is_set_counts() {
        for (values, unicode) in [
            (&[][..], false),
            (&[("LANG", "C.UTF-8")], true),
            (&[("LANG", "de_DE.utf8")], true),
            (&[("LC_ALL", ""), ("LANG", "en_US.UTF-8")], true),
            (&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")], false),
            (&[("LC_CTYPE", "POSIX"), ("LANG", "en_US.UTF-8")], false),
        ] {
            assert_eq!(is_unicode(of(values)), unicode, "{values:?}");
        }
    }
}
