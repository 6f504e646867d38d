//! What the towers are computed in: the CPU's kernels with a precision per matrix, or plain candle.

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

/// The precisions of the CPU, each a table over layers and matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuPrecision {
    /// Everything in f32: agrees with the reference to the last digit that matters.
    F32,
    /// Matrices in bfloat16, the first layer in f32 (it repairs the one hard case that was found).
    Bf16,
    /// 8-bit integers in the MLPs of the later two thirds, bfloat16 elsewhere.
    Int8,
    /// 8-bit integers everywhere: fast and approximate.
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
        let bf16 = if layer == 0 {
            kernel::Precision::F32
        } else {
            kernel::Precision::Bf16
        };
        match self {
            Self::F32 => kernel::Precision::F32,
            Self::Bf16 => bf16,
            Self::Int8 => match part {
                Part::Fc1 | Part::Fc2 if layer * 3 >= layers => kernel::Precision::Int8,
                _ => bf16,
            },
            Self::Int8Fast => kernel::Precision::Int8,
        }
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
