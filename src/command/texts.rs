//! Texts that are too long, as the commands that read texts speak of them.

use anyhow::{Result, anyhow};

use super::Console;
use crate::input::tokenizer::{self, Fitted, LongText, Reading};

/// So many long texts are spoken of one by one; the others are counted.
const MOST_WARNINGS: usize = 10;
/// Characters that a warning quotes of a text, and of what was cut.
const QUOTED_CHARS: usize = 40;
const QUOTED_CUT_CHARS: usize = 60;

/// Fits texts into a model's context and says what that took.
pub(super) struct Fitter<'a> {
    context_length: usize,
    policy: LongText,
    /// None: nothing is said.
    console: Option<&'a Console>,
    long: usize,
}

impl<'a> Fitter<'a> {
    pub(super) fn new(context_length: usize, policy: LongText, console: &'a Console) -> Self {
        Self {
            context_length,
            policy,
            console: Some(console),
            long: 0,
        }
    }

    /// For texts that are meant to be cut: says nothing.
    pub(super) fn silent(context_length: usize, policy: LongText) -> Self {
        Self {
            context_length,
            policy,
            console: None,
            long: 0,
        }
    }

    /// How many texts were too long so far.
    pub(super) fn long(&self) -> usize {
        self.long
    }

    /// Fits one text; `place` says which it is, as in "label 3" or "line 12".
    ///
    /// # Errors
    /// When it is too long and that is an error, or cannot be cut as asked; names the place.
    pub(super) fn fit(&mut self, place: &str, text: &str) -> Result<Fitted> {
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

    /// To be called after the last text: says how many more were too long than were spoken of.
    pub(super) fn finish(self) {
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

    /// What was cut of a text, or how many chunks it is read in; none if it fits.
    pub(super) fn what_it_took(&self, fitted: &Fitted) -> Option<String> {
        let context_length = self.context_length;
        if let Some(cut) = &fitted.cut {
            return Some(format!(
                "{} tokens over the model's {context_length} were cut: {}",
                cut.tokens,
                quoted(&cut.text, QUOTED_CUT_CHARS),
            ));
        }
        let count = fitted.chunks.len();
        let read = match (fitted.reading, self.policy) {
            _ if count == 1 => return None,
            (Reading::Best, _) => "chunks, of which each image takes the best",
            (Reading::Mean, LongText::Slide { .. }) => "overlapping windows, averaged by tokens",
            (Reading::Mean, _) => "chunks, averaged by tokens",
        };
        Some(format!(
            "longer than the model's {context_length} tokens; read as {count} {read}"
        ))
    }
}

/// The start of a text, in quotes.
pub(super) fn quoted(text: &str, longest: usize) -> String {
    let start: String = text.chars().take(longest).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("{start:?}{more}")
}
