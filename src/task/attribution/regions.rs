//! Which regions of an image a score depends on.

use anyhow::{Result, ensure};

/// A number for each cell of a grid over the square that the model sees, row by row from the top
/// left. Any method can fill it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RegionMap {
    /// Cells per row, and rows.
    pub(crate) side: usize,
    /// `[side, side]`
    pub(crate) values: Vec<f32>,
}

/// The scores of images, in their order: `[n, 3, size, size]`, flattened.
pub(crate) type Viewer<'a> = dyn FnMut(Vec<f32>) -> Result<Vec<f64>> + 'a;

/// What the score loses when a cell of the grid is covered by `mean`: `pixels` [3, size, size] are
/// normalised, so the mean colour of the model's preprocessing is zero. `at_once` cells go to
/// `viewer` together.
///
/// # Errors
/// When the grid is finer than the pixels, and those of `viewer`.
pub(crate) fn occlusion(
    pixels: &[f32],
    size: usize,
    side: usize,
    at_once: usize,
    viewer: &mut Viewer,
) -> Result<RegionMap> {
    ensure!(
        (1..=size).contains(&side),
        "a grid of {side} x {side} cells is finer than the model's {size} x {size} pixels"
    );
    let whole = viewer(pixels.to_vec())?[0];
    let cells: Vec<(usize, usize)> = (0..side * side)
        .map(|cell| (cell / side, cell % side))
        .collect();
    let mut values = Vec::with_capacity(cells.len());
    for batch in cells.chunks(at_once.max(1)) {
        let mut covered = Vec::with_capacity(batch.len() * pixels.len());
        for (row, column) in batch {
            let start = covered.len();
            covered.extend_from_slice(pixels);
            let [rows, columns] = [row, column].map(|at| at * size / side..(at + 1) * size / side);
            for plane in covered[start..].chunks_exact_mut(size * size) {
                for line in plane.chunks_exact_mut(size).take(rows.end).skip(rows.start) {
                    line[columns.clone()].fill(0.0);
                }
            }
        }
        values.extend(viewer(covered)?.iter().map(|score| (whole - score) as f32));
    }
    Ok(RegionMap { side, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_worth_what_is_lost_without_it() {
        // 7 pixels in 3 cells: 0..2, 2..4, 4..7.
        let (size, side) = (7, 3);
        let pixels: Vec<f32> = (0..3 * size * size).map(|at| (at % 11) as f32).collect();
        // A score that is a weighted sum of all pixels.
        let weight = |at: usize| ((at * 7) % 5) as f64;
        let score = |image: &[f32]| -> f64 {
            let terms = image.iter().enumerate();
            terms
                .map(|(at, pixel)| weight(at) * f64::from(*pixel))
                .sum()
        };
        for at_once in [1, 4, 100] {
            let mut calls = 0;
            let mut viewer = |images: Vec<f32>| {
                calls += 1;
                Ok(images.chunks_exact(pixels.len()).map(score).collect())
            };
            let map = occlusion(&pixels, size, side, at_once, &mut viewer).unwrap();
            assert_eq!(calls, 1 + 9usize.div_ceil(at_once));
            let edges = [0, 2, 4, 7];
            for (cell, value) in map.values.iter().enumerate() {
                let (rows, columns) = (cell / 3, cell % 3);
                let lost = pixels.iter().enumerate().filter(|(at, _)| {
                    let (row, column) = (at / size % size, at % size);
                    (edges[rows]..edges[rows + 1]).contains(&row)
                        && (edges[columns]..edges[columns + 1]).contains(&column)
                });
                let lost: f64 = lost.map(|(at, pixel)| weight(at) * f64::from(*pixel)).sum();
                assert_eq!(*value, lost as f32, "{cell}");
            }
        }
        let mut never = |_| panic!("nothing is to be seen");
        assert!(occlusion(&pixels, size, 8, 1, &mut never).is_err());
        assert!(occlusion(&pixels, size, 0, 1, &mut never).is_err());
    }
}
