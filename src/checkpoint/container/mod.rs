//! Weight files -> named tensors, every byte distrusted.
