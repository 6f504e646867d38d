//! What a run says to the person who started it, on stderr: notes, warnings, errors, progress.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::checkpoint::hub;
use crate::input::dataset::Remark;
use crate::run::flags::{ColorWhen, ConsoleArgs};

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

    /// What there is to know about a dataset.
    pub fn remarks(&self, remarks: &[Remark]) {
        for remark in remarks {
            match remark {
                Remark::Detail(text) => self.detail(text),
                Remark::Note(text) => self.note(text),
                Remark::Warning(text) => self.warn(text),
            }
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

    /// Asks a question that the person at the terminal answers with y or n; anything but y is no.
    ///
    /// # Errors
    /// When the question cannot be shown or the answer not read.
    pub fn ask(&self, question: &str) -> std::io::Result<bool> {
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
        self.bar
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Shows how many images are done, on a terminal and once it takes long enough to be looked
    /// at. `total` may walk folders, so it runs beside the work.
    pub fn start_progress(&self, total: impl FnOnce() -> Option<u64> + Send + 'static) {
        self.spin("{spinner} {human_pos} images, {speed}/s{msg}", move |bar| {
            if let Some(total) = total() {
                bar.set_length(total);
                bar.set_style(style(
                    "{bar:30} {human_pos}/{human_len} images, {speed}/s, {eta} left{msg}",
                ));
            }
        });
    }

    /// Shows how many pairs of a dataset are looked at, on a terminal and once it takes long enough.
    pub fn start_pairs(&self) {
        self.spin("{spinner} {human_pos} pairs looked at, {speed}/s", |_| ());
    }

    /// So many more pairs are looked at.
    pub fn seen(&self, pairs: u64) {
        if let Some(bar) = &*self.bar() {
            bar.inc(pairs);
        }
    }

    /// A bar that is shown on a terminal after a moment, if it is still there; then `shown` gets it.
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

    /// Shows how many of `total` classifiers are fitted, on a terminal.
    pub fn start_fits(&self, total: u64) {
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

    /// One more image, and how many failed so far.
    pub fn advance(&self, failed: u64) {
        if let Some(bar) = &*self.bar() {
            if failed > 0 {
                bar.set_message(format!(", {failed} failed"));
            }
            bar.inc(1);
        }
    }

    /// Shows how many steps are done, on a terminal; whether it does.
    pub fn start_steps(&self, total: u64, done: u64) -> bool {
        if self.quiet || !std::io::stderr().is_terminal() {
            return false;
        }
        let bar = ProgressBar::new(total).with_position(done);
        self.show(bar, "{bar:30} {pos}/{len} {msg}");
        true
    }

    /// So many steps are done, and what there is to say of the last one.
    pub fn step(&self, done: u64, message: String) {
        if let Some(bar) = &*self.bar() {
            bar.set_message(message);
            bar.set_position(done);
        }
    }

    /// Runs `write` with the bar out of the way, for results that go to the same terminal; it may say
    /// something as well.
    pub fn around<T>(&self, write: impl FnOnce() -> T) -> T {
        // Taken out and not borrowed: whatever is said meanwhile finds no bar, and none is drawn.
        let bar = self.bar().take();
        let result = match &bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        };
        *self.bar() = bar;
        result
    }

    /// Takes the bar away.
    pub fn end_progress(&self) {
        if let Some(bar) = self.bar().take() {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    // Indicatif's own has four places whatever the number is.
    style.with_key(
        "speed",
        |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            // Text takes all that is written.
            let _ = write!(text, "{:.1}", state.per_sec());
        },
    )
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
