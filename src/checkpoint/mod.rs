//! From the value of `--model` to tensors under canonical names.
//!
//! `source` turns a name into files, `container` files into named tensors, `layout` their names
//! into canonical ones, `architecture` shapes into dimensions. `source` and `layout`
//! do not know each other; this module joins them.

pub mod architecture;
pub mod config;
pub mod container;
pub mod export;
pub mod hub;
pub mod inspect;
pub mod layout;
pub mod metadata;
pub mod positions;
pub mod sizes;
pub mod source;
pub mod tiny;
pub(crate) mod vocabulary;

use crate::file::digest;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use architecture::{Activation, Architecture};
use config::ModelConfig;
use container::{Archive, Container, StoredTensor};
use sha2::{Digest as _, Sha256};
use sizes::{Heads, Sizes, Stated};
use source::{ModelFiles, ModelSource};

use crate::input::preprocess::Preprocess;
use crate::input::tokenizer::VOCABULARY;

/// Plausible logarithms of the logit scale.
const LOGIT_SCALES: RangeInclusive<f32> = 0.0..=10.0;

/// Tensors by name, as views into the files that hold them.
pub type Tensors = BTreeMap<String, StoredTensor>;

/// A checkpoint that has been read and checked: canonical tensors and their description.
pub struct Checkpoint {
    /// The name given by the user.
    pub name: String,
    /// Tensors by canonical name (Hugging Face's); none missing, extra or misshapen.
    pub tensors: Tensors,
    /// Dimensions, read off the shapes.
    pub architecture: Architecture,
    /// The activation in the MLPs of both towers.
    pub activation: Activation,
    /// Why this activation was chosen, for `-v`.
    pub activation_source: String,
    /// Where the head counts of both towers come from, for `-v`.
    pub heads_source: String,
    /// The preprocessing that the image tower was trained with.
    pub preprocess: Preprocess,
    /// The layout of the tensor names in the file.
    pub layout: &'static str,
    /// The file format; `None` for the built-in model.
    pub container: Option<Container>,
    /// The files that were read: weights, then configuration.
    pub files: Vec<PathBuf>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// The weight files among `files`; none for the built-in model.
    weights: Vec<PathBuf>,
    archives: Vec<Archive>,
}

impl Checkpoint {
    /// Whether it is the built-in model.
    #[must_use]
    pub(crate) fn is_built_in(&self) -> bool {
        self.container.is_none()
    }

    /// Reads and checks the checkpoint that `source` names, with what the user specifies about it.
    ///
    /// # Errors
    /// When a file is broken, a tensor is missing, unused or misshapen, or the files contradict
    /// each other.
    pub fn load(source: &ModelSource, stated: &Stated) -> Result<Self> {
        match source {
            ModelSource::BuiltIn => tiny::checkpoint(stated),
            ModelSource::Files(files) => Self::from_files(files, stated)
                .with_context(|| format!("cannot load model {:?}", files.name)),
        }
    }

    /// The dimensions (without head counts) and warnings, for callers that need no weights.
    ///
    /// # Errors
    /// When a file is broken, or the files contradict each other or are not a CLIP model.
    pub fn sizes(source: &ModelSource) -> Result<(Architecture, Vec<String>)> {
        let files = match source {
            ModelSource::BuiltIn => return Ok((tiny::architecture()?, Vec::new())),
            ModelSource::Files(files) => files,
        };
        let read = || {
            let config = ModelConfig::read(files)?;
            vocabulary::check(files)?;
            let paths = files.weights.iter();
            let mut archives = paths.map(|path| open(path)).collect::<Result<Vec<_>>>()?;
            let named = layout::to_canonical(merge(&mut archives, &files.weights)?)?;
            let code = named.code();
            let sizes = sizes::read(&named.tensors, &config, Heads::NOT_NEEDED, code)?;
            anyhow::Ok((sizes.architecture, sizes.warnings))
        };
        read().with_context(|| format!("cannot read model {:?}", files.name))
    }

    fn from_files(files: &ModelFiles, stated: &Stated) -> Result<Self> {
        let config = ModelConfig::read(files)?;
        vocabulary::check(files)?;
        let mut archives = Vec::new();
        for path in &files.weights {
            archives.push(open(path)?);
        }
        let container = archives.first().map(|archive| archive.container);
        let config = config.with_header(header(&archives))?;
        let named = layout::to_canonical(merge(&mut archives, &files.weights)?)?;
        let Sizes {
            architecture,
            heads_source,
            warnings: sizes_warnings,
        } = sizes::read(&named.tensors, &config, stated.heads, named.code())?;
        ensure!(
            architecture.vocabulary == VOCABULARY,
            "the token embedding has {} rows, but CLIP's has {VOCABULARY}: the model was not \
             trained with the tokens that longclip produces",
            architecture.vocabulary
        );
        layout::canonical::check(&named.tensors, &architecture)?;
        let preprocess = config.preprocess(architecture.image.image_size())?;
        let (activation, activation_source) =
            sizes::choose_activation(stated.activation, &config, named.layout)?;
        let mut warnings = Vec::new();
        if activation_is_a_guess(&named, stated.activation, &config) {
            warnings.push(format!(
                "the file does not say its activation; assuming {activation}, which OpenAI's \
                 models have (most of open_clip's need --activation gelu)"
            ));
        }
        warnings.extend(sizes::overridden_activation(stated.activation, &config));
        warnings.extend(sizes_warnings);
        warnings.extend(archives.iter().flat_map(|archive| archive.notes.clone()));
        Ok(Self {
            name: files.name.clone(),
            tensors: named.tensors,
            architecture,
            activation,
            activation_source,
            heads_source,
            preprocess,
            layout: named.layout,
            container,
            files: config_and_weights(files),
            warnings,
            weights: files.weights.clone(),
            archives,
        })
    }

    /// The same model with other weights of the same names and shapes, after further training.
    #[must_use]
    pub fn with_tensors(&self, name: &str, tensors: Tensors) -> Self {
        Self {
            name: name.to_owned(),
            tensors,
            architecture: self.architecture.clone(),
            activation: self.activation,
            activation_source: self.activation_source.clone(),
            heads_source: self.heads_source.clone(),
            preprocess: self.preprocess.clone(),
            layout: layout::HUGGING_FACE,
            container: None,
            files: Vec::new(),
            warnings: Vec::new(),
            weights: Vec::new(),
            archives: Vec::new(),
        }
    }

    /// Fails if a weight file changed on disk since it was opened. To be called once the tensors
    /// have been copied out of the memory map.
    ///
    /// # Errors
    /// When a file's length or modification time has changed.
    pub fn unchanged(&self) -> Result<()> {
        self.archives.iter().try_for_each(Archive::unchanged)
    }
}

impl Checkpoint {
    /// The head counts of both towers and where they come from.
    #[must_use]
    pub fn heads(&self) -> inspect::Heads {
        inspect::Heads {
            image: self.architecture.image.heads(),
            text: self.architecture.text.heads,
            source: self.heads_source.clone(),
        }
    }

    /// The logit scale, by which cosines are multiplied: the exponential of the stored value.
    ///
    /// # Errors
    /// When it is missing, or not one that training reaches: below a logarithm of 0 all labels
    /// become equal, and far above CLIP's own all but one get nothing.
    pub fn logit_scale(&self) -> Result<f32> {
        let tensor = self.tensors.get("logit_scale");
        let values = tensor.context("tensor logit_scale is missing")?.to_f32()?;
        let stored = values.first().context("tensor logit_scale is empty")?;
        ensure!(
            LOGIT_SCALES.contains(stored),
            "tensor logit_scale is {stored}, but this logarithm lies between {} and {} (in CLIP it \
             is at most 4.6); the file is damaged or the training diverged",
            LOGIT_SCALES.start(),
            LOGIT_SCALES.end()
        );
        Ok(stored.exp())
    }

    /// The logit bias, which only models trained with a sigmoid loss have.
    ///
    /// # Errors
    /// When the stored value is not a finite number.
    pub fn logit_bias(&self) -> Result<Option<f32>> {
        let Some(tensor) = self.tensors.get(layout::LOGIT_BIAS) else {
            return Ok(None);
        };
        let bias = tensor.to_f32()?.first().copied();
        let bias = bias.filter(|bias| bias.is_finite());
        bias.context("the value of tensor logit_bias is not a finite number")
            .map(Some)
    }

    /// The text positional embedding.
    ///
    /// # Errors
    /// When it is missing.
    pub(crate) fn text_positions(&self) -> Result<positions::Table> {
        let tensor = self.tensors.get(layout::TEXT_POSITIONS);
        let tensor = tensor.context("the model has no text positional embedding")?;
        Ok(positions::Table {
            values: tensor.to_f32()?,
            width: self.architecture.text.width,
        })
    }

    /// Replaces the text positional embedding; the context length becomes its number of rows.
    ///
    /// # Errors
    /// When the table is not a whole number of rows.
    pub(crate) fn set_text_positions(&mut self, table: positions::Table) -> Result<()> {
        let rows = table.rows();
        let tensor = StoredTensor::from_f32(&[rows, table.width], table.values)?;
        self.architecture.context_length = rows;
        self.tensors
            .insert(layout::TEXT_POSITIONS.to_owned(), tensor);
        Ok(())
    }

    /// A fingerprint of these weights, as 64 hexadecimal digits: the SHA-256 of the weight file as
    /// given by `digest_of`; for several files, that of their digests in order; for the built-in
    /// model, that of its packed file.
    ///
    /// # Errors
    /// Those of `digest_of`.
    pub(crate) fn weights_sha256(
        &self,
        digest_of: impl Fn(&Path) -> Result<String>,
    ) -> Result<String> {
        let mut digests = self
            .weights
            .iter()
            .map(|file| digest_of(file))
            .collect::<Result<Vec<_>>>()?;
        if digests.len() == 1 {
            return Ok(digests.remove(0));
        }
        if digests.is_empty() {
            return Ok(tiny::sha256());
        }
        let mut hash = Sha256::new();
        for digest in &digests {
            hash.update(digest);
        }
        Ok(digest::hexadecimal(&hash.finalize()))
    }
}

fn config_and_weights(files: &ModelFiles) -> Vec<PathBuf> {
    let companions = [
        &files.config,
        &files.open_clip_config,
        &files.processor,
        &files.preprocessor,
        &files.tokenizer_config,
    ];
    let companions = companions.into_iter().flatten();
    files.weights.iter().chain(companions).cloned().collect()
}

/// open_clip's bare files have OpenAI's names and may have either activation.
fn activation_is_a_guess(
    named: &layout::Named,
    wanted: Option<Activation>,
    config: &ModelConfig,
) -> bool {
    named.layout == layout::OPENAI
        && !named.openai_sizes
        && wanted.is_none()
        && !config.tells_activation()
}

/// The tensors of all shards, from their headers.
fn header(archives: &[Archive]) -> metadata::Metadata {
    let pairs = archives.iter().flat_map(|archive| archive.metadata.clone());
    pairs.collect()
}

fn open(path: &Path) -> Result<Archive> {
    container::open(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Merges the tensors of a checkpoint's shards.
fn merge(archives: &mut [Archive], paths: &[PathBuf]) -> Result<Tensors> {
    let mut all = Tensors::new();
    for (archive, path) in archives.iter_mut().zip(paths) {
        for (name, tensor) in std::mem::take(&mut archive.tensors) {
            ensure!(
                !all.contains_key(&name),
                "tensor {name:?} is in more than one shard, the second time in {}",
                path.display()
            );
            all.insert(name, tensor);
        }
    }
    if all.is_empty() {
        bail!("the file holds no tensors");
    }
    Ok(all)
}
