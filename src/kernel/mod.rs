//! CPU arithmetic: slices in, slices out. Knows neither candle nor files; with the memory map it is
//! the only place with `unsafe`. Every kernel has a scalar version that its tests compare it with.
//!
//! Which product to take:
//!
//! - [`exact_products`]: f64 in column order, the same bits on every CPU; classes and rankings.
//! - [`exact_scores`], [`exact_gradients`]: the same with f64 weights; training a linear classifier.
//! - [`streamed_products`]: f32, the same bits whatever the other rows; search in rows read once.
//! - [`linear`], [`convolve`]: f32, bf16 or int8 with packed weights; the towers.
//! - [`product`], [`add_product`]: f32 without packing; fine-tuning, where weights change each step.

mod activation;
mod attention;
mod backward;
mod buffer;
mod encode;
mod exact;
mod exp;
mod level;
mod matmul;
mod norm;
mod pack;
mod parallel;
mod pool;
mod product;
pub mod resize;
mod simd;
mod streamed;
#[cfg(test)]
pub(crate) mod testing;

pub use activation::Activation;
pub use attention::{AttentionShape, MOST_HEAD_COLUMNS, Segment, attention, attention_bf16};
pub use backward::{
    AdamWStep, NormGradients, activate_rows, activation_backward, adamw, add_bias,
    attention_backward, column_sums, layer_norm_backward, squared_norm,
};
pub use encode::Precision;
pub use exact::{exact_gradients, exact_products, exact_scores};
pub use level::{
    LEVEL_VARIABLE, Level, check_level, features, has_native_bf16, has_native_int8, level,
};
pub use matmul::{Epilogue, Input, Windows, convolve, convolve_to_vec, linear, linear_to_vec};
pub use norm::{Norm, layer_norm};
pub use pack::{Fill, PackedMatrix};
pub use pool::average_pool;
pub use product::{View, add_product, product};
pub use streamed::streamed_products;
