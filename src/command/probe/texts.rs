//! The classes' texts, and the zero-shot classifier made of them.

use std::collections::HashSet;

use anyhow::{Context as _, Result};

use super::ProbeArgs;
use super::data::Data;
use crate::input::dataset::folder_texts;
use crate::input::prompt;
use crate::model::DualEncoder;
use crate::output::evaluation::LabelFacts;
use crate::run::Console;
use crate::run::flags::NoneArgs;
use crate::run::labelling::{LabelSource, Labelling};
use crate::run::session::Session;
use crate::run::texts::Fitter;

/// The classes' texts.
pub(super) struct ClassTexts {
    labelling: Labelling,
    /// Whether the probe cannot be trained without them.
    is_needed: bool,
}

impl ClassTexts {
    /// The texts if the probe needs them, flags name some, or the model is opened anyway.
    pub(super) fn new(
        args: &ProbeArgs,
        data: &Data,
        has_model: bool,
        console: &Console,
    ) -> Result<Option<Self>> {
        let is_needed = args.recipe().needs_texts() || args.labels.are_given();
        if !is_needed && !has_model {
            return Ok(None);
        }
        let source = LabelSource {
            dataset: &data.train.path,
            labels: &args.labels,
            none: &NoneArgs::default(),
            class_map: None,
        };
        let names = match data.are_folders && !data.train.path.is_dir() {
            // The classes of the embedded folders.
            true => plain_labels(data),
            false => data.classes.clone(),
        };
        let labelling = optional(source.labelling(&names, console), is_needed, console)?;
        Ok(labelling.map(|labelling| Self {
            labelling,
            is_needed,
        }))
    }

    /// Tokenises them.
    pub(super) fn fit(
        mut self,
        args: &ProbeArgs,
        session: &Session,
        console: &Console,
    ) -> Result<Option<Self>> {
        let mut fitter = Fitter::new(session, args.labels.long.policy()?, console);
        let fitted = self.labelling.fit(&mut fitter);
        let fitted = optional(fitted, self.is_needed, console)?;
        fitter.finish();
        Ok(fitted.map(|()| self))
    }

    /// Runs the text tower.
    pub(super) fn encode(self, model: &dyn DualEncoder) -> Result<ZeroShot> {
        let classifier = self.labelling.classifier(model)?;
        let classes = classifier.classes();
        let rows = classes.rows().context(
            "--long-text best-chunk makes a classifier per image, but a probe is one classifier; \
             pass --long-text chunk-mean or slide",
        )?;
        let scale = model.logit_scale();
        let of_class = self.labelling.label_of_class.iter();
        let row = |&label: &usize| &rows[label * classes.dim()..][..classes.dim()];
        Ok(ZeroShot {
            rows: of_class
                .clone()
                .flat_map(row)
                .map(|value| value * scale)
                .collect(),
            labels: of_class
                .map(|&label| self.labelling.labels[label].clone())
                .collect(),
            facts: self.labelling.facts,
        })
    }
}

/// A missing value is an error if needed, else a note.
fn optional<T>(found: Result<T>, is_needed: bool, console: &Console) -> Result<Option<T>> {
    match found {
        Err(error) if !is_needed => {
            console.warn(&format!("no zero-shot accuracy to compare with: {error:#}"));
            Ok(None)
        }
        found => found.map(Some),
    }
}

/// The zero-shot classifier of the classes' texts.
pub(super) struct ZeroShot {
    /// The labels of the classes in records.
    pub(super) labels: Vec<String>,
    /// `[classes, dim]`, multiplied by the logit scale.
    pub(super) rows: Vec<f32>,
    pub(super) facts: LabelFacts,
}

/// The labels of classes without texts: folder names as words, if they remain distinct.
pub(super) fn plain_labels(data: &Data) -> Vec<String> {
    let labels = match prompt::wordnet_names(&data.classes) {
        Some(names) => names,
        None if data.are_folders => folder_texts(&data.classes).texts,
        None => return data.classes.clone(),
    };
    let different: HashSet<&String> = labels.iter().collect();
    let is_sound = different.len() == labels.len() && !labels.iter().any(String::is_empty);
    if is_sound {
        labels
    } else {
        data.classes.clone()
    }
}
