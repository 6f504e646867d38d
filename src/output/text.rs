//! Text for a terminal: free of control sequences, measured in columns.

use std::io::{self, Write};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// `text` without anything that could control the terminal, reorder what follows or make two texts
/// look the same: such characters are written as escapes (`\n`, `\u{1b}`). For tables, for messages
/// on stderr, and, by `Escaping`, for all other text that goes to a terminal.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_printable(character) {
            shown.push(character);
        } else {
            shown.extend(character.escape_default());
        }
    }
    shown
}

/// False for control characters, separators of lines, what turns the direction of text, and what is
/// invisible without a use in any script. Joiners are needed in emoji, Persian and Hindi.
pub(super) fn is_printable(character: char) -> bool {
    let turns_text = matches!(
        character,
        '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    let is_invisible = matches!(
        character,
        '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{206a}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
    );
    !character.is_control() && !turns_text && !is_invisible
}

/// A terminal for text that is not ours: whatever is written arrives as [`printable`] has it, but
/// for the ends of lines and tabs. Bytes that are not text arrive as `\xff`. Each write must hold
/// whole characters, as a line or a record does.
pub(crate) struct Escaping<W>(pub(crate) W);

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut shown = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            for piece in chunk.valid().split_inclusive(['\n', '\t']) {
                let end = piece.len() - usize::from(piece.ends_with(['\n', '\t']));
                shown.push_str(&printable(&piece[..end]));
                shown.push_str(&piece[end..]);
            }
            for byte in chunk.invalid() {
                shown.extend(std::ascii::escape_default(*byte).map(char::from));
            }
        }
        self.0.write_all(shown.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Width of `text` in columns.
pub fn columns(text: &str) -> usize {
    text.width()
}

/// `text` in at most `limit` columns, truncated with an ellipsis if needed.
pub(super) fn shortened(text: &str, limit: usize) -> String {
    if columns(text) <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub(1);
    let mut used = 0;
    let fitting = text.chars().take_while(|character| {
        used += character.width().unwrap_or(0);
        used <= room
    });
    let kept: String = fitting.collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_controls_the_terminal() {
        let cases = [
            ("a b é 猫 🐈.jpg", "a b é 猫 🐈.jpg"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}"),
            ("a\u{202e}gpj.exe\u{2066}", "a\\u{202e}gpj.exe\\u{2066}"),
            ("a\u{2028}b", "a\\u{2028}b"),
            ("a\u{200b}b\u{feff}\u{61c}", "a\\u{200b}b\\u{feff}\\u{61c}"),
            (
                "👨\u{200d}👩 می\u{200c}خواهم",
                "👨\u{200d}👩 می\u{200c}خواهم",
            ),
            ("קטלוג", "קטלוג"),
        ];
        for (text, expected) in cases {
            assert_eq!(printable(text), expected);
        }
    }

    #[test]
    fn lines_stay_lines_and_all_else_is_escaped_on_a_terminal() {
        let cases: [(&[u8], &str); 3] = [
            (b"a\tb\n\nc\r\n", "a\tb\n\nc\\r\n"),
            ("é\u{1b}[5m\u{202e}\n".as_bytes(), "é\\u{1b}[5m\\u{202e}\n"),
            (b"caf\xe9\x9b5m\0", "caf\\xe9\\x9b5m\\u{0}"),
        ];
        for (bytes, expected) in cases {
            let mut terminal = Escaping(Vec::new());
            terminal.write_all(bytes).unwrap();
            assert_eq!(String::from_utf8(terminal.0).unwrap(), expected);
        }
    }

    #[test]
    fn long_texts_end_in_an_ellipsis() {
        let cases = [
            ("a cat", 5, "a cat"),
            ("a cat", 4, "a c…"),
            ("a cat", 3, "a…"),
            ("猫猫猫", 6, "猫猫猫"),
            ("猫猫猫", 5, "猫猫…"),
            ("猫猫猫", 4, "猫…"),
            ("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}…"),
        ];
        for (text, limit, expected) in cases {
            let short = shortened(text, limit);
            assert_eq!(short, expected);
            assert!(columns(&short) <= limit);
        }
    }
}
