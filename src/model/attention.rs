//! Multi-head self-attention over sequences that may share prefixes.

use anyhow::{Result, ensure};
use candle_core::{CpuStorage, CustomOp1, D, DType, Device, Layout, Shape, Tensor};

use super::layer::matrix;
use super::sequences::Sequences;
use crate::kernel::{self, AttentionShape, Segment};

/// The shape of one layer's attention.
#[derive(Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) width: usize,
    pub(crate) heads: usize,
    /// Products in bfloat16 if the CPU supports it; sums and softmax stay in f32.
    pub(crate) bf16: bool,
}

impl Attention {
    /// `qkv` [rows, 3 width] -> [rows, width], or one row for each of `queries`.
    pub(crate) fn forward(
        &self,
        qkv: &Tensor,
        sequences: &Sequences,
        queries: Option<&[usize]>,
        packed: bool,
    ) -> Result<Tensor> {
        if packed {
            let op = AttentionOp {
                attention: *self,
                sequences,
                queries,
            };
            return Ok(qkv.apply_op1_no_bwd(&op)?);
        }
        let all = match sequences.uniform_length() {
            Some(length) => self.uniform(qkv, length, sequences.causal)?,
            None => self.segments(qkv, sequences)?,
        };
        match queries {
            None => Ok(all),
            Some(rows) => gather(&all, rows),
        }
    }

    /// Sequences of equal length without shared prefixes: one batched product.
    fn uniform(&self, qkv: &Tensor, length: usize, causal: bool) -> Result<Tensor> {
        let rows = qkv.dim(0)?;
        let head_dim = self.width / self.heads;
        let split = qkv
            .reshape((rows / length, length, 3, self.heads, head_dim))?
            .permute((2, 0, 3, 1, 4))?; // [3, n, heads, length, head_dim]
        let part = |index| split.get(index)?.contiguous();
        let mask = causal
            .then(|| mask(length, length, qkv.device()))
            .transpose()?;
        let out = attend(&part(0)?, &part(1)?, &part(2)?, mask.as_ref())?;
        Ok(out.transpose(1, 2)?.reshape((rows, self.width))?)
    }

    /// softmax(q k^T / sqrt(head_dim)) in f32 for `queries` and `keys` [n, heads, length,
    /// head_dim]: [n, heads, length, length].
    pub(crate) fn weights(&self, queries: &Tensor, keys: &Tensor, causal: bool) -> Result<Tensor> {
        let length = queries.dim(2)?;
        let mask = causal
            .then(|| mask(length, length, queries.device()))
            .transpose()?;
        weights(queries, keys, mask.as_ref())
    }

    fn segments(&self, qkv: &Tensor, sequences: &Sequences) -> Result<Tensor> {
        let mut outputs = Vec::new();
        let mut next = 0;
        for segment in &sequences.segments {
            ensure!(segment.rows.start == next, "segments must be consecutive");
            next = segment.rows.end;
            outputs.push(self.segment(qkv, segment, sequences.causal)?);
        }
        Ok(Tensor::cat(&outputs, 0)?)
    }

    fn segment(&self, qkv: &Tensor, segment: &Segment, causal: bool) -> Result<Tensor> {
        let own = segment.rows.len();
        let mut context: Vec<Tensor> = Vec::new();
        for range in segment.prefix.iter().chain([&segment.rows]) {
            context.push(qkv.narrow(0, range.start, range.len())?);
        }
        let seen = Tensor::cat(&context, 0)?; // [prefix + own, 3 width]
        let total = seen.dim(0)?;
        let heads = |part: usize, start: usize, rows: usize| -> Result<Tensor> {
            let head_dim = self.width / self.heads;
            Ok(seen
                .narrow(0, start, rows)?
                .narrow(1, part * self.width, self.width)?
                .reshape((rows, self.heads, head_dim))?
                .transpose(0, 1)?
                .unsqueeze(0)?
                .contiguous()?) // [1, heads, rows, head_dim]
        };
        let queries = heads(0, total - own, own)?;
        let mask = causal.then(|| mask(own, total, qkv.device())).transpose()?;
        let out = attend(
            &queries,
            &heads(1, 0, total)?,
            &heads(2, 0, total)?,
            mask.as_ref(),
        )?;
        Ok(out
            .squeeze(0)?
            .transpose(0, 1)?
            .reshape((own, self.width))?)
    }
}

/// `queries` [n, heads, own, head_dim], `keys` and `values` [n, heads, all, head_dim] ->
/// [n, heads, own, head_dim]; the softmax is computed in f32.
pub(super) fn attend(
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let weights = weights(queries, keys, mask)?;
    Ok(weights.to_dtype(values.dtype())?.matmul(values)?)
}

/// Attention weights in f32: [n, heads, own, all].
fn weights(queries: &Tensor, keys: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let scale = (queries.dim(D::Minus1)? as f64).powf(-0.5);
    let scores = (queries * scale)?
        .matmul(&keys.t()?)?
        .to_dtype(DType::F32)?;
    let scores = match mask {
        Some(mask) => scores.broadcast_add(mask)?,
        None => scores,
    };
    Ok(candle_nn::ops::softmax_last_dim(&scores)?)
}

/// The causal mask for the last `own` of `total` tokens: zero or minus infinity,
/// [own, total].
fn mask(own: usize, total: usize, device: &Device) -> Result<Tensor> {
    let shift = total - own;
    let values: Vec<f32> = (0..own)
        .flat_map(|row| (0..total).map(move |column| (row, column)))
        .map(|(row, column)| {
            if column > row + shift {
                f32::NEG_INFINITY
            } else {
                0.0
            }
        })
        .collect();
    Ok(Tensor::from_vec(values, (own, total), device)?)
}

/// Selects rows of `x` [rows, width], in the given order.
pub(crate) fn gather(x: &Tensor, rows: &[usize]) -> Result<Tensor> {
    let index: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
    let index = Tensor::new(index, x.device())?;
    Ok(x.index_select(&index, 0)?)
}

struct AttentionOp<'a> {
    attention: Attention,
    sequences: &'a Sequences,
    queries: Option<&'a [usize]>,
}

impl CustomOp1 for AttentionOp<'_> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let Attention { width, heads, bf16 } = self.attention;
        let (qkv, rows) = matrix(storage, layout, 3 * width)?;
        let out_rows = self.queries.map_or(rows, <[usize]>::len);
        let mut out = vec![0.0; out_rows * width];
        let shape = AttentionShape {
            heads,
            head_dim: width / heads,
            causal: self.sequences.causal,
        };
        let attend = if bf16 {
            kernel::attention_bf16
        } else {
            kernel::attention
        };
        attend(
            qkv,
            &shape,
            &self.sequences.segments,
            self.queries,
            &mut out,
        );
        Ok((CpuStorage::F32(out), (out_rows, width).into()))
    }
}
