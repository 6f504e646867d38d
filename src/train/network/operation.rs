//! The towers' layers and their derivatives: in f32 by this project's kernels on the CPU, by
//! candle's operations elsewhere. The tests compare the kernels with candle's operations.

use std::ops::{Deref, Range};

use anyhow::{Context, Result, bail};
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};

use super::Arithmetic;
use crate::checkpoint::architecture::Activation;
use crate::kernel::{self, AttentionShape, Norm, View};
use crate::model::attention::{Attention, gather};
use crate::model::sequences::Sequences;

/// A LayerNorm's parameters.
#[derive(Clone)]
pub(super) struct NormWeights {
    pub(super) gain: Tensor,
    pub(super) bias: Tensor,
    pub(super) epsilon: f32,
}

/// The gradients of a LayerNorm's input and parameters.
pub(super) struct NormBackward {
    pub(super) x: Tensor,
    pub(super) gain: Tensor,
    pub(super) bias: Tensor,
}

/// A linear layer's parameters; `weight` [out, in].
#[derive(Clone)]
pub(super) struct LinearWeights {
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
}

fn host(data: Vec<f32>, columns: usize) -> Result<Tensor> {
    let rows = data.len() / columns;
    Ok(Tensor::from_vec(data, (rows, columns), &Device::Cpu)?)
}

fn vector(data: Vec<f32>) -> Result<Tensor> {
    let count = data.len();
    Ok(Tensor::from_vec(data, count, &Device::Cpu)?)
}

impl Arithmetic {
    /// Applies `layers` side by side to `x` [rows, in]: [rows, sum of out].
    pub(super) fn linear(&self, x: &Tensor, layers: &[LinearWeights]) -> Result<Tensor> {
        if let [layer] = layers {
            return self.linear_onto(x, layer, None);
        }
        let outs = layers
            .iter()
            .map(|layer| self.linear_onto(x, layer, None))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&outs, 1)?)
    }

    /// `onto + x W^T + b`, [rows, out].
    pub(super) fn linear_onto(
        &self,
        x: &Tensor,
        layer: &LinearWeights,
        onto: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (out, input) = layer.weight.dims2()?;
        let rows = x.dim(0)?;
        if let Self::Candle(..) = self {
            let mut y = x.matmul(&layer.weight.t()?)?;
            if let Some(bias) = &layer.bias {
                y = y.broadcast_add(bias)?;
            }
            return Ok(match onto {
                Some(onto) => (onto + y)?,
                None => y,
            });
        }
        let (x, weight) = (values(x)?, values(&layer.weight)?);
        let bias = layer.bias.as_ref().map(values).transpose()?;
        let onto = onto.map(values).transpose()?;
        let mut y = kernel::add_bias(rows, out, bias.as_deref(), onto.as_deref());
        let weight = View::new(&weight, [out, input]).t();
        kernel::add_product(View::new(&x, [rows, input]), weight, &mut y);
        host(y, out)
    }

    /// The gradient of the input of `weights` [out, in] side by side, from that of their output,
    /// `dy` [rows, sum of out]: [rows, in].
    pub(super) fn linear_backward(&self, dy: &Tensor, weights: &[&Tensor]) -> Result<Tensor> {
        let (rows, stride) = dy.dims2()?;
        let input = weights.first().map_or(Ok(0), |weight| weight.dim(1))?;
        let mut first = 0;
        if let Self::Candle(..) = self {
            let mut sum: Option<Tensor> = None;
            for weight in weights {
                let out = weight.dim(0)?;
                let part = dy.narrow(1, first, out)?.contiguous()?.matmul(weight)?;
                sum = Some(match sum {
                    Some(sum) => (sum + part)?,
                    None => part,
                });
                first += out;
            }
            return sum.map_or_else(|| Ok(dy.clone()), Ok);
        }
        let dy = values(dy)?;
        let mut sum = vec![0.0; rows * input];
        for weight in weights {
            let out = weight.dim(0)?;
            let part = View::strided(&dy[first..], [rows, out], stride);
            kernel::add_product(part, View::new(&values(weight)?, [out, input]), &mut sum);
            first += out;
        }
        host(sum, input)
    }

    /// The sum of each column of `x` [rows, width]: `[width]`.
    pub(super) fn column_sums(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Kernel => vector(kernel::column_sums(&values(x)?, x.dim(1)?)),
            Self::Candle(..) => Ok(x.to_dtype(DType::F32)?.sum(0)?),
        }
    }

    /// `x` [rows, width] normalised.
    pub(super) fn norm(&self, x: &Tensor, weights: &NormWeights) -> Result<Tensor> {
        if let Self::Candle(..) = self {
            let (z, _) = normalised(x, weights.epsilon)?;
            let y = z
                .broadcast_mul(&weights.gain)?
                .broadcast_add(&weights.bias)?;
            return Ok(y.to_dtype(x.dtype())?);
        }
        let (gain, bias) = weights.values()?;
        let rows = values(x)?;
        let mut out = vec![0.0; rows.len()];
        kernel::layer_norm(&rows, &weights.kernel(&gain, &bias), &mut out);
        host(out, gain.len())
    }

    /// The gradients of [`Self::norm`], computed from that of its output, `dy`; `onto` is added to
    /// that of its input.
    pub(super) fn norm_backward(
        &self,
        x: &Tensor,
        weights: &NormWeights,
        dy: &Tensor,
        onto: Option<&Tensor>,
    ) -> Result<NormBackward> {
        if let Self::Candle(..) = self {
            return plain_norm_backward(x, weights, dy, onto);
        }
        let (gain, bias) = weights.values()?;
        let rows = values(x)?;
        let onto = onto.map(values).transpose()?;
        let norm = weights.kernel(&gain, &bias);
        let found = kernel::layer_norm_backward(&rows, &norm, &values(dy)?, onto.as_deref());
        Ok(NormBackward {
            x: host(found.rows, gain.len())?,
            gain: vector(found.gain)?,
            bias: vector(found.bias)?,
        })
    }

    /// The activation of every value of `x` [rows, width].
    pub(super) fn activate(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        match (self, activation) {
            (Self::Kernel, _) => {
                let active = kernel::activate_rows(of_kernel(activation), &values(x)?);
                host(active, x.dim(1)?)
            }
            (Self::Candle(..), Activation::Gelu) => Ok(x.gelu_erf()?),
            (Self::Candle(..), Activation::QuickGelu) => {
                Ok((x * candle_nn::ops::sigmoid(&(x * 1.702)?)?)?)
            }
        }
    }

    /// The gradient of an activation's input `x`, computed from that of its output.
    pub(super) fn activate_backward(
        &self,
        x: &Tensor,
        activation: Activation,
        dy: &Tensor,
    ) -> Result<Tensor> {
        if let Self::Kernel = self {
            let mut gradient = values(dy)?.to_vec();
            let activation = of_kernel(activation);
            kernel::activation_backward(activation, &values(x)?, &mut gradient);
            return host(gradient, x.dim(1)?);
        }
        let z = x.to_dtype(DType::F32)?;
        let slope = match activation {
            Activation::QuickGelu => {
                let s = candle_nn::ops::sigmoid(&(&z * 1.702)?)?;
                let rest = (1.0 - &s)?;
                (&s + ((&z * 1.702)? * (&s * rest)?)?)?
            }
            Activation::Gelu => {
                let below = ((&z * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?;
                let density = ((z.sqr()? * -0.5)?.exp()? * 0.398_942_280_401_432_7)?;
                ((below * 0.5)? + (&z * density)?)?
            }
        };
        Ok((dy * slope.to_dtype(dy.dtype())?)?)
    }

    /// Attention over `qkv` [rows, 3 width]: [rows, width], or one row for each of `queries`.
    pub(super) fn attention(
        &self,
        shape: Attention,
        qkv: &Tensor,
        sequences: &Sequences,
        queries: Option<&[usize]>,
    ) -> Result<Tensor> {
        let packed = matches!(self, Self::Kernel);
        shape.forward(qkv, sequences, queries, packed)
    }

    /// The gradient of `qkv`, computed from that of the output of [`Self::attention`].
    pub(super) fn attention_backward(
        &self,
        shape: Attention,
        qkv: &Tensor,
        sequences: &Sequences,
        queries: Option<&[usize]>,
        dy: &Tensor,
    ) -> Result<Tensor> {
        if let Self::Candle(..) = self {
            return plain_attention_backward(shape, qkv, sequences, queries, dy);
        }
        let sizes = AttentionShape {
            heads: shape.heads,
            head_dim: shape.width / shape.heads,
            causal: sequences.causal,
        };
        let gradient = kernel::attention_backward(
            &values(qkv)?,
            &sizes,
            &sequences.segments,
            queries,
            &values(dy)?,
        );
        host(gradient, 3 * shape.width)
    }
}

impl NormWeights {
    /// The values of gain and bias.
    fn values(
        &self,
    ) -> Result<(
        impl Deref<Target = [f32]> + '_,
        impl Deref<Target = [f32]> + '_,
    )> {
        Ok((values(&self.gain)?, values(&self.bias)?))
    }

    fn kernel<'a>(&self, gain: &'a [f32], bias: &'a [f32]) -> Norm<'a> {
        Norm {
            gain,
            bias,
            epsilon: self.epsilon,
        }
    }
}

fn of_kernel(activation: Activation) -> kernel::Activation {
    match activation {
        Activation::QuickGelu => kernel::Activation::QuickGelu,
        Activation::Gelu => kernel::Activation::Gelu,
    }
}

/// `x` [rows, width] -> rows of mean 0 and standard deviation 1 in f32, and the inverse standard
/// deviations [rows, 1].
fn normalised(x: &Tensor, epsilon: f32) -> Result<(Tensor, Tensor)> {
    let wide = x.to_dtype(DType::F32)?;
    let centred = wide.broadcast_sub(&wide.mean_keepdim(1)?)?;
    let variance = centred.sqr()?.mean_keepdim(1)?;
    let factor = (variance + f64::from(epsilon))?.sqrt()?.recip()?;
    Ok((centred.broadcast_mul(&factor)?, factor))
}

fn plain_norm_backward(
    x: &Tensor,
    weights: &NormWeights,
    dy: &Tensor,
    onto: Option<&Tensor>,
) -> Result<NormBackward> {
    let (z, factor) = normalised(x, weights.epsilon)?;
    let wide = dy.to_dtype(DType::F32)?;
    let scaled = wide.broadcast_mul(&weights.gain)?;
    let along = (&scaled * &z)?.mean_keepdim(1)?;
    let centred = scaled.broadcast_sub(&scaled.mean_keepdim(1)?)?;
    let dx = (centred - z.broadcast_mul(&along)?)?
        .broadcast_mul(&factor)?
        .to_dtype(x.dtype())?;
    Ok(NormBackward {
        x: match onto {
            Some(onto) => (onto + dx)?,
            None => dx,
        },
        gain: (&wide * &z)?.sum(0)?,
        bias: wide.sum(0)?,
    })
}

/// For sequences of equal length.
fn plain_attention_backward(
    shape: Attention,
    qkv: &Tensor,
    sequences: &Sequences,
    queries: Option<&[usize]>,
    dy: &Tensor,
) -> Result<Tensor> {
    let rows = qkv.dim(0)?;
    let Some(length) = sequences.uniform_length() else {
        anyhow::bail!("the sequences differ in length")
    };
    let dy = match queries {
        None => dy.clone(),
        Some(queries) => {
            let index: Vec<u32> = queries.iter().map(|&row| row as u32).collect();
            let index = Tensor::new(index, dy.device())?;
            Tensor::zeros((rows, shape.width), dy.dtype(), dy.device())?.index_add(&index, dy, 0)?
        }
    };
    let dim = shape.width / shape.heads;
    let n = rows / length;
    let split = qkv
        .reshape((n, length, 3, shape.heads, dim))?
        .permute((2, 0, 3, 1, 4))?; // [3, n, heads, length, dim]
    let part = |index| -> Result<Tensor> { Ok(split.get(index)?.contiguous()?) };
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let dy = dy
        .reshape((n, length, shape.heads, dim))?
        .transpose(1, 2)?
        .contiguous()?; // [n, heads, length, dim]
    let weights = shape.weights(&q, &k, sequences.causal)?; // [n, heads, length, length]
    let half = weights.to_dtype(v.dtype())?;
    let dv = half.t()?.contiguous()?.matmul(&dy)?;
    let dp = dy.matmul(&v.t()?.contiguous()?)?.to_dtype(DType::F32)?;
    let mean = (&weights * &dp)?.sum_keepdim(3)?;
    let ds = ((weights * dp.broadcast_sub(&mean)?)? * (dim as f64).powf(-0.5))?;
    let ds = ds.to_dtype(q.dtype())?;
    let dq = ds.matmul(&k)?;
    let dk = ds.t()?.contiguous()?.matmul(&q)?;
    let all = Tensor::stack(&[dq, dk, dv], 0)? // [3, n, heads, length, dim]
        .permute((1, 3, 0, 2, 4))?
        .reshape((rows, 3 * shape.width))?;
    Ok(all)
}

/// Selects rows of `x`, in order.
pub(super) fn rows_of(x: &Tensor, rows: &[usize]) -> Result<Tensor> {
    gather(x, rows)
}

/// `x` [queries, width] added to the rows `queries` of `onto` [rows, width].
pub(super) fn add_rows(onto: &Tensor, queries: &[usize], x: &Tensor) -> Result<Tensor> {
    let index: Vec<u32> = queries.iter().map(|&row| row as u32).collect();
    Ok(onto.index_add(&Tensor::new(index, x.device())?, x, 0)?)
}

/// The values of a contiguous f32 tensor on the CPU, borrowed: the lock guard of its storage and
/// the tensor's part of it.
struct Values<G> {
    guard: G,
    range: Range<usize>,
}

/// Borrows the values of a contiguous f32 tensor on the CPU.
///
/// # Errors
/// When the tensor is not on the CPU, not f32 or not contiguous.
pub(super) fn values(tensor: &Tensor) -> Result<impl Deref<Target = [f32]> + '_> {
    let (guard, layout) = tensor.storage_and_layout();
    let (start, end) = layout
        .contiguous_offsets()
        .with_context(|| format!("a tensor {:?} is not contiguous", tensor.dims()))?;
    let Storage::Cpu(CpuStorage::F32(_)) = &*guard else {
        bail!("a tensor {:?} is not f32 on the CPU", tensor.dims())
    };
    Ok(Values {
        guard,
        range: start..end,
    })
}

impl<G: Deref<Target = Storage>> Deref for Values<G> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.guard {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            // `values` rejects all others.
            _ => &[],
        }
    }
}
