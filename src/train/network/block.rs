//! Forward and backward passes of a residual block.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::gradients::Gradients;
use super::operation::{LinearWeights, NormWeights, add_rows, rows_of};
use super::{Arithmetic, Network, Working};
use crate::checkpoint::architecture::{Activation, Tower};
use crate::model::attention::Attention;
use crate::model::sequences::Sequences;

/// The segmentation of rows into sequences, and the rows that are pooled at the end.
pub(super) struct Rows {
    pub(super) sequences: Sequences,
    /// One row per sequence, ascending.
    pub(super) pooled: Vec<usize>,
}

/// A tower's stack of blocks.
pub(super) struct Stack<'a> {
    pub(super) network: &'a Network,
    pub(super) weights: &'a Working,
    /// `vision_model` or `text_model`.
    pub(super) path: &'static str,
    pub(super) tower: &'a Tower,
}

/// Values that a block keeps for its backward pass.
pub(super) struct BlockTape {
    /// Its input [rows, width].
    x: Tensor,
    /// Queries, keys and values [rows, 3 width].
    pub(super) qkv: Tensor,
    /// Output of the attention [asked, width].
    mixed: Tensor,
    /// After the first residual [asked, width].
    middle: Tensor,
    /// Before the activation [asked, mlp width].
    hidden: Tensor,
}

/// The tapes of the blocks from the lowest trained one on.
pub(super) struct StackTape {
    first: usize,
    blocks: Vec<BlockTape>,
}

/// One block of a stack.
struct Block<'a> {
    arithmetic: &'a Arithmetic,
    weights: &'a Working,
    path: String,
    attention: Attention,
    epsilon: f32,
    activation: Activation,
    rows: &'a Rows,
    /// The last block computes only the pooled rows.
    last: bool,
}

const PARTS: [&str; 3] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];

impl<'a> Stack<'a> {
    fn block(&self, layer: usize, rows: &'a Rows) -> Block<'a> {
        Block {
            arithmetic: &self.network.arithmetic,
            weights: self.weights,
            path: format!("{}.encoder.layers.{layer}", self.path),
            attention: Attention {
                width: self.tower.width,
                heads: self.tower.heads,
                bf16: false,
            },
            epsilon: self.tower.norm_epsilon,
            activation: self.network.activation,
            rows,
            last: layer + 1 == self.tower.layers,
        }
    }

    /// `x` [rows, width] -> the pooled rows [sequences, width], and a tape of the blocks from
    /// `keep` on, if any.
    pub(super) fn forward(
        &self,
        mut x: Tensor,
        rows: &'a Rows,
        keep: Option<usize>,
    ) -> Result<(Tensor, Option<StackTape>)> {
        let mut tape = keep.map(|first| StackTape {
            first,
            blocks: Vec::new(),
        });
        for layer in 0..self.tower.layers {
            let (y, kept) = self.block(layer, rows).forward(x)?;
            x = y;
            if let Some(tape) = tape.as_mut().filter(|tape| layer >= tape.first) {
                tape.blocks.push(kept);
            }
        }
        Ok((x, tape))
    }

    /// Computes the gradient of the input of the lowest block on the tape, [rows, width], from that
    /// of the pooled rows, `dy` [sequences, width].
    pub(super) fn backward(
        &self,
        mut tape: StackTape,
        rows: &'a Rows,
        mut dy: Tensor,
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        while let Some(kept) = tape.blocks.pop() {
            let layer = tape.first + tape.blocks.len();
            dy = self.block(layer, rows).backward(kept, dy, gradients)?;
        }
        Ok(dy)
    }

    /// `x` [rows, width] through the blocks `layers`, all rows of the last one too: the output of
    /// each, with its tape.
    pub(super) fn outputs(
        &self,
        mut x: Tensor,
        rows: &'a Rows,
        layers: Range<usize>,
    ) -> Result<Vec<(Tensor, BlockTape)>> {
        let mut outputs = Vec::new();
        for layer in layers {
            let (y, tape) = self.whole(layer, rows).forward(x)?;
            x = y.clone();
            outputs.push((y, tape));
        }
        Ok(outputs)
    }

    /// The gradient of the attention's output in block `layer`, [rows, width], from that of the
    /// block's output, `dy` [rows, width].
    pub(super) fn mixed_gradient(
        &self,
        layer: usize,
        rows: &'a Rows,
        tape: &BlockTape,
        dy: Tensor,
    ) -> Result<Tensor> {
        self.whole(layer, rows).mixed_backward(tape, dy)
    }

    /// The last block for the pooled rows, with attention as `attend` has it: queries, keys and
    /// values [rows, 3 width] -> [pooled, width]. Returns the output and the tape.
    pub(super) fn last_with(
        &self,
        x: Tensor,
        rows: &'a Rows,
        attend: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<(Tensor, BlockTape)> {
        let block = self.last(rows);
        let qkv = block.qkv(&x)?;
        let mixed = attend(&qkv)?;
        block.finish(x, qkv, mixed)
    }

    /// The gradient of the pooled rows of the last block's attention, [pooled, width], from that of
    /// its output.
    pub(super) fn last_mixed_gradient(
        &self,
        rows: &'a Rows,
        tape: &BlockTape,
        dy: Tensor,
    ) -> Result<Tensor> {
        self.last(rows).mixed_backward(tape, dy)
    }

    /// Each row of `x` [rows, width] through the last block's output matrix.
    pub(super) fn last_out(&self, rows: &'a Rows, x: &Tensor) -> Result<Tensor> {
        let block = self.last(rows);
        let out = block.linear("self_attn.out_proj")?;
        block.arithmetic.linear(x, &[out])
    }

    fn last(&self, rows: &'a Rows) -> Block<'a> {
        self.block(self.tower.layers.saturating_sub(1), rows)
    }

    fn whole(&self, layer: usize, rows: &'a Rows) -> Block<'a> {
        Block {
            last: false,
            ..self.block(layer, rows)
        }
    }

    /// The lowest block with a trained parameter.
    pub(super) fn lowest(&self, gradients: &Gradients) -> Option<usize> {
        (0..self.tower.layers)
            .find(|layer| gradients.wants_any(&format!("{}.encoder.layers.{layer}.", self.path)))
    }
}

impl Block<'_> {
    fn linear(&self, name: &str) -> Result<LinearWeights> {
        self.weights.linear(&format!("{}.{name}", self.path), true)
    }

    fn norm(&self, name: &str) -> Result<NormWeights> {
        let path = format!("{}.{name}", self.path);
        self.weights.norm(&path, self.epsilon)
    }

    fn queries(&self) -> Option<&[usize]> {
        self.last.then_some(self.rows.pooled.as_slice())
    }

    fn asked(&self, x: &Tensor) -> Result<Tensor> {
        match self.queries() {
            Some(queries) => rows_of(x, queries),
            None => Ok(x.clone()),
        }
    }

    fn forward(&self, x: Tensor) -> Result<(Tensor, BlockTape)> {
        let (a, sequences) = (self.arithmetic, &self.rows.sequences);
        let qkv = self.qkv(&x)?;
        let mixed = a.attention(self.attention, &qkv, sequences, self.queries())?;
        self.finish(x, qkv, mixed)
    }

    /// Queries, keys and values of `x` [rows, width]: [rows, 3 width].
    fn qkv(&self, x: &Tensor) -> Result<Tensor> {
        let a = self.arithmetic;
        let normed = a.norm(x, &self.norm("layer_norm1")?)?;
        let parts = PARTS.map(|part| self.linear(part));
        let parts = parts.into_iter().collect::<Result<Vec<_>>>()?;
        a.linear(&normed, &parts)
    }

    /// What follows the attention, whose output is `mixed` [asked, width].
    fn finish(&self, x: Tensor, qkv: Tensor, mixed: Tensor) -> Result<(Tensor, BlockTape)> {
        let a = self.arithmetic;
        let out = self.linear("self_attn.out_proj")?;
        let middle = a.linear_onto(&mixed, &out, Some(&self.asked(&x)?))?;
        let normed = a.norm(&middle, &self.norm("layer_norm2")?)?;
        let hidden = a.linear(&normed, &[self.linear("mlp.fc1")?])?; // [asked, mlp width]
        let active = a.activate(&hidden, self.activation)?;
        let y = a.linear_onto(&active, &self.linear("mlp.fc2")?, Some(&middle))?;
        let tape = BlockTape {
            x,
            qkv,
            mixed,
            middle,
            hidden,
        };
        Ok((y, tape))
    }

    fn backward(&self, tape: BlockTape, dy: Tensor, gradients: &mut Gradients) -> Result<Tensor> {
        let a = self.arithmetic;
        let middle = self.mlp_backward(&tape, dy, gradients)?; // [asked, width]
        let out = self.linear("self_attn.out_proj")?;
        self.add_linear("self_attn.out_proj", &middle, 0, &tape.mixed, gradients)?;
        let mixed = a.linear_backward(&middle, &[&out.weight])?;
        let qkv = a.attention_backward(
            self.attention,
            &tape.qkv,
            &self.rows.sequences,
            self.queries(),
            &mixed,
        )?;
        drop((mixed, tape.qkv));
        let norm = self.norm("layer_norm1")?;
        let normed = a.norm(&tape.x, &norm)?;
        let mut first = 0;
        let mut weights = Vec::new();
        for part in PARTS {
            self.add_linear(part, &qkv, first, &normed, gradients)?;
            weights.push(self.linear(part)?.weight);
            first += self.attention.width;
        }
        let weights: Vec<_> = weights.iter().collect();
        let normed = a.linear_backward(&qkv, &weights)?;
        // In the last block, the residual passes gradients only to the pooled rows.
        let onto = if self.last { None } else { Some(&middle) };
        let back = a.norm_backward(&tape.x, &norm, &normed, onto)?;
        self.add_norm("layer_norm1", &back.gain, &back.bias, gradients)?;
        match self.queries() {
            Some(queries) => add_rows(&back.x, queries, &middle),
            None => Ok(back.x),
        }
    }

    /// Computes the gradient of the attention's output, with no gradient of a parameter.
    fn mixed_backward(&self, tape: &BlockTape, dy: Tensor) -> Result<Tensor> {
        let a = self.arithmetic;
        let mut none = Gradients::new(a.clone(), BTreeMap::new());
        let middle = self.mlp_backward(tape, dy, &mut none)?;
        a.linear_backward(&middle, &[&self.linear("self_attn.out_proj")?.weight])
    }

    /// Computes the gradient of the value between the block's two halves from that of its output.
    fn mlp_backward(
        &self,
        tape: &BlockTape,
        dy: Tensor,
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        let a = self.arithmetic;
        let (fc1, fc2) = (self.linear("mlp.fc1")?, self.linear("mlp.fc2")?);
        let active = a.activate(&tape.hidden, self.activation)?;
        self.add_linear("mlp.fc2", &dy, 0, &active, gradients)?;
        drop(active);
        let active = a.linear_backward(&dy, &[&fc2.weight])?;
        let hidden = a.activate_backward(&tape.hidden, self.activation, &active)?;
        let norm = self.norm("layer_norm2")?;
        let normed = a.norm(&tape.middle, &norm)?;
        self.add_linear("mlp.fc1", &hidden, 0, &normed, gradients)?;
        let normed = a.linear_backward(&hidden, &[&fc1.weight])?;
        let back = a.norm_backward(&tape.middle, &norm, &normed, Some(&dy))?;
        self.add_norm("layer_norm2", &back.gain, &back.bias, gradients)?;
        Ok(back.x)
    }

    /// Adds a linear layer's gradients, computed from that of its output (the columns from `first`
    /// on of `dy`) and its input.
    fn add_linear(
        &self,
        name: &str,
        dy: &Tensor,
        first: usize,
        x: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let path = format!("{}.{name}", self.path);
        let bias = format!("{path}.bias");
        let layer = self.linear(name)?;
        let out = layer.weight.dim(0)?;
        if gradients.wants(&bias) {
            let part = if out == dy.dim(1)? {
                dy.clone()
            } else {
                dy.narrow(1, first, out)?.contiguous()?
            };
            gradients.add(&bias, &self.arithmetic.column_sums(&part)?)?;
        }
        gradients
            .add_matrix(&format!("{path}.weight"), out, dy, first, x)
            .with_context(|| format!("computing the gradient of {path}"))
    }

    fn add_norm(
        &self,
        name: &str,
        gain: &Tensor,
        bias: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let path = format!("{}.{name}", self.path);
        gradients.add(&format!("{path}.weight"), gain)?;
        gradients.add(&format!("{path}.bias"), bias)
    }
}
