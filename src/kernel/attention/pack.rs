//! A head's keys and values, packed as right operands of products.
#![allow(
    unsafe_code,
    reason = "vector methods and raw pointers into scratch; contracts are stated"
)]

use std::ops::Range;

use super::head::Head;
use crate::kernel::simd::{Rows, Simd};

/// The layout of packed keys and values.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Keys before the segment's own.
    pub(super) prefix: usize,
    /// Keys.
    pub(super) count: usize,
    /// Columns of a head, padded to whole pairs of vectors.
    pub(super) columns: usize,
    /// 2 where a lane holds two bf16, else 1.
    pub(super) keys_a_lane: usize,
    /// Lanes per key.
    pub(super) key_lanes: usize,
    /// Lanes per column of values.
    pub(super) value_lanes: usize,
    /// Lanes for all keys.
    keys_room: usize,
}

impl Layout {
    /// The layout for the segment of `head` at the vectors of `V`.
    #[inline(always)]
    pub(super) fn of<V: Simd>(head: &Head) -> Layout {
        let width = head.call.shape.head_dim;
        let segment = &head.call.segments[head.unit.segment];
        let prefix = segment.prefix.iter().map(Range::len).sum();
        let count: usize = prefix + segment.rows.len();
        let keys_a_lane = if head.call.half { 2 } else { 1 };
        let key_lanes = width.div_ceil(keys_a_lane);
        Layout {
            prefix,
            count,
            columns: width.next_multiple_of(2 * V::LANES),
            keys_a_lane,
            key_lanes,
            value_lanes: count.div_ceil(keys_a_lane),
            keys_room: count.next_multiple_of(2 * V::LANES) * key_lanes + V::LANES,
        }
    }

    /// Lanes of keys and values together.
    pub(super) fn lanes(&self) -> usize {
        self.keys_room + self.columns * self.value_lanes
    }
}

/// Packed keys and values.
pub(super) struct Packed {
    layout: Layout,
    /// `[group of keys][lane of columns][key]`.
    pub(super) keys: *const f32,
    /// [group of columns][lane of keys][column].
    pub(super) values: *const f32,
}

impl std::ops::Deref for Packed {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        &self.layout
    }
}

/// Prefetch distance in rows.
const ROWS_AHEAD: usize = 12;

impl Head<'_> {
    /// The address of the head's query (`part` 0), key (1) or value (2) of row `row`.
    pub(super) fn part(&self, row: usize, part: usize) -> *const f32 {
        let width = self.call.width();
        let start = row * 3 * width + part * width + self.head * self.call.shape.head_dim;
        self.call.qkv[start..].as_ptr()
    }

    /// Prefetches the head's part of row `row`: its rows lie too far apart for the hardware
    /// prefetcher.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    pub(super) unsafe fn ask_for<V: Simd>(&self, row: usize, part: usize) {
        let width = self.call.width();
        if row * 3 * width < self.call.qkv.len() {
            let start = self.part(row, part);
            for column in (0..self.call.shape.head_dim).step_by(16) {
                // SAFETY: the caller vouches for the CPU.
                unsafe { V::prefetch(start.wrapping_add(column)) };
            }
        }
    }

    /// Packs the keys and values of the segment into `to`. `work` has room for LANES rows of a
    /// head.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; `to` has room for the layout's lanes.
    #[inline(always)]
    pub(super) unsafe fn pack<V: Simd>(
        &self,
        layout: Layout,
        to: *mut f32,
        work: *mut f32,
    ) -> Packed {
        // SAFETY: the caller's promises; keys take their lanes of the layout, values follow.
        unsafe {
            let values = to.add(layout.keys_room);
            self.pack_keys::<V>(&layout, to, work);
            if self.call.half {
                self.pack_value_pairs::<V>(&layout, values)
            } else {
                self.pack_values::<V>(&layout, values)
            }
            Packed {
                layout,
                keys: to,
                values,
            }
        }
    }

    /// The rows of the keys, first to last.
    fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let segment = &self.call.segments[self.unit.segment];
        segment.prefix.iter().chain([&segment.rows]).cloned()
    }

    /// Packs the keys.
    ///
    /// # Safety
    /// As for [`Head::pack`].
    #[inline(always)]
    unsafe fn pack_keys<V: Simd>(&self, layout: &Layout, to: *mut f32, work: *mut f32) {
        let (count, lanes) = (layout.count, layout.key_lanes);
        // The distance between rows is what encoding writes.
        let stride = self.call.shape.head_dim.next_multiple_of(V::LANES);
        let (mut group, mut pending) = (0, 0);
        for mut range in self.ranges() {
            while !range.is_empty() {
                let take = range.len().min(V::LANES - pending);
                let complete = |rows| rows == V::LANES || group * V::LANES + rows == count;
                let in_place = !self.call.half && pending == 0 && complete(take);
                // SAFETY: rows inside `qkv`; the group and `work` have room for V::LANES rows.
                unsafe {
                    let mut from = Rows {
                        start: self.part(range.start, 1),
                        stride: 3 * self.call.width(),
                        rows: take,
                    };
                    if in_place {
                        for i in 0..take {
                            self.ask_for::<V>(range.start + i + V::LANES, 1);
                        }
                    } else {
                        for i in 0..take {
                            self.ask_for::<V>(range.start + i + ROWS_AHEAD, 1);
                            self.encode::<V>(
                                self.part(range.start + i, 1),
                                work.add((pending + i) * stride),
                            );
                        }
                        from = Rows {
                            start: work,
                            stride,
                            rows: pending + take,
                        };
                    }
                    pending += take;
                    if complete(pending) {
                        V::interleave(from, lanes, V::LANES, to.add(group * lanes * V::LANES));
                        group += 1;
                        pending = 0;
                    }
                }
                range.start += take;
            }
        }
    }

    /// Packs the values; the columns past the head's are 0.
    ///
    /// # Safety
    /// As for [`Head::pack`].
    #[inline(always)]
    unsafe fn pack_values<V: Simd>(&self, layout: &Layout, to: *mut f32) {
        for (key, row) in self.ranges().flatten().enumerate() {
            let from = self.part(row, 2);
            // SAFETY: the caller vouches for the CPU.
            unsafe { self.ask_for::<V>(row + ROWS_AHEAD, 2) };
            for column in (0..layout.columns).step_by(V::LANES) {
                // SAFETY: each group has room for `count` vectors.
                unsafe {
                    let values = self.columns::<V>(from, column);
                    values.store(to.add(column * layout.value_lanes + key * V::LANES));
                }
            }
        }
    }

    /// Packs the values of two keys per lane; those past the last key and the columns past the
    /// head's are 0.
    ///
    /// # Safety
    /// As for [`Head::pack`].
    #[inline(always)]
    unsafe fn pack_value_pairs<V: Simd>(&self, layout: &Layout, to: *mut f32) {
        let mut rows = self.ranges().flatten();
        for pair in 0..layout.value_lanes {
            let first = rows.next().map(|row| self.part(row, 2));
            let second = rows.next().map(|row| {
                // SAFETY: the caller vouches for the CPU.
                unsafe {
                    self.ask_for::<V>(row + ROWS_AHEAD - 1, 2);
                    self.ask_for::<V>(row + ROWS_AHEAD, 2);
                }
                self.part(row, 2)
            });
            for column in (0..layout.columns).step_by(V::LANES) {
                // SAFETY: each group has room for the vectors of all pairs.
                unsafe {
                    let low = first.map_or(V::splat(0.0), |from| self.columns::<V>(from, column));
                    let high = second.map_or(V::splat(0.0), |from| self.columns::<V>(from, column));
                    V::pair_bf16(low, high)
                        .store(to.add(column * layout.value_lanes + pair * V::LANES));
                }
            }
        }
    }

    /// A vector of columns, from `column` on, of a row's part of the head; 0 past its end.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; `from` is a row's part.
    #[inline(always)]
    unsafe fn columns<V: Simd>(&self, from: *const f32, column: usize) -> V {
        // SAFETY: only columns of the head are read.
        unsafe {
            match self.call.shape.head_dim.saturating_sub(column) {
                0 => V::splat(0.0),
                left if left < V::LANES => V::load_part(from.add(column), left, 0.0),
                _ => V::load(from.add(column)),
            }
        }
    }

    /// Writes a row's part of the head to `to`, rounded to bf16 if products use it, padded with 0
    /// to whole vectors.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; `to` has room.
    #[inline(always)]
    pub(super) unsafe fn encode<V: Simd>(&self, from: *const f32, to: *mut f32) {
        for column in (0..self.call.shape.head_dim).step_by(V::LANES) {
            // SAFETY: the caller's promises.
            unsafe {
                let values = self.columns::<V>(from, column);
                if self.call.half {
                    values.store_bf16(to.cast::<u16>().add(column))
                } else {
                    values.store(to.add(column))
                }
            }
        }
    }
}
