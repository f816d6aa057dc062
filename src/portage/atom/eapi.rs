//! The EAPI, as far as atoms and slots depend on it.

/// An EAPI, reduced to what the syntax of atoms, slots and USE depends on.
///
/// Follows `portage.eapi._get_eapi_attrs` of Portage 3.0.83, which knows EAPI 0 to 9 and
/// `9-pre1`. An EAPI it does not know gets the most generous syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Eapi(Announced);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Announced {
    Unspecified,
    Unknown,
    Known(u8),
}

impl Eapi {
    /// No EAPI at all, Portage's `eapi=None`: what update files are read with. Only here may an
    /// atom carry a build id (`=cat/pkg-1-2`).
    pub const UNSPECIFIED: Eapi = Eapi(Announced::Unspecified);

    /// The EAPI that a package's `EAPI` names. An index entry without one has EAPI `0`; the caller
    /// fills that in, an empty text is an unknown EAPI here.
    ///
    /// A few values (`3_pre1`, or one with blanks around it) make Portage stop with a `ValueError`
    /// instead; they count as unknown here.
    pub fn parse(text: &str) -> Eapi {
        let number = match text {
            "9-pre1" => Some(9),
            _ => match text.as_bytes() {
                [digit @ b'0'..=b'9'] => Some(digit - b'0'),
                _ => None,
            },
        };
        Eapi(number.map_or(Announced::Unknown, Announced::Known))
    }

    /// `cat/pkg:slot` is allowed (EAPI 1).
    pub fn slot_deps(self) -> bool {
        self.at_least(1)
    }

    /// `cat/pkg[flag]` is allowed (EAPI 2).
    pub fn use_deps(self) -> bool {
        self.at_least(2)
    }

    /// `!!cat/pkg` is allowed (EAPI 2).
    pub fn strong_blocks(self) -> bool {
        self.at_least(2)
    }

    /// `cat/pkg[flag(+)]` is allowed (EAPI 4).
    pub fn use_dep_defaults(self) -> bool {
        self.at_least(4)
    }

    /// Sub-slots and the slot operators `=` and `*` are allowed (EAPI 5).
    pub fn slot_operator(self) -> bool {
        self.at_least(5)
    }

    /// `IUSE_EFFECTIVE` exists (EAPI 5), so that every flag in a built package's `USE` counts as
    /// one of its own. Not so for no EAPI and unknown ones.
    pub fn iuse_effective(self) -> bool {
        matches!(self.0, Announced::Known(number) if number >= 5)
    }

    /// `cat/pkg::repository` is allowed: in no EAPI, so only where there is none, or an unknown one.
    pub fn repo_deps(self) -> bool {
        !matches!(self.0, Announced::Known(_))
    }

    /// `=cat/pkg-1-2` (build id 2 of version 1) is allowed: only without an EAPI.
    pub fn build_ids(self) -> bool {
        self.0 == Announced::Unspecified
    }

    fn at_least(self, first: u8) -> bool {
        match self.0 {
            Announced::Known(number) => number >= first,
            Announced::Unspecified | Announced::Unknown => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_unknown_and_none_differ() {
        assert_eq!(Eapi::parse("9-pre1"), Eapi::parse("9"));
        assert_eq!(Eapi::parse("10"), Eapi::parse("paludis-1"));
        assert_ne!(Eapi::parse("10"), Eapi::UNSPECIFIED);
        assert!(!Eapi::parse("4").slot_operator() && Eapi::parse("5").slot_operator());
        assert!(Eapi::parse("10").repo_deps() && !Eapi::parse("8").repo_deps());
        assert!(Eapi::UNSPECIFIED.build_ids() && !Eapi::parse("10").build_ids());
        assert!(!Eapi::parse("10").iuse_effective() && Eapi::parse("5").iuse_effective());
    }
}
