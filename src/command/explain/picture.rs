//! The image that is explained, as the model sees it and as people do.

use std::io;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use candle_core::{Device, Tensor};

use super::scorer::Scorer;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::architecture::ImageTower;
use crate::input::image::{self, DecodeOptions, ImageBytes, RgbImage};
use crate::model::DualEncoder;
use crate::model::direct::{Direct, of_image};
use crate::output::explanation::Regions;
use crate::run::session::Session;
use crate::task::attribution::regions::{RegionMap, occlusion};
use crate::train::ImageMaps;

/// How the contributions of regions are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RegionMethod {
    /// What is lost when a cell is covered.
    Occlusion,
    /// The gradient of the attention in the last layers.
    LeGrad,
    /// The gradient of what the class token attends to.
    GradEclip,
}

impl RegionMethod {
    /// Fails if it cannot explain images of this tower, or takes no grid but has one.
    pub(super) fn check(self, tower: &ImageTower, grid: Option<u64>) -> Result<()> {
        if self == Self::Occlusion {
            return Ok(());
        }
        let name = self.name();
        ensure!(
            grid.is_none(),
            "--grid is for --regions occlusion; the cells of {name} are the model's patches"
        );
        ensure!(
            matches!(tower, ImageTower::VisionTransformer(_)),
            "--regions {name} follows the attention between patches, and this model is a ResNet; use \
             --regions occlusion"
        );
        Ok(())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Occlusion => "occlusion",
            Self::LeGrad => "legrad",
            Self::GradEclip => "grad-eclip",
        }
    }
}

/// At least so many pixels per side are shown to people.
const SHOWN_SIDE: usize = 448;
/// Images encoded together if nothing is said.
const AT_ONCE: usize = 32;
/// Layers that LeGrad sums over, as in its authors' code.
const LEGRAD_LAYERS: usize = 2;

/// The square that the model sees.
pub(super) struct Picture {
    /// `[3, size, size]`, normalised.
    pixels: Vec<f32>,
    size: usize,
    /// The same square for people.
    pub(super) shown: RgbImage,
    /// Left, top, width and height in the image.
    area: [f32; 4],
    pub(super) warnings: Vec<String>,
}

impl Picture {
    /// Reads the image at `path`, or from stdin if that is `-`.
    pub(super) fn read(path: &Path, options: &DecodeOptions, session: &Session) -> Result<Self> {
        let read = || -> Result<_> {
            let bytes: ImageBytes = match path.as_os_str() == "-" {
                true => image::read_stream(io::stdin().lock(), options)?.into(),
                false => image::read_bytes(path, options)?,
            };
            image::decode(&bytes, options)
        };
        let decoded =
            read().with_context(|| format!("cannot read the image {}", path.display()))?;
        let preprocess = &session.checkpoint.preprocess;
        let size = preprocess.image_size;
        let larger = preprocess.magnified(SHOWN_SIDE.div_ceil(size));
        Ok(Self {
            pixels: preprocess.normalise(&preprocess.crop_decoded(&decoded)),
            size,
            shown: larger.crop_decoded(&decoded),
            area: preprocess.area(decoded.size),
            warnings: decoded.warnings,
        })
    }

    /// Its embedding `[dim]`.
    pub(super) fn encode(&self, model: &dyn DualEncoder) -> Result<Vec<f32>> {
        self.encode_all(model, self.pixels.clone())
    }

    /// The embeddings [n, dim] of `pixels` [n, 3, size, size].
    fn encode_all(&self, model: &dyn DualEncoder, pixels: Vec<f32>) -> Result<Vec<f32>> {
        let shape = (pixels.len() / self.pixels.len(), 3, self.size, self.size);
        let pixels = Tensor::from_vec(pixels, shape, &Device::Cpu)?;
        Ok(model.encode_image(&pixels)?.flatten_all()?.to_vec1()?)
    }

    /// Its embedding as a sum over its patches.
    pub(super) fn direct(&self, checkpoint: &Checkpoint) -> Result<Direct> {
        of_image(checkpoint, &self.pixels)
    }

    /// The contributions of a grid: of `side` x `side` cells, or of the patches.
    pub(super) fn regions(
        &self,
        method: RegionMethod,
        side: usize,
        scorer: &Scorer,
        session: &Session,
    ) -> Result<Regions> {
        let mut viewer = |pixels| scorer.scores(&self.encode_all(scorer.model, pixels)?);
        let at_once = session.batch_size.unwrap_or(AT_ONCE);
        let map = match method {
            RegionMethod::Occlusion => {
                ensure!(
                    side <= self.size,
                    "--grid {side} is finer than the {} pixels that the model sees",
                    self.size
                );
                occlusion(&self.pixels, self.size, side, at_once, &mut viewer)?
            }
            RegionMethod::LeGrad | RegionMethod::GradEclip => {
                let maps = ImageMaps::new(&session.checkpoint)?;
                let text = scorer.direction();
                let values = match method {
                    RegionMethod::LeGrad => maps.legrad(&self.pixels, &text, LEGRAD_LAYERS)?,
                    _ => maps.grad_eclip(&self.pixels, &text)?,
                };
                RegionMap {
                    side: values.len().isqrt(),
                    values,
                }
            }
        };
        Ok(self.placed(method, &map))
    }

    fn placed(&self, method: RegionMethod, map: &RegionMap) -> Regions {
        Regions {
            method: method.name(),
            area: self.area,
            map: map.values.chunks(map.side).map(<[f32]>::to_vec).collect(),
        }
    }
}
