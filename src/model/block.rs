//! A pre-norm transformer block, and a stack of them.

use anyhow::{Result, bail};
use candle_core::Tensor;
use rayon::prelude::*;

use super::attention::{Attention, gather};
use super::compute::{Compute, Part};
use super::layer::{LayerNorm, Linear};
use super::sequences::Sequences;
use super::smoothing::Smoothing;
use super::weights::Weights;
use crate::checkpoint::architecture::{Activation, Tower};
use crate::kernel;

/// One residual block: attention, then the MLP.
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    attention: Attention,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
}

impl Block {
    /// `x` [rows, width] -> the same shape. On the CPU `x` is written in place.
    fn forward(&self, x: Tensor, sequences: &Sequences) -> Result<Tensor> {
        let packed = self.qkv.is_packed();
        let qkv = self.qkv.forward_norm(&x, &self.norm1, None)?; // [rows, 3 width]
        let mixed = self.attention.forward(&qkv, sequences, None, packed)?; // [rows, width]
        let x = self.out.add_into(&mixed, x)?;
        self.mlp(x)
    }

    /// Like `forward`, for the last block: everything after keys and values is computed for the
    /// rows `queries` alone. `x` [rows, width] -> [queries, width].
    fn forward_pooled(
        &self,
        x: &Tensor,
        sequences: &Sequences,
        queries: &[usize],
    ) -> Result<Tensor> {
        let mixed = self.attend_pooled(x, sequences, queries)?;
        let x = self.out.add_into(&mixed, gather(x, queries)?)?;
        self.mlp(x)
    }

    /// Queries, keys and values, and the attention of the rows `queries`: `x` [rows, width] ->
    /// [queries, width].
    fn attend_pooled(
        &self,
        x: &Tensor,
        sequences: &Sequences,
        queries: &[usize],
    ) -> Result<Tensor> {
        let qkv = self.qkv.forward_norm(x, &self.norm1, None)?; // [rows, 3 width]
        let packed = self.qkv.is_packed();
        self.attention
            .forward(&qkv, sequences, Some(queries), packed)
    }

    fn mlp(&self, x: Tensor) -> Result<Tensor> {
        let activation = Some(self.activation);
        let hidden = self.fc1.forward_norm(&x, &self.norm2, activation)?; // [rows, mlp width]
        self.fc2.add_into(&hidden, x)
    }

    fn load(weights: &Weights, path: &str, layer: usize, tower: &Tower) -> Result<Self> {
        let norm1 = weights.layer_norm(&format!("{path}.layer_norm1"), tower.norm_epsilon)?;
        let norm2 = weights.layer_norm(&format!("{path}.layer_norm2"), tower.norm_epsilon)?;
        let smoothing = Smoothing {
            weights,
            path,
            norms: [&norm1, &norm2],
        };
        let linear = |part: Part, names: &[&str]| {
            let paths: Vec<_> = names.iter().map(|name| format!("{path}.{name}")).collect();
            let precision = match weights.compute {
                Compute::Kernel(precision) => precision.of(part, layer, tower.layers),
                Compute::Candle(..) => kernel::Precision::F32,
            };
            let factors = match precision {
                kernel::Precision::Int8 => Some(smoothing.factors(part, &paths)?),
                kernel::Precision::F32 | kernel::Precision::Bf16 => None,
            };
            weights.linear(&paths, true, precision, factors.as_deref())
        };
        Ok(Self {
            qkv: linear(
                Part::Qkv,
                &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            )?,
            out: linear(Part::Out, &["self_attn.out_proj"])?,
            fc1: linear(Part::Fc1, &["mlp.fc1"])?,
            fc2: linear(Part::Fc2, &["mlp.fc2"])?,
            attention: Attention {
                width: tower.width,
                heads: tower.heads,
                bf16: match weights.compute {
                    Compute::Kernel(precision) => {
                        precision.of(Part::Qkv, layer, tower.layers) != kernel::Precision::F32
                    }
                    Compute::Candle(..) => false,
                },
            },
            norm1,
            norm2,
            activation: weights.checkpoint.activation,
        })
    }
}

/// Residual blocks, one after the other.
pub(super) struct Transformer {
    blocks: Vec<Block>,
}

impl Transformer {
    pub(super) fn load(weights: &Weights, path: &str, tower: &Tower) -> Result<Self> {
        let blocks = (0..tower.layers)
            .into_par_iter()
            .map(|layer| {
                let path = format!("{path}.encoder.layers.{layer}");
                Block::load(weights, &path, layer, tower)
            })
            .collect::<Result<_>>()?;
        Ok(Self { blocks })
    }

    /// `x` [rows, width] through all blocks -> the rows `queries` alone, [queries, width].
    ///
    /// On the CPU `x` is written in place, so the caller must have made it.
    pub(super) fn forward_pooled(
        &self,
        mut x: Tensor,
        sequences: &Sequences,
        queries: &[usize],
    ) -> Result<Tensor> {
        let Some((last, first)) = self.blocks.split_last() else {
            bail!("a transformer without layers");
        };
        for block in first {
            x = block.forward(x, sequences)?;
        }
        last.forward_pooled(&x, sequences, queries)
    }

    /// Like [`Self::forward_pooled`] for several inputs of one shape on the CPU, `xs` each
    /// [tokens, width] and pooled at row 0 -> [inputs, width]. A layer's weights stay in the cache
    /// while every input passes through it.
    pub(super) fn forward_each(
        &self,
        mut xs: Vec<Tensor>,
        sequences: &Sequences,
    ) -> Result<Tensor> {
        let Some((last, first)) = self.blocks.split_last() else {
            bail!("a transformer without layers");
        };
        for block in first {
            for x in &mut xs {
                *x = block.forward(x.clone(), sequences)?;
            }
        }
        // One row of each is left: together they use the weights once.
        let mut mixed = Vec::new();
        let mut pooled = Vec::new();
        for x in &xs {
            mixed.push(last.attend_pooled(x, sequences, &[0])?);
            pooled.push(x.narrow(0, 0, 1)?);
        }
        let x = Tensor::cat(&pooled, 0)?; // [inputs, width]
        let x = last.out.add_into(&Tensor::cat(&mixed, 0)?, x)?;
        last.mlp(x)
    }
}
