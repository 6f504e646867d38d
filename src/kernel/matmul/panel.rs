//! A panel of weights times all tiles of a block of rows.
#![allow(unsafe_code, reason = "vector methods and raw pointers; contracts are stated")]

use std::marker::PhantomData;
use std::ops::Range;

use super::finish::{Place, finish};
use super::rows::PackRows;
use super::tile::{Ahead, Arithmetic, Bf16, F32, Int8, Operands, UNROLL, tile};
use super::{Epilogue, Precision};
use crate::kernel::dispatch::{self, Job};
use crate::kernel::shared::SharedRows;
use crate::kernel::simd::Simd;

/// A product whose panels are shared out.
pub(super) struct Panels<'a> {
    pub(super) rows: &'a PackRows<'a>,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) epilogue: Epilogue,
    pub(super) out: SharedRows<'a>,
    /// Groups of output features in a panel.
    pub(super) width: usize,
    pub(super) threads: usize,
}

impl Panels<'_> {
    /// Multiplies panel `panel` with the packed tiles `tiles`; to be called once for each.
    pub(super) fn run(&self, tiles: Range<usize>, panel: usize) {
        let weights = self.rows.weights;
        match weights.precision {
            Precision::F32 => dispatch::run(weights.level, Panel::<F32>::new(self, tiles, panel)),
            Precision::Bf16 => dispatch::run_bf16(weights.level, Panel::<Bf16>::new(self, tiles, panel)),
            Precision::Int8 => dispatch::run_int8(weights.level, Panel::<Int8>::new(self, tiles, panel)),
        }
    }
}

/// One panel's work.
struct Panel<'a, A> {
    panels: &'a Panels<'a>,
    tiles: Range<usize>,
    panel: usize,
    arithmetic: PhantomData<A>,
}

impl<'a, A> Panel<'a, A> {
    /// Panel `panel` times `tiles`.
    fn new(panels: &'a Panels<'a>, tiles: Range<usize>, panel: usize) -> Panel<'a, A> {
        Panel { panels, tiles, panel, arithmetic: PhantomData }
    }

    /// What to ask for: the panel that this thread will probably draw next.
    fn ahead(&self, lanes_of_group: usize) -> Ahead {
        let Panels { rows, width, threads, .. } = *self.panels;
        let groups = rows.weights.groups();
        let first = (self.panel + threads) * width;
        let last = (first + width).min(groups);
        if first >= last {
            return Ahead::NOTHING;
        }
        let start = rows.weights.data.pointer().cast_const();
        let lines_of_step = (width * rows.weights.group).div_ceil(16);
        let rate = (lines_of_step * UNROLL).div_ceil(self.tiles.len());
        // SAFETY: groups below `groups` lie inside the packed data.
        unsafe { Ahead { next: start.add(first * lanes_of_group), end: start.add(last * lanes_of_group), rate } }
    }
}

/// Lanes of the largest tile: 14 rows of 2 vectors of 16.
const MOST_SUMS: usize = 14 * 2 * 16;

/// Where a tile's sums lie between their computation and their way out.
#[repr(align(64))]
struct Sums([f32; MOST_SUMS]);

impl<A: Arithmetic> Job for Panel<'_, A> {
    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let Panels { rows, width, .. } = *self.panels;
        let (weights, tiling) = (rows.weights, &rows.tiling);
        let lanes_of_group = weights.lanes * V::LANES;
        let mut ahead = self.ahead(lanes_of_group);
        let mut sums = Sums([0.0; MOST_SUMS]);
        let end = ((self.panel + 1) * width).min(weights.groups());
        for tile in self.tiles.clone() {
            let range = tiling.rows(tile);
            let mut group = self.panel * width;
            while group < end {
                let groups = vectors(range.len(), end - group);
                // SAFETY: the tile is packed and the groups exist; this thread drew this part of the output; the
                // dispatcher vouches for the CPU.
                unsafe {
                    let operands = Operands {
                        lanes: weights.lanes,
                        a: rows.packed.add(tiling.offset(tile)),
                        b: weights.data.pointer().add(group * lanes_of_group),
                        b_vector: lanes_of_group,
                        b_step: V::LANES,
                    };
                    choose::<V, A>(range.len(), groups, &operands, &mut ahead, sums.0.as_mut_ptr());
                    let place = Place { row: range.start, rows: range.len(), group, groups };
                    if A::INTEGER {
                        finish::<V, true>(self.panels, place, sums.0.as_ptr());
                    } else {
                        finish::<V, false>(self.panels, place, sums.0.as_ptr());
                    }
                }
                group += groups;
            }
        }
    }
}

/// How many vectors a tile of `rows` rows takes where `left` are left.
#[inline(always)]
fn vectors(rows: usize, left: usize) -> usize {
    match left {
        4.. if rows <= 3 => 4,
        2.. => 2,
        _ => 1,
    }
}

/// The tile function for `rows` rows and `vectors` vectors.
///
/// # Safety
/// As for [`tile`]; `rows <= V::ROWS`.
#[inline(always)]
unsafe fn choose<V: Simd, A: Arithmetic>(
    rows: usize,
    vectors: usize,
    operands: &Operands,
    ahead: &mut Ahead,
    to: *mut f32,
) {
    macro_rules! tiles {
        ($(($rows:literal, $vectors:literal)),*) => {
            match (rows, vectors) {
                $(($rows, $vectors) if $rows <= V::ROWS => tile::<V, A, $rows, $vectors, 1, $rows>(operands, ahead, to),)*
                _ => unreachable!("no tile of {rows} rows and {vectors} vectors"),
            }
        };
    }
    // SAFETY: the caller's promises.
    unsafe {
        tiles!(
            (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1), (10, 1), (11, 1), (12, 1),
            (13, 1), (14, 1), (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2), (7, 2), (8, 2), (9, 2), (10, 2),
            (11, 2), (12, 2), (13, 2), (14, 2), (1, 4), (2, 4), (3, 4)
        );
    }
}
