//! The image tower: pixels -> [n, embed_dim].

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use rayon::ThreadPool;

use super::block::Transformer;
use super::compute::Compute;
use super::layer::{LayerNorm, Linear};
use super::sequences::Sequences;
use super::weights::Weights;
use crate::kernel;

pub(super) struct VisionTransformer {
    patch_embedding: Linear,
    /// The class token with its position: [1, width]
    class_token: Tensor,
    /// Positions of the patches: [patches, width]
    positions: Tensor,
    pre_norm: LayerNorm,
    transformer: Transformer,
    post_norm: LayerNorm,
    projection: Linear,
    patch_size: usize,
    tokens: usize,
    device: Device,
    dtype: DType,
}

impl VisionTransformer {
    pub(super) fn load(weights: &Weights) -> Result<Self> {
        let architecture = &weights.checkpoint.architecture;
        let tower = &architecture.vision;
        let edges = match weights.compute {
            Compute::Kernel(precision) => precision.of_edges(),
            Compute::Candle(..) => kernel::Precision::F32,
        };
        let path = |name: &str| format!("vision_model.embeddings.{name}");
        let linear = |path: String| weights.linear(&[path], false, edges, None);
        let norm = |name: &str| weights.layer_norm(name, tower.norm_epsilon);
        let tokens = architecture.image_tokens();
        let table = weights.vector(&path("position_embedding.weight"))?;
        let table = Tensor::from_vec(table, (tokens, tower.width), &Device::Cpu)?;
        let class = weights.vector(&path("class_embedding"))?;
        let class = Tensor::from_vec(class, (1, tower.width), &Device::Cpu)?;
        let place = |tensor: Tensor| -> Result<Tensor> {
            Ok(tensor
                .to_dtype(weights.dtype())?
                .to_device(weights.device())?)
        };
        Ok(Self {
            patch_embedding: linear(path("patch_embedding"))?,
            class_token: place((class + table.narrow(0, 0, 1)?)?)?,
            positions: place(table.narrow(0, 1, tokens - 1)?)?,
            pre_norm: norm("vision_model.pre_layrnorm")?,
            transformer: Transformer::load(weights, "vision_model", tower)?,
            post_norm: norm("vision_model.post_layernorm")?,
            projection: linear("visual_projection".to_owned())?,
            patch_size: architecture.patch_size,
            tokens,
            device: weights.device().clone(),
            dtype: weights.dtype(),
        })
    }

    /// `pixels` [n, 3, size, size] -> [n, embed_dim], not normalised.
    pub(super) fn encode(&self, pixels: &Tensor) -> Result<Tensor> {
        if !self.projection.is_packed() {
            return self.encode_batch(pixels);
        }
        let n = pixels.dim(0)?;
        let threads = rayon::current_num_threads().min(n);
        if n == 1 || threads == 1 {
            return self.encode_each(pixels);
        }
        // One image a core: threads that split a layer wait for each other at every join.
        let share = n.div_ceil(threads);
        let starts: Vec<usize> = (0..n).step_by(share).collect();
        let run = |start: usize| -> Result<Tensor> {
            let part = pixels.narrow(0, start, share.min(n - start))?;
            one_thread()?.install(|| self.encode_each(&part))
        };
        let parts: Vec<Result<Tensor>> = std::thread::scope(|scope| {
            let workers: Vec<_> = starts
                .iter()
                .map(|&start| scope.spawn(move || run(start)))
                .collect();
            workers
                .into_iter()
                .map(|worker| {
                    worker
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        });
        Ok(Tensor::cat(
            &parts.into_iter().collect::<Result<Vec<_>>>()?,
            0,
        )?)
    }

    /// All images as one tall matrix, for devices that batch.
    fn encode_batch(&self, pixels: &Tensor) -> Result<Tensor> {
        let n = pixels.dim(0)?;
        let x = self.embed(pixels)?; // [n tokens, width]
        let sequences = Sequences::images(n, self.tokens);
        let pooled: Vec<usize> = (0..n).map(|image| image * self.tokens).collect();
        let pooled = self.transformer.forward_pooled(x, &sequences, &pooled)?; // [n, width]
        self.projection.forward_norm(&pooled, &self.post_norm, None)
    }

    /// Images one after the other within each layer: what a layer works on stays in the cache.
    fn encode_each(&self, pixels: &Tensor) -> Result<Tensor> {
        let n = pixels.dim(0)?;
        let xs = (0..n)
            .map(|image| self.embed(&pixels.narrow(0, image, 1)?))
            .collect::<Result<Vec<_>>>()?; // n times [tokens, width]
        let pooled = self
            .transformer
            .forward_each(xs, &Sequences::images(1, self.tokens))?; // n times [1, width]
        let pooled = Tensor::cat(&pooled, 0)?; // [n, width]
        self.projection.forward_norm(&pooled, &self.post_norm, None)
    }

    /// `pixels` [n, 3, size, size] -> tokens after the first norm [n tokens, width].
    fn embed(&self, pixels: &Tensor) -> Result<Tensor> {
        let (n, channels, size, _) = pixels.dims4()?;
        let (patch, side) = (self.patch_size, size / self.patch_size);
        let patches = pixels
            .reshape((n, channels, side, patch, side, patch))?
            .permute((0, 2, 4, 1, 3, 5))?
            .reshape((n * side * side, channels * patch * patch))? // [n patches, 3 patch patch]
            .to_device(&self.device)?
            .to_dtype(self.dtype)?;
        let width = self.positions.dim(1)?;
        let patches = self
            .patch_embedding
            .forward(&patches)? // [n patches, width]
            .reshape((n, side * side, width))?
            .broadcast_add(&self.positions)?;
        let class = self.class_token.broadcast_as((n, 1, width))?.contiguous()?;
        let x = Tensor::cat(&[&class, &patches], 1)? // [n, tokens, width]
            .reshape((n * self.tokens, width))?;
        self.pre_norm.forward(&x, self.projection.is_packed())
    }
}

/// A pool in which the kernels see one thread.
fn one_thread() -> Result<ThreadPool> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(1).build()?)
}
