//! A pre-norm transformer block, and a stack of them.

use std::ops::Range;

use anyhow::{Result, bail};
use candle_core::Tensor;
use rayon::prelude::*;

use super::attention::{Attention, gather};
use super::device::{BlockMatrix, Compute};
use super::layer::{LayerNorm, Linear};
use super::sequences::Sequences;
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

    /// Like `forward`, for the last block: everything after keys and values is computed only for
    /// the rows `queries`. `x` [rows, width] -> [queries, width].
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

    /// Queries, keys and values, and the attention for the rows `queries`: `x` [rows, width] ->
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
        let linear = |part: BlockMatrix, names: &[&str]| {
            let paths: Vec<_> = names.iter().map(|name| format!("{path}.{name}")).collect();
            let precision = match weights.compute {
                Compute::Kernel(precision) => precision.of(part, layer, tower.layers),
                Compute::Candle(..) => kernel::Precision::F32,
            };
            let factors = precision
                .is_integer()
                .then(|| smoothing.factors(part, &paths))
                .transpose()?;
            weights.linear(&paths, true, precision, factors.as_deref())
        };
        Ok(Self {
            qkv: linear(
                BlockMatrix::Qkv,
                &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            )?,
            out: linear(BlockMatrix::Out, &["self_attn.out_proj"])?,
            fc1: linear(BlockMatrix::Fc1, &["mlp.fc1"])?,
            fc2: linear(BlockMatrix::Fc2, &["mlp.fc2"])?,
            attention: Attention {
                width: tower.width,
                heads: tower.heads,
                bf16: match weights.compute {
                    Compute::Kernel(precision) => {
                        precision.of(BlockMatrix::Qkv, layer, tower.layers)
                            != kernel::Precision::F32
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

/// A stack of residual blocks.
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

    /// `x` [rows, width] through all blocks -> only the rows `queries`, [queries, width].
    ///
    /// On the CPU `x` is written in place, so the caller must own it.
    pub(super) fn forward_pooled(
        &self,
        mut x: Tensor,
        sequences: &Sequences,
        queries: &[usize],
    ) -> Result<Tensor> {
        let Some((last, first)) = self.blocks.split_last() else {
            bail!("the transformer has no layers");
        };
        for block in first {
            x = block.forward(x, sequences)?;
        }
        last.forward_pooled(&x, sequences, queries)
    }

    /// `x` [rows, width] through the blocks `layers` -> the same shape.
    ///
    /// On the CPU `x` is written in place, so the caller must own it.
    pub(super) fn forward(
        &self,
        x: Tensor,
        sequences: &Sequences,
        layers: Range<usize>,
    ) -> Result<Tensor> {
        let mut blocks = self.blocks[layers].iter();
        blocks.try_fold(x, |x, block| block.forward(x, sequences))
    }

    /// How many blocks there are.
    pub(super) fn layers(&self) -> usize {
        self.blocks.len()
    }

    /// Like [`Self::forward_pooled`] for several groups of images on the CPU, each pooled at the
    /// first row of its images -> [images, width]. A layer's weights stay in the cache while every
    /// group passes through it.
    pub(super) fn forward_each(&self, mut groups: Vec<Group>) -> Result<Tensor> {
        let Some((last, first)) = self.blocks.split_last() else {
            bail!("the transformer has no layers");
        };
        for block in first {
            for group in &mut groups {
                group.x = block.forward(group.x.clone(), &group.sequences)?;
            }
        }
        // One row per image is left; batched, they read the weights once.
        let mut mixed = Vec::new();
        let mut pooled = Vec::new();
        for Group { x, sequences } in &groups {
            let queries: Vec<usize> = sequences.segments.iter().map(|s| s.rows.start).collect();
            mixed.push(last.attend_pooled(x, sequences, &queries)?);
            pooled.push(gather(x, &queries)?);
        }
        let x = Tensor::cat(&pooled, 0)?; // [images, width]
        let x = last.out.add_into(&Tensor::cat(&mixed, 0)?, x)?;
        last.mlp(x)
    }
}

/// Images that pass through a layer as one tall matrix.
pub(super) struct Group {
    /// [images tokens, width]
    pub(super) x: Tensor,
    /// The rows of each image.
    pub(super) sequences: Sequences,
}

/// Smoothing factors for the input columns of a block's integer matrices, from the weights alone.
///
/// Trained CLIP has outlier channels; rounded to few bits with one scale per row, they crowd out the
/// rest. Multiplying input column j by s_j and dividing weight column j by it changes only
/// the rounding. s_j = sqrt(max_i |W_ij| / a_j), with a_j an estimate of the column's size: gain
/// and bias of the LayerNorm before it, or the norm of the weight row that produces it. (After
/// SmoothQuant, arXiv 2211.10438, which measures a_j on data.)
struct Smoothing<'a> {
    weights: &'a Weights<'a>,
    /// The block's path.
    path: &'a str,
    /// Its two LayerNorms.
    norms: [&'a LayerNorm; 2],
}

impl Smoothing<'_> {
    /// One factor for each input of the layers at `paths`, which form `part` of the block.
    fn factors(&self, part: BlockMatrix, paths: &[String]) -> Result<Vec<f32>> {
        let sizes = match part {
            BlockMatrix::Qkv => after_norm(self.norms[0]),
            BlockMatrix::Fc1 => after_norm(self.norms[1]),
            BlockMatrix::Out => self.after_layer("self_attn.v_proj", self.norms[0])?,
            BlockMatrix::Fc2 => self.after_layer("mlp.fc1", self.norms[1])?,
        };
        let mut largest = vec![0.0f32; sizes.len()];
        for path in paths {
            self.each_row(path, |_, row| {
                for (largest, value) in largest.iter_mut().zip(row) {
                    *largest = largest.max(value.abs());
                }
            })?;
        }
        Ok(sizes
            .iter()
            .zip(&largest)
            .map(|(&size, &largest)| factor(largest, size))
            .collect())
    }

    /// The norm of each row of the layer that produces the input, with its own input scaled by
    /// `norm`.
    fn after_layer(&self, layer: &str, norm: &LayerNorm) -> Result<Vec<f32>> {
        let path = format!("{}.{layer}", self.path);
        let mut sizes = self.weights.vector(&format!("{path}.bias"))?;
        self.each_row(&path, |index, row| {
            let squares: f32 = row
                .iter()
                .zip(norm.gain())
                .map(|(value, gain)| (value * gain).powi(2))
                .sum();
            sizes[index] = squares.sqrt() + sizes[index].abs();
        })?;
        Ok(sizes)
    }

    fn each_row(&self, path: &str, mut see: impl FnMut(usize, &[f32])) -> Result<()> {
        let matrix = self.weights.matrix(&format!("{path}.weight"))?;
        let mut row = vec![0.0; matrix.shape()[1]];
        for index in 0..matrix.shape()[0] {
            matrix.copy_row_f32(index, &mut row)?;
            see(index, &row);
        }
        matrix.release();
        Ok(())
    }
}

fn after_norm(norm: &LayerNorm) -> Vec<f32> {
    norm.gain()
        .iter()
        .zip(norm.bias())
        .map(|(gain, bias)| gain.abs() + bias.abs())
        .collect()
}

fn factor(largest: f32, size: f32) -> f32 {
    let factor = (largest / size).sqrt();
    // A column without weights or without input needs no smoothing.
    if factor.is_finite() && factor > 0.0 {
        factor
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::checkpoint::architecture::ImageTower;
    use crate::checkpoint::tiny;
    use crate::model::device::CpuPrecision;

    fn tokens(rows: usize, width: usize, seed: usize) -> Tensor {
        let value = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0;
        let values: Vec<f32> = (0..rows * width).map(value).collect();
        Tensor::from_vec(values, (rows, width), &Device::Cpu).unwrap()
    }

    #[track_caller]
    fn same(found: &Tensor, expected: &Tensor, width: usize) {
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (found, expected) = (flat(found), flat(expected));
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.chunks(width).zip(expected.chunks(width)) {
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter()
                    .zip(b)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum()
            };
            let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
            assert!(cosine >= 0.999_999_9, "cosine {cosine}");
            let size = dot(b, b).sqrt() as f32;
            for (a, b) in a.iter().zip(b) {
                assert!(((a - b) / size).abs() <= 5e-6, "{a} {b}");
            }
        }
    }

    /// The pooled last block computes little more than the rows that are read; the plain one
    /// computes all.
    #[test]
    fn the_pooled_last_block_equals_the_full_one() {
        let checkpoint = tiny::checkpoint(&None.into()).unwrap();
        let ImageTower::VisionTransformer(sizes) = &checkpoint.architecture.image else {
            panic!("tiny is a vision transformer");
        };
        let tower = sizes.tower.clone();
        let width = tower.width;
        for compute in [
            Compute::Kernel(CpuPrecision::F32),
            Compute::Candle(Device::Cpu, DType::F32),
        ] {
            let weights = Weights::new(&checkpoint, &compute);
            let transformer = Transformer::load(&weights, "vision_model", &tower).unwrap();
            let all_rows = |x: Tensor, sequences: &Sequences| {
                let blocks = transformer.blocks.iter();
                blocks.fold(x, |x, block| block.forward(x, sequences).unwrap())
            };
            let sequences = Sequences::images(3, 17);
            let queries = [0, 16, 17, 40];
            let plain = all_rows(tokens(51, width, 1), &sequences);
            let plain = gather(&plain, &queries).unwrap();
            let found = transformer
                .forward_pooled(tokens(51, width, 1), &sequences, &queries)
                .unwrap();
            same(&found, &plain, width);
            if matches!(compute, Compute::Candle(..)) {
                continue;
            }
            // Several groups of images, one after another within each layer.
            let groups = [1, 2].map(|images| Group {
                x: tokens(17 * images, width, images),
                sequences: Sequences::images(images, 17),
            });
            let plain: Vec<_> = [1, 2]
                .into_iter()
                .map(|images| {
                    let x = tokens(17 * images, width, images);
                    let x = all_rows(x, &Sequences::images(images, 17));
                    gather(&x, &[0, 17][..images]).unwrap()
                })
                .collect();
            let plain = Tensor::cat(&plain, 0).unwrap();
            let found = transformer.forward_each(groups.into()).unwrap();
            same(&found, &plain, width);
        }
    }
}
