//! What each token of a text, and each patch of an image, writes into the embedding directly: through
//! the attention of every layer into the row that is pooled.
//!
//! The residual stream of that row is a sum, and the final norm is linear once its mean and deviation
//! are known, so the embedding is a sum too: of one vector per token, and of a rest, which holds the
//! row's own start, the biases and all that the MLPs wrote. A slow, plain path of its own in f64: it
//! is for one text and one image, and its sums must be exact.

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops::{sigmoid, softmax};

use super::device::Compute;
use super::weights::Weights;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::architecture::{Activation, ImageTower, Tower};
use crate::input::tokenizer::TokenIds;

/// An embedding as a sum, before it gets unit length.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Direct {
    /// What each token wrote, `[embed_dim]` each; of an image the class token comes first.
    pub(crate) sources: Vec<Vec<f64>>,
    /// All else, `[embed_dim]`.
    pub(crate) rest: Vec<f64>,
}

/// A tower that is run in f64.
struct Plain<'a> {
    weights: Weights<'a>,
    path: &'static str,
    tower: &'a Tower,
}

/// The text's embedding as a sum over its tokens, start and end included.
///
/// # Errors
/// When a tensor is missing or damaged, or the text does not fit the model.
pub(crate) fn of_text(checkpoint: &Checkpoint, ids: &TokenIds) -> Result<Direct> {
    let compute = Compute::Candle(Device::Cpu, DType::F64);
    let tower = &checkpoint.architecture.text;
    let plain = Plain {
        weights: Weights::new(checkpoint, &compute),
        path: "text_model",
        tower,
    };
    let embedding = "text_model.embeddings.token_embedding.weight";
    let tokens = plain.weights.tensor(embedding)?;
    let mut rows = vec![0f32; ids.len() * tower.width];
    for (row, &id) in rows.chunks_exact_mut(tower.width).zip(ids.as_slice()) {
        tokens.copy_row_f32(id as usize, row)?;
    }
    let positions = plain.matrix("text_model.embeddings.position_embedding")?;
    ensure!(
        ids.len() <= positions.dim(0)?,
        "the text is longer than the model's context"
    );
    let x = Tensor::from_vec(rows, (ids.len(), tower.width), &Device::Cpu)?;
    let x = (x.to_dtype(DType::F64)? + positions.narrow(0, 0, ids.len())?)?;
    plain.run(
        x,
        ids.len() - 1,
        true,
        ["text_model.final_layer_norm", "text_projection"],
    )
}

/// The image's embedding as a sum over the class token and its patches, row by row: `pixels`
/// [3, size, size], normalised.
///
/// # Errors
/// When the model is a ResNet, or a tensor is missing or damaged.
pub(crate) fn of_image(checkpoint: &Checkpoint, pixels: &[f32]) -> Result<Direct> {
    let compute = Compute::Candle(Device::Cpu, DType::F64);
    let ImageTower::VisionTransformer(sizes) = &checkpoint.architecture.image else {
        bail!("a ResNet has no patches that words could be paired with");
    };
    let plain = Plain {
        weights: Weights::new(checkpoint, &compute),
        path: "vision_model",
        tower: &sizes.tower,
    };
    let (size, patch) = (sizes.image_size, sizes.patch_size);
    let side = size / patch;
    let patches = Tensor::from_slice(pixels, (3, side, patch, side, patch), &Device::Cpu)
        .context("the pixels have another shape")?
        .to_dtype(DType::F64)?
        .permute((1, 3, 0, 2, 4))?
        .reshape((side * side, 3 * patch * patch))?;
    let patches = patches.matmul(
        &plain
            .matrix("vision_model.embeddings.patch_embedding")?
            .t()?,
    )?;
    let class = plain
        .weights
        .vector("vision_model.embeddings.class_embedding")?;
    let class = Tensor::from_vec(class, (1, sizes.tower.width), &Device::Cpu)?;
    let x = Tensor::cat(&[&class.to_dtype(DType::F64)?, &patches], 0)?;
    let x = (x + plain.matrix("vision_model.embeddings.position_embedding")?)?;
    let x = plain.norm(&x, "vision_model.pre_layrnorm")?;
    plain.run(
        x,
        0,
        false,
        ["vision_model.post_layernorm", "visual_projection"],
    )
}

impl Plain<'_> {
    /// The weight of the layer at `path` as [rows, everything else].
    fn matrix(&self, path: &str) -> Result<Tensor> {
        let stored = self.weights.matrix(&format!("{path}.weight"))?;
        let shape = (stored.shape()[0], stored.shape()[1]);
        let values = stored.to_f32()?;
        super::weights::check_finite(path, &values)?;
        stored.release();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(DType::F64)?)
    }

    fn vector(&self, name: &str) -> Result<Tensor> {
        let values = self.weights.vector(name)?;
        Ok(Tensor::new(values, &Device::Cpu)?.to_dtype(DType::F64)?)
    }

    /// `x` [rows, in] -> [rows, out].
    fn linear(&self, x: &Tensor, path: &str) -> Result<Tensor> {
        let out = x.matmul(&self.matrix(path)?.t()?)?;
        Ok(out.broadcast_add(&self.vector(&format!("{path}.bias"))?)?)
    }

    fn norm(&self, x: &Tensor, path: &str) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(1)?)?;
        let scaled = centred.broadcast_div(&self.deviation(x)?)?;
        let gained = scaled.broadcast_mul(&self.vector(&format!("{path}.weight"))?)?;
        Ok(gained.broadcast_add(&self.vector(&format!("{path}.bias"))?)?)
    }

    /// The deviation of each row [rows, 1].
    fn deviation(&self, x: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(1)?)?;
        let variance = centred.sqr()?.mean_keepdim(1)?;
        Ok((variance + f64::from(self.tower.norm_epsilon))?.sqrt()?)
    }

    /// `x` [tokens, width] through all layers. The row `pooled` becomes the embedding by the last norm and
    /// the projection.
    fn run(&self, mut x: Tensor, pooled: usize, causal: bool, ends: [&str; 2]) -> Result<Direct> {
        let mut written = x.zeros_like()?; // [tokens, width]
        for layer in 0..self.tower.layers {
            let path = format!("{}.encoder.layers.{layer}", self.path);
            let (mixed, direct) = self.attend(&x, &path, pooled, causal)?;
            written = (written + direct)?;
            x = (x + self.linear(&mixed, &format!("{path}.self_attn.out_proj"))?)?;
            let hidden = self.norm(&x, &format!("{path}.layer_norm2"))?;
            let hidden = self.linear(&hidden, &format!("{path}.mlp.fc1"))?;
            let hidden = match self.weights.checkpoint.activation {
                Activation::Gelu => hidden.gelu_erf()?,
                Activation::QuickGelu => (&hidden * sigmoid(&(&hidden * 1.702)?)?)?,
            };
            x = (x + self.linear(&hidden, &format!("{path}.mlp.fc2"))?)?;
        }
        let row = x.narrow(0, pooled, 1)?; // [1, width]
        let rest = (&row - written.sum_keepdim(0)?)?;
        // With the row's own deviation, the norm of a sum is the sum of these and the bias.
        let [norm, projection] = ends;
        let deviation = self.deviation(&row)?;
        let parts = Tensor::cat(&[&written, &rest], 0)?; // [tokens + 1, width]
        let parts = parts.broadcast_sub(&parts.mean_keepdim(1)?)?;
        let parts = parts
            .broadcast_div(&deviation)?
            .broadcast_mul(&self.vector(&format!("{norm}.weight"))?)?;
        let projection = self.matrix(projection)?.t()?;
        let bias = self.vector(&format!("{norm}.bias"))?.unsqueeze(0)?;
        let bias = bias.matmul(&projection)?.flatten_all()?.to_vec1::<f64>()?;
        let mut sources = parts.matmul(&projection)?.to_vec2::<f64>()?;
        let mut rest = sources.pop().context("there is always a rest")?;
        rest.iter_mut()
            .zip(bias)
            .for_each(|(rest, bias)| *rest += bias);
        Ok(Direct { sources, rest })
    }

    /// The mixed values of all rows before the output projection, and what each token writes to the
    /// row `pooled` through it, without its bias: [tokens, width] each.
    fn attend(
        &self,
        x: &Tensor,
        path: &str,
        pooled: usize,
        causal: bool,
    ) -> Result<(Tensor, Tensor)> {
        let (tokens, width) = x.dims2()?;
        let heads = self.tower.heads;
        let normed = self.norm(x, &format!("{path}.layer_norm1"))?;
        let part = |name: &str| -> Result<Tensor> {
            let part = self.linear(&normed, &format!("{path}.self_attn.{name}"))?;
            let part = part.reshape((tokens, heads, width / heads))?;
            Ok(part.transpose(0, 1)?.contiguous()?) // [heads, tokens, head_dim]
        };
        let scale = ((width / heads) as f64).powf(-0.5);
        let queries = (part("q_proj")? * scale)?;
        let keys = part("k_proj")?.transpose(1, 2)?.contiguous()?;
        let mut scores = queries.matmul(&keys)?; // [heads, tokens, tokens]
        if causal {
            let later = |at: usize| match at % tokens > at / tokens {
                true => f64::NEG_INFINITY,
                false => 0.0,
            };
            let mask: Vec<f64> = (0..tokens * tokens).map(later).collect();
            let mask = Tensor::from_vec(mask, (tokens, tokens), &Device::Cpu)?;
            scores = scores.broadcast_add(&mask)?;
        }
        let shares = softmax(&scores, D::Minus1)?;
        let values = part("v_proj")?;
        let flat = |x: Tensor| -> Result<Tensor> {
            Ok(x.transpose(0, 1)?.contiguous()?.reshape((tokens, width))?)
        };
        let of_pooled = shares.narrow(1, pooled, 1)?.transpose(1, 2)?; // [heads, tokens, 1]
        let direct = flat(values.broadcast_mul(&of_pooled)?)?;
        let out = self.matrix(&format!("{path}.self_attn.out_proj"))?;
        Ok((flat(shares.matmul(&values)?)?, direct.matmul(&out.t()?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tiny;
    use crate::model::device::CpuPrecision;
    use crate::model::{DualEncoder as _, load};

    /// The sum at unit length.
    fn direction(direct: &Direct) -> Vec<f64> {
        let mut sum = direct.rest.clone();
        for source in &direct.sources {
            sum.iter_mut()
                .zip(source)
                .for_each(|(sum, part)| *sum += part);
        }
        let norm = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
        sum.iter().map(|value| value / norm).collect()
    }

    #[track_caller]
    fn assert_near(found: &[f64], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - f64::from(*expected)).abs() < 1e-5,
                "{found} {expected}"
            );
        }
    }

    #[test]
    fn the_parts_of_both_towers_sum_to_their_embeddings() {
        let checkpoint = tiny::checkpoint(&None.into()).unwrap();
        let clip = load(&checkpoint, &Compute::Kernel(CpuPrecision::F32)).unwrap();
        let ids = TokenIds::new(crate::input::tokenizer::encode("a small red cat")).unwrap();
        let text = of_text(&checkpoint, &ids).unwrap();
        assert_eq!(text.sources.len(), ids.len());
        let expected = clip.encode_text(&[ids]).unwrap();
        assert_near(
            &direction(&text),
            &expected.flatten_all().unwrap().to_vec1().unwrap(),
        );

        let size = checkpoint.architecture.image.image_size();
        let pixel = |at: usize| ((at * 37 % 101) as f32 / 50.0 - 1.0) * (at % 7) as f32 / 3.0;
        let pixels: Vec<f32> = (0..3 * size * size).map(pixel).collect();
        let image = of_image(&checkpoint, &pixels).unwrap();
        let ImageTower::VisionTransformer(sizes) = &checkpoint.architecture.image else {
            panic!("the built-in model has patches")
        };
        assert_eq!(image.sources.len(), sizes.tokens());
        let tensor = Tensor::from_slice(&pixels, (1, 3, size, size), &Device::Cpu).unwrap();
        let expected = clip.encode_image(&tensor).unwrap();
        assert_near(
            &direction(&image),
            &expected.flatten_all().unwrap().to_vec1().unwrap(),
        );
        // Every source wrote something of its own.
        let is_new = |at: usize| {
            text.sources[..at]
                .iter()
                .all(|one| *one != text.sources[at])
        };
        assert!((1..text.sources.len()).all(is_new));
        assert!(of_image(&checkpoint, &pixels[1..]).is_err());
    }
}
