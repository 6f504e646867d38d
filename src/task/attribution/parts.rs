//! The parts of a text that share its score: words, clauses or sentences.

use std::ops::Range;

/// Into what a text is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// What white space separates.
    Words,
    /// What ends in one of `,;:` or ends a sentence.
    Clauses,
    /// What ends in one of `.!?` before white space, or in `。！？`.
    Sentences,
}

impl Unit {
    /// The name in flags and records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Words => "words",
            Self::Clauses => "clauses",
            Self::Sentences => "sentences",
        }
    }

    /// One of them, in messages.
    pub(crate) fn one(self) -> &'static str {
        match self {
            Self::Words => "word",
            Self::Clauses => "clause",
            Self::Sentences => "sentence",
        }
    }

    /// Whether a part ends after `word`.
    fn ends(self, word: &str) -> bool {
        let bare = word.trim_end_matches(['"', '\'', ')', ']', '”', '’', '»']);
        match bare.chars().next_back() {
            _ if self == Self::Words => true,
            Some('.') => !is_abbreviation(bare),
            Some('!' | '?') => true,
            Some(',' | ';' | ':' | '，' | '；' | '：' | '、') => self == Self::Clauses,
            _ => false,
        }
    }
}

/// Whether a word with a full stop does not end a sentence: an initial, `e.g.`, `approx.`.
fn is_abbreviation(word: &str) -> bool {
    const KNOWN: [&str; 14] = [
        "mr", "mrs", "ms", "dr", "prof", "st", "vs", "etc", "approx", "no", "fig", "cf", "ca", "al",
    ];
    let stem = &word[..word.len() - 1];
    let is_initial = stem.chars().count() == 1 && stem.chars().all(char::is_alphabetic);
    // A number such as 3. may end a sentence, a.m. does not.
    let has_dot = stem.contains('.') && stem.chars().any(char::is_alphabetic);
    is_initial || has_dot || KNOWN.contains(&stem.to_lowercase().as_str())
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its text, without white space at the ends.
    pub(crate) text: String,
    /// Where it is, in bytes.
    pub(crate) bytes: Range<usize>,
}

/// The parts of `text` in their order; none if it is white space.
pub(crate) fn split(text: &str, unit: Unit) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut start = None;
    let mut end = 0;
    let mut close = |bytes: Range<usize>| {
        parts.push(Part {
            text: text[bytes.clone()].to_owned(),
            bytes,
        });
    };
    for word in words(text, unit) {
        let from = *start.get_or_insert(word.start);
        end = word.end;
        if unit.ends(&text[word.clone()]) || text[word].ends_with(['。', '！', '？']) {
            close(from..end);
            start = None;
        }
    }
    if let Some(from) = start {
        close(from..end);
    }
    parts
}

/// The words, which for longer units also end where a script without spaces ends a sentence or
/// clause.
fn words(text: &str, unit: Unit) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, character) in text.char_indices() {
        if character.is_whitespace() {
            words.extend(start.take().map(|from| from..at));
            continue;
        }
        let from = *start.get_or_insert(at);
        let ends = match unit {
            Unit::Words => false,
            Unit::Sentences => "。！？".contains(character),
            Unit::Clauses => "。！？，；：、".contains(character),
        };
        if ends {
            words.push(from..at + character.len_utf8());
            start = None;
        }
    }
    words.extend(start.map(|from| from..text.len()));
    words
}

/// The parts that are there, in their order, with a space between them.
pub(crate) fn joined(parts: &[Part], subset: &[bool]) -> String {
    let there = parts.iter().zip(subset).filter(|(_, is_there)| **is_there);
    there
        .map(|(part, _)| part.text.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A place in `text`, in bytes, as a place in characters (Unicode code points).
pub(crate) fn in_characters(text: &str, bytes: &Range<usize>) -> [usize; 2] {
    [bytes.start, bytes.end].map(|at| text[..at].chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str, unit: Unit) -> Vec<String> {
        let parts = split(text, unit);
        for part in &parts {
            assert_eq!(&text[part.bytes.clone()], part.text);
        }
        parts.into_iter().map(|part| part.text).collect()
    }

    #[test]
    fn words_are_what_white_space_separates() {
        let text = "  A cat,\tsitting\non\u{a0}a mat. ";
        let words = ["A", "cat,", "sitting", "on", "a", "mat."];
        assert_eq!(texts(text, Unit::Words), words);
        assert!(texts(" \n", Unit::Words).is_empty());
        assert!(texts("", Unit::Sentences).is_empty());
        assert_eq!(texts("猫在垫子上。", Unit::Words), ["猫在垫子上。"]);
    }

    #[test]
    fn sentences_end_at_marks_and_not_at_abbreviations() {
        let cases: [(&str, &[&str]); 8] = [
            ("one. two! three?", &["one.", "two!", "three?"]),
            ("one. two", &["one.", "two"]),
            ("at 3.5 m. and on", &["at 3.5 m. and on"]),
            ("Dr. A. Smith e.g. runs.", &["Dr. A. Smith e.g. runs."]),
            (
                "She said \"no!\" Then left.",
                &["She said \"no!\"", "Then left."],
            ),
            ("猫。狗！", &["猫。", "狗！"]),
            ("wait... what", &["wait... what"]),
            ("in 1990. Then", &["in 1990.", "Then"]),
        ];
        for (text, expected) in cases {
            assert_eq!(texts(text, Unit::Sentences), expected, "{text}");
        }
    }

    #[test]
    fn clauses_end_at_commas_too() {
        let text = "a cat, black; on a mat. a dog";
        let clauses = ["a cat,", "black;", "on a mat.", "a dog"];
        assert_eq!(texts(text, Unit::Clauses), clauses);
        assert_eq!(texts("1,000 cats", Unit::Clauses), ["1,000 cats"]);
        assert_eq!(texts("猫，狗", Unit::Clauses), ["猫，", "狗"]);
    }

    #[test]
    fn what_is_left_keeps_its_order() {
        let parts = split("é  b c", Unit::Words);
        assert_eq!(joined(&parts, &[true, false, true]), "é c");
        assert_eq!(joined(&parts, &[false; 3]), "");
        assert_eq!(in_characters("é  b c", &parts[1].bytes), [3, 4]);
    }
}
