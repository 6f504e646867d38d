//! Weight files as PyTorch and safetensors write them, and as an attacker would.

mod build;
mod fixtures;
mod hostile_pickle;
mod hostile_safetensors;
mod hostile_tensor;
mod hostile_zip;
