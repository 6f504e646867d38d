//! Sums over rows, and bias addition.

use rayon::prelude::*;

/// Rows per partial sum; fixed, so that the result does not depend on the number of threads.
const ROWS: usize = 128;
/// Minimum values per thread.
const PIECE: usize = 1 << 15;

/// The sum of each column of `rows` [m, width].
///
/// Panics when `rows` is not a whole number of rows.
#[must_use]
pub fn column_sums(rows: &[f32], width: usize) -> Vec<f32> {
    assert_eq!(rows.len() % width.max(1), 0, "not a whole number of rows");
    let parts: Vec<Vec<f32>> = rows
        .par_chunks((ROWS * width).max(1))
        .map(|part| {
            let mut sums = vec![0.0; width];
            for row in part.chunks_exact(width) {
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            sums
        })
        .collect();
    total(&parts, width)
}

/// The element-wise sum of vectors, in f64.
pub(super) fn total(parts: &[Vec<f32>], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; width];
    for part in parts {
        sums.iter_mut()
            .zip(part)
            .for_each(|(sum, x)| *sum += f64::from(*x));
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}

/// The initial output of a linear layer: its bias (if any) in every row, added to `onto` if given;
/// [rows, width].
#[must_use]
pub fn add_bias(rows: usize, width: usize, bias: Option<&[f32]>, onto: Option<&[f32]>) -> Vec<f32> {
    let mut out = match onto {
        Some(values) => values.to_vec(),
        None => vec![0.0; rows * width],
    };
    assert_eq!(out.len(), rows * width, "not [{rows}, {width}]");
    if let Some(bias) = bias {
        assert_eq!(bias.len(), width, "the bias does not have {width} values");
        out.par_chunks_mut((ROWS * width).max(1)).for_each(|part| {
            for row in part.chunks_exact_mut(width) {
                row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
            }
        });
    }
    out
}

/// The sum of all squares, in f64 and in an order independent of the number of threads.
#[must_use]
pub fn squared_norm(values: &[f32]) -> f64 {
    let squares = |part: &[f32]| -> f64 {
        let mut sums = [0.0f64; 8];
        let blocks = part.chunks_exact(8);
        let rest: f64 = blocks
            .remainder()
            .iter()
            .map(|x| f64::from(*x) * f64::from(*x))
            .sum();
        for block in blocks {
            for (sum, x) in sums.iter_mut().zip(block) {
                *sum += f64::from(*x) * f64::from(*x);
            }
        }
        sums.iter().sum::<f64>() + rest
    };
    let parts: Vec<f64> = values.par_chunks(PIECE).map(squares).collect();
    parts.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::randoms;

    #[test]
    fn columns_are_summed() {
        for (m, width) in [(0, 3), (1, 1), (300, 7), (129, 64)] {
            let rows = randoms(1, m * width);
            let sums = column_sums(&rows, width);
            for (j, sum) in sums.iter().enumerate() {
                let column = rows.iter().skip(j).step_by(width);
                let exact: f64 = column.map(|x| f64::from(*x)).sum();
                assert!((f64::from(*sum) - exact).abs() < 1e-4, "{m} {width} {j}");
            }
        }
    }

    #[test]
    fn a_bias_is_added_to_every_row() {
        let onto = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(
            add_bias(2, 2, Some(&[10.0, 20.0]), Some(&onto)),
            [11.0, 22.0, 13.0, 24.0]
        );
        assert_eq!(add_bias(2, 2, None, None), [0.0; 4]);
    }

    #[test]
    fn squares_are_summed() {
        let values = randoms(5, 100_003);
        let exact: f64 = values.iter().map(|x| f64::from(*x).powi(2)).sum();
        assert!((squared_norm(&values) / exact - 1.0).abs() < 1e-12);
    }
}
