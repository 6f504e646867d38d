//! longclip: zero-shot image classification with CLIP and Long-CLIP.
//!
//! A library that holds everything and a thin binary. The folders are the stages of the data flow:
//!
//! ```text
//!  arguments ──► command::classify
//!                  │ checkpoint::source      name ─► files
//!                  │ checkpoint::container   files ─► named tensors
//!                  │ checkpoint::layout      ─► canonical names
//!                  │ checkpoint::architecture shapes ─► sizes
//!                  ▼
//!              model::load ──► dyn DualEncoder
//!   labels ─► prompt ─► text clean ─► tokenizer ─► encode_text  ─► class embeddings ┐
//!   paths  ─► image ─► preprocess ────────────────► encode_image ─► image embeddings ┴► task::zero_shot ─► records ─► output
//! ```
//!
//! The other commands are branches of that image: `embed` keeps the embeddings in a file and `search`
//! compares with one; `evaluate` and `calibrate` hold answers against those of a dataset
//! (`input::dataset` ─► … ─► `task::metric`, `task::calibration`, `task::retrieval` ─► `output::evaluation`,
//! `output::report`); `probe` trains a classifier on embeddings (`task::linear_probe` ─► `output::probe`),
//! which takes the texts' place in `classify --probe` (`input::probe`); `finetune` turns pairs of images and
//! captions (`input::dataset::pairs`) into batches for `task::fine_tune` and keeps a run's folder
//! (`output::training`); with `--cache` the towers run only for what `cache` does not know.
//!
//! - [`command`]: what a user can ask for; uses everything.
//! - [`cli`]: the top parser and the flag groups that subcommands share.
//! - [`checkpoint`]: name or path -> files -> tensors under one set of names.
//! - [`input`]: what the model reads: paths, images, texts.
//! - [`model`]: the two towers, written once, on candle tensors.
//! - [`kernel`]: CPU arithmetic on slices; knows neither candle nor files.
//! - [`task`]: what embeddings are for; no files, no printing.
//! - [`output`]: plain records -> formats; knows no tensor.
//! - [`cache`]: embeddings by content, from one run to the next.
//! - [`device`]: "auto", "cpu", "cuda:0" -> what the towers compute in.
//!
//! Invariants: arrows point one way (nothing below `command` knows `command` or `cli`); one home per
//! outside package; past `layout` there is one set of tensor names; the model owns its numbers (77,
//! 224 and 248 stand in tests and documents only); embeddings leave `model` with unit length; only
//! `main` ends the process and stdout carries results only; nothing is substituted in silence; a
//! file is hostile until checked; same input, same bytes out, whatever the batch or the threads.
//!
//! To add a subcommand, a layout or an output format, write one file and one line in its folder's
//! `mod.rs`.

pub mod checkpoint;
pub mod command;
pub mod embedding;
pub mod file;
pub mod input;
pub mod kernel;
pub mod model;
pub mod output;
pub mod run;
pub mod task;
pub mod train;
