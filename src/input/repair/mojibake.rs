//! Detects and decodes mojibake: UTF-8 that was read as a single-byte encoding.
//!
//! Follows `fix_encoding` and the badness heuristic of ftfy 6.3 with its default settings and its
//! character classes (Apache-2.0).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use regex::{Regex, bytes};

use super::codecs::{CODECS, Codec, without_c1};

/// UTF-8 except for a byte 0xA0 that became a space. Only lead bytes whose character with 0xA0 is a
/// likely one.
static BLANK_INSIDE: LazyLock<bytes::Regex> = LazyLock::new(|| {
    one_of(&[
        r"[\xc2\xc3\xc5\xce\xd0\xd9] ",
        r"[\xe2\xe3] [\x80-\x84\x86-\x9f\xa1-\xbf]",
        r"[\xe0-\xe3][\x80-\x84\x86-\x9f\xa1-\xbf] ",
        r"\xf0 [\x80-\xbf][\x80-\xbf]",
        r"\xf0[\x80-\xbf] [\x80-\xbf]",
        r"\xf0[\x80-\xbf][\x80-\xbf] ",
    ])
});

/// UTF-8 with lost bytes: they are 0x1A, the substitute of our codecs, or one is a `?`.
static BYTES_LOST: LazyLock<bytes::Regex> = LazyLock::new(|| {
    one_of(&[
        r"[\xc2-\xdf]\x1a",
        r"[\xc2\xc3]\?",
        r"\xed[\xa0-\xaf][\x1a?]\xed[\xb0-\xbf][\x1a?\x80-\xbf]",
        r"\xed[\xa0-\xaf][\x1a?\x80-\xbf]\xed[\xb0-\xbf][\x1a?]",
        r"[\xe0-\xef][\x1a?][\x1a\x80-\xbf]",
        r"[\xe0-\xef][\x1a\x80-\xbf][\x1a?]",
        r"[\xf0-\xf4][\x1a?][\x1a\x80-\xbf][\x1a\x80-\xbf]",
        r"[\xf0-\xf4][\x1a\x80-\xbf][\x1a?][\x1a\x80-\xbf]",
        r"[\xf0-\xf4][\x1a\x80-\xbf][\x1a\x80-\xbf][\x1a?]",
        r"\x1a",
    ])
});

fn one_of(sequences: &[&str]) -> bytes::Regex {
    bytes::Regex::new(&format!("(?-u){}", sequences.join("|")))
        .expect("constant expressions that the tests compile")
}

/// What the first byte of two is shown as.
const FIRST_OF_2: &str = "\
    ĂÂÄĀÅÃÆĆČÇĎĐÉĚÊËĖÈĒĘÐĞĢÍÎÏİÌĪĶĹĻŁŃŇŅÑÓÔÖŐÒŌØÕŘŚŠŞŢÞÚÛÜŰÙŪŲŮÝŹŽŻß×ΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩΪΫάέ\
    ήίВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ";
/// What the first byte of three is shown as.
const FIRST_OF_3: &str = "\
    áăâäàāąåãæćčçďéěêëėèēęģíîïìīįķĺļŕźΰαβγδεζηθικλμνξοабвгдежзийклмноп";
/// What the first byte of four is shown as.
const FIRST_OF_4: &str = "đðğóšπσру";
/// What a continuation byte is shown as, and little else.
const CONTINUES: &str = "\
    ĄÆĽŁØŖŚŠŞŤŸŹŽŻŒąæƒľłøŗśšşťźžżœˆˇ˘˛˜˝΄΅ΆΈΉΊΌΎΏЁЂЃЄЅІЇЈЉЊЋЌЎЏёђѓєѕіїјљњћќўџҐґ†‡‰‹›€№™";
/// What a continuation byte may be shown as, though it is common by itself.
const MAY_CONTINUE: &str = "–—―‘’‚“”„•… ";

/// The bytes that a character may represent, in any of the encodings.
type Roles = u8;
const SECOND_FOLLOWS: Roles = 1;
const TWO_FOLLOW: Roles = 2;
const THREE_FOLLOW: Roles = 4;
const FOLLOWS: Roles = 8;
const ONLY_FOLLOWS: Roles = 16;

static ROLES: LazyLock<HashMap<char, Roles>> = LazyLock::new(|| {
    let mut roles = HashMap::new();
    let high: String = ('\u{80}'..='\u{bf}').collect();
    for (characters, role) in [
        (FIRST_OF_2, SECOND_FOLLOWS),
        (FIRST_OF_3, TWO_FOLLOW),
        (FIRST_OF_4, THREE_FOLLOW),
        (&high, FOLLOWS | ONLY_FOLLOWS),
        (CONTINUES, FOLLOWS | ONLY_FOLLOWS),
        (MAY_CONTINUE, FOLLOWS),
    ] {
        for c in characters.chars() {
            *roles.entry(c).or_default() |= role;
        }
    }
    roles
});

/// Decodes mojibake, repeatedly while there is some.
///
/// Every step that changes the text leaves fewer characters, or none of its control characters, so
/// this terminates.
pub(super) fn decoded(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    while !text.is_ascii() && is_suspicious(&text) {
        let next = step(&text);
        if next == text {
            break;
        }
        text = Cow::Owned(next);
    }
    text
}

/// The first that succeeds: all of the text as one encoding, the parts that look like UTF-8,
/// control characters as what Windows shows for them.
fn step(text: &str) -> String {
    let whole = CODECS.iter().find_map(|codec| {
        let bytes = codec.encode(text)?;
        utf8(mended(codec, bytes))
    });
    if let Some(whole) = whole {
        return whole;
    }
    let parts = with_parts_decoded(text);
    if parts != text {
        return parts;
    }
    text.chars().map(without_c1).collect()
}

/// The bytes with lost ones restored or marked as lost.
fn mended(codec: &Codec, mut bytes: Vec<u8>) -> Vec<u8> {
    if codec.restores_blanks && BLANK_INSIDE.is_match(&bytes) {
        let words = with_blanks_after_a_grave(&bytes);
        let restored = BLANK_INSIDE.replace_all(&words, |found: &regex::bytes::Captures<'_>| {
            let restored = found[0].iter().map(|&b| if b == b' ' { 0xa0 } else { b });
            restored.collect::<Vec<u8>>()
        });
        bytes = restored.into_owned();
    }
    if codec.is_sloppy {
        bytes = BYTES_LOST
            .replace_all(&bytes, "\u{fffd}".as_bytes())
            .into_owned();
    }
    bytes
}

/// "à" before a space is nearly always a word, whose 0xA0 and space became one: both are restored.
/// Not in the Portuguese words that begin with it.
fn with_blanks_after_a_grave(bytes: &[u8]) -> Vec<u8> {
    const BEGINS_A_WORD: [&[u8]; 5] = [b" ", b"quele", b"quela", b"quilo", b"s "];
    let mut restored = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, mut after)) = rest.split_first() {
        restored.push(first);
        if first == 0xc3
            && let Some(next) = after.strip_prefix(b" ")
            && !BEGINS_A_WORD.iter().any(|word| next.starts_with(word))
        {
            restored.extend([0xa0, b' ']);
            after = next;
        }
        rest = after;
    }
    restored
}

/// The text of UTF-8, also if a character is two surrogates of three bytes each (CESU-8), or NUL is
/// 0xC0 0x80 (Java).
fn utf8(mut bytes: Vec<u8>) -> Option<String> {
    if bytes.contains(&0xc0) || bytes.contains(&0xed) {
        // As in ftfy, whose expression takes the end of the last line for the end of the text.
        if bytes.ends_with(b"\xc0\n") {
            bytes.pop();
            bytes.push(0x80);
        }
        bytes = without_variants(&bytes);
    }
    String::from_utf8(bytes).ok()
}

/// Standard UTF-8, if the rest is.
fn without_variants(bytes: &[u8]) -> Vec<u8> {
    let mut proper = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        rest = match rest {
            [0xc0, 0x80, after @ ..] => {
                proper.push(0);
                after
            }
            [
                0xed,
                a @ 0xa0..=0xaf,
                b @ 0x80..=0xbf,
                0xed,
                c @ 0xb0..=0xbf,
                d @ 0x80..=0xbf,
                after @ ..,
            ] => {
                let [a, b, c, d] = [a, b, c, d].map(|&byte| u32::from(byte));
                let high = (a & 0x0f) << 16 | (b & 0x3f) << 10;
                let point = 0x1_0000 + (high | (c & 0x0f) << 6 | d & 0x3f);
                let character = char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER);
                proper.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                after
            }
            [first, after @ ..] => {
                proper.push(*first);
                after
            }
            [] => return proper,
        };
    }
}

/// Decodes each part of the text that looks like UTF-8 read as any of the encodings.
///
/// A part that is all of the text stays, or this would not terminate. A part of a part is decoded
/// only after the part itself was, and is shorter by half, so the recursion is not deep.
fn with_parts_decoded(text: &str) -> String {
    let characters: Vec<(usize, Roles)> = text
        .char_indices()
        .map(|(at, c)| (at, ROLES.get(&c).copied().unwrap_or_default()))
        .collect();
    let offset = |index: usize| characters.get(index).map_or(text.len(), |&(at, _)| at);
    let mut fixed = String::with_capacity(text.len());
    let (mut index, mut is_inside) = (0, false);
    while index < characters.len() {
        let end = if is_inside {
            index
        } else {
            end_of_part(&characters, index)
        };
        // A character that begins no part is copied.
        let end_or_next = end.max(index + 1);
        let part = &text[offset(index)..offset(end_or_next)];
        if end > index && part.len() < text.len() && is_suspicious(part) {
            fixed.push_str(&decoded(part));
        } else {
            fixed.push_str(part);
        }
        is_inside = characters[end_or_next - 1].1 & ONLY_FOLLOWS != 0;
        index = end_or_next;
    }
    fixed
}

/// End of the sequences that begin at `start`; `start` itself if none does.
fn end_of_part(characters: &[(usize, Roles)], start: usize) -> usize {
    let mut end = start;
    while let Some(&(_, roles)) = characters.get(end) {
        let follow = |count: usize| {
            let following = characters.get(end + 1..end + 1 + count);
            following.is_some_and(|all| all.iter().all(|(_, roles)| roles & FOLLOWS != 0))
        };
        let kinds = [(SECOND_FOLLOWS, 1), (TWO_FOLLOW, 2), (THREE_FOLLOW, 3)];
        let found = kinds
            .into_iter()
            .find(|&(role, count)| roles & role != 0 && follow(count));
        let Some((_, count)) = found else { break };
        end += 1 + count;
    }
    end
}

/// Characters as in a character class of a regular expression: single or as ranges.
type Class = &'static str;

/// Control characters that only mojibake has.
const C1: Class = "\u{80}-\u{9f}";
/// Characters that hardly occur except in mojibake.
const BAD: Class = "¦¤¨¬¯¸ƒˆˇ˘˛˜†‡‰⌐◊\u{fffd}ªº";
/// Signs of legal texts.
const LAW: Class = "¶§";
/// Currencies.
const CURRENCY: Class = "¢£¥₧€";
/// Characters before a word.
const START: Class = "¡«¿©΄΅‘‚“„•‹\u{f8ff}";
/// Characters after a word.
const END: Class = "®»˝”›™";
/// Characters near numbers.
const NUMERIC: Class = "²³¹±¼½¾×µ÷⁄∂∆∏∑√∞∩∫≈≠≡≤≥№";
/// Characters that occur anywhere.
const COMMON: Class = "\u{a0}\u{ad}·´–—―…’";
/// Parts of kaomoji.
const FACES: Class = "Ò-ÖÙ-Üò-öø-üŐŌŪŲ°";
/// Accented capital letters.
const UPPER: Class = "À-ÑØÜÝĂĀĄĆČĎĐĘĚĒĖĞĢİĪĶĹĽŁĻŃŇŅŒŘŚŞŠŢŤŮŰŸŹŻŽҐ";
/// Accented small letters.
const LOWER: Class = "ßà-ñăąāćčďđęěēėğģįīķĺľłļœŕśşšťüźżžґﬁﬂ";
/// Capital letters that words often end in, or that other scripts have.
const CAPITAL: Class = "ÞΑ-ΩΆΈΉΊΌΎΏΪΫЁ-Я";
/// Small letters of other scripts.
const SMALL: Class = "α-ωάέήίΰа-џ";
/// Box-drawing characters.
const BOX: Class = "│┌┐┘├┤┬┼═-╬▀▄█▌▐░▒▓";
/// White space in Python's regular expressions.
const BLANK: Class = "\\s\\x1c-\\x1f";
/// Word characters in Python's regular expressions.
const WORD: Class = "\\p{L}\\p{N}_";

/// Each rule is a sequence of character classes. A text is suspicious if it contains a match of any
/// rule.
const RULES: &[&[&[Class]]] = &[
    &[&[C1]],
    &[
        &[BAD, LOWER, UPPER, BOX, START, END, CURRENCY, NUMERIC, LAW],
        &[BAD],
    ],
    &[&["a-zA-Z"], &[SMALL, CAPITAL], &[BAD]],
    &[
        &[BAD],
        &[LOWER, UPPER, BOX, START, END, CURRENCY, NUMERIC, LAW],
    ],
    &[&[LOWER, SMALL, BOX, END, CURRENCY, NUMERIC], &[UPPER]],
    &[&[BOX, END, CURRENCY, NUMERIC], &[LOWER]],
    &[&[LOWER, BOX, END], &[CURRENCY]],
    &[&[BLANK], &[UPPER], &[CURRENCY]],
    &[&[UPPER, BOX], &[NUMERIC, LAW]],
    &[&[LOWER, UPPER, BOX, CURRENCY, END], &[START], &[NUMERIC]],
    &[
        &[LOWER, UPPER, CURRENCY, NUMERIC, BOX, LAW],
        &[END],
        &[START],
    ],
    &[&[CURRENCY, NUMERIC, BOX], &[START]],
    &[&["a-z"], &[UPPER], &[START, CURRENCY]],
    &[&[BOX], &[FACES]],
    &[&[LOWER, UPPER, CURRENCY, NUMERIC, START, END, LAW], &[BOX]],
    &[&[BOX], &[END]],
    &[&[LOWER, UPPER], &[START, END], &[WORD]],
    &[&["Œœ"], &["^A-Za-z"]],
    &[&[UPPER], &["°"]],
    &[&["ÂÃÎÐ"], &[START, END, "€œŠš¢£Ÿž\u{a0}\u{ad}®©°·»–—´"]],
    &[&["×"], &["²³"]],
    &[
        &["ØÙ"],
        &[COMMON, CURRENCY, BAD, NUMERIC, START, "ŸŠ®°µ»"],
        &["ØÙ"],
        &[COMMON, CURRENCY, BAD, NUMERIC, START, "ŸŠ®°µ»"],
    ],
    &[&["à"], &["²µ¹¼½¾"]],
    &[&["√"], &["±∂†≠®™´≤≥¥µø"]],
    &[&["≈"], &["°¢"]],
    &[&["‚"], &["Ä"], &["ìîïòôúùû†°¢π"]],
    &[&["‚"], &["âó"], &["àä°ê"]],
    &[&["в"], &["Ђ"]],
    &[&["ВГРС"], &[C1, BAD, START, END, CURRENCY, "°µ"], &["ВГРС"]],
    &[
        &["Г"],
        &["ў"],
        &["В"],
        &["Ђ"],
        &["В"],
        &["^\n"],
        &["A-Za-z "],
    ],
    &[&["Ã"], &["\u{a0}¡"]],
    &[&["a-z"], &["ÃÂ"], &[" "]],
    &[&["a-z"], &[BLANK], &["ÃÂ"], &[" "]],
    &[&[END, "a-z.,?!"], &["Â"], &[START, END, " "]],
    &[&["β"], &["€"], &["™\u{a0}Ά\u{ad}®°"]],
    &[&["ΒΓΞΟ"], &[C1, BAD, START, END, CURRENCY, "°"], &["ΒΓΞΟ"]],
    &[&["ā"], &["€"]],
];

static SUSPICIOUS: LazyLock<Regex> = LazyLock::new(|| {
    let rules = RULES.iter().map(|rule| {
        let classes = rule.iter().map(|classes| format!("[{}]", classes.concat()));
        classes.collect::<String>()
    });
    let all = rules.collect::<Vec<_>>().join("|");
    Regex::new(&all).expect("constant expressions that the tests compile")
});

/// Whether the text contains a sequence of characters that is more likely mojibake than intended.
fn is_suspicious(text: &str) -> bool {
    ["Â ", "Ã "].iter().any(|start| text.starts_with(start)) || SUSPICIOUS.is_match(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mojibake_is_decoded() {
        let cases = [
            ("naïve café", "naïve café"),
            ("cafÃ©", "café"),
            ("ÃƒÂ©", "é"),
            ("ÐºÐ¾Ñ‚", "кот"),
            ("Р“РµРЅРµСЂР°Р» вЂ“ РєРѕС‚", "Генерал – кот"),
            ("KÅ‚oczko", "Kłoczko"),
            ("RĂ©mi", "Rémi"),
            ("ą¹€ąø„", "เค"),
            ("√©t√©", "été"),
            ("├⌐t├⌐", "été"),
            ("l\u{92}été", "l’été"),
            ("so\u{85} 漢", "so… 漢"),
            ("漢字 cafÃ© 漢字", "漢字 café 漢字"),
        ];
        for (text, meant) in cases {
            assert_eq!(decoded(text), meant, "{text:?}");
        }
    }

    #[test]
    fn spaces_and_lost_bytes_are_repaired() {
        let cases = [
            ("voilÃ  le travail", "voilà le travail"),
            ("Ã la mode", "à la mode"),
            ("Ã quele Ã©", "àquele é"),
            ("â€œ like this â€\u{fffd}", "“ like this \u{fffd}"),
            ("Ã? Ã©", "\u{fffd} é"),
        ];
        for (text, meant) in cases {
            assert_eq!(decoded(text), meant, "{text:?}");
        }
    }

    #[test]
    fn variants_of_utf8_are_read() {
        let cases: [(&[u8], Option<&str>); 7] = [
            (b"\xed\x95\x9c", Some("한")),
            (b"\xed\xa0\xbd\xed\xb8\x8d!", Some("😍!")),
            (b"\xed\xaf\xbf\xed\xbf\xbf", Some("\u{10ffff}")),
            (b"\xed\xa0\xbd", None),
            (b"a\xc0\x80b", Some("a\0b")),
            (b"a\xc0\n", Some("a\0")),
            (b"a\xc0", None),
        ];
        for (bytes, text) in cases {
            assert_eq!(utf8(bytes.to_vec()).as_deref(), text, "{bytes:x?}");
        }
    }
}
