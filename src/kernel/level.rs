//! The instruction set of the kernels: the best this CPU has, or a lower one on request; and the
//! dispatch to code compiled for it.
#![allow(
    unsafe_code,
    reason = "calls functions compiled for instructions that were found on this CPU"
)]

use std::sync::OnceLock;

use super::encode::Precision;
use super::simd::Simd;
#[cfg(target_arch = "x86_64")]
use super::simd::avx512::BASE;

/// A vector instruction set that every kernel supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Plain Rust, on any CPU.
    Scalar,
    /// 128-bit vectors of 64-bit ARM.
    Neon,
    /// [`Level::Neon`] with products of bytes in one instruction (dotprod).
    NeonDot,
    /// [`Level::Neon`] with products of 2 x 2 blocks of bf16 and of bytes (bf16, i8mm).
    NeonMm,
    /// 256-bit vectors, fused multiply-add and f16 of x86-64.
    Avx2,
    /// [`Level::Avx2`] with products of integers that add up in one instruction.
    AvxVnni,
    /// 512-bit vectors of x86-64.
    Avx512,
    /// [`Level::Avx512`] with matrix registers for bf16 and bytes. Never run on a machine, so only
    /// on request.
    Amx,
}

/// The environment variable that forces a [`Level`], by its name in [`NAMES`].
pub(crate) const LEVEL_VARIABLE: &str = "LONGCLIP_KERNEL";

/// All levels with their names in [`LEVEL_VARIABLE`], the better ones of an architecture later.
pub(super) const NAMES: [(&str, Level); 8] = [
    ("scalar", Level::Scalar),
    ("neon", Level::Neon),
    ("neon-dot", Level::NeonDot),
    ("neon-mm", Level::NeonMm),
    ("avx2", Level::Avx2),
    ("avx-vnni", Level::AvxVnni),
    ("avx512", Level::Avx512),
    ("amx", Level::Amx),
];

/// The level of this process: the best one this CPU supports, or the one that [`LEVEL_VARIABLE`]
/// asks for. Read once.
///
/// Panics when the variable names no level of this CPU, which [`check_level`] reports first.
pub(crate) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| match asked() {
        Ok(level) => level.unwrap_or_else(detect),
        Err(problem) => panic!("{problem}"),
    })
}

/// Checks that [`LEVEL_VARIABLE`], if set, names a level that this CPU can run.
///
/// # Errors
/// When it does not; lists the valid names.
pub(crate) fn check_level() -> Result<(), String> {
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

/// The best level of this CPU, of those that have run.
fn detect() -> Level {
    let mut known = NAMES.iter().filter(|(_, level)| *level != Level::Amx);
    let best = known.rfind(|(_, level)| available(*level));
    best.map_or(Level::Scalar, |(_, level)| *level)
}

/// Whether this CPU can run the kernels of `level`.
#[cfg(target_arch = "x86_64")]
pub(super) fn available(level: Level) -> bool {
    let avx2 = || {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
    };
    match level {
        Level::Scalar => true,
        Level::Neon | Level::NeonDot | Level::NeonMm => false,
        Level::Avx2 => avx2(),
        Level::AvxVnni => avx2() && is_x86_feature_detected!("avxvnni"),
        Level::Avx512 => {
            avx2()
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
        }
        Level::Amx => {
            available(Level::Avx512)
                && native(Level::Avx512, Precision::Bf16)
                && has_avx512_vnni()
                // Tests have a model of the instructions.
                && (cfg!(test) || super::matmul::amx::has_registers())
        }
    }
}

/// Whether this CPU can run the kernels of `level`.
#[cfg(target_arch = "aarch64")]
pub(super) fn available(level: Level) -> bool {
    use std::arch::is_aarch64_feature_detected;
    match level {
        Level::Scalar | Level::Neon => true,
        Level::NeonDot => is_aarch64_feature_detected!("dotprod"),
        Level::NeonMm => {
            is_aarch64_feature_detected!("bf16") && is_aarch64_feature_detected!("i8mm")
        }
        Level::Avx2 | Level::AvxVnni | Level::Avx512 | Level::Amx => false,
    }
}

/// Whether this CPU can run the kernels of `level`.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn available(level: Level) -> bool {
    level == Level::Scalar
}

/// Whether `level` multiplies numbers of `precision` as they are, instead of unpacking them.
#[cfg(target_arch = "x86_64")]
pub(super) fn native(level: Level, precision: Precision) -> bool {
    match (level, precision) {
        (_, Precision::F32) => true,
        (Level::Scalar | Level::Neon | Level::NeonDot | Level::NeonMm, _) => false,
        (Level::Avx512 | Level::Amx, Precision::Bf16) => is_x86_feature_detected!("avx512bf16"),
        (_, Precision::Bf16) => false,
        (_, Precision::Int16 | Precision::Int8) => true,
    }
}

/// Whether `level` multiplies numbers of `precision` as they are, instead of unpacking them.
///
/// NEON has products of 16-bit integers, but no more of them per instruction than of f32.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn native(level: Level, precision: Precision) -> bool {
    match precision {
        Precision::F32 => true,
        Precision::Bf16 => level == Level::NeonMm,
        Precision::Int16 => false,
        Precision::Int8 => level == Level::NeonDot || level == Level::NeonMm,
    }
}

/// Whether `level` adds products of bytes in 16 bits, two at a time, which limits the weights
/// ([`PairedWeight`](super::encode::PairedWeight)).
#[cfg(target_arch = "x86_64")]
pub(super) fn pairs_bytes(level: Level) -> bool {
    level == Level::Avx2 || level == Level::Avx512 && !has_avx512_vnni()
}

/// Whether this CPU has products of integers of 512 bits.
#[cfg(target_arch = "x86_64")]
pub(super) fn has_avx512_vnni() -> bool {
    is_x86_feature_detected!("avx512vnni")
}

/// Whether `level` adds products of bytes in 16 bits: not outside x86-64.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn pairs_bytes(_level: Level) -> bool {
    false
}

/// Whether bf16 products run at twice the speed of f32 here, instead of being emulated.
pub(crate) fn has_native_bf16() -> bool {
    native(level(), Precision::Bf16)
}

/// The fastest precision here that loses no more than bf16 does.
pub(crate) fn fastest_half() -> Precision {
    let mut halves = [Precision::Bf16, Precision::Int16].into_iter();
    halves
        .find(|precision| native(level(), *precision))
        .unwrap_or(Precision::F32)
}

/// The fastest precision here that loses no more than bytes do.
pub(crate) fn fastest_bytes() -> Precision {
    if native(level(), Precision::Int8) {
        Precision::Int8
    } else {
        fastest_half()
    }
}

/// The names of the instruction sets in use, which decide how numbers are rounded; for reports and
/// the keys of caches: `["avx512f", "avx512_bf16",
/// "avx512_vnni"]`.
pub(crate) fn features() -> Vec<&'static str> {
    let mut names = match level() {
        Level::Scalar => vec!["scalar"],
        Level::Neon => vec!["neon"],
        Level::NeonDot => vec!["neon", "dotprod"],
        Level::NeonMm => vec!["neon", "bf16", "i8mm"],
        Level::Avx2 => vec!["avx2"],
        Level::AvxVnni => vec!["avx2", "avx_vnni"],
        Level::Avx512 => vec!["avx512f"],
        Level::Amx => vec!["avx512f", "amx_bf16", "amx_int8"],
    };
    if level() == Level::Avx512 {
        names.extend(has_native_bf16().then_some("avx512_bf16"));
        names.extend((!pairs_bytes(Level::Avx512)).then_some("avx512_vnni"));
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
    assert!(available(level), "this CPU has no {level:?} instructions");
    // SAFETY: the instructions exist.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Amx => run_avx512(job),
            // Only products need more than AVX2, AVX-512 and NEON: see `matmul::tiles`.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::AvxVnni => run_avx2(job),
            #[cfg(target_arch = "aarch64")]
            Level::Neon | Level::NeonDot | Level::NeonMm => run_neon(job),
            _ => job.run::<super::simd::scalar::Scalar>(),
        }
    }
}

/// # Safety
/// Requires the named features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn run_avx512<J: Job>(job: J) {
    // SAFETY: this function's own features.
    unsafe { job.run::<super::simd::avx512::Avx512<BASE>>() }
}

/// # Safety
/// Requires the named features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run_avx2<J: Job>(job: J) {
    // SAFETY: this function's own features.
    unsafe { job.run::<super::simd::avx2::Avx2<false>>() }
}

/// # Safety
/// Requires neon.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn run_neon<J: Job>(job: J) {
    // SAFETY: this function's own features.
    unsafe { job.run::<super::simd::neon::Neon<{ super::simd::neon::BASE }>>() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_this_cpu_lacks_is_an_error_that_lists_the_valid_ones() {
        for (name, level) in NAMES {
            match parse(name) {
                Ok(found) => assert!(found == level && available(level), "{name}"),
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
    fn reports_and_precisions_follow_the_level() {
        assert!(!features().is_empty());
        let plain = ["scalar", "neon"].contains(&features()[0]) && features().len() == 1;
        assert_eq!(fastest_bytes() == Precision::F32, plain);
        let bf16 = features().iter().any(|name| name.ends_with("bf16"));
        assert_eq!(has_native_bf16(), bf16);
        assert_eq!(fastest_half() == Precision::Bf16, has_native_bf16());
    }
}
