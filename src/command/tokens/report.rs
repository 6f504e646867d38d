//! The tokens of a text, and their output.

use anyhow::Result;
use serde::Serialize;

use super::table;
use crate::input::text::{changes, clean};
use crate::input::text_file::NotText;
use crate::input::tokenizer::{END_OF_TEXT, LongText, encode, fit, piece};
use crate::output::json::Objects;
use crate::output::{Format, Terminal};
use crate::run::results::print;

/// The contexts that texts are checked against.
pub(super) struct Contexts {
    /// The model of the context, if any.
    pub(super) model: Option<String>,
    /// The context lengths, in tokens including start and end.
    pub(super) lengths: Vec<usize>,
}

impl Contexts {
    pub(super) fn without_model(lengths: Vec<usize>) -> Self {
        Self {
            model: None,
            lengths,
        }
    }
}

/// One text. The field names are stable, since scripts read them.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Entry {
    /// A text that was tokenised.
    Shown(Box<Shown>),
    /// A line that is not text.
    Failed {
        /// The line, as far as it can be shown.
        text: String,
        error: String,
    },
}

#[derive(Debug, Serialize)]
pub(super) struct Shown {
    /// The text as given.
    pub(super) text: String,
    /// The cleaned text, which is tokenised.
    pub(super) cleaned: String,
    /// The kinds of changes made by cleaning.
    pub(super) changes: Vec<&'static str>,
    /// The number of tokens, including start and end.
    pub(super) tokens: usize,
    /// Tokens up to the first end of text; fewer if the text itself contains one.
    pub(super) read_tokens: usize,
    pub(super) ids: Vec<u32>,
    pub(super) pieces: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<String>,
    pub(super) contexts: Vec<Fit>,
}

/// How a text fits a context.
#[derive(Debug, Serialize)]
pub(super) struct Fit {
    pub(super) context_length: usize,
    pub(super) fits: bool,
    /// The effect of `--long-text truncate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cut: Option<Cut>,
}

#[derive(Debug, Serialize)]
pub(super) struct Cut {
    /// The number of excess tokens.
    pub(super) tokens: usize,
    /// The cleaned text before the cut.
    pub(super) kept: String,
    /// The cleaned text after it.
    pub(super) lost: String,
}

impl Entry {
    pub(super) fn new(text: String, contexts: &Contexts) -> Result<Self> {
        let cleaned = clean(&text);
        let ids = encode(&text);
        let end = ids.iter().position(|&id| id == END_OF_TEXT);
        let fits = contexts
            .lengths
            .iter()
            .map(|&length| Fit::new(&text, &cleaned, length))
            .collect::<Result<_>>()?;
        Ok(Self::Shown(Box::new(Shown {
            changes: changes(&text).into_iter().map(|kind| kind.name()).collect(),
            tokens: ids.len(),
            read_tokens: end.map_or(ids.len(), |end| end + 1),
            pieces: ids.iter().map(|&id| piece(id)).collect(),
            ids,
            model: contexts.model.clone(),
            contexts: fits,
            cleaned,
            text,
        })))
    }

    pub(super) fn failed(line: NotText) -> Self {
        Self::Failed {
            text: line.start,
            error: line.cause,
        }
    }
}

impl Fit {
    fn new(text: &str, cleaned: &str, context_length: usize) -> Result<Self> {
        let cut = fit(text, context_length, LongText::Truncate)?.cut;
        Ok(Self {
            context_length,
            fits: cut.is_none(),
            cut: cut.map(|cut| Cut {
                tokens: cut.tokens,
                kept: cleaned
                    .strip_suffix(cut.text.as_str())
                    .unwrap_or(cleaned)
                    .trim_end()
                    .to_owned(),
                lost: cut.text,
            }),
        })
    }
}

/// Writes texts to stdout as soon as they are ready.
pub(super) struct Report {
    format: Format,
    terminal: Terminal,
    objects: Objects,
    is_empty: bool,
}

impl Report {
    pub(super) fn new(format: Format, terminal: Terminal) -> Self {
        Self {
            format,
            terminal,
            objects: Objects::new(format),
            is_empty: true,
        }
    }

    pub(super) fn write(&mut self, entry: &Entry) -> Result<()> {
        let is_first = std::mem::replace(&mut self.is_empty, false);
        let bytes = match self.format {
            Format::Table => {
                let before = if is_first { "" } else { "\n" };
                (before.to_owned() + &table::block(entry, self.terminal)).into_bytes()
            }
            _ => self.objects.next(entry)?,
        };
        Ok(print(&bytes)?)
    }

    pub(super) fn finish(self) -> Result<()> {
        match self.format {
            Format::Table => Ok(()),
            _ => Ok(print(self.objects.end())?),
        }
    }
}
