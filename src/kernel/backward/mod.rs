//! The derivatives of the towers' layers: from the gradient of what a layer gave to that of what it took.
//! And what training does with gradients: their norm, AdamW.
//!
//! Nothing is kept from the way forward but the layers' inputs; the rest is computed again.

mod activation;
mod adamw;
mod attention;
mod norm;
mod sums;

pub use activation::{activate_rows, activation_backward};
pub use adamw::{AdamWStep, adamw};
pub use attention::attention_backward;
pub use norm::{NormGradients, layer_norm_backward};
pub use sums::{add_bias, column_sums, squared_norm};
