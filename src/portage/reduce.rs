//! Dependency strings reduced by USE, as the package index has them: of `foo? ( a )` there is `a`, or nothing; `|| ( a )`
//! is `a`; brackets that mean nothing go; USE dependencies that depend on USE are decided
//! (`binarytree._eval_use_flags`, which is `portage.dep.use_reduce` without an EAPI, and `paren_enclose`).
//!
//! What comes out is compared word by word with what Portage wrote before, so Portage's choices among strings that mean
//! the same are followed, and `tests/reduce.rs` compares them.

use std::collections::HashSet;

use super::atom::{Atom, Eapi};

/// The keys of the index that are reduced by USE (`_pkgindex_use_evaluated_keys`).
pub const REDUCED_KEYS: [&str; 8] =
    ["BDEPEND", "DEPEND", "IDEPEND", "LICENSE", "PDEPEND", "PROPERTIES", "RDEPEND", "RESTRICT"];

/// What stands for a choice among nothing (EAPI 7 and later).
const EMPTY_CHOICE: &str = "__const__/empty-any-of";

/// Why a string cannot be reduced: it is no dependency string (PMS 8.2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} {why}")]
pub struct BadDependencies {
    /// The word where it shows.
    word: String,
    /// What is wrong.
    why: &'static str,
}

/// What the words of a string are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// Package atoms.
    Atoms,
    /// Names: of licences, or of what is restricted.
    Names,
}

impl Words {
    /// Those of a key of the index.
    #[must_use]
    pub fn of_key(key: &str) -> Words {
        if key.ends_with("DEPEND") { Words::Atoms } else { Words::Names }
    }
}

/// Reduces a dependency string by the USE flags that are on.
///
/// # Errors
/// It is none.
pub fn reduce(text: &str, words: Words, flags: &HashSet<&str>) -> Result<String, BadDependencies> {
    let mut groups = Groups { open: vec![Vec::new()], words, flags };
    let bad = |word: &str, why| BadDependencies { word: word.to_owned(), why };
    let mut before = "";
    for word in text.split_whitespace() {
        let wants_group = before == "||" || before.ends_with('?');
        match word {
            "(" => groups.open.push(Vec::new()),
            _ if wants_group => return Err(bad(word, "stands where a bracket must open")),
            ")" if before == "(" => return Err(bad(word, "closes a bracket with nothing in it")),
            ")" => groups.close().map_err(|why| bad(word, why))?,
            "||" => groups.add(Item::Choice),
            _ => groups.word(word).map_err(|why| bad(word, why))?,
        }
        before = word;
    }
    if before == "||" || before.ends_with('?') {
        return Err(bad(before, "is followed by no bracket"));
    }
    let mut open = groups.open.into_iter();
    match (open.next(), open.next()) {
        (Some(all), None) => Ok(render(&all)),
        _ => Err(bad("(", "is never closed")),
    }
}

/// A part of a dependency string.
#[derive(Debug, Clone)]
enum Item {
    /// An atom or a name.
    Word(String),
    /// `||`; the next item is what it chooses from.
    Choice,
    /// `flag?` or `!flag?`, whose bracket is still open.
    Condition(String),
    /// What stands in brackets.
    Group(Vec<Item>),
}

/// The brackets that are open, the outermost first.
struct Groups<'u> {
    open: Vec<Vec<Item>>,
    words: Words,
    flags: &'u HashSet<&'u str>,
}

impl Groups<'_> {
    fn add(&mut self, item: Item) {
        if let Some(group) = self.open.last_mut() {
            group.push(item);
        }
    }

    fn word(&mut self, word: &str) -> Result<(), &'static str> {
        if word.ends_with('?') {
            self.add(Item::Condition(word.to_owned()));
            return Ok(());
        }
        let word = match self.words {
            Words::Names => word.to_owned(),
            Words::Atoms => {
                let atom = Atom::parse(word, Eapi::UNSPECIFIED).map_err(|_| "is no package atom")?;
                atom.decided(self.flags).unwrap_or_else(|| word.to_owned())
            }
        };
        self.add(Item::Word(word));
        Ok(())
    }

    /// Closes the innermost bracket: what is in it goes to the one around it, with as few brackets as mean the same.
    fn close(&mut self) -> Result<(), &'static str> {
        let mut inner = self.open.pop().unwrap_or_default();
        let Some((around, outer)) = self.open.split_last_mut() else { return Err("closes no bracket") };
        let is_one = inner.len() == 1 || matches!(inner.as_slice(), [Item::Choice, _]);
        match around.last() {
            Some(Item::Choice) if inner.is_empty() => {
                around.pop();
                inner.push(Item::Word(EMPTY_CHOICE.to_owned()));
            }
            Some(Item::Condition(condition)) => {
                let holds = holds(condition, self.flags)?;
                around.pop();
                if !holds {
                    return Ok(());
                }
            }
            _ => {}
        }
        if inner.is_empty() {
            return Ok(());
        }
        let is_choice = ends_in_choice(around);
        let in_choice = outer.last().is_some_and(|group| ends_in_choice(group));
        match (is_choice, in_choice) {
            // no choice near: brackets mean nothing
            (false, false) => around.extend(inner),
            // a choice of one thing is no choice
            (true, _) if is_one => {
                around.pop();
                self.put(inner, is_one);
            }
            // a choice within a choice is one choice
            (true, true) => {
                around.pop();
                around.extend(inner);
            }
            _ => self.put(inner, is_one),
        }
        Ok(())
    }

    /// Puts what was in a bracket into the group around it, in brackets of its own where it needs them.
    fn put(&mut self, mut inner: Vec<Item>, is_one: bool) {
        let Some((around, outer)) = self.open.split_last_mut() else { return };
        let in_choice = outer.last().is_some_and(|group| ends_in_choice(group));
        if !is_one {
            around.push(Item::Group(inner));
            return;
        }
        match (inner.first(), inner.len()) {
            (Some(Item::Choice), _) if in_choice => match inner.pop() {
                Some(Item::Group(choices)) => around.extend(choices),
                other => around.extend(other),
            },
            (Some(Item::Group(_)), 1) if !is_within_choice(outer, self.words) => match inner.pop() {
                Some(Item::Group(items)) => around.extend(items),
                other => around.extend(other),
            },
            _ => around.extend(inner),
        }
    }
}

fn ends_in_choice(group: &[Item]) -> bool {
    matches!(group.last(), Some(Item::Choice))
}

/// Whether what is around comes to a choice, past groups that have nothing before it, or only a condition. Portage
/// passes over atoms as well, which are no strings to it.
fn is_within_choice(outer: &[Vec<Item>], words: Words) -> bool {
    for group in outer.iter().rev() {
        match group.last() {
            Some(Item::Choice) => return true,
            Some(Item::Word(_)) if words == Words::Names => return false,
            _ => {}
        }
    }
    false
}

/// Whether `flag?` or `!flag?` holds.
fn holds(condition: &str, flags: &HashSet<&str>) -> Result<bool, &'static str> {
    let flag = condition.strip_suffix('?').unwrap_or(condition);
    let (flag, wanted) = flag.strip_prefix('!').map_or((flag, true), |flag| (flag, false));
    if !super::atom::is_use_flag(flag) {
        return Err("ends what depends on something that is no USE flag");
    }
    Ok(flags.contains(flag) == wanted)
}

fn render(items: &[Item]) -> String {
    let words: Vec<String> = items
        .iter()
        .map(|item| match item {
            Item::Word(word) | Item::Condition(word) => word.clone(),
            Item::Choice => "||".to_owned(),
            Item::Group(items) => format!("( {} )", render(items)),
        })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_and_brackets_go() {
        let flags = HashSet::from(["on"]);
        for (text, reduced) in [
            ("on? ( a/b ) !on? ( a/c ) off? ( a/d ) !off? ( a/e )", "a/b a/e"),
            ("( ( a/b ) ( a/c a/d ) )", "a/b a/c a/d"),
            ("|| ( a/b )", "a/b"),
            ("|| ( a/b off? ( a/c ) )", "a/b"),
            ("|| ( ( a/b a/c ) a/d )", "|| ( ( a/b a/c ) a/d )"),
            ("|| ( a/b || ( a/c a/d ) )", "|| ( a/b a/c a/d )"),
            ("|| ( off? ( a/b ) )", "__const__/empty-any-of"),
            ("a/b[on?,off?,!off?] a/c:0=[on=,off=,!on=] a/d[off?]", "a/b[on,-off] a/c:0=[on,-off,-on] a/d"),
        ] {
            assert_eq!(reduce(text, Words::Atoms, &flags).as_deref(), Ok(reduced), "{text}");
        }
        assert_eq!(reduce("|| ( A B on? ( C ) )", Words::Names, &flags).as_deref(), Ok("|| ( A B C )"));
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in
            ["(", ")", "( )", "||", "|| a/b", "on?", "on? a/b", "a/b )", "|| ( ( a/b )", "a", "( a/b) ", "_? ( a/b )"]
        {
            assert!(reduce(text, Words::Atoms, &HashSet::new()).is_err(), "{text}");
        }
    }
}
