//! The towers with their derivatives, for training.
//!
//! No graph is recorded: each tower goes forward keeping what its derivative needs (a tape: the
//! inputs of the matrices, not the results of norms and activations, which are cheap to compute
//! again), and backward adding each parameter's gradient to a sum. What is not trained costs
//! nothing: no tape below the lowest trained layer, no product for a frozen matrix. The layers have
//! two bodies, as in [`model`](super): this project's kernels on the CPU, candle's operations
//! elsewhere, with matrices in any type and everything else in f32.

mod block;
mod gradients;
mod image;
mod operation;
mod text;
mod values;
mod working;

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::architecture::{Activation, Architecture};
use crate::input::tokenizer::TokenIds;

use gradients::Wish;
pub use gradients::{Gradients, Sum, lora_a, lora_b};
pub use image::ImageTape;
use image::Images;
pub use text::TextTape;
use text::Texts;
pub use working::Working;

/// What the layers compute with.
#[derive(Clone, Debug)]
pub enum Arithmetic {
    /// This project's kernels, f32 on the CPU.
    Kernel,
    /// candle's operations on a device, matrices and tokens in the given type.
    Candle(Device, DType),
}

impl Arithmetic {
    /// Where parameters live.
    #[must_use]
    pub fn device(&self) -> &Device {
        match self {
            Self::Kernel => &Device::Cpu,
            Self::Candle(device, _) => device,
        }
    }

    fn dtype(&self) -> DType {
        match self {
            Self::Kernel => DType::F32,
            Self::Candle(_, dtype) => *dtype,
        }
    }
}

/// A change of a matrix: `factor` B A (Hu et al., LoRA, arXiv 2106.09685).
#[derive(Clone, Debug)]
pub struct LowRank {
    /// [rank, in]
    pub a: Tensor,
    /// [out, rank]
    pub b: Tensor,
    /// alpha / rank.
    pub factor: f64,
}

/// A CLIP as training sees it: sizes without weights, which come with every call.
pub struct Network {
    architecture: Architecture,
    activation: Activation,
    arithmetic: Arithmetic,
}

impl Network {
    /// The network of a checkpoint.
    #[must_use]
    pub fn new(checkpoint: &Checkpoint, arithmetic: Arithmetic) -> Self {
        Self {
            architecture: checkpoint.architecture.clone(),
            activation: checkpoint.activation,
            arithmetic,
        }
    }

    /// What it computes with.
    #[must_use]
    pub fn arithmetic(&self) -> &Arithmetic {
        &self.arithmetic
    }

    /// The weights that a step computes with: `parameters` (canonical names, f32 on the device)
    /// with `changes` added to those they name.
    ///
    /// # Errors
    /// When the device fails.
    pub fn working(
        &self,
        parameters: &BTreeMap<String, Tensor>,
        changes: &BTreeMap<String, LowRank>,
    ) -> Result<Working> {
        Working::new(&self.arithmetic, parameters, changes)
    }

    /// Nothing summed yet: whole gradients of the parameters `trained`, of those in `changes` only
    /// that of the change.
    #[must_use]
    pub fn gradients<'a>(
        &self,
        trained: impl IntoIterator<Item = &'a String>,
        changes: &BTreeMap<String, LowRank>,
    ) -> Gradients {
        let whole = trained.into_iter().map(|name| (name.clone(), Wish::Whole));
        let thin = changes.iter();
        let thin = thin.map(|(name, change)| (name.clone(), Wish::Thin(change.clone())));
        Gradients::new(self.arithmetic.clone(), whole.chain(thin).collect())
    }

    /// `pixels` [n, 3, size, size] -> embeddings [n, embed_dim] as the projection gives them, not
    /// of unit length; with `gradients`, a tape for [`Self::images_backward`].
    ///
    /// # Errors
    /// For a ResNet, and when the pixels have another shape.
    pub fn images(
        &self,
        weights: &Working,
        pixels: &Tensor,
        gradients: Option<&Gradients>,
    ) -> Result<(Tensor, Option<ImageTape>)> {
        Images::new(self, weights)?.forward(pixels, gradients)
    }

    /// Adds the image tower's gradients from that of the embeddings, `dy` [n, embed_dim].
    ///
    /// # Errors
    /// When the device fails.
    pub fn images_backward(
        &self,
        weights: &Working,
        tape: ImageTape,
        dy: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<()> {
        Images::new(self, weights)?.backward(tape, dy, gradients)
    }

    /// `texts` -> embeddings [n, embed_dim], not of unit length; with `gradients`, a tape for
    /// [`Self::texts_backward`].
    ///
    /// # Errors
    /// When a text is longer than the context.
    pub fn texts(
        &self,
        weights: &Working,
        texts: &[&TokenIds],
        gradients: Option<&Gradients>,
    ) -> Result<(Tensor, Option<TextTape>)> {
        let network = self;
        Texts { network, weights }.forward(texts, gradients)
    }

    /// Adds the text tower's gradients from that of the embeddings, `dy` [n, embed_dim].
    ///
    /// # Errors
    /// When the device fails.
    pub fn texts_backward(
        &self,
        weights: &Working,
        tape: TextTape,
        dy: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let network = self;
        Texts { network, weights }.backward(tape, dy, gradients)
    }
}
