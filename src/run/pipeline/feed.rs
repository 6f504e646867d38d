//! Reads the list of images and passes them to workers, limited by permits.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, SyncSender};
use std::sync::{Arc, Condvar, Mutex};

use super::{Encoded, Plan, lock};
use crate::file::stamp::Stamp;
use crate::input::image::{self, DecodeOptions};
use crate::input::paths::{ImageSource, PathError};
use crate::output::ImageName;
use crate::run::session::Stop;

/// Progress through the list.
#[derive(Default)]
pub(super) struct Feeding {
    pub(super) fed: u64,
    pub(super) ended: bool,
}

/// One image to process.
pub(super) struct Job {
    pub(super) index: u64,
    pub(super) image: ImageName,
    pub(super) source: JobSource,
}

pub(super) enum JobSource {
    /// A file, and its stamp if it has one.
    Path(PathBuf, Option<Stamp>),
    /// The contents of stdin.
    Bytes(Vec<u8>),
    Failed(String),
}

impl Job {
    /// Reads stdin if that is the source. The feeder does it, because a read may block forever.
    fn new(index: u64, source: Result<ImageSource, PathError>, decode: &DecodeOptions) -> Self {
        let image = name(&source);
        let source = match source {
            Ok(ImageSource::Path(path)) => {
                let stamp = Stamp::of(&path);
                JobSource::Path(path, stamp)
            }
            Ok(ImageSource::Stdin) => match image::read_stream(std::io::stdin().lock(), decode) {
                Ok(bytes) => JobSource::Bytes(bytes),
                Err(error) => JobSource::Failed(format!("{error:#}")),
            },
            Err(error) => JobSource::Failed(error.cause),
        };
        Self {
            index,
            image,
            source,
        }
    }
}

fn name(source: &Result<ImageSource, PathError>) -> ImageName {
    match source {
        Ok(ImageSource::Path(path)) => ImageName::from(path.as_path()),
        Ok(ImageSource::Stdin) => ImageName::stdin(),
        Err(error) => ImageName::from(error.path.as_path()),
    }
}

/// Limits how many images are processed at once.
pub(super) struct Permits {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Permits {
    pub(super) fn new(count: usize) -> Self {
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

    pub(super) fn give(&self) {
        *lock(&self.free) += 1;
        self.freed.notify_one();
    }
}

/// Reads the list and numbers its images.
pub(super) struct Feeder {
    pub(super) jobs: SyncSender<Job>,
    pub(super) results: Sender<(u64, Encoded)>,
    pub(super) plan: Plan,
    pub(super) permits: Arc<Permits>,
    pub(super) progress: Arc<Mutex<Feeding>>,
    pub(super) stop: Stop,
}

impl Feeder {
    pub(super) fn run(self, sources: impl Iterator<Item = Result<ImageSource, PathError>>) {
        for (index, source) in (0..).zip(sources) {
            self.permits.take();
            let job = Job::new(index, source, &self.plan.decode);
            // Counted under the lock that `is_over` takes, so that it misses no image.
            let mut progress = lock(&self.progress);
            if self.stop.signal().is_some() {
                break;
            }
            progress.fed += 1;
            drop(progress);
            let gone = match self.recall(job) {
                Ok(known) => self.results.send(known).is_err(),
                Err(job) => self.jobs.send(job).is_err(),
            };
            if gone {
                break;
            }
        }
        lock(&self.progress).ended = true;
    }

    /// The result of an image that is already known, without waking a worker; else returns the job.
    fn recall(&self, job: Job) -> Result<(u64, Encoded), Job> {
        let JobSource::Path(path, Some(stamp)) = &job.source else {
            return Err(job);
        };
        let Some(known) = self.plan.recall(path, *stamp) else {
            return Err(job);
        };
        let encoded = Encoded {
            path: Some(path.clone()),
            stamp: Some(*stamp),
            image: job.image,
            outcome: Ok(known),
        };
        Ok((job.index, encoded))
    }
}
