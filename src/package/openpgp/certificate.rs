//! Certificates, as `gpg --with-colons` lists them (GnuPG's doc/DETAILS).

use std::time::{Duration, SystemTime};

use crate::portage::fingerprint::{Fingerprint, KeyHandle, KeyId};

/// A certificate: a primary key with its subkeys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The primary key's fingerprint.
    pub fingerprint: Fingerprint,
    /// The first user id, as gpg shows it.
    pub user_id: String,
    /// Every user id that is not revoked.
    pub user_ids: Vec<String>,
    /// Whether the certificate is revoked.
    pub revoked: bool,
    /// Whether the keyring trusts one of the user ids fully or ultimately; it only says so where it is asked for trust.
    pub trusted: bool,
    /// The keys: the primary one first, then the subkeys.
    pub keys: Vec<KeyFacts>,
}

/// One key of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// Its key id, as gpg says it.
    pub key_id: KeyId,
    /// What names its secret half to the agent, and as a file in the home.
    pub keygrip: String,
    /// When it expires, if ever.
    pub expires: Option<SystemTime>,
    /// Whether it is revoked.
    pub revoked: bool,
    /// Whether it is able to sign.
    pub signs: bool,
    /// Whether the agent has its secret half (also as a stub for a card).
    pub secret: bool,
    /// The serial number of the card that has the secret half, where it is on one.
    pub card: Option<String>,
}

impl Certificate {
    /// The key of this certificate that a signature names so.
    #[must_use]
    pub fn key(&self, name: &KeyHandle) -> Option<&KeyFacts> {
        self.keys.iter().find(|key| match name {
            KeyHandle::Fingerprint(fingerprint) => key.fingerprint == *fingerprint,
            KeyHandle::KeyId(id) => key.key_id == *id,
        })
    }

    /// The key of this certificate that a setting names: by its fingerprint, or its key id, long or short.
    #[must_use]
    pub fn key_set_as(&self, name: &str) -> Option<&KeyFacts> {
        match KeyHandle::new(name) {
            Some(handle) => self.key(&handle),
            None => self.keys.iter().find(|key| key.key_id.is_shortened_to(name)),
        }
    }

    /// Whether what `key`, one of its keys, has signed is still accepted: neither it nor the primary key has expired or
    /// is revoked.
    #[must_use]
    pub fn is_valid(&self, key: &KeyFacts) -> bool {
        let now = SystemTime::now();
        let lives = |key: &KeyFacts| !key.revoked && key.expires.is_none_or(|time| time > now);
        !self.revoked && lives(key) && self.keys.first().is_none_or(lives)
    }

    /// Takes over what another copy of it knows to be revoked; whether that was anything new.
    pub(super) fn take_revocations_of(&mut self, known: &Certificate) -> bool {
        if known.fingerprint != self.fingerprint {
            return false;
        }
        let mut learned = known.revoked && !self.revoked;
        self.revoked |= known.revoked;
        for key in &mut self.keys {
            let revoked = known.keys.iter().any(|other| other.revoked && other.fingerprint == key.fingerprint);
            learned |= revoked && !key.revoked;
            key.revoked |= revoked;
        }
        learned
    }

    /// When the last of its keys that can sign will have expired; `None` for never.
    #[must_use]
    pub fn signing_expires(&self, exact: Option<&Fingerprint>) -> Option<SystemTime> {
        let primary_expires = self.keys.first().and_then(|key| key.expires);
        let mut last = None;
        // a wrapper may sign on another machine, with no secret half here
        let here = self.keys.iter().any(|key| key.signs && key.secret);
        for key in self.keys.iter().filter(|key| key.signs && key.secret == here && !key.revoked) {
            if exact.is_some_and(|exact| *exact != key.fingerprint) {
                continue;
            }
            match key.expires {
                None => return primary_expires,
                Some(time) => last = last.max(Some(time)),
            }
        }
        match (last, primary_expires) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The key that signs: `exact`, or else the newest that can.
    #[must_use]
    pub fn signing_key(&self, exact: Option<&Fingerprint>) -> Option<&KeyFacts> {
        let signs = |key: &&KeyFacts| key.signs && exact.is_none_or(|exact| *exact == key.fingerprint);
        self.keys.iter().rfind(signs)
    }

    /// Whether a user id of it has this mail address, or is this.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.user_ids.iter().any(|user_id| user_id == name || mail_of(user_id).eq_ignore_ascii_case(mail_of(name)))
    }

    /// The certificates of a listing.
    pub(super) fn of_listing(listing: &[u8]) -> Vec<Certificate> {
        let mut listed: Vec<ListedCertificate> = Vec::new();
        for line in String::from_utf8_lossy(listing).lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let field = |number: usize| fields.get(number - 1).copied().unwrap_or_default();
            match field(1) {
                "pub" | "sec" => listed.push(ListedCertificate {
                    user_id: String::new(),
                    user_ids: Vec::new(),
                    revoked: field(2) == "r",
                    trusted: matches!(field(2), "f" | "u"),
                    keys: vec![ListedKey::of(&field)],
                }),
                kind => {
                    if let Some(certificate) = listed.last_mut() {
                        certificate.take(kind, &field);
                    }
                }
            }
        }
        listed.into_iter().filter_map(ListedCertificate::whole).collect()
    }
}

/// A certificate while its lines are read.
struct ListedCertificate {
    user_id: String,
    user_ids: Vec<String>,
    revoked: bool,
    trusted: bool,
    keys: Vec<ListedKey>,
}

/// A key while its lines are read: validity in field 2, key id in 5, expiry in 7, what it is for in 12, where its secret
/// half is in 15.
struct ListedKey {
    fingerprint: Option<Fingerprint>,
    key_id: Option<KeyId>,
    keygrip: String,
    expires: Option<SystemTime>,
    revoked: bool,
    signs: bool,
    secret: bool,
    card: Option<String>,
}

impl ListedCertificate {
    /// One more line.
    fn take<'line>(&mut self, kind: &str, field: &dyn Fn(usize) -> &'line str) {
        match (kind, self.keys.last_mut()) {
            ("sub" | "ssb", _) => self.keys.push(ListedKey::of(field)),
            // the first of them; a second one would be the fingerprint of another format
            ("fpr", Some(key)) if key.fingerprint.is_none() => key.fingerprint = Fingerprint::new(field(10)),
            ("grp", Some(key)) => key.keygrip = field(10).to_owned(),
            ("uid", _) => {
                let user_id = unescaped(field(10));
                if self.user_id.is_empty() {
                    self.user_id.clone_from(&user_id);
                }
                if field(2) != "r" {
                    self.user_ids.push(user_id);
                }
                self.trusted |= matches!(field(2), "f" | "u");
            }
            _ => {}
        }
    }

    /// The certificate; none where its primary key has no fingerprint of versions 4 to 6. Such subkeys are left out.
    fn whole(self) -> Option<Certificate> {
        let ListedCertificate { user_id, user_ids, revoked, trusted, keys } = self;
        let fingerprint = keys.first()?.fingerprint.clone()?;
        let keys = keys.into_iter().filter_map(ListedKey::whole).collect();
        Some(Certificate { fingerprint, user_id, user_ids, revoked, trusted, keys })
    }
}

impl ListedKey {
    fn of<'line>(field: &dyn Fn(usize) -> &'line str) -> ListedKey {
        let seconds = field(7).parse().ok().filter(|&seconds| seconds != 0);
        let expires = seconds.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        let uses = field(12);
        let place = field(15);
        ListedKey {
            fingerprint: None,
            key_id: KeyId::new(field(5)),
            keygrip: String::new(),
            expires,
            revoked: field(2) == "r",
            signs: uses.contains('s') && !uses.contains('D') && field(2) != "d",
            // `#`: it is not there; `+`: it is; else the serial number of the card that it is on
            secret: !place.is_empty() && place != "#",
            card: (place.len() > 1).then(|| place.to_owned()),
        }
    }

    fn whole(self) -> Option<KeyFacts> {
        let ListedKey { fingerprint, key_id, keygrip, expires, revoked, signs, secret, card } = self;
        Some(KeyFacts { fingerprint: fingerprint?, key_id: key_id?, keygrip, expires, revoked, signs, secret, card })
    }
}

/// The mail address of a user id, or the whole of it.
fn mail_of(user_id: &str) -> &str {
    let inner = user_id.rsplit_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(mail, _)| mail);
    inner.unwrap_or(user_id)
}

/// A field as it was before gpg wrote `\x3a` for a colon.
fn unescaped(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, after)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.extend_from_slice(b"\\x");
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_read() {
        let listing = b"tru::1:1:0:3:1:5\n\
            pub:u:255:22:BC6B7A03F2E92BDB:1795569639:1895569639::u:::scESC:::+::ed25519:::0:\n\
            fpr:::::::::a0e82346bdc178e4ec8bb594bc6b7a03f2e92bdb:\n\
            grp:::::::::EC4B2BF93D6A78837895D47BA56515F524E294EA:\n\
            uid:u::::1795569639::0F8A::J\xc3\xb6rg \\x3a <j@example.org>::::::::::0:\n\
            uid:r::::1795569639::0F8B::gone <gone@example.org>::::::::::0:\n\
            sub:r:255:22:1111111111111111:1::::::s:::D2760001240103040006123456780000:::23:\n\
            fpr:::::::::1111111111111111111111111111111111111111:\n\
            sub:e:255:22:2222222222222222:1:2:::::e:::#:::23:\n\
            fpr:::::::::2222222222222222222222222222222222222222:\n";
        let [certificate] = &Certificate::of_listing(listing)[..] else { panic!("one certificate") };
        assert_eq!(certificate.fingerprint.as_str(), "A0E82346BDC178E4EC8BB594BC6B7A03F2E92BDB");
        assert_eq!(certificate.user_id, "Jörg : <j@example.org>");
        assert!(certificate.trusted && !certificate.revoked);
        assert!(certificate.is_named("J@example.org") && !certificate.is_named("gone@example.org"));
        let facts: Vec<_> = certificate.keys.iter().map(|key| (key.signs, key.revoked, key.secret)).collect();
        assert_eq!(facts, [(true, false, true), (true, true, true), (false, false, false)]);
        assert_eq!(certificate.keys[1].card.as_deref(), Some("D2760001240103040006123456780000"));
        assert_eq!(
            certificate.signing_key(None).and_then(|key| key.card.as_deref()),
            Some("D2760001240103040006123456780000")
        );
        assert_eq!(certificate.signing_key(Some(&certificate.fingerprint)).and_then(|key| key.card.as_deref()), None);
        assert!(certificate.keys[0].expires.is_some() && certificate.keys[1].expires.is_none());
        let key = |name: &str| certificate.key_set_as(name).map(|key| key.fingerprint.as_str());
        let primary = Some("A0E82346BDC178E4EC8BB594BC6B7A03F2E92BDB");
        for name in ["a0e82346bdc178e4ec8bb594bc6b7a03f2e92bdb", "0xBC6B7A03F2E92BDB", "F2E92BDB"] {
            assert_eq!(key(name), primary, "{name}");
        }
        // the end of a fingerprint names nothing
        for name in ["EC8BB594BC6B7A03F2E92BDB", "1111111111111111111111111", "", "2BDB", "J@example.org"] {
            assert_eq!(key(name), None, "{name}");
        }
        assert!(Certificate::of_listing(b"rubbish\npub\nuid:\n").is_empty());
    }

    #[test]
    fn the_key_id_of_a_newer_key_is_its_beginning() {
        let digits = format!("{}{}", "B".repeat(16), "A".repeat(48));
        let listing =
            format!("pub:u:255:22:{}:1:::u:::scESC:::+::ed25519:::0:\nfpr:::::::::{digits}:\n", "B".repeat(16));
        let [certificate] = &Certificate::of_listing(listing.as_bytes())[..] else { panic!("one certificate") };
        let key = |name: &str| certificate.key(&KeyHandle::new(name).unwrap()).is_some();
        assert!(key(&digits) && key(&"B".repeat(16)));
        assert!(!key(&"A".repeat(16)) && !key(&"A".repeat(40)));
    }
}
