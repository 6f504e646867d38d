//! Detects mojibake: neighbouring characters that hardly anybody writes.
//!
//! The classes and the rules are those of ftfy 6.3 (Apache-2.0, Robyn Speer), derived from texts of
//! the web: agreeing with them keeps our tokens equal to the reference's.

use std::sync::LazyLock;

use regex::Regex;

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
pub(super) fn is_suspicious(text: &str) -> bool {
    ["Â ", "Ã "].iter().any(|start| text.starts_with(start)) || SUSPICIOUS.is_match(text)
}
