//! The plain case of a signature: one packet, armored as gpg does it, over a text that needs no interpretation, and gpg
//! says of it that it is good, and nothing else. Whatever differs is none, and gpgme is asked.

use super::packet;
use crate::portage::fingerprint::KeyHandle;

/// What kind of data a signature is over (RFC 9580, section 5.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// These very bytes.
    Binary,
    /// A text, whatever its line ends.
    Text,
}

const BEGIN_TEXT: &str = "-----BEGIN PGP SIGNED MESSAGE-----\n";
const BEGIN: &str = "-----BEGIN PGP SIGNATURE-----\n\n";
const END: &str = "-----END PGP SIGNATURE-----\n";

/// The one packet of an armored signature that is nothing but that.
pub(super) fn signature(armored: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(armored).ok()?;
    let body = text.strip_prefix(BEGIN)?.strip_suffix(END)?;
    // where there is none, and no padding, GnuPG before 2.4.6 takes the last line for data as well
    let (data, checksum) = body.strip_suffix('\n')?.rsplit_once("\n=")?;
    let digits = data.trim_end_matches('=');
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'\n');
    let is_whole = |line: &str| !line.is_empty() && line.len() % 4 == 0 && line.len() <= 76;
    if data.len() - digits.len() > 2 || !digits.bytes().all(is_digit) || !data.split('\n').all(is_whole) {
        return None;
    }
    let packet = packet::dearmored(armored).ok()?;
    packet::signature_packet(&packet).ok()?;
    (checksum == checksum_of(&packet)).then_some(packet)
}

/// A clear-signed text that reads the same to everybody.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClearSigned<'message> {
    /// The text.
    pub(super) text: &'message str,
    /// The digest that its head names.
    pub(super) digest: &'message str,
    /// The signature, armored.
    pub(super) signature: &'message [u8],
}

impl<'message> ClearSigned<'message> {
    /// Takes a message apart (RFC 9580, section 7).
    pub(super) fn of(message: &'message [u8]) -> Option<ClearSigned<'message>> {
        let message = std::str::from_utf8(message).ok()?;
        let (digest, rest) = message.strip_prefix(BEGIN_TEXT)?.strip_prefix("Hash: ")?.split_once("\n\n")?;
        let (text, signature) = rest.split_at(rest.find(BEGIN)?);
        let is_plain = |line: &str| {
            // what begins with a dash is escaped, and blanks at the end of a line are not signed
            !line.starts_with('-') && !line.ends_with(' ') && !line.contains(char::is_control)
        };
        let lines = text.strip_suffix('\n')?;
        let is_text = !lines.is_empty() && lines.split('\n').all(is_plain);
        let is_digest = digest.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (is_text && is_digest).then_some(ClearSigned { text, digest, signature: signature.as_bytes() })
    }

    /// The bytes that the signature is over.
    pub(super) fn signed(&self) -> Vec<u8> {
        // the last line end belongs to what follows
        self.text.strip_suffix('\n').unwrap_or(self.text).replace('\n', "\r\n").into_bytes()
    }
}

/// A signature that gpg calls good.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Good {
    /// The key that made it.
    pub(super) key: KeyHandle,
    /// The digest it is over.
    pub(super) digest: &'static str,
}

impl Good {
    /// Reads gpg's status lines (doc/DETAILS in GnuPG); none where they say anything else besides.
    pub(super) fn of(lines: &[String], class: Class) -> Option<Good> {
        let (mut news, mut good, mut valid) = (0, 0, None);
        for line in lines {
            let (keyword, rest) = line.split_once(' ').unwrap_or((line, ""));
            match keyword {
                "FILE_START" | "SIG_ID" | "FILE_DONE" => {}
                // its flags say what kept it from being used
                "KEY_CONSIDERED" if rest.ends_with(" 0") => {}
                "TRUST_UNDEFINED" | "TRUST_MARGINAL" | "TRUST_FULLY" | "TRUST_ULTIMATE" => {}
                "NEWSIG" => news += 1,
                "GOODSIG" => good += 1,
                "VALIDSIG" if valid.is_none() => valid = Some(rest),
                _ => return None,
            }
        }
        let mut fields = valid.filter(|_| news == 1 && good == 1)?.split(' ');
        let key = KeyHandle::new(fields.next()?)?;
        // its date, twice, when it expires, the version of the packet, what is reserved, and the algorithm of the key
        let [_, _, "0", "4", _, _] = [(); 6].map(|()| fields.next().unwrap_or_default()) else { return None };
        let digest = match fields.next()? {
            "8" => "SHA256",
            "9" => "SHA384",
            "10" => "SHA512",
            _ => return None,
        };
        let wanted = match class {
            Class::Binary => "00",
            Class::Text => "01",
        };
        (fields.next()? == wanted).then_some(Good { key, digest })
    }
}

/// The checksum of an armor (RFC 9580, section 6.1), as it stands there.
fn checksum_of(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let crc = bytes.iter().fold(0xB7_04CE_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 16, |crc, _| {
            let shifted = crc << 1;
            if shifted & 0x100_0000 == 0 { shifted } else { shifted ^ 0x186_4CFB }
        })
    });
    let letter = |shift: u32| LETTERS.get((crc >> shift & 0x3F) as usize).copied().map(char::from);
    [18, 12, 6, 0].into_iter().filter_map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armored(body: &str) -> String {
        format!("{BEGIN}{body}{END}")
    }

    /// A packet of a signature that is none: three bytes, as long as it says.
    const PACKET: &str = "wgMEAAA=\n";

    #[test]
    fn only_one_packet_in_a_clean_armor_is_plain() {
        let checksum = format!("={}\n", checksum_of(&[0xC2, 3, 4, 0, 0]));
        let body = format!("{PACKET}{checksum}");
        assert_eq!(signature(armored(&body).as_bytes()), Some(vec![0xC2, 3, 4, 0, 0]));
        // as RFC 9580 has it for no bytes at all
        assert_eq!(checksum_of(&[]), "twTO");
        let plain = armored(&body);
        for other in [
            armored(PACKET),
            armored(&format!("{PACKET}=AAAA\n")),
            armored(&format!("wgMEAADLAQA=\n={}\n", checksum_of(&[0xC2, 3, 4, 0, 0, 0xCB, 1, 0]))),
            armored(&format!("wgMEAAA==\n{checksum}")),
            armored(&format!("wgMEAA===\n{checksum}")),
            armored(&format!("wgMEAAA=====\n{checksum}")),
            armored(&format!("wgME\nAA==AAA=\n{checksum}")),
            armored(&format!("wgMEAAA\n{checksum}")),
            armored(&format!("wgMEAAA= \n{checksum}")),
            armored(&format!("    \nwgMEAAA=\n{checksum}")),
            armored(&format!("\nwgMEAAA=\n{checksum}")),
            armored(&format!("x----{BEGIN}{body}")),
            armored(&checksum),
            armored(""),
            plain.replace("\n\n", "\nComment: x\n\n"),
            plain.replace('\n', "\r\n"),
            format!("x\n{plain}"),
            format!("{plain}x"),
            plain.repeat(2),
        ] {
            assert_eq!(signature(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn only_a_text_that_everybody_reads_alike_is_plain() {
        let message = |text: &str| format!("{BEGIN_TEXT}Hash: SHA512\n\n{text}{}", armored(PACKET));
        let taken = message("DATA a 1\nDATA ä 2\n");
        let taken = ClearSigned::of(taken.as_bytes()).unwrap();
        assert_eq!((taken.text, taken.digest), ("DATA a 1\nDATA ä 2\n", "SHA512"));
        assert_eq!(taken.signed(), "DATA a 1\r\nDATA ä 2".as_bytes());
        let taken_too = message("a\n\n\n");
        assert_eq!(ClearSigned::of(taken_too.as_bytes()).unwrap().signed(), b"a\r\n\r\n");
        assert_eq!(taken.signature, armored(PACKET).as_bytes());
        for other in [
            message(""),
            message("\n- - a\n"),
            message("-a\n"),
            message("a \n"),
            message("a\t\n"),
            message("a\r\n"),
            message("a\0\n"),
            message("a"),
            message("a\n").replace("Hash: SHA512\n", ""),
            message("a\n").replace("SHA512", "SHA256,SHA512"),
            message("a\n").replace("SHA512\n", "SHA512\nHash: SHA256\n"),
            format!("x\n{}", message("a\n")),
        ] {
            assert_eq!(ClearSigned::of(other.as_bytes()), None, "{other}");
        }
        // what follows belongs to the signature, and makes that none
        let more = message("a\n") + "x\n";
        assert_eq!(signature(ClearSigned::of(more.as_bytes()).unwrap().signature), None);
    }

    #[test]
    fn good_is_only_what_gpg_calls_good_and_nothing_else() {
        let key = "1".repeat(40);
        let lines = |more: &[&str]| -> Vec<String> {
            let valid = format!("VALIDSIG {key} 2026-11-29 1795939798 0 4 0 22 10 00 {key}");
            let usual = ["FILE_START 1 m", "NEWSIG", "KEY_CONSIDERED 1 0", "GOODSIG 1 a", &valid, "FILE_DONE"];
            usual.iter().chain(more).map(ToString::to_string).collect()
        };
        let with = |from: &str, to: &str| lines(&[]).into_iter().map(|line| line.replace(from, to)).collect::<Vec<_>>();
        let good = Good { key: KeyHandle::new(&key).unwrap(), digest: "SHA512" };
        assert_eq!(Good::of(&lines(&["TRUST_UNDEFINED 0 always"]), Class::Binary), Some(good));
        assert_eq!(Good::of(&lines(&[]), Class::Text), None);
        for more in [
            "BADSIG 1 a",
            "EXPKEYSIG 1 a",
            "NEWSIG",
            "GOODSIG 1 a",
            "NOTATION_NAME a@b",
            "ERRSIG",
            "KEY_CONSIDERED 1 2",
        ] {
            assert_eq!(Good::of(&lines(&[more]), Class::Binary), None, "{more}");
        }
        for (from, to) in [
            ("GOODSIG", "EXPSIG"),
            ("VALIDSIG", "SIG_ID"),
            (" 0 4 0 ", " 1795939799 4 0 "),
            (" 0 4 0 ", " 0 3 0 "),
            (" 10 00", " 2 00"),
            (" 10 00", " 10"),
        ] {
            assert_eq!(Good::of(&with(from, to), Class::Binary), None, "{from} → {to}");
        }
    }
}
