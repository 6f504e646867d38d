//! The Fréchet distance of two sets, as if both were normal distributions:
//! |mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)).

use crate::kernel;
use crate::kernel::matrix::Matrix;

/// Rows with deviations that are held at once.
const BLOCK: usize = 4096;

/// The distance of `sets` [n, dim]; covariances are divided by n - 1.
///
/// The trace of the root is that of (C_a^(1/2) C_b C_a^(1/2))^(1/2), which is symmetric, so that
/// singular covariances need no offset.
///
/// Panics when a set has fewer than two rows.
#[must_use]
pub(crate) fn distance(sets: [&[f32]; 2], dim: usize) -> f64 {
    let [a, b] = sets.map(|set| moments(set, dim));
    let means: f64 = a.0.iter().zip(&b.0).map(|(a, b)| (a - b).powi(2)).sum();
    let traces: f64 = (0..dim).map(|i| a.1.at(i, i) + b.1.at(i, i)).sum();
    let root = root(a.1);
    let between = root.times(&b.1).times(&root);
    let roots: f64 = between.eigen().0.iter().map(|x| x.max(0.0).sqrt()).sum();
    means + traces - 2.0 * roots
}

/// The mean `[dim]` and the covariance [dim, dim].
fn moments(rows: &[f32], dim: usize) -> (Vec<f64>, Matrix) {
    let n = rows.len() / dim;
    assert!(n > 1, "a set has fewer than two rows");
    let mut mean = vec![0.0; dim];
    for row in rows.chunks_exact(dim) {
        for (sum, value) in mean.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    mean.iter_mut().for_each(|sum| *sum /= n as f64);
    let mut products = Matrix::from_fn(dim, dim, |_, _| 0.0);
    for rows in rows.chunks(BLOCK * dim) {
        let deviations: Vec<f64> = rows
            .chunks_exact(dim)
            .flat_map(|row| row.iter().zip(&mean))
            .map(|(value, mean)| f64::from(*value) - mean)
            .collect();
        // Deviations from the mean sum to 0, so that the other side needs no mean.
        let part = kernel::exact_gradients(&deviations, rows, dim, dim);
        products.plus(&Matrix::new(dim, part));
    }
    let share = 0.5 / (n - 1) as f64;
    let covariance = Matrix::from_fn(dim, dim, |i, j| {
        share * (products.at(i, j) + products.at(j, i))
    });
    (mean, covariance)
}

/// The symmetric square root of a covariance.
fn root(matrix: Matrix) -> Matrix {
    let (values, vectors) = matrix.eigen();
    let scaled = Matrix::from_fn(vectors.height, vectors.width, |i, j| {
        values[i].max(0.0).sqrt() * vectors.at(i, j)
    });
    vectors.transposed().times(&scaled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::randoms;

    #[test]
    fn distances_have_their_closed_forms() {
        let rows = randoms(1, 300 * 5);
        let moved: Vec<f32> = rows
            .chunks_exact(5)
            .flat_map(|row| [row[0] + 1.0, row[1] - 2.0, row[2], row[3], row[4]])
            .collect();
        let found = distance([&rows, &moved], 5);
        assert!((found - 5.0).abs() < 1e-4, "{found}");
        // C_b = 9 C_a: tr(C_a) (1 + 9 - 2 * 3), and a mean three times as far.
        let scaled: Vec<f32> = rows.iter().map(|x| 3.0 * x).collect();
        let (mean, covariance) = moments(&rows, 5);
        let trace: f64 = (0..5).map(|i| covariance.at(i, i)).sum();
        let means: f64 = mean.iter().map(|x| 4.0 * x * x).sum();
        let found = distance([&rows, &scaled], 5);
        assert!((found - 4.0 * trace - means).abs() < 1e-5, "{found}");
        assert!(distance([&rows, &rows], 5).abs() < 1e-9);
    }

    #[test]
    fn axes_with_known_variances_and_fewer_rows_than_columns_are_right() {
        // Variances (4, 1) and (1, 9) without covariance: (2 - 1)^2 + (1 - 3)^2 = 5, scaled.
        let cross = |x: f32, y: f32| [x, 0.0, -x, 0.0, 0.0, y, 0.0, -y];
        let found = distance([&cross(2.0, 1.0), &cross(1.0, 3.0)], 2);
        assert!((found - 5.0 * 2.0 / 3.0).abs() < 1e-9, "{found}");
        // Three rows in 40 columns; the sets share no direction, so that no root is left.
        let one: Vec<f32> = (0..3)
            .flat_map(|i| (0..40).map(move |j| f32::from(u8::from(i == j))))
            .collect();
        let two: Vec<f32> = (0..3)
            .flat_map(|i| (0..40).map(move |j| f32::from(u8::from(i + 9 == j))))
            .collect();
        let found = distance([&one, &two], 40);
        assert!((found - (2.0 / 3.0 + 2.0)).abs() < 1e-9, "{found}");
    }
}
