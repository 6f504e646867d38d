//! What there is to know of a text, and the writing of it.

use std::io::{Stdout, Write as _};

use anyhow::Result;
use serde::Serialize;

use super::TokensFormat;
use super::table::{self, Style};
use crate::input::text::{changes, clean};
use crate::input::text_file::NotText;
use crate::input::tokenizer::{END_OF_TEXT, LongText, encode, fit, piece};

/// The contexts that texts are held against.
pub(super) struct Contexts {
    /// Whose context it is.
    pub(super) model: Option<String>,
    /// How many tokens a text may have, start and end included.
    pub(super) lengths: Vec<usize>,
}

impl Contexts {
    pub(super) fn of_nobody(lengths: Vec<usize>) -> Self {
        Self {
            model: None,
            lengths,
        }
    }
}

/// One text. The names are a contract: scripts read them.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Entry {
    /// It was cut into tokens.
    Shown(Box<Shown>),
    /// It is no text.
    Failed {
        /// As far as it can be shown.
        text: String,
        error: String,
    },
}

#[derive(Debug, Serialize)]
pub(super) struct Shown {
    /// As typed.
    pub(super) text: String,
    /// What is cut into tokens.
    pub(super) cleaned: String,
    /// The kinds of change from the one to the other.
    pub(super) changes: Vec<&'static str>,
    /// All, start and end included.
    pub(super) tokens: usize,
    /// Up to the first end of text: fewer than all if the text itself holds one.
    pub(super) read_tokens: usize,
    pub(super) ids: Vec<u32>,
    pub(super) pieces: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<String>,
    pub(super) contexts: Vec<Fit>,
}

/// A text and a context.
#[derive(Debug, Serialize)]
pub(super) struct Fit {
    pub(super) context_length: usize,
    pub(super) fits: bool,
    /// What `--long-text truncate` would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cut: Option<Cut>,
}

#[derive(Debug, Serialize)]
pub(super) struct Cut {
    /// How many tokens are too many.
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

/// Writes entries to stdout, each as soon as it is known.
pub(super) struct Report {
    format: TokensFormat,
    style: Style,
    stdout: Stdout,
    written: u64,
}

impl Report {
    pub(super) fn new(format: TokensFormat, style: Style) -> Self {
        Self {
            format,
            style,
            stdout: std::io::stdout(),
            written: 0,
        }
    }

    pub(super) fn write(&mut self, entry: &Entry) -> Result<()> {
        let first = self.written == 0;
        let text = match self.format {
            TokensFormat::Jsonl => serde_json::to_string(entry)? + "\n",
            TokensFormat::Json => {
                let before = if first { "[\n" } else { ",\n" };
                before.to_owned() + &serde_json::to_string(entry)?
            }
            TokensFormat::Table => {
                let before = if first { "" } else { "\n" };
                before.to_owned() + &table::block(entry, &self.style)
            }
        };
        self.written += 1;
        self.print(&text)
    }

    pub(super) fn finish(mut self) -> Result<()> {
        match (self.format, self.written) {
            (TokensFormat::Json, 0) => self.print("[]\n"),
            (TokensFormat::Json, _) => self.print("\n]\n"),
            _ => Ok(()),
        }
    }

    fn print(&mut self, text: &str) -> Result<()> {
        let mut stdout = self.stdout.lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
        Ok(())
    }
}
