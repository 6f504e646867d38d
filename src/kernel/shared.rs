//! An output written by several threads, each its own part.
#![allow(
    unsafe_code,
    reason = "hands out parts of one slice to several threads"
)]

use std::marker::PhantomData;

/// A matrix whose rows, or parts of rows, are written by whichever thread took them.
#[derive(Clone, Copy)]
pub(super) struct SharedRows<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: a unique borrow of plain numbers; users access disjoint parts only.
unsafe impl Send for SharedRows<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedRows<'_> {}

impl<'a> SharedRows<'a> {
    /// Views `values` as the matrix [len / width, width].
    pub(super) fn new(values: &'a mut [f32], width: usize) -> SharedRows<'a> {
        let rows = values.len() / width.max(1);
        SharedRows {
            start: values.as_mut_ptr(),
            rows,
            width,
            life: PhantomData,
        }
    }

    /// A matrix [rows, width] in the spare capacity of `values`, which must be reserved; every
    /// value must be written before it is read.
    pub(super) fn spare(values: &'a mut Vec<f32>, rows: usize, width: usize) -> SharedRows<'a> {
        let spare = values.spare_capacity_mut();
        assert!(
            spare.len() >= rows * width,
            "no room for {rows} x {width} values"
        );
        SharedRows {
            start: spare.as_mut_ptr().cast(),
            rows,
            width,
            life: PhantomData,
        }
    }

    /// `count` rows from row `first` on.
    pub(super) fn part(self, first: usize, count: usize) -> SharedRows<'a> {
        assert!(
            first + count <= self.rows,
            "rows {first} + {count} of {}",
            self.rows
        );
        SharedRows {
            start: self.start.wrapping_add(first * self.width),
            rows: count,
            ..self
        }
    }

    /// Row `i`.
    ///
    /// # Safety
    /// No other thread accesses this row while the slice lives.
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
