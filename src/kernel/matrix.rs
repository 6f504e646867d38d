//! Small dense matrices of f64: products, and the eigenvectors of symmetric ones.
//!
//! The eigenvectors come from Householder's reduction to a tridiagonal matrix and QL steps with
//! implicit shifts (Golub and Van Loan, Matrix Computations, 8.3). The result does not depend on
//! the number of threads.

use rayon::prelude::*;

/// A dense row-major matrix.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    /// Number of rows.
    pub(crate) height: usize,
    /// Number of columns.
    pub(crate) width: usize,
    /// All numbers, row by row.
    pub(crate) numbers: Vec<f64>,
}

impl Matrix {
    /// A matrix with rows of `width` numbers, which must not be 0.
    pub(crate) fn new(width: usize, numbers: Vec<f64>) -> Self {
        let height = numbers.len() / width;
        Self {
            height,
            width,
            numbers,
        }
    }

    /// A matrix with entries given by a function of row and column.
    pub(crate) fn from_fn(height: usize, width: usize, at: impl Fn(usize, usize) -> f64) -> Self {
        let at = &at;
        let rows = (0..height).flat_map(|row| (0..width).map(move |column| at(row, column)));
        Self {
            height,
            width,
            numbers: rows.collect(),
        }
    }

    pub(crate) fn row(&self, row: usize) -> &[f64] {
        &self.numbers[row * self.width..][..self.width]
    }

    pub(crate) fn at(&self, row: usize, column: usize) -> f64 {
        self.numbers[row * self.width + column]
    }

    /// The rows with these indices, in that order.
    pub(crate) fn rows(&self, rows: impl IntoIterator<Item = usize>) -> Self {
        let rows: Vec<usize> = rows.into_iter().collect();
        Self::from_fn(rows.len(), self.width, |row, column| {
            self.at(rows[row], column)
        })
    }

    pub(crate) fn transposed(&self) -> Self {
        Self::from_fn(self.width, self.height, |row, column| self.at(column, row))
    }

    /// `self` times `other`.
    pub(crate) fn times(&self, other: &Self) -> Self {
        let mut product = vec![0.0; self.height * other.width];
        if self.width > 0 && other.width > 0 {
            let rows = product.par_chunks_exact_mut(other.width);
            rows.zip(self.numbers.par_chunks_exact(self.width))
                .for_each(|(sum, row)| {
                    for (&factor, other) in row.iter().zip(other.numbers.chunks_exact(other.width))
                    {
                        add(sum, factor, other);
                    }
                });
        }
        Self {
            height: self.height,
            width: other.width,
            numbers: product,
        }
    }

    pub(crate) fn plus(&mut self, other: &Self) {
        add(&mut self.numbers, 1.0, &other.numbers);
    }

    /// Adds `factor` times `row` to every row.
    pub(crate) fn shift(&mut self, factor: f64, row: &[f64]) {
        for all in self.numbers.chunks_exact_mut(self.width) {
            add(all, factor, row);
        }
    }

    /// The mean of the rows.
    pub(crate) fn mean(&self) -> Vec<f64> {
        let mut mean = vec![0.0; self.width];
        for row in self.numbers.chunks_exact(self.width) {
            add(&mut mean, 1.0, row);
        }
        let height = self.height as f64;
        mean.iter_mut().for_each(|sum| *sum /= height);
        mean
    }

    /// The eigenvalues of a symmetric matrix, unsorted, and the corresponding unit
    /// eigenvectors, as rows. The entries must be finite.
    pub(crate) fn eigen(self) -> (Vec<f64>, Self) {
        let size = self.width;
        let mut tridiagonal = Tridiagonal::of(self);
        let rows = tridiagonal.diagonalise();
        (tridiagonal.diagonal, Self::new(size, rows))
    }
}

fn add(sum: &mut [f64], factor: f64, numbers: &[f64]) {
    for (sum, number) in sum.iter_mut().zip(numbers) {
        *sum += factor * number;
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Four sums at once, because the compiler may not split one.
    let (fours, rest) = a.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for (a, b) in fours.iter().zip(b.as_chunks::<4>().0) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest = rest.iter().zip(&b[fours.len() * 4..]).map(|(a, b)| a * b);
    sums.iter().sum::<f64>() + rest.sum::<f64>()
}

/// A reflection x - factor v (v x), on the last `v.len()` coordinates.
struct Reflection {
    vector: Vec<f64>,
    factor: f64,
}

impl Reflection {
    /// The reflection that zeroes all of `numbers` but the first, and the new first value.
    fn of(numbers: &[f64]) -> (Self, f64) {
        let scale = numbers.iter().fold(0.0_f64, |scale, x| scale.max(x.abs()));
        if numbers.iter().skip(1).all(|x| *x == 0.0) {
            let vector = vec![0.0; numbers.len()];
            return (
                Self {
                    vector,
                    factor: 0.0,
                },
                numbers[0],
            );
        }
        // Scaled, so that no square overflows or underflows.
        let mut vector: Vec<f64> = numbers.iter().map(|x| x / scale).collect();
        let length = dot(&vector, &vector).sqrt().copysign(vector[0]);
        vector[0] += length;
        let factor = 1.0 / (length * vector[0]);
        (Self { vector, factor }, -length * scale)
    }
}

/// Columns of a block of eigenvectors: few enough that a block stays in the cache.
const BLOCK: usize = 32;

/// The tridiagonal matrix Q^T A Q, and Q.
struct Tridiagonal {
    diagonal: Vec<f64>,
    /// The off-diagonal, with a 0 appended.
    off_diagonal: Vec<f64>,
    /// The reflections with product Q; the k-th leaves the first k + 1 coordinates unchanged.
    reflections: Vec<Reflection>,
}

impl Tridiagonal {
    fn of(mut matrix: Matrix) -> Self {
        let size = matrix.width;
        let (mut diagonal, mut off_diagonal, mut reflections) =
            (Vec::new(), Vec::new(), Vec::new());
        for k in 0..size {
            diagonal.push(matrix.at(k, k));
            let right = &matrix.row(k)[k + 1..];
            if right.is_empty() {
                break;
            }
            let (reflection, next) = Reflection::of(right);
            off_diagonal.push(next);
            if reflection.factor != 0.0 {
                reflect_both_sides(&mut matrix, k + 1, &reflection);
            }
            reflections.push(reflection);
        }
        off_diagonal.push(0.0);
        Self {
            diagonal,
            off_diagonal,
            reflections,
        }
    }

    /// Returns the eigenvalues and the eigenvectors as rows.
    fn diagonalise(&mut self) -> Vec<f64> {
        let size = self.diagonal.len();
        let mut blocks: Vec<Vec<f64>> = (0..size)
            .into_par_iter()
            .step_by(BLOCK)
            .map(|first| self.block(first))
            .collect();
        for low in 0..size {
            // Each eigenvalue takes two or three steps; more than 60 would mean a number that is
            // not finite.
            for _ in 0..60 {
                let high = self.end_of_block(low);
                if high == low {
                    break;
                }
                let rotations = self.step(low, high);
                blocks
                    .par_iter_mut()
                    .for_each(|block| rotate(block, high, &rotations));
            }
        }
        let numbers = (0..size).flat_map(|row| {
            let parts = blocks
                .iter()
                .map(move |block| &block[row * BLOCK..][..BLOCK]);
            parts.flatten().copied().take(size)
        });
        numbers.collect()
    }

    /// [`BLOCK`] columns of Q^T from `first` on, row by row.
    fn block(&self, first: usize) -> Vec<f64> {
        let size = self.diagonal.len();
        let mut block = vec![0.0; size * BLOCK];
        for column in first..size.min(first + BLOCK) {
            block[column * BLOCK + column - first] = 1.0;
        }
        for reflection in &self.reflections {
            let from = size - reflection.vector.len();
            let mut sum = [0.0; BLOCK];
            for (row, &x) in block[from * BLOCK..]
                .chunks_exact(BLOCK)
                .zip(&reflection.vector)
            {
                add(&mut sum, x * reflection.factor, row);
            }
            for (row, &x) in block[from * BLOCK..]
                .chunks_exact_mut(BLOCK)
                .zip(&reflection.vector)
            {
                add(row, -x, &sum);
            }
        }
        block
    }

    /// The last index connected to `low` by nonzero off-diagonal entries.
    fn end_of_block(&self, low: usize) -> usize {
        let is_nothing = |&at: &usize| {
            let around =
                self.diagonal[at].abs() + self.diagonal.get(at + 1).map_or(0.0, |x| x.abs());
            self.off_diagonal[at].abs() <= f64::EPSILON * around
        };
        (low..self.diagonal.len()).find(is_nothing).unwrap_or(low)
    }

    /// One QL step between `low` and `high`; returns its rotations (cosine, sine), starting at
    /// `high`.
    fn step(&mut self, low: usize, high: usize) -> Vec<(f64, f64)> {
        let half = (self.diagonal[low + 1] - self.diagonal[low]) / (2.0 * self.off_diagonal[low]);
        let root = half.hypot(1.0).copysign(half);
        let mut g =
            self.diagonal[high] - self.diagonal[low] + self.off_diagonal[low] / (half + root);
        let (mut sine, mut cosine, mut p) = (1.0, 1.0, 0.0);
        let mut rotations = Vec::with_capacity(high - low);
        for i in (low..high).rev() {
            let f = sine * self.off_diagonal[i];
            let b = cosine * self.off_diagonal[i];
            let length = f.hypot(g);
            self.off_diagonal[i + 1] = length;
            if length == 0.0 {
                // The matrix splits here.
                self.diagonal[i + 1] -= p;
                self.off_diagonal[high] = 0.0;
                return rotations;
            }
            (sine, cosine) = (f / length, g / length);
            g = self.diagonal[i + 1] - p;
            let r = (self.diagonal[i] - g) * sine + 2.0 * cosine * b;
            p = sine * r;
            self.diagonal[i + 1] = g + p;
            g = cosine * r - b;
            rotations.push((cosine, sine));
        }
        self.diagonal[low] -= p;
        self.off_diagonal[low] = g;
        self.off_diagonal[high] = 0.0;
        rotations
    }
}

/// Applies a reflection to both sides of the symmetric matrix, from index `from` on.
fn reflect_both_sides(matrix: &mut Matrix, from: usize, reflection: &Reflection) {
    let (width, vector) = (matrix.width, &reflection.vector);
    let mut rows: Vec<&mut [f64]> = matrix
        .numbers
        .chunks_exact_mut(width)
        .skip(from)
        .map(|row| &mut row[from..])
        .collect();
    let mut image: Vec<f64> = rows
        .par_iter()
        .with_min_len(64)
        .map(|row| reflection.factor * dot(row, vector))
        .collect();
    let along = reflection.factor / 2.0 * dot(&image, vector);
    add(&mut image, -along, vector);
    let image = &image;
    rows.par_iter_mut()
        .with_min_len(64)
        .enumerate()
        .for_each(|(at, row)| {
            add(row, -vector[at], image);
            add(row, -image[at], vector);
        });
}

/// Rotates pairs of rows of a block, from `high` downwards.
fn rotate(block: &mut [f64], high: usize, rotations: &[(f64, f64)]) {
    for (i, &(cosine, sine)) in (0..high).rev().zip(rotations) {
        let (first, second) = block[i * BLOCK..][..2 * BLOCK].split_at_mut(BLOCK);
        for (x, y) in first.iter_mut().zip(second) {
            let f = *y;
            *y = sine * *x + cosine * f;
            *x = cosine * *x - sine * f;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::randoms;

    /// Checks A v = l v, and that the vectors are orthonormal.
    fn check(name: &str, matrix: &Matrix) -> Vec<f64> {
        let (size, scale) = (
            matrix.width,
            matrix
                .numbers
                .iter()
                .fold(1e-300, |m: f64, x| m.max(x.abs())),
        );
        let (values, vectors) = matrix.clone().eigen();
        let images = vectors.times(matrix);
        let products = vectors.times(&vectors.transposed());
        for (i, value) in values.iter().enumerate() {
            for j in 0..size {
                let left = (images.at(i, j) - value * vectors.at(i, j)).abs();
                assert!(
                    left <= 1e-13 * scale * size as f64,
                    "{name}: {left} of {scale}"
                );
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!(
                    (products.at(i, j) - expected).abs() < 1e-12,
                    "{name}: {i} {j}"
                );
            }
        }
        values
    }

    fn random(size: usize) -> Matrix {
        let numbers = randoms(size as u64, size * size);
        Matrix::from_fn(size, size, |i, j| {
            f64::from(numbers[i.min(j) * size + i.max(j)])
        })
    }

    #[test]
    fn eigenvectors_are_those_of_the_matrix() {
        for size in [1, 2, 3, 31, 32, 33, 97] {
            check("random", &random(size));
        }
        for scale in [1e-200, 1e150] {
            let mut scaled = random(20);
            scaled.numbers.iter_mut().for_each(|x| *x *= scale);
            check("scaled", &scaled);
        }
        let graded = Matrix::from_fn(40, 40, |i, j| 10f64.powi(-((i + j) as i32) / 4));
        check("graded", &graded);
        let banded = Matrix::from_fn(50, 50, |i, j| if i.abs_diff(j) == 1 { 1.0 } else { 0.0 });
        check("a path", &banded);
    }

    #[test]
    fn equal_and_vanishing_eigenvalues_are_found() {
        let tests = [
            ("nothing", Matrix::from_fn(9, 9, |_, _| 0.0), vec![0.0; 9]),
            (
                "one",
                Matrix::from_fn(3, 3, |i, j| f64::from(u8::from(i == j))),
                vec![1.0; 3],
            ),
            (
                "rank one",
                Matrix::from_fn(5, 5, |_, _| 2.0),
                vec![0.0, 0.0, 0.0, 0.0, 10.0],
            ),
            (
                "twins",
                Matrix::from_fn(4, 4, |i, j| if i % 2 == j % 2 { 1.0 } else { 0.0 }),
                vec![0.0, 0.0, 2.0, 2.0],
            ),
        ];
        for (name, matrix, expected) in tests {
            let mut values = check(name, &matrix);
            values.sort_by(f64::total_cmp);
            for (value, expected) in values.iter().zip(&expected) {
                assert!((value - expected).abs() < 1e-13, "{name}: {value}");
            }
        }
    }

    #[test]
    fn products_match_the_definition() {
        let a = Matrix::new(3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let b = a.transposed();
        assert_eq!(a.times(&b).numbers, [14.0, 32.0, 32.0, 77.0]);
        assert_eq!(b.times(&a).height, 3);
        assert_eq!(a.mean(), [2.5, 3.5, 4.5]);
        assert_eq!(a.rows(1..2).numbers, [4.0, 5.0, 6.0]);
    }
}
