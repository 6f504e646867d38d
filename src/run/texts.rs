//! Fits texts into a model's context, with warnings that all commands share.

use std::path::Path;

use anyhow::{Result, anyhow, ensure};

use super::Console;
use super::session::Session;
use crate::input::text_file::{LONGEST_LINE, Lines, LoneReturn};
use crate::input::tokenizer::{Fitted, LongText, Reading};
use crate::input::{text_file, tokenizer};

/// Warnings about individual long texts; further ones are only counted.
const MOST_WARNINGS: usize = 10;
/// Characters of a text, and of the part that was cut, quoted in a warning.
const QUOTED_CHARS: usize = 40;
const QUOTED_CUT_CHARS: usize = 60;

/// Fits texts into a model's context and warns of what was cut or split.
pub(crate) struct Fitter<'a> {
    context_length: usize,
    policy: LongText,
    /// `None` prints nothing.
    console: Option<&'a Console>,
    long: usize,
}

impl<'a> Fitter<'a> {
    pub(crate) fn new(session: &Session, policy: LongText, console: &'a Console) -> Self {
        Self {
            context_length: session.checkpoint.architecture.context_length,
            policy,
            console: Some(console),
            long: 0,
        }
    }

    /// Without warnings, for texts that are meant to be cut.
    pub(crate) fn silent(context_length: usize, policy: LongText) -> Self {
        Self {
            context_length,
            policy,
            console: None,
            long: 0,
        }
    }

    /// The number of texts that were too long so far.
    pub(crate) fn long(&self) -> usize {
        self.long
    }

    /// Fits one text; `place` names it, as in "label 3" or "line 12".
    ///
    /// # Errors
    /// When it is too long and that is an error, or it cannot be cut as requested. Names the place.
    pub(crate) fn fit(&mut self, place: &str, text: &str) -> Result<Fitted> {
        let fitted = tokenizer::fit(text, self.context_length, self.policy)
            .map_err(|error| anyhow!("{place}: {error:#}"))?;
        if let Some(what) = self.what_it_took(&fitted) {
            self.long += 1;
            if let Some(console) = self.console.filter(|_| self.long <= MOST_WARNINGS) {
                let text = quoted(text, QUOTED_CHARS);
                console.warn(&format!("{place}: {text}: {what}"));
            }
        }
        Ok(fitted)
    }

    /// Call after the last text: reports how many more were too long than individual warnings were
    /// printed.
    pub(crate) fn finish(self) {
        if let (Some(more @ 1..), Some(console)) =
            (self.long.checked_sub(MOST_WARNINGS), self.console)
        {
            console.warn(&format!(
                "{more} more text{} longer than the model's {} tokens",
                if more == 1 { " was" } else { "s were" },
                self.context_length
            ));
        }
    }

    /// What was cut from a text, or how many chunks it is read in; `None` if it fits.
    pub(crate) fn what_it_took(&self, fitted: &Fitted) -> Option<String> {
        let context_length = self.context_length;
        if let Some(cut) = &fitted.cut {
            return Some(format!(
                "cut {} tokens beyond the model's {context_length}: {}",
                cut.tokens,
                quoted(&cut.text, QUOTED_CUT_CHARS),
            ));
        }
        let count = fitted.chunks.len();
        let read = match (fitted.reading, self.policy) {
            _ if count == 1 => return None,
            (Reading::Best, _) => "chunks; each image uses the best one",
            (Reading::Mean, LongText::Slide { .. }) => {
                "overlapping windows, averaged by token \
                count"
            }
            (Reading::Mean, _) => "chunks, averaged by token count",
        };
        Some(format!(
            "longer than the model's {context_length} tokens; read as {count} {read}"
        ))
    }
}

/// The start of a text, in quotes.
pub(crate) fn quoted(text: &str, longest: usize) -> String {
    let start: String = text.chars().take(longest).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("{start:?}{more}")
}

/// Extensions of files with more than one plain text per line.
const NOT_PLAIN: [&str; 8] = [
    "csv", "tsv", "tab", "json", "jsonl", "ndjson", "yaml", "yml",
];

/// The texts of a file, one per line.
///
/// # Errors
/// When it cannot be read, or its extension is that of a structured format.
pub(crate) fn lines(path: &Path) -> Result<Lines> {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    ensure!(
        !NOT_PLAIN.contains(&extension.to_lowercase().as_str()),
        "{} is a .{extension} file, but texts are read one per line, unchanged; write them to a \
         .txt file, or, if each line is a text, pass - with the file as stdin",
        path.display()
    );
    Ok(Lines::new(
        text_file::open(path)?,
        LoneReturn::EndsLine,
        LONGEST_LINE,
    ))
}
