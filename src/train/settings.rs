//! Settings of a training run.

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

/// Which parameters are trained.
#[derive(Clone, Debug, PartialEq)]
pub enum Scope {
    /// All parameters.
    Full,
    /// The text tower, its projection and the logit scale.
    Text,
    /// The image tower, its projection and the logit scale.
    Image,
    /// Both projections and the logit scale.
    Head,
    /// LoRA on matrices of both towers.
    Lora(Lora),
}

/// LoRA settings (Hu et al., arXiv 2106.09685): each matrix W becomes W + alpha / rank B A.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// Rank: rows of A, columns of B.
    pub rank: usize,
    /// alpha, the scale of the update times the rank.
    pub alpha: f64,
    /// The matrices to train in each block.
    pub targets: Vec<Target>,
}

/// A matrix of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// Queries
    #[value(name = "q")]
    Query,
    /// Keys
    #[value(name = "k")]
    Key,
    /// Values
    #[value(name = "v")]
    Value,
    /// The attention's output
    Out,
    /// The MLP's first matrix
    Fc1,
    /// The MLP's second matrix
    Fc2,
}

impl Target {
    /// Its name in a block.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Query => "self_attn.q_proj",
            Self::Key => "self_attn.k_proj",
            Self::Value => "self_attn.v_proj",
            Self::Out => "self_attn.out_proj",
            Self::Fc1 => "mlp.fc1",
            Self::Fc2 => "mlp.fc2",
        }
    }
}

/// The embeddings that short captions are matched with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// No short captions, or they are ignored.
    None,
    /// The images' embeddings.
    Plain,
    /// The images' embeddings reduced to principal components of the batch: Long-CLIP's Primary
    /// Component Matching.
    Principal {
        /// The number of components.
        rank: usize,
    },
}

/// The training loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// Label smoothing: the share of every label spread evenly over all pairs.
    pub label_smoothing: f64,
    /// The second loss, with short captions.
    pub short: Short,
    /// Its weight, relative to the first loss.
    pub short_weight: f64,
}

/// AdamW settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    /// The peak learning rate.
    pub rate: f64,
    /// beta1 and beta2: decay rates of the moments.
    pub betas: [f64; 2],
    /// Epsilon, added to the root of the mean square.
    pub epsilon: f64,
    /// Weight decay of every trained parameter.
    pub weight_decay: f64,
}

/// The decay of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Cosine decay to 0
    Cosine,
    /// No decay
    Constant,
    /// Linear decay to 0
    Linear,
}

/// The learning rate schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Steps of linear warm-up.
    pub warm_up: usize,
    /// Total steps.
    pub total: usize,
    /// The decay after the warm-up.
    pub shape: Shape,
}

impl Schedule {
    /// The factor of the peak rate at a step, counted from 0 as in open_clip and Long-CLIP: (step +
    /// 1) / warm-up at first.
    #[must_use]
    pub fn share(&self, step: usize) -> f64 {
        if step < self.warm_up {
            return (step + 1) as f64 / self.warm_up as f64;
        }
        let rest = self.total.saturating_sub(self.warm_up).max(1) as f64;
        let done = ((step - self.warm_up) as f64 / rest).min(1.0);
        match self.shape {
            Shape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Shape::Linear => 1.0 - done,
            Shape::Constant => 1.0,
        }
    }
}

/// All settings of a [`Trainer`](super::Trainer).
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The parameters to train.
    pub scope: Scope,
    /// The loss.
    pub objective: Objective,
    /// The optimiser.
    pub optimizer: Optimizer,
    /// The learning rate schedule.
    pub schedule: Schedule,
    /// The maximum global gradient norm; larger gradients are scaled down.
    pub clip_norm: Option<f64>,
    /// The upper limit of the logit scale, applied after each step.
    pub most_logit_scale: Option<f64>,
    /// Pairs per backward pass; the loss always covers the whole batch.
    pub micro_batch: usize,
    /// The number of leading text positions that stay frozen.
    pub frozen_positions: usize,
    /// The random seed.
    pub seed: u64,
}

impl Settings {
    /// # Errors
    /// When a setting is out of range.
    pub(super) fn check(&self) -> Result<()> {
        let Optimizer {
            rate,
            betas,
            epsilon,
            weight_decay,
        } = &self.optimizer;
        ensure!(
            rate.is_finite() && *rate > 0.0,
            "a learning rate of {rate} is not a positive number"
        );
        ensure!(
            betas.iter().all(|beta| (0.0..1.0).contains(beta)) && *epsilon > 0.0,
            "AdamW's betas must be from 0 to below 1 and its epsilon above 0"
        );
        ensure!(
            weight_decay.is_finite() && *weight_decay >= 0.0,
            "a weight decay of {weight_decay} is not 0 or a positive number"
        );
        let Objective {
            label_smoothing,
            short_weight,
            ..
        } = &self.objective;
        ensure!(
            (0.0..1.0).contains(label_smoothing),
            "label smoothing must be from 0 to below 1, but is {label_smoothing}"
        );
        ensure!(
            short_weight.is_finite() && *short_weight >= 0.0,
            "the weight of the short captions, {short_weight}, is not 0 or a positive number"
        );
        ensure!(
            self.micro_batch > 0,
            "the micro-batch must hold at least one pair"
        );
        if let Scope::Lora(lora) = &self.scope
            && (lora.rank == 0 || lora.targets.is_empty() || !lora.alpha.is_finite())
        {
            bail!("LoRA needs a rank above 0, a finite alpha and at least one target")
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_and_fall_as_in_open_clip() {
        let shares = |shape| {
            let schedule = Schedule {
                warm_up: 2,
                total: 6,
                shape,
            };
            [0, 1, 2, 4, 6, 9].map(|step| (schedule.share(step) * 1000.0).round() / 1000.0)
        };
        assert_eq!(shares(Shape::Cosine), [0.5, 1.0, 1.0, 0.5, 0.0, 0.0]);
        assert_eq!(shares(Shape::Linear), [0.5, 1.0, 1.0, 0.5, 0.0, 0.0]);
        assert_eq!(shares(Shape::Constant), [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]);
    }
}
