//! Linear layers: out = epilogue(norm(rows) x weights^T + bias).
#![allow(
    unsafe_code,
    reason = "shares out parts of the output and of packed rows between threads"
)]

#[cfg(target_arch = "x86_64")]
pub(super) mod amx;
#[cfg(target_arch = "aarch64")]
mod blocks;
mod panel;
mod rows;
pub(super) mod tile;
pub(super) mod tiles;
mod windows;

use super::activation::Activation;
use super::buffer::{Scratch, SharedRows};
use super::level::run;
use super::norm::Norm;
use super::pack::PackedMatrix;
use super::parallel::{Counter, Gate, region, threads_for};
use panel::Panels;
use rows::{PackRows, Tiling};
use windows::Source;
pub(crate) use windows::Windows;

/// The input of a linear layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    /// [m, k].
    pub(crate) rows: &'a [f32],
    /// Rows.
    pub(crate) m: usize,
    /// A LayerNorm applied to the rows while packing.
    pub(crate) norm: Option<Norm<'a>>,
}

/// What is done with the sums (which already include the bias).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Epilogue {
    /// out = sum.
    Store,
    /// out = activation(sum).
    Activate(Activation),
    /// out += sum: a residual, in place.
    AddTo,
    /// out = max(out + sum, 0): the end of a ResNet block, in place.
    AddToRelu,
}

/// Weights, bias and epilogue of a product.
#[derive(Clone, Copy)]
struct Layer<'a> {
    weights: &'a PackedMatrix,
    bias: Option<&'a [f32]>,
    epilogue: Epilogue,
}

/// A linear layer: `out` [m, n] = `epilogue`(norm(`input`) [m, k] x `weights`^T [k, n] + `bias`
/// `[n]`).
///
/// Runs on the current rayon pool. Each output row depends only on its own input row:
/// its bytes are the same whatever m, its position and the number of threads.
///
/// Panics when the lengths do not match.
pub(crate) fn linear(
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
    let layer = Layer {
        weights,
        bias,
        epilogue,
    };
    layer.linear(input, SharedRows::new(out, n));
}

/// [`linear`] with an optional activation into a new vector; zeroing it first would cost up to 2%
/// per image.
pub(crate) fn linear_to_vec(
    input: Input,
    weights: &PackedMatrix,
    bias: Option<&[f32]>,
    activation: Option<Activation>,
) -> Vec<f32> {
    let layer = Layer {
        weights,
        bias,
        epilogue: activation.map_or(Epilogue::Store, Epilogue::Activate),
    };
    to_vec(input.m, weights.n, |out| layer.linear(input, out))
}

/// A convolution: [`linear`] at every position of a window, `out` [images, down, across, n]. The
/// columns of `weights` are a window's values: row by row, pixel by pixel, channel by channel.
///
/// Panics when the lengths do not match.
pub(crate) fn convolve(
    windows: Windows,
    weights: &PackedMatrix,
    bias: Option<&[f32]>,
    epilogue: Epilogue,
    out: &mut [f32],
) {
    windows.check();
    let (m, n) = (windows.rows(), weights.n);
    assert_eq!(
        out.len(),
        m * n,
        "the output of a convolution is not [{m}, {n}]"
    );
    let layer = Layer {
        weights,
        bias,
        epilogue,
    };
    layer.convolve(windows, SharedRows::new(out, n));
}

/// [`convolve`] with an optional activation into a new vector.
pub(crate) fn convolve_to_vec(
    windows: Windows,
    weights: &PackedMatrix,
    bias: Option<&[f32]>,
    activation: Option<Activation>,
) -> Vec<f32> {
    windows.check();
    let layer = Layer {
        weights,
        bias,
        epilogue: activation.map_or(Epilogue::Store, Epilogue::Activate),
    };
    to_vec(windows.rows(), weights.n, |out| {
        layer.convolve(windows, out)
    })
}

/// A new vector [m, n] filled by `write`, which must write all of it.
fn to_vec(m: usize, n: usize, write: impl FnOnce(SharedRows)) -> Vec<f32> {
    let mut out = Vec::with_capacity(m * n);
    if cfg!(debug_assertions) {
        // Forgotten values show in the tests.
        out.resize(m * n, f32::NAN);
        out.clear();
    }
    write(SharedRows::spare(&mut out, m, n));
    // SAFETY: the space is reserved; every value of [m, n] was written: slabs and strips cover all
    // rows, every panel of them all columns, and the epilogues of this function's callers do not
    // read what they write over.
    unsafe { out.set_len(m * n) };
    out
}

impl Layer<'_> {
    fn linear(self, input: Input, out: SharedRows) {
        let (m, k) = (input.m, self.weights.k);
        assert_eq!(
            input.rows.len(),
            m * k,
            "the input of a linear layer is not [{m}, {k}]"
        );
        if let Some(norm) = &input.norm {
            assert!(
                norm.gain.len() == k && norm.bias.len() == k,
                "the LayerNorm of a linear layer does not have {k} columns"
            );
        }
        self.check();
        self.in_slabs(Source::Rows(input), out);
    }

    fn convolve(self, windows: Windows, out: SharedRows) {
        let (m, k) = (windows.rows(), self.weights.k);
        assert_eq!(
            windows.columns(),
            k,
            "the windows of a convolution do not have {k} values"
        );
        self.check();
        let source = if windows.side == 1 && windows.stride == 1 {
            Source::Rows(Input {
                rows: windows.pixels,
                m,
                norm: None,
            })
        } else {
            Source::Windows {
                windows,
                first: 0,
                count: m,
            }
        };
        self.in_strips(source, out);
    }

    fn check(&self) {
        let n = self.weights.n;
        assert!(
            self.bias.is_none_or(|bias| bias.len() == n),
            "the bias of a linear layer does not have {n} values"
        );
    }

    /// The number of threads worth using for m rows.
    fn threads(&self, m: usize) -> usize {
        // Lanes, not k: narrow numbers take less time.
        threads_for(2 * m * self.weights.n * self.weights.lanes)
    }

    /// Splits the rows into slabs whose packed form is worth holding at once.
    fn in_slabs(self, source: Source, out: SharedRows) {
        let m = source.m();
        if m * self.weights.n > 0 {
            let slab = Tiling::most_rows(self.weights);
            for first in (0..m).step_by(slab) {
                let count = slab.min(m - first);
                let part = source.part(first, count, self.weights.k);
                self.multiply(part, out.part(first, count), self.threads(count));
            }
        }
    }

    /// Splits many rows into strips that a thread packs and multiplies alone: no thread waits for
    /// another, and a packed strip is read from the cache that it was written to.
    fn in_strips(self, source: Source, out: SharedRows) {
        /// Several per thread, so that no thread finishes late; weights are read once per strip.
        const STRIPS_OF_A_THREAD: usize = 4;
        let (m, threads) = (source.m(), self.threads(source.m()));
        let mut strip = Tiling::strip(self.weights);
        if threads > 1 {
            let fair = Tiling::whole_tiles(m.div_ceil(threads * STRIPS_OF_A_THREAD), self.weights);
            if fair < Tiling::least_strip(self.weights) {
                return self.in_slabs(source, out);
            }
            strip = strip.min(fair);
        }
        let strips = Counter::new(m.div_ceil(strip));
        region(threads, &|| {
            while let Some(index) = strips.take(1) {
                let first = index.start * strip;
                let count = strip.min(m - first);
                let part = source.part(first, count, self.weights.k);
                self.multiply(part, out.part(first, count), 1);
            }
        });
    }

    /// Multiplies one slab of rows on up to `threads` threads.
    fn multiply(self, source: Source, out: SharedRows, threads: usize) {
        let Layer {
            weights,
            bias,
            epilogue,
        } = self;
        let tiling = Tiling::new(source.m(), weights);
        let packed = Scratch::new(tiling.packed_lanes());
        let scales = Scratch::new(2 * source.m());
        let rows = PackRows {
            source,
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
                    run(weights.level, rows.job(first + tiles.start));
                    block.packed.report(1);
                }
                block.packed.pass();
                while let Some(panel) = block.panels.take(1) {
                    panels.run(tiling.block(index), panel.start);
                }
            }
        });
    }
}

/// The state of a block of rows while threads work on it.
struct Block {
    unpacked: Counter,
    packed: Gate,
    panels: Counter,
}

impl Block {
    /// Initial state: nothing packed, nothing multiplied.
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
