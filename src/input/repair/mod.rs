//! Repairs text as `ftfy.fix_text` does by default: entities, mojibake, ligatures, widths, quotes,
//! line ends, terminal escapes, control characters, NFC.
//!
//! An independent implementation of the behaviour of ftfy 6.3 (Apache-2.0), with the same tables;
//! `tests/golden/tokens.py` compares the two.

mod codecs;
mod entities;
mod mojibake;
mod suspicion;

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::{UnicodeNormalization, is_nfc};

pub(super) use entities::all_resolved;

/// Maximum length of a segment of a line, in characters, that is repaired at once; as in ftfy.
const LONGEST_SEGMENT: usize = 1_000_000;

/// Maximum rounds of repairing a segment until it no longer changes. Human-written text needs two
/// or three rounds; entities nested on purpose would need as many as there are.
const ROUNDS: usize = 64;

static TERMINAL_ESCAPE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\x1b\[(?:\d|;)*[a-zA-Z]").expect("a constant expression that the tests compile")
});

/// The text without its terminal escapes.
pub(super) fn without_escapes(text: &str) -> Cow<'_, str> {
    TERMINAL_ESCAPE.replace_all(text, "")
}

/// The repaired text. From the first line with a `<` on, the text counts as HTML source, and its
/// entities stay.
pub(super) fn repaired(text: &str) -> String {
    let mut repaired = String::with_capacity(text.len());
    let mut is_html = false;
    let mut rest = text;
    while !rest.is_empty() {
        let (segment, after) = rest.split_at(end_of_segment(rest));
        is_html |= segment.contains('<');
        repaired.push_str(&repaired_segment(segment, is_html));
        rest = after;
    }
    repaired
}

fn end_of_segment(text: &str) -> usize {
    let line = text.find('\n').map_or(text.len(), |newline| newline + 1);
    let longest = text[..line].char_indices().nth(LONGEST_SEGMENT);
    longest.map_or(line, |(end, _)| end)
}

fn repaired_segment(segment: &str, is_html: bool) -> String {
    let mut text = segment.to_owned();
    for _ in 0..ROUNDS {
        let next = round(&text, is_html);
        if next == text {
            break;
        }
        text = next;
    }
    text
}

fn round(text: &str, is_html: bool) -> String {
    let resolved = if is_html || !text.contains('&') {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(entities::closed_resolved(text))
    };
    let decoded = mojibake::decoded(&resolved);
    let mut plain = String::with_capacity(decoded.len());
    for c in decoded.chars() {
        push_plain(c, &mut plain);
    }
    let plain = plain.replace("\r\n", "\n").replace('\r', "\n");
    let mut clean = without_escapes(&plain).into_owned();
    clean.retain(|c| !is_control(c));
    if is_nfc(&clean) {
        clean
    } else {
        clean.nfc().collect()
    }
}

/// Appends the character in its plain form: Latin ligatures as letters, full-width and half-width
/// forms as regular ones, straight quotes, one kind of line end.
fn push_plain(c: char, plain: &mut String) {
    if c.is_ascii() {
        return plain.push(c);
    }
    if let Some((_, letters)) = LIGATURES.iter().find(|(ligature, _)| *ligature == c) {
        return plain.push_str(letters);
    }
    match c {
        '\u{ff01}'..='\u{ffef}' => plain.extend([c].into_iter().nfkc()),
        '\u{3000}' => plain.push(' '),
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => plain.push('\''),
        '\u{201c}'..='\u{201f}' => plain.push('"'),
        '\u{85}' | '\u{2028}' | '\u{2029}' => plain.push('\n'),
        other => plain.push(other),
    }
}

/// Characters for two or three letters, from old encodings or typography.
const LIGATURES: [(char, &str); 22] = [
    ('Ĳ', "IJ"),
    ('ĳ', "ij"),
    ('ŉ', "'n"),
    ('Ǳ', "DZ"),
    ('ǲ', "Dz"),
    ('ǳ', "dz"),
    ('Ǆ', "DŽ"),
    ('ǅ', "Dž"),
    ('ǆ', "dž"),
    ('Ǉ', "LJ"),
    ('ǈ', "Lj"),
    ('ǉ', "lj"),
    ('Ǌ', "NJ"),
    ('ǋ', "Nj"),
    ('ǌ', "nj"),
    ('ﬀ', "ff"),
    ('ﬁ', "fi"),
    ('ﬂ', "fl"),
    ('ﬃ', "ffi"),
    ('ﬄ', "ffl"),
    ('ﬅ', "ſt"),
    ('ﬆ', "st"),
];

/// Invisible characters that are hardly ever intended.
fn is_control(c: char) -> bool {
    matches!(
        c,
        '\0'..='\x08'
            | '\x0b'
            | '\x0e'..='\x1f'
            | '\x7f'
            | '\u{206a}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffc}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_repaired() {
        let cases = [
            ("", ""),
            ("a cat\r\nand\ra dog\u{2028}", "a cat\nand\na dog\n"),
            ("ŉ ﬃﬆ Ｆｕｌｌ￣ ｶﾞ　x", "'n ffist Full \u{304} ガ x"),
            ("‘a’ “b” „c“ ʼ", "'a' \"b\" \"c\" '"),
            ("\x1b[1;31mred\x1b[0m \x1b]\u{fffc}", "red ]"),
            ("cafe\u{301} 豈", "café 豈"),
            ("&Atilde;&copy; &amp;amp;lt;", "é <"),
            ("&lt;\n<b>&lt;\n&lt;", "<\n<b>&lt;\n&lt;"),
        ];
        for (text, meant) in cases {
            assert_eq!(repaired(text), meant, "{text:?}");
        }
    }

    #[test]
    fn deeply_nested_entities_terminate() {
        let text = format!("&{}lt;", "amp;".repeat(200_000));
        assert_eq!(repaired(&text).len(), text.len() - 4 * ROUNDS);
    }

    #[test]
    fn long_lines_are_cut() {
        let text = "é".repeat(LONGEST_SEGMENT + 1);
        assert_eq!(end_of_segment(&text), 2 * LONGEST_SEGMENT);
        assert_eq!(end_of_segment("é\nb"), 3);
        assert_eq!(end_of_segment("ab"), 2);
    }
}
