//! The built program as a user meets it: offline, with a small model or the built-in one.
//!
//! Every line of the command line's contract has a test here. The small model's answers are
//! meaningless, but they differ between images and labels, which is enough for most tests;
//! `built_in` tests what the built-in model recognises.

#![allow(
    clippy::unwrap_used,
    reason = "a test should stop at the first surprise"
)]

mod bench;
mod built_in;
mod convert;
mod corrupt;
mod datasets;
mod embed;
mod encoded_labels;
mod endless;
mod evaluation;
mod explain;
#[cfg(target_os = "linux")]
mod faults;
mod finetune;
mod foreign_files;
mod formats;
mod frames;
mod help;
mod hub;
mod images;
mod inputs;
mod labels;
mod lists;
mod long_texts;
mod many;
#[cfg(target_os = "linux")]
mod memory;
mod messages;
mod models;
mod names;
mod outputs;
mod parquet_shards;
mod parts;
mod parts_killed;
mod probe;
mod probe_parts;
mod prompts;
#[cfg(unix)]
mod readme;
mod records;
mod refusals;
mod room;
mod running;
mod sameness;
mod schema;
mod scores;
mod shards;
mod shell;
mod shift;
mod small;
mod sorting;
mod streams;
mod suffixes;
#[cfg(target_os = "linux")]
mod terminal;
mod tokens;
#[path = "../golden/unpack.rs"]
mod unpack;
mod xmp;
