//! The image tower: pixels -> [n, embed_dim].

use anyhow::Result;
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Shape, Tensor, bail};

use super::block::{Group, Transformer};
use super::device::Compute;
use super::layer::{LayerNorm, Linear};
use super::one_image_a_core;
use super::sequences::Sequences;
use super::weights::Weights;
use crate::checkpoint::architecture::VisionTransformer as Sizes;
use crate::kernel;

/// Rows above which a product is limited by arithmetic rather than by reading its weights.
const ROWS_TOGETHER: usize = 256;

pub(super) struct VisionTransformer {
    patch_embedding: Linear,
    /// Class token and positional embeddings, to which patches are added, [tokens, width]
    positions: Tensor,
    pre_norm: LayerNorm,
    transformer: Transformer,
    post_norm: LayerNorm,
    projection: Linear,
    patch_size: usize,
    device: Device,
    dtype: DType,
}

impl VisionTransformer {
    pub(super) fn load(weights: &Weights, sizes: &Sizes) -> Result<Self> {
        let tower = &sizes.tower;
        let edges = match weights.compute {
            Compute::Kernel(precision) => precision.of_edges(),
            Compute::Candle(..) => kernel::Precision::F32,
        };
        let path = |name: &str| format!("vision_model.embeddings.{name}");
        let linear = |path: String| weights.linear(&[path], false, edges, None);
        let norm = |name: &str| weights.layer_norm(name, tower.norm_epsilon);
        let tokens = sizes.tokens();
        let table = weights.vector(&path("position_embedding.weight"))?;
        let table = Tensor::from_vec(table, (tokens, tower.width), &Device::Cpu)?;
        let class = weights.vector(&path("class_embedding"))?;
        let class = Tensor::from_vec(class, (1, tower.width), &Device::Cpu)?;
        let first = (class + table.narrow(0, 0, 1)?)?;
        let positions = Tensor::cat(&[&first, &table.narrow(0, 1, tokens - 1)?], 0)?;
        Ok(Self {
            patch_embedding: linear(path("patch_embedding"))?,
            positions: positions
                .to_dtype(weights.dtype())?
                .to_device(weights.device())?,
            pre_norm: norm("vision_model.pre_layrnorm")?,
            transformer: Transformer::load(weights, "vision_model", tower)?,
            post_norm: norm("vision_model.post_layernorm")?,
            projection: linear("visual_projection".to_owned())?,
            patch_size: sizes.patch_size,
            device: weights.device().clone(),
            dtype: weights.dtype(),
        })
    }

    /// `pixels` [n, 3, size, size] -> [n, embed_dim], not normalised.
    pub(super) fn encode(&self, pixels: &Tensor) -> Result<Tensor> {
        if !self.projection.is_packed() {
            return self.encode_batch(pixels);
        }
        one_image_a_core(pixels, |part| self.encode_each(part))
    }

    /// The states after the last layer, without the final norm: `pixels` [n, 3, size, size] ->
    /// [n tokens, width], the class token first.
    pub(super) fn states(&self, pixels: &Tensor) -> Result<Tensor> {
        let layers = 0..self.transformer.layers();
        let tokens = self.positions.dim(0)?;
        if !self.projection.is_packed() {
            let sequences = Sequences::images(pixels.dim(0)?, tokens);
            return self
                .transformer
                .forward(self.embed(pixels)?, &sequences, layers);
        }
        let sequences = Sequences::images(1, tokens);
        one_image_a_core(pixels, |part| {
            let states = (0..part.dim(0)?).map(|image| {
                let x = self.embed_one(&part.get(image)?)?;
                self.transformer.forward(x, &sequences, layers.clone())
            });
            Ok(Tensor::cat(&states.collect::<Result<Vec<_>>>()?, 0)?)
        })
    }

    /// All images as one tall matrix, for devices that batch.
    fn encode_batch(&self, pixels: &Tensor) -> Result<Tensor> {
        let n = pixels.dim(0)?;
        let x = self.embed(pixels)?; // [n tokens, width]
        let tokens = self.positions.dim(0)?;
        let sequences = Sequences::images(n, tokens);
        let pooled: Vec<usize> = (0..n).map(|image| image * tokens).collect();
        let pooled = self.transformer.forward_pooled(x, &sequences, &pooled)?; // [n, width]
        self.projection.forward_norm(&pooled, &self.post_norm, None)
    }

    /// Processes images one after another within each layer, so that a layer's data stays in the
    /// cache. Small ones share a matrix, so that the weights are read less often.
    fn encode_each(&self, pixels: &Tensor) -> Result<Tensor> {
        let n = pixels.dim(0)?;
        let tokens = self.positions.dim(0)?;
        let together = (ROWS_TOGETHER / tokens).clamp(1, n);
        let count = n.div_ceil(together);
        let mut groups = Vec::new();
        for group in 0..count {
            let images = group * n / count..(group + 1) * n / count;
            let sequences = Sequences::images(images.len(), tokens);
            let xs = images
                .map(|image| self.embed_one(&pixels.get(image)?))
                .collect::<Result<Vec<_>>>()?;
            let x = Tensor::cat(&xs, 0)?; // [images tokens, width]
            groups.push(Group { x, sequences });
        }
        let pooled = self.transformer.forward_each(groups)?; // [n, width]
        self.projection.forward_norm(&pooled, &self.post_norm, None)
    }

    /// `pixels` [3, size, size] on the CPU -> tokens after the first LayerNorm [tokens, width].
    fn embed_one(&self, pixels: &Tensor) -> Result<Tensor> {
        let patches = pixels
            .to_dtype(DType::F32)?
            .contiguous()?
            .apply_op1_no_bwd(&Patches(self.patch_size))?; // [patches, 3 patch patch]
        let x = self.positions.copy()?; // [tokens, width]
        let after_class = x.narrow(0, 1, patches.dim(0)?)?;
        self.patch_embedding.add_into(&patches, after_class)?;
        self.pre_norm.forward(&x, true)
    }

    /// `pixels` [n, 3, size, size] -> tokens after the first LayerNorm [n tokens, width].
    fn embed(&self, pixels: &Tensor) -> Result<Tensor> {
        let (n, channels, size, _) = pixels.dims4()?;
        let (patch, side) = (self.patch_size, size / self.patch_size);
        let patches = pixels
            .reshape((n, channels, side, patch, side, patch))?
            .permute((0, 2, 4, 1, 3, 5))?
            .reshape((n * side * side, channels * patch * patch))? // [n patches, 3 patch patch]
            .to_device(&self.device)?
            .to_dtype(self.dtype)?;
        let patches = self.patch_embedding.forward(&patches)?; // [n patches, width]
        let (tokens, width) = self.positions.dims2()?;
        let class = Tensor::zeros((n, 1, width), self.dtype, &self.device)?;
        let x = Tensor::cat(&[&class, &patches.reshape((n, side * side, width))?], 1)?
            .broadcast_add(&self.positions)? // [n, tokens, width]
            .reshape((n * tokens, width))?;
        self.pre_norm.forward(&x, false)
    }
}

/// One image [channels, size, size] -> its square patches of the given side as rows
/// [patches, channels side side], each channel by channel and row by row.
struct Patches(usize);

impl CustomOp1 for Patches {
    fn name(&self) -> &'static str {
        "patches"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (channels, height, width) = layout.shape().dims3()?;
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("patches: the pixels are not contiguous")
        };
        let pixels = &storage.as_slice::<f32>()?[start..end];
        let patch = self.0;
        let (down, across) = (height / patch, width / patch);
        let mut rows = Vec::with_capacity(down * across * channels * patch * patch);
        for (top, left) in (0..down).flat_map(|y| (0..across).map(move |x| (y * patch, x * patch)))
        {
            for line in (0..channels).flat_map(|c| (0..patch).map(move |y| c * height + top + y)) {
                rows.extend_from_slice(&pixels[line * width + left..][..patch]);
            }
        }
        let shape = (down * across, channels * patch * patch);
        Ok((CpuStorage::F32(rows), shape.into()))
    }
}
