//! The product of a panel of weights with all tiles of a block of rows.
#![allow(
    unsafe_code,
    reason = "vector methods and raw pointers; contracts are stated"
)]

use std::ops::Range;

use super::Epilogue;
use super::finish::{Finish, Place};
use super::rows::PackRows;
use super::tile::{Ahead, Operands, RUN};
use super::tiles::{Most, packed_tile};
use crate::kernel::dispatch;
use crate::kernel::shared::SharedRows;

/// A product whose panels are distributed among threads.
pub(super) struct Panels<'a> {
    pub(super) rows: &'a PackRows<'a>,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) epilogue: Epilogue,
    pub(super) out: SharedRows<'a>,
    /// Groups of output features per panel.
    pub(super) width: usize,
    pub(super) threads: usize,
}

impl Panels<'_> {
    /// Multiplies panel `panel` with the packed tiles `tiles`; call once per panel.
    pub(super) fn run(&self, tiles: Range<usize>, panel: usize) {
        let PackRows {
            weights,
            tiling,
            packed,
            ..
        } = self.rows;
        let lanes_of_group = weights.lanes * weights.group;
        let mut ahead = self.ahead(tiles.len(), panel);
        let mut sums = Most::ZEROS;
        let end = ((panel + 1) * self.width).min(weights.groups());
        for tile in tiles {
            let range = tiling.rows(tile);
            let mut group = panel * self.width;
            while group < end {
                // Groups come in pairs.
                ahead.out = self
                    .out
                    .at(range.start, (group * weights.group).min(weights.n - 1));
                let groups = if range.len() <= 3 && end - group >= 4 {
                    4
                } else {
                    2
                };
                // SAFETY: the tile is packed and the groups exist; `sums` holds the largest tile of
                // any level.
                unsafe {
                    let operands = Operands {
                        lanes: weights.lanes,
                        a: packed.add(tiling.offset(tile)),
                        b: weights.data.pointer().add(group * lanes_of_group),
                        b_vector: lanes_of_group,
                        b_step: weights.group,
                        to_row: groups * weights.group,
                    };
                    let multiply =
                        packed_tile(weights.level, weights.precision, range.len(), groups);
                    multiply(&operands, &mut ahead, sums.0.as_mut_ptr());
                }
                let place = Place {
                    row: range.start,
                    rows: range.len(),
                    group,
                    groups,
                };
                dispatch::run(
                    weights.level,
                    Finish {
                        panels: self,
                        place,
                        sums: &sums.0,
                    },
                );
                group += groups;
            }
        }
    }

    /// What to prefetch while `tiles` tiles are multiplied with panel `panel`: the panel that this
    /// thread will probably take next.
    fn ahead(&self, tiles: usize, panel: usize) -> Ahead {
        let weights = self.rows.weights;
        let lanes_of_group = weights.lanes * weights.group;
        let first = (panel + self.threads) * self.width;
        let last = (first + self.width).min(weights.groups());
        let out_row = weights.n;
        if first >= last {
            return Ahead {
                out_row,
                ..Ahead::NOTHING
            };
        }
        let start = weights.data.pointer().cast_const();
        let lines_of_step = (self.width * weights.group).div_ceil(16);
        let rate = (lines_of_step * RUN).div_ceil(tiles);
        // SAFETY: groups up to the last lie inside the packed data.
        let (next, end) = unsafe {
            (
                start.add(first * lanes_of_group),
                start.add(last * lanes_of_group),
            )
        };
        Ahead {
            next,
            end,
            rate,
            out_row,
            ..Ahead::NOTHING
        }
    }
}
