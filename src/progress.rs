//! How far a run is: the numbers behind the terminal's bar.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// Packages that are done.
    pub packages: usize,
    /// All of them.
    pub of_packages: usize,
    /// Bytes that are written.
    pub bytes: u64,
    /// All of them, as far as that is known before; 0 where the run writes none.
    pub of_bytes: u64,
}

impl Step {
    /// Of a run that only reads.
    #[must_use]
    pub(crate) fn of_packages(packages: usize, of_packages: usize) -> Step {
        Step { packages, of_packages, bytes: 0, of_bytes: 0 }
    }
}

/// Counts the bytes that the threads of a run write: one addition for each block.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<AtomicU64>);

impl Meter {
    /// So many more.
    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(u64::try_from(bytes).unwrap_or_default(), Ordering::Relaxed);
    }

    /// All so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
