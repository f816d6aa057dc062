//! How lines look: Portage's marks and colours, and nothing that moves a terminal's cursor.

use std::borrow::Cow;

/// Whether output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// With Portage's colours.
    Coloured,
    /// Without.
    Plain,
}

/// Whether each stream is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Styles {
    /// Standard output.
    pub out: Style,
    /// Standard error.
    pub err: Style,
}

/// What there is to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Texts {
    /// On standard output.
    pub out: String,
    /// On standard error: what went wrong.
    pub err: String,
}

impl Texts {
    /// On standard output alone.
    #[must_use]
    pub(crate) fn of(out: String) -> Texts {
        Texts { out, err: String::new() }
    }
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Detail {
    /// Only what went wrong.
    Quiet,
    /// A summary, and what needs somebody's attention.
    Normal,
    /// A line for each package.
    Verbose,
}

/// The importance of a line, shown by the colour of its mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// As Portage's `einfo`.
    Info,
    /// As Portage's `ewarn`.
    Warning,
    /// As Portage's `eerror`.
    Error,
}

/// Portage's mark before a line (`EOutput.einfo` and the like).
#[must_use]
pub(crate) fn mark(level: Level, style: Style) -> String {
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

/// The name of a package as emerge shows binary ones (`PKG_BINARY_MERGE`).
#[must_use]
pub(crate) fn package_name(name: &str, style: Style) -> String {
    match style {
        Style::Coloured => format!("\u{1b}[35m{}\u{1b}[39;49;00m", printable(name)),
        Style::Plain => printable(name).into_owned(),
    }
}

/// Text that a terminal shows as it stands: control characters, which a file name or an index may have in it, are
/// written out.
#[must_use]
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match is_control(character) {
            true => shown.extend(character.escape_unicode()),
            false => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

/// What moves the cursor, or the direction of writing, instead of being seen.
fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
