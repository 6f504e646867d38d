//! The built program as a user meets it: offline, with the built-in model.
//!
//! Every line of the command line's contract has a test here. The built-in model's answers mean
//! nothing, but they differ from picture to picture and from label to label, which is all that
//! these tests need.

#![allow(
    clippy::unwrap_used,
    reason = "a test should stop at the first surprise"
)]

mod evaluation;
mod formats;
mod help;
mod inputs;
mod labels;
mod lists;
mod long_texts;
mod many;
mod messages;
mod models;
mod outputs;
mod pictures;
mod probe;
mod prompts;
mod refusals;
mod room;
mod running;
mod sameness;
mod scores;
mod sorting;
mod streams;
mod tokens;
#[path = "../golden/unpack.rs"]
mod unpack;
