//! How often each label is the answer in two sets.

use super::below;
use super::statistics::{chi_square_above, fisher, newcombe};
use crate::task::metric::Resampling;
use crate::task::metric::bootstrap::Interval;
use crate::task::metric::paired::holm;

/// The answers of B against those of A.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ShareChange {
    /// Half of the summed absolute differences of the shares.
    pub total_variation: f64,
    /// Its bootstrap interval, both sets drawn again. It is above 0 also for two draws of the same
    /// distribution.
    pub interval: Interval,
    /// Pearson's chi-square of the table of sets by labels, without labels that neither set has.
    pub chi_square: f64,
    /// Its degrees of freedom; with 0, all answers are one label.
    pub degrees: usize,
    /// The probability of a larger one if the shares were the same.
    pub p: f64,
    /// Each label, in order.
    pub labels: Vec<LabelChange>,
}

/// One share in A and in B.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LabelChange {
    /// Images in A and in B that count.
    pub counts: [usize; 2],
    /// These as shares.
    pub shares: [f64; 2],
    /// Newcombe's 95% interval of the share in B minus that in A.
    pub interval: Interval,
    /// Fisher's exact test of the two shares.
    pub p: f64,
    /// The same with Holm's correction for all rows.
    pub p_holm: f64,
}

/// Compares `answers`, indices below `labels`, none of both empty.
#[must_use]
pub(crate) fn compare(answers: [&[usize]; 2], labels: usize, how: &Resampling) -> ShareChange {
    let totals = answers.map(<[usize]>::len);
    let counts = answers.map(|answers| counted(answers.iter().copied(), labels));
    let chi_square = chi_square(&counts);
    let used = (0..labels).filter(|&at| counts[0][at] + counts[1][at] > 0);
    let degrees = used.count().saturating_sub(1);
    let rows = (0..labels).map(|at| ([counts[0][at], counts[1][at]], totals));
    ShareChange {
        total_variation: total_variation(&counts),
        interval: how.of(|rng| {
            let drawn = answers.map(|answers| {
                let places = (0..answers.len()).map(|_| below(answers.len(), rng));
                counted(places.map(|place| answers[place]), labels)
            });
            total_variation(&drawn)
        }),
        chi_square,
        degrees,
        p: chi_square_above(chi_square, degrees),
        labels: changes(rows),
    }
}

/// Each row of hits and totals as a change, with Holm's correction for all of them.
#[must_use]
pub(super) fn changes(rows: impl Iterator<Item = ([usize; 2], [usize; 2])>) -> Vec<LabelChange> {
    let mut changes: Vec<LabelChange> = rows
        .map(|(counts, totals)| LabelChange {
            counts,
            shares: [0, 1].map(|at| counts[at] as f64 / totals[at] as f64),
            interval: newcombe(counts, totals),
            p: fisher(counts, totals),
            p_holm: 1.0,
        })
        .collect();
    let p_values: Vec<f64> = changes.iter().map(|change| change.p).collect();
    let corrected = changes.iter_mut().zip(holm(&p_values));
    corrected.for_each(|(change, p)| change.p_holm = p);
    changes
}

fn counted(answers: impl Iterator<Item = usize>, labels: usize) -> Vec<usize> {
    let mut counts = vec![0; labels];
    answers.for_each(|answer| counts[answer] += 1);
    counts
}

fn total_variation([a, b]: &[Vec<usize>; 2]) -> f64 {
    let totals = [a, b].map(|counts| counts.iter().sum::<usize>() as f64);
    let terms = a.iter().zip(b);
    let terms = terms.map(|(a, b)| (*a as f64 / totals[0] - *b as f64 / totals[1]).abs());
    terms.sum::<f64>() / 2.0
}

fn chi_square([a, b]: &[Vec<usize>; 2]) -> f64 {
    let totals = [a, b].map(|counts| counts.iter().sum::<usize>() as f64);
    let all = totals[0] + totals[1];
    let terms = a.iter().zip(b).filter(|(a, b)| *a + *b > 0);
    let terms = terms.map(|(&a, &b)| {
        let both = (a + b) as f64;
        let off = |seen: usize, total: f64| {
            (seen as f64 - both * total / all).powi(2) / (both * total / all)
        };
        off(a, totals[0]) + off(b, totals[1])
    });
    terms.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated(counts: &[usize]) -> Vec<usize> {
        let all = counts.iter().enumerate();
        all.flat_map(|(label, &n)| std::iter::repeat_n(label, n))
            .collect()
    }

    #[test]
    fn shares_are_compared_as_scipy_does() {
        let (a, b) = (repeated(&[40, 30, 30, 0]), repeated(&[20, 30, 150, 0]));
        let found = compare([&a, &b], 4, &Resampling::default());
        assert!((found.total_variation - 0.45).abs() < 1e-12);
        // scipy.stats.chi2_contingency([[40, 30, 30], [20, 30, 150]])
        assert!((found.chi_square - 60.0).abs() < 1e-9, "{found:?}");
        assert_eq!(found.degrees, 2);
        assert!(
            (found.p - (-60.0f64 / 2.0).exp()).abs() < 1e-18,
            "{found:?}"
        );
        assert!(found.interval.low < 0.45 && found.interval.high > 0.45);
        assert!(
            found.interval.low > 0.33 && found.interval.high < 0.57,
            "{found:?}"
        );
        assert_eq!(found.labels[2].shares, [0.3, 0.75]);
        assert_eq!(found.labels[3].p_holm, 1.0);
        let rows = &found.labels;
        assert!(rows[2].p_holm < 1e-10 && (rows[2].p_holm - 4.0 * rows[2].p).abs() < 1e-20);
        assert!(rows[2].interval.low > 0.3 && rows[2].interval.high < 0.6);
    }

    #[test]
    fn p_is_uniform_when_the_shares_are_the_same() {
        use rand::SeedableRng as _;
        use rand_chacha::ChaCha8Rng;
        let how = Resampling {
            resamples: 0,
            ..Resampling::default()
        };
        let draw = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut set = |n| -> Vec<usize> { (0..n).map(|_| below(4, &mut rng)).collect() };
            compare([&set(300), &set(200)], 4, &how).p
        };
        let found: Vec<f64> = (0..200).map(draw).collect();
        let distance = crate::task::shift::statistics::testing::distance_from_uniform(found);
        assert!(distance < 1.63 / 200f64.sqrt(), "{distance}");
    }

    #[test]
    fn one_label_for_all_is_no_change() {
        let found = compare([&[1; 5], &[1; 9]], 2, &Resampling::default());
        assert_eq!((found.degrees, found.p, found.chi_square), (0, 1.0, 0.0));
        assert_eq!(found.labels[1].p_holm, 1.0);
    }
}
