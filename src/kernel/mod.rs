//! CPU arithmetic: slices in, slices out. Knows neither candle nor files; with the memory map and the
//! allocator it is the only place with `unsafe`. Every kernel has a scalar version that its tests
//! compare it with.
//!
//! Which product to take:
//!
//! - [`exact_products`]: f64 in column order, the same bits on every CPU; classes and rankings.
//! - [`exact_scores`], [`exact_gradients`]: the same with f64 weights; training a linear
//!   classifier.
//! - [`streamed_products`]: f32, the same bits whatever the other rows; search in rows read once.
//! - [`linear`], [`convolve`]: f32, bf16 or integers with packed weights; the towers.
//! - [`product()`], [`add_product`]: f32 without packing; fine-tuning, where weights change each
//!   step.

mod activation;
mod attention;
mod backward;
mod buffer;
#[cfg(all(
    target_arch = "x86_64",
    target_os = "linux",
    any(test, target_env = "musl")
))]
mod copy;
mod encode;
mod exact;
mod exp;
mod halved;
mod level;
mod matmul;
pub(crate) mod matrix;
mod norm;
mod pack;
mod parallel;
mod pool;
mod product;
pub(crate) mod resize;
mod simd;
mod streamed;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use activation::Activation;
pub(crate) use attention::{AttentionShape, MOST_HEAD_COLUMNS, Segment, attention, attention_bf16};
pub(crate) use backward::{
    AdamWStep, activate_rows, activation_backward, adamw, add_bias, attention_backward,
    column_sums, layer_norm_backward, squared_norm,
};
pub(crate) use encode::Precision;
pub(crate) use exact::{exact_gradients, exact_products, exact_scores};
pub(crate) use level::{check_level, fastest_bytes, fastest_half, features, has_native_bf16};
pub(crate) use matmul::{
    Epilogue, Input, Windows, convolve, convolve_to_vec, linear, linear_to_vec,
};
pub(crate) use norm::{Norm, layer_norm};
pub(crate) use pack::PackedMatrix;
pub(crate) use parallel::in_pool;
pub(crate) use pool::average_pool;
pub(crate) use product::{View, add_product, product};
pub(crate) use streamed::streamed_products;
