//! Random access to the lines of a part of a file.

use std::io::BufRead as _;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

use crate::checkpoint::container::Bytes;

/// Longer lines are not rows: an embedding of the widest model takes less than 2 MB as text.
const LONGEST_BYTES: usize = 16 << 20;

/// Positions of the lines within some bytes.
pub(super) struct Lines {
    bytes: Arc<Bytes>,
    /// Start of each line, and the end of the last one.
    starts: Vec<usize>,
}

impl Lines {
    /// Finds the lines of `range`; the last one may lack its newline.
    pub(super) fn new(bytes: &Arc<Bytes>, range: Range<usize>) -> Result<Self> {
        let mut rest = bytes.get(range.clone()).context("the file is cut short")?;
        let mut starts = vec![range.start];
        let mut at = range.start;
        while !rest.is_empty() {
            let length = rest.skip_until(b'\n')?;
            ensure!(
                length <= LONGEST_BYTES,
                "line {} has {length} bytes, too many for a row",
                starts.len()
            );
            at += length;
            starts.push(at);
        }
        Ok(Self {
            bytes: Arc::clone(bytes),
            starts,
        })
    }

    pub(super) fn count(&self) -> usize {
        self.starts.len() - 1
    }

    /// The line of this index, without its newline.
    pub(super) fn get(&self, index: usize) -> Result<&[u8]> {
        let (start, end) = index
            .checked_add(1)
            .and_then(|next| Some((self.starts.get(index)?, self.starts.get(next)?)))
            .with_context(|| format!("there is no row {index}"))?;
        let line = &self.bytes[*start..*end];
        Ok(line.strip_suffix(b"\n").unwrap_or(line))
    }
}
