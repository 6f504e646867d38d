//! Aligned memory: packed weights on huge pages, per-thread scratch kept between calls; and an
//! output that several threads write, each its own part.
#![allow(
    unsafe_code,
    reason = "allocates with an alignment that Vec cannot give, and hands out parts of one slice"
)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Alignment of small buffers: a cache line.
const LINE: usize = 64;
/// The size of a huge page, and the alignment of buffers of at least this size.
const HUGE_PAGE: usize = 2 << 20;

/// Uninitialised lanes of 32 bits, 64-byte aligned. Users must write lanes before reading them.
pub(super) struct Buffer {
    start: NonNull<f32>,
    layout: Layout,
}

// SAFETY: the buffer owns its memory and has no interior state.
unsafe impl Send for Buffer {}
// SAFETY: as above; shared access is through raw pointers, whose users state their contracts.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Allocates room for `lanes` values.
    pub(super) fn new(lanes: usize) -> Buffer {
        let bytes = (lanes.max(1) * 4).next_multiple_of(LINE);
        let align = if bytes >= HUGE_PAGE { HUGE_PAGE } else { LINE };
        let layout = Layout::from_size_align(bytes, align).expect("a size below isize::MAX");
        // SAFETY: the layout's size is not 0.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start.cast::<f32>()) else {
            handle_alloc_error(layout)
        };
        if align == HUGE_PAGE {
            ask_for_huge_pages(start, bytes);
        }
        Buffer { start, layout }
    }

    /// The capacity in lanes.
    pub(super) fn lanes(&self) -> usize {
        self.layout.size() / 4
    }

    /// The address of the first lane. Only the buffer's owner may write through it.
    pub(super) fn pointer(&self) -> *mut f32 {
        self.start.as_ptr()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start.as_ptr().cast(), self.layout) }
    }
}

/// Fewer TLB misses save 1 to 3% of the time per image. Advice only, so failure is ignored.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages(start: NonNull<f32>, bytes: usize) {
    const MADV_HUGEPAGE: std::ffi::c_int = 14;
    unsafe extern "C" {
        fn madvise(
            start: *mut std::ffi::c_void,
            bytes: usize,
            advice: std::ffi::c_int,
        ) -> std::ffi::c_int;
    }
    // SAFETY: the range is one allocation of ours, page-aligned; the advice does not change its
    // contents.
    unsafe { madvise(start.as_ptr().cast(), bytes, MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_start: NonNull<f32>, _bytes: usize) {}

thread_local! {
    /// Scratch buffers of this thread that are free. A stack, because a thread that waits for
    /// others may start another piece of work before it finishes the first.
    static SPARE: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// A scratch buffer, given back to its thread when dropped.
pub(super) struct Scratch(Option<Buffer>);

impl Scratch {
    /// Takes a buffer with room for at least `lanes` values, with arbitrary content.
    pub(super) fn new(lanes: usize) -> Scratch {
        let fitting = SPARE.with_borrow_mut(|spare| {
            let position = spare.iter().rposition(|buffer| buffer.lanes() >= lanes);
            // Too small: drop it, so that buffers of all sizes do not accumulate.
            position
                .map(|at| spare.swap_remove(at))
                .or_else(|| spare.pop().filter(|b| b.lanes() >= lanes))
        });
        Scratch(Some(fitting.unwrap_or_else(|| Buffer::new(lanes))))
    }

    /// The address of the first lane.
    pub(super) fn pointer(&self) -> *mut f32 {
        self.0
            .as_ref()
            .map_or(std::ptr::null_mut(), Buffer::pointer)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(buffer) = self.0.take() {
            // A thread that is ending cannot keep it: the buffer is freed.
            let _ = SPARE.try_with(|spare| spare.borrow_mut().push(buffer));
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned() {
        for lanes in [0, 1, 100, 1 << 20] {
            let buffer = Buffer::new(lanes);
            assert!(buffer.lanes() >= lanes);
            assert_eq!(buffer.pointer() as usize % LINE, 0);
        }
    }

    #[test]
    fn scratch_in_use_is_not_handed_out_again() {
        let first = Scratch::new(100);
        let second = Scratch::new(100);
        let address = first.pointer();
        assert_ne!(address, second.pointer());
        drop(first);
        assert_eq!(Scratch::new(50).pointer(), address);
    }
}
