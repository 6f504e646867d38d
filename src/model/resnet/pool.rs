//! Attention pooling of a feature map (openai/CLIP `AttentionPool2d`): the mean of all positions is
//! the query; the mean and the positions are keys and values.

use anyhow::{Result, bail};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::{FeatureMap, Rows};
use crate::checkpoint::architecture::ResNet as Sizes;
use crate::kernel::{self, Input, PackedMatrix, Precision};
use crate::model::attention::attend;
use crate::model::device::Compute;
use crate::model::layer::Linear;
use crate::model::weights::{Weights, pack_checked};

/// Attention with one query per image.
pub(super) struct AttentionPool {
    queries: Linear,
    body: Body,
    projection: Linear,
    heads: usize,
    /// Features per head.
    head_dim: usize,
}

enum Body {
    Packed {
        heads: Vec<Head>,
        /// The positional embedding of the mean, then of each position: [tokens, features].
        positions: Vec<f32>,
    },
    Plain {
        /// Keys and values.
        linears: Box<[Linear; 2]>,
        /// [tokens, features]
        positions: Tensor,
    },
}

/// One head's keys and values, in the order that a single query needs. With `q` the query and `x`
/// the tokens, `q (x K^T)^T = (q K) x^T` and `a (x V^T) = (a x) V^T`: two products with one row
/// instead of two with one row per token, which would be a tenth of RN50's time. The bias of the
/// keys adds the same to every token and so vanishes in the softmax; that of the values is added
/// once, because the weights sum to 1.
struct Head {
    /// K^T: [features, head_dim].
    keys: PackedMatrix,
    /// V: [head_dim, features].
    values: PackedMatrix,
    /// `[head_dim]`.
    bias: Vec<f32>,
}

impl AttentionPool {
    pub(super) fn load(weights: &Weights, sizes: &Sizes) -> Result<Self> {
        let path = |name: &str| format!("visual.attnpool.{name}");
        let (features, heads) = (sizes.features(), sizes.heads);
        let precision = match weights.compute {
            Compute::Kernel(precision) => precision.of_convolutions(),
            Compute::Candle(..) => Precision::F32,
        };
        let linear = |name: &str| weights.linear(&[path(name)], true, precision, None);
        let positions = weights.vector(&path("positional_embedding"))?;
        let body = match weights.compute {
            Compute::Kernel(_) => Body::Packed {
                heads: Head::load_all(weights, [features, heads], precision)?,
                positions,
            },
            Compute::Candle(device, dtype) => Body::Plain {
                linears: Box::new([linear("k_proj")?, linear("v_proj")?]),
                positions: Tensor::from_vec(positions, (sizes.tokens(), features), &Device::Cpu)?
                    .to_dtype(*dtype)?
                    .to_device(device)?,
            },
        };
        Ok(Self {
            queries: linear("q_proj")?,
            body,
            projection: linear("c_proj")?,
            heads,
            head_dim: features / heads,
        })
    }

    /// `x` [n, height, width, features] -> [n, embed_dim].
    pub(super) fn forward(&self, x: FeatureMap) -> Result<Tensor> {
        let mixed = match (&self.body, x) {
            (Body::Packed { heads, positions }, FeatureMap::Rows(x)) => {
                self.packed(heads, positions, &x)?
            }
            (Body::Plain { linears, positions }, FeatureMap::Plain(x)) => {
                self.plain(linears, positions, &x)?
            }
            _ => bail!("the attention and its input are on different devices"),
        }; // [n, features]
        self.projection.forward(&mixed)
    }

    /// `x` [n, features, height, width] -> [n, features].
    fn plain(
        &self,
        [keys, values]: &[Linear; 2],
        positions: &Tensor,
        x: &Tensor,
    ) -> Result<Tensor> {
        let (n, features, _, _) = x.dims4()?;
        let x = x.flatten_from(2)?.transpose(1, 2)?; // [n, height width, features]
        let mean = x
            .to_dtype(DType::F32)?
            .mean_keepdim(1)?
            .to_dtype(x.dtype())?;
        let x = Tensor::cat(&[&mean, &x], 1)?.broadcast_add(positions)?; // [n, tokens, features]
        let split = |linear: &Linear, x: &Tensor| -> Result<Tensor> {
            let tokens = x.dim(1)?;
            let rows = x.reshape((n * tokens, features))?;
            let heads = (n, tokens, self.heads, self.head_dim);
            let split = linear.forward(&rows)?.reshape(heads)?.transpose(1, 2)?;
            Ok(split.contiguous()?) // [n, heads, tokens, head_dim]
        };
        let queries = split(&self.queries, &x.narrow(1, 0, 1)?.contiguous()?)?;
        let mixed = attend(&queries, &split(keys, &x)?, &split(values, &x)?, None)?;
        Ok(mixed.reshape((n, features))?)
    }

    /// [`Self::plain`] with the products in the order of [`Head`].
    fn packed(&self, heads: &[Head], positions: &[f32], x: &Rows) -> Result<Tensor> {
        let (n, features, head_dim) = (x.images, x.channels, self.head_dim);
        let tokens = with_mean(x, positions); // [n, tokens, features]
        let per_image = tokens.len() / n;
        let means: Vec<f32> = tokens
            .chunks_exact(per_image)
            .flat_map(|tokens| &tokens[..features])
            .copied()
            .collect();
        let means = Tensor::from_vec(means, (n, features), &Device::Cpu)?;
        let queries = (self.queries.forward(&means)? * (head_dim as f64).powf(-0.5))?;
        let queries: Vec<f32> = queries.flatten_all()?.to_vec1()?; // [n, features]
        let of_heads: Vec<Vec<f32>> = heads
            .par_iter()
            .enumerate()
            .map(|(index, head)| {
                let queries: Vec<f32> = queries
                    .chunks_exact(features)
                    .flat_map(|row| &row[index * head_dim..][..head_dim])
                    .copied()
                    .collect();
                head.attend(&queries, &tokens, n)
            })
            .collect(); // heads times [n, head_dim]
        let mut mixed = Vec::with_capacity(n * features);
        for image in 0..n {
            for of_head in &of_heads {
                mixed.extend_from_slice(&of_head[image * head_dim..][..head_dim]);
            }
        }
        Ok(Tensor::from_vec(mixed, (n, features), &Device::Cpu)?)
    }
}

impl Head {
    fn load_all(
        weights: &Weights,
        [features, heads]: [usize; 2],
        precision: Precision,
    ) -> Result<Vec<Self>> {
        let head_dim = features / heads;
        let path = |name: &str| format!("visual.attnpool.{name}");
        let keys = weights.vector(&path("k_proj.weight"))?;
        let values = weights.vector(&path("v_proj.weight"))?;
        let bias = weights.vector(&path("v_proj.bias"))?;
        // Not needed, as explained at `Head`, but its values must be finite all the same.
        weights.vector(&path("k_proj.bias"))?;
        (0..heads)
            .map(|head| {
                let rows = head * head_dim * features..(head + 1) * head_dim * features;
                let (keys, values) = (&keys[rows.clone()], &values[rows]);
                let transposed = |row: usize, to: &mut [f32]| {
                    let column = keys[row..].iter().step_by(features);
                    to.iter_mut().zip(column).for_each(|(to, key)| *to = *key);
                    Ok(())
                };
                let plain = |row: usize, to: &mut [f32]| {
                    to.copy_from_slice(&values[row * features..][..features]);
                    Ok(())
                };
                Ok(Self {
                    keys: pack_checked([features, head_dim], precision, &transposed, None)?,
                    values: pack_checked([head_dim, features], precision, &plain, None)?,
                    bias: bias[head * head_dim..][..head_dim].to_vec(),
                })
            })
            .collect()
    }

    /// `queries` [n, head_dim], scaled, and `tokens` [n, tokens, features] -> [n, head_dim].
    fn attend(&self, queries: &[f32], tokens: &[f32], n: usize) -> Vec<f32> {
        let rows = |rows| Input {
            rows,
            m: n,
            norm: None,
        };
        let features = self.keys.n();
        let asked = kernel::linear_to_vec(rows(queries), &self.keys, None, None); // [n, features]
        let mut mixed = vec![0.0; n * features];
        for ((asked, tokens), mixed) in asked
            .chunks_exact(features)
            .zip(tokens.chunks_exact(tokens.len() / n))
            .zip(mixed.chunks_exact_mut(features))
        {
            let mut weights: Vec<f32> = tokens
                .chunks_exact(features)
                .map(|token| product(asked, token))
                .collect();
            softmax(&mut weights);
            for (weight, token) in weights.iter().zip(tokens.chunks_exact(features)) {
                mixed
                    .iter_mut()
                    .zip(token)
                    .for_each(|(sum, x)| *sum += weight * x);
            }
        }
        kernel::linear_to_vec(rows(&mixed), &self.values, Some(&self.bias), None)
    }
}

/// The mean of each image's positions, then the positions, with positions added: [n, tokens,
/// features].
fn with_mean(x: &Rows, positions: &[f32]) -> Vec<f32> {
    let pixels = x.size[0] * x.size[1];
    let mut tokens = Vec::with_capacity(x.images * (pixels + 1) * x.channels);
    for image in x.values.chunks_exact(pixels * x.channels) {
        let mut mean = vec![0.0f32; x.channels];
        for pixel in image.chunks_exact(x.channels) {
            mean.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x);
        }
        let count = pixels as f32;
        let rows = mean
            .iter()
            .map(|sum| sum / count)
            .chain(image.iter().copied());
        tokens.extend(rows.zip(positions).map(|(x, place)| x + place));
    }
    tokens
}

/// The dot product of two rows, in eight sums at once.
fn product(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut sums = [0.0f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a
        .remainder()
        .iter()
        .zip(b.remainder())
        .map(|(a, b)| a * b)
        .sum();
    for (a, b) in a.zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Softmax of logits to weights that sum to 1. NaN stays NaN.
fn softmax(values: &mut [f32]) {
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in values.iter_mut() {
        *value = (*value - most).exp();
        sum += *value;
    }
    values.iter_mut().for_each(|value| *value /= sum);
}
