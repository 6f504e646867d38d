//! Attention for one head of one segment.
#![allow(
    unsafe_code,
    reason = "vector methods and raw pointers into scratch; contracts are stated"
)]

use std::ops::Range;

use super::pack::{Layout, Packed};
use super::{Call, Unit};
use crate::kernel::buffer::Scratch;
use crate::kernel::exp::power_of_two;
use crate::kernel::level::Job;
use crate::kernel::matmul::tile::{Ahead, Operands};
use crate::kernel::matmul::tiles::{STRIDE, strided_bf16_tile, strided_tile};
use crate::kernel::simd::Simd;

/// Keys processed at once: their scores for a tile of queries stay in the L1 cache. Fixed, because
/// sums are split here: a row's result must not depend on how many rows its neighbours see.
const CHUNK: usize = 320;

/// Maximum head dimension.
pub(crate) const MOST_HEAD_COLUMNS: usize = CHUNK;

/// Maximum rows of a tile at any level.
const MOST_ROWS: usize = 14;

/// The computation of head `head` for the segment of `unit`.
pub(super) struct Head<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) unit: &'a Unit,
    pub(super) head: usize,
}

/// State of a tile of queries while it runs over the keys.
struct Tile {
    rows: usize,
    /// The number of keys each row sees.
    visible: [usize; MOST_ROWS],
    /// The largest score so far, unscaled.
    largest: [f32; MOST_ROWS],
    /// The sum of the exponentials so far.
    sums: [f32; MOST_ROWS],
    /// Queries `[rows][STRIDE]`; scores, then weights `[rows][STRIDE]`; results `[rows][columns]`;
    /// results of a chunk.
    queries: *mut f32,
    scores: *mut f32,
    results: *mut f32,
    partial: *mut f32,
}

impl Job for Head<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let layout = Layout::of::<V>(&self);
        let tile_lanes = V::ROWS * (2 * STRIDE + 2 * layout.columns);
        let scratch = Scratch::new(layout.lanes() + tile_lanes);
        // SAFETY: the scratch holds the parts laid out in it one after the other; the dispatcher
        // vouches for the CPU.
        unsafe {
            let queries = scratch.pointer().add(layout.lanes());
            let scores = queries.add(V::ROWS * STRIDE);
            let results = scores.add(V::ROWS * STRIDE);
            let partial = results.add(V::ROWS * layout.columns);
            let packed = self.pack::<V>(layout, scratch.pointer(), queries);
            let outputs = &self.unit.outputs;
            let tiles = outputs.len().div_ceil(V::ROWS);
            for i in 0..tiles {
                let start = outputs.start + i * outputs.len() / tiles;
                let end = outputs.start + (i + 1) * outputs.len() / tiles;
                let mut tile = Tile {
                    rows: end - start,
                    visible: [packed.count; MOST_ROWS],
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
    /// Computes one tile of output rows, from `start` on.
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
            // SAFETY: room for STRIDE lanes per row.
            unsafe {
                self.encode::<V>(self.part(query, 0), tile.queries.add(r * STRIDE));
                self.ask_for_neighbours::<V>(tile.rows, start + r);
            }
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
                    if left < V::LANES {
                        result.store_part(to.add(column), left)
                    } else {
                        result.store(to.add(column))
                    }
                }
            }
        }
    }

    /// Prefetches what is read and written after the query of output row `index`: the query of the
    /// next tile, and the row's own place in the output.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    unsafe fn ask_for_neighbours<V: Simd>(&self, rows: usize, index: usize) {
        let width = self.call.shape.head_dim;
        let to = self.call.out.at(index, self.head * width);
        // SAFETY: the caller vouches for the CPU.
        unsafe {
            if index + rows < self.unit.outputs.end {
                self.ask_for::<V>(self.call.query(index + rows), 0);
            }
            for column in (0..width).step_by(16) {
                V::prefetch_to_write(to.wrapping_add(column));
            }
        }
    }

    /// Adds the contribution of the keys `keys`.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; keys and queries are packed.
    #[inline(always)]
    unsafe fn chunk<V: Simd>(&self, packed: &Packed, tile: &mut Tile, keys: Range<usize>) {
        let pair = 2 * V::LANES;
        let of_size = if self.call.half {
            strided_bf16_tile
        } else {
            strided_tile
        };
        let mut ahead = Ahead::NOTHING;
        let first = keys.start == 0;
        // SAFETY: operands as laid out by `pack_keys`, `pack_values` and `run`.
        unsafe {
            let mut key = 0;
            while key < keys.len() {
                // One vector if one is enough.
                let vectors = if keys.len() - key > V::LANES { 2 } else { 1 };
                let operands = Operands {
                    rows: tile.rows,
                    lanes: packed.key_lanes,
                    a: tile.queries,
                    b: packed.keys.add((keys.start + key) * packed.key_lanes),
                    b_vector: packed.key_lanes * V::LANES,
                    b_step: V::LANES,
                    to_row: STRIDE,
                };
                let multiply = of_size(self.call.level, tile.rows, vectors);
                multiply(&operands, &mut ahead, tile.scores.add(key));
                key += vectors * V::LANES;
            }
            let mut fading = [1.0; MOST_ROWS];
            for (r, fading) in fading.iter_mut().enumerate().take(tile.rows) {
                *fading = self.weigh::<V>(tile, r, &keys);
            }
            let results = if first { tile.results } else { tile.partial };
            for column in (0..packed.columns).step_by(pair) {
                let operands = Operands {
                    rows: tile.rows,
                    lanes: keys.len().div_ceil(packed.keys_a_lane),
                    a: tile.scores,
                    b: packed.values.add(
                        column * packed.value_lanes + keys.start / packed.keys_a_lane * V::LANES,
                    ),
                    b_vector: packed.value_lanes * V::LANES,
                    b_step: V::LANES,
                    to_row: packed.columns,
                };
                let multiply = of_size(self.call.level, tile.rows, 2);
                multiply(&operands, &mut ahead, results.add(column));
            }
            if !first {
                for (r, fading) in fading.iter().enumerate().take(tile.rows) {
                    let (total, part) = (
                        tile.results.add(r * packed.columns),
                        tile.partial.add(r * packed.columns),
                    );
                    for column in (0..packed.columns).step_by(V::LANES) {
                        let faded = V::load(total.add(column))
                            .mul_add(V::splat(*fading), V::load(part.add(column)));
                        faded.store(total.add(column));
                    }
                }
            }
        }
    }

    /// Turns row `r`'s scores for the keys `keys` into exponentials of their (scaled) distance to
    /// the largest score so far; returns the factor by which earlier results are rescaled if that
    /// maximum grew.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; the scores are there.
    #[inline(always)]
    unsafe fn weigh<V: Simd>(&self, tile: &mut Tile, r: usize, keys: &Range<usize>) -> f32 {
        let seen = tile.visible[r].saturating_sub(keys.start).min(keys.len());
        let (whole, rest) = (seen / V::LANES * V::LANES, seen % V::LANES);
        let scale = std::f32::consts::LOG2_E / (self.call.shape.head_dim as f32).sqrt();
        // SAFETY: a row of scores has STRIDE lanes, more than CHUNK plus a vector.
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
            let fading = match keys.start {
                0 => 0.0,
                _ => power_of_two(V::splat((tile.largest[r] - largest) * scale)).max_lane(),
            };
            let base = V::splat(-largest * scale);
            let mut sum = V::splat(0.0);
            let end = seen.next_multiple_of(V::LANES);
            for key in (0..end).step_by(V::LANES) {
                let weight = power_of_two(V::load(scores.add(key)).mul_add(V::splat(scale), base));
                self.store_weight(weight, scores, key);
                sum = sum.add(weight);
            }
            for key in (end..keys.len()).step_by(V::LANES) {
                self.store_weight(V::splat(0.0), scores, key);
            }
            tile.sums[r] = tile.sums[r] * fading + sum.sum_lanes();
            tile.largest[r] = largest;
            fading
        }
    }

    /// Writes the weights for a vector of keys from `key` on into a row of weights: pairs of bf16
    /// overwrite scores already read.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; the row has room.
    #[inline(always)]
    unsafe fn store_weight<V: Simd>(&self, weight: V, row: *mut f32, key: usize) {
        // SAFETY: the caller's promises.
        unsafe {
            if self.call.half {
                weight.store_bf16(row.cast::<u16>().add(key))
            } else {
                weight.store(row.add(key))
            }
        }
    }
}
