//! USE dependencies, the part of an atom in brackets (PMS 8.3.4).

use std::collections::HashMap;

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
        let (rest, state) = match text.as_bytes() {
            [b'!', .., b'?' | b'='] => (text.get(1..text.len() - 1)?, UseState::Conditional),
            [.., b'?' | b'='] => (text.get(..text.len() - 1)?, UseState::Conditional),
            [b'-', ..] => (text.get(1..)?, UseState::Disabled),
            _ => (text, UseState::Enabled),
        };
        let (flag, default) = if let Some(flag) = rest.strip_suffix("(+)") {
            (flag, Some(UseDefault::Enabled))
        } else if let Some(flag) = rest.strip_suffix("(-)") {
            (flag, Some(UseDefault::Disabled))
        } else {
            (rest, None)
        };
        is_flag(flag).then_some(UseDep { flag, state, default })
    }
}

/// PMS 3.1.4: `[A-Za-z0-9][A-Za-z0-9+_@-]*`.
fn is_flag(text: &str) -> bool {
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'_' | b'@' | b'-'))
}

/// The USE dependencies of a text between the brackets; those that are invalid are left out.
pub(super) fn use_deps(text: &str) -> impl Iterator<Item = UseDep<'_>> {
    text.split(',').filter_map(UseDep::parse)
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
