//! Describes a weight file as far as possible, even if it does not load.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Serialize;

use super::architecture::Architecture;
use super::config::ModelConfig;
use super::container::{Archive, Container};
use super::layout::{self, canonical};
use super::positions::{State, Table};
use super::sizes::{self, Sizes, Stated};
use super::source::{ModelFiles, ModelSource};
use super::{Checkpoint, Tensors, header, merge, open, tiny};
use crate::file::digest::sha256_of;

/// The description of a checkpoint; `None` marks what a damaged or foreign file does not show.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Inspection {
    /// The model as typed.
    pub model: String,
    /// The weight files.
    pub files: Vec<PathBuf>,
    /// `safetensors`, `pytorch`, `torchscript`, `pytorch-legacy` or `built-in`.
    pub container: Option<&'static str>,
    /// The layout of its tensor names.
    pub layout: Option<&'static str>,
    /// The usual name of its architecture, such as `ViT-B/16`.
    pub architecture: Option<String>,
    /// The context length in tokens.
    pub context_length: Option<usize>,
    /// Side of the input, in pixels.
    pub image_size: Option<usize>,
    /// Side of a patch, in pixels; a ResNet has none.
    pub patch_size: Option<usize>,
    /// Features per embedding.
    pub embed_dim: Option<usize>,
    /// The activation of the MLPs.
    pub activation: Option<String>,
    /// Where the activation comes from.
    pub activation_source: Option<String>,
    /// The attention heads.
    pub heads: Option<Heads>,
    /// The number of tensors of each element type.
    pub dtypes: BTreeMap<String, usize>,
    /// Trained parameters per tower.
    pub parameters: Parameters,
    /// The logit scale: the exponential of the stored parameter.
    pub logit_scale: Option<f32>,
    /// `original`, `untrained-stretch` or `trained`.
    pub positions: Option<String>,
    /// Tensors that the architecture needs but that are missing.
    pub missing: Vec<String>,
    /// Tensors that it does not use.
    pub unexpected: Vec<String>,
    /// Tensors with the wrong shape, with both shapes.
    pub misshapen: Vec<String>,
    /// How many numbers are NaN or infinite.
    pub non_finite: u64,
    /// The file's SHA-256; for several files one each, separated by spaces.
    pub sha256: Option<String>,
    /// The key-value pairs of a safetensors header.
    pub metadata: BTreeMap<String, String>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// Whether `--model` accepts it.
    pub loads: bool,
    /// The reason if not.
    pub error: Option<String>,
}

/// The attention heads of both towers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Heads {
    /// Of the image tower; for a ResNet, of the attention pooling.
    pub image: usize,
    /// Of the text tower.
    pub text: usize,
    /// Where the head counts come from.
    pub source: String,
}

/// Parameters of the two towers, projections included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Parameters {
    /// The image tower.
    pub image: u64,
    /// The text tower.
    pub text: u64,
}

impl fmt::Display for Heads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} image, {} text ({})",
            self.image, self.text, self.source
        )
    }
}

/// Inspects what `source` names, reading every byte of it. Problems are part of the result.
#[must_use]
pub fn inspect(source: &ModelSource, stated: &Stated) -> Inspection {
    let mut found = Inspection::default();
    let outcome = match source {
        ModelSource::BuiltIn => built_in(&mut found, stated),
        ModelSource::Files(files) => {
            found.model.clone_from(&files.name);
            found.files.clone_from(&files.weights);
            look(&mut found, files, stated)
        }
    };
    match outcome {
        Ok(()) => found.loads = true,
        Err(error) => found.error = Some(format!("{error:#}")),
    }
    found
}

fn built_in(found: &mut Inspection, stated: &Stated) -> Result<()> {
    let checkpoint = tiny::checkpoint(stated)?;
    found.model.clone_from(&checkpoint.name);
    found.container = Some("built-in");
    found.layout = Some(checkpoint.layout);
    found.tell_types(&checkpoint.tensors);
    found.tell_values(&checkpoint.tensors)?;
    found.tell_parameters(&checkpoint.tensors);
    found.tell_architecture(&checkpoint.architecture);
    found.heads = Some(checkpoint.heads());
    found.tell_positions(&checkpoint.tensors);
    found.activation = Some(checkpoint.activation.to_string());
    found.activation_source = Some(checkpoint.activation_source);
    found.sha256 = Some(tiny::sha256());
    found.warnings.push(tiny::NOTICE.to_owned());
    Ok(())
}

/// Fills in `found` as far as possible; the error says why the model does not load.
fn look(found: &mut Inspection, files: &ModelFiles, stated: &Stated) -> Result<()> {
    found.sha256 = Some(sha256_of(&files.weights)?.join(" "));
    let mut archives: Vec<Archive> = Vec::new();
    for path in &files.weights {
        archives.push(open(path)?);
    }
    found.container = archives.first().map(|archive| slug(archive.container));
    found.metadata = header(&archives);
    let raw = merge(&mut archives, &files.weights)?;
    // Every stage records what it can before the first loading error ends it.
    found.tell_types(&raw);
    found.tell_parameters(&raw);
    let config = ModelConfig::read(files).and_then(|c| c.with_header(found.metadata.clone()));
    let named = match layout::to_canonical(raw.clone()) {
        Ok(named) => named,
        Err(error) => {
            // The error about names comes first; the count of bad numbers is still recorded.
            let _ = found.tell_values(&raw);
            return Err(error);
        }
    };
    let values = found.tell_values(&named.tensors);
    found.layout = Some(named.layout);
    found.tell_parameters(&named.tensors);
    found.tell_positions(&named.tensors);
    let (config_free, code) = (ModelConfig::default(), named.code());
    let sizes = sizes::read(&named.tensors, &config_free, sizes::Heads::NOT_NEEDED, code);
    if let Ok(Sizes { architecture, .. }) = &sizes {
        found.tell_architecture(architecture);
        found.tell_problems(&named.tensors, architecture);
    }
    let config = config?;
    if let Ok((activation, source)) =
        sizes::choose_activation(stated.activation, &config, named.layout)
    {
        found.activation = Some(activation.to_string());
        found.activation_source = Some(source);
    }
    let checkpoint = Checkpoint::from_files(files, stated)?;
    found.heads = Some(checkpoint.heads());
    // Of two complaints, a number that is not finite explains the other.
    let scores = checkpoint.logit_scale().and(checkpoint.logit_bias());
    found.warnings.extend(checkpoint.warnings);
    values.and(scores.map(|_| ()))
}

impl Inspection {
    fn tell_types(&mut self, tensors: &Tensors) {
        for tensor in tensors.values() {
            *self.dtypes.entry(tensor.dtype().to_string()).or_default() += 1;
        }
    }

    /// Counts numbers that are not finite; the error names the first one.
    fn tell_values(&mut self, tensors: &Tensors) -> Result<()> {
        let mut first = None;
        for (name, tensor) in tensors {
            let count = tensor.count_non_finite();
            if count > 0 && first.is_none() {
                first = tensor.first_non_finite().map(|at| (name.clone(), at));
            }
            self.non_finite += count;
            tensor.release();
        }
        match first {
            None => Ok(()),
            Some((name, at)) => bail!(
                "tensor {name} holds a number that is not finite, at element {at}; the file is \
                 damaged or the training diverged"
            ),
        }
    }

    fn tell_parameters(&mut self, tensors: &Tensors) {
        self.parameters = Parameters::default();
        for (name, tensor) in tensors.iter().filter(|(_, tensor)| tensor.is_float()) {
            let elements = tensor.elements() as u64;
            if name == "logit_scale" || name.ends_with(".logit_scale") {
                let stored = tensor.to_f32().ok().and_then(|v| v.first().copied());
                self.logit_scale = stored.map(f32::exp);
            } else if name.contains("visual") || name.contains("vision_model") {
                self.parameters.image += elements;
            } else {
                self.parameters.text += elements;
            }
        }
    }

    fn tell_architecture(&mut self, architecture: &Architecture) {
        self.architecture = Some(architecture.image.describe());
        self.context_length = Some(architecture.context_length);
        self.image_size = Some(architecture.image.image_size());
        self.patch_size = architecture.image.patch_size();
        self.embed_dim = Some(architecture.embed_dim);
    }

    fn tell_problems(&mut self, tensors: &Tensors, architecture: &Architecture) {
        let problems = canonical::problems(tensors, architecture);
        let names = |list: Vec<(String, Vec<usize>)>| list.into_iter().map(|(name, _)| name);
        self.missing = names(problems.missing).collect();
        self.unexpected = names(problems.unexpected).collect();
        let misshapen = problems.misshapen.into_iter();
        self.misshapen = misshapen
            .map(|(name, found, expected)| format!("{name}: {found:?}, expected {expected:?}"))
            .collect();
    }

    fn tell_positions(&mut self, tensors: &Tensors) {
        let table = tensors.get(layout::TEXT_POSITIONS);
        let Some((table, values)) = table.and_then(|t| Some((t, t.to_f32().ok()?))) else {
            return;
        };
        let &[_, width] = table.shape() else { return };
        let state = Table { values, width }.state();
        self.positions = Some(state.to_string());
        if state == State::UntrainedStretch {
            self.warnings.push(
                "text positions 20 and up are plain linear interpolation: they were never trained. \
                 A conversion from Long-CLIP with such a table has lost the trained one \
                 (positional_embedding_res); convert the original again"
                    .to_owned(),
            );
        }
    }
}

fn slug(container: Container) -> &'static str {
    match container {
        Container::Safetensors => "safetensors",
        Container::TorchZip => "pytorch",
        Container::TorchScript => "torchscript",
        Container::TorchLegacy => "pytorch-legacy",
    }
}
