//! Decodes and preprocesses images, and encodes them one by one or in batches.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use candle_core::{Device, Tensor};
use sha2::{Digest as _, Sha256};

use super::feed::{Job, JobSource};
use super::repeats::{Claim, Repeats};
use super::{Answer, Content, Encoded, Known, ModelSlot, Place, Plan, lock};
use crate::file::stamp::Stamp;
use crate::input::image::{self, Frame, RgbImage, Rows, Shrinker};
use crate::input::preprocess::Square;
use crate::output::{FailureKind, FrameId, Given, ImageName};

/// What workers do with pixels.
#[derive(Clone)]
pub(super) enum Stage {
    Encode(ModelSlot),
    Send(SyncSender<Prepared>),
}

/// The identity of an image in progress.
pub(super) struct Subject {
    pub(super) index: u64,
    pub(super) image: ImageName,
    pub(super) given: Option<Given>,
    pub(super) frame: Option<FrameId>,
    pub(super) path: Option<PathBuf>,
    pub(super) stamp: Option<Stamp>,
    pub(super) warning: Option<String>,
}

impl Subject {
    /// Where the image was read, if its stamp is old enough to reveal later changes of the file.
    fn place(&self) -> Option<Place<'_>> {
        // A frame is not all of its file.
        let is_whole = self.frame.is_none();
        let stamp = self.stamp.filter(|stamp| is_whole && stamp.is_settled())?;
        Some(Place {
            path: self.path.as_deref()?,
            stamp,
        })
    }
}

/// A decoded image, ready for the tower.
pub(super) struct Prepared {
    pub(super) subject: Subject,
    pub(super) pixels: Vec<f32>,
    /// The digest of its pixels.
    pub(super) digest: Content,
    /// Everything but the embedding.
    pub(super) known: Known,
    /// The digest of the file, if it may be a copy of an earlier one.
    pub(super) file: Option<Content>,
    content: Option<Content>,
}

impl Prepared {
    /// The result of the image, which is also stored in the memory if there is one.
    fn finish(self, embedding: Result<Vec<f32>>, plan: &Plan) -> Answer {
        let outcome = embedding.map(|embedding| Known {
            embedding,
            ..self.known
        });
        let outcome = outcome.map_err(|error| FailureKind::Internal.else_this(&error).into());
        if let (Ok(known), Some(memory), Some(content)) = (&outcome, &plan.memory, &self.content) {
            memory.keep(content, self.subject.place(), known);
        }
        self.subject.answer(outcome)
    }

    /// The same for an image that was encoded, and for its repeats, which fail if it did.
    pub(super) fn settle(
        self,
        embedding: Result<Vec<f32>>,
        plan: &Plan,
        repeats: &Repeats,
    ) -> Vec<Answer> {
        let waiting = repeats.settle(&self.digest, embedding.as_ref().ok());
        let again = |prepared: Self| {
            let embedding = embedding.as_ref();
            let again = |error| FailureKind::Internal.else_this(error).into();
            let copy = embedding.cloned().map_err(again);
            prepared.finish(copy, plan)
        };
        let mut answers: Vec<_> = waiting.into_iter().map(again).collect();
        answers.push(self.finish(embedding, plan));
        answers
    }
}

impl Subject {
    fn answer(self, mut outcome: Result<Known>) -> Answer {
        if let Ok(known) = &mut outcome {
            known.warnings.extend(self.warning);
        }
        let encoded = Encoded {
            image: self.image,
            given: self.given,
            frame: self.frame,
            path: self.path,
            stamp: self.stamp,
            outcome,
        };
        (self.index, Some(encoded))
    }
}

/// The result of looking an image up.
enum Look {
    Known(Known),
    Pixels {
        pixels: Vec<f32>,
        digest: Content,
        known: Known,
        file: Option<Content>,
        content: Option<Content>,
    },
}

pub(super) struct Worker {
    pub(super) jobs: Arc<Mutex<Receiver<Job>>>,
    pub(super) results: Sender<Answer>,
    pub(super) stage: Stage,
    pub(super) repeats: Arc<Repeats>,
    pub(super) plan: Plan,
}

impl Worker {
    pub(super) fn run(self) {
        // Kernels split their work across the thread pool that they are called in.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().ok();
        let pool = pool.filter(|_| !self.plan.single);
        loop {
            let job = lock(&self.jobs).recv();
            let Ok(job) = job else { return };
            let mut subject = Subject {
                index: job.index,
                image: job.image,
                given: job.given,
                frame: job.frame,
                path: None,
                stamp: None,
                warning: job.warning,
            };
            let look = guarded(|| self.look(&mut subject, job.source));
            let prepared = match look {
                Ok(Look::Pixels {
                    pixels,
                    digest,
                    known,
                    file,
                    content,
                }) => Prepared {
                    subject,
                    pixels,
                    digest,
                    known,
                    file,
                    content,
                },
                Ok(Look::Known(known)) => {
                    self.send(subject.answer(Ok(known)));
                    continue;
                }
                Err(error) => {
                    self.send(subject.answer(Err(error)));
                    continue;
                }
            };
            let prepared = match self.repeats.claim(prepared) {
                Claim::Encode(prepared) => prepared,
                Claim::Known(prepared, embedding) => {
                    self.send(prepared.finish(Ok(embedding), &self.plan));
                    continue;
                }
                Claim::Waits => continue,
            };
            match &self.stage {
                Stage::Send(batches) => {
                    if batches.send(prepared).is_err() {
                        return;
                    }
                }
                Stage::Encode(model) => {
                    let encode = || encode(model, &[&prepared], self.plan.preprocess.image_size);
                    let encoded = guarded(|| match &pool {
                        Some(pool) => pool.install(encode),
                        None => encode(),
                    });
                    let embedding = encoded.map(|mut embeddings| embeddings.remove(0));
                    let answers = prepared.settle(embedding, &self.plan, &self.repeats);
                    answers.into_iter().for_each(|answer| self.send(answer));
                }
            }
        }
    }

    fn send(&self, answer: Answer) {
        // If the receiver is gone, the run is ending.
        let _ = self.results.send(answer);
    }

    /// Looks up the image's content in the memory and among earlier images, else decodes it.
    fn look(&self, subject: &mut Subject, source: JobSource) -> Result<Look> {
        let memory = self.plan.memory.as_ref();
        let bytes = match source {
            JobSource::Failed(failure) => return Err(failure.into()),
            JobSource::Bytes(bytes) => bytes,
            JobSource::Frame(frame, path, stamp) => {
                (subject.path, subject.stamp) = (path, stamp);
                return Ok(self.look_at(*frame));
            }
            JobSource::Path(path, stamp) => {
                subject.stamp = stamp;
                subject.path = Some(path.clone());
                let bytes = image::read_bytes(&path, &self.plan.decode);
                let bytes = bytes.map_err(|error| FailureKind::Read.else_this(&error))?;
                // A file that changed meanwhile is identified only by its bytes.
                subject.stamp = subject
                    .stamp
                    .filter(|stamp| Stamp::of(&path) == Some(*stamp));
                bytes
            }
        };
        let content = memory.and_then(|memory| memory.digest(&bytes));
        if let (Some(memory), Some(content)) = (memory, &content) {
            let known = memory.of_content(content, subject.place());
            if let Some(known) = known.filter(|known| self.plan.suffices(known)) {
                return Ok(Look::Known(known));
            }
        }
        let file = self.repeats.file(&bytes, content);
        if let Some(known) = file.and_then(|file| self.repeats.of_file(&file)) {
            return Ok(Look::Known(known));
        }
        let mut views = Views::new(&self.plan);
        let facts = image::decode_rows(&bytes, &self.plan.decode, &mut views)?;
        drop(bytes);
        let viewed = views.finish(facts.size, facts.warnings)?;
        Ok(self.pixels(viewed, file, content))
    }

    /// The same for a frame that was decoded already. Its content is what the tower gets of it.
    fn look_at(&self, frame: Viewed) -> Look {
        let memory = self.plan.memory.as_ref().filter(|_| frame.is_kept);
        let content = memory
            .and_then(|memory| memory.digest(&[b"frame", frame.square.pixels.as_slice()].concat()));
        let known = memory.zip(content).and_then(|(memory, content)| {
            let known = memory.of_content(&content, None)?;
            let embedding = known.embedding;
            Some(Known {
                embedding,
                ..frame.known.clone()
            })
        });
        match known {
            Some(known) => Look::Known(known),
            None => self.pixels(frame, None, content),
        }
    }

    fn pixels(&self, viewed: Viewed, file: Option<Content>, content: Option<Content>) -> Look {
        let Viewed { square, known, .. } = viewed;
        Look::Pixels {
            pixels: self.plan.preprocess.normalise(&square),
            digest: Sha256::digest(&square.pixels).into(),
            known,
            file,
            content,
        }
    }
}

/// A decoded image, before normalisation.
pub(super) struct Viewed {
    square: RgbImage,
    /// Everything but the embedding.
    known: Known,
    /// Whether the memory may keep it.
    pub(super) is_kept: bool,
}

/// All that is made of an image's rows.
pub(super) struct Views<'a> {
    square: Square<'a>,
    thumbnail: Option<Shrinker>,
}

impl<'a> Views<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        Self {
            square: Square::new(&plan.preprocess),
            thumbnail: plan.thumbnails.map(Shrinker::new),
        }
    }

    /// All of it, once the rows have come.
    pub(super) fn finish(self, size: (usize, usize), warnings: Vec<String>) -> Result<Viewed> {
        Ok(Viewed {
            square: self.square.finish().context("the image has no rows")?,
            known: Known {
                embedding: Vec::new(),
                size,
                warnings,
                thumbnail: self.thumbnail.map(Shrinker::finish).transpose()?,
            },
            is_kept: true,
        })
    }
}

impl Rows for Views<'_> {
    fn bytes(&self, frame: &Frame) -> u64 {
        let thumbnail = self.thumbnail.as_ref();
        self.square.bytes(frame) + thumbnail.map_or(0, |thumbnail| thumbnail.bytes(frame))
    }

    fn start(&mut self, frame: &Frame) {
        self.square.start(frame);
        if let Some(thumbnail) = &mut self.thumbnail {
            thumbnail.start(frame);
        }
    }

    fn add(&mut self, rows: &[u8]) {
        self.square.add(rows);
        if let Some(thumbnail) = &mut self.thumbnail {
            thumbnail.add(rows);
        }
    }
}

/// Turns a panic into this image's error, since `next` would wait forever for a job that vanished.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let cause =
            "longclip crashed on this image; this is a bug, please report it with the image";
        Err(FailureKind::Internal.because(cause).into())
    })
}

/// Collects pixels into batches.
pub(super) struct Batcher {
    pub(super) prepared: Receiver<Prepared>,
    pub(super) results: Sender<Answer>,
    pub(super) size: usize,
    pub(super) repeats: Arc<Repeats>,
    pub(super) plan: Plan,
}

impl Batcher {
    pub(super) fn run(self, model: &ModelSlot) {
        while let Ok(first) = self.prepared.recv() {
            let mut batch = vec![first];
            // Takes what is ready and never waits for a full batch, since the list may be a slow
            // pipe.
            while batch.len() < self.size
                && let Ok(next) = self.prepared.try_recv()
            {
                batch.push(next);
            }
            let refs: Vec<_> = batch.iter().collect();
            let embeddings = encode_batch(model, &refs, self.plan.preprocess.image_size);
            for (prepared, embedding) in batch.into_iter().zip(embeddings) {
                for answer in prepared.settle(embedding, &self.plan, &self.repeats) {
                    if self.results.send(answer).is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// One result per image. If the batch fails, each image is encoded separately, so that only bad
/// ones fail.
fn encode_batch(
    model: &ModelSlot,
    images: &[&Prepared],
    image_size: usize,
) -> Vec<Result<Vec<f32>>> {
    match guarded(|| encode(model, images, image_size)) {
        Ok(embeddings) => embeddings.into_iter().map(Ok).collect(),
        Err(error) if images.len() == 1 => vec![Err(error)],
        Err(_) => images
            .iter()
            .flat_map(|image| encode_batch(model, &[image], image_size))
            .collect(),
    }
}

/// Waits for the model and runs its image tower; returns one embedding per image.
pub(super) fn encode(
    model: &ModelSlot,
    images: &[&Prepared],
    image_size: usize,
) -> Result<Vec<Vec<f32>>> {
    let model = model.wait();
    let pixels = images
        .iter()
        .flat_map(|image| &image.pixels)
        .copied()
        .collect();
    let shape = (images.len(), 3, image_size, image_size);
    let pixels = Tensor::from_vec(pixels, shape, &Device::Cpu)?;
    Ok(model.encode_image(&pixels)?.to_vec2::<f32>()?)
}
