//! What the card in the reader is and says, through the agent; no PIN is needed, and none is tried.

use std::path::Path;

use super::agent;

/// The card that is in the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its serial number.
    pub serial: String,
    /// Whether each signature asks for the PIN anew.
    pub asks_each_time: bool,
    /// How many wrong PINs it still takes; none where it does not say.
    pub tries_left: Option<u32>,
}

/// How many wrong PINs a card takes that has seen none.
pub const ALL_TRIES: u32 = 3;

impl Card {
    /// Asks the agent of this home; none where no OpenPGP card is there, or nobody answers.
    #[must_use]
    pub fn in_reader(home: &Path) -> Option<Card> {
        Card::of_status(&agent::ask(home, &["SCD SERIALNO openpgp", "SCD GETATTR CHV-STATUS"])?)
    }

    /// Reads scdaemon's status lines.
    fn of_status(text: &str) -> Option<Card> {
        let line = |keyword: &str| {
            text.lines().find_map(|line| line.strip_prefix("S ")?.strip_prefix(keyword)?.strip_prefix(' '))
        };
        let serial = line("SERIALNO")?.split_whitespace().next()?.to_owned();
        // whether one PIN is good for several signatures, three lengths, three counters
        let status = line("CHV-STATUS").unwrap_or_default();
        let numbers: Vec<u32> = status.split(['+', ' ']).filter_map(|word| word.parse().ok()).collect();
        Some(Card { serial, asks_each_time: numbers.first() == Some(&0), tries_left: numbers.get(4).copied() })
    }

    /// The number that is printed on it, with its maker's: as gpg and people write it.
    #[must_use]
    pub fn printed(serial: &str) -> String {
        // D27600012401 VERSION(4) MAKER(4) NUMBER(8) 0000
        match (serial.get(16..20), serial.get(20..28)) {
            (Some(maker), Some(number)) if serial.starts_with("D27600012401") => format!("{maker} {number}"),
            _ => serial.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_read() {
        let text = "S SERIALNO D2760001240103040006123456780000\nOK\nS CHV-STATUS +1+127+127+127+2+0+3\nOK\n";
        let card = Card::of_status(text).unwrap();
        assert_eq!((card.asks_each_time, card.tries_left), (false, Some(2)));
        assert_eq!(Card::printed(&card.serial), "0006 12345678");
        assert_eq!(Card::of_status("ERR 100696144 No such device <SCD>\n"), None);
    }
}
