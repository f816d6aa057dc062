//! What metadata would lose and gain, as a diff.

use super::{Level, Style, mark, printable};
use crate::package::rewrite::Difference;

/// The lines of a diff: the entry, then what goes and what comes.
pub(super) fn lines(metadata: &[Difference], style: Style) -> String {
    let mark = mark(Level::Info, style);
    let mut out = String::new();
    for Difference { key, old, new } in metadata {
        out += &format!("{mark}    {}\n", printable(key));
        for (sign, colour, parts) in [("-", "31", old), ("+", "32", new)] {
            for part in parts {
                let part = printable(part);
                out += &match style {
                    Style::Coloured => format!("{mark}      \u{1b}[{colour}m{sign} {part}\u{1b}[39;49;00m\n"),
                    Style::Plain => format!("{mark}      {sign} {part}\n"),
                };
            }
        }
    }
    out
}
