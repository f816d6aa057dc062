//! Words of a shell look-alike, as Python's `shlex` module (POSIX mode) takes them apart.
//!
//! Portage's syntax of make.conf is whatever this lexer makes of it, so its oddities are kept: a character that fits
//! nowhere is a word of its own, an unquoted value ends at the first such character, and line numbers count what was
//! read so far.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// Which characters make words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// Those of make.conf (`portage.util.getconfig`): a list of characters; `#` starts a comment.
    MakeConf,
    /// Those of `shlex.split`: words end at white space only, and there are no comments.
    Split,
}

impl Rules {
    fn is_word(self, c: char) -> bool {
        match self {
            Self::MakeConf => c.is_ascii_alphanumeric() || "~!@#$%*_\\:;?,./-+{}".contains(c),
            Self::Split => true,
        }
    }

    fn is_comment(self, c: char) -> bool {
        self == Self::MakeConf && c == '#'
    }
}

/// What the lexer is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LexerState {
    Space,
    Word,
    Quoted(char),
    /// After a backslash, outside of quotes.
    Escaped,
    /// After a backslash inside `"`.
    EscapedInQuotes,
    End,
}

/// One text being read.
#[derive(Debug)]
struct Input {
    path: PathBuf,
    text: std::vec::IntoIter<char>,
    line: usize,
}

impl Input {
    fn new(path: &Path, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.chars().collect::<Vec<_>>().into_iter(), line: 1 }
    }

    fn skip_line(&mut self) {
        self.text.by_ref().take_while(|c| *c != '\n').for_each(drop);
        self.line += 1;
    }
}

/// A quotation or an escape that the text ends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfinished(pub(super) &'static str);

/// Takes texts apart; a text may be put in front of the rest with [`Lexer::push`], as `source` does.
#[derive(Debug)]
pub(super) struct Lexer {
    rules: Rules,
    state: LexerState,
    inputs: Vec<Input>,
    waiting: VecDeque<String>,
}

impl Lexer {
    /// A lexer over the text of the make.conf-like file at `path`.
    pub(super) fn make_conf(path: &Path, text: &str) -> Self {
        Self::new(Rules::MakeConf, path, text)
    }

    fn new(rules: Rules, path: &Path, text: &str) -> Self {
        Self { rules, state: LexerState::Space, inputs: vec![Input::new(path, text)], waiting: VecDeque::new() }
    }

    /// Reads `text` before what is left of the current one.
    pub(super) fn push(&mut self, path: &Path, text: &str) {
        self.inputs.push(Input::new(path, text));
    }

    /// The file and line that reading has come to.
    pub(super) fn position(&self) -> (PathBuf, usize) {
        self.inputs.last().map_or_else(Default::default, |input| (input.path.clone(), input.line))
    }

    /// How many texts are open.
    pub(super) fn depth(&self) -> usize {
        self.inputs.len()
    }

    /// Closes the current text. False if it is the outermost, which stays.
    pub(super) fn pop(&mut self) -> bool {
        if self.inputs.len() < 2 {
            return false;
        }
        self.inputs.pop();
        self.state = LexerState::Space;
        true
    }

    /// A word that was read along with the one before it.
    pub(super) fn waiting(&mut self) -> Option<String> {
        self.waiting.pop_front()
    }

    /// The next word of the current text; `None` at its end. An empty pair of quotes is a word.
    pub(super) fn read_word(&mut self) -> Result<Option<String>, Unfinished> {
        let Some(input) = self.inputs.last_mut() else { return Ok(None) };
        let mut word = String::new();
        let mut quoted = false;
        loop {
            let next = input.text.next();
            if next == Some('\n') {
                input.line += 1;
            }
            let Some(c) = next else {
                match self.state {
                    LexerState::Quoted(_) => return Err(Unfinished("a quotation mark is not closed")),
                    LexerState::Escaped | LexerState::EscapedInQuotes => {
                        return Err(Unfinished("nothing follows a backslash"));
                    }
                    LexerState::Space | LexerState::Word | LexerState::End => {}
                }
                self.state = LexerState::End;
                break;
            };
            match self.state {
                LexerState::End => break,
                LexerState::Space => match c {
                    ' ' | '\t' | '\r' | '\n' => {
                        if !word.is_empty() || quoted {
                            break;
                        }
                    }
                    _ if self.rules.is_comment(c) => input.skip_line(),
                    '\\' => self.state = LexerState::Escaped,
                    '"' | '\'' => self.state = LexerState::Quoted(c),
                    _ if self.rules.is_word(c) => {
                        word = c.to_string();
                        self.state = LexerState::Word;
                    }
                    _ => {
                        word = c.to_string();
                        break;
                    }
                },
                LexerState::Word => match c {
                    ' ' | '\t' | '\r' | '\n' => {
                        self.state = LexerState::Space;
                        if !word.is_empty() || quoted {
                            break;
                        }
                    }
                    _ if self.rules.is_comment(c) => {
                        input.skip_line();
                        self.state = LexerState::Space;
                        if !word.is_empty() || quoted {
                            break;
                        }
                    }
                    '"' | '\'' => self.state = LexerState::Quoted(c),
                    '\\' => self.state = LexerState::Escaped,
                    _ if self.rules.is_word(c) => word.push(c),
                    _ => {
                        self.waiting.push_front(c.to_string());
                        self.state = LexerState::Space;
                        if !word.is_empty() || quoted {
                            break;
                        }
                    }
                },
                LexerState::Quoted(mark) => {
                    quoted = true;
                    match c {
                        _ if c == mark => self.state = LexerState::Word,
                        '\\' if mark == '"' => self.state = LexerState::EscapedInQuotes,
                        _ => word.push(c),
                    }
                }
                LexerState::Escaped => {
                    word.push(c);
                    self.state = LexerState::Word;
                }
                LexerState::EscapedInQuotes => {
                    if c != '\\' && c != '"' {
                        word.push('\\');
                    }
                    word.push(c);
                    self.state = LexerState::Quoted('"');
                }
            }
        }
        Ok(if word.is_empty() && !quoted { None } else { Some(word) })
    }
}

/// The words of a command line or list, as `shlex.split` gives them.
pub(super) fn split(text: &str) -> Result<Vec<String>, Unfinished> {
    let mut lexer = Lexer::new(Rules::Split, Path::new(""), text);
    let mut words = Vec::new();
    while let Some(word) = lexer.read_word()? {
        words.push(word);
    }
    Ok(words)
}
