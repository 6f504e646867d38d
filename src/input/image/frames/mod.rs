//! The frames of animations (GIF, APNG, WebP) and of streams of video (Y4M, PNM), one after another.
//!
//! A frame is passed on like a still image: as rows, upright, without alpha. Only what the next
//! frame is composed on stays in memory between two frames, so a stream may have no end. That much,
//! and the bytes of an animated file, come on top of the memory of still images: whoever waits for
//! a frame to be taken must hold nothing that the taker may wait for.

mod canvas;
mod gif;
mod png;
mod pnm;
#[cfg(test)]
mod tests;
mod webp;
mod y4m;

use std::io::{self, BufRead, BufReader, Cursor, Read as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::format::Format;
use super::rows::Rows;
use super::{DecodeOptions, Facts, ImageBytes, SIGNATURE_BYTES};
use crate::file::guard;

/// The most frames of a file: a frame of few bytes may stand for a whole canvas.
const MOST_FRAMES: u64 = 100_000;

/// By so many bytes a stream is recognised. It may pause after its first frame, so no more are
/// waited for.
const STREAM_BYTES: u64 = 10;

/// Which frames of an animation or a stream are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameChoice {
    /// All of them.
    All,
    /// The first one and every so many-th one after it.
    Every(u64),
    /// So many, those in the middles of as many equal parts.
    Spread(u64),
}

impl FrameChoice {
    /// Whether the frame with this index is read, if there are `count`.
    fn takes(self, index: u64, count: u64) -> bool {
        match self {
            Self::All => true,
            Self::Every(step) => index.is_multiple_of(step),
            Self::Spread(parts) if parts >= count => true,
            Self::Spread(parts) => {
                let [index, parts, count] = [index, parts, count].map(u128::from);
                let middle = |part: u128| (2 * part + 1) * count / (2 * parts);
                let near = index * parts / count;
                (near..parts.min(near + 2)).any(|part| middle(part) == index)
            }
        }
    }
}

/// A frame that was passed on.
#[derive(Debug)]
pub(crate) struct Shot {
    /// Its index, from 0.
    pub(crate) index: u64,
    /// When it appears, in seconds after the first; not every stream says so.
    pub(crate) time: Option<f64>,
    /// What was found out about it, with the memory of those who took the rows.
    pub(crate) facts: Facts,
}

/// What a stream contains.
pub(crate) enum Opened {
    /// Frames.
    Frames(FrameReader),
    /// The bytes of one still image.
    Still(Vec<u8>),
}

/// Frames that come one after another.
trait Series {
    /// Reads the next frame and passes it on, if there is somewhere to; `None` at the end.
    fn next(
        &mut self,
        options: &DecodeOptions,
        to: Option<&mut dyn Rows>,
    ) -> Result<Option<Passed>>;
}

/// A frame that was read.
struct Passed {
    /// In seconds after the first, if known.
    time: Option<f64>,
    /// `None` if it was passed over.
    facts: Option<Facts>,
}

/// The chosen frames of an animation or a stream.
pub(crate) struct FrameReader {
    series: Box<dyn Series>,
    choice: FrameChoice,
    /// The number of frames; `None` if only their end says it.
    count: Option<u64>,
    next: u64,
    ended: bool,
}

impl FrameReader {
    /// The frames of the file at `path`, if it is an animation or a Y4M video. `None` for anything
    /// else, also for what cannot be read: decoding it says why.
    pub(crate) fn of_path(
        path: &Path,
        options: &DecodeOptions,
        choice: FrameChoice,
    ) -> Option<Result<Self>> {
        let (file, _) = super::open(path).ok()?;
        let mut file = BufReader::new(file);
        let mut start = Vec::new();
        (&mut file)
            .take(SIGNATURE_BYTES)
            .read_to_end(&mut start)
            .ok()?;
        if y4m::is_y4m(&start) {
            return Some(Self::video(Cursor::new(start).chain(file), options, choice));
        }
        matches!(
            Format::of(&start),
            Some(Format::Gif | Format::Png | Format::WebP)
        )
        .then_some(())?;
        let bytes = super::read_bytes(path, options).ok()?;
        Self::animation(bytes, options, choice).err()
    }

    /// The frames of a stream: of a Y4M video, of PPM and PGM images after one another, or of an
    /// animation. Reads no more of it than one frame needs, or all of it if it is an image.
    ///
    /// # Errors
    /// When it cannot be read, is not an image, or does not say how many frames it has and only
    /// some number of them is wanted.
    pub(crate) fn of_stream(
        mut stream: impl BufRead + 'static,
        options: &DecodeOptions,
        choice: FrameChoice,
    ) -> Result<Opened> {
        let mut start = Vec::new();
        (&mut stream)
            .take(STREAM_BYTES)
            .read_to_end(&mut start)
            .context("cannot be read")?;
        let (is_video, is_images) = (y4m::is_y4m(&start), pnm::is_binary(&start));
        let stream = Cursor::new(start).chain(stream);
        if is_video {
            return Self::video(stream, options, choice).map(Opened::Frames);
        }
        if is_images {
            let series = Box::new(pnm::PnmStream::new(stream));
            return Self::stream(series, choice).map(Opened::Frames);
        }
        let bytes = super::read_stream(stream, options)?;
        match Self::animation(bytes.into(), options, choice) {
            Ok(still) => Ok(Opened::Still(still)),
            Err(frames) => frames.map(Opened::Frames),
        }
    }

    /// The frames of an animated file, as an "error"; or its bytes, if it is a still image.
    fn animation(
        bytes: ImageBytes,
        options: &DecodeOptions,
        choice: FrameChoice,
    ) -> Result<Vec<u8>, Result<Self>> {
        let bytes = bytes.bytes;
        let open = || match Format::of(&bytes) {
            Some(Format::Gif) => gif::count(&bytes),
            Some(Format::Png) => png::count(&bytes),
            Some(Format::WebP) => webp::count(&bytes),
            _ => 1,
        };
        let count = guard::catch(open).unwrap_or(1);
        if count <= 1 {
            return Ok(bytes);
        }
        let open = || match Format::of(&bytes) {
            Some(Format::Gif) => gif::open(bytes),
            Some(Format::Png) => png::open(bytes, options),
            _ => webp::open(bytes),
        };
        let series = guard::catch(open).unwrap_or_else(|| bail!("the animation is damaged"));
        Err(series.map(|series| Self {
            series,
            choice,
            count: Some(count),
            next: 0,
            ended: false,
        }))
    }

    fn video(
        stream: impl BufRead + 'static,
        options: &DecodeOptions,
        choice: FrameChoice,
    ) -> Result<Self> {
        Self::stream(Box::new(y4m::Y4m::open(stream, options)?), choice)
    }

    fn stream(series: Box<dyn Series>, choice: FrameChoice) -> Result<Self> {
        ensure!(
            !matches!(choice, FrameChoice::Spread(_)),
            "a video does not say how many frames it has, so --frames cannot spread a number of \
             them; pass --frames every:K or --frames all"
        );
        Ok(Self {
            series,
            choice,
            count: None,
            next: 0,
            ended: false,
        })
    }

    /// Whether this may have no end.
    pub(crate) fn is_stream(&self) -> bool {
        self.count.is_none()
    }

    /// The index of the frame that is read next; after an error, of the one that could not be read.
    pub(crate) fn index(&self) -> u64 {
        self.next
    }

    /// Reads on to the next chosen frame and passes its rows on; `None` after the last one.
    ///
    /// # Errors
    /// When a frame, chosen or not, cannot be read: it is the last one. Some of its rows may have
    /// been passed on.
    pub(crate) fn next(
        &mut self,
        options: &DecodeOptions,
        rows: &mut dyn Rows,
    ) -> Result<Option<Shot>> {
        while !self.ended {
            // Until a frame is complete there is nothing after it.
            self.ended = true;
            ensure!(
                self.next < MOST_FRAMES || self.is_stream(),
                "the animation has more than {MOST_FRAMES} frames; split it"
            );
            let is_taken = self.choice.takes(self.next, self.count.unwrap_or(u64::MAX));
            let to: Option<&mut dyn Rows> = if is_taken { Some(&mut *rows) } else { None };
            let read = guard::catch(|| self.series.next(options, to));
            let read = read.unwrap_or_else(|| {
                bail!("the frame cannot be decoded: it is damaged or of an unusual kind")
            })?;
            let Some(passed) = read else {
                ensure!(self.next > 0, "there are no frames");
                return Ok(None);
            };
            let index = self.next;
            self.next += 1;
            self.ended = false;
            if let Some(facts) = passed.facts {
                let time = passed.time;
                return Ok(Some(Shot { index, time, facts }));
            }
        }
        Ok(None)
    }
}

/// Reads all of `bytes`, which a stream must have; what is missing is the error of a stream that
/// was cut.
fn fill(stream: &mut impl io::Read, bytes: &mut [u8]) -> Result<()> {
    match stream.read_exact(bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => bail!(CUT),
        read => read.context("cannot be read"),
    }
}

/// Passes over so many bytes.
fn pass_over(stream: &mut impl io::Read, bytes: u64) -> Result<()> {
    let passed = io::copy(&mut stream.take(bytes), &mut io::sink()).context("cannot be read")?;
    ensure!(passed == bytes, CUT);
    Ok(())
}

const CUT: &str = "the stream ends before the frame is complete";
