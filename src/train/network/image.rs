//! Forward and backward passes of the image tower.

use anyhow::{Result, bail};
use candle_core::{DType, Tensor};

use super::block::{Rows, Stack, StackTape};
use super::gradients::Gradients;
use super::{Network, Working};
use crate::checkpoint::architecture::{ImageTower, VisionTransformer};
use crate::model::sequences::Sequences;

const PATH: &str = "vision_model";
const PATCHES: &str = "vision_model.embeddings.patch_embedding";
const CLASS: &str = "vision_model.embeddings.class_embedding";
const POSITIONS: &str = "vision_model.embeddings.position_embedding.weight";
const PRE_NORM: &str = "vision_model.pre_layrnorm";
const POST_NORM: &str = "vision_model.post_layernorm";
const PROJECTION: &str = "visual_projection";

/// Values that the image tower keeps for its backward pass.
pub(crate) struct ImageTape {
    rows: Rows,
    embedded: Option<Embedded>,
    stack: Option<StackTape>,
    /// After the last block [n, width].
    pooled: Tensor,
}

/// Values kept by the part before the first block.
struct Embedded {
    /// [n patches, 3 patch patch]
    patches: Tensor,
    /// Tokens before the first LayerNorm [n tokens, width].
    tokens: Tensor,
}

/// The tower with the weights of one step.
pub(super) struct Images<'a> {
    network: &'a Network,
    weights: &'a Working,
    sizes: &'a VisionTransformer,
}

impl<'a> Images<'a> {
    pub(super) fn new(network: &'a Network, weights: &'a Working) -> Result<Self> {
        match &network.architecture.image {
            ImageTower::VisionTransformer(sizes) => Ok(Self {
                network,
                weights,
                sizes,
            }),
            ImageTower::ResNet(_) => bail!(
                "the image tower is a ResNet, which longclip cannot train; train the text tower \
                 alone with --train text"
            ),
        }
    }

    pub(super) fn stack(&self) -> Stack<'_> {
        Stack {
            network: self.network,
            weights: self.weights,
            path: PATH,
            tower: &self.sizes.tower,
        }
    }

    pub(super) fn rows(&self, n: usize) -> Rows {
        let tokens = self.sizes.tokens();
        Rows {
            sequences: Sequences::images(n, tokens),
            pooled: (0..n).map(|image| image * tokens).collect(),
        }
    }

    /// Tokens of `pixels` [1, 3, size, size] before the first block, [tokens, width].
    pub(super) fn tokens(&self, pixels: &Tensor) -> Result<Tensor> {
        let tokens = self.embed(&self.patches(pixels)?, 1)?;
        let epsilon = self.sizes.tower.norm_epsilon;
        let pre_norm = self.weights.norm(PRE_NORM, epsilon)?;
        self.network.arithmetic.norm(&tokens, &pre_norm)
    }

    /// `pooled` [1, width] after the last norm and the projection, `[embed_dim]`.
    pub(super) fn projected(&self, pooled: &Tensor) -> Result<Vec<f32>> {
        let a = &self.network.arithmetic;
        let norm = (self.weights).norm(POST_NORM, self.sizes.tower.norm_epsilon)?;
        let projection = self.weights.linear(PROJECTION, false)?;
        let out = a.linear(&a.norm(pooled, &norm)?, &[projection])?;
        Ok(out.flatten_all()?.to_vec1()?)
    }

    /// The gradient of `pooled` [1, width] for the product of its embedding, made of unit length,
    /// with `text`.
    pub(super) fn pooled_gradient(&self, pooled: &Tensor, text: &[f32]) -> Result<Tensor> {
        let a = &self.network.arithmetic;
        let norm = (self.weights).norm(POST_NORM, self.sizes.tower.norm_epsilon)?;
        let projection = self.weights.linear(PROJECTION, false)?;
        let out = self.projected(pooled)?;
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            let terms = a.iter().zip(b);
            terms.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let length = dot(&out, &out).sqrt();
        let along = dot(&out, text) / (length * length);
        let gradient = out.iter().zip(text);
        let gradient: Vec<f32> = gradient
            .map(|(x, t)| ((f64::from(*t) - along * f64::from(*x)) / length) as f32)
            .collect();
        let gradient = Tensor::from_vec(gradient, (1, out.len()), a.device())?;
        let normed = a.linear_backward(&gradient, &[&projection.weight])?;
        Ok(a.norm_backward(pooled, &norm, &normed, None)?.x)
    }

    /// Whether anything before the first block is trained.
    fn embedding_is_trained(gradients: &Gradients) -> bool {
        gradients.wants_any("vision_model.embeddings.") || gradients.wants_any(PRE_NORM)
    }

    /// `pixels` [n, 3, size, size] -> [n, embed_dim], not normalised, and a tape for what
    /// `gradients` wants.
    pub(super) fn forward(
        &self,
        pixels: &Tensor,
        gradients: Option<&Gradients>,
    ) -> Result<(Tensor, Option<ImageTape>)> {
        let a = &self.network.arithmetic;
        let n = pixels.dim(0)?;
        let patches = self.patches(pixels)?;
        let tokens = self.embed(&patches, n)?; // [n tokens, width]
        let epsilon = self.sizes.tower.norm_epsilon;
        let x = a.norm(&tokens, &self.weights.norm(PRE_NORM, epsilon)?)?;
        let trains = gradients.is_some_and(Self::embedding_is_trained);
        let stack = self.stack();
        let keep = if trains {
            Some(0)
        } else {
            gradients.and_then(|gradients| stack.lowest(gradients))
        };
        let rows = self.rows(n);
        let (pooled, tape) = stack.forward(x, &rows, keep)?; // [n, width]
        let normed = a.norm(&pooled, &self.weights.norm(POST_NORM, epsilon)?)?;
        let out = a.linear(&normed, &[self.weights.linear(PROJECTION, false)?])?;
        let tape = gradients.map(|_| ImageTape {
            embedded: trains.then_some(Embedded { patches, tokens }),
            stack: tape,
            pooled,
            rows,
        });
        Ok((out, tape))
    }

    /// Adds the tower's gradients, computed from that of its output, `dy` [n, embed_dim].
    pub(super) fn backward(
        &self,
        tape: ImageTape,
        dy: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let a = &self.network.arithmetic;
        let epsilon = self.sizes.tower.norm_epsilon;
        let norm = self.weights.norm(POST_NORM, epsilon)?;
        let projection = self.weights.linear(PROJECTION, false)?.weight;
        let normed = a.norm(&tape.pooled, &norm)?;
        let name = format!("{PROJECTION}.weight");
        gradients.add_matrix(&name, projection.dim(0)?, dy, 0, &normed)?;
        if tape.stack.is_none() && !gradients.wants_any(POST_NORM) {
            return Ok(());
        }
        let normed = a.linear_backward(dy, &[&projection])?;
        let back = a.norm_backward(&tape.pooled, &norm, &normed, None)?;
        gradients.add(&format!("{POST_NORM}.weight"), &back.gain)?;
        gradients.add(&format!("{POST_NORM}.bias"), &back.bias)?;
        let Some(stack) = tape.stack else {
            return Ok(());
        };
        let dx = self
            .stack()
            .backward(stack, &tape.rows, back.x, gradients)?;
        match tape.embedded {
            Some(embedded) => self.embed_backward(&embedded, &dx, gradients),
            None => Ok(()),
        }
    }

    /// `pixels` [n, 3, size, size] -> [n patches, 3 patch patch].
    fn patches(&self, pixels: &Tensor) -> Result<Tensor> {
        let (n, channels, size, _) = pixels.dims4()?;
        let (patch, side) = (self.sizes.patch_size, size / self.sizes.patch_size);
        let patches = pixels
            .reshape((n, channels, side, patch, side, patch))?
            .permute((0, 2, 4, 1, 3, 5))?
            .reshape((n * side * side, channels * patch * patch))?;
        Ok(patches
            .to_device(self.network.arithmetic.device())?
            .to_dtype(self.network.arithmetic.dtype())?)
    }

    /// [n patches, 3 patch patch] -> class token and patches plus positions, [n tokens,
    /// width].
    fn embed(&self, patches: &Tensor, n: usize) -> Result<Tensor> {
        let layer = self.weights.linear(PATCHES, false)?;
        let embedded = self.network.arithmetic.linear(patches, &[layer])?;
        let width = self.sizes.tower.width;
        let embedded = embedded.reshape((n, (), width))?;
        let class = self.weights.get(CLASS)?.reshape((1, 1, width))?;
        let class = class.broadcast_as((n, 1, width))?;
        let tokens = Tensor::cat(&[&class.contiguous()?, &embedded], 1)?;
        let tokens = tokens.broadcast_add(self.weights.get(POSITIONS)?)?; // [n, tokens, width]
        Ok(tokens.reshape(((), width))?)
    }

    fn embed_backward(
        &self,
        embedded: &Embedded,
        dx: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let a = &self.network.arithmetic;
        let norm = self.weights.norm(PRE_NORM, self.sizes.tower.norm_epsilon)?;
        let back = a.norm_backward(&embedded.tokens, &norm, dx, None)?;
        gradients.add(&format!("{PRE_NORM}.weight"), &back.gain)?;
        gradients.add(&format!("{PRE_NORM}.bias"), &back.bias)?;
        let width = self.sizes.tower.width;
        let tokens = self.sizes.tokens();
        let dx = back.x.reshape(((), tokens, width))?; // [n, tokens, width]
        let positions = dx.to_dtype(DType::F32)?.sum(0)?; // [tokens, width]
        gradients.add(POSITIONS, &positions)?;
        gradients.add(CLASS, &positions.get(0)?.contiguous()?)?;
        let patches = dx
            .narrow(1, 1, tokens - 1)?
            .contiguous()?
            .reshape(((), width))?;
        let name = format!("{PATCHES}.weight");
        gradients.add_matrix(&name, width, &patches, 0, &embedded.patches)
    }
}
