//! A loaded model, timed on images and texts.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::inputs::Folder;
use super::measure::Repeats;
use super::{inputs, measure, report};
use crate::input::image::DecodeOptions;
use crate::input::paths;
use crate::input::tokenizer::TokenIds;
use crate::model::device::CpuPrecision;
use crate::model::{self, Compute, DualEncoder, Towers};
use crate::run::Console;
use crate::run::engine::Engine;
use crate::run::images::IMAGES;
use crate::run::session::Session;

/// Batch size of the second image figure.
const BATCH: usize = 16;
/// The number of labels compared with f32.
const COMPARED_LABELS: usize = 10;

/// Times the parts of one model.
pub(super) struct Subject<'a> {
    pub(super) load_ms: f64,
    session: &'a Arc<Session>,
    folder: &'a Folder,
    repeats: Repeats,
    console: &'a Console,
    clip: Arc<dyn DualEncoder>,
    /// [16, 3, image_size, image_size]
    pixels: Tensor,
    labels: Vec<TokenIds>,
}

impl<'a> Subject<'a> {
    /// Loads the model, timed, and prepares its inputs.
    pub(super) fn load(
        session: &'a Arc<Session>,
        folder: &'a Folder,
        labels: &[String],
        repeats: Repeats,
        console: &'a Console,
    ) -> Result<Self> {
        let labels = inputs::tokens(labels, session.checkpoint.architecture.context_length)?;
        let pixels = folder.pixels(BATCH, &session.checkpoint.preprocess)?;
        let start = Instant::now();
        let clip = Arc::new(session.load(Towers::Both, console)?);
        Ok(Self {
            load_ms: measure::milliseconds(session.read_time + start.elapsed()),
            session,
            folder,
            repeats,
            console,
            clip,
            pixels,
            labels,
        })
    }

    /// Times the image tower alone, on one image and on a batch.
    pub(super) fn images(&self) -> Result<report::Images> {
        self.console.note("timing the image tower");
        let time = |pixels: &Tensor| {
            self.repeats
                .median_ms(|| self.clip.encode_image(pixels).map(drop))
        };
        Ok(report::Images {
            image_b1_ms: Some(time(&self.pixels.narrow(0, 0, 1)?)?),
            image_b16_ms: Some(time(&self.pixels)?),
        })
    }

    /// Times the text tower alone, on labels of natural length (for each count that the file has)
    /// and on texts that fill the context.
    pub(super) fn texts(&self) -> Result<report::Texts> {
        self.console.note("timing the text tower");
        let time = |texts: &[TokenIds]| {
            self.repeats
                .median_ms(|| self.clip.encode_text(texts).map(drop))
        };
        let first = |count: usize| self.labels.get(..count).map(&time).transpose();
        let full = inputs::full_context(10, self.clip.architecture().context_length)?;
        Ok(report::Texts {
            labels2_ms: first(2)?,
            labels10_ms: first(10)?,
            labels100_ms: first(100)?,
            labels1000_ms: first(1000)?,
            labels10_full_context_ms: Some(time(&full)?),
        })
    }

    /// Times decoding, resizing and encoding together, as in `classify`.
    pub(super) fn folder(&self) -> Result<report::Folder> {
        let description = &self.folder.description;
        self.console
            .note(&format!("timing a folder of {description}"));
        let engine = Engine::new(self.session, DecodeOptions::default());
        let mut images = 0;
        let pass = || {
            images = self.encode_folder(&engine)?;
            Ok(())
        };
        let ms = self.repeats.passes_ms(pass)?;
        Ok(report::Folder {
            folder: Some(description.clone()),
            folder_images: Some(images),
            folder_images_per_s: Some(measure::rounded(images as f64 / ms * 1e3)),
        })
    }

    /// Embeds all images and counts those that succeed.
    fn encode_folder(&self, engine: &Engine) -> Result<u64> {
        let sources = paths::expand(vec![self.folder.path.clone()], None, IMAGES)?;
        let mut images = 0;
        for encoded in engine.encode(sources, &self.clip, &self.repeats.stop) {
            match encoded.outcome {
                Ok(_) => images += 1,
                Err(error) => self
                    .console
                    .failed(&encoded.image.text, &format!("{error:#}")),
            }
        }
        Ok(images)
    }

    /// The deviation of this precision from f32.
    pub(super) fn loss(&self) -> Result<report::Loss> {
        if self.session.placement.precision == "f32" {
            return Ok(report::Loss::default());
        }
        self.console.note("comparing with f32");
        let compute = Compute::Kernel(CpuPrecision::F32);
        let exact = model::load(&self.session.checkpoint, &compute)
            .context("cannot load the model in f32 to compare with")?;
        let (clip, pixels) = (&self.clip, &self.pixels);
        let images = least_cosine(&clip.encode_image(pixels)?, &exact.encode_image(pixels)?)?;
        let labels = &self.labels[..self.labels.len().min(COMPARED_LABELS)];
        let texts = least_cosine(&clip.encode_text(labels)?, &exact.encode_text(labels)?)?;
        Ok(report::Loss {
            image_cosine_to_f32: Some(images),
            text_cosine_to_f32: Some(texts),
        })
    }
}

/// The minimum of n cosines between rows of `a` and `b`, `[n, dim]` each, of unit length.
fn least_cosine(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (a, b) = (a.to_vec2::<f32>()?, b.to_vec2::<f32>()?);
    let cosine = |(a, b): (&Vec<f32>, &Vec<f32>)| -> f64 {
        let products = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
        products.sum()
    };
    let least = a.iter().zip(&b).map(cosine).fold(1.0, f64::min);
    // The resolution of f32 embeddings.
    Ok((least * 1e7).round() / 1e7)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn the_least_cosine_is_that_of_the_worst_row() {
        let tensor = |rows: [[f32; 2]; 2]| Tensor::new(&rows, &Device::Cpu).unwrap();
        let a = tensor([[1.0, 0.0], [0.6, 0.8]]);
        let b = tensor([[1.0, 0.0], [0.0, 1.0]]);
        let least = least_cosine(&a, &b).unwrap();
        assert!((least - 0.8).abs() < 1e-6, "{least}");
    }
}
