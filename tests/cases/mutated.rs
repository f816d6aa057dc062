//! Bytes with a few changes, such as a careless editor, a bad disk or somebody hostile makes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// One change to some bytes.
#[derive(Debug, Clone)]
enum Edit {
    Replace(Index, u8),
    Remove(Index),
    Insert(Index, &'static [u8]),
    Truncate(Index),
    /// So many of the bytes from one place are put in at another.
    Repeat(Index, usize, Index),
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let ends = bytes.len() + 1;
        let place = |at: &Index| at.index(ends);
        match self {
            Edit::Replace(at, byte) => {
                if let Some(old) = bytes.get_mut(place(at)) {
                    *old = *byte;
                }
            }
            Edit::Remove(at) => {
                let at = place(at);
                bytes.drain(at..(at + 1).min(bytes.len()));
            }
            Edit::Insert(at, piece) => {
                let at = place(at);
                bytes.splice(at..at, piece.iter().copied());
            }
            Edit::Truncate(at) => bytes.truncate(place(at)),
            Edit::Repeat(from, length, at) => {
                let (from, at) = (place(from), place(at));
                let piece = bytes[from..(from + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

/// Bytes that are shown as text where they do not pass.
#[derive(Clone, PartialEq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// A few changes.
#[derive(Debug, Clone)]
pub(crate) struct Edits(Vec<Edit>);

impl Edits {
    /// The bytes with these changes.
    pub(crate) fn of(&self, seed: &[u8]) -> Bytes {
        let mut bytes = seed.to_vec();
        self.0.iter().for_each(|edit| edit.apply(&mut bytes));
        Bytes(bytes)
    }
}

/// Any few changes.
pub(crate) fn edits() -> impl Strategy<Value = Edits> {
    const ODD: &[&[u8]] =
        &[b"\n", b"\n\n", b": ", b"\0", b"\xff\xfe", b"\r\n", b"/", b"..", b"-", b"=", b"99999999999999999999"];
    let edit = prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        any::<Index>().prop_map(Edit::Remove),
        (any::<Index>(), select(ODD)).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        any::<Index>().prop_map(Edit::Truncate),
        (any::<Index>(), 0..40_usize, any::<Index>()).prop_map(|(from, length, at)| Edit::Repeat(from, length, at)),
    ];
    vec(edit, 1..=6).prop_map(Edits)
}
