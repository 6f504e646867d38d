//! Repairs text as `ftfy.fix_text` does by default: entities, mojibake, ligatures, widths, quotes,
//! line ends, terminal escapes, control characters, NFC.
//!
//! An independent implementation of the behaviour of ftfy 6.3 (Apache-2.0), with the same tables;
//! `tests/golden/tokens.py` compares the two.

mod codecs;
mod mojibake;

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::{UnicodeNormalization, is_nfc};

use codecs::without_c1;

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
        Cow::Owned(closed_resolved(text))
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

/// The longest name between `&` and `;` that ftfy considers.
const LONGEST: usize = 24;

/// Resolves the entities that end in `;`. Names in capitals are the lower-case ones, with the
/// result in capitals: `&NTILDE;`.
fn closed_resolved(text: &str) -> String {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        resolved.push_str(&rest[..start]);
        rest = &rest[start..];
        let entity = closed(rest);
        match entity.and_then(meaning) {
            Some(meaning) => resolved.push_str(&meaning),
            None => resolved.push_str(entity.unwrap_or("&")),
        }
        rest = &rest[entity.map_or(1, str::len)..];
    }
    resolved + rest
}

/// The entity at the start of the text, from `&` to `;`.
fn closed(text: &str) -> Option<&str> {
    let named = text.strip_prefix('&')?;
    let name = named.strip_prefix('#').unwrap_or(named);
    let length = name.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let end = text.len() - name.len() + length;
    let is_closed = text[end..].starts_with(';') && (1..=LONGEST).contains(&length);
    is_closed.then(|| &text[..=end])
}

/// The value of an entity with `&` and `;`, if it is one as a whole.
fn meaning(entity: &str) -> Option<String> {
    if let Some(reference) = entity.strip_prefix("&#") {
        let (character, rest) = numbered(reference)?;
        let character = character.map(String::from).unwrap_or_default();
        return (rest.is_empty() && character != ";").then_some(character);
    }
    whole(entity).or_else(|| {
        let is_other = htmlize::unescape(entity) != entity || entity.contains(char::is_lowercase);
        let small = if is_other {
            None
        } else {
            whole(&entity.to_ascii_lowercase())
        };
        small.map(|meaning| meaning.to_uppercase())
    })
}

/// The value of a name that is one to its end: `&notit;` is `&not` and more.
fn whole(entity: &str) -> Option<String> {
    let meaning = htmlize::unescape(entity);
    (entity == "&semi;" || !meaning.ends_with(';')).then(|| meaning.into_owned())
}

/// `html.unescape`.
pub(in crate::input) fn all_resolved(text: &str) -> String {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        resolved.push_str(&rest[..start]);
        let entity = &rest[start..];
        if let Some(reference) = entity.strip_prefix("&#") {
            let (character, after) = numbered(reference).unwrap_or((None, reference));
            if after.len() == reference.len() {
                resolved.push_str("&#");
            }
            resolved.extend(character);
            rest = after;
        } else {
            let (entity, after) = entity.split_at(end_of_name(entity));
            resolved.push_str(&htmlize::unescape(entity));
            rest = after;
        }
    }
    resolved + rest
}

/// The end of the name at the start of the text, including its `;`.
fn end_of_name(entity: &str) -> usize {
    let ends = |c| matches!(c, '\t' | '\n' | '\x0c' | ' ' | '<' | '&' | '#' | ';');
    let name = &entity[1..];
    name.find(ends).map_or(entity.len(), |end| {
        1 + end + usize::from(name[end..].starts_with(';'))
    })
}

/// The character of a number after `&#`, and the text after it. A number that HTML forbids gives no
/// character.
fn numbered(reference: &str) -> Option<(Option<char>, &str)> {
    let hexadecimal = reference.strip_prefix(['x', 'X']);
    let radix = if hexadecimal.is_some() { 16 } else { 10 };
    let digits = hexadecimal.unwrap_or(reference);
    let end = digits
        .find(|c: char| !c.is_digit(radix))
        .unwrap_or(digits.len());
    let (number, after) = digits.split_at(end);
    if number.is_empty() {
        return None;
    }
    // Only numbers that are too large do not parse.
    let number = u32::from_str_radix(number, radix).unwrap_or(u32::MAX);
    Some((character(number), after.strip_prefix(';').unwrap_or(after)))
}

fn character(number: u32) -> Option<char> {
    let is_forbidden = matches!(number, 0x1..=0x8 | 0xb | 0xe..=0x1f | 0x7f | 0xfdd0..=0xfdef)
        || (number & 0xfffe == 0xfffe && number <= 0x10_ffff);
    match char::from_u32(number) {
        _ if is_forbidden => None,
        None | Some('\0') => Some(char::REPLACEMENT_CHARACTER),
        Some(c) => Some(without_c1(c)),
    }
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

    #[test]
    fn entities_are_resolved_in_both_ways() {
        // The text, with what is certainly meant resolved, with all resolved.
        #[rustfmt::skip]
        let cases = [
            ("rock &amp; roll", "rock & roll", "rock & roll"),
            ("&amp;amp;", "&amp;", "&amp;"),
            ("&amp &frac14 b", "&amp &frac14 b", "& ¼ b"),
            ("&notit; &notin;", "&notit; ∉", "¬it; ∉"),
            ("&semi; &#59; &#x3b;", "; &#59; &#x3b;", "; ; ;"),
            ("&NTILDE;o &SZLIG; &nTILDE;", "Ño SS &nTILDE;", "&NTILDE;o &SZLIG; &nTILDE;"),
            ("&AMP; &COPY; &GTDOT;", "& © &GTDOT;", "& © >DOT;"),
            ("&#233; &#xE9; &#Xe9 &#233x;", "é é &#Xe9 &#233x;", "é é é éx;"),
            (
                "&#0; &#x110000; &#99999999999;",
                "\u{fffd} \u{fffd} \u{fffd}",
                "\u{fffd} \u{fffd} \u{fffd}",
            ),
            ("a&#11;b &#xfdd0; &#150;", "ab  –", "ab  –"),
            ("&; &# &#x; &#; & &&lt;&", "&; &# &#x; &#; & &<&", "&; &# &#x; &#; & &<&"),
            ("&é; &<&gt", "&é; &<&gt", "&é; &<>"),
        ];
        for (text, meant, all) in cases {
            assert_eq!(closed_resolved(text), meant, "{text:?}");
            assert_eq!(all_resolved(text), all, "{text:?}");
        }
    }
}
