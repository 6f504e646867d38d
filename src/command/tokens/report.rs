//! The tokens of a text, and their output: JSON, or a table with each text, how it fits, and its
//! pieces with their ids.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Result;
use serde::Serialize;

use crate::input::text::{changes, clean};
use crate::input::text_file::NotText;
use crate::input::tokenizer::{END_OF_TEXT, LongText, encode, fit, piece};
use crate::output::json::Objects;
use crate::output::table::{Column, TextTable, bold, painted};
use crate::output::text::{columns, printable};
use crate::output::{Format, Terminal};
use crate::run::results::{print, stdout};

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
pub(super) enum TokenisedText {
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
    pub(super) contexts: Vec<ContextFit>,
}

/// How a text fits a context.
#[derive(Debug, Serialize)]
pub(super) struct ContextFit {
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

impl TokenisedText {
    pub(super) fn new(text: String, contexts: &Contexts) -> Result<Self> {
        let cleaned = clean(&text);
        let ids = encode(&text);
        let end = ids.iter().position(|&id| id == END_OF_TEXT);
        let fits = contexts
            .lengths
            .iter()
            .map(|&length| ContextFit::new(&text, &cleaned, length))
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

impl ContextFit {
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
pub(super) struct TokensWriter {
    format: Format,
    terminal: Terminal,
    objects: Objects,
    is_empty: bool,
}

impl TokensWriter {
    pub(super) fn new(format: Format, terminal: Terminal) -> Self {
        Self {
            format,
            terminal,
            objects: Objects::new(format),
            is_empty: true,
        }
    }

    pub(super) fn write(&mut self, entry: &TokenisedText) -> Result<()> {
        let is_first = std::mem::replace(&mut self.is_empty, false);
        let bytes = match self.format {
            Format::Table => {
                let before = if is_first { "" } else { "\n" };
                (before.to_owned() + &block(entry, self.terminal)).into_bytes()
            }
            _ => self.objects.next(entry)?,
        };
        let mut stdout = stdout(self.format);
        stdout.write_all(&bytes)?;
        Ok(stdout.flush()?)
    }

    pub(super) fn finish(self) -> Result<()> {
        match self.format {
            Format::Table => Ok(()),
            _ => Ok(print(self.objects.end())?),
        }
    }
}

/// Characters of a text quoted on each side of a cut.
const QUOTED_CHARS: usize = 40;
/// The width of the first column.
const NAME_COLUMNS: usize = 9;
/// The minimum width of a line of pieces, however narrow the terminal is.
const LEAST_COLUMNS: usize = 20;

/// The lines of one text.
fn block(entry: &TokenisedText, terminal: Terminal) -> String {
    let mut table = TextTable::new([Column::LEFT.at_least(NAME_COLUMNS), Column::LEFT]);
    let text = match entry {
        TokenisedText::Shown(shown) => {
            add_facts(&mut table, shown);
            add_pieces(&mut table, shown, terminal.width);
            &shown.text
        }
        TokenisedText::Failed { text, error } => {
            table.row(["  error", error]);
            text
        }
    };
    let heading = painted(&printable(&quoted(text)), bold(), terminal.colour);
    format!("{heading}\n{}", table.plain())
}

fn add_facts(table: &mut TextTable<2>, shown: &Shown) {
    if !shown.changes.is_empty() {
        let cleaned = format!("{}  ({})", quoted(&shown.cleaned), shown.changes.join(", "));
        table.row(["  cleaned", &cleaned]);
    }
    let mut tokens = shown.tokens.to_string();
    if shown.read_tokens < shown.tokens {
        let _ = write!(
            tokens,
            ", only {} are read, since the text itself contains an end of text",
            shown.read_tokens
        );
    }
    table.row(["  tokens", &tokens]);
    for fit in &shown.contexts {
        let model = shown.model.as_ref().map(|model| format!(" ({model})"));
        let verdict = verdict(fit, shown.tokens) + &model.unwrap_or_default();
        table.row([&format!("  of {}", fit.context_length), &verdict]);
    }
}

fn verdict(fit: &ContextFit, tokens: usize) -> String {
    match &fit.cut {
        None => format!("fits, {} left", fit.context_length.saturating_sub(tokens)),
        Some(cut) => format!(
            "does not fit: {} too many; cut between {} and {}",
            cut.tokens,
            quoted(&last(&cut.kept)),
            quoted(&first(&cut.lost)),
        ),
    }
}

/// Adds pieces with their ids below, as many per line as fit.
fn add_pieces(table: &mut TextTable<2>, shown: &Shown, width: usize) {
    let room = width.saturating_sub(NAME_COLUMNS + 2).max(LEAST_COLUMNS);
    let (mut upper, mut lower) = (String::new(), String::new());
    for (piece, id) in shown.pieces.iter().zip(&shown.ids) {
        let (piece, id) = (printable(piece), id.to_string());
        let width = columns(&piece).max(id.len());
        if !upper.is_empty() && columns(&upper) + width > room {
            table.row(["  pieces", upper.trim_end()]);
            table.row(["  ids", lower.trim_end()]);
            (upper, lower) = (String::new(), String::new());
        }
        for (line, cell) in [(&mut upper, piece), (&mut lower, id)] {
            line.push_str(&cell);
            line.push_str(&" ".repeat(width + 2 - columns(&cell)));
        }
    }
    table.row(["  pieces", upper.trim_end()]);
    table.row(["  ids", lower.trim_end()]);
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// The end of a text, quoted.
fn last(text: &str) -> String {
    let skipped = text.chars().count().saturating_sub(QUOTED_CHARS);
    let mut end: String = text.chars().skip(skipped).collect();
    if skipped > 0 {
        end.insert(0, '…');
    }
    end
}

/// The beginning of a text, quoted.
fn first(text: &str) -> String {
    let mut start: String = text.chars().take(QUOTED_CHARS).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str, lengths: &[usize], width: usize) -> String {
        let contexts = Contexts::without_model(lengths.to_vec());
        let entry = TokenisedText::new(text.to_owned(), &contexts).unwrap();
        let terminal = Terminal {
            width,
            ..Terminal::PLAIN
        };
        block(&entry, terminal)
    }

    #[test]
    fn a_table_shows_how_a_text_was_tokenised() {
        let expected = "\
\"A photo of  a CAT\\n\"
  cleaned  \"a photo of a cat\"  (whitespace, case)
  tokens   7
  of 4     does not fit: 3 too many; cut between \"a photo\" and \"of a cat\"
  of 77    fits, 70 left
  pieces   <|startoftext|>  a</w>  photo</w>
  ids      49406            320    1125
  pieces   of</w>  a</w>  cat</w>  <|endoftext|>
  ids      539     320    2368     49407
";
        assert_eq!(table("A photo of  a CAT\n", &[4, 77], 50), expected);
    }

    #[test]
    fn an_end_of_text_inside_is_reported() {
        let table = table("a <|endoftext|> b", &[77], 200);
        let expected = "  tokens   5, only 3 are read, since the text itself contains an end of \
            text\n";
        assert!(table.contains(expected), "{table}");
    }

    #[test]
    fn no_line_of_pieces_is_wider_than_the_terminal() {
        let text = "an antidisestablishmentarian 猫 with 👍🏽 emoji ".repeat(5);
        for width in 40..100 {
            let table = table(&text, &[248], width);
            let lines = table.lines().filter(|line| line.starts_with("  pieces"));
            let widest = lines.map(columns).max().unwrap();
            assert!(widest <= width, "{width}: {table}");
        }
    }
}
