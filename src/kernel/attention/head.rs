//! One head of one segment.
#![allow(unsafe_code, reason = "vector methods and raw pointers into scratch; contracts are stated")]

use std::ops::Range;

use super::{Call, Unit};
use crate::kernel::buffer::Scratch;
use crate::kernel::dispatch::Job;
use crate::kernel::exp::exp;
use crate::kernel::matmul::tile::{Ahead, Operands};
use crate::kernel::matmul::tiles::{STRIDE, strided_tile};
use crate::kernel::simd::{Rows, Simd};

/// Keys taken at once: their scores, for a tile of queries, stay in the first-level cache. Fixed, for sums
/// are cut here: a row's result must not depend on how many rows its neighbours see.
const CHUNK: usize = 320;

/// The widest head.
pub(super) const MOST_COLUMNS: usize = CHUNK;

/// Most rows of a tile at any level.
const MOST_ROWS: usize = 14;

/// The work of head `head` of the segment of `unit`.
pub(super) struct Head<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) unit: &'a Unit,
    pub(super) head: usize,
}

/// A head's keys and values, packed as the second operands of products.
struct Packed {
    /// Keys before the segment's own.
    prefix: usize,
    count: usize,
    /// [group of keys][column][key].
    keys: *mut f32,
    /// [group of columns][key][column].
    values: *mut f32,
    /// Columns of a head, filled up to whole pairs of vectors.
    columns: usize,
}

/// A tile of queries while it meets the keys.
struct Tile {
    rows: usize,
    /// How many keys each row sees.
    visible: [usize; MOST_ROWS],
    /// The largest score so far, unscaled.
    largest: [f32; MOST_ROWS],
    /// The sum of the exponentials so far.
    sums: [f32; MOST_ROWS],
    /// Queries [rows][STRIDE]; scores, then weights [rows][STRIDE]; results [rows][columns]; those of a chunk.
    queries: *mut f32,
    scores: *mut f32,
    results: *mut f32,
    partial: *mut f32,
}

impl Job for Head<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let pair = 2 * V::LANES;
        let width = self.call.shape.head_dim;
        let segment = &self.call.segments[self.unit.segment];
        let ranges = || segment.prefix.iter().chain([&segment.rows]).cloned();
        let prefix = segment.prefix.iter().map(Range::len).sum();
        let count: usize = prefix + segment.rows.len();
        let columns = width.next_multiple_of(pair);
        let keys_lanes = count.next_multiple_of(pair) * width + V::LANES;
        let tile_lanes = V::ROWS * (2 * STRIDE + 2 * columns);
        let scratch = Scratch::new(keys_lanes + columns * count + tile_lanes);
        // SAFETY: the scratch holds the parts laid out in it one after the other; the dispatcher vouches for the CPU.
        unsafe {
            let keys = scratch.pointer();
            let values = keys.add(keys_lanes);
            let queries = values.add(columns * count);
            let scores = queries.add(V::ROWS * STRIDE);
            let results = scores.add(V::ROWS * STRIDE);
            let partial = results.add(V::ROWS * columns);
            let packed = Packed { prefix, count, keys, values, columns };
            self.pack_keys::<V>(&packed, ranges(), queries);
            self.pack_values::<V>(&packed, ranges());
            let outputs = &self.unit.outputs;
            let tiles = outputs.len().div_ceil(V::ROWS);
            for i in 0..tiles {
                let start = outputs.start + i * outputs.len() / tiles;
                let end = outputs.start + (i + 1) * outputs.len() / tiles;
                let mut tile = Tile {
                    rows: end - start,
                    visible: [count; MOST_ROWS],
                    largest: [f32::NEG_INFINITY; MOST_ROWS],
                    sums: [0.0; MOST_ROWS],
                    queries,
                    scores,
                    results,
                    partial,
                };
                self.attend::<V>(&packed, &mut tile, start);
            }
        }
    }
}

impl Head<'_> {
    /// The address of the head's query (`part` 0), key (1) or value (2) of row `row`.
    fn part(&self, row: usize, part: usize) -> *const f32 {
        let width = self.call.width();
        let start = row * 3 * width + part * width + self.head * self.call.shape.head_dim;
        self.call.qkv[start..].as_ptr()
    }

    /// Packs the keys of the rows in `ranges`. `work` holds a vector's number of rows of a head.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; the destinations have room.
    #[inline(always)]
    unsafe fn pack_keys<V: Simd>(&self, to: &Packed, ranges: impl Iterator<Item = Range<usize>>, work: *mut f32) {
        let width = self.call.shape.head_dim;
        let mut group = 0;
        let mut pending = 0;
        for mut range in ranges {
            while !range.is_empty() {
                let take = range.len().min(V::LANES - pending);
                let whole = pending == 0 && (take == V::LANES || group * V::LANES + take == to.count);
                // SAFETY: rows inside `qkv`; groups and `work` have room for V::LANES rows.
                unsafe {
                    let mut from = Rows { start: self.part(range.start, 1), stride: 3 * self.call.width(), rows: take };
                    if !whole {
                        for i in 0..take {
                            copy::<V>(self.part(range.start + i, 1), work.add((pending + i) * width), width);
                        }
                        pending += take;
                        from = Rows { start: work, stride: width, rows: pending };
                    }
                    if whole || pending == V::LANES || group * V::LANES + pending == to.count {
                        V::interleave(from, width, V::LANES, to.keys.add(group * width * V::LANES));
                        group += 1;
                        pending = 0;
                    }
                }
                range.start += take;
            }
        }
    }

    /// Packs the values of the rows in `ranges`; the columns past the head's are 0.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; the destinations have room.
    #[inline(always)]
    unsafe fn pack_values<V: Simd>(&self, to: &Packed, ranges: impl Iterator<Item = Range<usize>>) {
        let width = self.call.shape.head_dim;
        for (key, row) in ranges.flatten().enumerate() {
            let from = self.part(row, 2);
            for column in (0..to.columns).step_by(V::LANES) {
                // SAFETY: `from` has `width` columns; each group has room for `count` vectors.
                unsafe {
                    let lanes = match width.saturating_sub(column) {
                        0 => V::splat(0.0),
                        left if left < V::LANES => V::load_part(from.add(column), left, 0.0),
                        _ => V::load(from.add(column)),
                    };
                    lanes.store(to.values.add(column * to.count + key * V::LANES));
                }
            }
        }
    }

    /// Computes the output rows from `start` on, as many as the tile has.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; no other thread writes these columns of these rows.
    #[inline(always)]
    unsafe fn attend<V: Simd>(&self, packed: &Packed, tile: &mut Tile, start: usize) {
        let width = self.call.shape.head_dim;
        let own = &self.call.segments[self.unit.segment].rows;
        for r in 0..tile.rows {
            let query = self.call.query(start + r);
            if self.call.shape.causal {
                tile.visible[r] = packed.prefix + query - own.start + 1;
            }
            // SAFETY: room for STRIDE lanes a row.
            unsafe { copy::<V>(self.part(query, 0), tile.queries.add(r * STRIDE), width) };
        }
        let seen = tile.visible[..tile.rows].iter().copied().max().unwrap_or(0);
        for first in (0..seen).step_by(CHUNK) {
            // SAFETY: the caller's promises.
            unsafe { self.chunk::<V>(packed, tile, first..(first + CHUNK).min(seen)) };
        }
        for r in 0..tile.rows {
            let to = self.call.out.at(start + r, self.head * width);
            // SAFETY: the head's columns of the row are this thread's.
            unsafe {
                let factor = V::splat(1.0 / tile.sums[r]);
                let from = tile.results.add(r * packed.columns);
                for column in (0..width).step_by(V::LANES) {
                    let result = V::load(from.add(column)).mul(factor);
                    let left = width - column;
                    if left < V::LANES { result.store_part(to.add(column), left) } else { result.store(to.add(column)) }
                }
            }
        }
    }

    /// Adds what the keys `keys` contribute.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; keys and queries are packed.
    #[inline(always)]
    unsafe fn chunk<V: Simd>(&self, packed: &Packed, tile: &mut Tile, keys: Range<usize>) {
        let pair = 2 * V::LANES;
        let width = self.call.shape.head_dim;
        let multiply = strided_tile(self.call.level, tile.rows);
        let first = keys.start == 0;
        // SAFETY: operands as laid out by `pack_keys`, `pack_values` and `run`.
        unsafe {
            for key in (0..keys.len()).step_by(pair) {
                let operands = Operands {
                    lanes: width,
                    a: tile.queries,
                    b: packed.keys.add((keys.start + key) * width),
                    b_vector: width * V::LANES,
                    b_step: V::LANES,
                    to_row: STRIDE,
                };
                multiply(&operands, &mut Ahead::NOTHING, tile.scores.add(key));
            }
            let mut fading = [1.0; MOST_ROWS];
            for r in 0..tile.rows {
                fading[r] = self.weigh::<V>(tile, r, &keys);
            }
            let results = if first { tile.results } else { tile.partial };
            for column in (0..packed.columns).step_by(pair) {
                let operands = Operands {
                    lanes: keys.len(),
                    a: tile.scores,
                    b: packed.values.add(column * packed.count + keys.start * V::LANES),
                    b_vector: packed.count * V::LANES,
                    b_step: V::LANES,
                    to_row: packed.columns,
                };
                multiply(&operands, &mut Ahead::NOTHING, results.add(column));
            }
            if !first {
                for r in 0..tile.rows {
                    let (total, part) = (tile.results.add(r * packed.columns), tile.partial.add(r * packed.columns));
                    for column in (0..packed.columns).step_by(V::LANES) {
                        let faded = V::load(total.add(column)).mul_add(V::splat(fading[r]), V::load(part.add(column)));
                        faded.store(total.add(column));
                    }
                }
            }
        }
    }

    /// Turns row `r`'s scores of the keys `keys` into exponentials of their (scaled) distance to the largest
    /// score so far; returns the factor by which that one's growth lets earlier results fade.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; the scores are there.
    #[inline(always)]
    unsafe fn weigh<V: Simd>(&self, tile: &mut Tile, r: usize, keys: &Range<usize>) -> f32 {
        let seen = tile.visible[r].saturating_sub(keys.start).min(keys.len());
        let (whole, rest) = (seen / V::LANES * V::LANES, seen % V::LANES);
        let scale = 1.0 / (self.call.shape.head_dim as f32).sqrt();
        // SAFETY: a row of scores has STRIDE lanes, more than CHUNK and a vector.
        unsafe {
            let scores = tile.scores.add(r * STRIDE);
            let mut largest = V::splat(tile.largest[r]);
            for key in (0..whole).step_by(V::LANES) {
                largest = V::load(scores.add(key)).max(largest);
            }
            if rest > 0 {
                // Scores of keys that the row does not see must not count.
                let last = V::load_part(scores.add(whole), rest, f32::NEG_INFINITY);
                last.store(scores.add(whole));
                largest = last.max(largest);
            }
            let largest = largest.max_lane();
            let fading = exp(V::splat((tile.largest[r] - largest) * scale));
            let mut lanes = [0.0; 16];
            fading.store(lanes.as_mut_ptr());
            let fading = if keys.start == 0 { 1.0 } else { lanes[0] };
            let base = V::splat(-largest * scale);
            let mut sum = V::splat(0.0);
            let end = seen.next_multiple_of(V::LANES);
            for key in (0..end).step_by(V::LANES) {
                let weight = exp(V::load(scores.add(key)).mul_add(V::splat(scale), base));
                weight.store(scores.add(key));
                sum = sum.add(weight);
            }
            for key in (end..keys.len()).step_by(V::LANES) {
                V::splat(0.0).store(scores.add(key));
            }
            tile.sums[r] = tile.sums[r] * fading + sum.sum_lanes();
            tile.largest[r] = largest;
            fading
        }
    }
}

/// Copies `count` values.
///
/// # Safety
/// The CPU has the instruction set of `V`; both have room for `count` values.
#[inline(always)]
unsafe fn copy<V: Simd>(from: *const f32, to: *mut f32, count: usize) {
    let mut i = 0;
    // SAFETY: i + LANES stays within `count`.
    unsafe {
        while i + V::LANES <= count {
            V::load(from.add(i)).store(to.add(i));
            i += V::LANES;
        }
        while i < count {
            *to.add(i) = *from.add(i);
            i += 1;
        }
    }
}
