//! Thousands of mutated containers: nothing panics, and Portage accepts whatever we do.

use std::cell::{Cell, RefCell};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::build::{GNU, Part, examine, honest, record, sealed, tar};
use crate::cases;
use crate::oracle::{Oracle, read_request};

const CASES: u32 = 4000;

fn seeds() -> Vec<Vec<u8>> {
    let gnu = sealed(honest()).into_iter().map(|part| Part { magic: GNU, ..part }).collect::<Vec<_>>();
    let mut long = gnu.clone();
    long.insert(2, Part { magic: GNU, ..Part::of_kind(b'L', "././@LongLink", "foo-1/image.tar\0") });
    let mut pax = sealed(honest());
    let records = [record("path", "foo-1/image.tar"), record("size", "10240"), record("mtime", "1.5")].concat();
    pax.insert(2, Part::of_kind(b'x', "x", records));
    let mut unmarked = tar(&sealed(honest()));
    unmarked.truncate(27 * 1024);
    vec![tar(&sealed(honest())), tar(&gnu), tar(&long), tar(&pax), unmarked]
}

/// The places where a header may start: all blocks that look like one.
fn headers(bytes: &[u8]) -> Vec<usize> {
    let starts = (0..bytes.len() / 512).map(|block| block * 512);
    starts.filter(|at| bytes[at + 257..].starts_with(b"ustar")).collect()
}

/// One change to the bytes of a container.
#[derive(Debug, Clone)]
enum Edit {
    /// Within a header, from this place in it on, with a sum that fits.
    Header(Index, usize, Vec<u8>),
    Byte(Index, u8),
    /// A block is put in once more somewhere else, or takes the place of another.
    Block(Index, Index, usize),
    Truncate(Index),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    const BYTES: &[u8] = &[0, 1, b' ', b'-', b'.', b'/', b'0', b'1', b'7', b'9', b'L', b'x', b'g', 0x7f, 0x80, 0xff];
    const PLACES: &[usize] = &[0, 5, 6, 99, 100, 124, 126, 133, 134, 136, 156, 157, 257, 263, 345, 346, 483];
    let byte = || select(BYTES);
    let edit = prop_oneof![
        7 => (any::<Index>(), select(PLACES), vec(byte(), 1..=3)).prop_map(|(at, place, bytes)| Edit::Header(at, place, bytes)),
        1 => (any::<Index>(), byte()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
        1 => (any::<Index>(), any::<Index>(), 0..2_usize).prop_map(|(from, to, over)| Edit::Block(from, to, over)),
        1 => any::<Index>().prop_map(Edit::Truncate),
    ];
    vec(edit, 1..=3)
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Edit::Header(at, place, new) => {
                let headers = headers(bytes);
                if headers.is_empty() {
                    return;
                }
                let at = *at.get(&headers);
                bytes[at + place..at + place + new.len()].copy_from_slice(new);
                bytes[at + 148..at + 156].fill(b' ');
                let sum: u32 = bytes[at..at + 512].iter().map(|byte| u32::from(*byte)).sum();
                bytes[at + 148..at + 155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            }
            Edit::Byte(at, byte) => *at.get_mut(bytes) = *byte,
            Edit::Block(from, to, over) => {
                let (from, to) = (from.index(bytes.len() / 512) * 512, to.index(bytes.len() / 512) * 512);
                let block = bytes[from..from + 512].to_vec();
                bytes.splice(to..to + 512 * over, block);
            }
            Edit::Truncate(at) => bytes.truncate(512 + at.index(bytes.len() - 512)),
        }
    }
}

#[test]
fn mutated_containers_never_panic_and_portage_accepts_what_we_accept() {
    let seeds = seeds();
    let portage = RefCell::new(Oracle::start());
    let (accepted, stricter) = (Cell::new(0), Cell::new(0));
    // where we refuse, a sample tells how often Portage does not
    let asks_if_refused = proptest::bool::weighted(0.125);
    cases::check(CASES, (0..seeds.len(), edits(), asks_if_refused), |(seed, edits, asks_if_refused)| {
        let mut bytes = seeds[seed].clone();
        for edit in &edits {
            if bytes.len() >= 1024 {
                edit.apply(&mut bytes);
            }
        }
        let seen = examine(&bytes);
        accepted.set(accepted.get() + u32::from(seen.is_ok()));
        let mut portage = portage.borrow_mut();
        let Some(portage) = portage.as_mut() else { return Ok(()) };
        // (Python's tarfile goes in circles at a size below zero)
        if seen.as_ref().is_err_and(|error| !asks_if_refused || error.to_string().contains("negative")) {
            return Ok(());
        }
        match (seen, portage.try_ask(&read_request(&bytes))) {
            (Ok(seen), Ok(answer)) => seen.assert_same(&answer, &format!("{edits:?}")),
            (Ok(_), Err(error)) => prop_assert!(false, "Portage refuses what we accept: {error}"),
            (Err(error), Ok(_)) => {
                stricter.set(stricter.get() + 1);
                println!("only we refuse: {error}: {edits:?}");
            }
            (Err(_), Err(_)) => {}
        }
        Ok(())
    });
    let (accepted, cases) = (accepted.get(), cases::times(CASES));
    println!("{accepted} of {cases} accepted; of those sampled that we refuse, Portage accepts {}", stricter.get());
    // were nothing or everything accepted, nothing would have been tried
    assert!((cases / 20..cases / 2).contains(&accepted), "{accepted}");
}
