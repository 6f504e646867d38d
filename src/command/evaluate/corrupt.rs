//! `--corrupt`: accuracy against the strength of noise, blur, JPEG, brightness and contrast.

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use crate::checkpoint::architecture::Architecture;
use crate::input::corrupt::{Corruption, STRENGTHS};
use crate::input::image::RgbImage;
use crate::input::preprocess::Preprocess;
use crate::input::tokenizer::TokenIds;
use crate::model::DualEncoder;
use crate::output::evaluation::CorruptionRow;
use crate::run::figures::figures;
use crate::run::labelling::Labelling;
use crate::task::metric::{Resampling, Tally};

/// A model whose embeddings of an image are those of the image, then those of each corruption at
/// each strength: [n, (1 + kinds strengths) dim].
pub(super) struct Corrupting<E> {
    pub(super) model: E,
    pub(super) preprocess: Preprocess,
    pub(super) seed: u64,
}

impl<E: DualEncoder> DualEncoder for Corrupting<E> {
    fn encode_image(&self, pixels: &Tensor) -> Result<Tensor> {
        let n = pixels.dim(0)?;
        let values = pixels.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let values = values.flatten_all()?.to_vec1::<f32>()?;
        let crops = values.chunks_exact(values.len() / n.max(1));
        let crops: Vec<RgbImage> = crops.map(|crop| self.preprocess.samples(crop)).collect();
        let mut columns = vec![self.model.encode_image(pixels)?]; // [n, dim] each
        for kind in Corruption::ALL {
            let corrupt = |crop: &RgbImage| kind.apply(crop, self.seed);
            let corrupted: Vec<Vec<RgbImage>> =
                crops.par_iter().map(corrupt).collect::<Result<_>>()?;
            for strength in 0..STRENGTHS {
                let images = corrupted.iter().map(|images| &images[strength]);
                let values: Vec<f32> = images
                    .flat_map(|image| self.preprocess.normalise(image))
                    .collect();
                let corrupted = Tensor::from_vec(values, pixels.shape(), &Device::Cpu)?;
                columns.push(self.model.encode_image(&corrupted)?);
            }
        }
        Ok(Tensor::cat(&columns, 1)?)
    }

    fn encode_text(&self, texts: &[TokenIds]) -> Result<Tensor> {
        self.model.encode_text(texts)
    }

    fn logit_scale(&self) -> f32 {
        self.model.logit_scale()
    }

    fn logit_bias(&self) -> Option<f32> {
        self.model.logit_bias()
    }

    fn architecture(&self) -> &Architecture {
        self.model.architecture()
    }
}

/// Counts the answers to corrupted images: for each set of labels, a tally per kind and strength.
pub(super) struct Corrupted {
    dim: usize,
    tallies: Vec<Vec<Tally>>,
}

impl Corrupted {
    pub(super) fn new(variants: &[Labelling], dim: usize) -> Self {
        let tallies = |variant: &Labelling| {
            let tally = Tally::new(variant.labels.len());
            vec![tally; Corruption::ALL.len() * STRENGTHS]
        };
        Self {
            dim,
            tallies: variants.iter().map(tallies).collect(),
        }
    }

    /// Counts an image's row from [`Corrupting`] for each of `rows`, and leaves in them the
    /// embeddings of the images as they are.
    pub(super) fn count(
        &mut self,
        variants: &[Labelling],
        rows: &mut Vec<f32>,
        classes: &[usize],
    ) -> Result<()> {
        let places = 1 + Corruption::ALL.len() * STRENGTHS;
        ensure!(
            rows.len() == classes.len() * places * self.dim,
            "{} numbers are not {} images with their corruptions",
            rows.len(),
            classes.len()
        );
        let at = |place: usize| -> Vec<f32> {
            rows.chunks_exact(self.dim)
                .skip(place)
                .step_by(places)
                .flatten()
                .copied()
                .collect() // [n, dim]
        };
        for (variant, tallies) in variants.iter().zip(&mut self.tallies) {
            for (place, tally) in (1..).zip(tallies) {
                variant.count_in(tally, &at(place), classes)?;
            }
        }
        *rows = at(0);
        Ok(())
    }

    pub(super) fn rows(
        &self,
        variants: &[Labelling],
        how: &Resampling,
    ) -> Result<Vec<CorruptionRow>> {
        let settings = Corruption::ALL.into_iter().flat_map(|kind| {
            (1..)
                .zip(kind.values())
                .map(move |(strength, value)| (kind, strength, value))
        });
        let of_run = |(variant, tallies): (&Labelling, &Vec<Tally>)| {
            let rows = settings.clone().zip(tallies);
            let row = |((kind, strength, value), tally): ((Corruption, usize, f64), &Tally)| {
                Ok(CorruptionRow {
                    run: variant.name.clone(),
                    corruption: kind.name(),
                    strength,
                    value,
                    figures: figures(tally, how)?,
                })
            };
            rows.map(row).collect::<Result<Vec<_>>>()
        };
        let rows = variants.iter().zip(&self.tallies).map(of_run);
        Ok(rows.collect::<Result<Vec<_>>>()?.concat())
    }
}
