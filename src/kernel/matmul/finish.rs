//! From a tile's sums to the output: scale, bias, activation, residual.
#![allow(unsafe_code, reason = "vector methods and raw pointers; contracts are stated")]

use super::Epilogue;
use super::panel::Panels;
use crate::kernel::activation::{Activation, activate};
use crate::kernel::dispatch::Job;
use crate::kernel::encode::Precision;
use crate::kernel::simd::Simd;

/// Where a tile lies in the output.
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

/// Finishes the sums of a tile, `place.groups` vectors a row, and writes them to the output.
pub(super) struct Finish<'a> {
    pub(super) panels: &'a Panels<'a>,
    pub(super) place: Place,
    pub(super) sums: &'a [f32],
}

impl Job for Finish<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let Finish { panels, place, sums } = self;
        debug_assert!(sums.len() >= place.rows * place.groups * V::LANES);
        let sums = sums.as_ptr();
        // SAFETY: the sums of the tile are there, and the thread that made them drew this part of the
        // output; the dispatcher vouches for the CPU.
        unsafe {
            if panels.rows.weights.precision == Precision::Int8 {
                return finish::<V, true>(panels, place, sums);
            }
            finish::<V, false>(panels, place, sums);
        }
    }
}

/// [`Finish`] for integers or floats.
///
/// # Safety
/// The CPU has the instruction set of `V`; `sums` holds the tile; no other thread writes this part of the
/// output.
#[inline(always)]
unsafe fn finish<V: Simd, const INTEGER: bool>(panels: &Panels, place: Place, sums: *const f32) {
    // SAFETY: the caller's promises, passed on.
    unsafe {
        match panels.epilogue {
            Epilogue::Store => write::<V, INTEGER, STORE>(panels, place, sums),
            Epilogue::AddTo => write::<V, INTEGER, ADD_TO>(panels, place, sums),
            Epilogue::Activate(Activation::QuickGelu) => write::<V, INTEGER, QUICK_GELU>(panels, place, sums),
            Epilogue::Activate(Activation::Gelu) => write::<V, INTEGER, GELU>(panels, place, sums),
        }
    }
}

const STORE: u8 = 0;
const ADD_TO: u8 = 1;
const QUICK_GELU: u8 = 2;
const GELU: u8 = 3;

/// [`finish`] for one epilogue.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn write<V: Simd, const INTEGER: bool, const EPILOGUE: u8>(panels: &Panels, place: Place, sums: *const f32) {
    let weights = panels.rows.weights;
    for c in 0..place.groups {
        let column = (place.group + c) * V::LANES;
        let count = weights.n.saturating_sub(column).min(V::LANES);
        if count == 0 {
            return;
        }
        // SAFETY: `count` columns from `column` exist in bias and output; factors are padded to whole groups.
        unsafe {
            let bias = panels.bias.map_or(V::splat(0.0), |bias| load::<V>(bias.as_ptr().add(column), count));
            let (mut factors, mut offsets) = (bias, bias);
            if INTEGER {
                factors = V::load(weights.factors.as_ptr().add(column));
                offsets = V::load(weights.sums.as_ptr().add(column));
            }
            for r in 0..place.rows {
                let mut sum = V::load(sums.add((r * place.groups + c) * V::LANES));
                if INTEGER {
                    let scale = panels.rows.scales.add(2 * (place.row + r));
                    let offset = offsets.mul_add(V::splat(*scale.add(1)), bias);
                    sum = sum.from_int().mul(factors).mul_add(V::splat(*scale), offset);
                } else {
                    sum = sum.add(bias);
                }
                let to = panels.out.at(place.row + r, column);
                match EPILOGUE {
                    ADD_TO => sum = load::<V>(to, count).add(sum),
                    QUICK_GELU => sum = activate(Activation::QuickGelu, sum),
                    GELU => sum = activate(Activation::Gelu, sum),
                    _ => {}
                }
                if count == V::LANES { sum.store(to) } else { sum.store_part(to, count) }
            }
        }
    }
}

/// `count <= LANES` values, the rest 0.
///
/// # Safety
/// The CPU has the instruction set of `V`; `from` holds `count` values.
#[inline(always)]
unsafe fn load<V: Simd>(from: *const f32, count: usize) -> V {
    // SAFETY: the caller's promises.
    unsafe { if count == V::LANES { V::load(from) } else { V::load_part(from, count, 0.0) } }
}
