//! Text to token ids and back: CLIP's byte-pair encoding, with openai/CLIP's exact results.
//!
//! One vocabulary serves every CLIP and Long-CLIP model; only the context length differs, and that
//! is the caller's. Knows no tensors.

mod chunk;
mod fit;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::LazyLock;

use regex::Regex;

use super::text::clean;

pub use fit::{Cut, Fitted, LongText, PaddedIds, TokenIds, fit};

pub(crate) use fit::{LONGEST_TEXT, Reading};

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
/// A literal `<|endoftext|>` or `<|startoftext|>` in the text, in any case, is that one token, as
/// in the reference.
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
            None if expand(id, &mut bytes) => bytes.push(b' '),
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
    let ends_word = expand(id, &mut bytes);
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
            let ends_word = expand(id, &mut bytes);
            let word: String = bytes.iter().map(|&byte| character(byte)).collect();
            word + if ends_word { "</w>" } else { "" }
        }
    }
}

/// The merges in order of rank, each as the two symbols that it joins.
pub fn merges() -> impl Iterator<Item = (String, String)> {
    pairs().map(|(left, right)| (symbol(left.into()), symbol(right.into())))
}

/// The name of an id that is not a piece of text.
fn special_or_unknown(id: u32) -> Option<&'static str> {
    match SPECIAL.iter().find(|(_, special)| *special == id) {
        Some((name, _)) => Some(name),
        None if id >= PIECES => Some("\u{fffd}"),
        None => None,
    }
}

/// Pairs of little-endian ids; entry i makes token [`FIRST_MERGE`] + i. Written by `make.py` next
/// to it.
static PAIRS: &[u8; 4 * MERGES] = include_bytes!("../../../assets/tokenizer/merges.bin");

const MERGES: usize = 48_894;
/// Ids below are single bytes; ids from here to the first merge are single bytes that end a word.
const FIRST_WORD_END: u16 = 256;
const FIRST_MERGE: u16 = 512;
/// One past the last piece; the two special tokens follow.
pub(super) const PIECES: u32 = FIRST_MERGE as u32 + MERGES as u32;

/// The bytes in the order of their ids: first those that are printable in Latin-1, then the others.
const BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut filled = 0;
    let mut pass = 0;
    while pass < 2 {
        let mut byte = 0;
        while byte < 256 {
            let prints = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
            if prints == (pass == 0) {
                bytes[filled] = byte as u8;
                filled += 1;
            }
            byte += 1;
        }
        pass += 1;
    }
    bytes
};

/// The inverse of [`BYTES`].
const BYTE_IDS: [u16; 256] = {
    let mut ids = [0; 256];
    let mut id = 0;
    while id < 256 {
        ids[BYTES[id] as usize] = id as u16;
        id += 1;
    }
    ids
};

/// Appends the bytes of the piece `id`, which is below [`PIECES`]; true if it ends a word.
pub(super) fn expand(id: u32, bytes: &mut Vec<u8>) -> bool {
    debug_assert!(id < PIECES);
    let Some(merge) = id.checked_sub(FIRST_MERGE.into()) else {
        bytes.push(BYTES[id as usize % 256]);
        return id >= FIRST_WORD_END.into();
    };
    // The parts of a merge have smaller ids than the merge, so this terminates.
    let (left, right) = pair(merge as usize);
    expand(left.into(), bytes);
    expand(right.into(), bytes)
}

/// The printable character for a byte in vocabulary files: itself if it is printable in Latin-1,
/// else one from U+0100 on.
pub(super) fn character(byte: u8) -> char {
    const PRINTING: u16 = 188;
    let id = BYTE_IDS[usize::from(byte)];
    let code = if id < PRINTING {
        u32::from(byte)
    } else {
        256 + u32::from(id - PRINTING)
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// All merges in order of rank, as the ids they join.
pub(super) fn pairs() -> impl Iterator<Item = (u16, u16)> {
    (0..MERGES).map(pair)
}

/// The two ids that merge number `rank` joins.
fn pair(rank: usize) -> (u16, u16) {
    let entry = &PAIRS[4 * rank..4 * rank + 4];
    let id = |at| u16::from_le_bytes([entry[at], entry[at + 1]]);
    (id(0), id(2))
}

/// From a pair to its rank, by open addressing: a slot holds a rank, and the pair of that rank is
/// compared in [`PAIRS`], so that the table needs no keys.
struct Ranks {
    slots: Vec<u16>,
}

static RANKS: LazyLock<Ranks> = LazyLock::new(Ranks::build);

impl Ranks {
    /// 2^17 slots for 48,894 ranks: a lookup reads 1.3 slots on average.
    const BITS: u32 = 17;
    const EMPTY: u16 = u16::MAX;

    fn build() -> Self {
        let mut slots = vec![Self::EMPTY; 1 << Self::BITS];
        for rank in 0..MERGES {
            let mut slot = Self::first_slot(pair(rank));
            while slots[slot] != Self::EMPTY {
                slot = Self::next_slot(slot);
            }
            slots[slot] = rank as u16; // MERGES < EMPTY
        }
        Self { slots }
    }

    /// The rank of a pair, if it is a merge. Lower ranks are merged first.
    fn of(&self, wanted: (u16, u16)) -> Option<u16> {
        let mut slot = Self::first_slot(wanted);
        loop {
            match self.slots[slot] {
                Self::EMPTY => return None,
                rank if pair(rank.into()) == wanted => return Some(rank),
                _ => slot = Self::next_slot(slot),
            }
        }
    }

    fn first_slot((left, right): (u16, u16)) -> usize {
        let key = u32::from(left) << 16 | u32::from(right);
        (key.wrapping_mul(0x9e37_79b1) >> (32 - Self::BITS)) as usize
    }

    fn next_slot(slot: usize) -> usize {
        (slot + 1) % (1 << Self::BITS)
    }
}

/// A piece of the current word, in a list linked by positions.
struct Symbol {
    id: u16,
    previous: usize,
    next: usize,
}

/// No symbol: before the first, after the last.
const NONE: usize = usize::MAX;
/// Id of a symbol that was merged into the one before it; no piece has this id.
const JOINED: u16 = u16::MAX;

/// Merges the bytes of words. Reuses its buffers from word to word.
///
/// The reference searches the whole word for the best pair after each merge, which is quadratic;
/// here the pairs are queued in a heap, so that even a word of a megabyte takes reasonable time.
/// The result is the same: a merge only creates pairs of higher rank than its own (checked by
/// `make.py`), so all occurrences of one pair are merged, from left to right, before any later
/// pair.
#[derive(Default)]
pub(super) struct Joiner {
    symbols: Vec<Symbol>,
    waiting: BinaryHeap<Reverse<(u16, usize)>>,
}

impl Joiner {
    /// Appends the ids of one word.
    pub(super) fn join(&mut self, word: &str, ids: &mut Vec<u32>) {
        self.start(word.as_bytes());
        while let Some(Reverse((rank, at))) = self.waiting.pop() {
            let next = self.symbols[at].next;
            // A queued pair may be obsolete: one of its parts may have been merged with another.
            if next != NONE && (self.symbols[at].id, self.symbols[next].id) == pair(rank.into()) {
                self.merge(at, next, FIRST_MERGE + rank);
            }
        }
        let pieces = self.symbols.iter().map(|symbol| symbol.id);
        ids.extend(pieces.filter(|&id| id != JOINED).map(u32::from));
    }

    fn start(&mut self, bytes: &[u8]) {
        self.symbols.clear();
        let last = bytes.len().wrapping_sub(1);
        let symbols = bytes.iter().enumerate().map(|(at, &byte)| Symbol {
            id: BYTE_IDS[usize::from(byte)] + if at == last { FIRST_WORD_END } else { 0 },
            previous: at.wrapping_sub(1), // NONE for the first
            next: if at == last { NONE } else { at + 1 },
        });
        self.symbols.extend(symbols);
        for at in 0..last.min(bytes.len()) {
            self.wait(at, at + 1);
        }
    }

    /// Queues the pair at `left` and `right` if it is a merge.
    fn wait(&mut self, left: usize, right: usize) {
        if let Some(rank) = RANKS.of((self.symbols[left].id, self.symbols[right].id)) {
            self.waiting.push(Reverse((rank, left)));
        }
    }

    /// Merges the symbols at `left` and `right` into the piece `id`, at `left`.
    fn merge(&mut self, left: usize, right: usize, id: u16) {
        let next = self.symbols[right].next;
        self.symbols[right].id = JOINED;
        self.symbols[left].id = id;
        self.symbols[left].next = next;
        if next != NONE {
            self.symbols[next].previous = left;
            self.wait(left, next);
        }
        let previous = self.symbols[left].previous;
        if previous != NONE {
            self.wait(previous, left);
        }
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
        for id in 0..PIECES {
            let mut bytes = Vec::new();
            let ends_word = expand(id, &mut bytes);
            assert!(pieces.insert((bytes, ends_word)), "{id}: {}", piece(id));
        }
        assert_eq!(pieces.len() + SPECIAL.len(), VOCABULARY);
    }
}
