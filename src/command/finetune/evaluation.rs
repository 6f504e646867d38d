//! Evaluates the model between epochs, on images with captions or labels.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use super::flags::FinetuneArgs;
use crate::checkpoint::Checkpoint;
use crate::input::dataset::{self, CaptionOptions, Captioned, Labelled, LabelledOptions};
use crate::input::paths::Entry;
use crate::input::tokenizer::{Fitted, LongText};
use crate::model::{self, DualEncoder};
use crate::output::ImageName;
use crate::run::Console;
use crate::run::engine::Engine;
use crate::run::flags::{LabelArgs, LongTextArgs, NoneArgs};
use crate::run::images::IMAGES;
use crate::run::labelling::{LabelSource, Labelling};
use crate::run::pipeline::Known;
use crate::run::recalls::{Kept, recalls};
use crate::run::session::{Session, Stop};
use crate::run::texts::Fitter;
use crate::train::log::Figures;

/// Images scored per matrix product.
const TOGETHER: usize = 128;

/// The evaluation datasets.
pub(super) struct Evaluations {
    sets: Vec<(String, Set)>,
    engine: Engine,
}

enum Set {
    Captions(Captioned, Vec<Fitted>),
    Labels(Labelled, Box<Labelling>),
}

/// An image, and its embedding or error.
type Embedded = (ImageName, Result<Known>);

impl Evaluations {
    /// Reads all datasets and fits their texts, so that errors are found before training.
    pub(super) fn open(
        args: &FinetuneArgs,
        session: &Arc<Session>,
        console: &Console,
    ) -> Result<Self> {
        let labels = LabelArgs {
            delimiter: None,
            labels: Vec::new(),
            labels_file: None,
            template: Vec::new(),
            templates: args.eval.eval_templates.clone(),
            long: LongTextArgs {
                long_text: LongText::Truncate,
                stride: None,
            },
        };
        let context_length = session.checkpoint.architecture.context_length;
        let mut sets = Vec::new();
        for path in &args.eval.eval {
            let set = open(path, &labels, context_length, console)
                .with_context(|| format!("cannot evaluate on {}", path.display()))?;
            sets.push((path.display().to_string(), set));
        }
        let engine = Engine::new(session, args.decode.options());
        Ok(Self { sets, engine })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// The figures of each dataset; `None` if a signal asked to stop meanwhile.
    pub(super) fn run(&self, checkpoint: &Checkpoint, stop: &Stop) -> Result<Option<Vec<Figures>>> {
        let clip = model::load(checkpoint, &self.engine.session.placement.compute)?;
        let clip: Arc<dyn DualEncoder> = Arc::new(clip);
        let mut all = Vec::new();
        for (name, set) in &self.sets {
            let found = set
                .figures(&self.engine, &clip, stop)
                .with_context(|| format!("cannot evaluate on {name}"));
            if stop.signal().is_some() {
                return Ok(None);
            }
            let (images, failed, figures) = found?;
            all.push(Figures {
                data: name.clone(),
                images,
                failed,
                figures,
            });
        }
        Ok(Some(all))
    }
}

/// Opens a dataset as images with captions if it has any, else as images with labels.
fn open(path: &Path, labels: &LabelArgs, context_length: usize, console: &Console) -> Result<Set> {
    let mut fitter = Fitter::silent(context_length, LongText::Truncate);
    let no_captions = match dataset::captioned(path, &CaptionOptions::default(), IMAGES) {
        Ok(captions) => {
            let texts = captions.texts.iter();
            let texts = texts.map(|text| fitter.fit("a caption", text));
            let texts = texts.collect::<Result<_>>()?;
            return Ok(Set::Captions(captions, texts));
        }
        Err(error) => error,
    };
    let labelled = match dataset::labelled(path, &LabelledOptions::usual("test"), IMAGES) {
        Ok(labelled) => labelled,
        Err(error) => bail!("it has neither captions ({no_captions:#}) nor labels ({error:#})"),
    };
    console.remarks(&labelled.remarks);
    let source = LabelSource {
        dataset: path,
        labels,
        none: &NoneArgs::default(),
        class_map: None,
    };
    let mut labelling = source.labelling(&labelled.classes, console)?;
    labelling.fit(&mut fitter)?;
    Ok(Set::Labels(labelled, Box::new(labelling)))
}

impl Set {
    /// The number of images evaluated and failed, and the figures.
    fn figures(
        &self,
        engine: &Engine,
        clip: &Arc<dyn DualEncoder>,
        stop: &Stop,
    ) -> Result<(usize, usize, BTreeMap<String, f64>)> {
        let sources = match self {
            Self::Captions(captions, _) => captions.sources(),
            Self::Labels(labelled, _) => labelled.sources(),
        };
        let embedded: Vec<Embedded> = engine
            .encode(sources.into_iter().map(Entry::from), clip, stop)
            .map(|encoded| (encoded.image, encoded.outcome))
            .collect();
        let failed = embedded
            .iter()
            .filter(|(_, outcome)| outcome.is_err())
            .count();
        let figures = match self {
            Self::Captions(captions, texts) => {
                let kept = Kept::new(captions, &embedded)?;
                let found = recalls(&kept.retrieve(clip.as_ref(), texts, stop)?);
                serde_json::from_value(serde_json::to_value(found)?)?
            }
            Self::Labels(labelled, labelling) => {
                accuracy(labelled, labelling, clip.as_ref(), &embedded)?
            }
        };
        Ok((embedded.len() - failed, failed, figures))
    }
}

fn accuracy(
    labelled: &Labelled,
    labelling: &Labelling,
    clip: &dyn DualEncoder,
    embedded: &[Embedded],
) -> Result<BTreeMap<String, f64>> {
    let mut labelling = labelling.again(labelling.name.clone())?;
    labelling.encode(clip, 1.0)?;
    let with_class = embedded.iter().zip(&labelled.samples);
    let known: Vec<(&Known, usize)> = with_class
        .filter_map(|((_, outcome), sample)| Some((outcome.as_ref().ok()?, sample.class)))
        .collect();
    for part in known.chunks(TOGETHER) {
        let embeddings: Vec<f32> = part
            .iter()
            .flat_map(|(known, _)| known.embedding.clone())
            .collect();
        let classes: Vec<usize> = part.iter().map(|(_, class)| *class).collect();
        labelling.count(&embeddings, &classes)?;
    }
    let tally = &labelling.tally;
    let figures = [
        ("acc1", tally.acc1()),
        ("acc5", tally.acc5()),
        ("mean_per_class_recall", tally.mean_per_class_recall()),
    ];
    Ok(figures.map(|(name, value)| (name.to_owned(), value)).into())
}
