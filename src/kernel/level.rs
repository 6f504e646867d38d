//! Which instructions the kernels use: the best this CPU has, or less when asked.

use std::sync::OnceLock;

/// A family of vector instructions that every kernel exists for.
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

/// The environment variable that forces a lower [`Level`]: `scalar`, `neon`, `avx2` or `avx512`.
pub const LEVEL_VARIABLE: &str = "LONGCLIP_KERNEL";

/// What the kernels of this process run at: the best level this CPU supports, lowered when
/// [`LEVEL_VARIABLE`] asks for it. Read once; a value that is unknown or above the CPU changes nothing.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let asked = std::env::var(LEVEL_VARIABLE).ok();
        choose(detect(), asked.as_deref())
    })
}

/// The level used when the CPU supports `best` and the user asked for `asked`.
fn choose(best: Level, asked: Option<&str>) -> Level {
    let asked = match asked {
        Some("scalar") => Level::Scalar,
        Some("neon") => Level::Neon,
        Some("avx2") => Level::Avx2,
        _ => best,
    };
    let runs_here = asked == Level::Scalar || available(asked);
    if runs_here { asked.min(best) } else { best }
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

/// Whether bf16 products at `level` are instructions of this CPU.
pub(super) fn native_bf16(level: Level) -> bool {
    level == Level::Avx512 && has_avx512_bf16()
}

/// Whether 8-bit products at `level` are instructions of this CPU.
pub(super) fn native_int8(level: Level) -> bool {
    level == Level::Avx512 && has_avx512_vnni()
}

/// Whether bf16 products run at twice the speed of f32 here, rather than being imitated.
pub fn has_native_bf16() -> bool {
    native_bf16(level())
}

/// Whether 8-bit products run at four times the speed of f32 here, rather than being imitated.
pub fn has_native_int8() -> bool {
    native_int8(level())
}

/// The names of the instruction sets in use, for reports: `["avx512f", "avx512_bf16", "avx512_vnni"]`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_only_ever_lowered() {
        let best = detect();
        assert_eq!(choose(best, None), best);
        assert_eq!(choose(best, Some("nonsense")), best);
        assert_eq!(choose(best, Some("scalar")), Level::Scalar);
        assert_eq!(choose(Level::Scalar, Some("avx2")), Level::Scalar);
        assert!(choose(best, Some("avx2")) <= best);
    }

    #[test]
    fn a_level_of_another_architecture_is_ignored() {
        let foreign = if cfg!(target_arch = "aarch64") {
            "avx2"
        } else {
            "neon"
        };
        assert_eq!(choose(detect(), Some(foreign)), detect());
    }

    #[test]
    fn features_start_with_the_level() {
        assert!(!features().is_empty());
        assert_eq!(has_native_bf16(), features().contains(&"avx512_bf16"));
        assert_eq!(has_native_int8(), features().contains(&"avx512_vnni"));
    }
}
