//! Times repeated calls.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::run::session::Stop;

/// Time for one figure, if the number of repeats is not given.
const BUDGET: Duration = Duration::from_millis(1500);
/// Minimum and maximum number of calls for a median.
const MIN_CALLS: usize = 3;
const MAX_CALLS: usize = 50;

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
        self.timed(MIN_CALLS, call)
    }

    /// The same for a long call, such as a pass over a folder: without warm-up, and a single call
    /// may do.
    pub(super) fn passes_ms(&self, call: impl FnMut() -> Result<()>) -> Result<f64> {
        self.timed(1, call)
    }

    fn timed(&self, least: usize, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
        let begin = Instant::now();
        let mut times = Vec::new();
        let is_due = |done: usize| match self.fixed {
            Some(count) => done < count,
            None => done < least || (done < MAX_CALLS && begin.elapsed() < BUDGET),
        };
        while is_due(times.len()) {
            ensure!(self.stop.signal().is_none(), "stopped by a signal");
            let start = Instant::now();
            call()?;
            times.push(start.elapsed());
        }
        Ok(milliseconds(median(times)))
    }
}

/// The median of at least one time.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    let (low, high) = (times[(times.len() - 1) / 2], times[times.len() / 2]);
    (low + high) / 2
}

/// Milliseconds with microsecond resolution.
pub(super) fn milliseconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1e3)
}

/// Rounds to three decimals, which is all that timings resolve.
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
