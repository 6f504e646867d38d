//! Text for a terminal: free of control sequences, measured in columns.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::Characters;

/// `text` without anything that could control the terminal or reorder what follows: control
/// characters, line separators and bidirectional overrides are written as escapes (`\n`, `\u{1b}`).
/// For tables and for messages on stderr.
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

fn is_printable(character: char) -> bool {
    let turns_text = matches!(
        character,
        '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    !character.is_control() && !turns_text
}

/// Width of `text` in columns.
pub fn columns(text: &str) -> usize {
    text.width()
}

/// `text` in exactly `width` columns, padded with spaces or truncated with an ellipsis.
pub fn padded(text: &str, width: usize) -> String {
    let shown = shortened(text, width, Characters::Unicode);
    let blanks = width.saturating_sub(columns(&shown));
    shown + &" ".repeat(blanks)
}

/// `text` in at most `limit` columns, truncated with an ellipsis if needed.
pub(super) fn shortened(text: &str, limit: usize, characters: Characters) -> String {
    if columns(text) <= limit {
        return text.to_owned();
    }
    let ellipsis = match characters {
        Characters::Unicode => "…",
        Characters::Ascii => "...",
    };
    let room = limit.saturating_sub(columns(ellipsis));
    let mut used = 0;
    let fitting = text.chars().take_while(|character| {
        used += character.width().unwrap_or(0);
        used <= room
    });
    let kept: String = fitting.collect();
    format!("{}{ellipsis}", kept.trim_end())
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
            ("קטלוג", "קטלוג"),
        ];
        for (text, expected) in cases {
            assert_eq!(printable(text), expected);
        }
    }

    #[test]
    fn long_texts_end_in_an_ellipsis() {
        use Characters::{Ascii, Unicode};
        let cases = [
            ("a cat", 5, Unicode, "a cat"),
            ("a cat", 4, Unicode, "a c…"),
            ("a cat", 3, Unicode, "a…"),
            ("a cat", 4, Ascii, "a..."),
            ("猫猫猫", 6, Unicode, "猫猫猫"),
            ("猫猫猫", 5, Unicode, "猫猫…"),
            ("猫猫猫", 4, Unicode, "猫…"),
            ("e\u{301}e\u{301}e\u{301}", 2, Unicode, "e\u{301}…"),
        ];
        for (text, limit, characters, expected) in cases {
            let short = shortened(text, limit, characters);
            assert_eq!(short, expected);
            assert!(columns(&short) <= limit);
        }
    }
}
