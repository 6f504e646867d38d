//! Shared by the kernels' tests: levels of this CPU, random numbers, comparisons.
#![allow(
    unsafe_code,
    reason = "calls generic kernels with the plain vector type, which any CPU has"
)]

use super::encode::{self, Quantised, QuantisedWeight, RowScale};
use super::simd::scalar::Scalar;

use super::level::{Level, NAMES, available};

/// Every level that this CPU can run.
pub(super) fn levels() -> Vec<Level> {
    let all = NAMES.into_iter().map(|(_, level)| level);
    all.filter(|level| available(*level)).collect()
}

/// `count` reproducible random numbers, roughly normal with standard deviation 1.
pub(crate) fn randoms(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count)
        .map(|_| (next() + next() + next() + next()) * 1.7)
        .collect()
}

/// The root mean square of the difference over that of `exact`.
pub(super) fn relative_error(values: &[f32], exact: &[f64]) -> f64 {
    assert_eq!(values.len(), exact.len());
    let difference: f64 = values
        .iter()
        .zip(exact)
        .map(|(v, e)| (f64::from(*v) - e).powi(2))
        .sum();
    let size: f64 = exact.iter().map(|e| e * e).sum();
    (difference / size.max(1e-300)).sqrt()
}

/// [`encode::quantise`] in plain Rust.
pub(super) fn quantise<Q: Quantised>(row: &[f32], out: &mut [Q]) -> RowScale {
    // SAFETY: every CPU has the instructions.
    unsafe { encode::quantise::<Scalar, Q>(row, out) }
}

/// [`encode::quantise_weights`] in plain Rust.
pub(super) fn quantise_weights<Q: QuantisedWeight>(row: &[f32], out: &mut [Q]) -> (f32, i32) {
    // SAFETY: every CPU has the instructions.
    unsafe { encode::quantise_weights::<Scalar, Q>(row, out) }
}
