//! Turns images into embeddings, in input order.
//!
//! Workers decode and preprocess. On a CPU each worker also runs the image tower, one image per
//! core, so that decoding and encoding overlap without a queue. With batches (on a GPU, or with
//! `--batch-size`), workers pass pixels to one encoding thread. The number of images in progress is
//! fixed, so memory does not grow with the folder, and a failure affects only its image. Images
//! that a [`Memory`] knows are not computed again, nor are those that repeat within the run.
//! Frames of animations and videos depend on earlier ones, so the thread that reads the list decodes
//! them, and workers encode them.

mod feed;
mod means;
mod repeats;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use anyhow::Result;

use super::session::Stop;
use crate::file::stamp::Stamp;
use crate::input::image::{DecodeOptions, FrameChoice};
use crate::input::paths::Entry;
use crate::input::preprocess::Preprocess;
use crate::model::DualEncoder;
use crate::output::{FrameId, Given, ImageName};
use feed::{Feeder, Feeding, Permits};
pub(super) use means::Means;
use repeats::Repeats;
use worker::{Batcher, Stage, Worker};

/// One image and its result.
pub(crate) struct Encoded {
    pub(crate) image: ImageName,
    /// The keys of its line in a list.
    pub(crate) given: Option<Given>,
    /// Which frame of it, if it has several.
    pub(crate) frame: Option<FrameId>,
    /// The file; `None` for stdin and for members of archives.
    pub(crate) path: Option<PathBuf>,
    /// The file's size and modification time when it was read.
    pub(crate) stamp: Option<Stamp>,
    /// The embedding, or the error.
    pub(crate) outcome: Result<Known>,
}

impl Encoded {
    /// Its name where there is one name only.
    pub(crate) fn name(&self) -> ImageName {
        self.image.of_frame(self.frame)
    }
}

/// The number of a result in input order, and the result; `None` after the last frame of a source.
type Answer = (u64, Option<Encoded>);

/// The results of one image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    /// The unit embedding `[dim]`.
    pub(crate) embedding: Vec<f32>,
    /// Width and height in pixels, after orientation.
    pub(crate) size: (usize, usize),
    /// Problems of the file that did not prevent decoding.
    pub(crate) warnings: Vec<String>,
    /// A JPEG thumbnail, if requested.
    pub(crate) thumbnail: Option<Vec<u8>>,
}

/// Where an image was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) path: &'a Path,
    /// The stamp of the file, the same before and after reading.
    pub(crate) stamp: Stamp,
}

/// A digest of a file's bytes.
pub(crate) type Content = [u8; 32];

/// Remembers results. All workers use it at once, so it locks internally. Its own failures, such as
/// a full disk, are reported at the end of the run, since no result depends on them.
pub(crate) trait Memory: Send + Sync {
    /// The results of a file that has not changed.
    fn of_file(&self, place: Place<'_>) -> Option<Known>;

    /// The digest of these bytes, if files are also recognised by content.
    fn digest(&self, _bytes: &[u8]) -> Option<Content> {
        None
    }

    /// The results of a file with this content, at any path.
    fn of_content(&self, _content: &Content, _place: Option<Place<'_>>) -> Option<Known> {
        None
    }

    /// Stores the results of a file.
    fn keep(&self, _content: &Content, _place: Option<Place<'_>>, _known: &Known) {}
}

/// How images are turned into embeddings.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) decode: DecodeOptions,
    pub(super) preprocess: Preprocess,
    pub(super) threads: usize,
    /// Images per batch; `None` is one per worker.
    pub(super) batch_size: Option<usize>,
    /// Whether there is only one image, which all threads work on.
    pub(super) single: bool,
    /// Which frames of animations and videos are read; `None` is the first.
    pub(super) frames: Option<FrameChoice>,
    /// The longer side of thumbnails in pixels; `None` makes none.
    pub(super) thumbnails: Option<u32>,
    /// What earlier runs computed.
    pub(super) memory: Option<Arc<dyn Memory>>,
}

/// Maximum number of results that wait for an earlier one. Pixels do not, since each worker holds
/// one image.
const WAITING: usize = 256;

impl Plan {
    /// What the memory knows of the file at `path`, if it suffices for this run and the image would
    /// not be refused.
    fn recall(&self, path: &Path, stamp: Stamp) -> Option<Known> {
        let known = self.memory.as_ref()?.of_file(Place { path, stamp })?;
        self.suffices(&known).then_some(known)
    }

    fn suffices(&self, known: &Known) -> bool {
        let (width, height) = known.size;
        let pixels = (width as u64).saturating_mul(height as u64);
        pixels <= self.decode.max_pixels
            && (known.warnings.is_empty() || !self.decode.strict)
            && (known.thumbnail.is_some() || self.thumbnails.is_none())
    }
}

/// The model, once it is loaded.
pub(super) type ModelSlot = Arc<OnceLock<Arc<dyn DualEncoder>>>;

/// Images in progress, read, decoded and encoded by background threads.
pub(crate) struct Pipeline {
    results: Receiver<Answer>,
    waiting: BTreeMap<u64, Option<Encoded>>,
    next: u64,
    permits: Arc<Permits>,
    feeder: Arc<Mutex<Feeding>>,
    repeats: Arc<Repeats>,
    stop: Stop,
}

impl Pipeline {
    /// Starts reading `sources`; towers run as soon as `model` is set.
    pub(super) fn start(
        sources: impl Iterator<Item = Entry> + Send + 'static,
        plan: Plan,
        model: ModelSlot,
        stop: Stop,
    ) -> Self {
        let workers = if plan.single { 1 } else { plan.threads };
        let permits = Arc::new(Permits::new(WAITING + 2 * plan.batch_size.unwrap_or(0)));
        let feeder = Arc::new(Mutex::new(Feeding::default()));
        let repeats = Arc::new(Repeats::default());
        let (job_sender, jobs) = sync_channel(workers);
        let (result_sender, results) = channel();
        let feeding = Feeder {
            jobs: job_sender,
            results: result_sender.clone(),
            plan: plan.clone(),
            permits: permits.clone(),
            progress: feeder.clone(),
            stop: stop.clone(),
        };
        std::thread::spawn(move || feeding.run(sources));
        let stage = match plan.batch_size {
            None => Stage::Encode(model),
            Some(size) => {
                let (sender, prepared) = sync_channel(size);
                let batcher = Batcher {
                    prepared,
                    results: result_sender.clone(),
                    size,
                    repeats: repeats.clone(),
                    plan: plan.clone(),
                };
                std::thread::spawn(move || batcher.run(&model));
                Stage::Send(sender)
            }
        };
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..workers {
            let worker = Worker {
                jobs: jobs.clone(),
                results: result_sender.clone(),
                stage: stage.clone(),
                repeats: repeats.clone(),
                plan: plan.clone(),
            };
            std::thread::spawn(move || worker.run());
        }
        Self {
            results,
            waiting: BTreeMap::new(),
            next: 0,
            permits,
            feeder,
            repeats,
            stop,
        }
    }

    /// How many images so far were not encoded, since an earlier one is the same.
    pub(super) fn repeats(&self) -> u64 {
        self.repeats.count()
    }

    fn is_over(&self) -> bool {
        let feeding = lock(&self.feeder);
        (feeding.ended || self.stop.signal().is_some()) && feeding.fed == self.next
    }
}

/// The results in input order, until the end, or after a signal until all images in progress are
/// done; `None` among them after the last frame of a source.
impl Iterator for Pipeline {
    type Item = Option<Encoded>;

    fn next(&mut self) -> Option<Option<Encoded>> {
        loop {
            if let Some(encoded) = self.waiting.remove(&self.next) {
                self.next += 1;
                self.permits.give();
                return Some(encoded);
            }
            if self.is_over() {
                return None;
            }
            // The feeder may block in a read that never returns, so poll for the signal.
            match self.results.recv_timeout(Duration::from_millis(50)) {
                Ok((index, encoded)) => {
                    self.waiting.insert(index, encoded);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
