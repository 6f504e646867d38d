//! The towers with backward passes, for training.
//!
//! No graph is recorded. The forward pass of a tower keeps what its backward pass needs (a tape:
//! the inputs of the matrices, but not the results of norms and activations, which are cheap to
//! recompute); the backward pass adds each parameter's gradient to a sum. Frozen parameters cost
//! nothing: no tape below the lowest trained layer, and no product for a frozen matrix. The layers
//! have two implementations, as in [`model`](crate::model): this project's kernels on the CPU, and
//! candle's operations elsewhere, with matrices in any type and everything else in f32.

mod block;
mod gradients;
mod image;
mod maps;
mod operation;
mod text;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::architecture::{Activation, Architecture};
use crate::input::tokenizer::TokenIds;
use gradients::Wish;
use image::Images;
use operation::{LinearWeights, NormWeights};
use text::Texts;

pub use gradients::{Gradients, Sum};

pub(crate) use gradients::{lora_a, lora_b};
pub(crate) use image::ImageTape;
pub(crate) use maps::ImageMaps;
pub(crate) use text::TextTape;

/// The arithmetic of the layers.
#[derive(Clone, Debug)]
pub(crate) enum Arithmetic {
    /// This project's kernels, f32 on the CPU.
    Kernel,
    /// candle's operations on a device, matrices and tokens in the given type.
    Candle(Device, DType),
}

impl Arithmetic {
    /// Where parameters live.
    #[must_use]
    pub(crate) fn device(&self) -> &Device {
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

/// A LoRA update of a matrix: `factor` B A (Hu et al., LoRA, arXiv 2106.09685).
#[derive(Clone, Debug)]
pub(crate) struct LowRank {
    /// [rank, in]
    pub a: Tensor,
    /// [out, rank]
    pub b: Tensor,
    /// alpha / rank.
    pub factor: f64,
}

/// A CLIP in training: dimensions without weights, which are passed with every call.
pub(crate) struct Network {
    architecture: Architecture,
    activation: Activation,
    arithmetic: Arithmetic,
}

impl Network {
    /// The network of a checkpoint.
    #[must_use]
    pub(crate) fn new(checkpoint: &Checkpoint, arithmetic: Arithmetic) -> Self {
        Self {
            architecture: checkpoint.architecture.clone(),
            activation: checkpoint.activation,
            arithmetic,
        }
    }

    /// Its arithmetic.
    #[must_use]
    pub(crate) fn arithmetic(&self) -> &Arithmetic {
        &self.arithmetic
    }

    /// The effective weights of a step: `parameters` (canonical names, f32 on the device)
    /// with `changes` added to the matrices they name.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn working(
        &self,
        parameters: &BTreeMap<String, Tensor>,
        changes: &BTreeMap<String, LowRank>,
    ) -> Result<Working> {
        Working::new(&self.arithmetic, parameters, changes)
    }

    /// Empty accumulators: full gradients for the parameters in `trained`, and for those in
    /// `changes` only those of the LoRA factors.
    #[must_use]
    pub(crate) fn gradients<'a>(
        &self,
        trained: impl IntoIterator<Item = &'a String>,
        changes: &BTreeMap<String, LowRank>,
    ) -> Gradients {
        let whole = trained.into_iter().map(|name| (name.clone(), Wish::Whole));
        let thin = changes.iter();
        let thin = thin.map(|(name, change)| (name.clone(), Wish::Thin(change.clone())));
        Gradients::new(self.arithmetic.clone(), whole.chain(thin).collect())
    }

    /// `pixels` [n, 3, size, size] -> embeddings [n, embed_dim] as output by the projection, not
    /// normalised; with `gradients`, also a tape for [`Self::images_backward`].
    ///
    /// # Errors
    /// For a ResNet, and when the pixels have another shape.
    pub(crate) fn images(
        &self,
        weights: &Working,
        pixels: &Tensor,
        gradients: Option<&Gradients>,
    ) -> Result<(Tensor, Option<ImageTape>)> {
        Images::new(self, weights)?.forward(pixels, gradients)
    }

    /// Adds the image tower's gradients, computed from that of the embeddings, `dy` [n, embed_dim].
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn images_backward(
        &self,
        weights: &Working,
        tape: ImageTape,
        dy: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<()> {
        Images::new(self, weights)?.backward(tape, dy, gradients)
    }

    /// `texts` -> embeddings [n, embed_dim], not normalised; with `gradients`, also a tape for
    /// [`Self::texts_backward`].
    ///
    /// # Errors
    /// When a text is longer than the context.
    pub(crate) fn texts(
        &self,
        weights: &Working,
        texts: &[&TokenIds],
        gradients: Option<&Gradients>,
    ) -> Result<(Tensor, Option<TextTape>)> {
        let network = self;
        Texts { network, weights }.forward(texts, gradients)
    }

    /// Adds the text tower's gradients, computed from that of the embeddings, `dy` [n, embed_dim].
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn texts_backward(
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

/// The `wanted` tensors of `checkpoint` in f32 on `device`, by canonical name.
///
/// # Errors
/// When a value is not finite, or the file changes meanwhile.
pub(crate) fn parameters(
    checkpoint: &Checkpoint,
    device: &Device,
    wanted: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, Tensor>> {
    let mut parameters = BTreeMap::new();
    for (name, stored) in checkpoint.tensors.iter().filter(|(name, _)| wanted(name)) {
        let values = stored.to_f32()?;
        ensure!(
            values.iter().all(|x| x.is_finite()),
            "tensor {name} holds a value that is not finite; the file is damaged or the training \
             diverged"
        );
        let tensor = Tensor::from_vec(values, stored.shape(), device)?;
        parameters.insert(name.clone(), tensor);
        stored.release();
    }
    checkpoint.unchanged()?;
    Ok(parameters)
}

/// The effective weights of one step, with LoRA added, by canonical name: matrices in the towers'
/// type, everything else in f32.
pub(crate) struct Working {
    tensors: BTreeMap<String, Tensor>,
}

impl Working {
    /// Converts `parameters`, f32 on the towers' device, with `changes` added to the matrices
    /// they name.
    pub(super) fn new(
        arithmetic: &Arithmetic,
        parameters: &BTreeMap<String, Tensor>,
        changes: &BTreeMap<String, LowRank>,
    ) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for (name, tensor) in parameters {
            let mut tensor = tensor.clone();
            if let Some(change) = changes.get(name) {
                tensor = change.added_to(&tensor)?;
            }
            let is_norm = name.contains("norm");
            if let Arithmetic::Candle(_, dtype) = arithmetic
                && !is_norm
            {
                tensor = tensor.to_dtype(*dtype)?;
            }
            tensors.insert(name.clone(), tensor);
        }
        Ok(Self { tensors })
    }

    pub(super) fn get(&self, name: &str) -> Result<&Tensor> {
        self.tensors
            .get(name)
            .with_context(|| format!("tensor {name} is missing"))
    }

    /// The linear layer at `path`; its weight as [out, everything else].
    fn linear(&self, path: &str, with_bias: bool) -> Result<LinearWeights> {
        let weight = self.get(&format!("{path}.weight"))?.flatten_from(1)?;
        let bias = with_bias
            .then(|| self.get(&format!("{path}.bias")).cloned())
            .transpose()?;
        Ok(LinearWeights { weight, bias })
    }

    fn norm(&self, path: &str, epsilon: f32) -> Result<NormWeights> {
        Ok(NormWeights {
            gain: self.get(&format!("{path}.weight"))?.clone(),
            bias: self.get(&format!("{path}.bias"))?.clone(),
            epsilon,
        })
    }
}

impl LowRank {
    /// `weight` [out, in] + factor B A.
    ///
    /// # Errors
    /// When the shapes do not match or the device fails.
    pub(crate) fn added_to(&self, weight: &Tensor) -> Result<Tensor> {
        let change = (self.b.matmul(&self.a)? * self.factor)?;
        Ok((weight + change.to_dtype(DType::F32)?)?)
    }
}
