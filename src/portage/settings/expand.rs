//! Variables inside values: `$NAME` and `${NAME}`.

use super::SettingsError;

/// No value may grow larger than this, in bytes; `A="$A$A"` doubles with every line.
pub(super) const VALUE_LIMIT: usize = 1 << 20;

/// What became of a text.
pub(super) enum Expanded {
    /// Its value.
    Value(String),
    /// It cannot be understood; Portage says so and takes the whole value as empty.
    Bad(&'static str),
    /// It grew beyond [`VALUE_LIMIT`].
    TooLong,
}

/// Where the value of a variable comes from.
pub(super) type Lookup<'a> = dyn FnMut(&str) -> Result<Option<String>, SettingsError> + 'a;

/// Expands the variables of `text` as Portage does (`portage.util.varexpand`): nothing between two apostrophes, unless
/// these stand inside double quotes; quotes themselves stay; newlines become spaces; of the backslashes only those
/// before `$`, `\` and a newline go. Names that are not set become nothing.
pub(super) fn expand(text: &str, lookup: &mut Lookup) -> Result<Expanded, SettingsError> {
    const UNCLOSED: &str = "a ${ without its }";
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut single = false;
    let mut double = false;
    while let Some(current) = chars.next() {
        if out.len() > VALUE_LIMIT {
            return Ok(Expanded::TooLong);
        }
        match current {
            '\'' => {
                single ^= !double;
                out.push(current);
            }
            '"' => {
                double ^= !single;
                out.push(current);
            }
            _ if single => out.push(current),
            '\n' => out.push(' '),
            '\\' => match chars.next() {
                None => out.push('\\'),
                Some('$') => out.push('$'),
                Some('\\') => {
                    out.push('\\');
                    // Portage takes what follows a doubled backslash as it stands.
                    if let Some(next) = chars.next_if(|next| matches!(next, '\'' | '"' | '$')) {
                        out.push(next);
                    }
                }
                Some('\n') => {}
                Some(other) => out.extend(['\\', other]),
            },
            '$' => {
                let braced = match chars.peek() {
                    None => {
                        out.push('$');
                        continue;
                    }
                    Some('{') => {
                        chars.next();
                        true
                    }
                    Some(_) => false,
                };
                let mut name = String::new();
                while let Some(next) = chars.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
                    name.push(next);
                }
                if braced && chars.next() != Some('}') {
                    return Ok(Expanded::Bad(UNCLOSED));
                }
                if name.is_empty() {
                    return Ok(Expanded::Bad("a $ without a variable's name"));
                }
                if let Some(value) = lookup(&name)? {
                    out.push_str(&value);
                }
            }
            _ => out.push(current),
        }
    }
    Ok(if out.len() > VALUE_LIMIT { Expanded::TooLong } else { Expanded::Value(out) })
}
