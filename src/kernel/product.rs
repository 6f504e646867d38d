//! Matrix products without prior packing, for training, where weights
//! change at every step and each matrix is used in three ways.
#![allow(
    unsafe_code,
    reason = "calls a matrix library through pointers with bounds checked here"
)]

use gemm::Parallelism;

use super::parallel::threads_for;

/// A matrix view of a slice, with contiguous rows or columns.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    values: &'a [f32],
    shape: [usize; 2],
    strides: [usize; 2],
}

impl<'a> View<'a> {
    /// All of `values` as [rows, columns], row-major.
    ///
    /// Panics when the count does not match.
    #[must_use]
    pub fn new(values: &'a [f32], [rows, columns]: [usize; 2]) -> Self {
        assert_eq!(
            values.len(),
            rows * columns,
            "the values are not [{rows}, {columns}]"
        );
        Self {
            values,
            shape: [rows, columns],
            strides: [columns, 1],
        }
    }

    /// A strided view: the first `columns` of every `stride` values, `rows` times.
    ///
    /// Panics when they reach beyond `values`.
    #[must_use]
    pub fn strided(values: &'a [f32], [rows, columns]: [usize; 2], stride: usize) -> Self {
        let reach = rows
            .checked_sub(1)
            .map_or(0, |last| last * stride + columns);
        assert!(
            reach <= values.len() && columns <= stride,
            "[{rows}, {columns}] with stride {stride} does not fit into {} values",
            values.len()
        );
        Self {
            values,
            shape: [rows, columns],
            strides: [stride, 1],
        }
    }

    /// The transpose, [columns, rows], of the same values.
    #[must_use]
    pub fn t(self) -> Self {
        let ([rows, columns], [down, across]) = (self.shape, self.strides);
        Self {
            shape: [columns, rows],
            strides: [across, down],
            ..self
        }
    }
}

/// `out` [m, n] += `left` [m, k] x `right` [k, n].
///
/// Runs on the current rayon pool.
///
/// Panics when the shapes do not match.
pub fn add_product(left: View, right: View, out: &mut [f32]) {
    let [m, n] = [left.shape[0], right.shape[1]];
    assert_eq!(out.len(), m * n, "the output is not [{m}, {n}]");
    let threads = threads_for(2 * m * n * left.shape[1]);
    let out = Destination {
        add: true,
        ..Destination::of(out, n)
    };
    // SAFETY: the output holds [m, n] and is uniquely borrowed.
    unsafe { multiply(left, right, 1.0, out, threads) };
}

/// [`add_product`] into a new vector.
#[must_use]
pub fn product(left: View, right: View) -> Vec<f32> {
    let [m, n] = [left.shape[0], right.shape[1]];
    let threads = threads_for(2 * m * n * left.shape[1]);
    let mut out = vec![0.0; m * n];
    // SAFETY: the output holds [m, n] and is uniquely borrowed.
    unsafe { multiply(left, right, 1.0, Destination::of(&mut out, n), threads) };
    out
}

/// Where a product goes: rows that are `stride` values apart.
#[derive(Clone, Copy)]
pub(super) struct Destination {
    pub(super) start: *mut f32,
    pub(super) stride: usize,
    /// Whether it is added to what is there.
    pub(super) add: bool,
}

impl Destination {
    /// All of `out`, row-major with `columns`, whatever it holds.
    pub(super) fn of(out: &mut [f32], columns: usize) -> Self {
        Self {
            start: out.as_mut_ptr(),
            stride: columns,
            add: false,
        }
    }
}

/// out = `factor` left x right, or added to `out`.
///
/// # Safety
/// The output memory is not accessed by anyone else meanwhile, and is initialised if the
/// product is added.
pub(super) unsafe fn multiply(
    left: View,
    right: View,
    factor: f32,
    out: Destination,
    threads: usize,
) {
    let ([m, k], [k_right, n]) = (left.shape, right.shape);
    assert_eq!(k, k_right, "the inner dimensions of a product differ");
    if m == 0 || n == 0 {
        return;
    }
    let parallelism = match threads {
        0 | 1 => Parallelism::None,
        threads => Parallelism::Rayon(threads),
    };
    let strides = |view: View| [view.strides[0] as isize, view.strides[1] as isize];
    let ([left_down, left_across], [right_down, right_across]) = (strides(left), strides(right));
    // SAFETY: views stay within their slices, as checked on construction; the caller vouches for
    // the output.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.start,
            1,
            out.stride as isize,
            out.add,
            left.values.as_ptr(),
            left_across,
            left_down,
            right.values.as_ptr(),
            right_across,
            right_down,
            f32::from(u8::from(out.add)),
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{randoms, relative_error};

    fn exact(left: &[f32], right: &[f32], [m, k, n]: [usize; 3]) -> Vec<f64> {
        let mut out = vec![0.0; m * n];
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let terms = (0..k).map(|l| f64::from(left[i * k + l]) * f64::from(right[l * n + j]));
            out[i * n + j] = terms.sum();
        }
        out
    }

    fn turned(values: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
        let at = |j: usize| (0..rows).map(move |i| values[i * columns + j]);
        (0..columns).flat_map(at).collect()
    }

    #[test]
    fn all_orientations_agree_with_f64() {
        for [m, k, n] in [
            [1, 1, 1],
            [3, 5, 2],
            [197, 64, 197],
            [33, 130, 70],
            [1, 300, 9],
        ] {
            let (left, right) = (randoms(1, m * k), randoms(2, k * n));
            let exact = exact(&left, &right, [m, k, n]);
            let (left_t, right_t) = (turned(&left, [m, k]), turned(&right, [k, n]));
            let lefts = [View::new(&left, [m, k]), View::new(&left_t, [k, m]).t()];
            let rights = [View::new(&right, [k, n]), View::new(&right_t, [n, k]).t()];
            for (a, b) in lefts
                .iter()
                .flat_map(|a| rights.iter().map(move |b| (*a, *b)))
            {
                let mut out = product(a, b);
                assert!(relative_error(&out, &exact) < 1e-6);
                add_product(a, b, &mut out);
                let twice: Vec<f64> = exact.iter().map(|x| 2.0 * x).collect();
                assert!(relative_error(&out, &twice) < 1e-6);
            }
        }
    }

    #[test]
    fn the_number_of_threads_does_not_change_the_result() {
        let [m, k, n] = [257, 400, 190];
        let (left, right) = (randoms(3, m * k), randoms(4, k * n));
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("a thread pool")
                .install(|| product(View::new(&left, [m, k]), View::new(&right, [k, n])))
        };
        let one = on(1);
        assert_eq!(one, on(2));
        assert_eq!(one, on(5));
    }

    #[test]
    #[should_panic(expected = "inner dimensions")]
    fn mismatched_shapes_panic() {
        let _ = product(View::new(&[0.0; 6], [2, 3]), View::new(&[0.0; 4], [2, 2]));
    }
}
