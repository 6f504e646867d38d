//! Weight files as PyTorch and safetensors write them, and as an attacker would.

mod fixtures;
