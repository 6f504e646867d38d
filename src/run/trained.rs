//! The file of `--probe`: a trained classifier, used instead of labels.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::made_with::MadeWith;
use super::session::Session;
use crate::embedding;
use crate::embedding::probe::{Keys, ProbeFile};
use crate::file::digest::{hexadecimal, sha256};
use crate::input::prompt::{Class, LabelSet};
use crate::task::linear_probe::tip_adapter::Mix;
use crate::task::linear_probe::{Answering, Cache, Probe, Samples};
use crate::task::zero_shot::{Judge, Score};

/// A probe read from a file, for one kind of score.
pub(crate) struct TrainedProbe {
    path: PathBuf,
    file: ProbeFile,
    probe: Probe,
    score: Score,
    /// SHA-256 of the file.
    pub(crate) sha256: String,
}

impl TrainedProbe {
    /// Reads the file, if one is given.
    ///
    /// # Errors
    /// When it cannot be read or is not a probe, or the score needs texts.
    pub(crate) fn read(path: Option<&Path>, score: Score) -> Result<Option<Self>> {
        let Some(path) = path else {
            return Ok(None);
        };
        let mut file = embedding::probe::read(path)?;
        let probe = probe(&mut file).with_context(|| format!("cannot use {}", path.display()))?;
        Answering::check(score)?;
        Ok(Some(Self {
            sha256: hexadecimal(&sha256(path)?),
            path: path.to_owned(),
            file,
            probe,
            score,
        }))
    }

    /// Its classes as labels; their keys are the folder names of the training data.
    pub(crate) fn labels(&self) -> LabelSet {
        let both = self.file.labels.iter().zip(&self.file.classes);
        let class = |(label, class): (&String, &String)| Class {
            label: label.clone(),
            prompts: vec![label.clone()],
            key: Some(class.clone()),
        };
        LabelSet {
            classes: both.map(class).collect(),
            uses_templates: false,
            warnings: Vec::new(),
            note: None,
        }
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// `linear` or `tip-adapter`.
    pub(crate) fn method(&self) -> &str {
        &self.file.method
    }

    /// Fails if it was trained on another model's embeddings.
    pub(crate) fn check(&self, session: &Session) -> Result<()> {
        let made_with = self.made_with();
        made_with.check_dim(session)?;
        made_with.check_model(session)
    }

    /// The model that the file was made with.
    pub(crate) fn made_with(&self) -> MadeWith<'_> {
        MadeWith {
            path: &self.path,
            about: &self.file.about,
            redo: "train the probe again",
        }
    }

    /// The classifier.
    pub(crate) fn judge(self) -> Result<Box<dyn Judge>> {
        Ok(Box::new(Answering::new(self.probe, self.score)?))
    }
}

/// Takes the classifier out of a file.
fn probe(file: &mut ProbeFile) -> Result<Probe> {
    let (dim, count) = (file.about.dim, file.classes.len());
    let weights = std::mem::take(&mut file.weights);
    let probe = Probe::new(weights, std::mem::take(&mut file.bias), dim)?;
    let Some(keys) = file.keys.take() else {
        return Ok(probe);
    };
    let Keys {
        embeddings,
        classes,
        alpha,
        beta,
    } = keys;
    ensure!(!classes.is_empty(), "it has no cached images");
    let mut samples = Samples::new(dim, count);
    for (row, class) in embeddings.chunks_exact(dim).zip(classes) {
        let class = usize::try_from(class).context("an image has no class")?;
        samples.push(row, class).context("a cached image")?;
    }
    probe.with_cache(Cache {
        keys: samples,
        mix: Mix { alpha, beta },
    })
}
