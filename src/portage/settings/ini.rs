//! repos.conf's format: sections, `option = value`, values over several lines, `%(option)s` inside values
//! (Python's `configparser.ConfigParser` as Portage uses it).

use std::path::Path;

use super::files::{is_space, strip};

/// How deep values may name each other, as in Python.
const DEPTH: usize = 10;
/// How many sections and options one text may have.
const ENTRY_LIMIT: usize = 10_000;
/// How much `%(option)s` may fill into the values of one section, in bytes; every one counts as a byte at least.
const FILL_LIMIT: usize = 1 << 20;

/// What Portage calls a broken repos.conf; it then does without all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BrokenIni(pub(super) String);

/// The options of one section, in the order they were first set. Names are in lower case.
#[derive(Debug, Clone, Default)]
pub(super) struct Section {
    /// What stands in the brackets.
    pub(super) name: String,
    options: Vec<(String, String)>,
}

impl Section {
    /// The value of an option as it was written.
    pub(super) fn raw(&self, option: &str) -> Option<&str> {
        self.options.iter().find(|(name, _)| name == option).map(|(_, value)| value.as_str())
    }

    pub(super) fn set(&mut self, option: &str, value: String) {
        match self.options.iter_mut().find(|(name, _)| name == option) {
            Some((_, old)) => *old = value,
            None => self.options.push((option.to_owned(), value)),
        }
    }

    fn append(&mut self, option: &str, line: &str) {
        if let Some((_, value)) = self.options.iter_mut().find(|(name, _)| name == option) {
            value.push('\n');
            value.push_str(line);
        }
    }
}

/// A configuration put together from several texts.
#[derive(Debug, Default)]
pub(super) struct Ini {
    /// The options that every section has unless it sets them itself (`[DEFAULT]`).
    pub(super) defaults: Section,
    /// The sections but for `[DEFAULT]`, in the order they first appear.
    pub(super) sections: Vec<Section>,
}

/// Where a line belongs: to `[DEFAULT]`, or to the section of that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IniPlace {
    Defaults,
    Section(usize),
}

impl Ini {
    /// Adds what `text` says; it may go on with sections of earlier texts, but have no section or option twice itself.
    pub(super) fn read(&mut self, path: &Path, text: &str) -> Result<(), BrokenIni> {
        let broken = |line: usize, what: String| BrokenIni(format!("{path:?}, line {line}: {what}"));
        let mut place = None;
        let mut option: Option<String> = None;
        let mut indentation = 0;
        let mut seen: Vec<IniPlace> = Vec::new();
        let mut set: Vec<(IniPlace, String)> = Vec::new();
        for (number, line) in (1..).zip(text.split('\n')) {
            let value = strip(line);
            if value.starts_with(['#', ';']) {
                continue;
            }
            if value.is_empty() {
                // An empty line may belong to a value; trailing ones are cut off below.
                if let (Some(place), Some(option)) = (place, &option) {
                    self.at(place).append(option, "");
                }
                continue;
            }
            let indented = line.chars().take_while(|c| is_space(*c)).count();
            if let (Some(place), Some(option)) = (place, option.as_deref().filter(|_| indented > indentation)) {
                self.at(place).append(option, value);
                continue;
            }
            indentation = indented;
            if seen.len() + set.len() > ENTRY_LIMIT {
                return Err(broken(number, "there are too many options".to_owned()));
            }
            if let Some(name) = header(value) {
                let next = self.place(name);
                if next != IniPlace::Defaults && seen.contains(&next) {
                    return Err(broken(number, format!("the section [{name}] is there twice")));
                }
                seen.push(next);
                place = Some(next);
                option = None;
                continue;
            }
            let Some(place) = place else { return Err(broken(number, "no [section] comes before it".to_owned())) };
            let Some((name, value)) = value.split_once(['=', ':']) else {
                return Err(broken(number, format!("{value:?} has no = or :")));
            };
            let name = lower(strip(name));
            if name.is_empty() {
                return Err(broken(number, "nothing stands before the =".to_owned()));
            }
            let key = (place, name.clone());
            if set.contains(&key) {
                return Err(broken(number, format!("{name} is set twice in one section")));
            }
            set.push(key);
            self.at(place).set(&name, strip(value).to_owned());
            option = Some(name);
        }
        for section in self.sections.iter_mut().chain([&mut self.defaults]) {
            for (_, value) in &mut section.options {
                value.truncate(value.trim_end_matches(is_space).len());
            }
        }
        Ok(())
    }

    /// Every option of a section, those of `[DEFAULT]` included, with `%(option)s` filled in.
    pub(super) fn options(&self, section: &Section) -> Result<Section, BrokenIni> {
        let mut all = Section { name: section.name.clone(), options: Vec::new() };
        let mut left = FILL_LIMIT;
        let inherited = self.defaults.options.iter().filter(|(name, _)| section.raw(name).is_none());
        for (name, value) in section.options.iter().chain(inherited) {
            let mut out = String::new();
            self.interpolate(section, value, &mut out, 1, &mut left)
                .map_err(|what| BrokenIni(format!("[{}] {name} = {value:?}: {what}", section.name)))?;
            all.options.push((name.clone(), out));
        }
        Ok(all)
    }

    fn interpolate(
        &self,
        section: &Section,
        value: &str,
        out: &mut String,
        depth: usize,
        left: &mut usize,
    ) -> Result<(), String> {
        if depth > DEPTH {
            return Err("the values name each other without end".to_owned());
        }
        let mut rest = value;
        while let Some((before, after)) = rest.split_once('%') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                out.push('%');
                rest = after;
                continue;
            }
            let Some((name, after)) = after.strip_prefix('(').and_then(|after| after.split_once(')')) else {
                return Err("a % must be doubled, or begin a %(option)s".to_owned());
            };
            let Some(after) = after.strip_prefix('s').filter(|_| !name.is_empty()) else {
                return Err("a % must be doubled, or begin a %(option)s".to_owned());
            };
            let name = lower(name);
            let Some(value) = section.raw(&name).or_else(|| self.defaults.raw(&name)) else {
                return Err(format!("%({name})s names no option"));
            };
            *left = left.saturating_sub(value.len().max(1));
            if *left == 0 {
                return Err("the value is too long".to_owned());
            }
            self.interpolate(section, value, out, depth + 1, left)?;
            rest = after;
        }
        out.push_str(rest);
        Ok(())
    }

    fn place(&mut self, name: &str) -> IniPlace {
        if name == "DEFAULT" {
            return IniPlace::Defaults;
        }
        let number = self.sections.iter().position(|section| section.name == name).unwrap_or_else(|| {
            self.sections.push(Section { name: name.to_owned(), options: Vec::new() });
            self.sections.len() - 1
        });
        IniPlace::Section(number)
    }

    fn at(&mut self, place: IniPlace) -> &mut Section {
        match place {
            IniPlace::Section(number) if number < self.sections.len() => &mut self.sections[number],
            _ => &mut self.defaults,
        }
    }
}

/// The name in a line that begins with `[` and has a `]`; the last one counts.
fn header(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.rsplit_once(']').map(|(name, _)| name).filter(|name| !name.is_empty())
}

fn lower(name: &str) -> String {
    name.to_lowercase()
}
