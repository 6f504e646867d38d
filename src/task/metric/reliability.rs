//! Calibration of probabilities: reliability bins and the expected calibration error.
//!
//! Guo et al., On Calibration of Modern Neural Networks (2017).

use anyhow::{Result, ensure};

use super::tally::ratio;

/// Default number of bins.
pub const BINS: usize = 15;

/// The samples whose best probability lies in one range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// The lower edge, which belongs to the bin.
    pub low: f32,
    /// The upper edge, which belongs to the next bin, except 1, which belongs to the last.
    pub high: f32,
    /// The number of samples.
    pub count: usize,
    /// The mean of their best probabilities, 0 if the bin is empty.
    pub confidence: f64,
    /// The share of right answers, 0 if the bin is empty.
    pub accuracy: f64,
}

/// A reliability diagram.
#[derive(Clone, Debug, PartialEq)]
pub struct Reliability {
    /// Bins of equal width from 0 to 1.
    pub bins: Vec<Bin>,
    /// The expected calibration error: the mean of |confidence - accuracy| over the bins, weighted
    /// by their samples.
    pub ece: f64,
    /// The maximum calibration error: the largest |confidence - accuracy| of a bin that has
    /// samples.
    pub worst: f64,
}

/// Assigns each sample's `(best probability, right)` to `bins` bins of equal width. A probability
/// that is an edge (the f32 nearest to it) belongs to the bin above, and 1 to the last bin, as in
/// netcal's `ECE`. torchmetrics' `MulticlassCalibrationError(norm="l1")` has the same edges
/// except for the last bit, and gives probabilities of exactly 1 a separate bin: without such
/// probabilities the numbers are the same.
///
/// # Errors
/// When there are no bins.
pub fn reliability(
    samples: impl IntoIterator<Item = (f32, bool)>,
    bins: usize,
) -> Result<Reliability> {
    ensure!(bins > 0, "a reliability diagram needs at least one bin");
    let edge = |i: usize| (i as f64 / bins as f64) as f32;
    let edges: Vec<f32> = (1..bins).map(edge).collect();
    let mut sums = vec![(0usize, 0f64, 0usize); bins];
    let mut n = 0;
    for (probability, right) in samples {
        let (count, confidence, correct) =
            &mut sums[edges.partition_point(|edge| *edge <= probability)];
        *count += 1;
        *confidence += f64::from(probability);
        *correct += usize::from(right);
        n += 1;
    }
    let bins: Vec<Bin> = sums
        .iter()
        .enumerate()
        .map(|(i, (count, confidence, correct))| Bin {
            low: edge(i),
            high: edge(i + 1),
            count: *count,
            confidence: ratio(*confidence, *count),
            accuracy: ratio(*correct as f64, *count),
        })
        .collect();
    let gap = |bin: &Bin| (bin.confidence - bin.accuracy).abs();
    Ok(Reliability {
        ece: ratio(bins.iter().map(|bin| gap(bin) * bin.count as f64).sum(), n),
        worst: bins.iter().map(gap).fold(0.0, f64::max),
        bins,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_belongs_to_the_bin_above_and_one_to_the_last() {
        let samples = [0.0, 0.25, 0.249, 0.5, 0.999, 1.0].map(|p| (p, true));
        let bins = reliability(samples, 4).unwrap().bins;
        let counts: Vec<usize> = bins.iter().map(|bin| bin.count).collect();
        assert_eq!(counts, [2, 1, 1, 2]);
        assert_eq!((bins[0].low, bins[0].high, bins[3].high), (0.0, 0.25, 1.0));
        for i in 0..15u8 {
            let edge = f32::from(i) / 15.0;
            let bins = reliability([(edge, true)], 15).unwrap().bins;
            assert_eq!(bins[usize::from(i)].count, 1, "{edge}");
        }
    }

    #[test]
    fn the_error_is_weighted_by_samples() {
        // One bin: confidence 0.75, accuracy 0.5; the other: 0.25 and 1.
        let samples = [(0.75, true), (0.75, false), (0.25, true)];
        let result = reliability(samples, 2).unwrap();
        assert!((result.ece - (2.0 * 0.25 + 0.75) / 3.0).abs() < 1e-12);
        assert_eq!(result.worst, 0.75);
        assert!(reliability([], 0).is_err());
    }
}
