//! Input rows packed for products: normalised, encoded and interleaved in tiles of a few rows (for
//! matrix registers not interleaved).
#![allow(
    unsafe_code,
    reason = "writes packed lanes through raw pointers shared by threads"
)]

use std::ops::Range;

use super::windows::Source;
use crate::kernel::buffer::Scratch;
use crate::kernel::encode::{Precision, quantise, to_bf16};
use crate::kernel::level::{Job, Level, native, pairs_bytes};
use crate::kernel::norm::normalise;
use crate::kernel::pack::{PackedMatrix, narrow};
use crate::kernel::simd::{Rows, Simd};

/// Bytes of packed rows that fit a core's L2 cache together with a panel of weights.
const BLOCK_BYTES: usize = 640 << 10;

/// Maximum bytes of packed rows held at once.
const SLAB_BYTES: usize = 32 << 20;

/// The split of m rows into tiles, and of tiles into blocks.
#[derive(Clone, Copy)]
pub(super) struct Tiling {
    pub(super) m: usize,
    pub(super) tiles: usize,
    pub(super) blocks: usize,
    lanes: usize,
    group: usize,
    level: Level,
}

impl Tiling {
    /// Tiles of nearly equal height, so that the cost per row does not depend on m.
    pub(super) fn new(m: usize, weights: &PackedMatrix) -> Tiling {
        let tiles = m.div_ceil(tile_rows(weights));
        let blocks = (m * weights.lanes * 4).div_ceil(BLOCK_BYTES).min(tiles);
        Tiling {
            m,
            tiles,
            blocks: blocks.max(1),
            lanes: weights.lanes,
            group: weights.group,
            level: weights.level,
        }
    }

    /// Maximum rows worth packing at once.
    pub(super) fn most_rows(weights: &PackedMatrix) -> usize {
        (SLAB_BYTES / 4 / weights.lanes.max(1)).max(tile_rows(weights))
    }

    /// Rows of whole tiles whose packed form fills a block.
    pub(super) fn strip(weights: &PackedMatrix) -> usize {
        let tile = tile_rows(weights);
        (BLOCK_BYTES / 4 / weights.lanes.max(1) / tile).max(1) * tile
    }

    /// Minimum rows for which a thread should read all weights itself.
    pub(super) fn least_strip(weights: &PackedMatrix) -> usize {
        8 * tile_rows(weights)
    }

    /// `rows`, rounded up to whole tiles.
    pub(super) fn whole_tiles(rows: usize, weights: &PackedMatrix) -> usize {
        rows.next_multiple_of(tile_rows(weights))
    }

    /// The tiles of block `block`.
    pub(super) fn block(&self, block: usize) -> Range<usize> {
        block * self.tiles / self.blocks..(block + 1) * self.tiles / self.blocks
    }

    /// The rows of tile `tile`.
    pub(super) fn rows(&self, tile: usize) -> Range<usize> {
        tile * self.m / self.tiles..(tile + 1) * self.m / self.tiles
    }

    /// The offset of tile `tile` in the packed lanes: interleaving writes up to a vector past its
    /// end.
    pub(super) fn offset(&self, tile: usize) -> usize {
        self.rows(tile).start * self.lanes + tile * self.group
    }

    /// Lanes of all tiles.
    pub(super) fn packed_lanes(&self) -> usize {
        self.m * self.lanes + self.tiles * self.group
    }

    /// Groups of output features multiplied together: more of them for few rows, so that
    /// sums do not wait for each other.
    pub(super) fn panel_width(&self) -> usize {
        // Three rows of four vectors do not fit 16 registers.
        let few = match self.level {
            Level::Avx2 | Level::AvxVnni => 2,
            _ => 3,
        };
        if self.m <= few { 4 } else { 2 }
    }
}

/// Maximum rows of a tile for `weights`: as many sums as fit the registers, fewer if narrow numbers
/// are unpacked into extra registers.
fn tile_rows(weights: &PackedMatrix) -> usize {
    // Pairs of bytes need more registers too.
    let pairs = weights.precision == Precision::Int8 && pairs_bytes(weights.level);
    let plain = !pairs && native(weights.level, weights.precision);
    match (weights.level, plain) {
        (Level::Scalar, _) | (Level::Avx2 | Level::AvxVnni, false) => 4,
        (Level::Neon | Level::NeonDot | Level::NeonMm, _) => 8,
        (Level::Avx2 | Level::AvxVnni, true) => 6,
        (Level::Avx512, false) if pairs => 10,
        (Level::Avx512 | Level::Amx, false) => 12,
        (Level::Amx, _) if weights.row_major() => 32,
        (Level::Avx512 | Level::Amx, true) => 14,
    }
}

/// Rows being packed.
pub(super) struct PackRows<'a> {
    pub(super) source: Source<'a>,
    pub(super) weights: &'a PackedMatrix,
    pub(super) tiling: Tiling,
    pub(super) packed: *mut f32,
    /// For integers: step and zero of each row.
    pub(super) scales: *mut f32,
}

// SAFETY: tiles, with their rows' scales, are written by the one thread that took them and read
// after a gate.
unsafe impl Sync for PackRows<'_> {}

impl PackRows<'_> {
    /// The job of packing tile `tile`.
    pub(super) fn job(&self, tile: usize) -> PackTile<'_> {
        PackTile { rows: self, tile }
    }
}

/// Packs one tile.
pub(super) struct PackTile<'a> {
    rows: &'a PackRows<'a>,
    tile: usize,
}

impl Job for PackTile<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let PackRows {
            source,
            weights,
            tiling,
            packed,
            ..
        } = self.rows;
        let (rows, lanes) = (tiling.rows(self.tile), weights.lanes);
        // SAFETY: `offset` leaves room for the tile's lanes and a vector more; the dispatcher
        // vouches for the CPU.
        unsafe {
            let to = packed.add(tiling.offset(self.tile));
            if let (Precision::F32, Some(values)) = (weights.precision, source.plain()) {
                let start = values[rows.start * lanes..].as_ptr();
                return V::interleave(
                    Rows {
                        start,
                        stride: lanes,
                        rows: rows.len(),
                    },
                    lanes,
                    rows.len(),
                    to,
                );
            }
            if weights.row_major() {
                let mut row = Scratch::new(weights.k);
                for (i, index) in rows.enumerate() {
                    let to = std::slice::from_raw_parts_mut(to.add(i * lanes), lanes);
                    self.encode::<V>(index, &mut row, to);
                }
                return;
            }
            let stride = lanes.next_multiple_of(16) + 16;
            let encoded = Scratch::new(rows.len() * stride);
            let mut row = Scratch::new(weights.k);
            for (i, index) in rows.clone().enumerate() {
                let to = std::slice::from_raw_parts_mut(encoded.pointer().add(i * stride), lanes);
                self.encode::<V>(index, &mut row, to);
            }
            let from = Rows {
                start: encoded.pointer(),
                stride,
                rows: rows.len(),
            };
            weights.interleave::<V>(from, to);
        }
    }
}

impl PackTile<'_> {
    /// Writes the lanes of row `index` to `to`.
    ///
    /// # Safety
    /// `work` holds k values; this thread owns the row's tile; the CPU has the instruction set of
    /// `V`.
    #[inline(always)]
    unsafe fn encode<V: Simd>(&self, index: usize, work: &mut Scratch, to: &mut [f32]) {
        let PackRows {
            source,
            weights,
            scales,
            ..
        } = self.rows;
        let k = weights.k;
        if weights.precision == Precision::F32 {
            // SAFETY: the caller vouches for the CPU.
            return unsafe { self.read::<V>(index, to) };
        }
        // SAFETY: `work` holds k values and is borrowed uniquely.
        let work = unsafe { std::slice::from_raw_parts_mut(work.pointer(), k) };
        let row = match (source.plain(), &weights.smoothing) {
            (Some(rows), None) => &rows[index * k..][..k],
            (_, smoothing) => {
                // SAFETY: as above.
                unsafe { self.read::<V>(index, work) };
                if let Some(factors) = smoothing {
                    work.iter_mut().zip(factors).for_each(|(x, s)| *x *= s);
                }
                work
            }
        };
        // SAFETY: as above.
        let scale = unsafe {
            match weights.precision {
                // There products read signed bytes.
                #[cfg(target_arch = "aarch64")]
                Precision::Int8 if weights.level == Level::NeonDot => {
                    quantise::<V, i8>(row, narrow(to))
                }
                Precision::Int8 => quantise::<V, u8>(row, narrow(to)),
                Precision::Int16 => quantise::<V, i16>(row, narrow(to)),
                _ => return to_bf16(row, narrow(to)),
            }
        };
        // SAFETY: room for two values a row; the row is this thread's.
        unsafe {
            *scales.add(2 * index) = scale.step;
            *scales.add(2 * index + 1) = scale.zero;
        }
    }

    /// Writes row `index`, normalised if requested, to `to`.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    unsafe fn read<V: Simd>(&self, index: usize, to: &mut [f32]) {
        match &self.rows.source {
            Source::Rows(input) => {
                let row = &input.rows[index * to.len()..][..to.len()];
                match &input.norm {
                    // SAFETY: the caller vouches for the CPU.
                    Some(norm) => unsafe { normalise::<V>(row, norm, to) },
                    None => to.copy_from_slice(row),
                }
            }
            Source::Windows { windows, first, .. } => windows.copy(first + index, to),
        }
    }
}
