//! A bar on a terminal, for what takes longer than a second.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::looks;
use crate::cli::Common;
use crate::progress::Step;

/// From so many bytes on they tell more than the number of packages.
const LARGE: u64 = 64 << 20;

/// A bar on a terminal.
pub(super) struct Bar {
    began: Instant,
    bar: Option<ProgressBar>,
}

impl Bar {
    pub(super) fn new(common: &Common) -> Bar {
        let wanted = !common.json && !common.quiet && std::io::stderr().is_terminal() && !looks::is_dumb();
        Bar { began: Instant::now(), bar: wanted.then(ProgressBar::hidden) }
    }

    pub(super) fn show(&self, step: Step) {
        let Some(bar) = &self.bar else { return };
        if bar.is_hidden() {
            if self.began.elapsed() <= Duration::from_secs(1) {
                return;
            }
            if let Some(style) = style(step) {
                bar.set_style(style);
            }
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        let (position, length) = match in_bytes(step) {
            true => (step.bytes.min(step.of_bytes), step.of_bytes),
            false => (count(step.packages), count(step.of_packages)),
        };
        if in_bytes(step) {
            bar.set_message(format!("{} of {} packages", step.packages, step.of_packages));
        }
        bar.set_length(length);
        bar.set_position(position);
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn in_bytes(step: Step) -> bool {
    step.of_bytes >= LARGE
}

fn count(packages: usize) -> u64 {
    u64::try_from(packages).unwrap_or_default()
}

fn style(step: Step) -> Option<ProgressStyle> {
    let bar = if looks::has_unicode() { "{bar:30}" } else { "[{bar:30}]" };
    let rest = match in_bytes(step) {
        true => "{bytes} of {total_bytes}, {bytes_per_sec}, {msg}, {eta} left",
        false => "{pos} of {len} packages, {eta} left",
    };
    let style = ProgressStyle::with_template(&format!(" * {bar} {rest}")).ok()?;
    Some(if looks::has_unicode() { style } else { style.progress_chars("=> ") })
}
