//! Images in, embeddings out, in the order of the input.
//!
//! Workers decode and preprocess; on a CPU each also runs the image tower on what it decoded, one
//! image a core, so that decoding and computing overlap without a queue between them. Where images
//! batch (a GPU, or `--batch-size`), workers hand pixels to one encoding thread. A fixed number of
//! images is under way at any time, so memory does not grow with the folder, and one failure stays
//! that image's own.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use anyhow::Result;
use candle_core::{Device, Tensor};

use crate::input::image::{self, DecodeOptions};
use crate::input::paths::{ImageSource, PathError};
use crate::input::preprocess::Preprocess;
use crate::model::DualEncoder;
use crate::output::ImageName;

use super::session::Stop;

/// What became of one image.
pub(super) struct Encoded {
    pub(super) image: ImageName,
    /// The unit embedding `[dim]`, or why there is none.
    pub(super) embedding: Result<Vec<f32>>,
    pub(super) warnings: Vec<String>,
}

/// How images become embeddings.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) decode: DecodeOptions,
    pub(super) preprocess: Preprocess,
    pub(super) threads: usize,
    /// Images that go through the tower together; `None` is one a worker.
    pub(super) batch_size: Option<usize>,
    /// There is one image only: all threads work on it.
    pub(super) single: bool,
}

/// The model, once it is there.
pub(super) type ModelSlot = Arc<OnceLock<Arc<dyn DualEncoder>>>;

/// Images under way: fed, decoded, encoded by threads of their own.
pub(super) struct Pipeline {
    results: Receiver<(u64, Encoded)>,
    waiting: BTreeMap<u64, Encoded>,
    next: u64,
    permits: Arc<Permits>,
    feeder: Arc<Mutex<Feeding>>,
    stop: Stop,
}

/// How far the reading of the list has come.
#[derive(Default)]
struct Feeding {
    fed: u64,
    ended: bool,
}

struct Job {
    index: u64,
    image: ImageName,
    source: JobSource,
}

enum JobSource {
    Path(PathBuf),
    /// What stdin held.
    Bytes(Vec<u8>),
    Failed(String),
}

impl Job {
    /// Reads stdin if that is the source: here, in the feeder, a read may last for ever.
    fn new(index: u64, source: Result<ImageSource, PathError>) -> Self {
        let image = name(&source);
        let source = match source {
            Ok(ImageSource::Path(path)) => JobSource::Path(path),
            Ok(ImageSource::Stdin) => {
                let mut bytes = Vec::new();
                match std::io::stdin().lock().read_to_end(&mut bytes) {
                    Ok(_) => JobSource::Bytes(bytes),
                    Err(error) => JobSource::Failed(format!("stdin cannot be read: {error}")),
                }
            }
            Err(error) => JobSource::Failed(error.cause),
        };
        Self {
            index,
            image,
            source,
        }
    }
}

struct Prepared {
    index: u64,
    image: ImageName,
    warnings: Vec<String>,
    pixels: Vec<f32>,
}

impl Pipeline {
    /// Starts reading `sources`; towers run as soon as `model` is set.
    pub(super) fn start(
        sources: impl Iterator<Item = Result<ImageSource, PathError>> + Send + 'static,
        plan: Plan,
        model: ModelSlot,
        stop: Stop,
    ) -> Self {
        let workers = if plan.single { 1 } else { plan.threads };
        let window = 2 * workers + 2 * plan.batch_size.unwrap_or(0);
        let permits = Arc::new(Permits::new(window));
        let feeder = Arc::new(Mutex::new(Feeding::default()));
        let (job_sender, jobs) = sync_channel(workers);
        let (result_sender, results) = channel();
        let feeding = Feeder {
            jobs: job_sender,
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
                };
                let image_size = plan.preprocess.image_size;
                std::thread::spawn(move || batcher.run(&model, image_size));
                Stage::Send(sender)
            }
        };
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..workers {
            let worker = Worker {
                jobs: jobs.clone(),
                results: result_sender.clone(),
                stage: stage.clone(),
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
            stop,
        }
    }

    /// The next image's result, in input order; `None` when there is no more, or when a signal
    /// stopped the feeding and everything under way has come out.
    pub(super) fn next(&mut self) -> Option<Encoded> {
        loop {
            if let Some(encoded) = self.waiting.remove(&self.next) {
                self.next += 1;
                self.permits.give();
                return Some(encoded);
            }
            if self.is_over() {
                return None;
            }
            // The feeder may sit in a read that never returns, so look at the signal now and then.
            match self.results.recv_timeout(Duration::from_millis(50)) {
                Ok((index, encoded)) => {
                    self.waiting.insert(index, encoded);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn is_over(&self) -> bool {
        let feeding = lock(&self.feeder);
        (feeding.ended || self.stop.signal().is_some()) && feeding.fed == self.next
    }
}

/// Counts how many more images may be under way.
struct Permits {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Permits {
    fn new(count: usize) -> Self {
        Self {
            free: Mutex::new(count),
            freed: Condvar::new(),
        }
    }

    fn take(&self) {
        let free = lock(&self.free);
        let mut free = self
            .freed
            .wait_while(free, |free| *free == 0)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        *free -= 1;
    }

    fn give(&self) {
        *lock(&self.free) += 1;
        self.freed.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Reads the list and numbers its images.
struct Feeder {
    jobs: SyncSender<Job>,
    permits: Arc<Permits>,
    progress: Arc<Mutex<Feeding>>,
    stop: Stop,
}

impl Feeder {
    fn run(self, sources: impl Iterator<Item = Result<ImageSource, PathError>>) {
        for (index, source) in (0..).zip(sources) {
            self.permits.take();
            let job = Job::new(index, source);
            // Counted under the lock that `is_over` takes: no image is fed behind its back.
            let mut progress = lock(&self.progress);
            if self.stop.signal().is_some() {
                break;
            }
            progress.fed += 1;
            drop(progress);
            if self.jobs.send(job).is_err() {
                break;
            }
        }
        lock(&self.progress).ended = true;
    }
}

/// What a worker does with pixels.
#[derive(Clone)]
enum Stage {
    Encode(ModelSlot),
    Send(SyncSender<Prepared>),
}

struct Worker {
    jobs: Arc<Mutex<Receiver<Job>>>,
    results: Sender<(u64, Encoded)>,
    stage: Stage,
    plan: Plan,
}

impl Worker {
    fn run(self) {
        // Kernels split their work over the threads of the pool that they are called in.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().ok();
        let pool = pool.filter(|_| !self.plan.single);
        loop {
            let job = lock(&self.jobs).recv();
            let Ok(job) = job else { return };
            let index = job.index;
            let image = job.image.clone();
            let prepared = match guarded(|| self.prepare(job)) {
                Ok(prepared) => prepared,
                Err(error) => {
                    self.answer(index, image, Err(error), Vec::new());
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
                    self.answer(index, prepared.image, embedding, prepared.warnings);
                }
            }
        }
    }

    fn prepare(&self, job: Job) -> Result<Prepared> {
        let decoded = match job.source {
            JobSource::Path(path) => image::read(&path, &self.plan.decode)?,
            JobSource::Bytes(bytes) => image::decode(&bytes, &self.plan.decode)?,
            JobSource::Failed(cause) => anyhow::bail!("{cause}"),
        };
        Ok(Prepared {
            index: job.index,
            image: job.image,
            warnings: decoded.warnings,
            pixels: self.plan.preprocess.run(&decoded.image),
        })
    }

    fn answer(
        &self,
        index: u64,
        image: ImageName,
        embedding: Result<Vec<f32>>,
        warnings: Vec<String>,
    ) {
        let encoded = Encoded {
            image,
            embedding,
            warnings,
        };
        // A receiver that is gone has stopped caring.
        let _ = self.results.send((index, encoded));
    }
}

/// A panic becomes this image's error: a job that vanished would leave a gap that `next` waits for.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(anyhow::anyhow!(
            "longclip failed on this image, which is a bug; please report it with the image"
        ))
    })
}

fn name(source: &Result<ImageSource, PathError>) -> ImageName {
    match source {
        Ok(ImageSource::Path(path)) => ImageName::from(path.as_path()),
        Ok(ImageSource::Stdin) => ImageName::stdin(),
        Err(error) => ImageName::from(error.path.as_path()),
    }
}

/// Collects pixels into batches.
struct Batcher {
    prepared: Receiver<Prepared>,
    results: Sender<(u64, Encoded)>,
    size: usize,
}

impl Batcher {
    fn run(self, model: &ModelSlot, image_size: usize) {
        while let Ok(first) = self.prepared.recv() {
            let mut batch = vec![first];
            // Whatever is ready now: never wait for a batch to fill, the list may be a slow pipe.
            while batch.len() < self.size
                && let Ok(next) = self.prepared.try_recv()
            {
                batch.push(next);
            }
            let refs: Vec<_> = batch.iter().collect();
            let embeddings = encode_batch(model, &refs, image_size);
            for (prepared, embedding) in batch.into_iter().zip(embeddings) {
                let encoded = Encoded {
                    image: prepared.image,
                    embedding,
                    warnings: prepared.warnings,
                };
                if self.results.send((prepared.index, encoded)).is_err() {
                    return;
                }
            }
        }
    }
}

/// One result an image: if the batch fails, each is tried alone, so that one bad image fails alone.
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

/// Waits for the model and runs its image tower: one embedding for each image.
fn encode(model: &ModelSlot, images: &[&Prepared], image_size: usize) -> Result<Vec<Vec<f32>>> {
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
