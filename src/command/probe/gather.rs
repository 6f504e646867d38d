//! Gathers the embeddings of all images, and of the classes' texts if needed.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use texts::ClassTexts;

use super::data::{Data, Part, Source};
use super::{ProbeArgs, texts};
use crate::embedding::About;
use crate::input::dataset::Sample;
use crate::output::ImageName;
use crate::output::evaluation::LabelFacts;
use crate::output::report::PageImage;
use crate::run::engine::Engine;
use crate::run::flags::ModelChoice;
use crate::run::images::{Counts, Running};
use crate::run::made_with::{Foreign, MadeWith, about_images};
use crate::run::session::{Session, Stop, start_threads};
use crate::run::{Console, Outcome, report};
use crate::task::linear_probe::Samples;

/// Embeddings and their images.
pub(super) struct EmbeddedImages {
    pub(super) samples: Samples,
    pub(super) names: Vec<ImageName>,
    /// What the page shows of each image.
    pub(super) shown: Vec<Arc<PageImage>>,
}

/// The data that a probe is trained on.
pub(super) struct Gathered {
    /// The names of the classes in the training data.
    pub(super) classes: Vec<String>,
    /// The labels of the classes in records.
    pub(super) labels: Vec<String>,
    pub(super) train: EmbeddedImages,
    pub(super) validation: Option<EmbeddedImages>,
    pub(super) test: Option<EmbeddedImages>,
    /// The zero-shot classifier `[classes, dim]`, multiplied by the logit scale.
    pub(super) zero_shot: Option<Vec<f32>>,
    pub(super) texts: Option<LabelFacts>,
    /// What the embeddings were made with.
    pub(super) about: About,
    /// Images that could not be read.
    pub(super) failed: u64,
}

/// How gathering ended.
pub(super) enum Gathering {
    /// With data to train on.
    Done(Box<Gathered>),
    /// Without, by a signal or because no image could be read.
    Ended(Outcome),
}

/// Reads embeddings and encodes images.
pub(super) fn gather(
    args: &ProbeArgs,
    data: Data,
    stop: &Stop,
    console: &Console,
) -> Result<Gathering> {
    let samples = all_samples(&data);
    let wanted = ClassTexts::new(args, &data, !samples.is_empty(), console)?;
    let cache = args.engine.cache.folder()?;
    let is_foreign = data.parts().any(|part| part.foreign().is_some());
    if samples.is_empty() && wanted.is_none() && !is_foreign {
        return embedded(args, data, stop, console);
    }
    check_names(args, &data)?;
    let session = Session::open(&args.engine.model, console)?;
    check_models(&data, &session)?;
    report_foreign(&data, &session, console);
    let fitted = wanted
        .map(|wanted| wanted.fit(args, &session, console))
        .transpose()?;
    let shown = shown(args, &data);
    let engine = Engine::new(&session, args.engine.decoding(&session))
        .thumbnails(!shown.is_empty())
        .cached(cache)?;
    let about = about_images(&session, &args.engine)?;
    warn_differences(&data, (!samples.is_empty()).then_some(&about), console);
    let running = (!samples.is_empty()).then(|| {
        let sources: Vec<_> = samples.iter().map(Sample::image_source).collect();
        Running::of(sources, &engine, stop.clone())
    });
    let model = engine.load(console)?;
    let texts = fitted.flatten().map(|fitted| fitted.encode(model.as_ref()));
    let mut encoded = Encoded {
        texts: texts.transpose()?,
        shown,
        ..Encoded::default()
    };
    session.checkpoint.unchanged()?;
    let counts = match running {
        Some(running) => encoded.take(running, &engine, console),
        None => stop.listen().map(|()| Counts::default()),
    };
    engine.finish(console);
    let counts = counts?;
    if counts.signal.is_some() || !samples.is_empty() && counts.answered == 0 {
        return Ok(Gathering::Ended(counts.outcome(console)));
    }
    encoded.failed = counts.failed;
    let about = match data.parts().find_map(Part::made_with) {
        // Its settings are unknown.
        _ if samples.is_empty() && is_foreign => About {
            settings: "made by another program".to_owned(),
            ..about
        },
        // Embedded files were made with the same weights, but images may have been read with other
        // settings.
        Some(file) if samples.is_empty() => file.about.clone(),
        _ => about,
    };
    gathered(data, about, encoded)
}

/// Without a model: all images are embedded, and no texts are needed.
fn embedded(args: &ProbeArgs, data: Data, stop: &Stop, console: &Console) -> Result<Gathering> {
    if args.engine.choice == ModelChoice::Flag {
        console.note("--model is not used: all images are embedded, and no texts are needed");
    }
    start_threads(&args.engine.model)?;
    stop.listen()?;
    let about = about_embedded(&data, console)?;
    let notes = report::notes(&about.model);
    notes.iter().for_each(|note| console.note(note));
    gathered(data, about, Encoded::default())
}

/// Fails if a file names another model than one that would be downloaded.
fn check_names(args: &ProbeArgs, data: &Data) -> Result<()> {
    let mut files = data.parts().filter_map(Part::made_with);
    files.try_for_each(|file| file.check_name(&args.engine))?;
    let mut matrices = data.parts().filter_map(Part::foreign);
    matrices.try_for_each(|matrix| matrix.check_choice(args.engine.choice))
}

/// Fails if a file was made with another model.
fn check_models(data: &Data, session: &Session) -> Result<()> {
    let mut files = data.parts().filter_map(Part::made_with);
    files.try_for_each(|file| {
        file.check_dim(session)?;
        file.check_model(session)
    })?;
    let mut matrices = data.parts().filter_map(Part::foreign);
    matrices.try_for_each(|matrix| matrix.check_dim(session))
}

/// Reports what files of other programs do not specify.
fn report_foreign(data: &Data, session: &Session, console: &Console) {
    let matrices = data.parts().filter_map(Part::foreign);
    matrices.for_each(|matrix| matrix.report(session, console));
}

/// All images to encode, part by part.
fn all_samples(data: &Data) -> Vec<Sample> {
    let images = data.parts().filter_map(|part| match &part.source {
        Source::Images(samples) => Some(samples.clone()),
        Source::Embedded(_) => None,
    });
    images.flatten().collect()
}

/// The range of samples that the page may show: the part that is scored, or that it is held out
/// from.
fn shown(args: &ProbeArgs, data: &Data) -> Range<usize> {
    let count = |part: &Part| match &part.source {
        Source::Images(samples) => samples.len(),
        Source::Embedded(_) => 0,
    };
    let scored = match (&data.test, &data.validation) {
        (Some(part), _) | (None, Some(part)) => part,
        (None, None) => &data.train,
    };
    // The last part.
    let end = data.parts().map(count).sum();
    match args.results.report {
        Some(_) => end - count(scored)..end,
        None => 0..0,
    }
}

/// The model of the files, if all images are embedded.
fn about_embedded(data: &Data, console: &Console) -> Result<About> {
    let files: Vec<MadeWith<'_>> = data.parts().filter_map(Part::made_with).collect();
    let (first, others) = files.split_first().context("there are no embeddings")?;
    others
        .iter()
        .try_for_each(|other| first.check_same(other))?;
    warn_differences(data, None, console);
    Ok(first.about.clone())
}

/// Warns of files made with other settings than the images of this run, or, without any, than the
/// first file.
fn warn_differences(data: &Data, this: Option<&About>, console: &Console) {
    let files: Vec<MadeWith<'_>> = data.parts().filter_map(Part::made_with).collect();
    match (this, files.split_first()) {
        (Some(about), _) => {
            let this = "the images of this run";
            let warn = |file: &MadeWith<'_>| file.warn_difference(this, about, console);
            files.iter().for_each(warn);
        }
        (None, Some((first, others))) => {
            for other in others {
                let name = other.path.display().to_string();
                first.warn_difference(&name, other.about, console);
            }
        }
        (None, None) => {}
    }
}

impl Part {
    fn made_with(&self) -> Option<MadeWith<'_>> {
        match &self.source {
            Source::Embedded(embedded) => embedded.made_with(),
            Source::Images(_) => None,
        }
    }

    fn foreign(&self) -> Option<Foreign<'_>> {
        match &self.source {
            Source::Embedded(embedded) => embedded.foreign(),
            Source::Images(_) => None,
        }
    }
}

/// An image that this run encoded.
struct EncodedImage {
    name: ImageName,
    embedding: Vec<f32>,
    /// What the page shows of it.
    shown: Arc<PageImage>,
}

/// What this run computed.
#[derive(Default)]
struct Encoded {
    /// Each image, or `None` if it failed.
    images: Vec<Option<EncodedImage>>,
    /// The range of images with thumbnails.
    shown: Range<usize>,
    texts: Option<texts::ZeroShot>,
    failed: u64,
}

impl Encoded {
    fn take(&mut self, running: Running, engine: &Engine, console: &Console) -> Result<Counts> {
        running.for_each(engine, console, |encoded| {
            let is_shown = self.shown.contains(&self.images.len());
            let image = match is_shown {
                true => report::image(&encoded.image, &encoded.outcome),
                false => plain(&encoded.image),
            };
            let known = encoded.outcome.ok();
            self.images.push(known.map(|known| EncodedImage {
                name: encoded.image,
                embedding: known.embedding,
                shown: Arc::new(image),
            }));
            Ok(())
        })
    }
}

/// An image that is shown only by its name.
fn plain(name: &ImageName) -> PageImage {
    PageImage {
        name: name.text.clone(),
        ..PageImage::default()
    }
}

fn gathered(data: Data, about: About, encoded: Encoded) -> Result<Gathering> {
    let Encoded {
        images,
        texts,
        failed,
        ..
    } = encoded;
    let mut images = images.into_iter();
    let mut read = |part: &Part| -> Result<EmbeddedImages> {
        let mut found = EmbeddedImages {
            samples: Samples::new(about.dim, data.classes.len()),
            names: Vec::new(),
            shown: Vec::new(),
        };
        match &part.source {
            Source::Embedded(embedded) => {
                embedded.read(&part.classes, &mut found.samples)?;
                found.names = embedded.names().to_vec();
                let shown = found.names.iter().map(|name| Arc::new(plain(name)));
                found.shown = shown.collect();
            }
            Source::Images(_) => {
                for (&class, image) in part.classes.iter().zip(images.by_ref()) {
                    if let Some(image) = image {
                        let pushed = found.samples.push(&image.embedding, class);
                        pushed.with_context(|| format!("cannot use {}", image.name.text))?;
                        found.names.push(image.name);
                        found.shown.push(image.shown);
                    }
                }
            }
        }
        ensure!(
            !found.samples.is_empty(),
            "none of the images of {} could be read",
            part.path.display()
        );
        Ok(found)
    };
    let train = read(&data.train)?;
    let validation = data.validation.as_ref().map(&mut read).transpose()?;
    let test = data.test.as_ref().map(&mut read).transpose()?;
    if let Some(empty) = train.samples.counts().iter().position(|&count| count == 0) {
        anyhow::bail!(
            "none of the images of the class {:?} in {} could be read; fix them, or omit the class",
            data.classes[empty],
            data.train.path.display()
        );
    }
    let (labels, zero_shot, facts) = match texts {
        Some(texts) => (texts.labels, Some(texts.rows), Some(texts.facts)),
        None => (texts::plain_labels(&data), None, None),
    };
    Ok(Gathering::Done(Box::new(Gathered {
        classes: data.classes,
        labels,
        train,
        validation,
        test,
        zero_shot,
        texts: facts,
        about,
        failed,
    })))
}
