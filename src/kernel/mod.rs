//! CPU arithmetic: slices in, slices out.

pub mod resize;
