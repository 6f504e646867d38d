//! Parameters, their moments, the step that updates them, and what is saved of them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};

use super::lora::changes;
use super::moments::Moments;
use super::settings::{Scope, Settings};
use super::{CURE, moments};
use crate::checkpoint::architecture::ImageTower;
use crate::checkpoint::container::StoredTensor;
use crate::checkpoint::{Checkpoint, Tensors};
use crate::input::tokenizer::TokenIds;
use crate::kernel::AdamWStep;
use crate::model::Clip;
use crate::model::device::{Compute, CpuPrecision};
use crate::train::network::{Arithmetic, LowRank, Network, Sum, lora_a, lora_b, parameters};
use crate::{kernel, model};

pub(super) const SCALE: &str = "logit_scale";
const POSITIONS: &str = "text_model.embeddings.position_embedding.weight";

/// The pairs of a step: image i belongs to caption i.
pub struct Batch {
    /// [n, 3, image_size, image_size], f32 on the CPU, normalised.
    pub pixels: Tensor,
    /// The long captions.
    pub long: Vec<TokenIds>,
    /// The short captions, if used.
    pub short: Option<Vec<TokenIds>>,
}

/// The result of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// The step number, from 1.
    pub step: usize,
    /// The loss before it.
    pub loss: f64,
    /// The loss of images and long captions.
    pub long_loss: f64,
    /// The unweighted loss of images and short captions.
    pub short_loss: Option<f64>,
    /// The global gradient norm before clipping.
    pub gradient_norm: f64,
    /// The learning rate.
    pub rate: f64,
    /// The logit scale.
    pub logit_scale: f64,
}

/// A model in training.
pub struct Trainer {
    pub(super) network: Network,
    pub(super) settings: Settings,
    /// Canonical names, f32 on the device.
    pub(super) parameters: BTreeMap<String, Tensor>,
    /// Names of fully trained parameters.
    pub(super) trained: Vec<String>,
    /// LoRA matrices, by the name of the matrix that they update.
    pub(super) changes: BTreeMap<String, LowRank>,
    pub(super) moments: BTreeMap<String, Moments>,
    /// The image tower, if it is one without a backward pass.
    pub(super) frozen_images: Option<Clip>,
    pub(super) steps_done: usize,
    /// False during an update, and permanently if it failed.
    sound: bool,
    width: usize,
}

impl Trainer {
    /// Loads the weights of `checkpoint` for training in `compute`: f32 on the CPU, elsewhere
    /// matrices in its type and parameters in f32.
    ///
    /// # Errors
    /// When a setting is out of range, a value is not finite, or the image tower is a ResNet that
    /// should be trained.
    pub fn new(checkpoint: &Checkpoint, compute: &Compute, settings: Settings) -> Result<Self> {
        settings.check()?;
        let arithmetic = match compute {
            Compute::Kernel(CpuPrecision::F32) => Arithmetic::Kernel,
            Compute::Kernel(_) => bail!("on the CPU longclip trains in f32; pass --precision f32"),
            Compute::Candle(device, dtype) => Arithmetic::Candle(device.clone(), *dtype),
        };
        let is_resnet = matches!(checkpoint.architecture.image, ImageTower::ResNet(_));
        ensure!(
            !is_resnet || settings.scope == Scope::Text,
            "the image tower is a ResNet, which longclip cannot train; train the text tower alone \
             with --train text"
        );
        let frozen_images = is_resnet
            .then(|| model::load(checkpoint, compute))
            .transpose()?;
        let network = Network::new(checkpoint, arithmetic);
        let parameters = parameters(checkpoint, network.arithmetic().device(), |_| true)?;
        let changes = match &settings.scope {
            Scope::Lora(lora) => changes(lora, checkpoint, &parameters, settings.seed)?,
            _ => BTreeMap::new(),
        };
        let trained: Vec<String> = parameters
            .keys()
            .filter(|name| is_trained(name, &settings.scope))
            .cloned()
            .collect();
        let mut trainer = Self {
            width: checkpoint.architecture.text.width,
            network,
            settings,
            parameters,
            trained,
            changes,
            moments: BTreeMap::new(),
            frozen_images,
            steps_done: 0,
            sound: true,
        };
        for name in trainer.names() {
            let moments = Moments::new(trainer.parameter(&name)?, trainer.network.arithmetic())?;
            trainer.moments.insert(name, moments);
        }
        Ok(trainer)
    }

    /// The number of completed steps.
    #[must_use]
    pub fn steps_done(&self) -> usize {
        self.steps_done
    }

    /// Whether the parameters are those after [`Self::steps_done`] steps, and thus worth saving:
    /// not so after a step that failed during the update.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.sound
    }

    /// The number of trained tensors, and of trained values.
    ///
    /// # Errors
    /// None in practice.
    pub(crate) fn trainable(&self) -> Result<(usize, usize)> {
        let names = self.names();
        let counts = names
            .iter()
            .map(|name| Ok(self.parameter(name)?.elem_count()))
            .collect::<Result<Vec<_>>>()?;
        Ok((names.len(), counts.into_iter().sum()))
    }

    /// Updates the parameters by the gradient of the batch's loss.
    ///
    /// # Errors
    /// When the loss or a gradient is not finite or the batch does not match the loss; the
    /// parameters are then unchanged. Also when the updated values are not finite, or the device
    /// fails: see [`Self::is_sound`].
    pub fn step(&mut self, batch: &Batch) -> Result<Progress> {
        let done = self.step_unless(batch, &|| false)?;
        done.context("the step stopped unexpectedly")
    }

    /// As [`Self::step`], but does nothing and returns `None` if `stop` returns true before the
    /// update; it is called after each part of the batch.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn step_unless(
        &mut self,
        batch: &Batch,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Progress>> {
        let scale = self.logarithm()?.exp();
        let Some((loss, mut sums)) = self.gradient_unless(batch, stop)? else {
            return Ok(None);
        };
        self.freeze_positions(&mut sums)?;
        let norm = norm(&sums)?;
        ensure!(
            norm.is_finite(),
            "the gradients of step {} are not finite (the loss is {}); {CURE}",
            self.steps_done + 1,
            loss.total
        );
        let settings = &self.settings;
        let rate = settings.optimizer.rate * settings.schedule.share(self.steps_done);
        let factor = match settings.clip_norm {
            // As in PyTorch.
            Some(most) => (most / (norm + 1e-6)).min(1.0),
            None => 1.0,
        };
        let step = AdamWStep {
            rate,
            betas: settings.optimizer.betas,
            epsilon: settings.optimizer.epsilon,
            weight_decay: settings.optimizer.weight_decay,
            factor,
            step: self.steps_done + 1,
        };
        self.sound = false;
        self.update(&step, &sums)?;
        self.sound = true;
        self.steps_done += 1;
        Ok(Some(Progress {
            step: self.steps_done,
            loss: loss.total,
            long_loss: loss.long,
            short_loss: loss.short,
            gradient_norm: norm,
            rate,
            logit_scale: scale,
        }))
    }

    pub(super) fn logarithm(&self) -> Result<f64> {
        let scale = self.parameter(SCALE)?.flatten_all()?.to_vec1::<f32>()?;
        let value = scale.first().context("tensor logit_scale is empty")?;
        Ok(f64::from(*value))
    }

    /// Frozen positions are not updated and do not count in the norm.
    fn freeze_positions(&self, sums: &mut BTreeMap<String, Sum>) -> Result<()> {
        let rows = self.settings.frozen_positions;
        match sums.get_mut(POSITIONS) {
            None => {}
            Some(Sum::Host(sum)) => {
                let count = (rows * self.width).min(sum.len());
                sum[..count].fill(0.0);
            }
            Some(Sum::Device(_)) if rows == 0 => {}
            Some(Sum::Device(sum)) => {
                let (count, width) = sum.dims2()?;
                let rows = rows.min(count);
                let zeros = Tensor::zeros((rows, width), sum.dtype(), sum.device())?;
                *sum = Tensor::cat(&[&zeros, &sum.narrow(0, rows, count - rows)?], 0)?;
            }
        }
        Ok(())
    }

    fn update(&mut self, step: &AdamWStep, sums: &BTreeMap<String, Sum>) -> Result<()> {
        for (name, gradient) in sums {
            let moments = self
                .moments
                .get_mut(name)
                .with_context(|| format!("{name} is not trained"))?;
            let frozen = if name == POSITIONS {
                self.settings.frozen_positions * self.width
            } else {
                0
            };
            let parameter = find_mut(&mut self.parameters, &mut self.changes, name)?;
            let frozen = frozen.min(parameter.elem_count());
            moments.step(step, parameter, gradient, frozen)?;
        }
        if let (Some(most), true) = (self.settings.most_logit_scale, sums.contains_key(SCALE)) {
            let logarithm = self.logarithm()?.min(most.ln()).max(0.0) as f32;
            let scale = self.parameter(SCALE)?;
            let tensor = Tensor::new(logarithm, scale.device())?.reshape(scale.shape())?;
            self.parameters.insert(SCALE.to_owned(), tensor);
        }
        Ok(())
    }

    /// The names of all trained tensors.
    pub(super) fn names(&self) -> Vec<String> {
        let changes = self.changes.keys();
        let thin = changes.flat_map(|name| [lora_a(name), lora_b(name)]);
        self.trained.iter().cloned().chain(thin).collect()
    }

    pub(super) fn parameter(&self, name: &str) -> Result<&Tensor> {
        let found = match adapter(name) {
            Some((matrix, first)) => self
                .changes
                .get(matrix)
                .map(|change| if first { &change.a } else { &change.b }),
            None => self.parameters.get(name),
        };
        found.with_context(|| format!("tensor {name} is missing"))
    }
}

pub(super) fn host(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_device(&Device::Cpu)?
        .to_vec1()?)
}

fn norm(sums: &BTreeMap<String, Sum>) -> Result<f64> {
    let mut squares = 0.0;
    let mut elsewhere = Vec::new();
    for sum in sums.values() {
        match sum {
            Sum::Host(values) => squares += kernel::squared_norm(values),
            Sum::Device(tensor) => elsewhere.push(tensor),
        }
    }
    Ok((squares + moments::squared_norm(elsewhere)?).sqrt())
}

/// States for resuming, and models.
impl Trainer {
    /// Everything needed to resume: trained parameters under their names, and moments as
    /// `mean:NAME` and `square:NAME`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn state(&self) -> Result<Tensors> {
        let mut state = Tensors::new();
        for name in self.names() {
            let parameter = self.parameter(&name)?;
            let shape = parameter.dims();
            let [means, squares] = self
                .moments
                .get(&name)
                .with_context(|| format!("{name} is not trained"))?
                .values()?;
            let mut add = |name: String, values| -> Result<()> {
                state.insert(name, StoredTensor::from_f32(shape, values)?);
                Ok(())
            };
            add(format!("mean:{name}"), means)?;
            add(format!("square:{name}"), squares)?;
            add(name.clone(), host(parameter)?)?;
        }
        Ok(state)
    }

    /// Resumes from a [`state`](Self::state) after `steps_done` steps.
    ///
    /// # Errors
    /// When it is from a different training: a tensor is missing, misshapen or not trained here.
    pub fn restore(&mut self, state: &Tensors, steps_done: usize) -> Result<()> {
        let names = self.names();
        ensure!(
            state.len() == 3 * names.len(),
            "the state holds {} tensors, but this training has {}",
            state.len(),
            3 * names.len()
        );
        for name in &names {
            let read = |key: &str| -> Result<Vec<f32>> {
                let tensor = state
                    .get(key)
                    .with_context(|| format!("the state lacks {key}"))?;
                ensure!(
                    tensor.shape() == self.parameter(name)?.dims(),
                    "{key} has shape {:?} in the state",
                    tensor.shape()
                );
                tensor.to_f32()
            };
            let values = read(name)?;
            let both = [
                read(&format!("mean:{name}"))?,
                read(&format!("square:{name}"))?,
            ];
            let parameter = self.parameter(name)?;
            let device = parameter.device().clone();
            let tensor = Tensor::from_vec(values, parameter.shape().clone(), &device)?;
            *find_mut(&mut self.parameters, &mut self.changes, name)? = tensor;
            if let Some(moments) = self.moments.get_mut(name) {
                moments.set(both)?;
            }
        }
        self.steps_done = steps_done;
        Ok(())
    }

    /// The whole model under canonical names in f32, with LoRA merged.
    ///
    /// # Errors
    /// When the device fails.
    pub fn tensors(&self) -> Result<Tensors> {
        let mut tensors = Tensors::new();
        for (name, tensor) in &self.parameters {
            let values = match self.changes.get(name) {
                Some(change) => host(&change.added_to(tensor)?)?,
                None => host(tensor)?,
            };
            tensors.insert(name.clone(), StoredTensor::from_f32(tensor.dims(), values)?);
        }
        Ok(tensors)
    }

    /// The LoRA matrices alone, under the names of the peft library; `None` without LoRA.
    ///
    /// # Errors
    /// When the device fails.
    pub fn adapter(&self) -> Result<Option<Tensors>> {
        let mut tensors = Tensors::new();
        for (name, change) in &self.changes {
            let path = name.strip_suffix(".weight").unwrap_or(name);
            for (part, tensor) in [("lora_A", &change.a), ("lora_B", &change.b)] {
                let stored = StoredTensor::from_f32(tensor.dims(), host(tensor)?)?;
                tensors.insert(format!("base_model.model.{path}.{part}.weight"), stored);
            }
        }
        Ok((!tensors.is_empty()).then_some(tensors))
    }
}

/// Whether a parameter, or a LoRA of it, belongs to the text tower.
pub(super) fn is_of_texts(name: &str) -> bool {
    name.starts_with("text_model.") || name == "text_projection.weight"
}

fn is_trained(name: &str, scope: &Scope) -> bool {
    let text = is_of_texts(name);
    let head = matches!(name, "text_projection.weight" | "visual_projection.weight");
    match scope {
        Scope::Full => true,
        Scope::Text => text || name == SCALE,
        Scope::Image => !text,
        Scope::Head => head || name == SCALE,
        Scope::Lora(_) => false,
    }
}

/// The matrix that the name of a LoRA factor refers to, and whether it is the first
/// factor.
fn adapter(name: &str) -> Option<(&str, bool)> {
    let first = name.strip_suffix(".lora_A").map(|matrix| (matrix, true));
    first.or_else(|| name.strip_suffix(".lora_B").map(|matrix| (matrix, false)))
}

fn find_mut<'a>(
    parameters: &'a mut BTreeMap<String, Tensor>,
    changes: &'a mut BTreeMap<String, LowRank>,
    name: &str,
) -> Result<&'a mut Tensor> {
    let found = match adapter(name) {
        Some((matrix, first)) => changes
            .get_mut(matrix)
            .map(|change| if first { &mut change.a } else { &mut change.b }),
        None => parameters.get_mut(name),
    };
    found.with_context(|| format!("tensor {name} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scope_trains_its_parameters() {
        let names = [
            SCALE,
            POSITIONS,
            "text_projection.weight",
            "visual_projection.weight",
            "vision_model.post_layernorm.weight",
        ];
        for (scope, expected) in [
            (Scope::Full, [true; 5]),
            (Scope::Text, [true, true, true, false, false]),
            (Scope::Image, [true, false, false, true, true]),
            (Scope::Head, [true, false, true, true, false]),
        ] {
            assert_eq!(
                names.map(|name| is_trained(name, &scope)),
                expected,
                "{scope:?}"
            );
        }
    }

    #[test]
    fn factors_of_lora_are_found_by_the_matrix_they_change() {
        for (name, expected) in [
            ("a.weight.lora_A", Some(("a.weight", true))),
            ("a.weight.lora_B", Some(("a.weight", false))),
            ("a.weight", None),
        ] {
            assert_eq!(adapter(name), expected, "{name}");
        }
    }
}
