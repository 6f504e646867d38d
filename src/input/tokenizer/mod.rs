//! Text to token ids and back: CLIP's byte-pair encoding, with openai/CLIP's exact results.
//!
//! One vocabulary serves every CLIP and Long-CLIP model; only the context length differs, and that
//! is the caller's. Knows no tensors.

mod chunk;
mod fit;
mod merges;

use std::sync::LazyLock;

use regex::Regex;

use super::text::clean;
use merges::Joiner;

pub use fit::{Chunk, Cut, Fitted, LongText, Reading, TokenIds, fit};

/// The id that starts every text.
pub const START_OF_TEXT: u32 = 49406;
/// The id that ends every text; the text's embedding is the output at its first occurrence.
pub const END_OF_TEXT: u32 = 49407;
/// Size of the vocabulary, and number of rows of a model's token embedding.
pub const VOCABULARY: usize = 49408;

const SPECIAL: [(&str, u32); 2] = [
    ("<|startoftext|>", START_OF_TEXT),
    ("<|endoftext|>", END_OF_TEXT),
];

/// The words of a cleaned text. Case is ignored, as in the reference, although the text is in lower
/// case: the long s of `it'ſ` counts as an s, and U+0345, a mark with a letter as its upper case,
/// is not part of any word.
static WORD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i:<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d)",
        r"|\p{L}+|\p{N}|[^\s\p{L}\p{N}\u{345}]+",
    ))
    .expect("a constant expression that the tests compile")
});

/// The token ids of a text, cleaned first: `[START_OF_TEXT, …, END_OF_TEXT]`, of any length.
///
/// A literal `<|endoftext|>` or `<|startoftext|>` in the text, in any case, is that one token, as in
/// the reference.
pub fn encode(text: &str) -> Vec<u32> {
    encode_clean(&clean(text))
}

fn encode_clean(cleaned: &str) -> Vec<u32> {
    let mut joiner = Joiner::default();
    let mut ids = vec![START_OF_TEXT];
    for word in WORD.find_iter(cleaned) {
        encode_word(word.as_str(), &mut joiner, &mut ids);
    }
    ids.push(END_OF_TEXT);
    ids
}

fn encode_word(word: &str, joiner: &mut Joiner, ids: &mut Vec<u32>) {
    match SPECIAL.iter().find(|(name, _)| *name == word) {
        Some((_, id)) => ids.push(*id),
        None => joiner.join(word, ids),
    }
}

/// The text of ids: lower case, a space after every word, special tokens by name.
///
/// Cleaning and splitting into words lose the original spacing: `it's` comes back as `it 's `.
/// Bytes that are not a complete character, as ids cut out of a text may leave, and ids outside the
/// vocabulary become U+FFFD.
pub fn decode(ids: &[u32]) -> String {
    let mut bytes = Vec::new();
    for &id in ids {
        match special_or_unknown(id) {
            Some(name) => bytes.extend(name.bytes()),
            None if merges::expand(id, &mut bytes) => bytes.push(b' '),
            None => {}
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One token in readable form: its characters, `</w>` if a word ends with it, and `\xNN` for each
/// byte that is only a part of a character.
pub fn piece(id: u32) -> String {
    if let Some(name) = special_or_unknown(id) {
        return name.to_owned();
    }
    let mut bytes = Vec::new();
    let ends_word = merges::expand(id, &mut bytes);
    let mut piece = String::new();
    for chunk in bytes.utf8_chunks() {
        piece.push_str(chunk.valid());
        for byte in chunk.invalid() {
            piece.push_str(&format!("\\x{byte:02X}"));
        }
    }
    piece + if ends_word { "</w>" } else { "" }
}

/// One token as vocabulary files write it: a printable character for each byte, `</w>` if it ends a
/// word. No two tokens are the same.
pub fn symbol(id: u32) -> String {
    match special_or_unknown(id) {
        Some(name) => name.to_owned(),
        None => {
            let mut bytes = Vec::new();
            let ends_word = merges::expand(id, &mut bytes);
            let word: String = bytes.iter().map(|&byte| merges::character(byte)).collect();
            word + if ends_word { "</w>" } else { "" }
        }
    }
}

/// The merges in order of rank, each as the two symbols that it joins.
pub fn merges() -> impl Iterator<Item = (String, String)> {
    merges::pairs().map(|(left, right)| (symbol(left.into()), symbol(right.into())))
}

/// The name of an id that is not a piece of text.
fn special_or_unknown(id: u32) -> Option<&'static str> {
    match SPECIAL.iter().find(|(_, special)| *special == id) {
        Some((name, _)) => Some(name),
        None if id >= merges::PIECES => Some("\u{fffd}"),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inner(text: &str) -> Vec<u32> {
        let ids = encode(text);
        assert_eq!((ids[0], ids[ids.len() - 1]), (START_OF_TEXT, END_OF_TEXT));
        ids[1..ids.len() - 1].to_vec()
    }

    #[test]
    fn token_ids_are_those_of_the_reference() {
        let cases: [(&str, &[u32]); 8] = [
            ("", &[]),
            ("a photo of a cat.", &[320, 1125, 539, 320, 2368, 269]),
            ("It’s", &[585, 568]),
            ("2024", &[273, 271, 273, 275]),
            (
                "<|EndOfText|>a<|startoftext|>",
                &[END_OF_TEXT, 320, START_OF_TEXT],
            ),
            // A mark before it consumes its first characters.
            ("!<|endoftext|>", &[0, 27, 347, 40786, 4160, 91, 285]),
            ("'ſ", &[6, 129, 379]),
            ("\u{345}", &[]),
        ];
        for (text, ids) in cases {
            assert_eq!(inner(text), ids, "{text:?}");
        }
    }

    #[test]
    fn symbols_are_those_of_vocabulary_files() {
        let found = [0, 255, 256, 320, 49406].map(symbol);
        assert_eq!(found, ["!", "Ń", "!</w>", "a</w>", "<|startoftext|>"]);
        let all: std::collections::HashSet<_> = (0..VOCABULARY as u32).map(symbol).collect();
        assert_eq!(all.len(), VOCABULARY);
        assert_eq!(merges().next(), Some(("i".to_owned(), "n".to_owned())));
    }

    #[test]
    fn a_very_long_word_takes_reasonable_time() {
        // Quadratic work over two million bytes would take hours.
        let word = "abcdefghij".repeat(200_000);
        let ids = inner(&word);
        assert_eq!(decode(&ids), word + " ");
    }

    #[test]
    fn decoding_gives_the_words_back() {
        let cases = [
            ("A photo of a Cat.", "a photo of a cat . "),
            ("it's 2 汉字 👍🏽", "it 's 2 汉字 👍🏽 "),
            ("a <|endoftext|> b", "a <|endoftext|>b "),
        ];
        for (text, decoded) in cases {
            assert_eq!(decode(&inner(text)), decoded, "{text:?}");
        }
        assert_eq!(
            decode(&[320, VOCABULARY as u32, u32::MAX, 97]),
            "a \u{fffd}\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn pieces_are_readable() {
        let ids = inner("cats 汉 antidisestablishment");
        let pieces: Vec<String> = ids.iter().map(|&id| piece(id)).collect();
        let expected = "cats</w> \\xE6 \\xB1 \\x89</w> anti dise stab li shment</w>";
        assert_eq!(pieces.join(" "), expected);
        assert_eq!(piece(END_OF_TEXT), "<|endoftext|>");
        assert_eq!(piece(VOCABULARY as u32), "\u{fffd}");
    }

    #[test]
    fn no_two_tokens_are_the_same_text() {
        let mut pieces = std::collections::HashSet::new();
        for id in 0..merges::PIECES {
            let mut bytes = Vec::new();
            let ends_word = merges::expand(id, &mut bytes);
            assert!(pieces.insert((bytes, ends_word)), "{id}: {}", piece(id));
        }
        assert_eq!(pieces.len() + SPECIAL.len(), VOCABULARY);
    }
}
