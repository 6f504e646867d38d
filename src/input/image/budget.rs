//! One limit on the memory of all images that are read and decoded at the same time.
//!
//! A decode asks for what it will need before it allocates any of it, and waits while others hold
//! too much. It holds a file's bytes meanwhile, so files have a share of their own and are asked for
//! first: nobody waits for a file while holding decoded rows.

use std::fmt;
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};

use anyhow::{Result, ensure};

use crate::file::failure::FailureKind;
use crate::file::memory;

/// By default images may take one SHARE-th of the memory there is: weights, the activations of
/// each thread and the allocator take the rest.
const SHARE: u64 = 4;

/// The memory there is, where the system does not say.
const UNKNOWN_BYTES: u64 = 4 << 30;

/// Files that are read at the same time may take one FILES-th of the limit, or one file more.
const FILES: u64 = 4;

/// Asked of the allocator before a decoder takes it: less is there, or nothing works.
const LARGE_BYTES: u64 = 16 << 20;

/// The limit on the memory of images, shared by its clones.
#[derive(Clone)]
pub struct MemoryBudget(Arc<Shared>);

struct Shared {
    limit: u64,
    decodes: Pool,
    files: Pool,
}

/// Bytes that are held, at most `limit` or those of one holder.
struct Pool {
    limit: u64,
    held: Mutex<u64>,
    freed: Condvar,
}

/// A part of the memory, given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: MemoryBudget,
    pool: fn(&Shared) -> &Pool,
    bytes: u64,
}

impl MemoryBudget {
    /// At most `bytes` for what is decoded at the same time, and a quarter of that for the files
    /// that are read meanwhile, unless a single one is larger.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let pool = |limit| Pool {
            limit,
            held: Mutex::default(),
            freed: Condvar::new(),
        };
        Self(Arc::new(Shared {
            limit: bytes,
            decodes: pool(bytes),
            files: pool(bytes / FILES),
        }))
    }

    /// Waits for memory to decode an image.
    ///
    /// # Errors
    /// When the image needs more than the limit, or the system has no more.
    pub(super) fn decode(&self, bytes: u64) -> Result<Held> {
        self.check(bytes, "to decode")?;
        let held = self.take(|shared| &shared.decodes, bytes);
        // Decoders end the process where memory runs out; this ends the image.
        let is_there = bytes < LARGE_BYTES || {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            Vec::<u8>::new().try_reserve_exact(bytes).is_ok()
        };
        ensure!(
            is_there,
            "needs {} to decode, more than the system gives; pass fewer --threads, or shrink the \
             image",
            Amount(bytes)
        );
        Ok(held)
    }

    /// Waits for memory to read a file.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub(super) fn file(&self, bytes: u64) -> Result<Held> {
        self.check(bytes, "to read")?;
        Ok(self.take(|shared| &shared.files, bytes))
    }

    /// Fails if `bytes` exceed the limit, without waiting for it.
    pub(super) fn check(&self, bytes: u64, what: &str) -> Result<()> {
        let limit = self.0.limit;
        ensure!(
            bytes <= limit,
            FailureKind::Limit.because(format!(
                "needs about {} {what}, the limit is {}; shrink the image or pass --max-memory {}",
                Amount(bytes),
                Amount(limit),
                Amount(bytes).flag()
            ))
        );
        Ok(())
    }

    fn take(&self, pool: fn(&Shared) -> &Pool, bytes: u64) -> Held {
        let Pool { limit, held, freed } = pool(&self.0);
        let now = held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |held: &mut u64| *held > 0 && held.saturating_add(bytes) > *limit;
        let now = freed.wait_while(now, is_full);
        *now.unwrap_or_else(PoisonError::into_inner) += bytes;
        Held {
            budget: self.clone(),
            pool,
            bytes,
        }
    }
}

/// A share of the memory of the machine, or of what limits this process to less.
/// One budget for the process.
impl Default for MemoryBudget {
    fn default() -> Self {
        static SHARED: LazyLock<MemoryBudget> = LazyLock::new(|| {
            let there = memory::limit().map_or(UNKNOWN_BYTES, |limit| limit.bytes);
            MemoryBudget::new(there / SHARE)
        });
        SHARED.clone()
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "MemoryBudget({})", self.0.limit)
    }
}

impl Held {
    /// Gives back all but `bytes`.
    pub(super) fn reduced(mut self, bytes: u64) -> Self {
        self.give(self.bytes.saturating_sub(bytes));
        self
    }

    fn give(&mut self, bytes: u64) {
        let pool = (self.pool)(&self.budget.0);
        *pool.held.lock().unwrap_or_else(PoisonError::into_inner) -= bytes;
        self.bytes -= bytes;
        pool.freed.notify_all();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give(self.bytes);
    }
}

/// A number of bytes for a message, rounded up.
struct Amount(u64);

impl Amount {
    /// As the value of a flag.
    fn flag(&self) -> String {
        format!("{}M", self.0.div_ceil(1 << 20))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0.div_ceil(100_000_000) {
            ..10 if self.0 < 1_000_000 => write!(f, "{} KB", self.0.div_ceil(1000)),
            ..10 => write!(f, "{} MB", self.0.div_ceil(1_000_000)),
            tenths => write!(f, "{}.{} GB", tenths / 10, tenths % 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_decode_above_the_limit_is_an_error_that_says_how_to_pass() {
        let budget = MemoryBudget::new(1_200_000_000);
        let said = budget.decode(2_250_000_001).unwrap_err().to_string();
        let expected = "needs about 2.3 GB to decode, the limit is 1.2 GB; shrink the image or \
                        pass --max-memory 2146M";
        assert_eq!(said, expected);
        assert!(
            MemoryBudget::new(2146 << 20)
                .check(2_250_000_001, "")
                .is_ok()
        );
        let said = MemoryBudget::new(102_400).file(240_001).unwrap_err();
        let said = said.to_string();
        let expected = "needs about 241 KB to read, the limit is 103 KB; shrink the image or pass \
                        --max-memory 1M";
        assert_eq!(said, expected);
        let said = MemoryBudget::new(5_000_001).file(7_000_001).unwrap_err();
        let said = said.to_string();
        assert!(
            said.starts_with("needs about 8 MB to read, the limit is 6 MB;"),
            "{said}"
        );
    }

    #[test]
    fn what_does_not_fit_waits_until_it_is_given_back() {
        let budget = MemoryBudget::new(100);
        let first = budget.decode(60).unwrap();
        let second = budget.decode(40).unwrap();
        let (sender, receiver) = channel();
        let waiting = budget.clone();
        let thread = thread::spawn(move || {
            let held = waiting.decode(50).unwrap();
            sender.send(()).unwrap();
            held
        });
        // 40 are not enough.
        let second = second.reduced(20);
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
        let first = first.reduced(20);
        receiver.recv().unwrap();
        let third = thread.join().unwrap();
        drop((first, second, third));
        assert_eq!(*budget.0.decodes.held.lock().unwrap(), 0);
    }

    #[test]
    fn files_have_a_share_of_their_own_and_a_large_one_is_read_alone() {
        let budget = MemoryBudget::new(100);
        let decoding = budget.decode(100).unwrap();
        let small = budget.file(25).unwrap();
        drop(small);
        let large = budget.file(99).unwrap();
        let waiting = budget.clone();
        let thread = thread::spawn(move || waiting.file(1).unwrap());
        drop(large);
        drop(thread.join().unwrap());
        drop(decoding);
        assert!(budget.file(101).is_err());
    }
}
