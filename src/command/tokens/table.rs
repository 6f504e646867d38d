//! The table of `longclip tokens`: each text, how it fits, and its pieces with their ids.

use std::fmt::Write as _;

use super::report::{Entry, Fit, Shown};
use crate::output::text::{columns, printable};

/// Characters of a text quoted on each side of a cut.
const QUOTED_CHARS: usize = 40;
/// The width of the first column.
const MARGIN: usize = 11;
/// The minimum width, however narrow the terminal is.
const LEAST_COLUMNS: usize = 20;

/// The layout of the table.
pub(super) struct Style {
    /// The width in columns.
    pub(super) width: usize,
    pub(super) colour: bool,
}

/// The lines of one text.
pub(super) fn block(entry: &Entry, style: &Style) -> String {
    match entry {
        Entry::Shown(shown) => shown_block(shown, style),
        Entry::Failed { text, error } => heading(text, style) + &row("error", &printable(error)),
    }
}

fn shown_block(shown: &Shown, style: &Style) -> String {
    let mut block = heading(&shown.text, style);
    if !shown.changes.is_empty() {
        let cleaned = format!("{}  ({})", quoted(&shown.cleaned), shown.changes.join(", "));
        block += &row("cleaned", &cleaned);
    }
    let mut tokens = shown.tokens.to_string();
    if shown.read_tokens < shown.tokens {
        let _ = write!(
            tokens,
            ", only {} are read, since the text itself contains an end of text",
            shown.read_tokens
        );
    }
    block += &row("tokens", &tokens);
    for fit in &shown.contexts {
        let whose = shown.model.as_ref().map(|model| format!(" ({model})"));
        let name = format!("of {}", fit.context_length);
        let verdict = verdict(fit, shown.tokens);
        block += &row(&name, &(verdict + &printable(&whose.unwrap_or_default())));
    }
    block + &pieces(shown, style)
}

fn verdict(fit: &Fit, tokens: usize) -> String {
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

/// Pieces with their ids below, as many per line as fit.
fn pieces(shown: &Shown, style: &Style) -> String {
    let room = style.width.saturating_sub(MARGIN).max(LEAST_COLUMNS);
    let mut block = String::new();
    let (mut upper, mut lower) = (String::new(), String::new());
    for (piece, id) in shown.pieces.iter().zip(&shown.ids) {
        let (piece, id) = (printable(piece), id.to_string());
        let width = columns(&piece).max(id.len());
        if !upper.is_empty() && columns(&upper) + width > room {
            block += &row("pieces", upper.trim_end());
            block += &row("ids", lower.trim_end());
            (upper, lower) = (String::new(), String::new());
        }
        for (line, cell) in [(&mut upper, piece), (&mut lower, id)] {
            line.push_str(&cell);
            line.push_str(&" ".repeat(width + 2 - columns(&cell)));
        }
    }
    block += &row("pieces", upper.trim_end());
    block + &row("ids", lower.trim_end())
}

fn heading(text: &str, style: &Style) -> String {
    let text = quoted(text);
    if !style.colour {
        return text + "\n";
    }
    let bold = anstyle::Style::new().bold();
    format!("{bold}{text}{bold:#}\n")
}

fn row(name: &str, value: &str) -> String {
    let name = format!("  {name}");
    format!("{name:MARGIN$}{value}\n")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", printable(text))
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
    use super::super::report::Contexts;
    use super::*;

    fn table(text: &str, lengths: &[usize], width: usize) -> String {
        let contexts = Contexts::without_model(lengths.to_vec());
        let entry = Entry::new(text.to_owned(), &contexts).unwrap();
        let style = Style {
            width,
            colour: false,
        };
        block(&entry, &style)
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
