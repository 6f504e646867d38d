//! The instruction set of the kernels: the best this CPU has, or a lower one on request; and the
//! dispatch to code compiled for it.
#![allow(
    unsafe_code,
    reason = "calls functions compiled for instructions that were found on this CPU"
)]

use std::sync::OnceLock;

use super::simd::Simd;
#[cfg(target_arch = "x86_64")]
use super::simd::avx512::BASE;

/// A vector instruction set that every kernel supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Plain Rust, on any CPU.
    Scalar,
    /// 128-bit vectors of 64-bit ARM.
    Neon,
    /// 256-bit vectors and fused multiply-add of x86-64.
    Avx2,
    /// 512-bit vectors of x86-64.
    Avx512,
}

/// The environment variable that forces a [`Level`]: `scalar`, `neon`, `avx2` or `avx512`.
pub const LEVEL_VARIABLE: &str = "LONGCLIP_KERNEL";

/// All levels with their names in [`LEVEL_VARIABLE`].
const NAMES: [(&str, Level); 4] = [
    ("scalar", Level::Scalar),
    ("neon", Level::Neon),
    ("avx2", Level::Avx2),
    ("avx512", Level::Avx512),
];

/// The level of this process: the best one this CPU supports, or the one that [`LEVEL_VARIABLE`]
/// asks for. Read once; invalid values, which [`check_level`] reports, mean the best.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| match asked() {
        Ok(Some(level)) => level,
        _ => detect(),
    })
}

/// Checks that [`LEVEL_VARIABLE`], if set, names a level that this CPU can run.
///
/// # Errors
/// When it does not; lists the valid names.
pub fn check_level() -> Result<(), String> {
    asked().map(|_| ())
}

/// The level requested by the user, if any.
fn asked() -> Result<Option<Level>, String> {
    let asked = std::env::var_os(LEVEL_VARIABLE).filter(|value| !value.is_empty());
    asked
        .map(|value| parse(&value.to_string_lossy()))
        .transpose()
}

/// The level with this name, if this CPU can run it.
fn parse(name: &str) -> Result<Level, String> {
    let found = NAMES.iter().find(|(known, _)| *known == name);
    let problem = match found {
        Some((_, level)) if available(*level) => return Ok(*level),
        Some(_) => "needs instructions that this CPU does not have",
        None => "is not a set of kernels",
    };
    let here = NAMES.iter().filter(|(_, level)| available(*level));
    let here: Vec<&str> = here.map(|(name, _)| *name).collect();
    Err(format!(
        "{LEVEL_VARIABLE}={name} {problem}; use one of {} or unset it",
        here.join(", ")
    ))
}

/// Whether this CPU can run the kernels of `level`.
pub(super) fn available(level: Level) -> bool {
    match level {
        Level::Scalar => true,
        Level::Neon => cfg!(target_arch = "aarch64"),
        Level::Avx2 => has_avx2(),
        Level::Avx512 => has_avx512(),
    }
}

/// The best level of this CPU.
pub(super) fn detect() -> Level {
    static BEST: OnceLock<Level> = OnceLock::new();
    *BEST.get_or_init(|| {
        let best_first = [Level::Avx512, Level::Avx2, Level::Neon];
        let found = best_first.into_iter().find(|level| available(*level));
        found.unwrap_or(Level::Scalar)
    })
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512_bf16() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512_vnni() -> bool {
    is_x86_feature_detected!("avx512vnni")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512_bf16() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512_vnni() -> bool {
    false
}

/// Whether this CPU has instructions for bf16 products at `level`.
pub(super) fn native_bf16(level: Level) -> bool {
    level == Level::Avx512 && has_avx512_bf16()
}

/// Whether this CPU has instructions for 8-bit products at `level`.
pub(super) fn native_int8(level: Level) -> bool {
    level == Level::Avx512 && has_avx512_vnni()
}

/// Whether bf16 products run at twice the speed of f32 here, instead of being emulated.
pub fn has_native_bf16() -> bool {
    native_bf16(level())
}

/// Whether 8-bit products run at four times the speed of f32 here, instead of being emulated.
pub fn has_native_int8() -> bool {
    native_int8(level())
}

/// The names of the instruction sets in use, for reports: `["avx512f", "avx512_bf16",
/// "avx512_vnni"]`.
pub fn features() -> Vec<&'static str> {
    let base = match level() {
        Level::Scalar => "scalar",
        Level::Neon => "neon",
        Level::Avx2 => "avx2",
        Level::Avx512 => "avx512f",
    };
    let mut names = vec![base];
    if has_native_bf16() {
        names.push("avx512_bf16");
    }
    if has_native_int8() {
        names.push("avx512_vnni");
    }
    names
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_this_cpu_lacks_is_an_error_that_lists_the_valid_ones() {
        for (name, level) in NAMES {
            match parse(name) {
                Ok(found) => assert!(found == level && level <= detect(), "{name}"),
                Err(error) => {
                    assert!(!available(level), "{name}");
                    assert!(error.contains("this CPU does not have"), "{error}");
                }
            }
        }
        for unknown in ["nonsense", "AVX2", "avx", "auto", "avx512f"] {
            let error = parse(unknown).unwrap_err();
            let expected =
                format!("LONGCLIP_KERNEL={unknown} is not a set of kernels; use one of scalar");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn features_start_with_the_level() {
        assert!(!features().is_empty());
        assert_eq!(has_native_bf16(), features().contains(&"avx512_bf16"));
        assert_eq!(has_native_int8(), features().contains(&"avx512_vnni"));
    }
}
