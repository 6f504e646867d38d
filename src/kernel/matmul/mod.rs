//! Linear layers: out = epilogue(norm(rows) x weights^T + bias).
#![allow(
    unsafe_code,
    reason = "shares out parts of the output and of packed rows between threads"
)]

mod finish;
mod panel;
mod rows;
pub(super) mod tile;
pub(super) mod tiles;

use super::activation::Activation;
use super::buffer::Scratch;
use super::dispatch;
use super::norm::Norm;
use super::pack::PackedMatrix;
use super::parallel::{Counter, Gate, region, threads_for};
use super::shared::SharedRows;
use panel::Panels;
use rows::{PackRows, Tiling};

/// The activations of a linear layer.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// [m, k].
    pub rows: &'a [f32],
    /// Rows.
    pub m: usize,
    /// A layer normalisation of the rows, done on the way in.
    pub norm: Option<Norm<'a>>,
}

/// What happens to the sums (the bias is already in them).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    /// out = sum.
    Store,
    /// out = activation(sum).
    Activate(Activation),
    /// out += sum: a residual, in place.
    AddTo,
}

/// A linear layer: `out` [m, n] = `epilogue`(norm(`input`) [m, k] x `weights`^T [k, n] + `bias` `[n]`).
///
/// Runs on the threads of the current rayon pool. Each output row depends on its own input row only:
/// its bytes are the same whatever m, its position and the number of threads.
///
/// Panics when the lengths do not fit together.
pub fn linear(
    input: Input,
    weights: &PackedMatrix,
    bias: Option<&[f32]>,
    epilogue: Epilogue,
    out: &mut [f32],
) {
    let (m, n) = (input.m, weights.n);
    assert_eq!(
        out.len(),
        m * n,
        "the output of a linear layer is not [{m}, {n}]"
    );
    in_slabs(input, weights, bias, epilogue, SharedRows::new(out, n));
}

/// [`linear`] with an optional activation to a new vector: zeroing one first would cost as much as 2% of an image.
pub fn linear_to_vec(
    input: Input,
    weights: &PackedMatrix,
    bias: Option<&[f32]>,
    activation: Option<Activation>,
) -> Vec<f32> {
    let (m, n) = (input.m, weights.n);
    let epilogue = activation.map_or(Epilogue::Store, Epilogue::Activate);
    let mut out = Vec::with_capacity(m * n);
    if cfg!(debug_assertions) {
        // What is forgotten shows in the tests.
        out.resize(m * n, f32::NAN);
        out.clear();
    }
    let rows = SharedRows::spare(&mut out, m, n);
    in_slabs(input, weights, bias, epilogue, rows);
    // SAFETY: the room is there; every value of [m, n] was written: `in_slabs` covers all rows, every panel of
    // them all columns, and these epilogues do not read what they write over.
    unsafe { out.set_len(m * n) };
    out
}

/// Cuts the rows in slabs whose packed form is worth holding at once.
fn in_slabs(
    input: Input,
    weights: &PackedMatrix,
    bias: Option<&[f32]>,
    epilogue: Epilogue,
    out: SharedRows,
) {
    let (m, n, k) = (input.m, weights.n, weights.k);
    assert_eq!(
        input.rows.len(),
        m * k,
        "the input of a linear layer is not [{m}, {k}]"
    );
    assert!(
        bias.is_none_or(|bias| bias.len() == n),
        "the bias of a linear layer has not {n} values"
    );
    if let Some(norm) = &input.norm {
        assert!(
            norm.gain.len() == k && norm.bias.len() == k,
            "the norm of a linear layer has not {k} columns"
        );
    }
    if m * n > 0 {
        let slab = Tiling::most_rows(weights);
        for first in (0..m).step_by(slab) {
            let count = slab.min(m - first);
            let rows = Input {
                rows: &input.rows[first * k..][..count * k],
                m: count,
                norm: input.norm,
            };
            multiply(rows, weights, bias, epilogue, out.part(first, count));
        }
    }
}

/// [`linear`] for a number of rows whose packed form is worth holding at once.
fn multiply(
    input: Input,
    weights: &PackedMatrix,
    bias: Option<&[f32]>,
    epilogue: Epilogue,
    out: SharedRows,
) {
    let tiling = Tiling::new(input.m, weights);
    // Lanes, not k: narrow numbers take less time.
    let threads = threads_for(2 * input.m * weights.n * weights.lanes);
    let packed = Scratch::new(tiling.packed_lanes());
    let scales = Scratch::new(2 * input.m);
    let rows = PackRows {
        input,
        weights,
        tiling,
        packed: packed.pointer(),
        scales: scales.pointer(),
    };
    let panels = Panels {
        rows: &rows,
        bias,
        epilogue,
        out,
        width: tiling.panel_width(),
        threads,
    };
    let blocks: Vec<Block> = (0..tiling.blocks)
        .map(|block| Block::new(&tiling, weights, block))
        .collect();
    region(threads, &|| {
        for (index, block) in blocks.iter().enumerate() {
            let first = tiling.block(index).start;
            while let Some(tiles) = block.unpacked.take(1) {
                dispatch::run(weights.level, rows.job(first + tiles.start));
                block.packed.report(1);
            }
            block.packed.pass();
            while let Some(panel) = block.panels.take(1) {
                panels.run(tiling.block(index), panel.start);
            }
        }
    });
}

/// The state of a block of rows while threads work on it.
struct Block {
    unpacked: Counter,
    packed: Gate,
    panels: Counter,
}

impl Block {
    /// Nothing packed, nothing multiplied.
    fn new(tiling: &Tiling, weights: &PackedMatrix, block: usize) -> Block {
        let tiles = tiling.block(block).len();
        let panels = weights.groups().div_ceil(tiling.panel_width());
        Block {
            unpacked: Counter::new(tiles),
            packed: Gate::new(tiles),
            panels: Counter::new(panels),
        }
    }
}

#[cfg(test)]
mod tests;
