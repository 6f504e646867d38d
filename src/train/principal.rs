//! The principal components of a batch of embeddings, and their gradient: what Long-CLIP matches
//! short captions with (arXiv 2403.15378, "Primary Component Matching").
//!
//! The reference computes the singular vectors V of the centred batch X, keeps the first k, and
//! takes X V V^T + mean; its gradient goes through V. Here the derivative is that of the projector
//! P = V V^T itself, which is defined wherever the k-th and the next singular value differ,
//! regardless of the others: dP = sum over i <= k < j of (v_i v_j^T + v_j v_i^T)
//! (v_i^T d(X^T X) v_j) / (l_i - l_j), with l the squared singular values. Everything is in f64,
//! because the squares lose half of the digits.

use anyhow::{Result, ensure};

use super::CURE;
use crate::kernel::matrix::Matrix;

/// Directions with a smaller share of the largest squared singular value are rounding noise:
/// from images repeated in a batch, or from fewer images than components. They are not
/// directions, and dividing by them does not give a derivative.
const NOTHING: f64 = 1e-12;
/// If squared singular values differ by a smaller share of the largest, either choice of component
/// is right, and neither has a derivative.
const SAME: f64 = 1e-12;

/// A batch and its projection on its principal components.
pub struct Principal {
    rank: usize,
    /// Deviations from the mean [n, dim].
    centred: Matrix,
    /// Squared singular values, descending.
    squares: Vec<f64>,
    /// Their directions [found, dim].
    directions: Matrix,
    /// The batch projected on the first `rank` directions, plus the mean [n, dim].
    reduced: Matrix,
}

fn matrix(rows: &[f32], dim: usize) -> Matrix {
    Matrix::new(dim, rows.iter().map(|x| f64::from(*x)).collect())
}

fn narrow(matrix: &Matrix) -> Vec<f32> {
    matrix.numbers.iter().map(|x| *x as f32).collect()
}

impl Principal {
    /// Reduces `rows` [n, dim] to `rank` components.
    ///
    /// # Errors
    /// When the batch does not have more than `rank` rows, or a number is not finite.
    pub fn new(rows: &[f32], dim: usize, rank: usize) -> Result<Self> {
        let all = matrix(rows, dim);
        let n = all.height;
        ensure!(
            rank > 0 && n > rank,
            "{rank} principal components need a batch of more than {rank} images, not {n}"
        );
        ensure!(
            all.numbers.iter().all(|x| x.is_finite()),
            "an embedding is not finite; {CURE}"
        );
        let mean = all.mean();
        let mut centred = all;
        centred.shift(-1.0, &mean);
        let (squares, directions) = directions(&centred);
        let kept = directions.rows(0..rank.min(squares.len()));
        let mut reduced = centred.times(&kept.transposed()).times(&kept);
        reduced.shift(1.0, &mean);
        Ok(Self {
            rank,
            centred,
            squares,
            directions,
            reduced,
        })
    }

    /// The reduced batch [n, dim], not normalised.
    #[must_use]
    pub fn rows(&self) -> Vec<f32> {
        narrow(&self.reduced)
    }

    /// The share of the batch's variance explained by the components.
    #[cfg(test)]
    fn variance(&self) -> f64 {
        let all: f64 = self.squares.iter().sum();
        let kept: f64 = self.squares.iter().take(self.rank).sum();
        if all > 0.0 { kept / all } else { 1.0 }
    }

    /// The gradient of the batch [n, dim], computed from that of [`Self::rows`].
    #[must_use]
    pub fn backward(&self, gradient: &[f32]) -> Vec<f32> {
        let dim = self.centred.width;
        let g = matrix(gradient, dim);
        let found = self.squares.len();
        let k = self.rank.min(found);
        let kept = self.directions.rows(0..k); // [k, dim]
        let across = self.directions.transposed(); // [dim, found]
        let coordinates = self.directions.times(&self.centred.transposed()); // [found, n]
        let coordinates_kept = coordinates.rows(0..k).transposed(); // [n, k]
        // Through the projected rows.
        let mut dx = g.times(&kept.transposed()).times(&kept);
        // Through the projector, within the batch's own directions.
        let seen = coordinates.times(&g); // [found, dim]
        let s = seen.times(&across); // [found, found]
        if k < found {
            let h = self.turned(&s, k);
            let rest = self.directions.rows(k..found);
            let coordinates_left = coordinates.rows(k..found).transposed(); // [n, found - k]
            dx.plus(&coordinates_left.times(&h.transposed()).times(&kept));
            dx.plus(&coordinates_kept.times(&h).times(&rest));
        }
        // And towards directions outside the batch: u_i u_i^T g (1 - V V^T).
        let inside = s.rows(0..k).times(&self.directions); // [k, dim]
        let scaled = Matrix::from_fn(k, dim, |i, j| {
            (seen.at(i, j) - inside.at(i, j)) / self.squares[i]
        });
        dx.plus(&coordinates_kept.times(&scaled));
        // The mean is subtracted and added back.
        let lost = dx.mean();
        dx.shift(1.0, &g.mean());
        dx.shift(-1.0, &lost);
        narrow(&dx)
    }

    /// Coefficients for the rotation of each of the `k` kept directions towards each of the others
    /// [k, found - k].
    fn turned(&self, s: &Matrix, k: usize) -> Matrix {
        Matrix::from_fn(k, self.squares.len() - k, |i, j| {
            let j = j + k;
            let gap = self.squares[i] - self.squares[j];
            if gap > SAME * self.squares[0] {
                (s.at(i, j) + s.at(j, i)) / gap
            } else {
                0.0
            }
        })
    }
}

/// The squared singular values of `centred` [n, dim], descending, and the corresponding directions
/// [found, dim], without those that are rounding noise.
fn directions(centred: &Matrix) -> (Vec<f64>, Matrix) {
    let (n, dim) = (centred.height, centred.width);
    let is_wide = n < dim;
    let squared = if is_wide {
        centred.times(&centred.transposed())
    } else {
        centred.transposed().times(centred)
    };
    let (values, vectors) = squared.eigen();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let largest = order.first().map_or(0.0, |&first| values[first]);
    // Centring removes one direction of the rows, whatever rounding leaves of it.
    order.truncate((n - 1).min(dim));
    order.retain(|&i| values[i] > NOTHING * largest && values[i] > 0.0);
    let squares: Vec<f64> = order.iter().map(|&i| values[i]).collect();
    let vectors = vectors.rows(order);
    if !is_wide {
        return (squares, vectors);
    }
    let mut directions = vectors.times(centred); // [found, dim]
    for (row, square) in directions.numbers.chunks_exact_mut(dim).zip(&squares) {
        row.iter_mut().for_each(|x| *x /= square.sqrt());
    }
    (squares, directions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::randoms;

    /// The right singular vectors, as rows, by Jacobi's method: pairs of columns are rotated until
    /// they are orthogonal. Slow, and independent of the code above.
    fn singular_vectors(matrix: &Matrix) -> Matrix {
        let dim = matrix.width;
        let mut columns = matrix.transposed();
        let mut vectors = Matrix::from_fn(dim, dim, |i, j| f64::from(u8::from(i == j)));
        let dot = |m: &Matrix, i: usize, j: usize| -> f64 {
            m.row(i).iter().zip(m.row(j)).map(|(a, b)| a * b).sum()
        };
        for (i, j) in (0..40).flat_map(|_| (0..dim).flat_map(move |j| (0..j).map(move |i| (i, j))))
        {
            let (a, b, c) = (
                dot(&columns, i, i),
                dot(&columns, j, j),
                dot(&columns, i, j),
            );
            let (sine, cosine) = (0.5 * (2.0 * c).atan2(a - b)).sin_cos();
            for m in [&mut columns, &mut vectors] {
                for at in 0..m.width {
                    let (x, y) = (m.at(i, at), m.at(j, at));
                    let width = m.width;
                    m.numbers[i * width + at] = cosine * x + sine * y;
                    m.numbers[j * width + at] = cosine * y - sine * x;
                }
            }
        }
        let mut order: Vec<usize> = (0..dim).collect();
        order.sort_by(|&i, &j| dot(&columns, j, j).total_cmp(&dot(&columns, i, i)));
        vectors.rows(order)
    }

    /// The loss sum(weight * reduced).
    fn loss(rows: &[f64], [n, dim, rank]: [usize; 3], weight: &[f32]) -> f64 {
        // Finite differences in f64 need rows in f64: the same arithmetic on a matrix.
        let mut centred = Matrix::new(dim, rows.to_vec());
        let mean = centred.mean();
        centred.shift(-1.0, &mean);
        let kept = singular_vectors(&centred).rows(0..rank.min(n).min(dim));
        let mut reduced = centred.times(&kept.transposed()).times(&kept);
        reduced.shift(1.0, &mean);
        let weighted = reduced.numbers.iter().zip(weight);
        weighted.map(|(x, w)| x * f64::from(*w)).sum()
    }

    #[test]
    fn the_derivative_agrees_with_finite_differences_of_an_svd() {
        // More rows than columns, fewer, and about as many; fewer components than directions, and
        // as many.
        for (n, dim, rank) in [(12, 5, 2), (6, 11, 3), (8, 8, 4), (5, 9, 4), (9, 4, 4)] {
            let rows = randoms(n as u64, n * dim);
            let weight = randoms(7, n * dim);
            let principal = Principal::new(&rows, dim, rank).unwrap();
            let found = principal.backward(&weight);
            let mut wide: Vec<f64> = rows.iter().map(|x| f64::from(*x)).collect();
            let sizes = [n, dim, rank];
            let value: f64 = principal
                .rows()
                .iter()
                .zip(&weight)
                .map(|(x, w)| f64::from(*x) * f64::from(*w))
                .sum();
            assert!((value - loss(&wide, sizes, &weight)).abs() < 1e-4);
            for i in 0..wide.len() {
                let centre = wide[i];
                wide[i] = centre + 1e-6;
                let above = loss(&wide, sizes, &weight);
                wide[i] = centre - 1e-6;
                let exact = (above - loss(&wide, sizes, &weight)) / 2e-6;
                wide[i] = centre;
                assert!(
                    (f64::from(found[i]) - exact).abs() < 1e-4 * exact.abs().max(1.0),
                    "{n} {dim} {rank}, {i}: {}, not {exact}",
                    found[i]
                );
            }
        }
    }

    #[test]
    fn repeated_images_do_not_add_directions() {
        // Six different rows, eight times each: five directions, however many are requested.
        let (n, dim) = (48, 16);
        let rows = randoms(5, 6 * dim).repeat(8);
        let weight = randoms(6, n * dim);
        let derivative = |rank| {
            let principal = Principal::new(&rows, dim, rank).unwrap();
            (principal.rows(), principal.backward(&weight))
        };
        let (expected, exact) = derivative(5);
        for rank in [6, 9, 15] {
            let (reduced, found) = derivative(rank);
            for (x, y) in reduced
                .iter()
                .zip(&expected)
                .chain(found.iter().zip(&exact))
            {
                assert!((x - y).abs() < 1e-4, "{rank}: {x}, not {y}");
            }
        }
    }

    #[test]
    fn all_components_reproduce_the_batch() {
        let rows = randoms(3, 7 * 4);
        let principal = Principal::new(&rows, 4, 4).unwrap();
        for (a, b) in principal.rows().iter().zip(&rows) {
            assert!((a - b).abs() < 1e-6);
        }
        assert!((principal.variance() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_batch_that_is_too_small_is_refused() {
        let error = Principal::new(&[0.0; 12], 4, 3).err().unwrap().to_string();
        assert!(error.contains("more than 3 images, not 3"), "{error}");
        assert!(Principal::new(&[f32::NAN; 12], 4, 2).is_err());
        // Identical rows have no directions: only the mean is left.
        let twins = Principal::new(&[1.0; 12], 4, 2).unwrap();
        assert_eq!(twins.rows(), [1.0; 12]);
        assert!(twins.backward(&[1.0; 12]).iter().all(|x| x.is_finite()));
    }
}
