//! Builds layers from a checkpoint's tensors, packed or on a device; every value must be finite.

use std::sync::Mutex;

use anyhow::{Context, Error, Result, anyhow, bail};
use candle_core::{DType, Device, Tensor};

use super::device::Compute;
use super::layer::{LayerNorm, Linear};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::container::StoredTensor;
use crate::kernel::{self, PackedMatrix};

/// Minimum size of a vector whose memory is worth releasing.
const LARGE: usize = 1 << 18;

/// Reads layers from a checkpoint.
pub(super) struct Weights<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) compute: &'a Compute,
}

impl<'a> Weights<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint, compute: &'a Compute) -> Self {
        Self {
            checkpoint,
            compute,
        }
    }

    pub(super) fn tensor(&self, name: &str) -> Result<&'a StoredTensor> {
        self.checkpoint
            .tensors
            .get(name)
            .with_context(|| format!("tensor {name} is missing"))
    }

    /// All values of a tensor, row-major.
    pub(super) fn vector(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.tensor(name)?;
        let values = tensor.to_f32()?;
        check_finite(name, &values)?;
        // Small ones share memory pages with others.
        if values.len() >= LARGE {
            tensor.release();
        }
        Ok(values)
    }

    /// A LayerNorm's gain and bias, `{path}.weight` and `{path}.bias`.
    pub(super) fn layer_norm(&self, path: &str, epsilon: f32) -> Result<LayerNorm> {
        let gain = self.vector(&format!("{path}.weight"))?;
        let bias = self.vector(&format!("{path}.bias"))?;
        LayerNorm::new(gain, bias, epsilon, self.device())
    }

    /// One linear layer from the layers at `paths`, stacked by rows.
    ///
    /// `smoothing` are factors for the inputs of an 8-bit matrix.
    pub(super) fn linear(
        &self,
        paths: &[String],
        with_bias: bool,
        precision: kernel::Precision,
        smoothing: Option<&[f32]>,
    ) -> Result<Linear> {
        let names: Vec<_> = paths.iter().map(|path| format!("{path}.weight")).collect();
        let matrices: Vec<_> = names
            .iter()
            .map(|name| self.matrix(name))
            .collect::<Result<_>>()?;
        let mut bias = Vec::new();
        for path in paths.iter().filter(|_| with_bias) {
            bias.extend(self.vector(&format!("{path}.bias"))?);
        }
        let bias = with_bias.then_some(bias);
        let linear = match self.compute {
            Compute::Kernel(_) => {
                let packed = pack(&names, &matrices, precision, smoothing)?;
                Linear::packed(packed, bias)
            }
            Compute::Candle(device, dtype) => {
                let mut values = Vec::new();
                for (matrix, name) in matrices.iter().zip(&names) {
                    let part = matrix.to_f32()?;
                    check_finite(name, &part)?;
                    values.extend(part);
                }
                let k = matrices[0].shape()[1];
                let shape = (values.len() / k, k);
                let weight = Tensor::from_vec(values, shape, &Device::Cpu)?
                    .to_dtype(*dtype)?
                    .to_device(device)?;
                Linear::plain(weight, bias)?
            }
        };
        // Packed tensors are no longer needed; releasing them keeps peak memory near the packed
        // size.
        matrices.iter().for_each(StoredTensor::release);
        Ok(linear)
    }

    /// A tensor as a matrix [rows, everything else].
    pub(super) fn matrix(&self, name: &str) -> Result<StoredTensor> {
        let tensor = self.tensor(name)?;
        match tensor.shape() {
            [_, _] => Ok(tensor.clone()),
            [rows, rest @ ..] => tensor.reshape(&[*rows, rest.iter().product()]),
            [] => bail!("tensor {name} is a scalar, not a matrix"),
        }
    }

    /// The device of the model's tensors.
    pub(super) fn device(&self) -> &'a Device {
        match self.compute {
            Compute::Kernel(_) => &Device::Cpu,
            Compute::Candle(device, _) => device,
        }
    }

    /// The element type of activations in the blocks.
    pub(super) fn dtype(&self) -> DType {
        match self.compute {
            Compute::Kernel(_) => DType::F32,
            Compute::Candle(_, dtype) => *dtype,
        }
    }
}

/// Packs matrices stacked by rows, straight from the file.
fn pack(
    names: &[String],
    matrices: &[StoredTensor],
    precision: kernel::Precision,
    smoothing: Option<&[f32]>,
) -> Result<PackedMatrix> {
    let k = matrices[0].shape()[1];
    let n = matrices.iter().map(|matrix| matrix.shape()[0]).sum();
    let fill = |row: usize, values: &mut [f32]| {
        let mut row = row;
        for (matrix, name) in matrices.iter().zip(names) {
            let rows = matrix.shape()[0];
            if row < rows {
                return matrix
                    .copy_row_f32(row, values)
                    .and_then(|()| check_finite(name, values))
                    .map_err(|error| anyhow!("{error}, in row {row}"));
            }
            row -= rows;
        }
        Ok(())
    };
    pack_checked([n, k], precision, &fill, smoothing)
}

/// Packs the [n, k] matrix whose rows `fill` writes, from several threads.
///
/// # Errors
/// The first error that `fill` returned.
pub(super) fn pack_checked(
    [n, k]: [usize; 2],
    precision: kernel::Precision,
    fill: &(dyn Fn(usize, &mut [f32]) -> Result<()> + Sync),
    smoothing: Option<&[f32]>,
) -> Result<PackedMatrix> {
    let damaged: Mutex<Option<Error>> = Mutex::new(None);
    let fill = |row: usize, values: &mut [f32]| {
        if let Err(error) = fill(row, values) {
            let mut first = damaged.lock().unwrap_or_else(|e| e.into_inner());
            first.get_or_insert(error);
        }
    };
    let packed = PackedMatrix::pack(n, k, precision, &fill, smoothing);
    match damaged.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some(error) => Err(error),
        None => Ok(packed),
    }
}

pub(super) fn check_finite(name: &str, values: &[f32]) -> Result<()> {
    // Blocks without a branch inside vectorise; only a bad block is searched for the value.
    let finite = |block: &[f32]| block.iter().fold(true, |all, v| all & v.is_finite());
    if values.chunks(1024).all(finite) {
        return Ok(());
    }
    let at = values.iter().position(|v| !v.is_finite()).unwrap_or(0);
    bail!(
        "tensor {name} holds {} at element {at}; the file is damaged or the training diverged",
        values[at]
    )
}
