//! From what `--model` says to tensors under one set of names.

pub mod container;
pub mod hub;
pub mod source;
