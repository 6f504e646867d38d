//! Sharing of one piece of work among the threads of the current rayon pool.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of threads for work that takes as long as `flops` f32 operations: one if waking
/// another costs more than it saves, or if the pool has one.
pub(super) fn threads_for(flops: usize) -> usize {
    /// About 10 microseconds of one core with wide vectors; waking a thread takes up to 5.
    const SMALL: usize = 2_000_000;
    if flops < SMALL {
        1
    } else {
        rayon::current_num_threads()
    }
}

/// Runs `body` on up to `threads` threads at once and returns when all have returned. `body` takes
/// its share from counters and must be correct for any number of threads, including one.
pub(super) fn region(threads: usize, body: &(dyn Fn() + Sync)) {
    if threads == 1 {
        return body();
    }
    rayon::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|_| body());
        }
        body();
    });
}

/// Runs `work` on a thread of the current rayon pool. Each region that a thread outside the pool
/// starts wakes one of the pool first, and sleeps until that is done: several percent of an image.
pub(crate) fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

/// A counter over 0..end that gives out each number once.
pub(super) struct Counter {
    next: AtomicUsize,
    end: usize,
}

impl Counter {
    /// Starts a counter over 0..end.
    pub(super) fn new(end: usize) -> Counter {
        Counter {
            next: AtomicUsize::new(0),
            end,
        }
    }

    /// Takes up to `count` remaining numbers, or None if none are left.
    pub(super) fn take(&self, count: usize) -> Option<std::ops::Range<usize>> {
        // Most calls after the end come from threads that find nothing to do: avoid a write for
        // them.
        if self.next.load(Ordering::Relaxed) >= self.end {
            return None;
        }
        let start = self.next.fetch_add(count, Ordering::Relaxed);
        (start < self.end).then(|| start..(start + count).min(self.end))
    }
}

/// A barrier that opens once a number of pieces are done.
pub(super) struct Gate {
    done: AtomicUsize,
    needed: usize,
}

impl Gate {
    /// Opens after `needed` pieces.
    pub(super) fn new(needed: usize) -> Gate {
        Gate {
            done: AtomicUsize::new(0),
            needed,
        }
    }

    /// Reports `count` pieces done; earlier writes are visible to threads that pass the gate.
    pub(super) fn report(&self, count: usize) {
        self.done.fetch_add(count, Ordering::Release);
    }

    /// Waits until all pieces are done. Only for pieces held by running threads: pieces not yet
    /// taken might never be done.
    pub(super) fn pass(&self) {
        let mut waits = 0;
        while self.done.load(Ordering::Acquire) < self.needed {
            waits += 1;
            // The other thread may have been descheduled.
            if waits > 1000 {
                std::thread::yield_now()
            } else {
                std::hint::spin_loop()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_taken_once_on_any_number_of_threads() {
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a thread pool");
            let counter = Counter::new(1001);
            let hits: Vec<AtomicUsize> = (0..1001).map(|_| AtomicUsize::new(0)).collect();
            let gate = Gate::new(1001);
            pool.install(|| {
                region(threads, &|| {
                    while let Some(range) = counter.take(7) {
                        for i in range.clone() {
                            hits[i].fetch_add(1, Ordering::Relaxed);
                        }
                        gate.report(range.len());
                    }
                    gate.pass();
                    assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1));
                });
            });
        }
    }
}
