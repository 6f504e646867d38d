//! Text for a terminal: free of control sequences, measured in columns.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

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
            ("קטלוג", "קטלוג"),
        ];
        for (text, expected) in cases {
            assert_eq!(printable(text), expected);
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
