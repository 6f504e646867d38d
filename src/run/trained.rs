//! The file of `--probe`: a trained classifier, or labels that were encoded already, used instead of
//! labels.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, ensure};

use super::made_with::MadeWith;
use super::session::Session;
use crate::embedding;
use crate::embedding::probe::{Keys, ProbeFile, Texts};
use crate::file::digest::{hexadecimal, sha256};
use crate::input::prompt::{Class, LabelSet};
use crate::task::embeddings::ClassEmbeddings;
use crate::task::linear_probe::tip_adapter::Mix;
use crate::task::linear_probe::{Answering, Cache, Probe, Samples};
use crate::task::zero_shot::{Classifier, Judge, Score};

/// A probe read from a file, for one kind of score.
pub(crate) struct TrainedProbe {
    path: PathBuf,
    file: ProbeFile,
    /// `None` for labels' texts.
    probe: Option<Probe>,
    score: Score,
    /// Reads the weights for their digest meanwhile.
    digest: Option<JoinHandle<Result<()>>>,
    /// SHA-256 of the file.
    pub(crate) sha256: String,
}

impl TrainedProbe {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read or is not a probe, or the score needs texts.
    pub(crate) fn read(path: &Path, score: Score) -> Result<Self> {
        let mut file = embedding::probe::read(path)?;
        let cannot = || format!("cannot use {}", path.display());
        let probe = match file.texts {
            None => Some(probe(&mut file).with_context(cannot)?),
            Some(_) => None,
        };
        match &file.texts {
            None => Answering::check(score)?,
            Some(texts) => ensure!(
                texts.is_for_sigmoid == (score == Score::Sigmoid),
                "{} was made for {}; run longclip labels with the --score of this run",
                path.display(),
                match texts.is_for_sigmoid {
                    true => "--score sigmoid",
                    false => "--score softmax, cosine and logit",
                }
            ),
        }
        Ok(Self {
            sha256: hexadecimal(&sha256(path)?),
            path: path.to_owned(),
            file,
            probe,
            score,
            digest: None,
        })
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

    /// `linear`, `tip-adapter` or `zero-shot`.
    pub(crate) fn method(&self) -> &str {
        &self.file.method
    }

    /// What labels' texts were made with; `None` for a trained classifier.
    pub(crate) fn texts(&self) -> Option<&Texts> {
        self.file.texts.as_ref()
    }

    /// Fails if it was trained on another model's embeddings, as far as that is known without
    /// reading the weights, which begins.
    pub(crate) fn check(&mut self, session: &Arc<Session>) -> Result<()> {
        self.made_with().check_dim(session)?;
        let ours = session.placement.precision.to_string();
        let found = &self.file.about.precision;
        ensure!(
            self.texts().is_none() || *found == ours,
            "{} was made with --precision {found}, but this run uses {ours}; pass --precision \
             {found}, or run longclip labels again",
            self.path.display()
        );
        let session = session.clone();
        self.digest = Some(std::thread::spawn(move || {
            session.weights_sha256().map(drop)
        }));
        Ok(())
    }

    /// Fails if it was made with another model; waits for the digest of the weights.
    fn check_model(&mut self, session: &Session) -> Result<()> {
        if let Some(digest) = self.digest.take() {
            // A panic leaves the digest to the next line.
            digest.join().unwrap_or(Ok(()))?;
        }
        self.made_with().check_model(session)
    }

    /// The model that the file was made with.
    pub(crate) fn made_with(&self) -> MadeWith<'_> {
        MadeWith {
            path: &self.path,
            about: &self.file.about,
            redo: match self.texts() {
                Some(_) => "run longclip labels again",
                None => "train the probe again",
            },
        }
    }

    /// The classifier.
    ///
    /// # Errors
    /// When it was made with another model than that of `session`.
    pub(crate) fn judge(mut self, session: &Session) -> Result<Box<dyn Judge>> {
        self.check_model(session)?;
        if let Some(probe) = self.probe {
            return Ok(Box::new(Answering::new(probe, self.score)?));
        }
        let texts = self
            .file
            .texts
            .context("the file has neither a probe nor texts")?;
        let dim = self.file.about.dim;
        let rows = |rows: Vec<f32>| ClassEmbeddings::from_rows(rows, dim);
        let none = texts.none.map(|none| rows(none.embeddings)).transpose()?;
        let classes = rows(self.file.weights)?;
        let (scale, bias) = (texts.logit_scale, texts.logit_bias);
        let classifier = Classifier::new(classes, none, scale, bias, self.score)?;
        Ok(Box::new(classifier))
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
