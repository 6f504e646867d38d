//! The arithmetic of the towers: CPU kernels with a precision per matrix, or plain candle.

use candle_core::{DType, Device};

use crate::kernel;

/// The arithmetic of a loaded model.
#[derive(Clone, Debug)]
pub enum Compute {
    /// This project's kernels, on the CPU.
    Kernel(CpuPrecision),
    /// candle's own operations on any device, matrices in the given type; norms, softmax and
    /// pooling stay in f32.
    Candle(Device, DType),
}

/// The precisions of the CPU, each a table over layers and matrices. The loss of each when weights
/// have outliers, and that of other tables, is measured by `tests/bench/outliers.py`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuPrecision {
    /// Everything in f32: agrees with the reference to rounding error.
    F32,
    /// Matrices in bfloat16; the attention of the first layer in f32, which recovers most of the
    /// accuracy that outliers in the gains of its LayerNorm cost.
    Bf16,
    /// 8-bit integers in the later two thirds, for queries, keys and values in the last third;
    /// elsewhere as [`Self::Bf16`].
    Int8,
    /// 8-bit integers everywhere except in the attention of the first layer: fast and approximate.
    Int8Fast,
}

/// The four matrices of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Queries, keys and values.
    Qkv,
    /// The attention's output projection.
    Out,
    /// The MLP's first matrix.
    Fc1,
    /// The MLP's second matrix.
    Fc2,
}

impl CpuPrecision {
    /// The precision of one matrix in `layer` of `layers`.
    #[must_use]
    pub fn of(self, part: Part, layer: usize, layers: usize) -> kernel::Precision {
        let first_attention = layer == 0 && matches!(part, Part::Qkv | Part::Out);
        let bf16 = if first_attention {
            kernel::Precision::F32
        } else {
            kernel::Precision::Bf16
        };
        // The first layer in 8 bits, as thirds of the tower.
        let thirds = if part == Part::Qkv { 2 } else { 1 };
        match self {
            Self::F32 => kernel::Precision::F32,
            Self::Bf16 => bf16,
            Self::Int8 if layer * 3 >= layers * thirds => kernel::Precision::Int8,
            Self::Int8 => bf16,
            Self::Int8Fast if first_attention => kernel::Precision::Bf16,
            Self::Int8Fast => kernel::Precision::Int8,
        }
    }

    /// The precision of a ResNet except its stem, which is in f32: convolutions are not computed
    /// in 8 bits, so [`Self::Int8`] and [`Self::Int8Fast`] mean bfloat16 there.
    #[must_use]
    pub fn of_convolutions(self) -> kernel::Precision {
        self.of_edges()
    }

    /// The precision of the patch embedding and the projections.
    #[must_use]
    pub fn of_edges(self) -> kernel::Precision {
        match self {
            Self::F32 => kernel::Precision::F32,
            Self::Bf16 | Self::Int8 | Self::Int8Fast => kernel::Precision::Bf16,
        }
    }
}
