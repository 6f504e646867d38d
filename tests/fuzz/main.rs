//! Damaged copies of whole files, from a fixed seed: of each container format of weights here, of
//! images, and of the files of every other reader in `readers`. None may panic, abort, take over two
//! seconds, or use more memory than the file size plus 512 MiB, or an image's limit.
//!
//! A few thousand copies each by default; set another number with
//!
//!     LONGCLIP_FUZZ_MUTATIONS=100000 cargo test --test fuzz -- --nocapture
//!
//! A copy that breaks a rule is kept; the message gives its path.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "the test prints its results"
)]

#[path = "../container/fixtures.rs"]
#[allow(
    dead_code,
    reason = "shared with the container test, which uses all of it"
)]
mod fixtures;
mod images;
mod memory;
mod mutate;
mod readers;
mod seeds;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use longclip::checkpoint::container::{self, Container};
use mutate::{Random, damage, unseal};

const SLOWEST: Duration = Duration::from_secs(2);
const MOST_MEMORY: usize = 512 << 20;

/// Memory is counted for the whole process, so only one target runs at a time.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn mutations() -> usize {
    let wanted = std::env::var("LONGCLIP_FUZZ_MUTATIONS");
    wanted.map_or(2000, |count| count.parse().expect("a number"))
}

/// Results for damaged copies.
#[derive(Debug, Default)]
struct Tally {
    read: usize,
    refused: usize,
    slowest: Duration,
    most_memory: usize,
}

/// Damages the fixtures of one container format, in turn.
fn target(name: &str, wanted: Container) {
    let _turn = turn();
    let seeds: Vec<Vec<u8>> = fixtures::all()
        .into_iter()
        .map(|(_, bytes)| bytes)
        .filter(|bytes| {
            container::open_bytes(bytes.clone()).is_ok_and(|archive| archive.container == wanted)
        })
        .collect();
    assert!(!seeds.is_empty(), "no fixture of kind {wanted}");
    let mut random = Random::new(name);
    let mut tally = Tally::default();
    for copy in 0..mutations() {
        let mut bytes = seeds[copy % seeds.len()].clone();
        // A checksum would hide nearly all damage to a zip.
        let inner = if random.below(2) == 0 {
            unseal(&mut bytes)
        } else {
            None
        };
        let whole = 0..bytes.len();
        damage(&mut bytes, inner.unwrap_or(whole), &mut random);
        attempt(name, copy, &bytes, MOST_MEMORY, &mut tally, |bytes| {
            exercise(bytes.to_vec())
        });
    }
    tally.check(name);
}

impl Tally {
    fn check(&self, name: &str) {
        println!("{name}: {self:?}");
        // Both must happen, or the damage is too mild or too severe.
        assert!(self.read > 10 && self.refused > 10, "{name}: {self:?}");
    }
}

/// How long this thread has worked: other processes do not count, where the system says so.
fn worked() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let counts = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = counts.and_then(|counts| counts.split_whitespace().next()?.parse().ok());
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

/// Reads one copy, with `most` bytes of memory besides the file's; `read` is false if it was
/// refused.
fn attempt(
    name: &str,
    copy: usize,
    bytes: &[u8],
    most: usize,
    tally: &mut Tally,
    read: impl FnOnce(&[u8]) -> bool,
) {
    let before = memory::start();
    let start = worked();
    let outcome = catch_unwind(AssertUnwindSafe(|| read(bytes)));
    let time = worked() - start;
    let memory = memory::peak().saturating_sub(before);
    tally.slowest = tally.slowest.max(time);
    tally.most_memory = tally.most_memory.max(memory);
    let broken = match &outcome {
        Err(_) => Some("panicked".to_owned()),
        Ok(_) if time > SLOWEST => Some(format!("took {time:?}")),
        Ok(_) if memory > bytes.len() + most => Some(format!("took {memory} bytes")),
        Ok(_) => None,
    };
    if let Some(what) = broken {
        let path = format!("{}/{copy}-{name}", env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(&path, bytes).unwrap();
        panic!("mutation {copy} of {name} {what}; it is kept in {path}");
    }
    match outcome {
        Ok(true) => tally.read += 1,
        _ => tally.refused += 1,
    }
}

/// Reads all contents of a file; false if it was refused.
fn exercise(bytes: Vec<u8>) -> bool {
    let Ok(archive) = container::open_bytes(bytes) else {
        return false;
    };
    for tensor in archive.tensors.values() {
        if tensor.elements() > 1 << 16 {
            continue; // an expanded view: valid, but slow in this loop
        }
        let _ = tensor.to_f32();
        let _ = tensor.transpose().map(|t| t.to_f32());
        let _ = tensor.narrow(1, 1).map(|t| t.to_f32());
        let _ = tensor.reshape(&[tensor.elements()]);
        let _ = tensor.first_non_finite();
        let _ = tensor.count_non_finite();
    }
    true
}

#[test]
fn safetensors() {
    target("safetensors", Container::Safetensors);
}

#[test]
fn pytorch() {
    target("pytorch", Container::TorchZip);
}

#[test]
fn torchscript() {
    target("torchscript", Container::TorchScript);
}

#[test]
fn pytorch_legacy() {
    target("pytorch-legacy", Container::TorchLegacy);
}
