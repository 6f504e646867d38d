//! Derives all training settings from flags and sizes, and checks them against each other.

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::flags::{FinetuneArgs, LongCaptions, Loss, Train, Variation};
use super::memory;
use crate::checkpoint::architecture::Architecture;
use crate::checkpoint::positions::{CLIP_ROWS, KEPT};
use crate::input::dataset::pairs::Batching;
use crate::train::augment::Augment;
use crate::train::{Lora, Objective, Optimizer, Schedule, Scope, Settings, Short, Target};

/// Long-CLIP's learning rate.
const RATE: f64 = 1e-6;
/// Learning rate of `--train lora` and `--train head`, which train few parameters.
const RATE_OF_FEW: f64 = 1e-4;
const WARM_UP: usize = 200;
const SMOOTHING: f64 = 0.1;
const LORA_RANK: usize = 8;
const PCM_RANK: usize = 32;

/// Everything that the result depends on, apart from model and data.
pub(super) struct Recipe {
    pub(super) settings: Settings,
    pub(super) order: Batching,
    pub(super) augment: Augment,
    /// The total number of steps.
    pub(super) total: usize,
}

impl Recipe {
    /// Fills in defaults. `earlier` is the micro-batch of the resumed run, since its default
    /// depends on the machine.
    ///
    /// # Errors
    /// When settings contradict each other.
    pub(super) fn new(
        args: &FinetuneArgs,
        architecture: &Architecture,
        pairs: usize,
        device: memory::Device,
        earlier: Option<usize>,
    ) -> Result<Self> {
        let batch = args.steps.batch_size as usize;
        check_batch(args, architecture, pairs)?;
        let order = Batching {
            pairs,
            batch,
            least: match args.pairs.keep_last {
                true => least(args),
                false => batch,
            },
            seed: args.steps.seed,
        };
        let total = match args.steps.steps {
            Some(steps) => steps as usize,
            None => order.batches() * args.steps.epochs as usize,
        };
        let micro_batch = args.steps.micro_batch.map(|size| size as usize);
        let micro_batch = micro_batch.or(earlier);
        let micro_batch = micro_batch.unwrap_or_else(|| memory::micro_batch(architecture, device));
        memory::check_batch(architecture, batch)?;
        Ok(Self {
            settings: Settings {
                scope: scope(args)?,
                objective: objective(args),
                optimizer: optimizer(args)?,
                schedule: Schedule {
                    warm_up: args.optimizer.warm_up.unwrap_or(WARM_UP.min(total / 10)),
                    total,
                    shape: args.optimizer.schedule,
                },
                clip_norm: args.optimizer.clip_norm,
                most_logit_scale: args.loss.max_logit_scale.0,
                micro_batch: micro_batch.min(batch),
                frozen_positions: frozen_positions(args, architecture)?,
                seed: args.steps.seed,
            },
            order,
            augment: Augment {
                crop: args.pairs.augment.contains(&Variation::Crop),
                flip: args.pairs.augment.contains(&Variation::Flip),
            },
            total,
        })
    }

    /// The epoch of a step and the index of the batch in it, all counted from 0.
    pub(super) fn place(&self, step: usize) -> (usize, usize) {
        let batches = self.order.batches();
        (step / batches, step % batches)
    }

    /// Whether to evaluate the model after this many steps.
    pub(super) fn is_milestone(&self, steps: usize) -> bool {
        steps == self.total || self.place(steps).1 == 0
    }

    /// The settings that must match to resume a run, by the names of the flags.
    pub(super) fn record(&self, args: &FinetuneArgs) -> Map<String, Value> {
        let settings = &self.settings;
        let Settings {
            objective,
            optimizer,
            schedule,
            ..
        } = settings;
        let mut record = Map::new();
        let mut add = |name: &str, value: Value| record.insert(name.to_owned(), value);
        add("train", name(args.scope.train));
        if let Scope::Lora(lora) = &settings.scope {
            add("lora-rank", json!(lora.rank));
            add("lora-alpha", json!(lora.alpha));
            add(
                "lora-targets",
                lora.targets.iter().copied().map(name).collect(),
            );
        }
        add("loss", name(args.loss.loss));
        if let Short::Principal { rank } = objective.short {
            add("pcm-rank", json!(rank));
        }
        if !matches!(objective.short, Short::None) {
            add("pcm-weight", json!(objective.short_weight));
        }
        add("label-smoothing", json!(objective.label_smoothing));
        add("max-logit-scale", json!(settings.most_logit_scale));
        add("rate", json!(optimizer.rate));
        add("weight-decay", json!(optimizer.weight_decay));
        add("betas", json!(optimizer.betas));
        add("epsilon", json!(optimizer.epsilon));
        add("warm-up", json!(schedule.warm_up));
        add("schedule", name(schedule.shape));
        add("clip-norm", json!(settings.clip_norm));
        if args.steps.steps.is_none() {
            add("epochs", json!(args.steps.epochs));
        }
        add("steps", json!(self.total));
        add("batch-size", json!(self.order.batch));
        add("micro-batch", json!(settings.micro_batch));
        add("keep-last", json!(args.pairs.keep_last));
        add("seed", json!(settings.seed));
        add("freeze-positions", json!(settings.frozen_positions));
        add("stretch", json!(args.model.stretch));
        add("crop", json!(self.augment.crop));
        add("flip", json!(self.augment.flip));
        add("long-text", name(args.pairs.long_text));
        add("no-orient", json!(args.decode.no_orient));
        add(
            "alpha",
            json!(format!("{:?}", args.decode.alpha).to_lowercase()),
        );
        add("strict", json!(args.decode.strict));
        add("max-pixels", json!(args.decode.options().max_pixels));
        record
    }
}

/// A value as the user types it.
fn name(value: impl ValueEnum) -> Value {
    let value = value.to_possible_value();
    json!(value.map(|value| value.get_name().to_owned()))
}

/// The minimum number of pairs for the loss.
fn least(args: &FinetuneArgs) -> usize {
    match args.loss.loss {
        Loss::Pcm => args.pcm_rank() + 1,
        Loss::Clip | Loss::ClipShort => 2,
    }
}

fn check_batch(args: &FinetuneArgs, architecture: &Architecture, pairs: usize) -> Result<()> {
    let batch = args.steps.batch_size as usize;
    let loss = &args.loss;
    ensure!(
        loss.loss == Loss::Pcm || loss.pcm_rank.is_none(),
        "--pcm-rank requires --loss pcm"
    );
    ensure!(
        loss.loss != Loss::Clip || loss.pcm_weight.is_none(),
        "--pcm-weight does not apply to --loss clip, which does not use short captions"
    );
    if loss.loss == Loss::Pcm {
        let rank = args.pcm_rank();
        let dim = architecture.embed_dim;
        ensure!(
            batch > rank,
            "batches of {batch} images have at most {} principal components, fewer than --pcm-rank \
             {rank}; pass --pcm-rank {} or less, --batch-size {} or more, or --loss clip",
            batch.saturating_sub(1),
            batch.saturating_sub(1).max(1),
            rank + 1
        );
        ensure!(
            rank < dim,
            "--pcm-rank {rank} has no effect on embeddings of {dim} features; pass less than \
             {dim}, or --loss clip-short"
        );
    }
    ensure!(
        pairs >= batch,
        "{pairs} pairs do not fill a batch of {batch}; pass --batch-size {pairs} or less, or more \
         data"
    );
    Ok(())
}

fn scope(args: &FinetuneArgs) -> Result<Scope> {
    let flags = &args.scope;
    let is_lora = flags.train == Train::Lora;
    let has_lora_flags =
        flags.lora_rank.is_some() || flags.lora_alpha.is_some() || !flags.lora_targets.is_empty();
    ensure!(
        is_lora || !has_lora_flags,
        "--lora-rank, --lora-alpha and --lora-targets require --train lora"
    );
    ensure!(
        is_lora || !(args.output.merge || args.output.adapter_only),
        "--merge and --adapter-only require --train lora"
    );
    ensure!(
        !(args.output.adapter_only && args.model.stretch),
        "--adapter-only would lose the stretched text positions, which are not part of an adapter; \
         stretch the model first (longclip stretch), or drop --adapter-only"
    );
    Ok(match flags.train {
        Train::Full => Scope::Full,
        Train::Text => Scope::Text,
        Train::Image => Scope::Image,
        Train::Head => Scope::Head,
        Train::Lora => {
            let rank = flags.lora_rank.map_or(LORA_RANK, |rank| rank as usize);
            Scope::Lora(Lora {
                rank,
                alpha: flags.lora_alpha.unwrap_or(2.0 * rank as f64),
                targets: lora_targets(&flags.lora_targets),
            })
        }
    })
}

/// Unique targets, in the order of the block; by default queries and values.
fn lora_targets(wanted: &[Target]) -> Vec<Target> {
    let wanted = match wanted {
        [] => &[Target::Query, Target::Value],
        wanted => wanted,
    };
    let all = Target::value_variants().iter().copied();
    all.filter(|one| wanted.contains(one)).collect()
}

fn objective(args: &FinetuneArgs) -> Objective {
    let loss = &args.loss;
    let smoothing = match loss.loss {
        Loss::Pcm | Loss::ClipShort => SMOOTHING,
        Loss::Clip => 0.0,
    };
    Objective {
        label_smoothing: loss.label_smoothing.unwrap_or(smoothing),
        short: match loss.loss {
            Loss::Pcm => Short::Principal {
                rank: args.pcm_rank(),
            },
            Loss::Clip => Short::None,
            Loss::ClipShort => Short::Plain,
        },
        short_weight: loss.pcm_weight.unwrap_or(1.0),
    }
}

fn optimizer(args: &FinetuneArgs) -> Result<Optimizer> {
    let flags = &args.optimizer;
    let rate = match args.scope.train {
        Train::Lora | Train::Head => RATE_OF_FEW,
        Train::Full | Train::Text | Train::Image => RATE,
    };
    let [first, second] = flags.betas[..] else {
        bail!("--betas takes two numbers separated by a comma, such as 0.9,0.999");
    };
    Ok(Optimizer {
        rate: flags.rate.unwrap_or(rate),
        betas: [first, second],
        epsilon: flags.epsilon,
        weight_decay: flags.weight_decay,
    })
}

/// Long-CLIP's leading positions are frozen; a table of CLIP's length is trained as a whole.
fn frozen_positions(args: &FinetuneArgs, architecture: &Architecture) -> Result<usize> {
    let rows = architecture.context_length;
    let usual = if rows > CLIP_ROWS { KEPT } else { 0 };
    let frozen = args.scope.freeze_positions.unwrap_or(usual);
    if frozen > rows {
        bail!("--freeze-positions {frozen} exceeds the model's {rows} text positions");
    }
    Ok(frozen)
}

impl FinetuneArgs {
    /// The number of principal components that short captions are matched with.
    fn pcm_rank(&self) -> usize {
        self.loss.pcm_rank.map_or(PCM_RANK, |rank| rank as usize)
    }

    /// Whether short captions are used.
    pub(super) fn wants_short(&self) -> bool {
        self.loss.loss != Loss::Clip
    }

    /// Whether long captions are truncated.
    pub(super) fn cuts(&self) -> bool {
        self.pairs.long_text == LongCaptions::Truncate
    }
}
