//! Repeated calls, timed.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::run::session::Stop;

/// How long one figure may take when the number of repeats is not given.
const BUDGET: Duration = Duration::from_millis(1500);
/// The fewest calls that make a median, and enough of them.
const LEAST: usize = 3;
const ENOUGH: usize = 50;

/// How often a figure is measured.
pub(super) struct Repeats {
    fixed: Option<usize>,
    pub(super) stop: Stop,
}

impl Repeats {
    pub(super) fn new(fixed: Option<u64>, stop: &Stop) -> Self {
        Self {
            fixed: fixed.map(|count| count as usize),
            stop: stop.clone(),
        }
    }

    /// The median time of a call in milliseconds, after one that is not counted.
    pub(super) fn median_ms(&self, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
        call()?;
        self.timed(LEAST, call)
    }

    /// The same for a call that is a whole pass over much work: none is left uncounted, and one may
    /// do.
    pub(super) fn passes_ms(&self, call: impl FnMut() -> Result<()>) -> Result<f64> {
        self.timed(1, call)
    }

    fn timed(&self, least: usize, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
        let begin = Instant::now();
        let mut times = Vec::new();
        let go_on = |done: usize| match self.fixed {
            Some(count) => done < count,
            None => done < least || (done < ENOUGH && begin.elapsed() < BUDGET),
        };
        while go_on(times.len()) {
            ensure!(self.stop.signal().is_none(), "stopped by a signal");
            let start = Instant::now();
            call()?;
            times.push(start.elapsed());
        }
        Ok(milliseconds(median(times)))
    }
}

/// The middle of some times, at least one.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    let (low, high) = (times[(times.len() - 1) / 2], times[times.len() / 2]);
    (low + high) / 2
}

/// As reports give it: to the microsecond.
pub(super) fn milliseconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1e3)
}

/// Three digits behind the point: no timing means more.
pub(super) fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let cases: [(&[u64], u64); 4] = [
            (&[7], 7),
            (&[9, 1], 5),
            (&[9, 1, 2], 2),
            (&[1, 100, 4, 2], 3),
        ];
        for (times, expected) in cases {
            let times = times.iter().map(|&ms| Duration::from_millis(ms)).collect();
            assert_eq!(median(times), Duration::from_millis(expected));
        }
    }

    #[test]
    fn calls_are_repeated_as_often_as_asked() {
        let stop = Stop::default();
        for (fixed, warm, expected) in [(Some(4), true, 5), (Some(4), false, 4), (Some(1), true, 2)]
        {
            let repeats = Repeats::new(fixed, &stop);
            let mut calls = 0;
            let call = || {
                calls += 1;
                Ok(())
            };
            let time = if warm {
                repeats.median_ms(call)
            } else {
                repeats.passes_ms(call)
            };
            assert!(time.unwrap() >= 0.0);
            assert_eq!(calls, expected);
        }
    }

    #[test]
    fn a_failing_call_is_the_error() {
        let repeats = Repeats::new(None, &Stop::default());
        let error = repeats.median_ms(|| anyhow::bail!("no")).unwrap_err();
        assert_eq!(error.to_string(), "no");
    }
}
