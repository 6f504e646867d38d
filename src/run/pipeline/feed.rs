//! Reads the list of images, and the frames of those that have several, and passes them to workers,
//! limited by permits.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, SyncSender};
use std::sync::{Arc, Condvar, Mutex};

use anyhow::Result;

use super::worker::{Viewed, Views, guarded};
use super::{Answer, Encoded, Plan, lock};
use crate::file::stamp::Stamp;
use crate::input::image::{self, FrameReader, ImageBytes, Opened};
use crate::input::paths::{Entry, ImageSource, PathError};
use crate::output::{Failure, FailureKind, FrameId, Given, ImageName};
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
    pub(super) given: Option<Given>,
    pub(super) frame: Option<FrameId>,
    pub(super) source: JobSource,
    /// Said about it besides what its decoder says.
    pub(super) warning: Option<String>,
}

pub(super) enum JobSource {
    /// A file, and its stamp if it has one.
    Path(PathBuf, Option<Stamp>),
    /// What stdin or a member of an archive holds.
    Bytes(ImageBytes),
    /// A frame, and the file that it is from.
    Frame(Box<Viewed>, Option<PathBuf>, Option<Stamp>),
    Failed(Failure),
}

/// What a source has.
enum Input {
    /// One image, and what is said about it, whoever decodes or remembers it.
    One(JobSource, Option<String>),
    Frames(Film),
}

/// The frames of a source, and the file with its stamp, if it is one.
struct Film {
    frames: FrameReader,
    path: Option<PathBuf>,
    stamp: Option<Stamp>,
}

impl From<Failure> for JobSource {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Input {
    /// Reads stdin or a member of an archive if that is the source, or the start of its frames. The
    /// feeder does it, because a read may block forever, and because members come one after another.
    fn of(source: Result<ImageSource, PathError>, plan: &Plan) -> Self {
        let (opened, path, stamp) = match source {
            Ok(ImageSource::Path(path)) => {
                let stamp = Stamp::of(&path);
                let opened = match plan.frames {
                    None => Ok(Opened::Still((), None)),
                    Some(choice) => FrameReader::of_path(&path, &plan.decode, choice),
                };
                let still = |()| JobSource::Path(path.clone(), stamp);
                (opened.map(|opened| opened.map(still)), Some(path), stamp)
            }
            Ok(ImageSource::Stdin) => {
                let stdin = std::io::stdin().lock();
                let opened = match plan.frames {
                    None => image::read_stream(stdin, &plan.decode)
                        .map(|bytes| Opened::Still(bytes, None)),
                    Some(choice) => FrameReader::of_stream(stdin, &plan.decode, choice),
                };
                (
                    opened.map(|opened| opened.map(|bytes| JobSource::Bytes(bytes.into()))),
                    None,
                    None,
                )
            }
            Ok(ImageSource::Member(member)) => {
                let opened = member
                    .read(&plan.decode)
                    .and_then(|bytes| match plan.frames {
                        None => Ok(Opened::Still(bytes, None)),
                        Some(choice) => FrameReader::of_bytes(bytes, &plan.decode, choice),
                    });
                (
                    opened.map(|opened| opened.map(JobSource::Bytes)),
                    None,
                    None,
                )
            }
            Err(error) => return Self::One(error.cause.into(), None),
        };
        match opened {
            Ok(Opened::Still(source, warning)) => Self::One(source, warning),
            Ok(Opened::Frames(frames)) => Self::Frames(Film {
                frames,
                path,
                stamp,
            }),
            Err(error) => Self::One(FailureKind::Decode.else_this(&error).into(), None),
        }
    }
}

impl Film {
    /// The next frame, reduced to what the tower gets; `None` after the last one.
    fn next(&mut self, plan: &Plan) -> Option<(FrameId, JobSource)> {
        let mut views = Views::new(plan);
        let shot = match guarded(|| self.frames.next(&plan.decode, &mut views)) {
            Ok(shot) => shot?,
            Err(error) => {
                let id = FrameId {
                    index: self.frames.index(),
                    time: None,
                };
                return Some((id, FailureKind::Decode.else_this(&error).into()));
            }
        };
        let id = FrameId {
            index: shot.index,
            time: shot.time,
        };
        let viewed = guarded(|| views.finish(shot.facts.size, shot.facts.warnings));
        let source = viewed.map(|mut frame| {
            // A cache of a stream without end would fill the disk.
            frame.is_kept = !self.frames.is_stream();
            JobSource::Frame(Box::new(frame), self.path.clone(), self.stamp)
        });
        let failed = |error| FailureKind::Decode.else_this(&error).into();
        Some((id, source.unwrap_or_else(failed)))
    }
}

fn name(source: &Result<ImageSource, PathError>) -> ImageName {
    match source {
        Ok(ImageSource::Path(path)) => ImageName::from(path.as_path()),
        Ok(ImageSource::Stdin) => ImageName::stdin(),
        Ok(ImageSource::Member(member)) => ImageName::from(member.name()),
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
    pub(super) results: Sender<Answer>,
    pub(super) plan: Plan,
    pub(super) permits: Arc<Permits>,
    pub(super) progress: Arc<Mutex<Feeding>>,
    pub(super) stop: Stop,
}

impl Feeder {
    pub(super) fn run(self, entries: impl Iterator<Item = Entry>) {
        for Entry { source, given } in entries {
            let image = (name(&source), given);
            self.permits.take();
            let goes_on = match Input::of(source, &self.plan) {
                Input::One(source, warning) => self.feed(image, None, source, warning),
                Input::Frames(mut film) => loop {
                    let Some((frame, source)) = film.next(&self.plan) else {
                        break self.end();
                    };
                    if !self.feed(image.clone(), Some(frame), source, None) {
                        break false;
                    }
                    self.permits.take();
                },
            };
            if !goes_on {
                break;
            }
        }
        lock(&self.progress).ended = true;
    }

    /// Says that all frames of a source were passed on; false at the end of the run.
    fn end(&self) -> bool {
        let mut progress = lock(&self.progress);
        let index = progress.fed;
        progress.fed += 1;
        self.results.send((index, None)).is_ok()
    }

    /// Passes an image on; false at the end of the run.
    fn feed(
        &self,
        (image, given): (ImageName, Option<Given>),
        frame: Option<FrameId>,
        source: JobSource,
        warning: Option<String>,
    ) -> bool {
        // Counted under the lock that `is_over` takes, so that it misses no image.
        let mut progress = lock(&self.progress);
        if self.stop.signal().is_some() {
            return false;
        }
        let index = progress.fed;
        progress.fed += 1;
        drop(progress);
        let job = Job {
            index,
            image,
            given,
            frame,
            source,
            warning,
        };
        match self.recall(job) {
            Ok(known) => self.results.send(known).is_ok(),
            Err(job) => self.jobs.send(*job).is_ok(),
        }
    }

    /// The result of an image that is already known, without waking a worker; else returns the job.
    fn recall(&self, job: Job) -> Result<Answer, Box<Job>> {
        let JobSource::Path(path, Some(stamp)) = &job.source else {
            return Err(Box::new(job));
        };
        let Some(mut known) = self.plan.recall(path, *stamp) else {
            return Err(Box::new(job));
        };
        known.warnings.extend(job.warning);
        let encoded = Encoded {
            path: Some(path.clone()),
            stamp: Some(*stamp),
            image: job.image,
            given: job.given,
            frame: job.frame,
            outcome: Ok(known),
        };
        Ok((job.index, Some(encoded)))
    }
}
