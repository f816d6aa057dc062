//! Tells a run to come to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of the signal that asked for the end, or 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt(pub Arc<AtomicUsize>);

impl Interrupt {
    /// The signal that asked for the end.
    #[must_use]
    pub(crate) fn signal(&self) -> Option<usize> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&signal| signal != 0)
    }
}
