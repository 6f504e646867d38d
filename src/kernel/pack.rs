//! Weight matrices, packed once in the order that products read.
#![allow(unsafe_code, reason = "writes packed lanes through raw pointers")]

use std::ops::Range;

use super::buffer::{Buffer, Scratch, SharedRows};
use super::encode::{PairedWeight, Precision, quantise_weights, to_bf16};
use super::halved::{Exact, Half};
use super::level::{Job, Level, level, pairs_bytes, run};
use super::parallel::{Counter, region};
use super::simd::{Rows, Simd, interleave_pairs};

/// Writes row j of a weight matrix, k values, to its second argument.
pub(crate) type Fill<'a> = dyn Fn(usize, &mut [f32]) + Sync + 'a;

/// The weights of a linear layer, [n, k] (n output features): for every group of LANES output
/// features, the lanes of all k side by side: `[group][lane of k][feature]`; for products of blocks
/// `[group][pair of lanes][feature][2 lanes]`.
pub(crate) struct PackedMatrix {
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) precision: Precision,
    pub(super) level: Level,
    /// Lanes that hold k values, filled up to whole steps of a product.
    pub(super) lanes: usize,
    /// Output features per group.
    pub(super) group: usize,
    /// Lanes, or halves of them.
    data: Buffer,
    /// The type that f32 lanes are kept in where that is exact.
    half: Option<Half>,
    /// For integers, per output feature: its scale, and its scale times the sum of its integers.
    pub(super) factors: Vec<f32>,
    pub(super) sums: Vec<f32>,
    /// For integers: factors that activations are multiplied by, per column, before quantisation.
    pub(super) smoothing: Option<Vec<f32>>,
}

impl PackedMatrix {
    /// Packs the [n, k] matrix whose row j `fill(j, buffer)` writes; each row is requested once,
    /// from several threads.
    ///
    /// `smoothing`, k positive factors, moves outlier activations into the weights: activation
    /// column i is multiplied by its factor and weight column i divided. Only integers
    /// need it; for others it is ignored, because the product is the same.
    pub(crate) fn pack(
        n: usize,
        k: usize,
        precision: Precision,
        fill: &Fill,
        smoothing: Option<&[f32]>,
    ) -> PackedMatrix {
        PackedMatrix::pack_at(level(), n, k, precision, fill, smoothing)
    }

    /// [`PackedMatrix::pack`] for a given level.
    pub(super) fn pack_at(
        level: Level,
        n: usize,
        k: usize,
        precision: Precision,
        fill: &Fill,
        smoothing: Option<&[f32]>,
    ) -> PackedMatrix {
        let smoothing = smoothing.filter(|_| precision.is_integer());
        assert!(
            smoothing.is_none_or(|s| s.len() == k),
            "smoothing factors and columns differ in number"
        );
        let group = group_of(level);
        let lanes = precision.lanes(k);
        let lanes = lanes.next_multiple_of(step_lanes(level, precision));
        let groups = groups_of(n, group);
        let per_feature = if precision.is_integer() {
            groups * group
        } else {
            0
        };
        let mut matrix = PackedMatrix {
            n,
            k,
            precision,
            level,
            lanes,
            group,
            data: Buffer::new(groups * lanes * group),
            half: None,
            factors: vec![0.0; per_feature],
            sums: vec![0.0; per_feature],
            smoothing: smoothing.map(<[f32]>::to_vec),
        };
        let inverse: Option<Vec<f32>> = smoothing.map(|s| s.iter().map(|s| 1.0 / s).collect());
        let (mut factors, mut sums) = (
            std::mem::take(&mut matrix.factors),
            std::mem::take(&mut matrix.sums),
        );
        let counter = Counter::new(groups);
        let exact = Exact::new();
        let job = Pack {
            matrix: &matrix,
            fill,
            inverse: inverse.as_deref(),
            factors: SharedRows::new(&mut factors, group),
            sums: SharedRows::new(&mut sums, group),
            counter: &counter,
            exact: &exact,
        };
        region(rayon::current_num_threads().min(groups.max(1)), &|| {
            run(level, job)
        });
        (matrix.factors, matrix.sums) = (factors, sums);
        if precision == Precision::F32
            && let Some(half) = exact.half()
        {
            matrix.data = half.halved(&matrix.data, groups * lanes * group);
            matrix.half = Some(half);
        }
        matrix
    }

    /// Output features.
    pub(crate) fn n(&self) -> usize {
        self.n
    }

    /// Input features.
    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// Whether the rows to multiply with are packed one after the other.
    pub(super) fn row_major(&self) -> bool {
        row_major(self.level, self.precision)
    }

    /// Writes encoded rows, or features, to `to` in the order that products read.
    ///
    /// # Safety
    /// As for [`Simd::interleave`], with `self.lanes` columns and a tile of these rows.
    #[inline(always)]
    pub(super) unsafe fn interleave<V: Simd>(&self, from: Rows, to: *mut f32) {
        // SAFETY: the caller's promises.
        unsafe {
            if in_blocks(self.level, self.precision) {
                interleave_pairs(from, self.lanes, from.rows, to)
            } else {
                V::interleave(from, self.lanes, from.rows, to)
            }
        }
    }

    /// The lanes of groups `groups`, one group after the other: where they are packed, or widened
    /// into `work`.
    pub(super) fn panel(&self, groups: Range<usize>, work: &mut Option<Scratch>) -> *const f32 {
        let lanes_of_group = self.lanes * self.group;
        let (first, count) = (groups.start * lanes_of_group, groups.len() * lanes_of_group);
        assert!(groups.end <= self.groups(), "groups that do not exist");
        let Some(half) = self.half else {
            // SAFETY: the groups exist.
            return unsafe { self.data.pointer().add(first) };
        };
        let work = work.insert(Scratch::new(count)).pointer();
        // SAFETY: the groups exist, and `work` has room for them.
        unsafe { half.widen(self.level, &self.data, first, count, work) };
        work
    }

    /// The memory of groups `groups`, as addresses of 32 bits.
    pub(super) fn memory(&self, groups: Range<usize>) -> Range<*const f32> {
        let narrowing = if self.half.is_some() { 2 } else { 1 };
        let at = |group: usize| {
            let lane = group * self.lanes * self.group / narrowing;
            self.data.pointer().cast_const().wrapping_add(lane)
        };
        at(groups.start)..at(groups.end)
    }

    /// Groups of output features.
    pub(super) fn groups(&self) -> usize {
        groups_of(self.n, self.group)
    }
}

/// Groups of size `group` that hold n output features: an even number, because tiles are two groups
/// wide.
fn groups_of(n: usize, group: usize) -> usize {
    n.div_ceil(2 * group) * 2
}

/// Whether products run on matrix registers, whose rows are those of the operands.
fn row_major(level: Level, precision: Precision) -> bool {
    level == Level::Amx && matches!(precision, Precision::Bf16 | Precision::Int8)
}

/// Whether products run on blocks of two rows by two features, both packed in pairs of lanes.
fn in_blocks(level: Level, precision: Precision) -> bool {
    level == Level::NeonMm && matches!(precision, Precision::Bf16 | Precision::Int8)
}

/// Lanes that a product takes at a time.
fn step_lanes(level: Level, precision: Precision) -> usize {
    let pairs = precision == Precision::Int8 && pairs_bytes(level);
    if row_major(level, precision) {
        16
    } else if pairs || in_blocks(level, precision) {
        2
    } else {
        1
    }
}

/// Lanes per vector at `level`.
fn group_of(level: Level) -> usize {
    match level {
        Level::Scalar | Level::Neon | Level::NeonDot | Level::NeonMm => 4,
        Level::Avx2 | Level::AvxVnni => 8,
        Level::Avx512 | Level::Amx => 16,
    }
}

/// Packs groups taken from a counter.
#[derive(Clone, Copy)]
struct Pack<'a> {
    matrix: &'a PackedMatrix,
    fill: &'a Fill<'a>,
    inverse: Option<&'a [f32]>,
    factors: SharedRows<'a>,
    sums: SharedRows<'a>,
    counter: &'a Counter,
    exact: &'a Exact,
}

impl Job for Pack<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let PackedMatrix { k, lanes, .. } = *self.matrix;
        // A cache line of padding per row: otherwise rows with power-of-two lengths share cache
        // sets.
        let stride = lanes.next_multiple_of(16) + 16;
        let rows = Scratch::new(V::LANES * stride);
        let mut row = vec![0.0; k];
        while let Some(groups) = self.counter.take(1) {
            let group = groups.start;
            // SAFETY: the scratch has V::LANES rows of `stride` lanes; the counter gives each
            // group, whose place in the matrix is its own, to one thread; the dispatcher vouches
            // for the CPU.
            unsafe {
                for i in 0..V::LANES {
                    let feature = group * V::LANES + i;
                    let to = std::slice::from_raw_parts_mut(rows.pointer().add(i * stride), lanes);
                    if feature < self.matrix.n {
                        self.encode::<V>(feature, &mut row, to)
                    } else {
                        to.fill(0.0)
                    }
                }
                let from = Rows {
                    start: rows.pointer(),
                    stride,
                    rows: V::LANES,
                };
                let to = self.matrix.data.pointer().add(group * lanes * V::LANES);
                self.matrix.interleave::<V>(from, to);
            }
        }
    }
}

impl Pack<'_> {
    /// Writes the lanes of output feature `feature` to `to`.
    ///
    /// # Safety
    /// No other thread writes this feature's group; the CPU has the instruction set of `V`.
    #[inline(always)]
    unsafe fn encode<V: Simd>(&self, feature: usize, row: &mut [f32], to: &mut [f32]) {
        if self.matrix.precision == Precision::F32 {
            (self.fill)(feature, to);
            return self.exact.see(to);
        }
        (self.fill)(feature, row);
        if self.matrix.precision == Precision::Bf16 {
            return to_bf16(row, narrow(to));
        }
        if let Some(inverse) = self.inverse {
            row.iter_mut().zip(inverse).for_each(|(x, s)| *x *= s);
        }
        // SAFETY: the caller vouches for the CPU.
        let (factor, sum) = unsafe {
            match self.matrix.precision {
                Precision::Int16 => quantise_weights::<V, i16>(row, narrow(to)),
                _ if pairs_bytes(self.matrix.level) => {
                    quantise_weights::<V, PairedWeight>(row, narrow(to))
                }
                _ => quantise_weights::<V, i8>(row, narrow(to)),
            }
        };
        let (group, i) = (feature / self.matrix.group, feature % self.matrix.group);
        // SAFETY: the caller promises that the group is this thread's.
        unsafe {
            self.factors.row(group)[i] = factor;
            self.sums.row(group)[i] = factor * sum as f32;
        }
    }
}

/// A number narrower than a lane, any bits of which are valid.
///
/// # Safety
/// Its size divides that of a lane, and it has no invalid bits.
pub(super) unsafe trait Narrow {}

// SAFETY: an integer of 8 bits.
unsafe impl Narrow for u8 {}
// SAFETY: an integer of 8 bits.
unsafe impl Narrow for i8 {}
// SAFETY: an integer of 16 bits.
unsafe impl Narrow for u16 {}
// SAFETY: an integer of 16 bits.
unsafe impl Narrow for i16 {}
// SAFETY: transparent over an integer of 8 bits.
unsafe impl Narrow for PairedWeight {}

/// Lanes viewed as narrower numbers.
pub(super) fn narrow<N: Narrow>(lanes: &mut [f32]) -> &mut [N] {
    let count = std::mem::size_of_val(lanes) / size_of::<N>();
    // SAFETY: same memory, weaker alignment, any bits are valid for both.
    unsafe { std::slice::from_raw_parts_mut(lanes.as_mut_ptr().cast(), count) }
}
