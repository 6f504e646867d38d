//! CPU arithmetic: slices in, slices out.
