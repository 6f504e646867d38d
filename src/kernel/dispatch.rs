//! Dispatch from a run-time level to code compiled for its instructions.
#![allow(
    unsafe_code,
    reason = "calls functions compiled for instructions that were found on this CPU"
)]

use super::level::{Level, detect};
use super::simd::Simd;
#[cfg(target_arch = "x86_64")]
use super::simd::avx512::BASE;

/// Work that is generic over the vector type.
pub(super) trait Job {
    /// Does the work. Implementations are `inline(always)`, so that the instruction set of the
    /// caller reaches them.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    unsafe fn run<V: Simd>(self);
}

/// Runs `job` with the instructions of `level`.
///
/// Panics if this CPU lacks them, which detection rules out.
pub(super) fn run<J: Job>(level: Level, job: J) {
    assert!(level <= detect(), "this CPU has no {level:?} instructions");
    // SAFETY: the instructions exist: among the levels up to the best one, those that this CPU
    // lacks belong to another architecture and fall back to plain Rust.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => run_avx512(job),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => run_avx2(job),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => run_neon(job),
            _ => job.run::<super::simd::scalar::Scalar>(),
        }
    }
}

/// # Safety
/// Requires the named features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn run_avx512<J: Job>(job: J) {
    // SAFETY: this function's own features.
    unsafe { job.run::<super::simd::avx512::Avx512<BASE>>() }
}

/// # Safety
/// Requires the named features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<J: Job>(job: J) {
    // SAFETY: this function's own features.
    unsafe { job.run::<super::simd::avx2::Avx2>() }
}

/// # Safety
/// Requires neon.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn run_neon<J: Job>(job: J) {
    // SAFETY: this function's own features.
    unsafe { job.run::<super::simd::neon::Neon>() }
}
