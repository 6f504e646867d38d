//! Segmentation of a tall matrix of tokens into sequences, and which rows attend to which.
//!
//! Texts are never padded: the tokens of all texts form one tall matrix, and because attention is
//! causal, tokens after the end-of-text are dropped and a prefix shared by several texts is
//! computed once. Both are exact.

use std::ops::Range;

use crate::input::tokenizer::{PaddedIds, TokenIds};
use crate::kernel::Segment;

/// How much work the texts of a batch share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Every text separately.
    Nothing,
    /// Each distinct prefix is computed once.
    Prefixes,
}

/// Rows that attend to each other.
#[derive(Debug)]
pub(crate) struct Sequences {
    pub(crate) segments: Vec<Segment>,
    /// Causal mask: a row sees only itself and the rows before it.
    pub(crate) causal: bool,
}

impl Sequences {
    /// `count` images of `tokens` rows each.
    pub(crate) fn images(count: usize, tokens: usize) -> Self {
        let segments = (0..count)
            .map(|image| Segment {
                rows: image * tokens..(image + 1) * tokens,
                prefix: Vec::new(),
            })
            .collect();
        Self {
            segments,
            causal: false,
        }
    }

    /// The common length of all sequences, if they have one and share nothing.
    pub(crate) fn uniform_length(&self) -> Option<usize> {
        let length = self.segments.first()?.rows.len();
        self.segments
            .iter()
            .all(|segment| segment.prefix.is_empty() && segment.rows.len() == length)
            .then_some(length)
    }
}

/// The tokens of several texts as rows, and the row where each text is pooled.
#[derive(Debug)]
pub(crate) struct TextRows {
    /// The token of each row.
    pub(crate) token_ids: Vec<u32>,
    /// The position of each row's token in its text.
    pub(crate) positions: Vec<usize>,
    pub(crate) sequences: Sequences,
    /// The row of each text's end-of-text token.
    pub(crate) pooled: Vec<usize>,
}

impl TextRows {
    /// No rows yet of this many texts.
    fn of(texts: usize) -> Self {
        Self {
            token_ids: Vec::new(),
            positions: Vec::new(),
            sequences: Sequences {
                segments: Vec::new(),
                causal: true,
            },
            pooled: vec![0; texts],
        }
    }

    /// Lays out `texts` with their padding.
    pub(crate) fn padded(texts: &[PaddedIds]) -> Self {
        let mut rows = Self::of(texts.len());
        for (index, text) in texts.iter().enumerate() {
            rows.pooled[index] = rows.segment(text.as_slice(), 0, &[]).start + text.end();
        }
        rows
    }

    /// Lays out `texts`, none of them empty.
    pub(crate) fn new(texts: &[&TokenIds], sharing: Sharing) -> Self {
        let mut rows = Self::of(texts.len());
        match sharing {
            Sharing::Nothing => {
                for (index, text) in texts.iter().enumerate() {
                    rows.segment(text.as_slice(), 0, &[]);
                    rows.pooled[index] = rows.token_ids.len() - 1;
                }
            }
            Sharing::Prefixes => {
                let mut sorted: Vec<usize> = (0..texts.len()).collect();
                sorted.sort_by_key(|&index| texts[index].as_slice());
                rows.trie(texts, &sorted, 0, &[]);
            }
        }
        rows
    }

    /// Adds the texts `sorted`, which agree in their first `depth` tokens; those are computed
    /// in the rows `prefix`.
    fn trie(
        &mut self,
        texts: &[&TokenIds],
        sorted: &[usize],
        depth: usize,
        prefix: &[Range<usize>],
    ) {
        let (Some(&first), Some(&last)) = (sorted.first(), sorted.last()) else {
            return;
        };
        // Sorted, so what the first and the last share, all share.
        let (first, last) = (texts[first].as_slice(), texts[last].as_slice());
        let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        let mut prefix = prefix.to_vec();
        if shared > depth {
            let rows = self.segment(&first[depth..shared], depth, &prefix);
            match prefix.last_mut() {
                Some(before) if before.end == rows.start => before.end = rows.end,
                _ => prefix.push(rows),
            }
        }
        let ends = sorted.partition_point(|&index| texts[index].len() == shared);
        for &index in &sorted[..ends] {
            self.pooled[index] = self.token_ids.len() - 1;
        }
        let mut rest = &sorted[ends..];
        while let Some(&index) = rest.first() {
            let token = texts[index].as_slice()[shared];
            let same = rest.partition_point(|&other| texts[other].as_slice()[shared] == token);
            let (group, others) = rest.split_at(same);
            self.trie(texts, group, shared, &prefix);
            rest = others;
        }
    }

    fn segment(&mut self, tokens: &[u32], start: usize, prefix: &[Range<usize>]) -> Range<usize> {
        let rows = self.token_ids.len()..self.token_ids.len() + tokens.len();
        self.token_ids.extend_from_slice(tokens);
        self.positions.extend(start..start + tokens.len());
        self.sequences.segments.push(Segment {
            rows: rows.clone(),
            prefix: prefix.to_vec(),
        });
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::tokenizer::{END_OF_TEXT as E, START_OF_TEXT as S};

    fn texts(lists: &[&[u32]]) -> Vec<TokenIds> {
        lists
            .iter()
            .map(|list| TokenIds::new(list.to_vec()).unwrap())
            .collect()
    }

    #[test]
    #[allow(
        clippy::single_range_in_vec_init,
        reason = "the test compares lists of ranges"
    )]
    fn shared_prefixes_become_one_segment() {
        let texts = texts(&[
            &[S, 1, 2, 5, E],
            &[S, 1, 3, E],
            &[S, 1, 2, 6, E],
            &[S, 1, 3, E],
        ]);
        let refs: Vec<_> = texts.iter().collect();
        let rows = TextRows::new(&refs, Sharing::Prefixes);
        assert_eq!(rows.token_ids, [S, 1, 2, 5, E, 6, E, 3, E]);
        assert_eq!(rows.positions, [0, 1, 2, 3, 4, 3, 4, 2, 3]);
        assert_eq!(rows.pooled, [4, 8, 6, 8]);
        let segments: Vec<_> = rows
            .sequences
            .segments
            .iter()
            .map(|segment| (segment.rows.clone(), segment.prefix.clone()))
            .collect();
        assert_eq!(
            segments,
            [
                (0..2, vec![]),
                (2..3, vec![0..2]),
                (3..5, vec![0..3]),
                (5..7, vec![0..3]),
                (7..9, vec![0..2]),
            ]
        );
    }

    #[test]
    fn without_sharing_every_text_is_separate() {
        let texts = texts(&[&[S, 1, E], &[S, 1, E], &[S, E]]);
        let refs: Vec<_> = texts.iter().collect();
        let rows = TextRows::new(&refs, Sharing::Nothing);
        assert_eq!(rows.token_ids, [S, 1, E, S, 1, E, S, E]);
        assert_eq!(rows.pooled, [2, 5, 7]);
        assert!(rows.sequences.segments.iter().all(|s| s.prefix.is_empty()));
    }
}
