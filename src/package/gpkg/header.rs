//! Tar headers, made as Python's tarfile makes them. The `tar` crate makes the numbers in them.

use super::archive::{Attributes, BLOCK, Format};

/// Python's tarfile fills an archive up to a multiple of this.
const RECORD: u64 = 20 * BLOCK;

/// The length of an archive whose last payload ends at `end`: a whole block, two blocks of zeros, then filled up to
/// whole records.
pub(super) fn archive_length(end: u64) -> u64 {
    (end.next_multiple_of(BLOCK) + 2 * BLOCK).next_multiple_of(RECORD)
}

/// Whether ustar can hold `name`: up to 100 bytes, or split at a slash into at most 155 and 100.
pub(super) fn fits_ustar(name: &str) -> bool {
    name.len() <= 100 || split(name).is_some()
}

fn split(name: &str) -> Option<(&str, &str)> {
    name.match_indices('/')
        .map(|(at, _)| (name.get(..at).unwrap_or_default(), name.get(at + 1..).unwrap_or_default()))
        .find(|(prefix, rest)| prefix.len() <= 155 && rest.len() <= 100)
}

/// The header blocks for a regular file, as Python's tarfile makes them; [`Format::Pax`] becomes ustar.
///
/// In ustar a name must fit ([`fits_ustar`]) and the size be below 8 GiB.
pub(super) fn header(format: Format, name: &str, size: u64, attributes: &Attributes) -> Vec<u8> {
    let mut blocks = Vec::new();
    let gnu = format == Format::Gnu;
    if gnu && name.len() > 100 {
        let long = u64::try_from(name.len() + 1).unwrap_or_default();
        let nobody = Attributes { mode: 0, ..Attributes::new(0) };
        blocks.extend_from_slice(&block(Format::Gnu, b'L', (b"", b"././@LongLink"), long, &nobody));
        blocks.extend_from_slice(name.as_bytes());
        blocks.push(0);
        pad(&mut blocks);
    }
    let (prefix, rest) = match split(name) {
        Some(parts) if !gnu && name.len() > 100 => parts,
        _ => ("", name),
    };
    blocks.extend_from_slice(&block(format, b'0', (prefix.as_bytes(), rest.as_bytes()), size, attributes));
    blocks
}

fn block(format: Format, kind: u8, (prefix, name): (&[u8], &[u8]), size: u64, attributes: &Attributes) -> [u8; 512] {
    let mut header = if format == Format::Gnu { tar::Header::new_gnu() } else { tar::Header::new_ustar() };
    header.set_mode(attributes.mode & 0o7777);
    header.set_uid(attributes.uid);
    header.set_gid(attributes.gid);
    header.set_size(size);
    header.set_mtime(attributes.mtime);
    header.set_entry_type(tar::EntryType::new(kind));
    let mut block = *header.as_bytes();
    put(&mut block[..100], name);
    put(&mut block[265..297], &attributes.uname);
    put(&mut block[297..329], &attributes.gname);
    if format != Format::Gnu {
        put(&mut block[345..500], prefix);
    }
    // device numbers are empty, as Python's tarfile leaves them
    block[329..345].fill(0);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut block[148..155], format!("{sum:06o}\0").as_bytes());
    block
}

fn put(field: &mut [u8], value: &[u8]) {
    field.iter_mut().zip(value).for_each(|(place, byte)| *place = *byte);
}

/// Fills `bytes` with zeros up to a whole block.
pub(super) fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(512), 0);
}
