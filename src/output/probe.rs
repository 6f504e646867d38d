//! The file of a trained classifier: safetensors.
//!
//! - `weight` F32 [classes, dim] and `bias` F32 `[classes]`, as a linear layer of PyTorch is stored: the
//!   logits of an image's unit-length embedding `x` are `weight x + bias`.
//! - Tip-Adapter also has `keys` F32 [images, dim] and their classes `key_classes` I32 `[images]`.
//!
//! The metadata in the header record what made the probe; `classes`, `labels`, `hyperparameters`
//! and `scores` are JSON. Nothing in the file depends on when or by which command it was written.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use super::embedding::About;
use super::file::AtomicFile;

/// Value of the metadata key `format`.
pub const FORMAT: &str = "longclip probe 1";

/// A trained classifier and its metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeFile {
    /// The model and preprocessing settings.
    pub about: About,
    /// The dataset's names of the classes.
    pub classes: Vec<String>,
    /// The labels that records show.
    pub labels: Vec<String>,
    /// `linear` or `tip-adapter`.
    pub method: String,
    /// Hyperparameters.
    pub hyperparameters: Value,
    /// Its scores.
    pub scores: Value,
    /// [classes, dim].
    pub weights: Vec<f32>,
    /// `[classes]`.
    pub bias: Vec<f32>,
    /// The known images of Tip-Adapter.
    pub keys: Option<Keys>,
}

/// The known images of Tip-Adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Keys {
    /// [images, dim].
    pub embeddings: Vec<f32>,
    /// The class of each.
    pub classes: Vec<i32>,
    /// Their weight (alpha); among the hyperparameters too.
    pub alpha: f64,
    /// Sharpness of their similarity (beta); among the hyperparameters too.
    pub beta: f64,
}

/// Fails if names of classes are blank or not unique. `what` they are: `labels`.
///
/// # Errors
/// Names the name.
pub fn check_names(names: &[String], what: &str) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        ensure!(!name.trim().is_empty(), "one of the {what} has no name");
        ensure!(seen.insert(name), "{name:?} occurs twice among the {what}");
    }
    Ok(())
}

/// Writes the file, which appears complete or not at all.
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
