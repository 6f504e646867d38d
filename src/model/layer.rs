//! Linear and LayerNorm: on a CPU they call `kernel` through candle's custom ops, elsewhere plain
//! candle. The tests compare the packed versions with the plain ones.

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, CustomOp1, DType, Device, InplaceOp2, Layout, Shape, Tensor, bail};

use crate::checkpoint::architecture::Activation;
use crate::kernel::{self, Epilogue, Input, Norm, PackedMatrix};

/// `x W^T + b` for `x` [rows, in] and `W` [out, in].
pub(super) struct Linear {
    body: Body,
}

enum Body {
    Packed {
        weight: PackedMatrix,
        bias: Option<Vec<f32>>,
    },
    Plain {
        /// [in, out]
        weight: Tensor,
        /// `[out]`
        bias: Option<Tensor>,
    },
}

/// Normalises each row to mean 0 and deviation 1, then scales and shifts.
pub(super) struct LayerNorm {
    gain: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
    /// Gain and bias on the device.
    plain: (Tensor, Tensor),
}

impl LayerNorm {
    pub(super) fn new(
        gain: Vec<f32>,
        bias: Vec<f32>,
        epsilon: f32,
        device: &Device,
    ) -> Result<Self> {
        ensure!(
            gain.len() == bias.len(),
            "a LayerNorm's gain and bias differ in length"
        );
        let plain = (
            Tensor::new(gain.as_slice(), device)?,
            Tensor::new(bias.as_slice(), device)?,
        );
        Ok(Self {
            gain,
            bias,
            epsilon,
            plain,
        })
    }

    /// The gains, one per feature.
    pub(super) fn gain(&self) -> &[f32] {
        &self.gain
    }

    /// The biases, one per feature.
    pub(super) fn bias(&self) -> &[f32] {
        &self.bias
    }

    fn kernel(&self) -> Norm<'_> {
        Norm {
            gain: &self.gain,
            bias: &self.bias,
            epsilon: self.epsilon,
        }
    }

    /// `x` [rows, width] -> the same shape and type.
    pub(super) fn forward(&self, x: &Tensor, packed: bool) -> Result<Tensor> {
        if packed {
            return Ok(x.apply_op1_no_bwd(&NormOp(self))?);
        }
        let (gain, bias) = &self.plain;
        // Two passes in f32: the mean of squares minus the square of the mean cancels if a few
        // channels are large.
        let wide = x.to_dtype(DType::F32)?;
        let centred = wide.broadcast_sub(&wide.mean_keepdim(1)?)?;
        let variance = centred.sqr()?.mean_keepdim(1)?;
        let scaled = centred.broadcast_div(&(variance + f64::from(self.epsilon))?.sqrt()?)?;
        let shifted = scaled.broadcast_mul(gain)?.broadcast_add(bias)?;
        Ok(shifted.to_dtype(x.dtype())?)
    }
}

impl Linear {
    pub(super) fn packed(weight: PackedMatrix, bias: Option<Vec<f32>>) -> Self {
        Self {
            body: Body::Packed { weight, bias },
        }
    }

    /// `weight` [out, in] on its device.
    pub(super) fn plain(weight: Tensor, bias: Option<Vec<f32>>) -> Result<Self> {
        let bias = bias
            .map(|bias| Tensor::new(bias, weight.device())?.to_dtype(weight.dtype()))
            .transpose()?;
        Ok(Self {
            body: Body::Plain {
                weight: weight.t()?.contiguous()?,
                bias,
            },
        })
    }

    /// Whether it runs on the packed kernels.
    pub(super) fn is_packed(&self) -> bool {
        matches!(self.body, Body::Packed { .. })
    }

    /// `x` [rows, in] -> [rows, out].
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.body {
            Body::Packed { weight, bias } => self.run(x, weight, bias.as_deref(), None, None),
            Body::Plain { weight, bias } => plain(x, weight, bias.as_ref()),
        }
    }

    /// `activation(norm(x) W^T + b)`: `x` [rows, in] -> [rows, out].
    pub(super) fn forward_norm(
        &self,
        x: &Tensor,
        norm: &LayerNorm,
        activation: Option<Activation>,
    ) -> Result<Tensor> {
        match &self.body {
            Body::Packed { weight, bias } => {
                self.run(x, weight, bias.as_deref(), Some(norm), activation)
            }
            Body::Plain { weight, bias } => {
                let out = plain(&norm.forward(x, false)?, weight, bias.as_ref())?;
                match activation {
                    None => Ok(out),
                    Some(Activation::Gelu) => Ok(out.gelu_erf()?),
                    Some(Activation::QuickGelu) => {
                        Ok((&out * candle_nn::ops::sigmoid(&(&out * 1.702)?)?)?)
                    }
                }
            }
        }
    }

    /// `residual + x W^T + b`. On the CPU `residual` is written in place, so it must be a tensor
    /// (or a view of one) that the caller owns exclusively.
    pub(super) fn add_into(&self, x: &Tensor, residual: Tensor) -> Result<Tensor> {
        match &self.body {
            Body::Packed { weight, bias } => {
                let op = AddOp {
                    weight,
                    bias: bias.as_deref(),
                };
                residual.inplace_op2(x, &op)?;
                Ok(residual)
            }
            Body::Plain { weight, bias } => Ok((residual + plain(x, weight, bias.as_ref())?)?),
        }
    }

    fn run(
        &self,
        x: &Tensor,
        weight: &PackedMatrix,
        bias: Option<&[f32]>,
        norm: Option<&LayerNorm>,
        activation: Option<Activation>,
    ) -> Result<Tensor> {
        let op = LinearOp {
            weight,
            bias,
            norm,
            activation,
        };
        Ok(x.apply_op1_no_bwd(&op)?)
    }
}

fn plain(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let out = x.matmul(weight)?;
    match bias {
        Some(bias) => Ok(out.broadcast_add(bias)?),
        None => Ok(out),
    }
}

struct LinearOp<'a> {
    weight: &'a PackedMatrix,
    bias: Option<&'a [f32]>,
    norm: Option<&'a LayerNorm>,
    activation: Option<Activation>,
}

impl CustomOp1 for LinearOp<'_> {
    fn name(&self) -> &'static str {
        "packed-linear"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (rows, m) = matrix(storage, layout, self.weight.k())?;
        let input = Input {
            rows,
            m,
            norm: self.norm.map(LayerNorm::kernel),
        };
        let activation = self.activation.map(|activation| match activation {
            Activation::QuickGelu => kernel::Activation::QuickGelu,
            Activation::Gelu => kernel::Activation::Gelu,
        });
        let out = kernel::linear_to_vec(input, self.weight, self.bias, activation);
        Ok((CpuStorage::F32(out), (m, self.weight.n()).into()))
    }
}

struct AddOp<'a> {
    weight: &'a PackedMatrix,
    bias: Option<&'a [f32]>,
}

impl InplaceOp2 for AddOp<'_> {
    fn name(&self) -> &'static str {
        "packed-linear-add"
    }

    fn cpu_fwd(
        &self,
        residual: &mut CpuStorage,
        residual_layout: &Layout,
        x: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<()> {
        let (rows, m) = matrix(x, layout, self.weight.k())?;
        let Some((start, end)) = residual_layout.contiguous_offsets() else {
            bail!("packed-linear-add: the residual is not contiguous")
        };
        let CpuStorage::F32(values) = residual else {
            bail!("packed-linear-add: the residual is not f32")
        };
        if end - start != m * self.weight.n() {
            bail!("packed-linear-add: the residual has {} values", end - start)
        }
        let input = Input {
            rows,
            m,
            norm: None,
        };
        let out = &mut values[start..end];
        kernel::linear(input, self.weight, self.bias, Epilogue::AddTo, out);
        Ok(())
    }
}

struct NormOp<'a>(&'a LayerNorm);

impl CustomOp1 for NormOp<'_> {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (rows, _) = matrix(storage, layout, self.0.gain.len())?;
        let mut out = vec![0.0; rows.len()];
        kernel::layer_norm(rows, &self.0.kernel(), &mut out);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

/// A contiguous f32 operand [m, width] as a slice, with `m`.
pub(super) fn matrix<'a>(
    storage: &'a CpuStorage,
    layout: &Layout,
    width: usize,
) -> candle_core::Result<(&'a [f32], usize)> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("the operand {:?} is not contiguous", layout.shape())
    };
    if layout.dims().last() != Some(&width) {
        bail!(
            "the operand is {:?}, expected rows of {width}",
            layout.shape()
        )
    }
    let values = &storage.as_slice::<f32>()?[start..end];
    Ok((values, values.len() / width))
}
