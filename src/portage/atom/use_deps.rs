//! USE dependencies, the part of an atom in brackets (PMS 8.3.4).

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use regex::Regex;

/// One USE dependency of an atom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UseDep<'a> {
    /// The flag.
    pub flag: &'a str,
    /// What the state must be.
    pub state: UseState,
    /// What counts where the package does not have the flag.
    pub default: Option<UseDefault>,
}

/// What a USE dependency asks of its flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseState {
    /// `flag`
    Enabled,
    /// `-flag`
    Disabled,
    /// `flag?`, `!flag?`, `flag=` or `!flag=`: depends on the package that has the dependency.
    Conditional,
}

/// The default of a USE dependency (EAPI 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseDefault {
    /// `(+)`: a flag that is missing counts as enabled.
    Enabled,
    /// `(-)`: a flag that is missing counts as disabled.
    Disabled,
}

impl<'a> UseDep<'a> {
    /// Reads one USE dependency, as `portage.dep._use_dep` does.
    fn parse(text: &'a str) -> Option<UseDep<'a>> {
        let found = USE_DEP.as_ref()?.captures(text)?;
        let part = |number| found.get(number).map_or("", |part| part.as_str());
        let state = match (part(1), part(4)) {
            ("", "") => UseState::Enabled,
            ("-", "") => UseState::Disabled,
            ("" | "!", "?" | "=") => UseState::Conditional,
            _ => return None,
        };
        let default = match part(3) {
            "(+)" => Some(UseDefault::Enabled),
            "(-)" => Some(UseDefault::Disabled),
            _ => None,
        };
        Some(UseDep { flag: part(2), state, default })
    }
}

/// Prefix, flag (PMS 3.1.4), default and suffix, as in `portage.dep._usedep_re`.
static USE_DEP: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("^([!-]?)([A-Za-z0-9][A-Za-z0-9+_@-]*)(\\([+-]\\))?([?=]?)$").ok());

/// Whether a text is the name of a USE flag: `[A-Za-z0-9][A-Za-z0-9+_@-]*` (PMS 3.1.4).
pub(crate) fn is_flag(text: &str) -> bool {
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'_' | b'@' | b'-'))
}

/// The USE dependencies of a text between the brackets; those that are invalid are left out.
pub(super) fn use_deps(text: &str) -> impl Iterator<Item = UseDep<'_>> {
    text.split(',').filter_map(UseDep::parse)
}

/// The USE dependencies of a text between the brackets, decided for a package that has these flags on: `flag?` stays
/// where it is on, `!flag?` becomes `-flag` where it is off, `flag=` and `!flag=` become what they come to. None where
/// none of them depends on USE.
pub(super) fn decide(text: &str, flags: &HashSet<&str>) -> Option<Vec<String>> {
    let mut decided = Vec::new();
    let mut depends = false;
    for part in text.split(',') {
        let dep = UseDep::parse(part)?;
        let default = match dep.default {
            Some(UseDefault::Enabled) => "(+)",
            Some(UseDefault::Disabled) => "(-)",
            None => "",
        };
        let (flag, is_on) = (dep.flag, flags.contains(dep.flag));
        let wanted = match (dep.state, part.starts_with('!'), part.ends_with('?')) {
            (UseState::Enabled | UseState::Disabled, _, _) => {
                decided.push(part.to_owned());
                continue;
            }
            (UseState::Conditional, false, true) => is_on.then_some(true),
            (UseState::Conditional, true, true) => (!is_on).then_some(false),
            (UseState::Conditional, is_negated, false) => Some(is_on != is_negated),
        };
        depends = true;
        decided.extend(wanted.map(|wanted| format!("{}{flag}{default}", if wanted { "" } else { "-" })));
    }
    depends.then_some(decided)
}

/// Whether the text between the brackets is valid, and whether it has defaults. A flag that is named
/// more than once must have the same default each time.
pub(super) fn check(text: &str) -> Option<Defaults> {
    let mut seen: HashMap<&str, Option<UseDefault>> = HashMap::new();
    let mut defaults = Defaults::Absent;
    for part in text.split(',') {
        let dep = UseDep::parse(part)?;
        if *seen.entry(dep.flag).or_insert(dep.default) != dep.default {
            return None;
        }
        if dep.default.is_some() {
            defaults = Defaults::Present;
        }
    }
    Some(defaults)
}

/// Whether there are defaults, which EAPI 2 and 3 do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defaults {
    Present,
    Absent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form() {
        let read = |text| UseDep::parse(text).map(|dep| (dep.flag, dep.state, dep.default));
        assert_eq!(read("a"), Some(("a", UseState::Enabled, None)));
        assert_eq!(read("-a(-)"), Some(("a", UseState::Disabled, Some(UseDefault::Disabled))));
        assert_eq!(read("!a(+)="), Some(("a", UseState::Conditional, Some(UseDefault::Enabled))));
        assert_eq!(read("l10n_sr@latin?"), Some(("l10n_sr@latin", UseState::Conditional, None)));
        for bad in ["", "!a", "-a?", "-a=", "--a", "a??", "a(+", "a(+)(-)", "_a", "a b", "\u{e4}", "?", "!="] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn defaults_must_agree() {
        assert_eq!(check("a,-a,a?"), Some(Defaults::Absent));
        assert_eq!(check("a(+),-a(+)"), Some(Defaults::Present));
        assert_eq!(check("a(+),a"), None);
        assert_eq!(check("a(-),b,a(+)"), None);
        assert_eq!(check("a,"), None);
    }
}
