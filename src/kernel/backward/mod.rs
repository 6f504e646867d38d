//! Derivatives of the towers' layers, from the gradient of a layer's output to that of its input,
//! and what training does with gradients: norms and AdamW.
//!
//! The forward pass keeps only the layers' inputs; everything else is recomputed.

mod activation;
mod adamw;
mod attention;
mod norm;

pub use activation::{activate_rows, activation_backward, add_bias, column_sums, squared_norm};
pub use adamw::{AdamWStep, adamw};
pub use attention::attention_backward;
pub use norm::{NormGradients, layer_norm_backward};
