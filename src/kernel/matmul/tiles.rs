//! Tiles compiled for every instruction set and height, and their selection.
#![allow(unsafe_code, reason = "compiles the generic tile for instruction sets")]

#[cfg(target_arch = "x86_64")]
use super::amx;
#[cfg(target_arch = "aarch64")]
use super::blocks::{Blocks, tile_of_blocks};
#[cfg(target_arch = "x86_64")]
use super::tile::Int8Pairs;
use super::tile::{Ahead, Arithmetic, Bf16, F32, Int8, Int16, Operands, tile};
use crate::kernel::encode::Precision;
use crate::kernel::level::Level;
#[cfg(target_arch = "x86_64")]
use crate::kernel::level::has_avx512_vnni;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::kernel::level::native;
#[cfg(target_arch = "aarch64")]
use crate::kernel::simd::neon::{self, Neon};
use crate::kernel::simd::scalar::Scalar;
#[cfg(target_arch = "x86_64")]
use crate::kernel::simd::{
    avx2::Avx2,
    avx512::{Avx512, BASE, BF16, VNNI},
};

/// A [`tile`] for a certain instruction set and size.
///
/// # Safety
/// The CPU has the instruction set; the operands hold what the size implies, and so does the
/// destination.
pub(in crate::kernel) type Tile = unsafe fn(&Operands, &mut Ahead, *mut f32);

/// Buffer for the sums of the largest tile: 32 rows of 2 vectors of 16.
#[repr(align(64))]
pub(in crate::kernel) struct Most(pub(in crate::kernel) [f32; 32 * 2 * 16]);

impl Most {
    /// All zero.
    pub(in crate::kernel) const ZEROS: Most = Most([0.0; 32 * 2 * 16]);
}

/// Distance between rows of a [`strided_tile`]'s left operand, in lanes: an odd number of cache
/// lines, so that rows do not share cache sets.
pub(in crate::kernel) const STRIDE: usize = 336;

/// Defines the generic tile `$name` for one instruction set.
macro_rules! compiled {
    ($name:ident, $vector:ty, $(#[$attribute:meta])*) => {
        $(#[$attribute])*
        /// # Safety
        /// As for [`tile`].
        unsafe fn $name<A: Arithmetic, const R: usize, const C: usize, const ROW: usize, const STEP: usize>(
            operands: &Operands,
            ahead: &mut Ahead,
            to: *mut f32,
        ) {
            // SAFETY: the caller's promises; the instruction set is on.
            unsafe { tile::<$vector, A, R, C, ROW, STEP>(operands, ahead, to) }
        }
    };
}

compiled!(scalar, Scalar,);
compiled!(
    neon,
    Neon<{ neon::BASE }>,
    #[cfg(target_arch = "aarch64")]
    #[target_feature(enable = "neon")]
);
compiled!(
    neon_dot,
    Neon<{ neon::DOT }>,
    #[cfg(target_arch = "aarch64")]
    #[target_feature(enable = "neon,dotprod")]
);
compiled!(
    neon_bf16,
    Neon<{ neon::BF16 }>,
    #[cfg(target_arch = "aarch64")]
    #[target_feature(enable = "neon,bf16")]
);
compiled!(avx2, Avx2<false>, #[cfg(target_arch = "x86_64")] #[target_feature(enable = "avx2,fma")]);
compiled!(avx_vnni, Avx2<true>, #[cfg(target_arch = "x86_64")] #[target_feature(enable = "avx2,fma,avxvnni")]);
compiled!(
    avx512,
    Avx512<BASE>,
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
);
compiled!(
    avx512_bf16,
    Avx512<BF16>,
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
);
compiled!(
    avx512_vnni,
    Avx512<VNNI>,
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
);

/// [`tile_of_blocks`] with the parameters of the other tiles.
///
/// # Safety
/// As for [`tile_of_blocks`].
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon,bf16,i8mm")]
unsafe fn neon_mm<
    A: Blocks,
    const R: usize,
    const C: usize,
    const ROW: usize,
    const STEP: usize,
>(
    operands: &Operands,
    _ahead: &mut Ahead,
    to: *mut f32,
) {
    // SAFETY: the caller's promises; the instruction set is on.
    unsafe { tile_of_blocks::<A, R, C>(operands, to) }
}

/// Selects the compiled tile `$name` of a height up to 4, 6, 8 or 14 rows and of some numbers of
/// vectors, with rows `ROW` apart and steps `STEP` apart.
macro_rules! select {
    ($which:ident, $name:ident, $arithmetic:ty, $rows:expr, $vectors:expr, 4) => {
        select!(@$which, $name, $arithmetic, $rows, $vectors, [1, 2, 3, 4])
    };
    ($which:ident, $name:ident, $arithmetic:ty, $rows:expr, $vectors:expr, 6) => {
        select!(@$which, $name, $arithmetic, $rows, $vectors, [1, 2, 3, 4, 5, 6])
    };
    ($which:ident, $name:ident, $arithmetic:ty, $rows:expr, $vectors:expr, 8) => {
        select!(@$which, $name, $arithmetic, $rows, $vectors, [1, 2, 3, 4, 5, 6, 7, 8])
    };
    ($which:ident, $name:ident, $arithmetic:ty, $rows:expr, $vectors:expr, 14) => {
        select!(
            @$which, $name, $arithmetic, $rows, $vectors,
            [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
        )
    };
    // Interleaved rows: two vectors, or four for up to three rows.
    (@packed, $name:ident, $arithmetic:ty, $rows:expr, $vectors:expr, [$($height:literal),*]) => {
        match ($rows, $vectors) {
            $(($height, 2) => $name::<$arithmetic, $height, 2, 1, $height> as Tile,)*
            (1, 4) => $name::<$arithmetic, 1, 4, 1, 1>,
            (2, 4) => $name::<$arithmetic, 2, 4, 1, 2>,
            (3, 4) => $name::<$arithmetic, 3, 4, 1, 3>,
            _ => unreachable!("no tile of {} rows and {} vectors", $rows, $vectors),
        }
    };
    // Rows that are `STRIDE` apart: one or two vectors.
    (@strided, $name:ident, $arithmetic:ty, $rows:expr, $vectors:expr, [$($height:literal),*]) => {
        match ($rows, $vectors) {
            $(($height, 1) => $name::<$arithmetic, $height, 1, STRIDE, 1> as Tile,)*
            $(($height, 2) => $name::<$arithmetic, $height, 2, STRIDE, 1>,)*
            _ => unreachable!("no tile of {} rows and {} vectors", $rows, $vectors),
        }
    };
}

/// The tile for `rows` interleaved rows and `vectors` vectors (two; four for up to three rows).
pub(in crate::kernel) fn packed_tile(
    level: Level,
    precision: Precision,
    rows: usize,
    vectors: usize,
) -> Tile {
    match precision {
        Precision::F32 => floats(level, rows, vectors),
        Precision::Bf16 => halves(level, rows, vectors),
        Precision::Int16 => shorts(level, rows, vectors),
        Precision::Int8 => bytes(level, rows, vectors),
    }
}

/// [`packed_tile`] for f32.
fn floats(level: Level, rows: usize, vectors: usize) -> Tile {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Amx => select!(packed, avx512, F32, rows, vectors, 14),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::AvxVnni => select!(packed, avx2, F32, rows, vectors, 6),
        #[cfg(target_arch = "aarch64")]
        Level::Neon | Level::NeonDot | Level::NeonMm => {
            select!(packed, neon, F32, rows, vectors, 8)
        }
        _ => select!(packed, scalar, F32, rows, vectors, 4),
    }
}

/// [`packed_tile`] for bf16.
fn halves(level: Level, rows: usize, vectors: usize) -> Tile {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Amx => amx::tile::<false>,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if native(level, Precision::Bf16) => {
            select!(packed, avx512_bf16, Bf16, rows, vectors, 14)
        }
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => select!(packed, avx512, Bf16, rows, vectors, 14),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::AvxVnni => select!(packed, avx2, Bf16, rows, vectors, 4),
        #[cfg(target_arch = "aarch64")]
        Level::NeonMm => select!(packed, neon_mm, Bf16, rows, vectors, 8),
        #[cfg(target_arch = "aarch64")]
        Level::Neon | Level::NeonDot => select!(packed, neon, Bf16, rows, vectors, 8),
        _ => select!(packed, scalar, Bf16, rows, vectors, 4),
    }
}

/// [`packed_tile`] for 16-bit integers.
fn shorts(level: Level, rows: usize, vectors: usize) -> Tile {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Amx if has_avx512_vnni() => {
            select!(packed, avx512_vnni, Int16, rows, vectors, 14)
        }
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Amx => select!(packed, avx512, Int16, rows, vectors, 14),
        #[cfg(target_arch = "x86_64")]
        Level::AvxVnni => select!(packed, avx_vnni, Int16, rows, vectors, 6),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => select!(packed, avx2, Int16, rows, vectors, 6),
        #[cfg(target_arch = "aarch64")]
        Level::Neon | Level::NeonDot | Level::NeonMm => {
            select!(packed, neon, Int16, rows, vectors, 8)
        }
        _ => select!(packed, scalar, Int16, rows, vectors, 4),
    }
}

/// [`packed_tile`] for bytes.
fn bytes(level: Level, rows: usize, vectors: usize) -> Tile {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Amx => amx::tile::<true>,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if has_avx512_vnni() => {
            select!(packed, avx512_vnni, Int8, rows, vectors, 14)
        }
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => select!(packed, avx512, Int8Pairs, rows, vectors, 14),
        #[cfg(target_arch = "x86_64")]
        Level::AvxVnni => select!(packed, avx_vnni, Int8, rows, vectors, 6),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => select!(packed, avx2, Int8Pairs, rows, vectors, 4),
        #[cfg(target_arch = "aarch64")]
        Level::NeonMm => select!(packed, neon_mm, Int8, rows, vectors, 8),
        #[cfg(target_arch = "aarch64")]
        Level::NeonDot => select!(packed, neon_dot, Int8, rows, vectors, 8),
        #[cfg(target_arch = "aarch64")]
        Level::Neon => select!(packed, neon, Int8, rows, vectors, 8),
        _ => select!(packed, scalar, Int8, rows, vectors, 4),
    }
}

/// The tile for `rows` rows of f32, [`STRIDE`] lanes apart, and one or two vectors.
pub(in crate::kernel) fn strided_tile(level: Level, rows: usize, vectors: usize) -> Tile {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Amx => select!(strided, avx512, F32, rows, vectors, 14),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::AvxVnni => select!(strided, avx2, F32, rows, vectors, 6),
        #[cfg(target_arch = "aarch64")]
        Level::Neon | Level::NeonDot | Level::NeonMm => {
            select!(strided, neon, F32, rows, vectors, 8)
        }
        _ => select!(strided, scalar, F32, rows, vectors, 4),
    }
}

/// [`strided_tile`] for pairs of bf16, worthwhile only if the CPU multiplies them.
pub(in crate::kernel) fn strided_bf16_tile(level: Level, rows: usize, vectors: usize) -> Tile {
    #[cfg(target_arch = "x86_64")]
    if native(level, Precision::Bf16) {
        return select!(strided, avx512_bf16, Bf16, rows, vectors, 14);
    }
    #[cfg(target_arch = "aarch64")]
    if native(level, Precision::Bf16) {
        return select!(strided, neon_bf16, Bf16, rows, vectors, 8);
    }
    unreachable!("no bf16 products at {level:?} for {rows} rows of {vectors} vectors")
}
