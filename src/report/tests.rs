//! Everything that people read of a report, as it stands: `INSTA_UPDATE=always cargo test` writes the files anew, for
//! somebody to read.

use std::sync::Arc;

use super::*;
use crate::package::rewrite::Difference;
use crate::pkgdir::PkgdirError;
use crate::pkgdir::store::Remark;
use crate::plan::{Change, Doom};
use crate::portage::atom::CpvBuf;
use crate::portage::fingerprint::KeyHandle;
use crate::portage::names::{BuildId, PkgPath};

const UPDATE: &str = "move dev-util/strace dev-debug/strace";

/// An outcome of `app-misc/NAME-1`, build 1.
fn outcome(name: &str, kind: OutcomeKind, reason: Option<Reason>) -> Outcome {
    Outcome {
        path: format!("app-misc/{name}/{name}-1-1.gpkg.tar"),
        cpv: CpvBuf::new(&format!("app-misc/{name}-1")),
        build_id: BuildId::new("1"),
        kind,
        new_path: (kind == OutcomeKind::Moved).then(|| PkgPath::new("dev-debug/new/new-1-1.gpkg.tar").unwrap()),
        changes: vec![Change { update: UPDATE.into(), keys: vec!["RDEPEND".into(), "BDEPEND".into()] }],
        metadata: Vec::new(),
        reason,
        since: None,
        size: None,
    }
}

fn report(command: &'static str, mode: Mode, outcomes: Vec<Outcome>) -> Report {
    let mut report = Report::new(command, mode, outcomes, Duration::ZERO);
    report.seconds = 0.0;
    report
}

fn no_space() -> Reason {
    let source = std::io::Error::from_raw_os_error(28);
    let path = "/var/cache/binpkgs/.binpkg-resign".into();
    Reason::Pkgdir(Arc::new(PkgdirError::Io { action: "create", path, source }))
}

/// One of every outcome, and more than one of what comes in groups.
fn every_outcome() -> Vec<Outcome> {
    let locked = || Reason::Remembered(Remark { code: "sign".into(), text: "the key is locked".into() });
    vec![
        outcome("resigned", OutcomeKind::Resigned, None),
        outcome("moved", OutcomeKind::Moved, None),
        outcome("restored", OutcomeKind::Restored, None),
        outcome("held", OutcomeKind::Held, Some(locked())),
        outcome("held-too", OutcomeKind::Held, Some(locked())),
        outcome("endless", OutcomeKind::Held, Some(Reason::Doomed(Doom::Endless { update: UPDATE.into() }))),
        outcome("exposed", OutcomeKind::Exposed, Some(no_space())),
        outcome(
            "foreign",
            OutcomeKind::Foreign,
            Some(Reason::Foreign(vec![KeyHandle::new("0123456789ABCDEF").unwrap()])),
        ),
        outcome("missing", OutcomeKind::Skipped, Some(Reason::Missing)),
    ]
}

fn all_ways(name: &str, report: &Report) {
    for (detail, word) in [(Detail::Quiet, "quiet"), (Detail::Normal, "normal"), (Detail::Verbose, "verbose")] {
        insta::assert_snapshot!(format!("{name}-{word}"), report.to_text(Style::Plain, detail));
    }
}

#[test]
fn every_outcome_is_told() {
    all_ways("apply", &report("apply", Mode::Real, every_outcome()));
    all_ways("apply-pretend", &report("apply", Mode::Pretend, every_outcome()));
    let report = report("apply", Mode::Real, every_outcome());
    insta::assert_snapshot!(
        "apply-coloured",
        report.to_text(Style::Coloured, Detail::Normal).escape_debug().to_string()
    );
    insta::assert_snapshot!("apply-json", report.to_json().unwrap());
}

/// What went wrong is on standard error, with its colours; what was only asked for is not.
#[test]
fn errors_go_where_portage_has_them() {
    let styles = Styles { out: Style::Plain, err: Style::Coloured };
    let run = report("apply", Mode::Real, every_outcome());
    let texts = run.to_texts(styles, Detail::Normal);
    assert!(texts.err.lines().all(|line| line.starts_with(" \u{1b}[31;01m*\u{1b}[39;49;00m ")), "{}", texts.err);
    assert!(texts.err.contains("kept safe") && texts.err.contains("NEITHER SIGNED NOR KEPT SAFE"));
    assert!(texts.out.contains("saved from removal") && !texts.out.contains("kept safe"), "{}", texts.out);
    let whole = run.to_text(Style::Plain, Detail::Normal);
    assert_eq!(whole.lines().count(), texts.out.lines().count() + texts.err.lines().count());
    let pretended = report("apply", Mode::Pretend, every_outcome()).to_texts(styles, Detail::Normal);
    assert_eq!(pretended.err, "");
}

#[test]
fn little_is_said_where_little_was_done() {
    all_ways("nothing", &report("apply", Mode::Real, Vec::new()));
    all_ways("nothing-pretend", &report("apply", Mode::Pretend, Vec::new()));
    all_ways("still-held", &Report { still_held: 1, ..report("apply", Mode::Real, Vec::new()) });
    let not_configured = |audience| Report {
        status: Status::NotConfigured,
        not_configured: Some(("FEATURES lacks binpkg-signing".to_owned(), audience)),
        ..report("apply", Mode::Real, Vec::new())
    };
    all_ways("not-configured", &not_configured(Audience::Nobody));
    all_ways("not-configured-terminal", &not_configured(Audience::Person));
    insta::assert_snapshot!(
        "error-json",
        Report::of_error("apply", Mode::Pretend, "make.conf: broken".into()).to_json().unwrap()
    );
}

#[test]
fn a_run_that_was_ended_has_nothing_to_be_fixed() {
    let held = |name, reason| outcome(name, OutcomeKind::Held, Some(reason));
    let signing = || Reason::Sign(Arc::new(crate::package::openpgp::SignError::Interrupted));
    let mut outcomes = vec![held("one", Reason::Interrupted), held("two", signing())];
    insta::assert_snapshot!(
        "interrupted",
        report("apply", Mode::Real, outcomes.clone()).to_text(Style::Plain, Detail::Normal)
    );
    outcomes.push(held("three", no_space()));
    let text = report("apply", Mode::Real, outcomes).to_text(Style::Plain, Detail::Normal);
    assert!(text.contains("When that is fixed, run"), "{text}");
}

#[test]
fn old_and_new_texts_are_told() {
    let difference = |key: &str, old: &[&str], new: &[&str]| Difference {
        key: key.into(),
        old: old.iter().map(ToString::to_string).collect(),
        new: new.iter().map(ToString::to_string).collect(),
    };
    let metadata = vec![
        difference(
            "RDEPEND",
            &["dev-util/strace", "!<dev-util/strace-5"],
            &["dev-debug/strace", "!<dev-debug/strace-5"],
        ),
        difference("SLOT", &["0"], &["0\u{1b}[31m/2"]),
    ];
    let outcomes = vec![Outcome { metadata, ..outcome("resigned", OutcomeKind::Resigned, None) }];
    let report = report("apply", Mode::Pretend, outcomes);
    all_ways("diff", &report);
    let coloured = report.to_text(Style::Coloured, Detail::Verbose);
    insta::assert_snapshot!("diff-coloured", coloured.escape_debug().to_string());
    insta::assert_snapshot!("diff-json", report.to_json().unwrap());
}

#[test]
fn held_packages_are_shown_with_their_reasons() {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let three_days_ago = now - 3 * 86400 - 3600;
    let held = |name: &str, text: &str| {
        let reason = Reason::Remembered(Remark { code: "sign".into(), text: text.into() });
        Outcome {
            changes: Vec::new(),
            since: Some(three_days_ago),
            size: Some(5 << 20),
            ..outcome(name, OutcomeKind::Held, Some(reason))
        }
    };
    let unnamed =
        Outcome { cpv: None, build_id: None, ..held("lost", "the run that should have signed it was interrupted") };
    let packages = vec![held("one", "the key is locked"), held("two", "the key is locked"), unnamed];
    all_ways("held-list", &report("held", Mode::Real, packages));
}

#[test]
fn a_first_signature_is_told() {
    let unchanged = |outcome: Outcome| Outcome { changes: Vec::new(), ..outcome };
    let outcomes = || {
        vec![
            unchanged(outcome("signed", OutcomeKind::Signed, None)),
            unchanged(outcome("already", OutcomeKind::Skipped, Some(Reason::SignedAlready))),
            unchanged(outcome("unlisted", OutcomeKind::Skipped, Some(Reason::Unlisted))),
            unchanged(outcome("missing", OutcomeKind::Skipped, Some(Reason::Missing))),
        ]
    };
    all_ways("sign", &report("sign", Mode::Real, outcomes()));
    all_ways("sign-pretend", &report("sign", Mode::Pretend, outcomes()));
}

#[test]
fn held_packages_are_listed_and_given_up() {
    let given_up = || vec![outcome("held", OutcomeKind::Skipped, Some(Reason::GivenUp))];
    all_ways("held-none", &report("held", Mode::Real, Vec::new()));
    all_ways("held-given-up", &report("held", Mode::Real, given_up()));
    all_ways("held-to-be-given-up", &report("held", Mode::Pretend, given_up()));
}

#[test]
fn held_packages_come_back_or_stay() {
    let outcomes = || {
        let locked = Reason::Remembered(Remark { code: "sign".into(), text: "the key is locked".into() });
        vec![
            outcome("resigned", OutcomeKind::Resigned, None),
            outcome("moved", OutcomeKind::Moved, None),
            outcome("held", OutcomeKind::Held, Some(locked)),
        ]
    };
    all_ways("held-retry", &report("held", Mode::Real, outcomes()));
    all_ways("held-retry-pretend", &report("held", Mode::Pretend, outcomes()));
}

/// A rekey is about keys: no update concerns a package there, and Portage removes none.
#[test]
fn a_rekey_speaks_of_keys() {
    let unchanged = |outcome: Outcome| Outcome { changes: Vec::new(), ..outcome };
    let outcomes = || {
        let locked = Reason::Remembered(Remark { code: "sign".into(), text: "the key is locked".into() });
        vec![
            unchanged(outcome("old", OutcomeKind::Resigned, None)),
            unchanged(outcome("too", OutcomeKind::Resigned, None)),
            unchanged(outcome("locked", OutcomeKind::Skipped, Some(locked))),
            unchanged(outcome("missing", OutcomeKind::Skipped, Some(Reason::Missing))),
        ]
    };
    let reports = [
        ("rekey", report("rekey", Mode::Real, outcomes())),
        ("rekey-pretend", report("rekey", Mode::Pretend, outcomes())),
        ("rekey-nothing", report("rekey", Mode::Real, Vec::new())),
        ("rekey-nothing-pretend", report("rekey", Mode::Pretend, Vec::new())),
    ];
    for (name, report) in reports {
        all_ways(name, &report);
        for detail in [Detail::Quiet, Detail::Normal, Detail::Verbose] {
            let text = report.to_text(Style::Plain, detail);
            assert!(!["update", "removal", "held", "Portage"].iter().any(|word| text.contains(word)), "{text}");
        }
    }
}

#[test]
fn the_exit_status_comes_from_the_outcomes_alone() {
    let status = |kind, reason| report("apply", Mode::Real, vec![outcome("x", kind, reason)]).exit_status();
    assert_eq!(status(OutcomeKind::Resigned, None), 0);
    assert_eq!(status(OutcomeKind::Restored, None), 0);
    assert_eq!(status(OutcomeKind::Foreign, Some(Reason::Foreign(Vec::new()))), 0);
    assert_eq!(status(OutcomeKind::Skipped, Some(Reason::Missing)), 0);
    assert_eq!(status(OutcomeKind::Held, Some(Reason::Gone)), 1);
    assert_eq!(status(OutcomeKind::Exposed, Some(no_space())), 1);
    // what a rekey could not sign
    assert_eq!(status(OutcomeKind::Skipped, Some(no_space())), 1);
}

#[test]
fn nothing_in_a_name_moves_the_cursor() {
    let text = "a\u{1b}[2Jb\u{202e}c\u{7}\n";
    assert_eq!(printable(text), "a\\u{1b}[2Jb\\u{202e}c\\u{7}\\u{a}");
    let mut evil = outcome("x", OutcomeKind::Held, Some(Reason::Setup("\u{1b}]0;owned\u{7}".into())));
    (evil.path, evil.cpv) = ("a/\u{1b}[31mb-1".into(), None);
    let text = report("apply", Mode::Real, vec![evil]).to_text(Style::Plain, Detail::Verbose);
    assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
}
