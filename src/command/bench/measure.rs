//! Times repeated calls; the CPU's name and the process's memory.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::report::Memory;
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

/// Sampling interval of memory, long enough to cost nothing.
const INTERVAL: Duration = Duration::from_millis(20);

/// The processor's name, if the system reports it.
pub(super) fn cpu_name() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Samples the process's own memory in the background: the system records the peak of all pages,
/// but not that of private ones.
pub(super) struct MemoryWatch {
    most_kib: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl MemoryWatch {
    pub(super) fn start() -> Self {
        let watch = Self {
            most_kib: Arc::default(),
            over: Arc::default(),
        };
        let (most_kib, over) = (watch.most_kib.clone(), watch.over.clone());
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed)
                && let Some(now) = status_kib("RssAnon")
            {
                most_kib.fetch_max(now, Ordering::Relaxed);
                std::thread::sleep(INTERVAL);
            }
        });
        watch
    }

    /// The peak up to now; ends the watch.
    pub(super) fn peak(self) -> Memory {
        let now = status_kib("RssAnon");
        let anonymous = now.map(|now| now.max(self.most_kib.load(Ordering::Relaxed)));
        Memory {
            peak_rss_mib: status_kib("VmHWM").map(mib),
            peak_anonymous_mib: anonymous.map(mib),
        }
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn mib(kib: u64) -> f64 {
    rounded(kib as f64 / 1024.0)
}

fn status_kib(key: &str) -> Option<u64> {
    entry_kib(&fs::read_to_string("/proc/self/status").ok()?, key)
}

/// The value of `key:` in a file like /proc/self/status.
fn entry_kib(status: &str, key: &str) -> Option<u64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
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

    #[test]
    fn entries_of_the_status_file() {
        let status =
            "Name:\tlongclip\nVmHWM:\t  123456 kB\nRssAnonX:\t 1 kB\nRssAnon:\t     789 kB\n";
        let cases = [
            ("VmHWM", Some(123_456)),
            ("RssAnon", Some(789)),
            ("Rss", None),
            ("Name", None),
        ];
        for (key, expected) in cases {
            assert_eq!(entry_kib(status, key), expected, "{key}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_was_freed_counts() {
        let watch = MemoryWatch::start();
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        std::thread::sleep(5 * INTERVAL);
        drop(block);
        let peak = watch.peak();
        assert!(peak.peak_anonymous_mib.unwrap() > 64.0);
        assert!(peak.peak_rss_mib.unwrap() > 64.0);
    }
}
