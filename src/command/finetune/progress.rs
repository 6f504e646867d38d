//! Reports progress: a bar on a terminal, else a line from time to time.

use std::time::{Duration, Instant};

use super::recipe::Recipe;
use crate::run::Console;
use crate::train::log::Step;

/// Interval between lines if there is no bar.
const BETWEEN_LINES: Duration = Duration::from_secs(30);

/// Reports the progress of the steps.
pub(super) struct ProgressReport<'a> {
    console: &'a Console,
    total: usize,
    batches: usize,
    /// Steps that were done when this part of the run started, and its start time.
    first: usize,
    start: Instant,
    said: Option<Instant>,
    has_bar: bool,
}

impl<'a> ProgressReport<'a> {
    pub(super) fn start(console: &'a Console, recipe: &Recipe, first: usize) -> Self {
        Self {
            console,
            total: recipe.total,
            batches: recipe.order.batches(),
            first,
            start: Instant::now(),
            said: None,
            has_bar: console.start_steps(recipe.total as u64, first as u64),
        }
    }

    pub(super) fn step(&mut self, step: &Step) {
        let message = self.message(step);
        if self.has_bar {
            self.console.step(step.step as u64, message);
            return;
        }
        let is_due = self.said.is_none_or(|said| said.elapsed() >= BETWEEN_LINES);
        if is_due || step.step == self.total {
            self.said = Some(Instant::now());
            let (at, total) = (step.step, self.total);
            self.console.note(&format!("step {at}/{total}, {message}"));
        }
    }

    fn message(&self, step: &Step) -> String {
        let done = (step.step - self.first).max(1) as f64;
        let left = self.start.elapsed().as_secs_f64() / done * (self.total - step.step) as f64;
        let parts = match step.short_loss {
            Some(short) => format!(" (long {:.4}, short {short:.4})", step.long_loss),
            None => String::new(),
        };
        format!(
            "epoch {}/{}: loss {:.4}{parts}, rate {:.2e}, {:.1} images/s, {} left",
            step.epoch,
            self.total.div_ceil(self.batches),
            step.loss,
            step.rate,
            step.images_per_second,
            duration(left)
        )
    }

    pub(super) fn end(&self) {
        self.console.end_progress();
    }
}

/// A duration in hours, minutes and seconds.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m {seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h {minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_parts_at_most() {
        let cases = [
            (0.4, "0s"),
            (59.6, "1m 00s"),
            (61.0, "1m 01s"),
            (3599.0, "59m 59s"),
            (7260.0, "2h 01m"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(duration(seconds), expected);
        }
    }
}
