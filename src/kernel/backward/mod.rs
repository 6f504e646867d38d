//! Derivatives of the towers' layers, from the gradient of a layer's output to that of its input,
//! and what training does with gradients: norms and AdamW.
//!
//! The forward pass keeps only the layers' inputs; everything else is recomputed.

mod activation;
mod adamw;
mod attention;
mod norm;

pub(crate) use activation::{
    activate_rows, activation_backward, add_bias, column_sums, squared_norm,
};
pub(crate) use adamw::{AdamWStep, adamw};
pub(crate) use attention::attention_backward;
pub(crate) use norm::layer_norm_backward;
