//! Plain statistics of pictures, and which of them moved between two sets.

use crate::task::metric::paired::holm;

/// Names of the statistics, and what they are: those of [`measured`] in its order, then one that a
/// file has.
pub(crate) const STATISTICS: [(&str, &str); 6] = [
    ("width", "pixels"),
    ("height", "pixels"),
    ("brightness", "mean luma, 0 to 1"),
    ("contrast", "standard deviation of luma"),
    (
        "sharpness",
        "mean absolute difference of luma between neighbours, after reduction to 256 pixels",
    ),
    ("JPEG quality", "1 to 100, JPEG files only"),
];

/// The longer side at which sharpness is measured, so that size alone does not move it.
const SIDE: usize = 256;

/// The statistics of an RGB picture [height, width, 3].
///
/// Luma is that of Rec. 601 on the stored samples. A picture that is larger than 256 pixels is
/// reduced by averaging whole blocks.
#[must_use]
pub(crate) fn measured(pixels: &[u8], [width, height]: [usize; 2]) -> [f64; 5] {
    let luma = |pixel: &[u8]| {
        let [red, green, blue] = [0, 1, 2].map(|at| f64::from(pixel[at]));
        (0.299 * red + 0.587 * green + 0.114 * blue) / 255.0
    };
    let step = (width.max(height) / SIDE).max(1);
    let [columns, rows] = [width / step, height / step].map(|n| n.max(1));
    let mut small = vec![(0.0, 0u32); columns * rows];
    let (mut sum, mut squares) = (0.0, 0.0);
    for (row, line) in pixels.chunks_exact(3 * width).enumerate() {
        for (column, pixel) in line.chunks_exact(3).enumerate() {
            let luma = luma(pixel);
            sum += luma;
            squares += luma * luma;
            let place = (row / step, column / step);
            if place.0 < rows && place.1 < columns {
                let block = &mut small[place.0 * columns + place.1];
                *block = (block.0 + luma, block.1 + 1);
            }
        }
    }
    let count = (width * height) as f64;
    let mean = sum / count;
    let small: Vec<f64> = small.iter().map(|(sum, n)| sum / f64::from(*n)).collect();
    let (mut differences, mut pairs) = (0.0, 0u32);
    for row in 0..rows {
        for column in 0..columns {
            let here = small[row * columns + column];
            let right = (column + 1 < columns).then(|| small[row * columns + column + 1]);
            let below = (row + 1 < rows).then(|| small[(row + 1) * columns + column]);
            for other in [right, below].into_iter().flatten() {
                differences += (here - other).abs();
                pairs += 1;
            }
        }
    }
    [
        width as f64,
        height as f64,
        mean,
        (squares / count - mean * mean).max(0.0).sqrt(),
        differences / f64::from(pairs.max(1)),
    ]
}

/// One statistic in both sets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moved {
    /// The medians of A and of B.
    pub medians: [f64; 2],
    /// Wilcoxon's rank-sum test, two-sided, by the normal approximation with ties.
    pub p: f64,
    /// The same with Holm's correction for all statistics.
    pub p_holm: f64,
}

/// Compares the values of each statistic in A and in B; `None` where a set has no values.
#[must_use]
pub(crate) fn compare(statistics: &[[Vec<f64>; 2]]) -> Vec<Option<Moved>> {
    let mut moved: Vec<Option<Moved>> = statistics
        .iter()
        .map(|[a, b]| {
            (!a.is_empty() && !b.is_empty()).then(|| Moved {
                medians: [median(a), median(b)],
                p: rank_sum(a, b),
                p_holm: 1.0,
            })
        })
        .collect();
    let p_values: Vec<f64> = moved.iter().flatten().map(|one| one.p).collect();
    let corrected = moved.iter_mut().flatten().zip(holm(&p_values));
    corrected.for_each(|(one, p)| one.p_holm = p);
    moved
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

/// The p of the rank-sum test without a continuity correction; 1 if all values are equal.
fn rank_sum(a: &[f64], b: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = a.iter().map(|x| (*x, true)).collect();
    all.extend(b.iter().map(|x| (*x, false)));
    all.sort_by(|x, y| x.0.total_cmp(&y.0));
    let [m, n] = [a.len(), b.len()].map(|n| n as f64);
    let (mut ranks, mut ties, mut before) = (0.0, 0.0, 0.0);
    for equal in all.chunk_by(|x, y| x.0 == y.0) {
        let count = equal.len() as f64;
        let mine = equal.iter().filter(|(_, is_a)| *is_a).count() as f64;
        ranks += mine * (before + (count + 1.0) / 2.0);
        ties += count.powi(3) - count;
        before += count;
    }
    let total = m + n;
    let variance = m * n / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let z = (ranks - m * (total + 1.0) / 2.0) / variance.sqrt();
    libm::erfc(z.abs() / std::f64::consts::SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_simple_pictures_are_known() {
        // Columns of black and white.
        let stripes: Vec<u8> = (0..6 * 4)
            .flat_map(|at| [if at % 2 == 0 { 0 } else { 255 }; 3])
            .collect();
        let [width, height, brightness, contrast, sharpness] = measured(&stripes, [6, 4]);
        assert_eq!((width, height), (6.0, 4.0));
        assert!((brightness - 0.5).abs() < 1e-12 && (contrast - 0.5).abs() < 1e-12);
        // 20 pairs side by side differ by 1, 18 above each other by 0.
        assert!((sharpness - 20.0 / 38.0).abs() < 1e-12, "{sharpness}");
        // Reduced by two, stripes of one pixel are grey.
        let large: Vec<u8> = (0..512 * 4)
            .flat_map(|at| [if at % 2 == 0 { 0 } else { 255 }; 3])
            .collect();
        assert!(measured(&large, [512, 4])[4] < 1e-12);
        let red = measured(&[255, 0, 0], [1, 1]);
        assert!((red[2] - 0.299).abs() < 1e-12 && red[4] == 0.0);
    }

    #[test]
    fn ranks_are_compared_as_scipy_does() {
        // scipy.stats.mannwhitneyu(a, b, use_continuity=False, method="asymptotic")
        let (a, b) = ([1.0, 2.0, 2.0, 3.0, 5.0], [2.0, 4.0, 6.0, 7.0]);
        let p = rank_sum(&a, &b);
        assert!((p - 0.134_961_780_941_381_28).abs() < 1e-9, "{p}");
        assert_eq!(rank_sum(&[1.0; 3], &[1.0; 4]), 1.0);
        assert_eq!((median(&a), median(&b)), (2.0, 5.0));
        let same = || vec![9.0; 2];
        let light = [vec![0.2, 0.3], vec![0.7, 0.9]];
        let moved = compare(&[[same(), same()], light, [vec![], same()]]);
        assert_eq!(moved[0].unwrap().p_holm, 1.0);
        let light = moved[1].unwrap();
        assert_eq!((light.medians, moved[2]), ([0.25, 0.8], None));
        assert!(
            (light.p - 0.121_335_250_358_482_11).abs() < 1e-9,
            "{light:?}"
        );
        assert!((light.p_holm - 2.0 * light.p).abs() < 1e-12);
    }
}
