//! What a run says to the person who started it, on stderr: notes, warnings, errors, progress.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};

use crate::checkpoint::hub;
use crate::cli::{ColorWhen, ConsoleArgs};

/// Speaks on stderr, around the progress bar while there is one.
pub struct Console {
    quiet: bool,
    verbosity: u8,
    color: ColorWhen,
    bar: Mutex<Option<ProgressBar>>,
}

impl Console {
    /// As the flags want it.
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
        }
    }

    /// Whether to colour results, which go to a terminal or elsewhere.
    #[must_use]
    pub fn colors_results(&self, to_terminal: bool) -> bool {
        match self.color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => {
                let choice = anstream::AutoStream::choice(&std::io::stdout());
                to_terminal && choice != anstream::ColorChoice::Never
            }
        }
    }

    /// Something that only `-v` wants to know.
    pub fn detail(&self, message: &str) {
        if self.verbosity > 0 {
            self.say(&AnsiColor::BrightBlack.on_default(), "", message);
        }
    }

    /// Something that everybody should know, unless they asked for quiet.
    pub fn note(&self, message: &str) {
        if !self.quiet {
            self.say(&AnsiColor::Cyan.on_default(), "note: ", message);
        }
    }

    /// Something that may be wrong.
    pub fn warn(&self, message: &str) {
        if !self.quiet {
            self.say(&AnsiColor::Yellow.on_default(), "warning: ", message);
        }
    }

    /// One input failed.
    pub fn failed(&self, input: &str, cause: &str) {
        self.say(&Style::new(), "", &format!("{input}: {cause}"));
    }

    /// The run failed: the error and one line a cause.
    pub fn fatal(&self, error: &anyhow::Error) {
        let style = AnsiColor::Red.on_default().bold();
        self.say(&style, "error: ", &error.to_string());
        for cause in error.chain().skip(1) {
            self.say(&style, "caused by: ", &cause.to_string());
        }
    }

    fn say(&self, style: &Style, prefix: &str, message: &str) {
        let message = printable(message);
        // Nobody is left to be told if stderr is gone.
        let print = || {
            let _ = writeln!(anstream::stderr(), "{style}{prefix}{style:#}{message}");
        };
        match &*self.bar() {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn bar(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Shows a bar for `total` images, or a counter where the total is not known; on a terminal
    /// only.
    pub fn start_progress(&self, total: Option<u64>) {
        if self.quiet || !std::io::stderr().is_terminal() || total.is_some_and(|n| n < 2) {
            return;
        }
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                "{bar:30} {human_pos}/{human_len} images, {per_sec}, {eta} left{msg}",
            ),
            None => (ProgressBar::new_spinner(), "{spinner} {human_pos} images, {per_sec}{msg}"),
        };
        self.show(bar, template);
    }

    fn show(&self, bar: ProgressBar, template: &str) {
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        *self.bar() = Some(bar);
    }

    /// One more image, and how many failed so far.
    pub fn advance(&self, failed: u64) {
        if let Some(bar) = &*self.bar() {
            if failed > 0 {
                bar.set_message(format!(", {failed} failed"));
            }
            bar.inc(1);
        }
    }

    /// Runs `write` with the bar out of the way, for results that go to the same terminal.
    pub fn around<T>(&self, write: impl FnOnce() -> T) -> T {
        match &*self.bar() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the bar away.
    pub fn end_progress(&self) {
        if let Some(bar) = self.bar().take() {
            bar.finish_and_clear();
        }
    }
}

/// Without characters that a terminal would act on: names of files are anybody's.
fn printable(message: &str) -> String {
    message
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
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
        bar.set_message(file.to_owned());
        self.show(bar, "{msg} {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left");
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
