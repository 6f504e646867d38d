//! longclip: zero-shot image classification with CLIP and Long-CLIP.

pub mod checkpoint;
pub mod input;
pub mod kernel;
pub mod output;
