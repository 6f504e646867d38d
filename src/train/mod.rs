//! Fine-tuning of CLIP: its contrastive loss, Long-CLIP's Primary Component Matching, LoRA,
//! AdamW.
//!
//! Every step covers a full batch, whatever the memory: if `micro_batch` is smaller, the towers run
//! once for the embeddings, the loss gives the gradient of each embedding, and the towers run again
//! with their backward pass, one part at a time (GradCache, Gao et al., arXiv 2101.06983). The
//! result is the same as for the whole batch at once.

pub mod augment;
pub mod log;
mod lora;
mod loss;
mod moments;
pub mod network;
mod principal;
mod settings;
mod step;
mod trainer;

/// Advice for losses that are not finite.
const CURE: &str = "lower the learning rate, clip gradients with --clip-norm, or warm up longer";

pub use loss::loss;

pub(crate) use network::ImageMaps;
pub use principal::Principal;
pub use settings::{Lora, Objective, Optimizer, Schedule, Scope, Settings, Shape, Short, Target};
pub use trainer::{Batch, Progress, Trainer};
