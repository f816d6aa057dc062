//! `status`: one screen for somebody who looks. It reads only, and what it says of signatures is what the packages say
//! of themselves: nothing is verified, so that it is quick with thousands of them.

use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use serde::Serialize;

use super::signers::{Pile, Survey, owner_of, survey};
use super::{Error, Run};
use crate::package::openpgp::{Keyring, Owner};
use crate::pkgdir::Pkgdir;
use crate::pkgdir::store::{Net, Reader, Record};
use crate::portage::fingerprint::KeyHandle;
use crate::portage::updates::Selection;
use crate::report::{Level, Status, Style, Told, age, bytes, mark, plural, printable};

/// What there is.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    command: &'static str,
    status: Status,
    /// Why packages are not signed here; none where they are.
    not_configured: Option<String>,
    /// The configured key, as make.conf has it.
    key: Option<String>,
    pkgdir: PathBuf,
    /// The packages that say they are signed, by key.
    signers: Vec<SignedPile>,
    unsigned: Pile,
    /// What is no container, or names no key.
    unclear: Pile,
    held: Pile,
    net: Option<NetPile>,
    /// The last run that found something to do, in seconds since the epoch, as far as net and held packages tell.
    last_run: Option<u64>,
    /// What the next `apply` is concerned with, by the tree as it is; none where that cannot be said.
    pending: Option<Pile>,
    /// Why that cannot be said.
    error: Option<String>,
    seconds: f64,
}

/// The packages of one key.
#[derive(Debug, Serialize)]
struct SignedPile {
    key: KeyHandle,
    owner: Whose,
    #[serde(flatten)]
    pile: Pile,
}

/// Whose a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Whose {
    Configured,
    Replaced,
    Expired,
    /// Its secret half is in the signing home, but it is not the configured one.
    InHome,
    /// An earlier run has signed with it, and its secret half is not in the signing home.
    SignedBefore,
    Foreign,
    /// There are no keys to compare it with.
    Unknown,
}

/// What the safety net has.
#[derive(Debug, Serialize)]
struct NetPile {
    path: PathBuf,
    packages: usize,
    /// Their bytes that lie nowhere else.
    bytes_alone: u64,
}

/// Counts what is there.
///
/// # Errors
/// Portage's configuration, PKGDIR or our own folder in it cannot be read.
pub(crate) fn status(run: &Run<'_>) -> Result<Overview, Error> {
    let began = Instant::now();
    let signing = run.settings.signing()?;
    let mut overview = Overview {
        command: "status",
        status: if signing.is_some() { Status::Done } else { Status::NotConfigured },
        not_configured: if signing.is_some() { None } else { Some(run.why_not_configured()?) },
        key: signing.as_ref().map(|signing| signing.key.clone()),
        pkgdir: run.settings.pkgdir()?.to_owned(),
        signers: Vec::new(),
        unsigned: Pile::default(),
        unclear: Pile::default(),
        held: Pile::default(),
        net: None,
        last_run: None,
        pending: None,
        error: None,
        seconds: 0.0,
    };
    if let Some(pkgdir) = run.pkgdir()? {
        let keyring = match &signing {
            Some(signing) => run.open_keyring(signing)?.map_err(|error| log::warn!("{error}")).ok(),
            None => None,
        };
        let survey = survey(&pkgdir)?;
        let reader = Reader::new(&pkgdir)?;
        let records = reader.records()?;
        match pending(run, &pkgdir, &survey, &reader, &records) {
            Ok(pending) => overview.pending = Some(pending),
            Err(error) => overview.error = Some(error.to_string()),
        }
        overview.take_in(survey, keyring.as_ref())?;
        records.iter().for_each(|record| overview.held.add(record.size));
        overview.look_at_net(&pkgdir);
        overview.last_run = overview.last_run.max(records.iter().map(|record| record.since).max());
    }
    overview.seconds = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    Ok(overview)
}

/// The signed packages that updates concern which Portage has yet to process. Those that are held already are safe.
fn pending(
    run: &Run<'_>,
    pkgdir: &Pkgdir,
    survey: &Survey,
    reader: &Reader,
    records: &[Record],
) -> Result<Pile, Error> {
    let mut pile = Pile::default();
    for job in run.concerned(&run.updates(Selection::Pending)?, pkgdir)?.jobs {
        let path = &job.work.path;
        let is_held = || records.iter().any(|record| record.path == *path && reader.is_in_place(record));
        if survey.signed.contains(path) && !is_held() {
            pile.add(pkgdir.identity(path)?.map_or(0, |identity| identity.size()));
        }
    }
    Ok(pile)
}

impl Told for Overview {
    fn status(&self) -> Status {
        self.status
    }
}

impl Overview {
    fn take_in(&mut self, survey: Survey, keyring: Option<&Keyring>) -> Result<(), Error> {
        for (key, pile) in survey.by_key {
            let owner = match keyring {
                None => Whose::Unknown,
                Some(keyring) => match owner_of(keyring, &key)? {
                    Owner::Configured => Whose::Configured,
                    Owner::Former => Whose::Replaced,
                    Owner::Expired => Whose::Expired,
                    Owner::InHome(_) => Whose::InHome,
                    Owner::SignedBefore(_) => Whose::SignedBefore,
                    Owner::Other => Whose::Foreign,
                },
            };
            self.signers.push(SignedPile { key, owner, pile });
        }
        self.signers.sort_by(|a, b| (a.owner, &a.key).cmp(&(b.owner, &b.key)));
        (self.unsigned, self.unclear) = (survey.unsigned, survey.unclear);
        Ok(())
    }

    fn look_at_net(&mut self, pkgdir: &Pkgdir) {
        match Net::look(pkgdir) {
            Ok(Some(net)) => {
                let (packages, bytes_alone) = net.size();
                self.last_run = net.state().map(|state| state.filled);
                self.net = Some(NetPile { path: net.path().to_owned(), packages, bytes_alone });
            }
            Ok(None) => {}
            Err(error) => log::warn!("there is no safety net: {error}"),
        }
    }

    /// The text for people: one screen.
    #[must_use]
    pub(crate) fn to_text(&self, style: Style) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        self.text_at(style, now)
    }

    fn text_at(&self, style: Style, now: u64) -> String {
        let mut out = String::new();
        let mut line = |level, text: &str| out += &format!("{}{}\n", mark(level, style), printable(text));
        match (&self.key, &self.not_configured) {
            (Some(key), _) => line(Level::Info, &format!("Binary packages are signed here with {key}.")),
            (None, why) => {
                let why = why.as_deref().unwrap_or_default();
                line(Level::Warning, &format!("Binary packages are not signed here ({why})."));
            }
        }
        let all = self.signers.iter().fold(self.unsigned.and(self.unclear), |sum, signed| sum.and(signed.pile));
        line(Level::Info, &format!("PKGDIR {}: {}", self.pkgdir.display(), size(all)));
        for signed in &self.signers {
            let (level, words) = signed.words();
            line(level, &row(signed.pile, &words));
        }
        for (pile, words) in [
            (self.unsigned, "not signed"),
            (self.unclear, "no container, or a signature that names no key; `binpkg-resign verify` says what is wrong"),
        ] {
            if pile.packages > 0 {
                line(Level::Info, &row(pile, words));
            }
        }
        if all.packages > 0 {
            line(Level::Info, "    (as they say themselves; `binpkg-resign verify` checks every signature)");
        }
        match self.held.packages {
            0 => line(Level::Info, "Held: none"),
            _ => line(Level::Warning, &format!("Held: {}; `binpkg-resign held` says why", size(self.held))),
        }
        line(Level::Info, &format!("Safety net: {}", self.net.as_ref().map_or("none".to_owned(), NetPile::text)));
        let last = match self.last_run {
            Some(time) => format!("{} ago", age(now.saturating_sub(time))),
            None => "unknown, without a net or held packages to tell".to_owned(),
        };
        line(Level::Info, &format!("Last run with something to do: {last}"));
        match (self.pending, &self.error) {
            (Some(Pile { packages: 0, .. }), _) => {
                line(
                    Level::Info,
                    "Next sync: no signed package waits for an update, with the repositories as they are",
                );
            }
            (Some(pile), _) if self.key.is_some() => line(
                Level::Warning,
                &format!(
                    "Next sync: {} concerned; `binpkg-resign apply --pretend` says what becomes of them",
                    size(pile)
                ),
            ),
            (Some(pile), _) => {
                line(Level::Warning, &format!("Next sync: Portage removes or passes over {}", size(pile)))
            }
            (None, Some(error)) => line(Level::Error, &format!("Next sync: cannot be foreseen: {error}")),
            (None, None) => line(Level::Info, "Next sync: there is no PKGDIR yet"),
        }
        out
    }
}

impl SignedPile {
    /// What they say, and what their key is.
    fn words(&self) -> (Level, String) {
        let key = &self.key;
        let says = if self.pile.packages == 1 { "says it is signed by" } else { "say they are signed by" };
        match self.owner {
            Whose::Configured => (Level::Info, format!("ours: {says} {key}, the configured key")),
            Whose::Replaced => (
                Level::Warning,
                format!("ours: {says} {key}, which has been replaced; `binpkg-resign rekey` signs them again"),
            ),
            Whose::Expired => (Level::Warning, format!("{says} {key}, which has expired or is revoked; see `doctor`")),
            Whose::InHome => (
                Level::Warning,
                format!("{says} {key}, whose secret half is here and which is not the configured key; see `doctor`"),
            ),
            Whose::SignedBefore => {
                (Level::Warning, format!("{says} {key}, with which an earlier run has signed; see `doctor`"))
            }
            Whose::Foreign => (Level::Info, format!("foreign: {says} {key}, which is not ours")),
            Whose::Unknown => (Level::Info, format!("{says} {key}")),
        }
    }
}

impl NetPile {
    fn text(&self) -> String {
        let packages = plural(self.packages, "package", "packages");
        format!("{packages}, {} of them nowhere else ({})", bytes(self.bytes_alone), self.path.display())
    }
}

fn size(pile: Pile) -> String {
    format!("{}, {}", plural(pile.packages, "package", "packages"), bytes(pile.bytes))
}

/// A row of the table of packages.
fn row(pile: Pile, words: &str) -> String {
    format!("    {:>5}  {:>10}  {words}", pile.packages, bytes(pile.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pile(packages: usize, bytes: u64) -> Pile {
        Pile { packages, bytes }
    }

    fn overview() -> Overview {
        let signed = |key: &str, owner, pile| SignedPile { key: KeyHandle::new(key).unwrap(), owner, pile };
        Overview {
            command: "status",
            status: Status::Done,
            not_configured: None,
            key: Some("Binhost <binhost@example.org>".to_owned()),
            pkgdir: "/var/cache/binpkgs".into(),
            signers: vec![
                signed("0123456789ABCDEF0123456789ABCDEF01234567", Whose::Configured, pile(1234, 5 << 30)),
                signed("1123456789ABCDEF0123456789ABCDEF01234567", Whose::Replaced, pile(20, 7 << 20)),
                signed("2123456789ABCDEF0123456789ABCDEF01234567", Whose::Expired, pile(2, 7 << 20)),
                signed("3123456789ABCDEF0123456789ABCDEF01234567", Whose::InHome, pile(2, 1 << 20)),
                signed("5123456789ABCDEF0123456789ABCDEF01234567", Whose::SignedBefore, pile(2, 1 << 20)),
                signed("4123456789ABCDEF", Whose::Foreign, pile(1, 500)),
            ],
            unsigned: pile(3, 2 << 20),
            unclear: pile(1, 0),
            held: pile(2, 3 << 20),
            net: Some(NetPile {
                path: "/var/cache/.binpkgs.binpkg-resign-net".into(),
                packages: 1250,
                bytes_alone: 12 << 20,
            }),
            last_run: Some(1_000_000),
            pending: Some(pile(12, 40 << 20)),
            error: None,
            seconds: 0.0,
        }
    }

    #[test]
    fn one_screen() {
        let busy = overview();
        insta::assert_snapshot!("status", busy.text_at(Style::Plain, 1_000_000 + 7200));
        insta::assert_snapshot!("status-json", busy.to_json().unwrap());
        assert!(busy.text_at(Style::Plain, 0).lines().count() < 24);
    }

    #[test]
    fn where_little_is_there() {
        let empty = Overview {
            status: Status::NotConfigured,
            not_configured: Some("FEATURES lacks binpkg-signing".to_owned()),
            key: None,
            signers: Vec::new(),
            unsigned: Pile::default(),
            unclear: Pile::default(),
            held: Pile::default(),
            net: None,
            last_run: None,
            ..overview()
        };
        let text = |overview: &Overview| overview.text_at(Style::Plain, 0);
        let quiet = Overview { pending: Some(Pile::default()), ..empty };
        insta::assert_snapshot!("status-not-configured", text(&quiet));
        let no_pkgdir = Overview { pending: None, ..quiet };
        insta::assert_snapshot!("status-no-pkgdir", text(&no_pkgdir));
        let broken = Overview { error: Some("Packages is missing".to_owned()), ..no_pkgdir };
        insta::assert_snapshot!("status-broken-index", text(&broken));
    }
}
