//! Decodes and preprocesses images, and where images do not batch, encodes them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex};

use anyhow::Result;

use super::batch::encode;
use super::feed::{Job, JobSource};
use super::memory::{Content, Known, Memory, Place};
use super::{Encoded, ModelSlot, Plan, lock};
use crate::file::stamp::Stamp;
use crate::input::image;
use crate::input::image::Decoded;
use crate::output::ImageName;

/// What a worker does with pixels.
#[derive(Clone)]
pub(crate) enum Stage {
    Encode(ModelSlot),
    Send(SyncSender<Prepared>),
}

/// An image on its way: which one it is.
pub(crate) struct Subject {
    pub(crate) index: u64,
    pub(crate) image: ImageName,
    pub(crate) path: Option<PathBuf>,
    pub(crate) stamp: Option<Stamp>,
}

impl Subject {
    /// Where the image was read, if it would show in the stamp that its file changed.
    fn place(&self) -> Option<Place<'_>> {
        let stamp = self.stamp.filter(Stamp::is_settled)?;
        Some(Place {
            path: self.path.as_deref()?,
            stamp,
        })
    }
}

/// An image that is ready for the tower.
pub(crate) struct Prepared {
    pub(crate) subject: Subject,
    pub(crate) pixels: Vec<f32>,
    /// What is known before the tower has run: everything but the embedding.
    known: Known,
    content: Option<Content>,
}

impl Prepared {
    /// The image's result, told to the memory if there is one.
    pub(crate) fn finish(
        self,
        embedding: Result<Vec<f32>>,
        memory: Option<&Arc<dyn Memory>>,
    ) -> (u64, Encoded) {
        let outcome = embedding.map(|embedding| Known {
            embedding,
            ..self.known
        });
        if let (Ok(known), Some(memory), Some(content)) = (&outcome, memory, &self.content) {
            memory.keep(content, self.subject.place(), known);
        }
        self.subject.answer(outcome)
    }
}

impl Subject {
    fn answer(self, outcome: Result<Known>) -> (u64, Encoded) {
        let encoded = Encoded {
            image: self.image,
            path: self.path,
            stamp: self.stamp,
            outcome,
        };
        (self.index, encoded)
    }
}

/// How far a look at an image got.
enum Look {
    Known(Known),
    Pixels {
        pixels: Vec<f32>,
        known: Known,
        content: Option<Content>,
    },
}

pub(crate) struct Worker {
    pub(crate) jobs: Arc<Mutex<Receiver<Job>>>,
    pub(crate) results: Sender<(u64, Encoded)>,
    pub(crate) stage: Stage,
    pub(crate) plan: Plan,
}

impl Worker {
    pub(crate) fn run(self) {
        // Kernels split their work over the threads of the pool that they are called in.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().ok();
        let pool = pool.filter(|_| !self.plan.single);
        loop {
            let job = lock(&self.jobs).recv();
            let Ok(job) = job else { return };
            let mut subject = Subject {
                index: job.index,
                image: job.image,
                path: None,
                stamp: None,
            };
            let look = guarded(|| self.look(&mut subject, job.source));
            let prepared = match look {
                Ok(Look::Pixels {
                    pixels,
                    known,
                    content,
                }) => Prepared {
                    subject,
                    pixels,
                    known,
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
                    self.send(prepared.finish(embedding, self.plan.memory.as_ref()));
                }
            }
        }
    }

    fn send(&self, answer: (u64, Encoded)) {
        // A receiver that is gone has stopped caring.
        let _ = self.results.send(answer);
    }

    /// Looks the image's content up in the memory, or decodes it.
    fn look(&self, subject: &mut Subject, source: JobSource) -> Result<Look> {
        let memory = self.plan.memory.as_ref();
        let bytes = match source {
            JobSource::Failed(cause) => anyhow::bail!("{cause}"),
            JobSource::Bytes(bytes) => bytes,
            JobSource::Path(path, stamp) => {
                subject.stamp = stamp;
                subject.path = Some(path.clone());
                let bytes = image::read_bytes(&path, &self.plan.decode)?;
                // A file that changed meanwhile is known by its bytes alone.
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
        let decoded = image::decode(&bytes, &self.plan.decode)?;
        drop(bytes);
        Ok(Look::Pixels {
            pixels: self.plan.preprocess.run(&decoded.image),
            known: self.known(decoded)?,
            content,
        })
    }

    fn known(&self, decoded: Decoded) -> Result<Known> {
        let thumbnail = self.plan.thumbnails;
        Ok(Known {
            embedding: Vec::new(),
            size: (decoded.image.width, decoded.image.height),
            warnings: decoded.warnings,
            thumbnail: thumbnail
                .map(|longest| image::thumbnail(&decoded.image, longest))
                .transpose()?,
        })
    }
}

/// A panic becomes this image's error: a job that vanished would leave a gap that `next` waits for.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(anyhow::anyhow!(
            "longclip failed on this image, which is a bug; please report it with the image"
        ))
    })
}
