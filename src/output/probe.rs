//! The file of a trained classifier: safetensors.
//!
//! - `weight` F32 [classes, dim] and `bias` F32 `[classes]`, as a linear layer of PyTorch is stored: the
//!   logits of an image's unit-length embedding `x` are `weight x + bias`.
//! - Tip-Adapter also has `keys` F32 [images, dim] and their classes `key_classes` I32 `[images]`.
//!
//! The header's pairs say what the probe was made with; `classes`, `labels`, `hyperparameters` and
//! `scores` are JSON. Nothing in the file depends on when or by what command it was written.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use super::embedding::About;
use crate::file::atomic::AtomicFile;

/// What the pair `format` holds.
pub const FORMAT: &str = "longclip probe 1";

/// A trained classifier and what it was made with.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeFile {
    /// The model and how images were read.
    pub about: About,
    /// What the dataset calls the classes.
    pub classes: Vec<String>,
    /// What records show of them.
    pub labels: Vec<String>,
    /// `linear` or `tip-adapter`.
    pub method: String,
    /// How it was trained.
    pub hyperparameters: Value,
    /// What it scored.
    pub scores: Value,
    /// [classes, dim].
    pub weights: Vec<f32>,
    /// `[classes]`.
    pub bias: Vec<f32>,
    /// Known images.
    pub keys: Option<Keys>,
}

/// The known images of Tip-Adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Keys {
    /// [images, dim].
    pub embeddings: Vec<f32>,
    /// The class of each.
    pub classes: Vec<i32>,
    /// How much they count; among the hyperparameters too.
    pub alpha: f64,
    /// How sharply nearness counts; among the hyperparameters too.
    pub beta: f64,
}

/// Fails if names cannot be those of classes: one is blank, or there twice. `what` they are: `labels`.
///
/// # Errors
/// Names the name.
pub fn check_names(names: &[String], what: &str) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        ensure!(!name.trim().is_empty(), "one of the {what} has no name");
        ensure!(seen.insert(name), "{name:?} is twice among the {what}");
    }
    Ok(())
}

/// Writes the file, which appears whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, probe: &ProbeFile) -> Result<()> {
    let file = AtomicFile::create(path)?;
    let write = || -> std::io::Result<()> {
        let mut sink = file.sink()?;
        sink.write_all(&header(probe))?;
        for tensor in tensors(probe) {
            sink.write_all(&tensor.bytes)?;
        }
        sink.flush()
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    file.commit()
}

struct Tensor {
    name: &'static str,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn tensors(probe: &ProbeFile) -> Vec<Tensor> {
    let numbers = |values: &[f32]| {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    };
    let dim = probe.about.dim;
    let tensor = |name, shape: &[usize], bytes| Tensor {
        name,
        dtype: "F32",
        shape: shape.to_vec(),
        bytes,
    };
    let count = probe.classes.len();
    let mut tensors = vec![
        tensor("weight", &[count, dim], numbers(&probe.weights)),
        tensor("bias", &[count], numbers(&probe.bias)),
    ];
    if let Some(keys) = &probe.keys {
        let images = keys.classes.len();
        let classes = keys.classes.iter().flat_map(|class| class.to_le_bytes());
        tensors.push(tensor("keys", &[images, dim], numbers(&keys.embeddings)));
        tensors.push(Tensor {
            dtype: "I32",
            ..tensor("key_classes", &[images], classes.collect())
        });
    }
    tensors
}

/// Padded so that the numbers begin at a multiple of 64.
fn header(probe: &ProbeFile) -> Vec<u8> {
    let about = &probe.about;
    let pairs = [
        ("format", FORMAT.to_owned()),
        ("method", probe.method.clone()),
        ("model", about.model_id()),
        ("dim", about.dim.to_string()),
        ("precision", about.precision.clone()),
        ("settings", about.settings.clone()),
        ("version", about.version.clone()),
        ("classes", json!(probe.classes).to_string()),
        ("labels", json!(probe.labels).to_string()),
        ("hyperparameters", probe.hyperparameters.to_string()),
        ("scores", probe.scores.to_string()),
    ];
    let pairs = pairs.map(|(key, value)| (key.to_owned(), json!(value)));
    let mut header = Map::new();
    header.insert(
        "__metadata__".to_owned(),
        Value::Object(pairs.into_iter().collect()),
    );
    let mut at = 0;
    for tensor in tensors(probe) {
        let end = at + tensor.bytes.len();
        let entry = json!({
            "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [at, end],
        });
        header.insert(tensor.name.to_owned(), entry);
        at = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize((8 + header.len()).next_multiple_of(64) - 8, b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes
}
