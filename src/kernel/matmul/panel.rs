//! The product of a panel of weights with all tiles of a block of rows, and the epilogue of a tile:
//! scale, bias, activation, residual.
#![allow(
    unsafe_code,
    reason = "vector methods and raw pointers; contracts are stated"
)]

use std::ops::Range;

use super::Epilogue;
use super::rows::PackRows;
use super::tile::{Ahead, Operands, RUN};
use super::tiles::{Most, packed_tile};
use crate::kernel::activation::{Activation, activate};
use crate::kernel::buffer::SharedRows;
use crate::kernel::level::{Job, run};
use crate::kernel::simd::Simd;

/// A product whose panels are distributed among threads.
pub(super) struct Panels<'a> {
    pub(super) rows: &'a PackRows<'a>,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) epilogue: Epilogue,
    pub(super) out: SharedRows<'a>,
    /// Groups of output features per panel.
    pub(super) width: usize,
    pub(super) threads: usize,
}

impl Panels<'_> {
    /// Multiplies panel `panel` with the packed tiles `tiles`; call once per panel.
    pub(super) fn run(&self, tiles: Range<usize>, panel: usize) {
        let PackRows {
            weights,
            tiling,
            packed,
            ..
        } = self.rows;
        let lanes_of_group = weights.lanes * weights.group;
        let mut ahead = self.ahead(tiles.len(), panel);
        let mut sums = Most::ZEROS;
        let first = panel * self.width;
        let end = (first + self.width).min(weights.groups());
        let mut work = None;
        let features = weights.panel(first..end, &mut work);
        for tile in tiles {
            let range = tiling.rows(tile);
            let mut group = first;
            while group < end {
                // Groups come in pairs.
                ahead.out = self
                    .out
                    .at(range.start, (group * weights.group).min(weights.n - 1));
                let groups = if range.len() <= 3 && end - group >= 4 {
                    4
                } else {
                    2
                };
                // SAFETY: the tile is packed and the groups exist; `sums` holds the largest tile of
                // any level.
                unsafe {
                    let operands = Operands {
                        rows: range.len(),
                        lanes: weights.lanes,
                        a: packed.add(tiling.offset(tile)),
                        b: features.add((group - first) * lanes_of_group),
                        b_vector: lanes_of_group,
                        b_step: weights.group,
                        to_row: groups * weights.group,
                    };
                    let multiply =
                        packed_tile(weights.level, weights.precision, range.len(), groups);
                    multiply(&operands, &mut ahead, sums.0.as_mut_ptr());
                }
                let place = Place {
                    row: range.start,
                    rows: range.len(),
                    group,
                    groups,
                };
                run(
                    weights.level,
                    Finish {
                        panels: self,
                        place,
                        sums: &sums.0,
                    },
                );
                group += groups;
            }
        }
    }

    /// What to prefetch while `tiles` tiles are multiplied with panel `panel`: the panel that this
    /// thread will probably take next.
    fn ahead(&self, tiles: usize, panel: usize) -> Ahead {
        let weights = self.rows.weights;
        let first = (panel + self.threads) * self.width;
        let last = (first + self.width).min(weights.groups());
        let out_row = weights.n;
        if first >= last {
            return Ahead {
                out_row,
                ..Ahead::NOTHING
            };
        }
        let lines_of_step = (self.width * weights.group).div_ceil(16);
        let rate = (lines_of_step * RUN).div_ceil(tiles);
        let Range { start: next, end } = weights.memory(first..last);
        Ahead {
            next,
            end,
            rate,
            out_row,
            ..Ahead::NOTHING
        }
    }
}

/// The position of a tile in the output.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The first row.
    pub(super) row: usize,
    /// Rows.
    pub(super) rows: usize,
    /// The first group of output features.
    pub(super) group: usize,
    /// Groups.
    pub(super) groups: usize,
}

/// Finishes the sums of a tile, `place.groups` vectors per row, and writes them to the output.
pub(super) struct Finish<'a> {
    pub(super) panels: &'a Panels<'a>,
    pub(super) place: Place,
    pub(super) sums: &'a [f32],
}

impl Job for Finish<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let Finish {
            panels,
            place,
            sums,
        } = self;
        debug_assert!(sums.len() >= place.rows * place.groups * V::LANES);
        let sums = sums.as_ptr();
        // SAFETY: the sums of the tile are complete, and the thread that computed them owns this
        // part of the output; the dispatcher vouches for the CPU.
        unsafe {
            if panels.rows.weights.precision.is_integer() {
                return finish::<V, true>(panels, place, sums);
            }
            finish::<V, false>(panels, place, sums);
        }
    }
}

/// [`Finish`] for integers or floats.
///
/// # Safety
/// The CPU has the instruction set of `V`; `sums` holds the tile; no other thread writes this part
/// of the output.
#[inline(always)]
unsafe fn finish<V: Simd, const INTEGER: bool>(panels: &Panels, place: Place, sums: *const f32) {
    // SAFETY: the caller's promises, passed on.
    unsafe {
        match panels.epilogue {
            Epilogue::Store => write::<V, INTEGER, STORE>(panels, place, sums),
            Epilogue::AddTo => write::<V, INTEGER, ADD_TO>(panels, place, sums),
            Epilogue::Activate(Activation::QuickGelu) => {
                write::<V, INTEGER, QUICK_GELU>(panels, place, sums)
            }
            Epilogue::Activate(Activation::Gelu) => write::<V, INTEGER, GELU>(panels, place, sums),
            Epilogue::Activate(Activation::Relu) => write::<V, INTEGER, RELU>(panels, place, sums),
            Epilogue::AddToRelu => write::<V, INTEGER, ADD_TO_RELU>(panels, place, sums),
        }
    }
}

const STORE: u8 = 0;
const ADD_TO: u8 = 1;
const QUICK_GELU: u8 = 2;
const GELU: u8 = 3;
const RELU: u8 = 4;
const ADD_TO_RELU: u8 = 5;

/// [`finish`] for one epilogue.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn write<V: Simd, const INTEGER: bool, const EPILOGUE: u8>(
    panels: &Panels,
    place: Place,
    sums: *const f32,
) {
    let n = panels.rows.weights.n;
    // SAFETY: the caller's promises; columns below n exist in bias and output.
    unsafe {
        for c in (0..place.groups).step_by(2) {
            let column = (place.group + c) * V::LANES;
            let sums = sums.add(c * V::LANES);
            if column + 2 * V::LANES <= n {
                write_pair::<V, INTEGER, EPILOGUE, true>(panels, place, column, sums);
            } else if column < n {
                write_pair::<V, INTEGER, EPILOGUE, false>(panels, place, column, sums);
            }
        }
    }
}

/// [`write()`] for the two vectors from column `column` on; `WHOLE` says that all their columns
/// exist.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn write_pair<V: Simd, const INTEGER: bool, const EPILOGUE: u8, const WHOLE: bool>(
    panels: &Panels,
    place: Place,
    column: usize,
    sums: *const f32,
) {
    let weights = panels.rows.weights;
    let counts = [0, 1].map(|c| {
        weights
            .n
            .saturating_sub(column + c * V::LANES)
            .min(V::LANES)
    });
    // SAFETY: `counts` columns exist in bias and output; factors are padded to whole pairs.
    unsafe {
        let zero = V::splat(0.0);
        let (mut bias, mut factors, mut offsets) = ([zero; 2], [zero; 2], [zero; 2]);
        for c in 0..2 {
            let at = column + c * V::LANES;
            if let Some(values) = panels.bias {
                bias[c] = load::<V, WHOLE>(values.as_ptr().wrapping_add(at), counts[c]);
            }
            if INTEGER {
                factors[c] = V::load(weights.factors.as_ptr().add(at));
                offsets[c] = V::load(weights.sums.as_ptr().add(at));
            }
        }
        for r in 0..place.rows {
            let to = panels.out.at(place.row + r, column);
            let scale = panels.rows.scales.wrapping_add(2 * (place.row + r));
            for c in 0..2 {
                let mut sum = V::load(sums.add((r * place.groups + c) * V::LANES));
                sum = if INTEGER {
                    let offset = offsets[c].mul_add(V::splat(*scale.add(1)), bias[c]);
                    sum.int_to_float()
                        .mul(factors[c])
                        .mul_add(V::splat(*scale), offset)
                } else {
                    sum.add(bias[c])
                };
                let to = to.wrapping_add(c * V::LANES);
                match EPILOGUE {
                    ADD_TO => sum = load::<V, WHOLE>(to, counts[c]).add(sum),
                    QUICK_GELU => sum = activate(Activation::QuickGelu, sum),
                    GELU => sum = activate(Activation::Gelu, sum),
                    RELU => sum = activate(Activation::Relu, sum),
                    ADD_TO_RELU => {
                        let whole = load::<V, WHOLE>(to, counts[c]).add(sum);
                        sum = activate(Activation::Relu, whole);
                    }
                    _ => {}
                }
                if WHOLE || counts[c] == V::LANES {
                    sum.store(to)
                } else {
                    sum.store_part(to, counts[c])
                }
            }
        }
    }
}

/// `count <= LANES` values, the rest 0; all lanes if `WHOLE`.
///
/// # Safety
/// The CPU has the instruction set of `V`; `from` holds `count` values.
#[inline(always)]
unsafe fn load<V: Simd, const WHOLE: bool>(from: *const f32, count: usize) -> V {
    // SAFETY: the caller's promises.
    unsafe {
        if WHOLE || count == V::LANES {
            V::load(from)
        } else {
            V::load_part(from, count, 0.0)
        }
    }
}
