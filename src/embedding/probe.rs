//! The file of a trained classifier: safetensors.
//!
//! - `weight` F32 [classes, dim] and `bias` F32 `[classes]`, like a linear layer of PyTorch: the
//!   logits of an image's unit-length embedding `x` are `weight x + bias`.
//! - The rows of labels' texts (`zero-shot`, written by `longclip labels`) are unit embeddings, of
//!   which the products are cosines; the logit scale is among the hyperparameters. `none` F32 [texts,
//!   dim] are texts that stand for none of the labels.
//! - Tip-Adapter also has `keys` F32 [images, dim] and their classes `key_classes` I32 `[images]`.
//!
//! The metadata in the header record what made the probe; `classes`, `labels`, `hyperparameters`
//! and `scores` are JSON. Nothing in the file depends on when or by which command it was written.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::{Value, json};

mod texts;

pub use texts::{NoneRows, Texts};

use super::About;
use super::read::{header, map};
use crate::file::atomic::AtomicFile;
use crate::file::safetensors::{CRC32, Planned, header_bytes, sum};

/// Value of the metadata key `format`.
pub(crate) const FORMAT: &str = "longclip probe 1";

/// The method of labels' texts.
pub(crate) const ZERO_SHOT: &str = "zero-shot";

/// A trained classifier and its metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeFile {
    /// The model and preprocessing settings.
    pub about: About,
    /// The dataset's names of the classes.
    pub classes: Vec<String>,
    /// The labels that records show.
    pub labels: Vec<String>,
    /// `linear`, `tip-adapter` or `zero-shot`.
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
    /// What labels' texts were made with.
    pub texts: Option<Texts>,
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
pub(crate) fn check_names(names: &[String], what: &str) -> Result<()> {
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
        let tensors = tensors(probe);
        sink.write_all(&header_of(probe, &tensors))?;
        for tensor in tensors {
            sink.write_all(&tensor.bytes)?;
        }
        sink.flush()
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    file.commit()
}

struct Tensor {
    name: &'static str,
    dtype: Dtype,
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
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        bytes,
    };
    let count = probe.classes.len();
    let mut tensors = vec![
        tensor("weight", &[count, dim], numbers(&probe.weights)),
        tensor("bias", &[count], numbers(&probe.bias)),
    ];
    if let Some(none) = probe.texts.as_ref().and_then(|texts| texts.none.as_ref()) {
        let rows = none.embeddings.len() / dim;
        tensors.push(tensor("none", &[rows, dim], numbers(&none.embeddings)));
    }
    if let Some(keys) = &probe.keys {
        let images = keys.classes.len();
        let classes = keys.classes.iter().flat_map(|class| class.to_le_bytes());
        tensors.push(tensor("keys", &[images, dim], numbers(&keys.embeddings)));
        tensors.push(Tensor {
            dtype: Dtype::I32,
            ..tensor("key_classes", &[images], classes.collect())
        });
    }
    tensors
}

/// Padded so that the numbers begin at a multiple of 64.
fn header_of(probe: &ProbeFile, tensors: &[Tensor]) -> Vec<u8> {
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
    let numbers = tensors.iter().map(|tensor| &tensor.bytes[..]);
    let crc32 = sum(pairs.iter().map(|(key, value)| (*key, &value[..])), numbers);
    let pairs = pairs.into_iter().chain([(CRC32, crc32.to_string())]);
    let pairs = pairs.map(|(key, value)| (key.to_owned(), json!(value)));
    let planned = tensors.iter().map(|tensor| Planned {
        name: tensor.name,
        dtype: tensor.dtype,
        shape: &tensor.shape,
    });
    header_bytes(Value::Object(pairs.collect()), planned, 64)
}

/// A hundred thousand classes have headers of about 10 MB.
const LONGEST_HEADER: u64 = 64 << 20;
/// Files with more classes are not probes.
const MAX_CLASSES: usize = 1 << 20;

/// Upper limit of logits, so that their sums and differences fit in f32 too.
const LARGEST_LOGIT: f64 = 1e30;
/// How far the product of two embeddings may exceed 1: as far as their lengths may.
const BEYOND_ONE: f64 = 0.005;

/// Reads the file at `path`.
///
/// # Errors
/// When it does not exist, or is not such a file.
pub fn read(path: &Path) -> Result<ProbeFile> {
    read_file(path).with_context(|| {
        format!(
            "cannot use the probe {}; longclip probe --out and longclip labels write such files",
            path.display()
        )
    })
}

fn read_file(path: &Path) -> Result<ProbeFile> {
    let bytes = map(path)?;
    let (length, directory) = header(&bytes, LONGEST_HEADER)?;
    let parts = Parts {
        numbers: bytes
            .get(8 + length..)
            .context("the file ends within its header")?,
        directory,
    };
    parts.check_sum()?;
    let (about, method) = parts.about()?;
    let classes = parts.names("classes")?;
    let labels = parts.names("labels")?;
    let least = if method == ZERO_SHOT { 1 } else { 2 };
    ensure!(
        classes.len() == labels.len() && (least..=MAX_CLASSES).contains(&classes.len()),
        "{} classes and {} labels do not fit together, or are fewer than {least}",
        classes.len(),
        labels.len()
    );
    let hyperparameters: Value = parts.json("hyperparameters")?;
    let weights = parts.numbers("weight", &[classes.len(), about.dim])?;
    let file = ProbeFile {
        weights,
        bias: parts.numbers("bias", &[classes.len()])?,
        keys: match method.as_str() {
            "linear" | ZERO_SHOT => None,
            "tip-adapter" => Some(parts.keys(&hyperparameters, [classes.len(), about.dim])?),
            other => bail!("the method {other:?} is unknown; a newer longclip may read it"),
        },
        texts: match method.as_str() {
            ZERO_SHOT => Some(parts.texts(&hyperparameters, about.dim)?),
            _ => None,
        },
        scores: parts.json("scores")?,
        about,
        classes,
        labels,
        method,
        hyperparameters,
    };
    check_logits(&file)?;
    Ok(file)
}

/// Fails if an embedding of unit length may have logits that are not finite.
fn check_logits(file: &ProbeFile) -> Result<()> {
    for (number, row) in file.weights.chunks_exact(file.about.dim).enumerate() {
        let squares: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum();
        let length = squares.sqrt();
        ensure!(
            length <= LARGEST_LOGIT,
            "row {number} of the tensor \"weight\" has the length {length:e}, above the limit of \
             {LARGEST_LOGIT:e} for logits"
        );
    }
    let odd = (file.bias.iter()).find(|value| f64::from(value.abs()) > LARGEST_LOGIT);
    if let Some(odd) = odd {
        bail!("the tensor \"bias\" holds {odd:e}, above the limit of {LARGEST_LOGIT:e} for logits");
    }
    let Some(keys) = &file.keys else {
        return Ok(());
    };
    let most = keys.classes.len() as f64 * keys.alpha.abs() * (keys.beta * BEYOND_ONE).exp();
    ensure!(
        most <= LARGEST_LOGIT,
        "with alpha {:e} and beta {:e} the tensor \"keys\" of {} images gives logits above the \
         limit of {LARGEST_LOGIT:e}",
        keys.alpha,
        keys.beta,
        keys.classes.len()
    );
    Ok(())
}

/// The header, and the data after it.
struct Parts<'a> {
    numbers: &'a [u8],
    directory: Metadata,
}

impl Parts<'_> {
    fn pair(&self, key: &str) -> Result<&str> {
        let pairs = self.directory.metadata().as_ref();
        let value = pairs.and_then(|pairs| pairs.get(key));
        value.map(String::as_str).with_context(|| {
            format!("the header has no {key:?}; was the file written by longclip probe?")
        })
    }

    /// Fails if anything changed since the file was written. Older files have no checksum.
    fn check_sum(&self) -> Result<()> {
        let Ok(stated) = self.pair(CRC32) else {
            return Ok(());
        };
        let pairs = self.directory.metadata().iter().flatten();
        let pairs = pairs.map(|(key, value)| (&key[..], &value[..]));
        ensure!(
            stated == sum(pairs.filter(|(key, _)| *key != CRC32), [self.numbers]).to_string(),
            "it was changed or damaged after it was written; if the change is yours, remove \
             longclip.crc32 from its header"
        );
        Ok(())
    }

    fn json<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<T> {
        serde_json::from_str(self.pair(key)?)
            .with_context(|| format!("the header's {key:?} is damaged"))
    }

    fn about(&self) -> Result<(About, String)> {
        let format = self.pair("format")?;
        ensure!(
            format == FORMAT,
            "the header says {format:?}, not {FORMAT:?}; a newer longclip may read it"
        );
        let about = About::from_pairs(|key| {
            let value = match key {
                "format" => "longclip embeddings 1",
                "kind" => "images",
                "dtype" => "f32",
                key => self.pair(key).ok()?,
            };
            Some(value.to_owned())
        })?;
        Ok((about, self.pair("method")?.to_owned()))
    }

    /// Names, all different and none empty.
    fn names(&self, key: &str) -> Result<Vec<String>> {
        let names: Vec<String> = self.json(key)?;
        check_names(&names, key)?;
        Ok(names)
    }

    /// The bytes of a tensor of exactly this type and shape.
    fn bytes(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&[u8]> {
        let info = self.directory.info(name);
        let info = info.with_context(|| format!("the file has no tensor {name:?}"))?;
        ensure!(
            info.dtype == dtype && info.shape == shape,
            "the tensor {name:?} is {:?} {:?} instead of {dtype:?} {shape:?}",
            info.dtype,
            info.shape
        );
        let (start, end) = info.data_offsets;
        let length = shape
            .iter()
            .try_fold(4usize, |product, n| product.checked_mul(*n));
        let bytes = self
            .numbers
            .get(start..end)
            .filter(|bytes| Some(bytes.len()) == length);
        bytes.with_context(|| format!("the tensor {name:?} is cut short"))
    }

    fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let bytes = self.bytes(name, Dtype::F32, shape)?;
        let values: Vec<f32> = (bytes.as_chunks().0.iter())
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        if let Some(odd) = values.iter().find(|value| !value.is_finite()) {
            bail!("the tensor {name:?} holds {odd}");
        }
        Ok(values)
    }

    fn keys(&self, hyperparameters: &Value, [classes, dim]: [usize; 2]) -> Result<Keys> {
        let images = self
            .directory
            .info("key_classes")
            .map(|info| info.shape.as_slice());
        let Some(&[images]) = images else {
            bail!("the file has no list \"key_classes\"");
        };
        let bytes = self.bytes("key_classes", Dtype::I32, &[images])?;
        let of: Vec<i32> = (bytes.as_chunks().0.iter())
            .map(|bytes| i32::from_le_bytes(*bytes))
            .collect();
        let is_class = |class: &i32| usize::try_from(*class).is_ok_and(|class| class < classes);
        ensure!(of.iter().all(is_class), "a known image has no class");
        let number = |key: &str| {
            let value = hyperparameters.get(key).and_then(Value::as_f64);
            value.with_context(|| format!("the hyperparameters lack {key:?}"))
        };
        Ok(Keys {
            embeddings: self.numbers("keys", &[images, dim])?,
            classes: of,
            alpha: number("alpha")?,
            beta: number("beta")?,
        })
    }
}

#[cfg(test)]
mod tests;
