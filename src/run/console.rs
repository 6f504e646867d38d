//! Messages on stderr: notes, warnings, errors and progress.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::checkpoint::hub;
use crate::input::dataset::Remark;
use crate::output::text::printable;
use crate::run::flags::{ColorWhen, ConsoleArgs};

/// Writes messages to stderr, above the progress bar if there is one.
pub struct Console {
    quiet: bool,
    verbosity: u8,
    color: ColorWhen,
    bar: Mutex<Option<ProgressBar>>,
    begun: Instant,
}

impl Console {
    /// Configured by the flags.
    #[must_use]
    pub fn new(args: &ConsoleArgs) -> Self {
        let choice = match args.color {
            ColorWhen::Auto => anstream::ColorChoice::Auto,
            ColorWhen::Always => anstream::ColorChoice::Always,
            ColorWhen::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
        Self {
            quiet: args.quiet,
            verbosity: args.verbose,
            color: args.color,
            bar: Mutex::new(None),
            begun: Instant::now(),
        }
    }

    /// Prints nothing but failures, for tests.
    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        Self {
            quiet: true,
            verbosity: 0,
            color: ColorWhen::Never,
            bar: Mutex::new(None),
            begun: Instant::now(),
        }
    }

    /// Whether to colour results, given whether they go to a terminal.
    #[must_use]
    pub(crate) fn colors_results(&self, to_terminal: bool) -> bool {
        match self.color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => {
                let choice = anstream::AutoStream::choice(&std::io::stdout());
                to_terminal && choice != anstream::ColorChoice::Never
            }
        }
    }

    /// Prints a message only with `-v`.
    pub(crate) fn detail(&self, message: &str) {
        if self.verbosity > 0 {
            self.say(&AnsiColor::BrightBlack.on_default(), "", message);
        }
    }

    /// Prints a note, unless `--quiet`.
    pub fn note(&self, message: &str) {
        if !self.quiet {
            self.say(&AnsiColor::Cyan.on_default(), "note: ", message);
        }
    }

    /// Prints a warning, unless `--quiet`.
    pub(crate) fn warn(&self, message: &str) {
        if !self.quiet {
            self.say(&AnsiColor::Yellow.on_default(), "warning: ", message);
        }
    }

    /// Prints the notes and warnings of a dataset.
    pub(crate) fn remarks(&self, remarks: &[Remark]) {
        for remark in remarks {
            match remark {
                Remark::Detail(text) => self.detail(text),
                Remark::Note(text) => self.note(text),
                Remark::Warning(text) => self.warn(text),
            }
        }
    }

    /// Reports an input that failed.
    pub fn failed(&self, input: &str, cause: &str) {
        self.say(&Style::new(), "", &format!("{input}: {cause}"));
    }

    /// Reports that the run failed: the error, and one line per cause.
    pub fn fatal(&self, error: &anyhow::Error) {
        let style = AnsiColor::Red.on_default().bold();
        self.say(&style, "error: ", &error.to_string());
        for cause in error.chain().skip(1) {
            self.say(&style, "caused by: ", &cause.to_string());
        }
    }

    /// Asks a yes-or-no question on the terminal; anything but y or yes is no.
    ///
    /// # Errors
    /// When the question cannot be shown or the answer not read.
    pub(crate) fn ask(&self, question: &str) -> std::io::Result<bool> {
        let mut stderr = anstream::stderr();
        write!(stderr, "{} [y/N] ", printable(question))?;
        stderr.flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        let answer = answer.trim().to_lowercase();
        Ok(["y", "yes"].contains(&answer.as_str()))
    }

    fn say(&self, style: &Style, prefix: &str, message: &str) {
        let message = printable(message);
        // If stderr is gone, there is nowhere to report it.
        let print = || {
            let _ = writeln!(anstream::stderr(), "{style}{prefix}{style:#}{message}");
        };
        match &*self.bar() {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn bar(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.bar
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Shows how many images are done, on a terminal and after a short delay. `total` may walk
    /// folders, so it runs in a thread of its own.
    pub(crate) fn start_progress(&self, total: impl FnOnce() -> Option<u64> + Send + 'static) {
        self.spin("{spinner} {human_pos} images, {speed}/s{msg}", move |bar| {
            if let Some(total) = total() {
                bar.set_length(total);
                bar.set_style(style(
                    "{bar:30} {human_pos}/{human_len} images, {speed}/s, {eta} left{msg}",
                ));
            }
        });
    }

    /// Shows how many pairs of a dataset were checked, on a terminal and after a short delay.
    pub(crate) fn start_pairs(&self) {
        self.spin("{spinner} {human_pos} pairs checked, {speed}/s", |_| ());
    }

    /// Counts more checked pairs.
    pub fn seen(&self, pairs: u64) {
        if let Some(bar) = &*self.bar() {
            bar.inc(pairs);
        }
    }

    /// Shows a bar on a terminal after a short delay, unless it has ended; then calls `shown` with
    /// it.
    fn spin(&self, template: &str, shown: impl FnOnce(&ProgressBar) + Send + 'static) {
        if self.quiet || !std::io::stderr().is_terminal() {
            return;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(style(template));
        *self.bar() = Some(bar.clone());
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            if bar.is_finished() {
                return;
            }
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(200));
            shown(&bar);
        });
    }

    /// Shows how many of `total` classifiers were fitted, on a terminal.
    pub(crate) fn start_fits(&self, total: u64) {
        if !self.quiet && std::io::stderr().is_terminal() {
            let template = "{bar:30} {human_pos}/{human_len} fits, {eta} left";
            self.show(ProgressBar::new(total), template);
        }
    }

    fn show(&self, bar: ProgressBar, template: &str) {
        bar.set_style(style(template));
        bar.enable_steady_tick(Duration::from_millis(200));
        *self.bar() = Some(bar);
    }

    /// Counts one more image; `failed` is the number of failures so far.
    pub fn advance(&self, failed: u64) {
        if let Some(bar) = &*self.bar() {
            if failed > 0 {
                bar.set_message(format!(", {failed} failed"));
            }
            bar.inc(1);
        }
    }

    /// Shows how many steps are done, if on a terminal; returns whether it does.
    pub(crate) fn start_steps(&self, total: u64, done: u64) -> bool {
        if self.quiet || !std::io::stderr().is_terminal() {
            return false;
        }
        let bar = ProgressBar::new(total).with_position(done);
        self.show(bar, "{bar:30} {pos}/{len} {msg}");
        true
    }

    /// Updates the number of steps done and the message of the last one.
    pub fn step(&self, done: u64, message: String) {
        if let Some(bar) = &*self.bar() {
            bar.set_message(message);
            bar.set_position(done);
        }
    }

    /// Runs `write` with the bar hidden, for results that go to the same terminal; `write` may
    /// print messages too.
    pub fn around<T>(&self, write: impl FnOnce() -> T) -> T {
        // Taken out rather than borrowed, so that messages printed meanwhile do not draw the bar.
        let bar = self.bar().take();
        let result = match &bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        };
        *self.bar() = bar;
        result
    }

    /// Says on a terminal how many images there were, how many of them failed, and how long the
    /// run took.
    pub(crate) fn closing(&self, images: u64, failed: u64) {
        if !self.quiet && std::io::stderr().is_terminal() {
            let line = closing_line(images, failed, self.begun.elapsed());
            self.say(&Style::new(), "", &line);
        }
    }

    /// Removes the bar.
    pub(crate) fn end_progress(&self) {
        if let Some(bar) = self.bar().take() {
            bar.finish_and_clear();
        }
    }
}

/// `400 images, 1 failed, 1.6 s`.
fn closing_line(images: u64, failed: u64, time: Duration) -> String {
    let failed = match failed {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    let time = match time.as_secs() {
        0..100 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    };
    format!("{}{failed}, {time}", counted(images, "image"))
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    // Indicatif's own always has four decimals.
    style.with_key(
        "speed",
        |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            // Writing to a string does not fail.
            let _ = write!(text, "{:.1}", state.per_sec());
        },
    )
}

impl hub::Progress for Console {
    fn start(&self, file: &str, bytes: u64, have: u64) {
        if self.quiet {
            return;
        }
        if !std::io::stderr().is_terminal() {
            self.note(&format!("downloading {file} ({} MB)", bytes / 1_000_000));
            return;
        }
        let bar = ProgressBar::new(bytes).with_position(have);
        bar.set_message(printable(file));
        self.show(
            bar,
            "{msg} {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
        );
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = &*self.bar() {
            bar.inc(bytes);
        }
    }

    fn finish(&self) {
        self.end_progress();
    }

    fn note(&self, message: &str) {
        Self::note(self, message);
    }
}

/// A number of things, for people: `1 image`, `2 images`.
pub(crate) fn counted(count: u64, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_coloured_as_asked() {
        let cases = [
            (ColorWhen::Always, false, true),
            (ColorWhen::Never, true, false),
            (ColorWhen::Auto, false, false),
        ];
        for (color, to_terminal, expected) in cases {
            let console = Console {
                color,
                ..Console::silent()
            };
            let found = console.colors_results(to_terminal);
            assert_eq!(found, expected, "{color:?}, {to_terminal}");
        }
    }

    #[test]
    fn the_bar_counts_and_is_away_while_results_are_written() {
        let console = Console::silent();
        *console.bar() = Some(ProgressBar::hidden());
        console.advance(0);
        assert!(console.around(|| console.bar().is_none()));
        console.advance(3);
        let bar = console.bar().clone().unwrap();
        assert_eq!((bar.position(), &*bar.message()), (2, ", 3 failed"));
        console.end_progress();
        assert!(console.bar().is_none() && bar.is_finished());
    }

    #[test]
    fn the_closing_line_counts_images_and_time() {
        for (images, failed, millis, expected) in [
            (400, 1, 1600, "400 images, 1 failed, 1.6 s"),
            (1, 0, 40, "1 image, 0.0 s"),
            (2, 0, 125_000, "2 images, 2 min 5 s"),
        ] {
            let time = Duration::from_millis(millis);
            assert_eq!(closing_line(images, failed, time), expected);
        }
    }

    #[test]
    fn things_are_counted_in_words() {
        for (count, expected) in [(0, "0 images"), (1, "1 image"), (2, "2 images")] {
            assert_eq!(counted(count, "image"), expected);
        }
    }
}
