//! The arithmetic of the towers (CPU kernels with a precision per matrix, or plain candle), and how
//! `--device` and `--precision` choose it.

use std::str::FromStr;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};

use crate::checkpoint::architecture::Tower;
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
    /// elsewhere as [`Self::Bf16`]. Where the kernels do not multiply bf16, 16-bit integers stand in
    /// for it, or f32; f32 for everything where they do not multiply integers.
    Int8,
    /// 8-bit integers everywhere except in the attention of the first layer: fast and approximate.
    /// What stands in for bf16 is as in [`Self::Int8`].
    Int8Fast,
}

/// The four matrices of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockMatrix {
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
    pub(crate) fn of(self, part: BlockMatrix, layer: usize, layers: usize) -> kernel::Precision {
        let first_attention = layer == 0 && matches!(part, BlockMatrix::Qkv | BlockMatrix::Out);
        // The first layer in 8 bits, as thirds of the tower.
        let thirds = if part == BlockMatrix::Qkv { 2 } else { 1 };
        match self {
            Self::F32 => kernel::Precision::F32,
            Self::Int8 if layer * 3 >= layers * thirds => kernel::fastest_bytes(),
            Self::Bf16 | Self::Int8 if first_attention => kernel::Precision::F32,
            Self::Int8Fast if !first_attention => kernel::fastest_bytes(),
            _ => self.of_edges(),
        }
    }

    /// The bytes that the packed matrices of a tower take at least. Weights that were stored in
    /// `stored_bytes` each never take more than that.
    #[must_use]
    pub(crate) fn least_bytes(self, tower: &Tower, stored_bytes: u64) -> u64 {
        let (width, hidden) = (tower.width as u64, tower.mlp_width as u64);
        let matrices = [
            (BlockMatrix::Qkv, 3 * width * width),
            (BlockMatrix::Out, width * width),
            (BlockMatrix::Fc1, width * hidden),
            (BlockMatrix::Fc2, width * hidden),
        ];
        let of_layer = |layer: usize| -> u64 {
            let bytes = matrices.map(|(part, elements)| {
                let each = match self.of(part, layer, tower.layers) {
                    kernel::Precision::F32 => 4,
                    kernel::Precision::Bf16 | kernel::Precision::Int16 => 2,
                    kernel::Precision::Int8 => 1,
                };
                elements.saturating_mul(each.min(stored_bytes))
            });
            bytes.iter().sum()
        };
        (0..tower.layers).map(of_layer).sum()
    }

    /// The precision of a ResNet except its stem, which is in f32: convolutions are not computed
    /// in 8 bits, so [`Self::Int8`] and [`Self::Int8Fast`] mean bfloat16 or 16-bit integers there.
    #[must_use]
    pub(crate) fn of_convolutions(self) -> kernel::Precision {
        self.of_edges()
    }

    /// The precision of the patch embedding and the projections.
    #[must_use]
    pub(crate) fn of_edges(self) -> kernel::Precision {
        match self {
            Self::F32 => kernel::Precision::F32,
            Self::Bf16 => kernel::Precision::Bf16,
            Self::Int8 | Self::Int8Fast => kernel::fastest_half(),
        }
    }
}

/// The value of `--device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best device that this build supports and that works.
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU, by index.
    Cuda(usize),
    /// An Apple GPU.
    Metal,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.parse()
                .map_err(|_| format!("{text:?} is not a GPU index"))
        };
        match text.split_once(':').unwrap_or((text, "")) {
            ("auto", "") => Ok(Self::Auto),
            ("cpu", "") => Ok(Self::Cpu),
            ("metal", "") => Ok(Self::Metal),
            ("cuda", "") => Ok(Self::Cuda(0)),
            ("cuda", index) => number(index).map(Self::Cuda),
            _ => Err("expected auto, cpu, cuda, cuda:N or metal".to_owned()),
        }
    }
}

/// The value of `--precision`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrecisionChoice {
    /// On a CPU, bf16 if natively supported, else f32; on a GPU, f16.
    Auto,
    /// 32-bit floating point.
    F32,
    /// bfloat16.
    Bf16,
    /// 16-bit floating point, on GPUs.
    F16,
    /// 8-bit integers where they do not reduce accuracy, on CPUs.
    Int8,
    /// 8-bit integers everywhere, on CPUs.
    Int8Fast,
}

/// A working device and precision, and how they were chosen.
pub struct Placement {
    /// The arithmetic for the model.
    pub compute: Compute,
    /// The device's name.
    pub device: String,
    /// The precision's name.
    pub precision: &'static str,
    /// Why `auto` did not use another device, if so.
    pub note: Option<String>,
}

/// Opens the requested device.
///
/// # Errors
/// When this build does not support it, it does not work, or it does not support the precision.
pub fn place(device: DeviceChoice, precision: PrecisionChoice) -> Result<Placement> {
    match device {
        DeviceChoice::Cpu => cpu(precision, None),
        DeviceChoice::Cuda(index) => cuda(index, precision),
        DeviceChoice::Metal => metal(precision),
        DeviceChoice::Auto if cfg!(feature = "cuda") => cuda(0, precision)
            .or_else(|error| cpu(precision, Some(format!("not using the GPU: {error:#}")))),
        DeviceChoice::Auto if cfg!(feature = "metal") => metal(precision)
            .or_else(|error| cpu(precision, Some(format!("not using the GPU: {error:#}")))),
        DeviceChoice::Auto => cpu(precision, None),
    }
}

fn cpu(precision: PrecisionChoice, note: Option<String>) -> Result<Placement> {
    let (precision, name) = match precision {
        PrecisionChoice::Auto if kernel::has_native_bf16() => (CpuPrecision::Bf16, "bf16"),
        PrecisionChoice::Auto | PrecisionChoice::F32 => (CpuPrecision::F32, "f32"),
        PrecisionChoice::Bf16 => (CpuPrecision::Bf16, "bf16"),
        PrecisionChoice::Int8 => (CpuPrecision::Int8, "int8"),
        PrecisionChoice::Int8Fast => (CpuPrecision::Int8Fast, "int8-fast"),
        PrecisionChoice::F16 => bail!(
            "the CPU does not support f16; use --precision f32, bf16, int8 or int8-fast (files \
             stored in f16 load in all of them)"
        ),
    };
    Ok(Placement {
        compute: Compute::Kernel(precision),
        device: "cpu".to_owned(),
        precision: name,
        note,
    })
}

fn cuda(index: usize, precision: PrecisionChoice) -> Result<Placement> {
    if !cfg!(feature = "cuda") {
        bail!(
            "this longclip was built without CUDA; use --device cpu or build with --features cuda"
        );
    }
    let device = Device::new_cuda(index)
        .map_err(first_line)
        .with_context(|| format!("cannot use cuda:{index}"))?;
    gpu(device, format!("cuda:{index}"), precision)
}

fn metal(precision: PrecisionChoice) -> Result<Placement> {
    if !cfg!(feature = "metal") {
        bail!(
            "this longclip was built without Metal; use --device cpu or build with --features metal"
        );
    }
    let device = Device::new_metal(0)
        .map_err(first_line)
        .context("cannot use the Metal device")?;
    gpu(device, "metal".to_owned(), precision)
}

/// A candle error without the backtrace that it appends if RUST_BACKTRACE is set.
fn first_line(error: candle_core::Error) -> anyhow::Error {
    let text = error.to_string();
    anyhow::anyhow!("{}", text.lines().next().unwrap_or_default().trim())
}

fn gpu(device: Device, name: String, precision: PrecisionChoice) -> Result<Placement> {
    let (dtype, precision) = match precision {
        PrecisionChoice::F32 => (DType::F32, "f32"),
        PrecisionChoice::Bf16 => (DType::BF16, "bf16"),
        PrecisionChoice::Auto | PrecisionChoice::F16 => (DType::F16, "f16"),
        PrecisionChoice::Int8 | PrecisionChoice::Int8Fast => {
            bail!("{name} does not support 8-bit integers; use --precision f16, bf16 or f32")
        }
    };
    Ok(Placement {
        compute: Compute::Candle(device, dtype),
        device: name,
        precision,
        note: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names() {
        let cases = [
            ("auto", Some(DeviceChoice::Auto)),
            ("cpu", Some(DeviceChoice::Cpu)),
            ("cuda", Some(DeviceChoice::Cuda(0))),
            ("cuda:3", Some(DeviceChoice::Cuda(3))),
            ("metal", Some(DeviceChoice::Metal)),
            ("cuda:x", None),
            ("cpu:1", None),
            ("gpu", None),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<DeviceChoice>().ok(), expected, "{text}");
        }
    }

    #[test]
    fn unsupported_precisions_are_errors_not_substitutions() {
        assert!(place(DeviceChoice::Cpu, PrecisionChoice::F16).is_err());
        if !cfg!(feature = "cuda") {
            let error = place(DeviceChoice::Cuda(0), PrecisionChoice::F32)
                .err()
                .unwrap();
            assert!(error.to_string().contains("without CUDA"), "{error}");
        }
    }

    #[test]
    fn every_precision_of_the_cpu_has_its_table() {
        use BlockMatrix::{Fc1, Fc2, Out, Qkv};
        use kernel::Precision::{Bf16, F32};
        let (half, byte) = (kernel::fastest_half(), kernel::fastest_bytes());
        // The precisions of a tower of 12 layers, at the layers where they may change.
        let cases = [
            (CpuPrecision::F32, [Qkv, Fc1], [F32; 5], [F32; 5]),
            (
                CpuPrecision::Bf16,
                [Out, Fc2],
                [F32, Bf16, Bf16, Bf16, Bf16],
                [Bf16; 5],
            ),
            (
                CpuPrecision::Int8,
                [Qkv, Out],
                [F32, half, half, half, byte],
                [F32, half, byte, byte, byte],
            ),
            (
                CpuPrecision::Int8,
                [Fc1, Fc2],
                [half, half, byte, byte, byte],
                [half, half, byte, byte, byte],
            ),
            (
                CpuPrecision::Int8Fast,
                [Qkv, Fc1],
                [half, byte, byte, byte, byte],
                [byte; 5],
            ),
        ];
        for (precision, matrices, first, second) in cases {
            for (matrix, expected) in matrices.into_iter().zip([first, second]) {
                let found = [0, 3, 4, 7, 8].map(|layer| precision.of(matrix, layer, 12));
                assert_eq!(found, expected, "{precision:?} {matrix:?}");
            }
        }
    }

    #[test]
    fn precisions_are_those_of_the_device() {
        use PrecisionChoice::{Auto, Bf16, F16, F32, Int8, Int8Fast};
        let auto = match kernel::has_native_bf16() {
            true => "bf16",
            false => "f32",
        };
        for (choice, on_cpu, on_gpu) in [
            (Auto, Some(auto), Some("f16")),
            (F32, Some("f32"), Some("f32")),
            (Bf16, Some("bf16"), Some("bf16")),
            (F16, None, Some("f16")),
            (Int8, Some("int8"), None),
            (Int8Fast, Some("int8-fast"), None),
        ] {
            let found = cpu(choice, None).ok().map(|placed| placed.precision);
            assert_eq!(found, on_cpu, "{choice:?}");
            let placed = gpu(Device::Cpu, "cuda:0".to_owned(), choice).ok();
            assert_eq!(placed.map(|placed| placed.precision), on_gpu, "{choice:?}");
        }
    }
}
