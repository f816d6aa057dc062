//! The little of OpenPGP's packets (RFC 9580) that gpg does not tell through gpgme: in whose name a signature was made.

use crate::portage::fingerprint::KeyHandle;

/// The user id that a signature, armored or the end of a clear-signed text, says it was made in the name of ("signer's
/// user id", subpacket 28); none where it names nobody. Clients that do not find it in the certificate do not trust
/// the signature.
///
/// # Errors
/// It is not one signature of version 4, 5 (GnuPG's, of Ed448 keys) or 6, so that nobody can tell.
pub(super) fn signer_of(armored: &[u8]) -> Result<Option<String>, Malformed> {
    const SIGNERS_USER_ID: u8 = 28;
    let bytes = dearmored(armored)?;
    let [hashed, _] = areas(signature_packet(&bytes)?)?;
    let found = subpacket(hashed, SIGNERS_USER_ID)?;
    Ok(found.map(|user_id| String::from_utf8_lossy(user_id).into_owned()))
}

/// The key that a signature, armored or the end of a clear-signed text, says it is by. Nothing is verified; none where it
/// says nothing, or is none.
#[must_use]
pub fn maker_of(armored: &[u8]) -> Option<KeyHandle> {
    const ISSUER: u8 = 16;
    const ISSUER_FINGERPRINT: u8 = 33;
    let bytes = dearmored(armored).ok()?;
    let areas = areas(signature_packet(&bytes).ok()?).ok()?;
    let look = |kind| areas.into_iter().find_map(|area| subpacket(area, kind).ok().flatten());
    // before the fingerprint stands the version of the key
    let id = look(ISSUER_FINGERPRINT).and_then(|body| body.get(1..)).or_else(|| look(ISSUER))?;
    KeyHandle::new(&id.iter().map(|byte| format!("{byte:02X}")).collect::<String>())
}

/// The subpackets of a signature: those that it signs, and those that it does not.
fn areas(body: &[u8]) -> Result<[&[u8]; 2], Malformed> {
    // version, type, two algorithms, then each area after its length
    let (&version, rest) = body.split_first().ok_or(Malformed)?;
    let width = match version {
        4 | 5 => 2,
        6 => 4,
        _ => return Err(Malformed),
    };
    let mut rest = rest.get(3..).ok_or(Malformed)?;
    let mut found: [&[u8]; 2] = [&[], &[]];
    for area in &mut found {
        let (length, after) = rest.split_at_checked(width).ok_or(Malformed)?;
        let length = length.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        (*area, rest) = after.split_at_checked(length).ok_or(Malformed)?;
    }
    Ok(found)
}

/// The body of the first subpacket of this kind.
fn subpacket(area: &[u8], wanted: u8) -> Result<Option<&[u8]>, Malformed> {
    const CRITICAL: u8 = 0x80;
    let mut rest = area;
    while !rest.is_empty() {
        let (length, after) = length_of(rest)?;
        let (subpacket, next) = after.split_at_checked(length).ok_or(Malformed)?;
        if let Some((kind, body)) = subpacket.split_first()
            && kind & !CRITICAL == wanted
        {
            return Ok(Some(body));
        }
        rest = next;
    }
    Ok(None)
}

/// Not what OpenPGP says it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// The bytes of the last armored signature in a text.
pub(super) fn dearmored(armored: &[u8]) -> Result<Vec<u8>, Malformed> {
    const BEGIN: &str = "-----BEGIN PGP SIGNATURE-----";
    let text = String::from_utf8_lossy(armored);
    let (_, block) = text.rsplit_once(BEGIN).ok_or(Malformed)?;
    let mut lines = block.lines().skip(1).map(str::trim_end);
    // headers up to an empty line
    let _ = lines.by_ref().find(|line| line.is_empty()).ok_or(Malformed)?;
    let body = lines.take_while(|line| !line.starts_with("-----END") && !line.starts_with('='));
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for letter in body.flat_map(str::bytes).take_while(|letter| *letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(Malformed),
        };
        bits = (bits << 6 | u32::from(value)) & 0xFFFF;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xFF).map_err(|_| Malformed)?);
        }
    }
    Ok(bytes)
}

/// The body of the one packet, which is a signature.
pub(super) fn signature_packet(bytes: &[u8]) -> Result<&[u8], Malformed> {
    const SIGNATURE: u8 = 2;
    let (&tag, rest) = bytes.split_first().ok_or(Malformed)?;
    let (kind, (length, rest)) = match tag {
        0xC0.. => (tag & 0x3F, length_of(rest)?),
        // the old format: the kind of length in the last two bits
        0x80..0xC0 => {
            let (length, rest) = rest.split_at_checked(1 << (tag & 3)).ok_or(Malformed)?;
            let length = length.iter().try_fold(0_usize, |sum, byte| Some(sum.checked_mul(256)? + usize::from(*byte)));
            ((tag >> 2) & 0xF, (length.filter(|_| tag & 3 != 3).ok_or(Malformed)?, rest))
        }
        _ => return Err(Malformed),
    };
    (kind == SIGNATURE && rest.len() == length).then_some(rest).ok_or(Malformed)
}

/// A length of the new format, which subpackets have, too, and what follows it.
fn length_of(bytes: &[u8]) -> Result<(usize, &[u8]), Malformed> {
    match bytes {
        [first @ ..192, rest @ ..] => Ok((usize::from(*first), rest)),
        [first @ 192..224, second, rest @ ..] => {
            Ok(((usize::from(*first) - 192) * 256 + usize::from(*second) + 192, rest))
        }
        [255, a, b, c, d, rest @ ..] => {
            Ok((usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).map_err(|_| Malformed)?, rest))
        }
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As GnuPG 2.4.7 makes it with an Ed448 key.
    const VERSION_5: &str = "-----BEGIN PGP SIGNATURE-----

iKkFABYKACkiIQV35jTPti6CD1qPI9TpTyzWt/2B4SIJtZ1P4CTNbN0AZgUCawvd
3gAARKcBxihl86AWCJgbX7hRtEcUNSE1ov+SISKDvRYB6ZmW7suaE9777D6ZbEpv
MxtEL3hmX5Ab5uD/XSrrgAHHdVao0dJH4usPu3TaKQK8mODwbxmoL5hGTYrVxghx
h/0pHtOdaRFaH560PyHUtCLL2BUoIlZ/YDYA
=wM9/
-----END PGP SIGNATURE-----
";

    #[test]
    fn signatures_of_version_5_are_read() {
        assert_eq!(signer_of(VERSION_5.as_bytes()), Ok(None));
        let key = "77E634CFB62E820F5A8F23D4E94F2CD6B7FD81E12209B59D4FE024CD6CDD0066";
        assert_eq!(maker_of(VERSION_5.as_bytes()), KeyHandle::new(key));
    }

    #[test]
    fn what_is_no_signature_is_said_to_be_none() {
        for text in [
            "",
            "-----BEGIN PGP SIGNATURE-----",
            "-----BEGIN PGP SIGNATURE-----\n\n",
            "-----BEGIN PGP SIGNATURE-----\n\n####",
        ] {
            assert_eq!(signer_of(text.as_bytes()), Err(Malformed), "{text}");
        }
        for bytes in ["wv8=", "iAA=", "iP8E", "wgYEAAAA//8=", "iwQEAAAA", "wv////8="] {
            let text = format!("-----BEGIN PGP SIGNATURE-----\n\n{bytes}\n-----END PGP SIGNATURE-----\n");
            assert_eq!(signer_of(text.as_bytes()), Err(Malformed), "{bytes}");
        }
    }
}
