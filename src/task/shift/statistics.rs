//! Distributions and intervals that the comparisons share.

use libm::lgamma;

use crate::task::metric::bootstrap::Interval;

/// The normal quantile of a 95% interval.
const Z: f64 = 1.959_963_984_540_054;
/// Probabilities that differ by a smaller share are equal.
const SAME: f64 = 1e-7;

/// The probability of at least `heads` heads in `throws` tosses of a fair coin.
#[must_use]
pub(super) fn coin_at_least(heads: usize, throws: usize) -> f64 {
    if heads == 0 || heads > throws {
        return f64::from(u8::from(heads == 0));
    }
    // Small terms are not lost next to large ones: the tail that does not hold the middle is summed.
    match 2 * heads > throws {
        true => coin_at_most(throws - heads, throws),
        false => 1.0 - coin_at_most(heads - 1, throws),
    }
}

/// The probability of at most `heads` heads, which are at most half of `throws`.
fn coin_at_most(heads: usize, throws: usize) -> f64 {
    let n = throws as f64;
    let mut term = (choices(n, heads as f64) - n * std::f64::consts::LN_2).exp();
    let mut sum = term;
    for i in (1..=heads).rev() {
        term *= i as f64 / (n - i as f64 + 1.0);
        sum += term;
    }
    sum
}

/// ln of n over k.
fn choices(n: f64, k: f64) -> f64 {
    lgamma(n + 1.0) - lgamma(k + 1.0) - lgamma(n - k + 1.0)
}

/// The probability that a chi-square variable with `degrees` degrees of freedom is above `x`.
#[must_use]
pub(super) fn chi_square_above(x: f64, degrees: usize) -> f64 {
    // The regularised upper incomplete gamma function.
    let (a, x) = (degrees as f64 / 2.0, x / 2.0);
    if x <= 0.0 || degrees == 0 {
        return 1.0;
    }
    let front = (a * x.ln() - x - lgamma(a)).exp();
    if x < a + 1.0 {
        // The series of the lower function.
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        while term > sum * f64::EPSILON {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        return (1.0 - front * sum).clamp(0.0, 1.0);
    }
    // Its continued fraction, by Lentz's method.
    let mut b = x + 1.0 - a;
    let mut c = 1.0 / f64::MIN_POSITIVE;
    let mut d = 1.0 / b;
    let mut product = d;
    for i in 1..100_000 {
        let i = f64::from(i);
        let factor = -i * (i - a);
        b += 2.0;
        let away_from_zero = |value: f64| match value.abs() < f64::MIN_POSITIVE {
            true => f64::MIN_POSITIVE,
            false => value,
        };
        d = 1.0 / away_from_zero(factor * d + b);
        c = away_from_zero(b + factor / c);
        product *= d * c;
        if (d * c - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    (front * product).clamp(0.0, 1.0)
}

/// Fisher's exact test, two-sided: the probability of a table as unlikely as `hits` of `totals`, or
/// more so, given its margins.
#[must_use]
pub(super) fn fisher(hits: [usize; 2], totals: [usize; 2]) -> f64 {
    let [m, n] = totals;
    let drawn = hits[0] + hits[1];
    let all = choices((m + n) as f64, drawn as f64);
    let chance = |x: usize| {
        (choices(m as f64, x as f64) + choices(n as f64, (drawn - x) as f64) - all).exp()
    };
    let most = chance(hits[0]) * (1.0 + SAME);
    let possible = drawn.saturating_sub(n)..=drawn.min(m);
    let sum: f64 = possible.map(chance).filter(|&p| p <= most).sum();
    sum.min(1.0)
}

/// Newcombe's hybrid score interval at 95% of the second share minus the first.
#[must_use]
pub(super) fn newcombe(hits: [usize; 2], totals: [usize; 2]) -> Interval {
    let [(p1, low1, high1), (p2, low2, high2)] = [0, 1].map(|at| wilson(hits[at], totals[at]));
    let difference = p2 - p1;
    Interval {
        low: difference - (p2 - low2).hypot(high1 - p1),
        high: difference + (high2 - p2).hypot(p1 - low1),
    }
}

/// A share and Wilson's interval.
fn wilson(hits: usize, total: usize) -> (f64, f64, f64) {
    let (x, n) = (hits as f64, total as f64);
    let p = x / n;
    let centre = (x + Z * Z / 2.0) / (n + Z * Z);
    let half = Z / (n + Z * Z) * (x * (1.0 - p) + Z * Z / 4.0).sqrt();
    (p, centre - half, centre + half)
}

#[cfg(test)]
pub(super) mod testing {
    use crate::kernel::testing::randoms;

    /// Random unit rows [n, dim] around `shift` on the first axis.
    pub(crate) fn unit_rows(n: usize, dim: usize, shift: f32, seed: u64) -> Vec<f32> {
        let mut rows = randoms(seed, n * dim);
        for row in rows.chunks_exact_mut(dim) {
            row[0] += shift;
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter_mut().for_each(|x| *x /= length);
        }
        rows
    }

    /// The largest distance of the distribution of some numbers from the uniform one.
    pub(crate) fn distance_from_uniform(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        let n = values.len() as f64;
        let places = values.iter().enumerate().map(|(at, &value)| {
            let (below, above) = (at as f64 / n, (at + 1) as f64 / n);
            (value - below).abs().max((above - value).abs())
        });
        places.fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(found: f64, expected: f64) {
        let slack = 1e-9 * expected.abs().max(1e-12);
        assert!((found - expected).abs() <= slack, "{found} {expected}");
    }

    #[test]
    fn tails_are_those_of_scipy() {
        // scipy.stats.binom.sf(k - 1, n, 0.5)
        close(coin_at_least(0, 7), 1.0);
        close(coin_at_least(8, 7), 0.0);
        close(coin_at_least(5, 10), 0.623_046_875);
        close(coin_at_least(10, 10), 1.0 / 1024.0);
        close(coin_at_least(4, 10), 0.828_125);
        close(coin_at_least(1100, 2000), 4.228_544_767_751_905e-6);
        // scipy.stats.chi2.sf(x, k)
        close(chi_square_above(0.0, 3), 1.0);
        close(chi_square_above(1.0, 1), 0.317_310_507_862_914_1);
        close(chi_square_above(3.0, 4), 0.557_825_400_371_074_5);
        close(chi_square_above(30.0, 4), 4.894_437_128_029_217e-6);
        close(chi_square_above(950.0, 999), 0.864_268_182_286_396_8);
    }

    #[test]
    fn exact_tests_and_intervals_are_the_published_ones() {
        // scipy.stats.fisher_exact([[8, 2], [1, 5]]), and of [[1, 9], [11, 3]], Fisher's own kind
        // of table.
        close(fisher([8, 1], [10, 6]), 0.034_965_034_965_034_96);
        close(fisher([1, 11], [10, 14]), 0.002_759_456_185_220_083);
        close(fisher([5, 5], [10, 10]), 1.0);
        close(fisher([0, 0], [10, 4]), 1.0);
        // Newcombe 1998, table II, method 10: 56/70 - 48/80, 9/10 - 3/10, 10/10 - 0/10.
        let cases = [
            ([48, 56], [80, 70], 0.0524, 0.3339),
            ([3, 9], [10, 10], 0.1705, 0.8090),
            ([0, 10], [10, 10], 0.6075, 1.0),
        ];
        for (hits, totals, low, high) in cases {
            let found = newcombe(hits, totals);
            let off = (found.low - low).abs().max((found.high - high).abs());
            assert!(off < 6e-5, "{found:?} {low} {high}");
        }
    }
}
