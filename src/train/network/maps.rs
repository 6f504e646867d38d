//! Which patches of an image a score comes from, by one backward pass: LeGrad and Grad-ECLIP.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};

use super::image::Images;
use super::operation::values;
use super::{Arithmetic, Network, Working};
use crate::checkpoint::Checkpoint;
use crate::kernel;

/// An image tower that says where a score comes from: in f32 on the CPU. A score is the product of
/// the image's unit embedding with `text` `[embed_dim]`: the embedding of a text, or the difference of
/// two. A map has a number for each patch, row by row, not below zero.
pub(crate) struct ImageMaps {
    network: Network,
    weights: Working,
    size: usize,
}

impl ImageMaps {
    /// Loads the image tower of `checkpoint`.
    ///
    /// # Errors
    /// When a value is not finite.
    pub(crate) fn new(checkpoint: &Checkpoint) -> Result<Self> {
        let network = Network::new(checkpoint, Arithmetic::Kernel);
        let is_of_images = |name: &str| {
            name.starts_with("vision_model.") || name.starts_with("visual_projection.")
        };
        let parameters = super::parameters(checkpoint, &Device::Cpu, is_of_images)?;
        let weights = network.working(&parameters, &BTreeMap::new())?;
        Ok(Self {
            network,
            weights,
            size: checkpoint.architecture.image.image_size(),
        })
    }

    /// LeGrad (Bousselham et al., arXiv 2404.03214) over the last `layers` layers: for each, the
    /// positive part of the gradient of the attention, meaned over heads and queries, of the score
    /// that the mean of the layer's outputs would have; summed over layers. `pixels` [3, size, size].
    ///
    /// # Errors
    /// For a ResNet, and when there are not so many layers.
    pub(crate) fn legrad(&self, pixels: &[f32], text: &[f32], layers: usize) -> Result<Vec<f32>> {
        kernel::in_pool(|| {
            let images = Images::new(&self.network, &self.weights)?;
            let (stack, rows) = (images.stack(), images.rows(1));
            let (count, width) = (stack.tower.layers, stack.tower.width);
            ensure!(
                (1..=count).contains(&layers),
                "the image tower has {count} layers, not {layers}"
            );
            let first = count - layers;
            let mut x = images.tokens(&self.image(pixels)?)?; // [tokens, width]
            if let Some((y, _)) = stack.outputs(x.clone(), &rows, 0..first)?.pop() {
                x = y;
            }
            let tokens = x.dim(0)?;
            let mut map = vec![0.0; tokens - 1];
            let outputs = stack.outputs(x, &rows, first..count)?;
            for (layer, (y, tape)) in (first..).zip(outputs) {
                let mean = images.pooled_gradient(&y.mean_keepdim(0)?, text)?; // [1, width]
                let each = (mean / tokens as f64)?
                    .broadcast_as(y.shape())?
                    .contiguous()?;
                let mixed = stack.mixed_gradient(layer, &rows, &tape, each)?;
                let (mixed, qkv) = (values(&mixed)?, values(&tape.qkv)?);
                let of_layer = attention_gradient(&mixed, &qkv, width, stack.tower.heads);
                map.iter_mut()
                    .zip(of_layer)
                    .for_each(|(sum, value)| *sum += value);
            }
            Ok(map)
        })
    }

    /// Grad-ECLIP (Zhao et al., arXiv 2502.18816): with attention of a single head in the last
    /// layer, the positive part of the gradient of the class token's attention output times the value
    /// of each patch, weighted by the similarity of its key to the class token's query. `pixels`
    /// [3, size, size].
    ///
    /// # Errors
    /// For a ResNet.
    pub(crate) fn grad_eclip(&self, pixels: &[f32], text: &[f32]) -> Result<Vec<f32>> {
        kernel::in_pool(|| {
            let images = Images::new(&self.network, &self.weights)?;
            let (stack, rows) = (images.stack(), images.rows(1));
            let width = stack.tower.width;
            let mut x = images.tokens(&self.image(pixels)?)?;
            let below = 0..stack.tower.layers.saturating_sub(1);
            if let Some((y, _)) = stack.outputs(x.clone(), &rows, below)?.pop() {
                x = y;
            }
            let attend = |qkv: &Tensor| -> Result<Tensor> {
                let mixed = single_head(&values(qkv)?, width);
                Ok(Tensor::from_vec(mixed, (1, width), &Device::Cpu)?)
            };
            let (y, tape) = stack.last_with(x, &rows, attend)?;
            let dy = images.pooled_gradient(&y, text)?;
            let mixed = stack.last_mixed_gradient(&rows, &tape, dy)?; // [1, width]
            let through_out = |part: usize| -> Result<Tensor> {
                let part = tape.qkv.narrow(1, part * width, width)?.contiguous()?;
                stack.last_out(&rows, &part)
            };
            let (queries, keys) = (through_out(0)?, through_out(1)?);
            let similar = similarity(&values(&queries)?[..width], &values(&keys)?, width);
            let (mixed, qkv) = (values(&mixed)?, values(&tape.qkv)?);
            let patches = qkv.chunks_exact(3 * width).skip(1).zip(similar);
            Ok(patches
                .map(|(row, weight)| (dot(&mixed, &row[2 * width..]) * weight).max(0.0))
                .collect())
        })
    }

    fn image(&self, pixels: &[f32]) -> Result<Tensor> {
        let shape = (1, 3, self.size, self.size);
        Ok(Tensor::from_slice(pixels, shape, &Device::Cpu)?)
    }
}

/// The positive part of the gradient of each attention weight, meaned over heads and queries: one
/// number per patch. `mixed` [tokens, width] is the gradient of the attention's output, `qkv`
/// [tokens, 3 width]; the weight of a key in a query is worth the product of the query's row of
/// `mixed` with the key's value, head by head.
fn attention_gradient(mixed: &[f32], qkv: &[f32], width: usize, heads: usize) -> Vec<f32> {
    let (head, weights) = (width / heads, mixed.len() / width * heads);
    let of_key = |row: &[f32]| {
        let value = row[2 * width..].chunks_exact(head).cycle();
        let products = mixed.chunks_exact(head).zip(value);
        let sum: f32 = products.map(|(a, b)| dot(a, b).max(0.0)).sum();
        sum / weights as f32
    };
    qkv.chunks_exact(3 * width).skip(1).map(of_key).collect()
}

/// Attention of the first token with a single head: `qkv` [tokens, 3 width] -> `[width]`.
fn single_head(qkv: &[f32], width: usize) -> Vec<f32> {
    let scale = (width as f32).powf(-0.5);
    let rows = qkv.chunks_exact(3 * width);
    let query = &qkv[..width];
    let scores: Vec<f32> = rows
        .clone()
        .map(|row| scale * dot(query, &row[width..2 * width]))
        .collect();
    let most = scores.iter().copied().fold(f32::MIN, f32::max);
    let weights: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
    let sum: f32 = weights.iter().sum();
    let mut mixed = vec![0.0; width];
    for (row, weight) in rows.zip(weights) {
        for (mixed, value) in mixed.iter_mut().zip(&row[2 * width..]) {
            *mixed += weight / sum * value;
        }
    }
    mixed
}

/// The cosine of `query` `[width]` with the key of each patch, `keys` [tokens, width], stretched to
/// 0 to 1.
fn similarity(query: &[f32], keys: &[f32], width: usize) -> Vec<f32> {
    let length = |x: &[f32]| dot(x, x).sqrt().max(1e-12);
    let cosine = |key: &[f32]| dot(query, key) / length(query) / length(key);
    let cosines: Vec<f32> = keys.chunks_exact(width).skip(1).map(cosine).collect();
    let least = cosines.iter().copied().fold(f32::MAX, f32::min);
    let most = cosines.iter().copied().fold(f32::MIN, f32::max);
    // Keys that are all the same weigh the same.
    let stretched = |cosine: f32| match most > least {
        true => (cosine - least) / (most - least),
        false => 1.0,
    };
    cosines.into_iter().map(stretched).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::architecture::ImageTower;
    use crate::checkpoint::tiny;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let value = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0;
        (0..count).map(value).collect()
    }

    fn maps() -> (ImageMaps, Vec<f32>, Vec<f32>) {
        let checkpoint = tiny::checkpoint(&None.into()).unwrap();
        let maps = ImageMaps::new(&checkpoint).unwrap();
        let pixels = numbers(3 * maps.size * maps.size, 1);
        let text = numbers(checkpoint.architecture.embed_dim, 2);
        (maps, pixels, text)
    }

    /// The score of an image with the last block's pooled output `y`.
    fn score(maps: &ImageMaps, y: &Tensor, text: &[f32]) -> f64 {
        let images = Images::new(&maps.network, &maps.weights).unwrap();
        let out = images.projected(y).unwrap();
        let both = |a: &[f32], b: &[f32]| -> f64 {
            a.iter()
                .zip(b)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum()
        };
        both(&out, text) / both(&out, &out).sqrt()
    }

    #[test]
    fn gradients_of_the_attention_are_slopes() {
        let (maps, pixels, text) = maps();
        let images = Images::new(&maps.network, &maps.weights).unwrap();
        let (stack, rows) = (images.stack(), images.rows(1));
        let width = stack.tower.width;
        let last = stack.tower.layers - 1;
        let x = images.tokens(&maps.image(&pixels).unwrap()).unwrap();
        let (x, _) = stack.outputs(x, &rows, 0..last).unwrap().pop().unwrap();
        let attend = |change: Option<(usize, f32)>| {
            move |qkv: &Tensor| -> Result<Tensor> {
                let mut mixed = single_head(&values(qkv)?, width);
                if let Some((at, by)) = change {
                    mixed[at] += by;
                }
                Ok(Tensor::from_vec(mixed, (1, width), &Device::Cpu)?)
            }
        };
        let run = |change| stack.last_with(x.clone(), &rows, attend(change)).unwrap();
        let (y, tape) = run(None);
        let dy = images.pooled_gradient(&y, &text).unwrap();
        let found = stack.last_mixed_gradient(&rows, &tape, dy).unwrap();
        let found = found.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let most = found
            .iter()
            .copied()
            .fold(0.0, |most: f32, x| most.max(x.abs()));
        for at in (0..width).step_by(width / 8) {
            let step = 0.02f32;
            let [more, less] = [step, -step].map(|by| score(&maps, &run(Some((at, by))).0, &text));
            let slope = (more - less) / f64::from(2.0 * step);
            let off = (slope - f64::from(found[at])).abs() / f64::from(most);
            assert!(off < 0.02, "{at}: {slope} {}", found[at]);
        }
    }

    #[test]
    fn maps_have_a_number_per_patch() {
        let (maps, pixels, text) = maps();
        let ImageTower::VisionTransformer(sizes) = &maps.network.architecture.image else {
            panic!("tiny is a vision transformer");
        };
        let patches = sizes.tokens() - 1;
        let one = maps.legrad(&pixels, &text, 1).unwrap();
        let two = maps.legrad(&pixels, &text, 2).unwrap();
        for map in [&one, &two, &maps.grad_eclip(&pixels, &text).unwrap()] {
            assert_eq!(map.len(), patches);
            assert!(map.iter().all(|value| *value >= 0.0 && value.is_finite()));
            assert!(map.iter().any(|value| *value > 0.0));
        }
        assert!(one.iter().zip(&two).all(|(one, two)| one <= two));
        assert!(maps.legrad(&pixels, &text, 0).is_err());
        assert!(maps.legrad(&pixels, &text, 1000).is_err());
    }

    #[test]
    fn a_weight_is_worth_its_value() {
        // Two tokens, two heads of one feature.
        let mixed = [1.0, -2.0, 3.0, 4.0];
        let qkv = [
            [0.0, 0.0, 0.0, 0.0, 9.0, 9.0],
            [0.0, 0.0, 0.0, 0.0, 5.0, -1.0],
        ]
        .concat();
        // First head 1 x 5 and 3 x 5, second -2 x -1 and 4 x -1, which is below zero.
        let expected = (5.0 + 15.0 + 2.0) / 4.0;
        assert_eq!(attention_gradient(&mixed, &qkv, 2, 2), [expected]);
    }
}
