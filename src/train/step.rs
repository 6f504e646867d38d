//! The loss and gradients of a batch, computed at once or in parts.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};

use super::trainer::{Batch, SCALE, Trainer, host, is_of_texts};
use crate::input::tokenizer::TokenIds;
use crate::model::DualEncoder as _;
use crate::train::CURE;
use crate::train::loss::{Loss, Outputs, loss};
use crate::train::network::{Arithmetic, Gradients, Sum, Working};
use crate::train::settings::Short;

/// The towers' outputs for a batch.
struct Embedded {
    images: Vec<f32>,
    long: Vec<f32>,
    short: Option<Vec<f32>>,
}

impl Trainer {
    /// The loss of a batch and the gradients of all trained parameters, by name.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn gradient(&self, batch: &Batch) -> Result<(Loss, BTreeMap<String, Sum>)> {
        let found = self.gradient_unless(batch, &|| false)?;
        found.context("the gradient computation stopped unexpectedly")
    }

    /// As [`Self::gradient`], or `None` if `stop` returns true between two parts of the batch.
    pub(super) fn gradient_unless(
        &self,
        batch: &Batch,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<(Loss, BTreeMap<String, Sum>)>> {
        let n = self.check(batch)?;
        let weights = self.network.working(&self.parameters, &self.changes)?;
        let mut gradients = self.network.gradients(&self.trained, &self.changes);
        let loss = if n <= self.settings.micro_batch {
            Some(self.at_once(batch, &weights, &mut gradients)?)
        } else {
            self.in_parts(batch, n, &weights, &mut gradients, stop)?
        };
        let Some(loss) = loss else {
            return Ok(None);
        };
        let mut sums = gradients.into_sums();
        if self.trained.iter().any(|name| name == SCALE) {
            let slope = loss.scale_gradient as f32;
            let sum = match self.network.arithmetic() {
                Arithmetic::Kernel => Sum::Host(vec![slope]),
                Arithmetic::Candle(device, _) => Sum::Device(Tensor::new(slope, device)?),
            };
            sums.insert(SCALE.to_owned(), sum);
        }
        Ok(Some((loss, sums)))
    }

    /// The number of pairs.
    fn check(&self, batch: &Batch) -> Result<usize> {
        let n = batch.pixels.dim(0)?;
        ensure!(
            n > 1,
            "a batch of {n} is too small: a contrastive loss needs at least 2 pairs"
        );
        ensure!(
            batch.long.len() == n && batch.short.as_ref().is_none_or(|short| short.len() == n),
            "a batch needs as many captions as images"
        );
        ensure!(
            batch.short.is_some() || self.settings.objective.short == Short::None,
            "the loss needs short captions"
        );
        Ok(n)
    }

    fn at_once(&self, batch: &Batch, weights: &Working, gradients: &mut Gradients) -> Result<Loss> {
        let (images, tape) = match &self.frozen_images {
            Some(clip) => (clip.encode_image(&batch.pixels)?, None),
            None => self
                .network
                .images(weights, &batch.pixels, Some(gradients))?,
        };
        let refs: Vec<_> = batch.long.iter().collect();
        let (long, long_tape) = self.network.texts(weights, &refs, Some(gradients))?;
        let short = match self.short(batch) {
            Some(texts) => {
                let refs: Vec<_> = texts.iter().collect();
                Some(self.network.texts(weights, &refs, Some(gradients))?)
            }
            None => None,
        };
        let (short, short_tape) = short.unzip();
        let embedded = Embedded {
            images: host(&images)?,
            long: host(&long)?,
            short: short.as_ref().map(host).transpose()?,
        };
        let loss = self.loss(&embedded, long.dim(1)?)?;
        if let Some(tape) = tape {
            let dy = self.output(&loss.images_gradient, &images)?;
            self.network
                .images_backward(weights, tape, &dy, gradients)?;
        }
        let texts = [
            (long_tape, Some(&loss.long_gradient)),
            (short_tape.flatten(), loss.short_gradient.as_ref()),
        ];
        for (tape, gradient) in texts {
            if let (Some(tape), Some(gradient)) = (tape, gradient) {
                let dy = self.output(gradient, &long)?;
                self.network.texts_backward(weights, tape, &dy, gradients)?;
            }
        }
        Ok(loss)
    }

    fn in_parts(
        &self,
        batch: &Batch,
        n: usize,
        weights: &Working,
        gradients: &mut Gradients,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Loss>> {
        let part = self.settings.micro_batch;
        let starts = || {
            (0..n)
                .step_by(part)
                .map(|start| start..(start + part).min(n))
        };
        let mut embedded = Embedded {
            images: Vec::new(),
            long: Vec::new(),
            short: None,
        };
        let mut dim = 0;
        for range in starts() {
            if stop() {
                return Ok(None);
            }
            let pixels = batch.pixels.narrow(0, range.start, range.len())?;
            let images = match &self.frozen_images {
                Some(clip) => clip.encode_image(&pixels)?,
                None => self.network.images(weights, &pixels, None)?.0,
            };
            dim = images.dim(1)?;
            embedded.images.extend(host(&images)?);
            let refs: Vec<_> = batch.long[range.clone()].iter().collect();
            let long = self.network.texts(weights, &refs, None)?.0;
            embedded.long.extend(host(&long)?);
            if let Some(texts) = self.short(batch) {
                let refs: Vec<_> = texts[range].iter().collect();
                let short = self.network.texts(weights, &refs, None)?.0;
                let all = embedded.short.get_or_insert_default();
                all.extend(host(&short)?);
            }
        }
        let loss = self.loss(&embedded, dim)?;
        // A tower without trained parameters needs no second pass.
        let names = self.names();
        let has_texts = names.iter().any(|name| is_of_texts(name));
        let has_images = names.iter().any(|name| !is_of_texts(name) && name != SCALE);
        for range in starts() {
            if stop() {
                return Ok(None);
            }
            let values = range.start * dim..range.end * dim;
            if has_images {
                let pixels = batch.pixels.narrow(0, range.start, range.len())?;
                let (out, tape) = self.network.images(weights, &pixels, Some(gradients))?;
                if let Some(tape) = tape {
                    let dy = self.output(&loss.images_gradient[values.clone()], &out)?;
                    self.network
                        .images_backward(weights, tape, &dy, gradients)?;
                }
            }
            let texts = [
                (Some(&batch.long), Some(&loss.long_gradient)),
                (self.short(batch), loss.short_gradient.as_ref()),
            ];
            for (texts, gradient) in texts {
                if let (true, Some(texts), Some(gradient)) = (has_texts, texts, gradient) {
                    let refs: Vec<_> = texts[range.clone()].iter().collect();
                    let (out, tape) = self.network.texts(weights, &refs, Some(gradients))?;
                    if let Some(tape) = tape {
                        let dy = self.output(&gradient[values.clone()], &out)?;
                        self.network.texts_backward(weights, tape, &dy, gradients)?;
                    }
                }
            }
        }
        Ok(Some(loss))
    }

    fn short<'a>(&self, batch: &'a Batch) -> Option<&'a Vec<TokenIds>> {
        match self.settings.objective.short {
            Short::None => None,
            Short::Plain | Short::Principal { .. } => batch.short.as_ref(),
        }
    }

    fn loss(&self, embedded: &Embedded, dim: usize) -> Result<Loss> {
        let outputs = Outputs {
            images: &embedded.images,
            long: &embedded.long,
            short: embedded.short.as_deref(),
            dim,
        };
        let loss = loss(&outputs, self.logarithm()?, &self.settings.objective);
        let step = self.steps_done + 1;
        let loss = loss.with_context(|| format!("step {step} has no loss"))?;
        ensure!(
            loss.total.is_finite(),
            "the loss of step {step} is {}; {CURE}",
            loss.total
        );
        Ok(loss)
    }

    /// A gradient as a tensor on the device and in the type of the tower's output.
    fn output(&self, gradient: &[f32], like: &Tensor) -> Result<Tensor> {
        let dim = like.dim(1)?;
        let tensor = Tensor::from_slice(gradient, (gradient.len() / dim, dim), &Device::Cpu)?;
        Ok(tensor.to_device(like.device())?.to_dtype(like.dtype())?)
    }
}
