//! How far the jobs of a run are, in packages and bytes.

use super::make::{Made, Unmade};
use super::{Job, Step};

/// How far it is.
pub(super) struct Way {
    packages: usize,
    of_packages: usize,
    /// What the index says of the jobs that have come to their end, written or not.
    passed: u64,
    of_bytes: u64,
    /// What has been written for them.
    written: u64,
}

impl Way {
    pub(super) fn new(jobs: &[Job]) -> Way {
        // what an index says may be anything
        let of_bytes = jobs.iter().map(size).fold(0, u64::saturating_add);
        Way { packages: 0, of_packages: jobs.len(), passed: 0, of_bytes, written: 0 }
    }

    /// A job has come to its end.
    pub(super) fn pass(&mut self, job: Option<&Job>, result: &Result<Vec<Made>, Unmade>) {
        self.packages += 1;
        self.passed = self.passed.saturating_add(job.map_or(0, size));
        self.written += result.iter().flatten().map(|made| made.ready.size).sum::<u64>();
    }

    /// How far it is now that so many bytes are written: those of jobs that are still under way count as well.
    pub(super) fn step(&self, written: u64) -> Step {
        let bytes = self.passed.saturating_add(written.saturating_sub(self.written)).min(self.of_bytes);
        Step { packages: self.packages, of_packages: self.of_packages, bytes, of_bytes: self.of_bytes }
    }
}

/// The bytes that are to be written for a job, by the index: each of its files has the whole image.
fn size(job: &Job) -> u64 {
    let size: u64 = job.base.get("SIZE").and_then(|size| size.parse().ok()).unwrap_or_default();
    size.saturating_mul(u64::try_from(job.edits().count()).unwrap_or_default())
}
