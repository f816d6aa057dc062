//! What keys are called: fingerprints and key ids, as types, made once, where the text is read. They are compared whole.

use std::fmt;

/// A key's fingerprint in capitals: 40 (version 4) or 64 (version 5 and 6) hexadecimal digits (RFC 9580, 5.5.4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Takes all the digits of one, in either case, with or without `0x` before them; none where it is something else.
    #[must_use]
    pub fn new(text: &str) -> Option<Fingerprint> {
        hex(text).filter(|digits| matches!(digits.len(), 40 | 64)).map(Fingerprint)
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A long key id in capitals: 16 hexadecimal digits. It is the end of a version 4 fingerprint and the beginning of a later
/// one, and is not worked out here: gpg, or the signature, says it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// Takes its digits, in either case, with or without `0x` before them; none where it is something else.
    #[must_use]
    pub fn new(text: &str) -> Option<KeyId> {
        hex(text).filter(|digits| digits.len() == 16).map(KeyId)
    }

    /// Whether `text`, with or without `0x` before it, is the short form that gpg takes as well: the last 8 digits.
    #[must_use]
    pub fn is_shortened_to(&self, text: &str) -> bool {
        hex(text).is_some_and(|digits| digits.len() == 8 && self.0.ends_with(&digits))
    }
}

/// The way a signature names the key that made it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyHandle {
    /// By its fingerprint.
    Fingerprint(Fingerprint),
    /// By its key id, where no more is known.
    KeyId(KeyId),
}

impl KeyHandle {
    /// Takes a fingerprint or a long key id; none where it is something else.
    #[must_use]
    pub fn new(text: &str) -> Option<KeyHandle> {
        Fingerprint::new(text).map(KeyHandle::Fingerprint).or_else(|| KeyId::new(text).map(KeyHandle::KeyId))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            KeyHandle::Fingerprint(Fingerprint(digits)) | KeyHandle::KeyId(KeyId(digits)) => digits,
        }
    }
}

impl fmt::Display for KeyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for KeyHandle {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Hexadecimal digits in capitals, without the `0x` that may stand before them.
fn hex(text: &str) -> Option<String> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| digits.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_whole() {
        let (four, six) = ("a0e82346bdc178e4ec8bb594bc6b7a03f2e92bdb", "0123456789abcdef".repeat(4));
        for whole in [four, &six] {
            let made = Fingerprint::new(&format!("0x{whole}")).unwrap();
            assert_eq!(made.as_str(), whole.to_uppercase());
            assert_eq!(KeyHandle::new(whole), Some(KeyHandle::Fingerprint(made)));
        }
        let id = KeyId::new("bc6b7a03f2e92bdb").unwrap();
        assert_eq!(KeyHandle::new("0XBC6B7A03F2E92BDB"), Some(KeyHandle::KeyId(id.clone())));
        assert!(id.is_shortened_to("0xf2e92bdb") && !id.is_shortened_to("bc6b7a03") && !id.is_shortened_to(""));
        for text in
            ["", "0x", &four[1..], &four[20..], &six[1..], "f2e92bdb", "a0 e8", &format!("{four}!"), &"g".repeat(40)]
        {
            assert_eq!(KeyHandle::new(text), None, "{text}");
        }
    }
}
