//! An output that several threads write, each its own part.
#![allow(
    unsafe_code,
    reason = "hands out parts of one slice to several threads"
)]

use std::marker::PhantomData;

/// A matrix whose rows, or parts of rows, are written by whichever thread drew them.
#[derive(Clone, Copy)]
pub(super) struct SharedRows<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: a unique borrow of plain numbers; users keep the parts they touch disjoint.
unsafe impl Send for SharedRows<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedRows<'_> {}

impl<'a> SharedRows<'a> {
    /// The matrix [len / width, width] in `values`.
    pub(super) fn new(values: &'a mut [f32], width: usize) -> SharedRows<'a> {
        let rows = values.len() / width.max(1);
        SharedRows {
            start: values.as_mut_ptr(),
            rows,
            width,
            life: PhantomData,
        }
    }

    /// Row `i`.
    ///
    /// # Safety
    /// No other thread touches this row while the slice lives.
    #[allow(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(super) unsafe fn row(&self, i: usize) -> &mut [f32] {
        // SAFETY: inside the borrowed slice; unique by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.at(i, 0), self.width) }
    }

    /// The address of row `i`, column `j`; panics outside the matrix.
    pub(super) fn at(&self, i: usize, j: usize) -> *mut f32 {
        assert!(
            i < self.rows && j < self.width.max(1),
            "row {i}, column {j} of {} x {}",
            self.rows,
            self.width
        );
        // SAFETY: inside the borrowed slice, as asserted.
        unsafe { self.start.add(i * self.width + j) }
    }
}
