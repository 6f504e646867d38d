//! Zero-shot image classification with CLIP and Long-CLIP: a library that holds everything, and a thin
//! binary.
//!
//! # The map
//!
//! A room is a folder of `src`. Each imports only rooms below it in this table, so that there is no
//! cycle between rooms; and no subcommand imports another. `tests/layers.rs` reads the table here and
//! holds the imports against it.
//!
//! ```text layers
//! command     one subcommand per file or folder: its flags and its run
//! run         what subcommands share: flag groups, console, opening a model, images to embeddings
//! train       fine-tuning: the network with derivatives, the loss, the trainer, its log
//! task        what embeddings are for: zero_shot, metric, calibration, linear_probe, retrieval
//! model       the two towers, written once; device and precision
//! embedding   embeddings on disk, both ways: one file per format; probes; the cache
//! checkpoint  a name or path to tensors under one set of names, and back
//! input       what the model reads: paths, images, texts, data sets
//! output      plain records to table, JSON, CSV, HTML; knows no tensor
//! kernel      CPU arithmetic on slices; knows neither candle nor files
//! file        atomic write, lock, memory map, digest, stamp, safetensors header, panic guard
//! ```
//!
//! # The flow
//!
//! ```text
//!  arguments ──► command::classify
//!                  │ checkpoint::source       name ─► files
//!                  │ checkpoint::container    files ─► named tensors
//!                  │ checkpoint::layout       ─► canonical names
//!                  │ checkpoint::sizes        shapes ─► architecture
//!                  ▼
//!              model::load ──► dyn DualEncoder
//!   labels ─► prompt ─► text clean ─► tokenizer ─► encode_text  ─► class embeddings ┐
//!   paths  ─► image ─► preprocess ────────────────► encode_image ─► image embeddings ┴► task::zero_shot ─► records ─► output
//! ```
//!
//! The other commands branch off it: `embed` saves the embeddings and `search` compares with them;
//! `evaluate` and `calibrate` compare answers with those of a data set (`input::dataset`,
//! `task::metric`, `task::calibration`, `task::retrieval`, `output::evaluation`, `output::report`);
//! `probe` trains a classifier on embeddings (`task::linear_probe`, `embedding::probe`), which
//! replaces the texts in `classify --probe`; `finetune` turns pairs of images and captions
//! (`input::dataset::pairs`) into batches for [`train`]. With `--cache` the towers run only for what
//! `embedding::cache` does not hold.
//!
//! # Invariants, each held by a test
//!
//! - Imports point down the table (`tests/layers.rs`).
//! - A checkpoint owns its numbers: no network states 77, 224 or 248 (`tests/layers.rs`).
//! - Past `layout` there is one set of tensor names (`tests/golden`: every layout of the same weights
//!   gives the same embeddings).
//! - Embeddings leave `model` with unit length (`tests/golden`).
//! - Only `main` ends the process, and stdout carries results only (clippy's `exit`, `print_stdout`).
//! - Nothing is substituted in silence: a key, column or tensor that is not understood is refused by
//!   name or warned about (`tests/golden/flips.rs`, `tests/cli`).
//! - A file is hostile until checked (`tests/fuzz`, `tests/container`).
//! - The same input gives the same bytes, whatever the batch or the number of threads (`tests/cli`).

//! # How to add …
//!
//! **A subcommand `x`.** Write `src/command/x.rs`: a header, `XArgs` (clap's `Args`, with examples and
//! exit statuses in `after_help`) and `pub fn run(args: &XArgs, console: &Console) -> Result<Outcome>`.
//! In `src/command/mod.rs` add `pub mod x;`, a variant of `Command` with its help line, and its arm in
//! `run`. Completions and man pages follow by themselves. Test the program in `tests/cli/x.rs` and
//! list that module in `tests/cli/main.rs`.
//!
//! **A layout of weights.** Write `src/checkpoint/layout/x.rs` with a type that implements
//! `WeightLayout`: its name, which tensor names belong to it, and the renaming to canonical names. In
//! `layout/mod.rs` add `mod x;` and the type to `LAYOUTS`, before any layout that would also match.
//! Test it there on names alone; let `tests/golden/reference.py` write a checkpoint in it, so that the
//! golden tests compare its embeddings with those of the other layouts.
//!
//! **An output format of records.** Write `src/output/x.rs` with a type that implements
//! `RecordWriter`. In `output/mod.rs` add `mod x;`, a variant of `Format`, its `name`, its suffix in
//! `Format::SUFFIXES`, and its arm in `writer`. List it in `RECORDS` in `src/run/flags/value.rs`; the
//! compiler names the other matches. Put it into `FORMATS` of the tests in `output/mod.rs`.
//!
//! **A format of embeddings.** Write `src/embedding/x.rs` with `write` and a type that implements
//! `EmbeddingFile`. In `embedding/mod.rs` add `mod x;`, a variant of `Format`, its suffix in
//! `Format::SUFFIXES` and its arm in `write`; in `embedding/read.rs` its arm in `open`, and a file name
//! in `NAMES` of the tests, which then write, read, cut and damage it. In `embedding/matrix/mod.rs` add
//! its suffix to `READ` and to `is_ours` in `open_any`, so that `search` and `probe` take it.

pub mod checkpoint;
pub mod command;
pub mod embedding;
pub(crate) mod file;
pub mod input;
pub(crate) mod kernel;
pub mod model;
pub mod output;
pub mod run;
pub mod task;
pub mod train;
