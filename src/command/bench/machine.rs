//! Facts about the machine and this process, read from Linux's /proc.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::measure::rounded;
use super::report::Memory;

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
