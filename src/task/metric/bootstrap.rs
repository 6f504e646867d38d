//! Confidence intervals of means: percentile intervals by Efron's bootstrap.
//!
//! Each resample draws as many samples as there are, with replacement, from its own ChaCha8 stream:
//! the interval depends on the samples, their order and the seed, not on threads or machine. A draw
//! is 32 random bits scaled to the number of samples, whose bias (n / 2^32) is far below what
//! resampling can resolve.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Draws per batch.
const BLOCK: usize = 1024;

/// Settings of the bootstrap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resampling {
    /// Resamples; 2000 determine the ends of the interval to about a twentieth of its width.
    pub resamples: usize,
    /// The random seed.
    pub seed: u64,
    /// The confidence level: the share of resamples inside the interval.
    pub level: f64,
}

impl Default for Resampling {
    fn default() -> Self {
        Self {
            resamples: 2000,
            seed: 0,
            level: 0.95,
        }
    }
}

/// A confidence interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Resampling {
    /// The interval of the mean of `values`, one per sample; zeros if there are none.
    #[cfg(test)]
    fn mean(&self, values: &[f32]) -> Interval {
        let n = values.len() as u64;
        self.interval(values.len(), |draws| {
            let places = draws.iter().map(|draw| (u64::from(*draw) * n) >> 32);
            places.map(|place| f64::from(values[place as usize])).sum()
        })
    }

    /// The interval of `hits` / `n`: that of the mean of so many ones among zeros, without looking
    /// at samples.
    #[must_use]
    pub(crate) fn proportion(&self, hits: usize, n: usize) -> Interval {
        self.difference(hits, 0, n)
    }

    /// The interval of (`won` - `lost`) / `n`: that of the mean of so many 1, so many -1
    /// and zeros.
    #[must_use]
    pub(crate) fn difference(&self, won: usize, lost: usize, n: usize) -> Interval {
        // Which sample is drawn does not matter, only its kind.
        let end = |count: usize| ((count as u128) << 32).checked_div(n as u128).unwrap_or(0) as u64;
        let (won, moved) = (end(won), end(won + lost));
        self.interval(n, |draws| {
            let below = |end: u64| draws.iter().filter(|draw| u64::from(**draw) < end).count();
            let (won, moved) = (below(won) as f64, below(moved) as f64);
            won - (moved - won)
        })
    }

    /// The interval of means of `n` samples, given a function `sum` that sums over some draws.
    fn interval(&self, n: usize, sum: impl Fn(&[u32]) -> f64 + Sync) -> Interval {
        if n == 0 {
            return Interval::default();
        }
        self.of(|rng| {
            let (mut draws, mut total, mut left) = ([0; BLOCK], 0.0, n);
            while left > 0 {
                let draws = &mut draws[..left.min(BLOCK)];
                draws.iter_mut().for_each(|draw| *draw = rng.next_u32());
                total += sum(draws);
                left -= draws.len();
            }
            total / n as f64
        })
    }

    /// The interval of any statistic: `resample` draws the samples from a stream of its own and
    /// computes it.
    #[must_use]
    pub(crate) fn of(&self, resample: impl Fn(&mut ChaCha8Rng) -> f64 + Sync) -> Interval {
        if self.resamples == 0 {
            return Interval::default();
        }
        let mut found: Vec<f64> = (0..self.resamples as u64)
            .into_par_iter()
            .map(|stream| {
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                rng.set_stream(stream);
                resample(&mut rng)
            })
            .collect();
        found.sort_by(f64::total_cmp);
        let tail = (1.0 - self.level.clamp(0.0, 1.0)) / 2.0;
        Interval {
            low: quantile(&found, tail),
            high: quantile(&found, 1.0 - tail),
        }
    }
}

/// A quantile of sorted values, with linear interpolation (numpy's
/// `percentile`).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_proportion_matches_the_binomial_distribution() {
        // scipy.stats.binom.ppf([0.025, 0.975], n, p) / n
        let cases = [
            (700, 1000, 0.671, 0.728),
            (10, 200, 0.02, 0.08),
            (25_000, 50_000, 0.49562, 0.50438),
        ];
        for (hits, n, low, high) in cases {
            let found = Resampling::default().proportion(hits, n);
            let slack = 0.1 * (high - low);
            assert!((found.low - low).abs() <= slack, "{found:?} {low}");
            assert!((found.high - high).abs() <= slack, "{found:?} {high}");
        }
    }

    #[test]
    fn counting_and_drawing_values_agree() {
        let how = Resampling {
            resamples: 4000,
            ..Resampling::default()
        };
        let mut values = vec![0.0; 500];
        values[..90].fill(1.0);
        assert_eq!(how.mean(&values), how.proportion(90, 500));
        values[90..130].fill(-1.0);
        assert_eq!(how.mean(&values), how.difference(90, 40, 500));
    }

    #[test]
    fn the_interval_depends_on_the_seed_but_not_on_threads() {
        let how = Resampling::default();
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| how.proportion(60, 100))
        };
        assert_eq!(on(1), on(3));
        let values: Vec<f32> = (0..97).map(|i| (i * i % 89) as f32).collect();
        let other = Resampling { seed: 1, ..how };
        assert_ne!(other.mean(&values), how.mean(&values));
    }

    #[test]
    fn certain_and_empty_results_have_zero_width() {
        let how = Resampling::default();
        assert_eq!(how.proportion(0, 0), Interval::default());
        assert_eq!(how.mean(&[]), Interval::default());
        let one = Interval {
            low: 1.0,
            high: 1.0,
        };
        assert_eq!(how.proportion(30, 30), one);
        let none = Resampling {
            resamples: 0,
            ..how
        };
        assert_eq!(none.proportion(1, 2), Interval::default());
    }

    #[test]
    fn quantiles_are_interpolated_linearly() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        for (share, expected) in [(0.0, 1.0), (0.5, 3.0), (0.9, 6.8), (1.0, 8.0)] {
            assert!(
                (quantile(&sorted, share) - expected).abs() < 1e-12,
                "{share}"
            );
        }
    }
}
