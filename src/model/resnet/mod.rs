//! The image tower of CLIP's ResNets (openai/CLIP `ModifiedResNet`): a stem of three convolutions,
//! blocks with average pooling instead of strides, and attention instead of the final mean.

mod convolution;
mod pool;

use anyhow::{Result, bail, ensure};
use candle_core::{DType, Device, Tensor};

use super::device::Compute;
use super::one_image_a_core;
use super::weights::Weights;
use crate::checkpoint::architecture::ResNet as Sizes;
use crate::kernel::{self, Activation, Precision, Windows};
use convolution::Convolution;
use pool::AttentionPool;

/// Images that pass through the later stages together: the weights there are large, and read once
/// for all of them.
const TOGETHER: usize = 8;

/// Stages that process every image alone: the weights there are small, and one image fills the
/// cache.
const STAGES_ALONE: usize = 2;

const RELU: Option<Activation> = Some(Activation::Relu);

pub(super) struct ResNet {
    stem: [Convolution; 3],
    stages: Vec<Vec<Bottleneck>>,
    pool: AttentionPool,
    device: Device,
    dtype: DType,
    packed: bool,
}

/// Three convolutions with a residual: `channels -> inside -> inside -> 4 inside`.
struct Bottleneck {
    reduce: Convolution,
    middle: Convolution,
    expand: Convolution,
    /// Projects the residual to the output size; only the first block of a stage needs it.
    downsample: Option<Convolution>,
    /// Side of the average pooling, before `expand` and before `downsample`.
    stride: usize,
}

impl Bottleneck {
    fn load(weights: &Weights, path: &str, stride: usize, first: bool) -> Result<Self> {
        let precision = match weights.compute {
            Compute::Kernel(precision) => precision.of_convolutions(),
            Compute::Candle(..) => Precision::F32,
        };
        let convolution = |filter: &str, norm: &str| {
            let names = [format!("{path}.{filter}"), format!("{path}.{norm}")];
            Convolution::load(weights, &names, 1, precision)
        };
        Ok(Self {
            reduce: convolution("conv1", "bn1")?,
            middle: convolution("conv2", "bn2")?,
            expand: convolution("conv3", "bn3")?,
            downsample: first
                .then(|| convolution("downsample.0", "downsample.1"))
                .transpose()?,
            stride,
        })
    }

    /// `x` [images, height, width, channels] -> [images, height / stride, width / stride, 4
    /// inside].
    fn forward(&self, x: FeatureMap) -> Result<FeatureMap> {
        let inside = self.reduce.forward(&x, RELU)?;
        let inside = self
            .middle
            .forward(&inside, RELU)?
            .average_pool(self.stride)?;
        let residual = match &self.downsample {
            Some(downsample) => downsample.forward(&x.average_pool(self.stride)?, None)?,
            None => x,
        };
        self.expand.add_relu(&inside, residual)
    }
}

impl ResNet {
    pub(super) fn load(weights: &Weights, sizes: &Sizes) -> Result<Self> {
        // Always in f32: 27 products per position cost little, and precision lost here is lost for
        // everything after.
        let stem = |index: usize, stride: usize| {
            let names = [format!("visual.conv{index}"), format!("visual.bn{index}")];
            Convolution::load(weights, &names, stride, Precision::F32)
        };
        let stage = |(stage, blocks): (usize, usize)| {
            let block = |index: usize| {
                let first = index == 0;
                let path = format!("visual.layer{}.{index}", stage + 1);
                let stride = if first && stage > 0 { 2 } else { 1 };
                Bottleneck::load(weights, &path, stride, first)
            };
            (0..blocks).map(block).collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            stem: [stem(1, 2)?, stem(2, 1)?, stem(3, 1)?],
            stages: sizes
                .blocks
                .into_iter()
                .enumerate()
                .map(stage)
                .collect::<Result<_>>()?,
            pool: AttentionPool::load(weights, sizes)?,
            device: weights.device().clone(),
            dtype: weights.dtype(),
            packed: matches!(weights.compute, Compute::Kernel(_)),
        })
    }

    /// `pixels` [n, 3, size, size] -> [n, embed_dim], not normalised.
    pub(super) fn encode(&self, pixels: &Tensor) -> Result<Tensor> {
        if self.packed {
            return one_image_a_core(pixels, |part| self.encode_packed(part));
        }
        let x = pixels.to_device(&self.device)?.to_dtype(self.dtype)?;
        let x = self.begin(FeatureMap::Plain(x))?;
        self.end(x)
    }

    /// Encodes some images, one after another as long as that keeps them in the cache.
    fn encode_packed(&self, pixels: &Tensor) -> Result<Tensor> {
        let n = pixels.dim(0)?;
        let mut parts = Vec::new();
        for start in (0..n).step_by(TOGETHER) {
            let maps = (start..n.min(start + TOGETHER))
                .map(|image| self.begin(FeatureMap::Rows(Rows::of_image(&pixels.get(image)?)?)))
                .collect::<Result<Vec<_>>>()?;
            parts.push(self.end(FeatureMap::stack(maps)?)?);
        }
        Ok(Tensor::cat(&parts, 0)?)
    }

    /// The stem and the first stages.
    fn begin(&self, mut x: FeatureMap) -> Result<FeatureMap> {
        for convolution in &self.stem {
            x = convolution.forward(&x, RELU)?;
        }
        run(&self.stages[..STAGES_ALONE], x.average_pool(2)?)
    }

    /// The later stages and the attention: [n, embed_dim].
    fn end(&self, x: FeatureMap) -> Result<Tensor> {
        self.pool.forward(run(&self.stages[STAGES_ALONE..], x)?)
    }
}

fn run(stages: &[Vec<Bottleneck>], x: FeatureMap) -> Result<FeatureMap> {
    stages
        .iter()
        .flatten()
        .try_fold(x, |x, block| block.forward(x))
}

/// A batch of feature maps.
pub(super) enum FeatureMap {
    /// For the CPU's kernels.
    Rows(Rows),
    /// [images, channels, height, width], for candle.
    Plain(Tensor),
}

/// [images, height, width, channels]: a pixel is a row of a product.
pub(super) struct Rows {
    pub(super) values: Vec<f32>,
    pub(super) images: usize,
    /// Height and width.
    pub(super) size: [usize; 2],
    pub(super) channels: usize,
}

impl FeatureMap {
    /// The mean of every `side` by `side` pixels.
    pub(super) fn average_pool(self, side: usize) -> Result<Self> {
        if side == 1 {
            return Ok(self);
        }
        Ok(match self {
            Self::Rows(rows) => Self::Rows(rows.average_pool(side)),
            Self::Plain(x) => Self::Plain(x.avg_pool2d(side)?),
        })
    }

    /// Concatenates the images of several CPU maps.
    pub(super) fn stack(maps: Vec<Self>) -> Result<Self> {
        let mut all: Option<Rows> = None;
        for map in maps {
            let Self::Rows(rows) = map else {
                bail!("only CPU maps can be stacked");
            };
            match &mut all {
                None => all = Some(rows),
                Some(all) => {
                    ensure!(
                        (all.size, all.channels) == (rows.size, rows.channels),
                        "the maps differ in size"
                    );
                    all.values.extend(rows.values);
                    all.images += rows.images;
                }
            }
        }
        match all {
            Some(rows) => Ok(Self::Rows(rows)),
            None => bail!("no images to stack"),
        }
    }
}

impl Rows {
    /// `pixels` [channels, height, width] on the CPU -> [1, height, width, channels].
    pub(super) fn of_image(pixels: &Tensor) -> Result<Self> {
        let (channels, height, width) = pixels.dims3()?;
        let values = pixels.permute((1, 2, 0))?.to_dtype(DType::F32)?;
        Ok(Self {
            values: values.flatten_all()?.to_vec1()?,
            images: 1,
            size: [height, width],
            channels,
        })
    }

    /// The windows with the given side and stride.
    pub(super) fn windows(&self, side: usize, stride: usize) -> Windows<'_> {
        Windows {
            pixels: &self.values,
            images: self.images,
            size: self.size,
            channels: self.channels,
            side,
            stride,
        }
    }

    fn average_pool(self, side: usize) -> Self {
        let values =
            kernel::average_pool(&self.values, self.images, self.size, self.channels, side);
        Self {
            values,
            size: self.size.map(|length| length / side),
            ..self
        }
    }
}
