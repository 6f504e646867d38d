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
mod single;
#[cfg(test)]
mod tests;
mod webp;
mod y4m;

use std::io::{self, BufRead, BufReader, Cursor, Read as _, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::format::Format;
use super::rows::Rows;
use super::{DecodeOptions, Facts, ImageBytes, SIGNATURE_BYTES};
use crate::file::guard;
use single::Single;

/// The most frames of a file: a frame of few bytes may stand for a whole canvas.
const MOST_FRAMES: u64 = 100_000;

/// Bytes by which a stream is recognised. It may pause after its first frame, so no more are waited
/// for.
const STREAM_BYTES: u64 = 10;

/// Which frames of an animation or a stream are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameChoice {
    /// All of them.
    All,
    /// The first one, and after it each one whose index is a multiple of this.
    Every(u64),
    /// This number of them: the middle frames of as many equal parts.
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

/// What a file or a stream contains.
pub(crate) enum Opened<T> {
    /// Frames.
    Frames(FrameReader),
    /// One still image, and a warning if it has more images that are not read.
    Still(T, Option<String>),
}

impl<T> Opened<T> {
    /// With another value for a still image.
    pub(crate) fn map<U>(self, still: impl FnOnce(T) -> U) -> Opened<U> {
        match self {
            Self::Frames(frames) => Opened::Frames(frames),
            Self::Still(value, warning) => Opened::Still(still(value), warning),
        }
    }
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
    /// What is wrong with the whole file, until a frame was passed on with it.
    warning: Option<String>,
}

impl FrameReader {
    /// The frames of the file at `path`, if it is an animation, a Y4M video or several PNM images.
    /// Anything else is a still image, also what is not an image: decoding it says so.
    ///
    /// # Errors
    /// When it cannot be read, or as [`Self::of_stream`].
    pub(crate) fn of_path(
        path: &Path,
        options: &DecodeOptions,
        choice: FrameChoice,
    ) -> Result<Opened<()>> {
        let (file, _) = super::open(path)?;
        let whole = || super::read_bytes(path, options);
        Self::of_file(BufReader::new(file), whole, options, choice)
    }

    /// The same for a file in memory.
    ///
    /// # Errors
    /// As [`Self::of_path`].
    pub(crate) fn of_bytes(
        bytes: ImageBytes,
        options: &DecodeOptions,
        choice: FrameChoice,
    ) -> Result<Opened<ImageBytes>> {
        let file = Cursor::new(bytes.to_vec());
        let whole = || Ok(bytes.to_vec().into());
        let opened = Self::of_file(file, whole, options, choice)?;
        Ok(opened.map(|()| bytes))
    }

    fn of_file(
        mut file: impl BufRead + Seek + 'static,
        whole: impl FnOnce() -> Result<ImageBytes>,
        options: &DecodeOptions,
        choice: FrameChoice,
    ) -> Result<Opened<()>> {
        let mut start = Vec::new();
        (&mut file)
            .take(SIGNATURE_BYTES)
            .read_to_end(&mut start)
            .context("cannot be read")?;
        if y4m::is_y4m(&start) {
            let stream = Cursor::new(start).chain(file);
            return Self::video(stream, options, choice).map(Opened::Frames);
        }
        let Some(format) = Format::of(&start) else {
            return Ok(Opened::Still((), None));
        };
        let has_more = match format {
            Format::Gif | Format::Png | Format::WebP => {
                match Self::animation(whole()?, options, choice) {
                    Ok(still) => is_followed(still.as_slice())?,
                    Err(frames) => return frames.map(Opened::Frames),
                }
            }
            Format::Pnm if pnm::is_binary(&start) => {
                let mut next = Vec::new();
                if let Some(length) = pnm::length_of_first(&start) {
                    file.seek(SeekFrom::Start(length))
                        .and_then(|_| (&mut file).take(STREAM_BYTES).read_to_end(&mut next))
                        .context("cannot be read")?;
                }
                if pnm::is_binary(&next) {
                    file.rewind().context("cannot be read")?;
                    let series = Box::new(pnm::PnmStream::new(file));
                    return Self::stream(series, choice).map(Opened::Frames);
                }
                false
            }
            _ => is_followed(Cursor::new(&start).chain(file))?,
        };
        let warning = has_more.then(|| {
            let name = format.name();
            format!("{name}: only the first image was read, and another one follows it in the file")
        });
        Ok(Opened::Still((), warning.or_else(|| sequence(&start))))
    }

    /// The frames of a stream: of a Y4M video, of binary PNM images after one another, or of an
    /// animation. Reads no more of it than one frame needs, or all of it if it is an image.
    ///
    /// # Errors
    /// When it cannot be read, is not an image, has several images of another format, or does not
    /// say how many frames it has and only some number of them is wanted.
    pub(crate) fn of_stream(
        mut stream: impl BufRead + 'static,
        options: &DecodeOptions,
        choice: FrameChoice,
    ) -> Result<Opened<Vec<u8>>> {
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
        let mut stream = Single::new(stream);
        let bytes = super::read_stream(&mut stream, options)?;
        let title = Format::of(&bytes).map_or("image", Format::title);
        ensure!(
            !stream.has_more(),
            "the stream has more than one {title}; pass -c:v ppm to ffmpeg"
        );
        match Self::animation(bytes.into(), options, choice) {
            Ok(still) => {
                let warning = sequence(&still);
                Ok(Opened::Still(still, warning))
            }
            Err(frames) => frames.map(Opened::Frames),
        }
    }

    /// The frames of an animated file, as an "error"; or its bytes, if it is a still image.
    fn animation(
        bytes: ImageBytes,
        options: &DecodeOptions,
        choice: FrameChoice,
    ) -> Result<Vec<u8>, Result<Self>> {
        let mut bytes = bytes.bytes;
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
        let mut warning = None;
        if Format::of(&bytes) == Some(Format::Gif) && gif::lacks_trailer(&bytes) {
            if options.strict {
                return Err(Err(Format::Gif.cut()));
            }
            bytes.push(gif::TRAILER);
            warning = Some("gif: the file has no end mark, so frames may be missing".to_owned());
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
            warning,
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
            warning: None,
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
            if let Some(mut facts) = passed.facts {
                facts.warnings.extend(self.warning.take());
                let time = passed.time;
                return Ok(Some(Shot { index, time, facts }));
            }
        }
        Ok(None)
    }
}

/// Whether another image of its format follows the still image in `file`.
fn is_followed(file: impl io::Read) -> Result<bool> {
    let mut single = Single::new(file);
    io::copy(&mut single, &mut io::sink()).context("cannot be read")?;
    Ok(single.has_more())
}

/// The warning about an image whose brands say that it is a sequence.
fn sequence(start: &[u8]) -> Option<String> {
    let format = Format::of(start)?;
    let is_container = matches!(format, Format::Heic | Format::Avif);
    let length = u32::from_be_bytes(*start.first_chunk()?) as usize;
    let brands = start
        .get(8..length.min(start.len()))
        .filter(|_| is_container)?;
    let is_sequence = brands.chunks(4).any(|brand| {
        matches!(
            brand,
            b"avis" | b"msf1" | b"hevc" | b"hevx" | b"hevm" | b"hevs"
        )
    });
    is_sequence.then(|| {
        let (name, title) = (format.name(), format.title());
        format!("{name}: only the still image was read; --frames does not read {title} sequences")
    })
}

/// Reads all of `bytes`, which a stream must have; what is missing is the error of a stream that
/// was cut.
fn fill(stream: &mut impl io::Read, bytes: &mut [u8]) -> Result<()> {
    match stream.read_exact(bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => bail!(CUT),
        read => read.context("cannot be read"),
    }
}

/// Passes over this number of bytes.
fn pass_over(stream: &mut impl io::Read, bytes: u64) -> Result<()> {
    let passed = io::copy(&mut stream.take(bytes), &mut io::sink()).context("cannot be read")?;
    ensure!(passed == bytes, CUT);
    Ok(())
}

const CUT: &str = "the stream ends before the frame is complete";
