//! CLIP's vocabulary: the merges of byte-pair encoding, and their application to one word.
//!
//! The 48,894 merges are compiled in as pairs of ids; the first use builds one table of 256 KiB, in
//! about half a millisecond. A table of strings would take a hundred times as long at every start
//! of the program.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::LazyLock;

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
