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
//! readers     every reader of files by name, for the tests that damage files
//! command     one subcommand per file or folder: its flags and its run
//! run         what subcommands share: flag groups, console, opening a model, images to embeddings
//! train       fine-tuning: the network with derivatives, the loss, the trainer, its log
//! task        what embeddings are for: zero_shot, metric, calibration, linear_probe, retrieval, shift
//! model       the two towers, written once; device and precision
//! embedding   embeddings on disk, both ways: one file per format; probes; the cache
//! checkpoint  a name or path to tensors under one set of names, and back
//! input       what the model reads: paths, images, texts, data sets
//! output      plain records to table, JSON, CSV, Parquet, HTML, sidecars; knows no tensor
//! kernel      CPU arithmetic on slices; knows neither candle nor files
//! file        atomic write, lock, memory map, digest, stamp, safetensors header, checked Parquet, signals, limits
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
//! replaces the texts in `classify --probe`, as labels that `labels` encoded do; `shift` compares
//! two sets (`task::shift`); `finetune` turns pairs of images and captions
//! (`input::dataset::pairs`) into batches for [`train`]; `explain` asks from which words and regions
//! a score comes (`task::attribution`, `model::direct`). With `--cache` the towers run only for what
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
//!
//! # How to add …
//!
//! The compiler asks for imports, for arms of a `match` and for lengths of arrays; the rest is
//! here.
//!
//! **A subcommand `x`.** Write `src/command/x.rs`: `XArgs` (clap's `Args`; its `after_help` has a
//! line `Examples:` and ends with the exit statuses) and
//! `pub fn run(args: &XArgs, console: &Console) -> Result<Outcome>`, which prints by
//! `run::results`. In `src/command/mod.rs` add `pub mod x;`, a variant of `Command`, whose comment
//! is its line in `--help`, and its arm in `run`. Completions and man pages follow by themselves.
//! Test the program in `tests/cli/x.rs` (`Room::longclip` runs it) and list that module in
//! `tests/cli/main.rs`.
//!
//! **A layout of weights.** Write `src/checkpoint/layout/x.rs` with a type that implements
//! `WeightLayout`: its name; `has`, by which a single name decides, so that it must know some of
//! each tower and none of another layout; and the renaming to canonical names. It sees the names
//! after `wrapper::strip` and `drop_buffers`. In `layout/mod.rs` add `mod x;` and the type to
//! `LAYOUTS`, of which the first that fits is taken. Add its token and patch embeddings to
//! `holds_a_model` in `wrapper.rs`, the names to the message of `unknown::describe`, and, if all
//! files of the layout have one activation, its name (a constant in `layout/mod.rs`) to
//! `choose_activation` in `checkpoint/sizes/mod.rs`. Test it in `x.rs` on names alone. In
//! `tests/golden/reference.py` let `write_layouts` write a checkpoint in it, with its `entry`; run
//! the script and commit what it writes. The golden tests then hold its embeddings against the
//! reference.
//!
//! **An output format of records.** Write `src/output/x.rs` with a type that implements
//! `RecordWriter` and sends each record by `emit`. In `output/format.rs` add a variant of `Format`
//! and its `name`, in `output/mod.rs` `mod x;` and its arm in `writer`, and the variant in `FORMATS`
//! of `output/tests.rs`, which look for every label of a record (if it is text with every label).
//! List it in `RECORDS` in `src/run/flags/value.rs`. A new key of JSON goes into `assets/schema`
//! too. The arm in `output/found.rs` is for `search`: write hits and list the format in `FORMATS`
//! in `command/search/mod.rs`, or fail with `Unsupported`. A suffix goes to
//! `Format::RECORD_SUFFIXES`, and to `Format::SUFFIXES` if `search` writes the format too; add it
//! to `DATA` in `output/suffix.rs`, and to the lists of suffixes in `run/results/tests.rs` and in
//! `tests/cli/suffixes.rs`. README lists the formats. Where records of parts can be joined, add it to
//! `Form::of_parts` in `run/results.rs` and to `command/merge.rs`.
//!
//! **A kind of archive.** Write `src/input/shard/x.rs` with a type that implements `Archive`;
//! `zip.rs` is a pattern. In `shard/mod.rs` add `mod x;`, a variant of `Kind`, its endings in
//! `ENDINGS` and its arm in `open`. Add a reader in `src/readers.rs`, which calls `archive`, and its
//! seed in `tests/fuzz/seeds.rs`, and the ending to `ENDINGS` and `packed` in `tests/cli/shards.rs`,
//! which hold its records against those of a folder. A table (`parquet.rs`) has tests of its own,
//! with `label` and `length`. Help and README list the endings.
//!
//! **A format of embeddings.** Write `src/embedding/x.rs` with `write` and a type that implements
//! `EmbeddingFile`; `safetensors.rs` is a pattern. In `embedding/mod.rs` add `mod x;`, a variant of
//! `Format`, its suffix in `Format::SUFFIXES`, its arm in `write`, and, if it has no 16-bit
//! numbers, the variant in `check_dtype`; in `embedding/read.rs` its arm in `open`, and a file name
//! in `NAMES` of the tests, which then write, read, cut and damage it. For `search` and `probe` add
//! the suffix in `embedding/matrix/mod.rs` to `READ` and to `is_ours` in `open_any`, and, if other
//! programs write such files, to `Matrix::open`. Add it to `DATA` in `output/suffix.rs`, and
//! wherever messages, help, README and tests list the suffixes. A file name in `OUTPUTS` in
//! `tests/cli/embed/mod.rs` lets the program write, resume and search it. Add it to `format` in
//! `command/embed/mod.rs` and to `check_suffix` in `command/merge.rs`, which joins parts of it.

pub mod checkpoint;
pub mod command;
pub mod embedding;
pub(crate) mod file;
pub mod input;
pub(crate) mod kernel;
pub mod model;
pub mod output;
#[doc(hidden)]
pub mod readers;
pub mod run;
pub mod task;
pub mod train;
