//! The training loop: batch, step, log line; saves the state regularly and evaluates the model
//! after each epoch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::evaluation::Evaluations;
use super::flags::FinetuneArgs;
use super::loader::{Loader, Source};
use super::page::Page;
use super::recipe::Recipe;
use super::run_folder::{Position, Taken};
use crate::checkpoint::Checkpoint;
use crate::file::exhaustion;
use crate::run::Console;
use crate::run::session::{Session, Stop};
use crate::train::log::{Evaluation, Log, LogLine, Skipped, Skips, Step};
use crate::train::{Progress, Trainer};

/// The most work that a crash may lose.
const SAVE_AFTER: Duration = Duration::from_secs(15 * 60);
/// Minimum time between states after epochs: with little data an epoch may be one step, and a state
/// is three times the size of the model.
const SAVE_LEAST: Duration = Duration::from_secs(60);

/// How the steps ended.
pub(super) enum End {
    /// All steps are done.
    Done,
    /// Stopped by a signal, after a complete step.
    Stopped(i32),
    /// A step failed.
    Failed(Broken),
}

/// The immutable parts of a run.
pub(super) struct Parts<'a> {
    pub(super) args: &'a FinetuneArgs,
    pub(super) console: &'a Console,
    pub(super) session: &'a Session,
    pub(super) recipe: Arc<Recipe>,
    pub(super) folder: &'a Taken,
    pub(super) evaluations: Evaluations,
    pub(super) page: Page,
    pub(super) stop: Stop,
}

/// A run in progress.
pub(super) struct Training<'a> {
    pub(super) parts: Parts<'a>,
    pub(super) trainer: Trainer,
    pub(super) log: Log,
    pub(super) skips: Skips,
    clock: Clock,
    /// When the state was last saved, and after which step.
    saved: (Instant, Option<usize>),
}

/// The duration of a run, without the time between its parts.
struct Clock {
    before: f64,
    start: Instant,
}

impl Clock {
    fn seconds(&self) -> f64 {
        self.before + self.start.elapsed().as_secs_f64()
    }
}

impl<'a> Training<'a> {
    /// Resumes from the saved state, if there is one.
    ///
    /// # Errors
    /// When the state is damaged, or does not fit the model.
    pub(super) fn open(parts: Parts<'a>, mut trainer: Trainer, log: std::fs::File) -> Result<Self> {
        let state = parts.folder.state()?;
        let mut before = 0.0;
        let mut step = 0;
        let saved = state.as_ref().map(|(_, at)| at.log);
        if let Some((tensors, at)) = &state {
            trainer
                .restore(tensors, at.step)
                .context("cannot resume from the saved state")?;
            (step, before) = (at.step, at.seconds);
            let total = parts.recipe.total;
            parts
                .console
                .note(&format!("resuming after step {step} of {total}"));
        }
        Ok(Self {
            log: Log::go_on(log, &parts.folder.log_path(), step, saved)?,
            skips: Skips::go_on(&parts.folder.skipped_path())?,
            clock: Clock {
                before,
                start: Instant::now(),
            },
            saved: (Instant::now(), state.map(|_| step)),
            parts,
            trainer,
        })
    }

    /// The model as it is now.
    pub(super) fn model(&self) -> Result<Checkpoint> {
        let checkpoint = &self.parts.session.checkpoint;
        Ok(checkpoint.with_tensors(&checkpoint.name, self.trainer.tensors()?))
    }

    /// How long the run took.
    pub(super) fn seconds(&self) -> f64 {
        self.clock.seconds()
    }

    /// Runs all remaining steps.
    ///
    /// # Errors
    /// When an output cannot be written, or the model cannot be evaluated.
    pub(super) fn run(&mut self, source: Arc<Source>) -> Result<End> {
        exhaustion::doing("training");
        self.parts.stop.listen()?;
        let recipe = self.parts.recipe.clone();
        self.evaluate()?;
        let loader = Loader::start(source, self.trainer.steps_done())?;
        let mut progress =
            ProgressReport::start(self.parts.console, &recipe, self.trainer.steps_done());
        while self.trainer.steps_done() < recipe.total {
            if let Some(signal) = self.parts.stop.signal() {
                progress.end();
                self.save()?;
                return Ok(End::Stopped(signal));
            }
            match self.step(&loader) {
                Ok(Some(step)) => progress.step(&step),
                // A signal came; the next iteration handles it.
                Ok(None) => continue,
                Err(Broken::Writing(error)) => {
                    progress.end();
                    return Err(error);
                }
                Err(broken) => {
                    progress.end();
                    return Ok(End::Failed(broken));
                }
            }
            let done = self.trainer.steps_done();
            if self.is_save_due(done) {
                self.save()?;
            }
            if recipe.is_milestone(done) {
                self.evaluate()?;
            }
        }
        progress.end();
        match self.parts.stop.signal() {
            // A signal during the last evaluation: the model must still be written.
            Some(signal) => Ok(End::Stopped(signal)),
            None => Ok(End::Done),
        }
    }

    /// Runs a step, unless a signal comes before it changes anything.
    fn step(&mut self, loader: &Loader) -> Result<Option<Step>, Broken> {
        let begun = Instant::now();
        let (epoch, _) = self.parts.recipe.place(self.trainer.steps_done());
        let number = self.trainer.steps_done() + 1;
        let (batch, failed) = match loader.next() {
            Ok(loaded) => (Ok(loaded.batch), loaded.failed),
            Err(unloaded) => (Err(unloaded.error), unloaded.failed),
        };
        for (place, cause) in failed {
            let skipped = Skipped {
                place,
                cause,
                step: Some(number),
            };
            if self.skips.add(&skipped).map_err(Broken::Writing)? {
                self.parts.console.failed(&skipped.place, &skipped.cause);
            }
        }
        let failed = || format!("step {number} failed");
        let batch = batch.with_context(failed).map_err(Broken::Data)?;
        let stop = || self.parts.stop.signal().is_some();
        let done = self.trainer.step_unless(&batch, &stop);
        let Some(done) = done.with_context(failed).map_err(Broken::Step)? else {
            return Ok(None);
        };
        let step = self.record(&done, epoch, batch.long.len(), begun);
        self.log.add(LogLine::Step(step)).map_err(Broken::Writing)?;
        Ok(Some(step))
    }

    fn record(&self, done: &Progress, epoch: usize, pairs: usize, begun: Instant) -> Step {
        Step {
            step: done.step,
            epoch: epoch + 1,
            loss: done.loss,
            long_loss: done.long_loss,
            short_loss: done.short_loss,
            rate: done.rate,
            logit_scale: done.logit_scale,
            gradient_norm: done.gradient_norm,
            images_per_second: pairs as f64 / begun.elapsed().as_secs_f64(),
            seconds: self.clock.seconds(),
        }
    }

    fn is_save_due(&self, done: usize) -> bool {
        let since = self.saved.0.elapsed();
        let is_due = match self.parts.args.output.save_every {
            Some(steps) => done.is_multiple_of(steps as usize),
            None => since >= SAVE_AFTER,
        };
        let recipe = &self.parts.recipe;
        is_due || done == recipe.total || recipe.is_milestone(done) && since >= SAVE_LEAST
    }

    /// Saves the state that a failed step left, if it is better than the saved one; returns the
    /// step of the state on disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn keep(&mut self, broken: &Broken) -> Result<Option<usize>> {
        // Before parameters become NaN they grow large, so a saved state is better than the last
        // one.
        let is_better = matches!(broken, Broken::Data(_)) || self.saved.1.is_none();
        if is_better && self.trainer.is_sound() {
            self.save()?;
        }
        Ok(self.saved.1)
    }

    /// Saves the state, unless it is already saved.
    pub(super) fn save(&mut self) -> Result<()> {
        let step = self.trainer.steps_done();
        if self.saved.1 != Some(step) {
            let (epoch, batch) = self.parts.recipe.place(step);
            let at = Position {
                step,
                epoch,
                batch,
                seconds: self.clock.seconds(),
                log: self.log.sync()?,
            };
            self.parts.folder.save(&self.trainer.state()?, at)?;
        }
        self.saved = (Instant::now(), Some(step));
        Ok(())
    }

    /// Evaluates the model, unless the log already has figures for this step, and writes the page.
    fn evaluate(&mut self) -> Result<()> {
        let step = self.trainer.steps_done();
        let (epoch, batch) = self.parts.recipe.place(step);
        if batch != 0 && step != self.parts.recipe.total {
            return Ok(());
        }
        let known = self.log.evaluations().any(|known| known.step == step);
        if !known && !self.parts.evaluations.is_empty() {
            let now = self.model()?;
            let parts = &self.parts;
            let figures = parts.evaluations.run(&now, &parts.stop)?;
            let Some(eval) = figures else { return Ok(()) };
            for one in &eval {
                parts.console.note(&super::result::figures_line(step, one));
            }
            self.log
                .add(LogLine::Evaluation(Evaluation { step, epoch, eval }))?;
        }
        if step > 0 {
            self.draw()?;
        }
        Ok(())
    }

    /// Writes the current page.
    pub(super) fn draw(&self) -> Result<()> {
        self.parts.page.write(&self.log, self.seconds())
    }
}

/// The error that ended the steps early.
pub(super) enum Broken {
    /// Reading images.
    Data(anyhow::Error),
    /// The step itself.
    Step(anyhow::Error),
    /// Writing files.
    Writing(anyhow::Error),
}

impl Broken {
    pub(super) fn error(&self) -> &anyhow::Error {
        match self {
            Self::Data(error) | Self::Step(error) | Self::Writing(error) => error,
        }
    }
}

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
