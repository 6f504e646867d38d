//! The library against what others computed, wrote, published or broke; no test here starts the
//! program.

#![allow(
    clippy::unwrap_used,
    reason = "a test should stop at the first surprise"
)]

mod container;
mod golden;
mod image;
mod loading;
mod published;
mod tokens;
