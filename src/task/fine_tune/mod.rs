//! Training a CLIP further: CLIP's contrastive loss, Long-CLIP's Primary Component Matching, LoRA,
//! AdamW.
//!
//! One step sees a whole batch, whatever the memory: where `micro_batch` is smaller, the towers run
//! once for the embeddings, the loss gives the gradient of each embedding, and the towers run again
//! a part at a time with their derivatives (GradCache, Gao et al., arXiv 2101.06983). The result is
//! that of the batch at once.

mod lora;
mod loss;
mod matrix;
mod moments;
mod principal;
mod settings;
mod trainer;

/// What keeps losses finite.
const CURE: &str = "lower the learning rate, clip gradients with --clip-norm, or warm up longer";

pub use loss::{Loss, Outputs, loss};
pub use principal::Principal;
pub use settings::{Lora, Objective, Optimizer, Schedule, Scope, Settings, Shape, Short, Target};
pub use trainer::{Batch, Progress, Trainer};
