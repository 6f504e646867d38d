//! The bytes that tensors are views of.

use std::ops::Range;
use std::sync::Arc;

use crate::file::mapped::Bytes;

/// Bytes shared by tensors: a range of a file's bytes.
#[derive(Clone)]
pub(in super::super) struct Storage {
    bytes: Arc<Bytes>,
    range: Range<usize>,
}

impl Storage {
    /// `range` of `bytes`; `None` when it does not lie inside.
    pub(in super::super) fn new(bytes: &Arc<Bytes>, range: Range<usize>) -> Option<Self> {
        bytes.get(range.clone())?;
        let bytes = Arc::clone(bytes);
        Some(Self { bytes, range })
    }

    /// The first `length` bytes; `None` when there are fewer.
    pub(in super::super) fn first(&self, length: usize) -> Option<Self> {
        let end = self.range.start.checked_add(length)?;
        let range = self.range.start..end;
        let bytes = Arc::clone(&self.bytes);
        (end <= self.range.end).then_some(Self { bytes, range })
    }

    /// How many bytes there are.
    pub(in super::super) fn length(&self) -> usize {
        self.range.len()
    }

    pub(super) fn owned(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        let bytes = Arc::new(Bytes::Owned(bytes));
        Self { bytes, range }
    }

    /// See [`Bytes::release`].
    pub(super) fn release(&self) {
        self.bytes.release(self.range.clone());
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }
}
