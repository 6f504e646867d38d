//! Splits a long text into chunks that fit the model's context.

use std::ops::Range;

use anyhow::{Result, ensure};

use super::fit::{Chunk, TokenIds};
use super::{END_OF_TEXT, Joiner, START_OF_TEXT, WORD, encode_word};

/// More than the longest text has at usual strides; a stride of one would take minutes.
const MAX_CHUNKS: usize = 1 << 13;

/// Splits a cleaned text of more than `room` tokens into chunks of at most `room` tokens that end
/// at word ends. With a `stride` they overlap: each begins at the first word that is at least
/// `stride` tokens after the start of the previous one, and no token in between is lost.
///
/// Words are separated by spaces. A word longer than `room` is split between letters, digits and
/// signs, and a part that is still longer between any two tokens.
///
/// A literal end of text ends the text here as everywhere.
///
/// # Errors
/// When `stride` is zero or larger than `room`, when there is no room at all, and when there are
/// too many chunks.
pub(super) fn cut(cleaned: &str, room: usize, stride: Option<usize>) -> Result<Vec<Chunk>> {
    ensure!(
        room > 0,
        "the model reads no tokens between the start and the end of a text"
    );
    let step = stride.unwrap_or(room);
    ensure!(
        (1..=room).contains(&step),
        "a stride of {step} tokens is out of range; choose 1 to {room}"
    );
    let words = Words::new(cleaned, room);
    let ranges = words.ranges(room, stride)?;
    ranges.into_iter().map(|range| words.chunk(range)).collect()
}

/// A text's token ids without start and end, and where it may be split.
struct Words {
    ids: Vec<u32>,
    /// Positions among the ids, rising, at most the room apart; the last is the number of ids.
    ends: Vec<usize>,
}

impl Words {
    fn new(cleaned: &str, room: usize) -> Self {
        let mut joiner = Joiner::default();
        let (mut ids, mut ends) = (Vec::new(), Vec::new());
        for word in cleaned.split(' ') {
            let start = ids.len();
            let mut inner = Vec::new();
            for part in WORD.find_iter(word) {
                let from = ids.len();
                encode_word(part.as_str(), &mut joiner, &mut ids);
                if ids.len() - from > room {
                    inner.extend(from + 1..ids.len());
                }
                inner.push(ids.len());
            }
            if ids.len() - start > room {
                ends.extend(inner);
            } else if ids.len() > start {
                ends.push(ids.len());
            }
        }
        if let Some(end) = ids.iter().position(|&id| id == END_OF_TEXT) {
            ids.truncate(end);
            ends.retain(|&at| at < end);
            ends.push(end);
        }
        Self { ids, ends }
    }

    /// The range of ids of each chunk.
    fn ranges(&self, room: usize, stride: Option<usize>) -> Result<Vec<Range<usize>>> {
        let mut ranges = Vec::new();
        let mut start = 0;
        loop {
            let end = self.last_end_within(start + room);
            ranges.push(start..end);
            if end == self.ids.len() {
                return Ok(ranges);
            }
            ensure!(
                ranges.len() < MAX_CHUNKS,
                "it has more than {MAX_CHUNKS} chunks; use a larger --stride or a shorter text"
            );
            start = match stride {
                Some(stride) => self.first_end_from(start + stride).min(end),
                None => end,
            };
        }
    }

    /// The last position to split at that is at most `limit`.
    fn last_end_within(&self, limit: usize) -> usize {
        let after = self.ends.partition_point(|&end| end <= limit);
        after.checked_sub(1).map_or(0, |last| self.ends[last])
    }

    /// The first position to split at that is at least `least`.
    fn first_end_from(&self, least: usize) -> usize {
        let first = self.ends.partition_point(|&end| end < least);
        self.ends.get(first).copied().unwrap_or(self.ids.len())
    }

    fn chunk(&self, range: Range<usize>) -> Result<Chunk> {
        let mut ids = Vec::with_capacity(range.len() + 2);
        ids.push(START_OF_TEXT);
        ids.extend_from_slice(&self.ids[range]);
        ids.push(END_OF_TEXT);
        Ok(Chunk::new(TokenIds::new(ids)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LongText, clean, decode, encode, fit};
    use super::*;

    /// The texts of the chunks.
    fn said(text: &str, context_length: usize, policy: LongText) -> Vec<String> {
        let fitted = fit(text, context_length, policy).unwrap();
        assert_eq!(fitted.cut, None);
        let said = |chunk: &Chunk| {
            let ids = chunk.token_ids.as_slice();
            assert_eq!(chunk.tokens, ids.len() - 2);
            assert!(ids.len() <= context_length, "{} tokens", ids.len());
            decode(&ids[1..ids.len() - 1]).trim_end().to_owned()
        };
        fitted.chunks.iter().map(said).collect()
    }

    const SLIDE: fn(usize) -> LongText = |stride| LongText::Slide {
        stride: Some(stride),
    };

    #[test]
    fn chunks_end_at_word_ends() {
        let text = "One two, three don't four.";
        // one two , three don 't four .
        let cases: [(usize, &[&str]); 5] = [
            (10, &["one two , three don 't four ."]),
            (9, &["one two , three don 't", "four ."]),
            (7, &["one two , three", "don 't four ."]),
            (6, &["one two , three", "don 't four ."]),
            (5, &["one two ,", "three don 't", "four ."]),
        ];
        for (context_length, expected) in cases {
            for policy in [LongText::ChunkMean, LongText::BestChunk] {
                assert_eq!(said(text, context_length, policy), expected);
            }
        }
    }

    #[test]
    fn words_longer_than_the_room_are_split_at_signs_and_then_anywhere() {
        assert_eq!(
            said("a,b,c,d e", 5, LongText::ChunkMean),
            ["a , b", ", c ,", "d e"]
        );
        let text = "x antidisestablishmentarianism y";
        let chunks = said(text, 4, LongText::ChunkMean);
        assert_eq!(chunks.concat().replace(' ', ""), text.replace(' ', ""));
        assert!(chunks.len() > 2, "{chunks:?}");
    }

    #[test]
    fn windows_overlap_by_what_the_stride_leaves() {
        let text = "one two three four five six seven";
        let cases: [(usize, &[&str]); 4] = [
            (4, &["one two three four", "five six seven"]),
            (
                2,
                &[
                    "one two three four",
                    "three four five six",
                    "five six seven",
                ],
            ),
            (3, &["one two three four", "four five six seven"]),
            (
                1,
                &[
                    "one two three four",
                    "two three four five",
                    "three four five six",
                    "four five six seven",
                ],
            ),
        ];
        for (stride, expected) in cases {
            assert_eq!(said(text, 6, SLIDE(stride)), expected, "{stride}");
        }
        let half = said(text, 6, LongText::Slide { stride: None });
        assert_eq!(half, said(text, 6, SLIDE(2)));
        // The word after the stride begins beyond the window: the next window follows it directly.
        assert_eq!(
            said("one antidisestablishment two", 8, SLIDE(2)),
            ["one antidisestablishment", "two"]
        );
    }

    #[test]
    fn chunks_and_windows_lose_no_token() {
        let text =
            "Sphinx of black quartz, judge my vow! 2024 汉字👍 antidisestablishmentarianism "
                .repeat(20);
        let all = encode(&text);
        let all = &all[1..all.len() - 1];
        for room in [1, 2, 7, 75, 246] {
            let words = Words::new(clean(&text).as_str(), room);
            assert_eq!(words.ids, all);
            for stride in [None, Some(1), Some(room.div_ceil(2)), Some(room)] {
                let ranges = words.ranges(room, stride).unwrap();
                assert_eq!(
                    (ranges[0].start, ranges[ranges.len() - 1].end),
                    (0, all.len())
                );
                assert!(ranges.iter().all(|range| range.len() <= room));
                for pair in ranges.windows(2) {
                    let overlap = pair[0].end - pair[1].start;
                    assert!(pair[0].start < pair[1].start && pair[0].end <= pair[1].end);
                    assert!(stride.is_some() || overlap == 0, "{pair:?}");
                }
            }
        }
    }

    #[test]
    fn a_literal_end_of_text_ends_the_text() {
        let text = "one two three <|endoftext|> four five six";
        assert_eq!(said(text, 4, LongText::ChunkMean), ["one two", "three"]);
        assert_eq!(said("<|endoftext|> a b c", 4, LongText::ChunkMean), [""]);
    }

    #[test]
    fn strides_out_of_range_are_refused() {
        for (context_length, stride) in [(6, 0), (6, 5), (77, usize::MAX)] {
            let error = fit(&"one ".repeat(90), context_length, SLIDE(stride)).unwrap_err();
            let room = context_length - 2;
            let expected =
                format!("a stride of {stride} tokens is out of range; choose 1 to {room}");
            assert_eq!(error.root_cause().to_string(), expected);
        }
        let many = "a ".repeat(MAX_CHUNKS + 10);
        assert!(fit(&many, 4, SLIDE(1)).is_err());
        assert!(fit(&many, 4, LongText::ChunkMean).is_ok());
        assert!(fit("a b", 2, LongText::ChunkMean).is_err());
    }
}
