//! How generated cases are run in every test that has some: the same ones each time, and the smallest that fails is shown.
//!
//! `BINPKG_RESIGN_CASES=N` takes N times as many, `PROPTEST_RNG_SEED=N` others.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseResult, TestRunner};

/// Gives so many values of `strategy` to `test`. The first that fails is made as small as it can be made, and shown.
#[track_caller]
#[allow(clippy::panic, reason = "this is how a test fails")]
pub(crate) fn check<S: Strategy>(count: u32, strategy: S, test: impl Fn(S::Value) -> TestCaseResult) {
    let config = Config { cases: times(count), ..config() };
    if let Err(failure) = TestRunner::new(config).run(&strategy, test) {
        panic!("{failure}");
    }
}

/// As many cases as the environment asks for, where it is `count` usually.
pub(crate) fn times(count: u32) -> u32 {
    let times = std::env::var("BINPKG_RESIGN_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    count.saturating_mul(times)
}

fn config() -> Config {
    let usual = Config::default();
    // a failure comes again by itself with the same seed: no file needs to remember it
    let rng_seed = if usual.rng_seed == RngSeed::Random { RngSeed::Fixed(20_240_101) } else { usual.rng_seed };
    Config { rng_seed, failure_persistence: None, max_shrink_iters: 20_000, ..usual }
}
