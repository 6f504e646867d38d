//! What a training run is told.

use anyhow::{Result, bail, ensure};

/// Which parameters are trained.
#[derive(Clone, Debug, PartialEq)]
pub enum Scope {
    /// All of them.
    Full,
    /// The text tower, its projection and the scale.
    Text,
    /// The image tower, its projection and the scale.
    Image,
    /// Both projections and the scale.
    Head,
    /// Low-rank changes of matrices of both towers.
    Lora(Lora),
}

/// Low-rank changes (Hu et al., arXiv 2106.09685): each matrix W becomes W + alpha / rank B A.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// Rows of A, columns of B.
    pub rank: usize,
    /// The change's weight, times the rank.
    pub alpha: f64,
    /// Which matrices of each block.
    pub targets: Vec<Target>,
}

/// A matrix of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `self_attn.q_proj`
    Query,
    /// `self_attn.k_proj`
    Key,
    /// `self_attn.v_proj`
    Value,
    /// `self_attn.out_proj`
    Out,
    /// `mlp.fc1`
    Fc1,
    /// `mlp.fc2`
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

/// What short captions are matched with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// There are none, or they do not count.
    None,
    /// The images' embeddings.
    Plain,
    /// The images' embeddings in so many principal components of the batch: Long-CLIP's Primary
    /// Component Matching.
    Principal {
        /// How many.
        rank: usize,
    },
}

/// What is minimised.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// The share of every label that goes to all pairs evenly.
    pub label_smoothing: f64,
    /// The second loss.
    pub short: Short,
    /// Its weight; the first has 1.
    pub short_weight: f64,
}

/// AdamW.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    /// The largest learning rate.
    pub rate: f64,
    /// How much of the old means stays.
    pub betas: [f64; 2],
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// Of every trained parameter.
    pub weight_decay: f64,
}

/// How the rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Along half a cosine to nothing.
    Cosine,
    /// Along a line to nothing.
    Linear,
    /// Not at all.
    Constant,
}

/// The learning rate over the steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Steps over which the rate rises along a line.
    pub warm_up: usize,
    /// All steps.
    pub total: usize,
    /// What follows the warm-up.
    pub shape: Shape,
}

impl Schedule {
    /// The share of the largest rate at a step, from 0, as open_clip and Long-CLIP count: (step +
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

/// Everything a [`Trainer`](super::Trainer) is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Which parameters.
    pub scope: Scope,
    /// Which loss.
    pub objective: Objective,
    /// How they move.
    pub optimizer: Optimizer,
    /// How fast.
    pub schedule: Schedule,
    /// The largest norm of all gradients together; longer ones are scaled down.
    pub clip_norm: Option<f64>,
    /// The largest factor of cosines; the trained one is cut there after each step.
    pub most_logit_scale: Option<f64>,
    /// Pairs whose derivatives are computed at once; the loss is always of the whole batch.
    pub micro_batch: usize,
    /// Text positions from the first on that stay as they are.
    pub frozen_positions: usize,
    /// Of what is drawn at random.
    pub seed: u64,
}

impl Settings {
    /// # Errors
    /// When a number makes no sense.
    pub(super) fn check(&self) -> Result<()> {
        let Optimizer {
            rate,
            betas,
            epsilon,
            weight_decay,
        } = &self.optimizer;
        ensure!(rate.is_finite() && *rate > 0.0, "a learning rate of {rate}");
        ensure!(
            betas.iter().all(|beta| (0.0..1.0).contains(beta)) && *epsilon > 0.0,
            "AdamW's betas lie from 0 to below 1 and its epsilon above 0"
        );
        ensure!(
            weight_decay.is_finite() && *weight_decay >= 0.0,
            "a weight decay of {weight_decay}"
        );
        let Objective {
            label_smoothing,
            short_weight,
            ..
        } = &self.objective;
        ensure!(
            (0.0..1.0).contains(label_smoothing),
            "label smoothing lies from 0 to below 1, {label_smoothing} does not"
        );
        ensure!(
            short_weight.is_finite() && *short_weight >= 0.0,
            "a weight of the short captions of {short_weight}"
        );
        ensure!(self.micro_batch > 0, "derivatives of no pairs at once");
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
    fn rates_rise_and_fall_as_open_clip_has_them() {
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
