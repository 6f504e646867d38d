//! Paired comparison of two runs over the same samples.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::bootstrap::{Interval, Resampling};
use super::tally::{Classified, ratio};

/// Maximum number of differing samples for the exact form of McNemar's test. The usual 25 dates
/// from the days of printed tables; at 1000 the approximation agrees to two digits and more.
const MOST_EXACT: usize = 1000;

/// Which of two runs classified a sample correctly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    /// Both.
    pub both: usize,
    /// Only the first one.
    pub only_first: usize,
    /// Only the second one.
    pub only_second: usize,
    /// Neither.
    pub neither: usize,
}

/// How a p value was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum McNemarMethod {
    /// The binomial distribution, two-sided.
    Exact,
    /// The chi-square distribution with one degree of freedom, with continuity correction.
    ChiSquare,
}

/// McNemar's test of the hypothesis that two runs are correct equally often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct McNemar {
    /// [`McNemarMethod::Exact`]: the smaller of the two counts of samples that only one run got
    /// right; otherwise chi-square.
    pub statistic: f64,
    /// The p value: the probability of a difference at least as large if the runs were equally
    /// good.
    pub p_value: f64,
    /// How it was computed.
    pub method: McNemarMethod,
}

/// A class with different recall in the two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassChange {
    /// The class.
    pub class: usize,
    /// Its samples.
    pub support: usize,
    /// Samples that only the second run got right.
    pub won: usize,
    /// Samples that only the first run got right.
    pub lost: usize,
}

/// The second run against the first.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// How many samples each run got right.
    pub pairs: Pairs,
    /// Top-1 accuracy of the second run minus that of the first.
    pub difference: f64,
    /// Its bootstrap interval: samples are drawn together with both answers.
    pub interval: Interval,
    /// McNemar's test of the difference.
    pub test: McNemar,
    /// The classes that changed, sorted by the number of changed samples, ties in the order
    /// of the classes.
    pub changed: Vec<ClassChange>,
}

/// Compares two runs over the same samples, in the same order and with the same classes
/// (their prompts, or the model, may differ).
///
/// # Errors
/// When the runs are not over the same samples.
pub fn compare(
    first: &[Classified],
    second: &[Classified],
    how: &Resampling,
) -> Result<Comparison> {
    ensure!(
        first.len() == second.len(),
        "the runs are over {} and {} samples; a paired test needs the same samples",
        first.len(),
        second.len()
    );
    let mut pairs = Pairs::default();
    let mut classes = BTreeMap::new();
    for (sample, (a, b)) in first.iter().zip(second).enumerate() {
        ensure!(
            a.target == b.target,
            "sample {sample} has class {} in one run and class {} in the other; a paired test \
             needs the same samples",
            a.target,
            b.target
        );
        let class = classes.entry(a.target).or_insert(ClassChange {
            class: a.target as usize,
            support: 0,
            won: 0,
            lost: 0,
        });
        class.support += 1;
        match (a.correct(), b.correct()) {
            (true, true) => pairs.both += 1,
            (false, false) => pairs.neither += 1,
            (true, false) => {
                pairs.only_first += 1;
                class.lost += 1;
            }
            (false, true) => {
                pairs.only_second += 1;
                class.won += 1;
            }
        }
    }
    let mut changed: Vec<ClassChange> = classes
        .into_values()
        .filter(|class| class.won != class.lost)
        .collect();
    changed.sort_by_key(|class| std::cmp::Reverse(class.won.abs_diff(class.lost)));
    let (won, lost, n) = (pairs.only_second, pairs.only_first, first.len());
    Ok(Comparison {
        pairs,
        difference: ratio(won as f64 - lost as f64, n),
        interval: how.difference(won, lost, n),
        test: mcnemar(lost, won),
        changed,
    })
}

/// McNemar's test from the numbers of samples that only one of two runs got right: exact up to
/// 1000 of them.
#[must_use]
pub fn mcnemar(only_first: usize, only_second: usize) -> McNemar {
    let (total, least) = (only_first + only_second, only_first.min(only_second));
    if total <= MOST_EXACT {
        return McNemar {
            statistic: least as f64,
            p_value: (2.0 * coin_at_most(least, total)).min(1.0),
            method: McNemarMethod::Exact,
        };
    }
    let statistic = (only_first.abs_diff(only_second) as f64 - 1.0).powi(2) / total as f64;
    McNemar {
        statistic,
        // The chi-square distribution with one degree of freedom is that of a squared normal
        // variable.
        p_value: libm::erfc((statistic / 2.0).sqrt()),
        method: McNemarMethod::ChiSquare,
    }
}

/// The probability of at most `heads` heads in `throws` tosses of a fair coin, for up to 1000
/// tosses.
fn coin_at_most(heads: usize, throws: usize) -> f64 {
    // 2^-1000 is still a normal f64.
    let mut probability = 0.5f64.powi(throws as i32);
    let mut sum = probability;
    for i in 1..=heads {
        probability *= (throws - i + 1) as f64 / i as f64;
        sum += probability;
    }
    sum
}

/// Holm's correction of the p values of several tests, in their order: each can then be compared
/// with the same threshold as if it were the only one (statsmodels'
/// `multipletests(method="holm")`).
#[must_use]
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut corrected = vec![0.0; p_values.len()];
    let mut largest: f64 = 0.0;
    for (rank, place) in order.into_iter().enumerate() {
        let factor = (p_values.len() - rank) as f64;
        largest = largest.max(p_values[place] * factor).min(1.0);
        corrected[place] = largest;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(pairs: &[(u32, u32)]) -> Vec<Classified> {
        let pairs = pairs.iter();
        pairs
            .map(|(target, predicted)| Classified {
                target: *target,
                predicted: *predicted,
                probability: 0.5,
            })
            .collect()
    }

    #[test]
    fn the_exact_test_sums_coin_tosses() {
        // 2 * (1 + 8) / 256; a tie and no samples give p = 1.
        for (a, b, expected) in [(1, 7, 18.0 / 256.0), (3, 3, 1.0), (0, 0, 1.0), (0, 1, 1.0)] {
            assert_eq!(mcnemar(a, b).p_value, expected, "{a} {b}");
            assert_eq!(mcnemar(b, a), mcnemar(a, b));
        }
    }

    #[test]
    fn the_two_methods_agree_where_one_takes_over() {
        let (exact, approximate) = (mcnemar(460, 540), mcnemar(460, 541));
        assert_eq!(exact.method, McNemarMethod::Exact);
        assert_eq!(approximate.method, McNemarMethod::ChiSquare);
        // 540 against 542 differing samples: the p values differ only by that step.
        let ratio = approximate.p_value / exact.p_value;
        assert!((0.85..1.0).contains(&ratio), "{exact:?} {approximate:?}");
        assert!(mcnemar(0, 1000).p_value > 0.0);
        assert_eq!(mcnemar(0, 100_000).p_value, 0.0);
    }

    #[test]
    fn changed_classes_are_listed_with_gains_and_losses() {
        let first = answers(&[
            (0, 0),
            (0, 1),
            (0, 1),
            (1, 1),
            (1, 1),
            (2, 0),
            (2, 2),
            (4, 4),
        ]);
        let second = answers(&[
            (0, 0),
            (0, 0),
            (0, 0),
            (1, 1),
            (1, 2),
            (2, 2),
            (2, 0),
            (4, 4),
        ]);
        let found = compare(&first, &second, &Resampling::default()).unwrap();
        let expected = Pairs {
            both: 3,
            only_first: 2,
            only_second: 3,
            neither: 0,
        };
        assert_eq!(found.pairs, expected);
        assert_eq!(found.difference, 1.0 / 8.0);
        assert!(found.interval.low < 0.125 && found.interval.high > 0.125);
        let changed: Vec<_> = found
            .changed
            .iter()
            .map(|c| (c.class, c.support, c.won, c.lost))
            .collect();
        // Class 2 won one and lost one.
        assert_eq!(changed, [(0, 3, 2, 0), (1, 2, 0, 1)]);
    }

    #[test]
    fn runs_over_different_samples_are_refused() {
        let how = Resampling::default();
        let (one, two) = (answers(&[(0, 0)]), answers(&[(0, 0), (1, 1)]));
        assert!(compare(&one, &two, &how).is_err());
        assert!(compare(&one, &answers(&[(1, 0)]), &how).is_err());
        let nothing = compare(&[], &[], &how).unwrap();
        assert_eq!((nothing.difference, nothing.test.p_value), (0.0, 1.0));
    }

    #[test]
    fn holm_multiplies_by_the_number_of_remaining_tests() {
        let corrected = holm(&[0.01, 0.04, 0.03, 0.9]);
        let expected = [0.04, 0.09, 0.09, 0.9];
        for (found, expected) in corrected.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{corrected:?}");
        }
        assert_eq!(holm(&[]), Vec::<f64>::new());
    }
}
