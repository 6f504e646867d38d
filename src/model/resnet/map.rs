//! Feature maps between convolutions.

use anyhow::{Result, bail, ensure};
use candle_core::{DType, Tensor};

use crate::kernel::{self, Windows};

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
