//! Parameters, their running means, and the step that moves them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use rand::Rng as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::loss::{Loss, Outputs, loss};
use super::moments::Moments;
use super::settings::{Lora, Scope, Settings, Short};
use crate::checkpoint::architecture::{ImageTower, Tower};
use crate::checkpoint::container::StoredTensor;
use crate::checkpoint::{Checkpoint, Tensors};
use crate::input::tokenizer::TokenIds;
use crate::kernel::{self, AdamWStep};
use crate::model::compute::{Compute, CpuPrecision};
use crate::model::gradient::{
    Arithmetic, Gradients, LowRank, Network, Sum, Working, lora_a, lora_b,
};
use crate::model::{self, Clip, DualEncoder as _};

const SCALE: &str = "logit_scale";
const POSITIONS: &str = "text_model.embeddings.position_embedding.weight";

/// Pairs of a step: image i belongs to caption i.
pub struct Batch {
    /// [n, 3, image_size, image_size], f32 on the CPU, normalised.
    pub pixels: Tensor,
    /// The long captions.
    pub long: Vec<TokenIds>,
    /// The short captions, if they count.
    pub short: Option<Vec<TokenIds>>,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Its number, from 1.
    pub step: usize,
    /// The loss before it.
    pub loss: f64,
    /// Of images and long captions.
    pub long_loss: f64,
    /// Of images and short captions, not weighted.
    pub short_loss: Option<f64>,
    /// The norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// The learning rate.
    pub rate: f64,
    /// What cosines were multiplied with.
    pub logit_scale: f64,
}

/// A model in training.
pub struct Trainer {
    network: Network,
    settings: Settings,
    /// Canonical names, f32 on the device.
    parameters: BTreeMap<String, Tensor>,
    /// Names of parameters that are trained as a whole.
    trained: Vec<String>,
    /// Low-rank changes by the matrix that they change.
    changes: BTreeMap<String, LowRank>,
    moments: BTreeMap<String, Moments>,
    /// The image tower, where it is none that this program derives.
    frozen_images: Option<Clip>,
    steps_done: usize,
    width: usize,
}

/// The towers' outputs of a batch.
struct Embedded {
    images: Vec<f32>,
    long: Vec<f32>,
    short: Option<Vec<f32>>,
}

impl Trainer {
    /// Takes up the weights of `checkpoint` to train them in `compute`: f32 on the CPU, elsewhere matrices in its type and
    /// parameters in f32.
    ///
    /// # Errors
    /// When a setting makes no sense, a value is not finite, or the image tower is a ResNet that was to be trained.
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
            "the image tower is a ResNet, whose derivatives longclip does not compute; train the text tower alone \
             with --train text"
        );
        let frozen_images = is_resnet
            .then(|| model::load(checkpoint, compute))
            .transpose()?;
        let network = Network::new(checkpoint, arithmetic);
        let parameters = parameters(checkpoint, network.arithmetic().device())?;
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
        };
        for name in trainer.names() {
            let moments = Moments::new(trainer.parameter(&name)?)?;
            trainer.moments.insert(name, moments);
        }
        Ok(trainer)
    }

    /// How many steps were done.
    #[must_use]
    pub fn steps_done(&self) -> usize {
        self.steps_done
    }

    /// How many tensors are trained, and how many numbers.
    ///
    /// # Errors
    /// None in practice.
    pub fn trainable(&self) -> Result<(usize, usize)> {
        let names = self.names();
        let counts = names
            .iter()
            .map(|name| Ok(self.parameter(name)?.elem_count()))
            .collect::<Result<Vec<_>>>()?;
        Ok((names.len(), counts.into_iter().sum()))
    }

    /// Moves the parameters against the gradient of the batch's loss.
    ///
    /// # Errors
    /// When the loss or a gradient is not finite or the batch does not fit the loss; the parameters are then those of
    /// before.
    pub fn step(&mut self, batch: &Batch) -> Result<Progress> {
        let scale = self.logarithm()?.exp();
        let (loss, mut sums) = self.gradient(batch)?;
        self.freeze_positions(&mut sums);
        let norm = norm(&sums)?;
        ensure!(
            norm.is_finite(),
            "the gradients of step {} are not finite (the loss is {}); lower the learning rate, clip gradients with \
             --clip-norm, or warm up longer",
            self.steps_done + 1,
            loss.total
        );
        let settings = &self.settings;
        let rate = settings.optimizer.rate * settings.schedule.share(self.steps_done);
        let factor = match settings.clip_norm {
            // As PyTorch has it.
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
        self.update(&step, &sums)?;
        self.steps_done += 1;
        Ok(Progress {
            step: self.steps_done,
            loss: loss.total,
            long_loss: loss.long,
            short_loss: loss.short,
            gradient_norm: norm,
            rate,
            logit_scale: scale,
        })
    }

    /// The loss of a batch and the gradients of all that is trained, by name.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn gradient(&self, batch: &Batch) -> Result<(Loss, BTreeMap<String, Sum>)> {
        let n = self.check(batch)?;
        let weights = self.network.working(&self.parameters, &self.changes)?;
        let mut gradients = self.network.gradients(&self.trained, &self.changes);
        let loss = if n <= self.settings.micro_batch {
            self.at_once(batch, &weights, &mut gradients)?
        } else {
            self.in_parts(batch, n, &weights, &mut gradients)?
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
        Ok((loss, sums))
    }

    /// The number of pairs.
    fn check(&self, batch: &Batch) -> Result<usize> {
        let n = batch.pixels.dim(0)?;
        ensure!(n > 1, "a batch of {n} has nothing to contrast with");
        ensure!(
            batch.long.len() == n && batch.short.as_ref().is_none_or(|short| short.len() == n),
            "a batch has not as many captions as images"
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
    ) -> Result<Loss> {
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
        for range in starts() {
            let values = range.start * dim..range.end * dim;
            if self.frozen_images.is_none() {
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
                if let (Some(texts), Some(gradient)) = (texts, gradient) {
                    let refs: Vec<_> = texts[range.clone()].iter().collect();
                    let (out, tape) = self.network.texts(weights, &refs, Some(gradients))?;
                    if let Some(tape) = tape {
                        let dy = self.output(&gradient[values.clone()], &out)?;
                        self.network.texts_backward(weights, tape, &dy, gradients)?;
                    }
                }
            }
        }
        Ok(loss)
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
            "the loss of step {step} is {}; lower the learning rate, clip gradients with --clip-norm, or warm up longer",
            loss.total
        );
        Ok(loss)
    }

    /// A gradient as a tensor like the tower's output.
    fn output(&self, gradient: &[f32], like: &Tensor) -> Result<Tensor> {
        let dim = like.dim(1)?;
        let tensor = Tensor::from_slice(gradient, (gradient.len() / dim, dim), &Device::Cpu)?;
        Ok(tensor.to_device(like.device())?.to_dtype(like.dtype())?)
    }

    fn logarithm(&self) -> Result<f64> {
        let scale = self.parameter(SCALE)?.flatten_all()?.to_vec1::<f32>()?;
        let value = scale.first().context("tensor logit_scale is empty")?;
        Ok(f64::from(*value))
    }

    /// Nothing moves the positions that stay, and they do not count in the norm.
    fn freeze_positions(&self, sums: &mut BTreeMap<String, Sum>) {
        let frozen = self.settings.frozen_positions * self.width;
        if let Some(Sum::Host(sum)) = sums.get_mut(POSITIONS) {
            let count = frozen.min(sum.len());
            sum[..count].fill(0.0);
        } else if let Some(Sum::Device(sum)) = sums.get_mut(POSITIONS) {
            let rows = self.settings.frozen_positions;
            let masked = sum.dims2().and_then(|(count, width)| {
                let rows = rows.min(count);
                let zeros = Tensor::zeros((rows, width), sum.dtype(), sum.device())?;
                Tensor::cat(&[&zeros, &sum.narrow(0, rows, count - rows)?], 0)
            });
            if let Ok(masked) = masked {
                *sum = masked;
            }
        }
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

    /// The names of all that is trained.
    fn names(&self) -> Vec<String> {
        let changes = self.changes.keys();
        let thin = changes.flat_map(|name| [lora_a(name), lora_b(name)]);
        self.trained.iter().cloned().chain(thin).collect()
    }

    fn parameter(&self, name: &str) -> Result<&Tensor> {
        let found = match adapter(name) {
            Some((matrix, first)) => self
                .changes
                .get(matrix)
                .map(|change| if first { &change.a } else { &change.b }),
            None => self.parameters.get(name),
        };
        found.with_context(|| format!("tensor {name} is missing"))
    }

    /// Everything that a resume needs: trained parameters under their names, running means as `mean:NAME` and `square:NAME`.
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

    /// Goes on from a [`state`](Self::state) after `steps_done` steps.
    ///
    /// # Errors
    /// When it is that of another training: a tensor is missing, misshapen or not trained here.
    pub fn restore(&mut self, state: &Tensors, steps_done: usize) -> Result<()> {
        let names = self.names();
        ensure!(
            state.len() == 3 * names.len(),
            "the state holds {} tensors, this training has {}",
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
                    "{key} is {:?} in the state",
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

    /// The whole model under canonical names in f32, changes added.
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

    /// The low-rank changes alone, under the names of the library peft; `None` without LoRA.
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

fn host(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_device(&Device::Cpu)?
        .to_vec1()?)
}

fn norm(sums: &BTreeMap<String, Sum>) -> Result<f64> {
    let mut squares = 0.0;
    for sum in sums.values() {
        squares += match sum {
            Sum::Host(values) => kernel::squared_norm(values),
            Sum::Device(tensor) => f64::from(
                tensor
                    .sqr()?
                    .sum_all()?
                    .to_dtype(DType::F32)?
                    .to_scalar::<f32>()?,
            ),
        };
    }
    Ok(squares.sqrt())
}

fn parameters(checkpoint: &Checkpoint, device: &Device) -> Result<BTreeMap<String, Tensor>> {
    let mut parameters = BTreeMap::new();
    for (name, stored) in &checkpoint.tensors {
        let values = stored.to_f32()?;
        ensure!(
            values.iter().all(|x| x.is_finite()),
            "tensor {name} holds a value that is not finite; the file is damaged or its training diverged"
        );
        let tensor = Tensor::from_vec(values, stored.shape(), device)?;
        parameters.insert(name.clone(), tensor);
        stored.release();
    }
    checkpoint.unchanged()?;
    Ok(parameters)
}

fn is_trained(name: &str, scope: &Scope) -> bool {
    let text = name.starts_with("text_model.") || name == "text_projection.weight";
    let head = matches!(name, "text_projection.weight" | "visual_projection.weight");
    match scope {
        Scope::Full => true,
        Scope::Text => text || name == SCALE,
        Scope::Image => !text,
        Scope::Head => head || name == SCALE,
        Scope::Lora(_) => false,
    }
}

/// A change of nothing for every matrix that LoRA trains: A drawn as PyTorch draws a linear layer's weight, B zero.
fn changes(
    lora: &Lora,
    checkpoint: &Checkpoint,
    parameters: &BTreeMap<String, Tensor>,
    seed: u64,
) -> Result<BTreeMap<String, LowRank>> {
    let architecture = &checkpoint.architecture;
    let mut towers: Vec<(&str, &Tower)> = vec![("text_model", &architecture.text)];
    if let ImageTower::VisionTransformer(sizes) = &architecture.image {
        towers.push(("vision_model", &sizes.tower));
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut changes = BTreeMap::new();
    for (path, tower) in towers {
        for (layer, target) in
            (0..tower.layers).flat_map(|layer| lora.targets.iter().map(move |t| (layer, *t)))
        {
            let name = format!("{path}.encoder.layers.{layer}.{}.weight", target.path());
            let weight = parameters
                .get(&name)
                .with_context(|| format!("tensor {name} is missing"))?;
            let (out, input) = weight.dims2()?;
            ensure!(
                lora.rank <= out.min(input),
                "a LoRA rank of {} is more than {name} has, which is [{out}, {input}]",
                lora.rank
            );
            let bound = 1.0 / (input as f32).sqrt();
            let a: Vec<f32> = (0..lora.rank * input)
                .map(|_| random.random_range(-bound..bound))
                .collect();
            let device = weight.device();
            let change = LowRank {
                a: Tensor::from_vec(a, (lora.rank, input), device)?,
                b: Tensor::zeros((out, lora.rank), DType::F32, device)?,
                factor: lora.alpha / lora.rank as f64,
            };
            changes.insert(name, change);
        }
    }
    Ok(changes)
}

/// The matrix that the name of a low-rank change's part belongs to, and whether it is the first part.
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
