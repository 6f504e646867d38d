//! Bytes of an image file -> RGB. The only code that decodes images.
//!
//! The order is fixed: limits, decode, orientation, alpha, RGB; resizing and cropping come after,
//! in [`crate::input::preprocess`]. (Orientation moves whole pixels and alpha is resolved per
//! pixel, so the code may do the second first, or turn an image after it was resized, and still give
//! the same bytes.) Rows are passed on as they are decoded, where the format gives them one by one.
//! The format is detected by content, never by name. A file is hostile until it has been decoded:
//! its claimed size is checked, and memory for it asked for, before anything is allocated, and a
//! panic inside a decoder becomes that image's error.
//!
//! Intended differences from Pillow: 16-bit grey is scaled to 8 bits instead of being clipped at
//! 255, other 16-bit samples are rounded instead of truncated (a difference of at most 1 of 255),
//! and JPEG chroma is upsampled by another filter (at most 4 of 255 after resizing). Numbers in a
//! TIFF without a fixed range (floating point, 32 bits) may have 1 for white where Pillow always
//! takes 255; a warning says which was taken. A BMP whose alpha is 0 everywhere is opaque, and any
//! other such image gets a warning. Colour profiles are ignored, and only the first frame of an
//! animation is read, as in Pillow, unless `FrameReader` is asked for others. HEIC and AVIF keep
//! their chroma unsmoothed, as in libheif, and a camera's raw file is represented by the JPEG
//! preview in it.

mod budget;
mod colour;
mod directory;
mod format;
mod frames;
mod general;
mod gif;
#[cfg(any(feature = "heic", feature = "avif"))]
mod heif;
mod huffman;
mod jpeg;
#[cfg(feature = "jxl")]
mod jxl;
mod markers;
pub(crate) mod orient;
mod png;
mod png_text;
pub(crate) mod quality;
mod raw;
mod refusal;
mod rows;
mod thumbnail;
mod tiff;

use std::fs::{self, File};
use std::io::{Read, Seek as _, SeekFrom};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use crate::file::failure::{Failure, FailureKind};
use crate::file::{guard, open as opening};
use budget::Held;
use format::Format;
use rows::{Feed, Whole};

pub use budget::MemoryBudget;
pub use colour::Alpha;
pub use frames::FrameChoice;
pub(crate) use frames::{FrameReader, Opened};
pub(crate) use refusal::looks_like_image;
pub(crate) use rows::{Frame, Rows};
pub use thumbnail::thumbnail;
pub(crate) use thumbnail::{Shrinker, to_jpeg};

/// Extensions of image files, in lower case, that a folder walk accepts, also those of formats whose
/// decoder a build may lack: a record that says so is better than a phone's images silently skipped.
pub(crate) const EXTENSIONS: &[&str] = &[
    "jpg", "jpeg", "jpe", "jfif", "png", "apng", "gif", "webp", "bmp", "dib", "tif", "tiff", "pnm",
    "pbm", "pgm", "ppm", "pam", "heic", "heif", "hif", "avif", "jxl", "cr2", "cr3", "nef", "nrw",
    "arw", "sr2", "srf", "dng", "orf", "rw2", "pef", "raf", "srw",
];

/// Number of leading bytes that are read to detect a file's kind.
const SIGNATURE_BYTES: u64 = 4096;

/// Four samples of 32 bits, uncompressed: no image file is larger for its pixels.
const MAX_BYTES_PER_PIXEL: u64 = 16;

/// Longest side of an image, in pixels: libpng's limit. What a side of a resized image costs grows
/// with it.
const MAX_SIDE: u32 = 1_000_000;

/// Allowance for bytes besides the pixels: colour profiles, previews, further frames.
const HEADER_BYTES: u64 = 256 << 20;

/// Longer images are not read from streams.
const MOST_STREAM_BYTES: u64 = 512 << 20;

/// A decoded image, upright and without alpha.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Columns, in pixels.
    pub width: usize,
    /// Rows, in pixels.
    pub height: usize,
    /// Samples, `[height, width, 3]`.
    pub pixels: Vec<u8>,
}

/// Settings of decoding.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// Refuse images with more pixels than this before decoding them.
    pub max_pixels: u64,
    /// Apply the EXIF (or TIFF) orientation.
    pub orient: bool,
    /// What shows through where the image is transparent.
    pub alpha: Alpha,
    /// Refuse a file that is damaged or incomplete, instead of warning about it.
    pub strict: bool,
    /// The memory of all images that are decoded with these settings at the same time.
    pub memory: MemoryBudget,
    /// Decode a JPEG at a half, a quarter or an eighth of its size, if both sides keep at least
    /// this many pixels. Faster, and pixels differ slightly.
    pub reduce_to: Option<usize>,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            max_pixels: 200_000_000,
            orient: true,
            alpha: Alpha::White,
            strict: false,
            memory: MemoryBudget::default(),
            reduce_to: None,
        }
    }
}

/// An image and information about its file.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// The pixels, perhaps of a smaller image; see [`DecodeOptions::reduce_to`].
    pub image: RgbImage,
    /// The format's name in lower case: `jpeg`, `png`, ….
    pub format: &'static str,
    /// Width and height as stored in the file, before orientation.
    pub stored_size: (usize, usize),
    /// Width and height of the whole image, after orientation.
    pub size: (usize, usize),
    /// How many times smaller `image` is, rounded up: 1, or 2, 4 or 8.
    pub scale: usize,
    /// Problems with a file that could still be decoded, each as `format: what`.
    pub warnings: Vec<String>,
    /// The memory of the pixels.
    #[allow(dead_code, reason = "given back with the pixels")]
    held: Option<Arc<Held>>,
}

impl DecodeOptions {
    /// Everything that pixels depend on, as text. Entries of caches that were made before images
    /// could be reduced stay valid.
    #[must_use]
    pub(crate) fn recipe(&self) -> String {
        let exact = format!("orient {}; alpha {:?}", self.orient, self.alpha);
        match self.reduce_to {
            Some(side) => format!("{exact}; reduced to {side}"),
            None => exact,
        }
    }
}

/// Information about an image whose rows were passed on.
#[derive(Debug)]
pub(crate) struct Facts {
    format: &'static str,
    stored_size: (usize, usize),
    /// Width and height of the whole image, after orientation.
    pub(crate) size: (usize, usize),
    scale: usize,
    /// As in [`Decoded`].
    pub(crate) warnings: Vec<String>,
    /// The memory of those who took the rows.
    held: Option<Held>,
}

/// The bytes of an image file, and their memory.
#[derive(Debug)]
pub struct ImageBytes {
    bytes: Vec<u8>,
    _held: Option<Held>,
}

/// Bytes that somebody else read and limited.
impl From<Vec<u8>> for ImageBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, _held: None }
    }
}

impl Deref for ImageBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads the regular file at `path` and decodes it.
///
/// # Errors
/// When there is no such regular file, when it cannot be read, and as [`decode`].
pub fn read(path: &Path, options: &DecodeOptions) -> Result<Decoded> {
    decode(&read_bytes(path, options)?, options)
}

/// Reads the regular file at `path` if it has an image's magic bytes, without decoding it.
///
/// # Errors
/// When there is no such regular file, when it cannot be read, is not an image or is longer than an
/// image of `max_pixels` can be.
pub(crate) fn read_bytes(path: &Path, options: &DecodeOptions) -> Result<ImageBytes> {
    let (file, size) = open(path)?;
    read_image(file, size, options)
}

/// Reads an image that is part of a file (an archive): `size` bytes from `offset`.
///
/// # Errors
/// As [`read_bytes`], and when the file ends before the image does.
pub(crate) fn read_part(
    path: &Path,
    offset: u64,
    size: u64,
    options: &DecodeOptions,
) -> Result<ImageBytes> {
    let (mut file, _) = open(path)?;
    file.seek(SeekFrom::Start(offset))
        .context("cannot be read")?;
    let bytes = read_image(file.take(size), size, options)?;
    ensure!(
        bytes.len() as u64 == size,
        "{} ends before the end of the image",
        path.display()
    );
    Ok(bytes)
}

/// Reads an image of `size` bytes that an archive unpacks.
///
/// # Errors
/// As [`read_bytes`], and when `content` has another length or a wrong checksum.
pub(crate) fn read_member(
    mut content: impl Read,
    size: u64,
    options: &DecodeOptions,
) -> Result<ImageBytes> {
    let bytes = read_image(&mut content, size, options)?;
    // Only at the end is a checksum compared.
    let more = content.read(&mut [0]).context("cannot be read")?;
    let found = bytes.len() as u64;
    ensure!(
        found == size && more == 0,
        "has {} than the {size} bytes that its archive states",
        if found < size { "fewer" } else { "more" }
    );
    Ok(bytes)
}

/// Reads an image from a stream such as stdin if it has an image's magic bytes.
///
/// # Errors
/// When it cannot be read, is not an image, or is longer than an image of `max_pixels` can be or
/// than 512 MiB: a stream may have no end.
pub(crate) fn read_stream(mut stream: impl Read, options: &DecodeOptions) -> Result<Vec<u8>> {
    let most = check_size_in_bytes(0, options)?.min(MOST_STREAM_BYTES);
    let start = start_of(&mut stream)?;
    let whole = opening::bounded(start.as_slice().chain(stream), most);
    whole.context("cannot be read as a stream; save a larger image to a file and pass that")
}

/// Checks the image at `path` without reading all of it: that it exists and has the magic bytes of
/// a supported format. Returns its size in bytes.
///
/// # Errors
/// As `read_bytes`.
pub fn check(path: &Path, options: &DecodeOptions) -> Result<u64> {
    let (file, size) = open(path)?;
    check_size_in_bytes(size, options)?;
    start_of(file)?;
    Ok(size)
}

/// The same for a part of a file; see [`read_part`].
///
/// # Errors
/// As [`read_part`].
pub(crate) fn check_part(
    path: &Path,
    offset: u64,
    size: u64,
    options: &DecodeOptions,
) -> Result<()> {
    let (mut file, _) = open(path)?;
    check_size_in_bytes(size, options)?;
    file.seek(SeekFrom::Start(offset))
        .context("cannot be read")?;
    start_of(file.take(size)).map(|_| ())
}

/// The regular file at `path` and its size in bytes.
fn open(path: &Path) -> Result<(File, u64)> {
    // Checked before it is opened: opening a pipe without a writer would block.
    let metadata =
        fs::metadata(path).with_context(|| format!("cannot be read{}", path_hint(path)))?;
    ensure!(
        !metadata.is_dir(),
        "this is a folder, but an image is expected; pass the images in it"
    );
    ensure!(
        metadata.is_file(),
        "this is a pipe, socket or device, not a regular file; write the image to a file or pass \
         it on stdin as `-`"
    );
    let file = File::open(path).context("cannot be read")?;
    // Of the file that is open: another may have been renamed to this place.
    let size = file.metadata().context("cannot be read")?.len();
    Ok((file, size))
}

/// A hint on why a path does not exist, from what it looks like.
fn path_hint(path: &Path) -> &'static str {
    let text = path.to_string_lossy();
    let is_address = ["http://", "https://", "ftp://", "s3://", "gs://"]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    if is_address {
        " (this is a URL; download the image first)"
    } else if text.contains(['*', '?', '[']) {
        " (this is a pattern that the shell did not expand: it matches no file, or is in quotes)"
    } else {
        ""
    }
}

/// Reads all of `file` if it has an image's magic bytes and is not longer than an image can be, so
/// that a video listed by mistake is not read into memory.
fn read_image(mut file: impl Read, size: u64, options: &DecodeOptions) -> Result<ImageBytes> {
    let most = check_size_in_bytes(size, options)?;
    let mut bytes = start_of(&mut file)?;
    if size < bytes.len() as u64 {
        // The file system does not know the size.
        let whole = opening::bounded(bytes.as_slice().chain(file), most.min(MOST_STREAM_BYTES));
        return Ok(whole.context("cannot be read")?.into());
    }
    let held = options.memory.file(size)?;
    bytes.reserve_exact((size as usize).saturating_sub(bytes.len()));
    // A file that grows meanwhile is read as it was.
    let mut rest = file.take(size.saturating_sub(bytes.len() as u64));
    rest.read_to_end(&mut bytes).context("cannot be read")?;
    let _held = Some(held);
    Ok(ImageBytes { bytes, _held })
}

/// The maximum size of an image file in bytes; fails if `size` is larger.
fn check_size_in_bytes(size: u64, options: &DecodeOptions) -> Result<u64> {
    let coded = options.max_pixels.saturating_mul(MAX_BYTES_PER_PIXEL);
    let most = coded.saturating_add(HEADER_BYTES);
    ensure!(
        size <= most,
        FailureKind::Limit.because(format!(
            "the file has {size} bytes, more than an image within the limit of {} pixels can have; \
             pass a larger --max-pixels",
            options.max_pixels
        ))
    );
    Ok(most)
}

/// Why a file of an unsupported format is refused.
fn refusal(bytes: &[u8]) -> Failure {
    FailureKind::Format.because(refusal::of(bytes))
}

/// The first bytes of a file, if they are an image's.
fn start_of(file: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut start = file.take(SIGNATURE_BYTES);
    start.read_to_end(&mut bytes).context("cannot be read")?;
    ensure!(Format::of(&bytes).is_some(), refusal(&bytes));
    Ok(bytes)
}

/// Decodes the image file `bytes`.
///
/// # Errors
/// When the bytes are not an image, are an image of a format that is not supported, larger than
/// `max_pixels`, longer on a side than a million pixels or in need of more than `memory`, or so
/// damaged that there is nothing to show; with `strict`, when they are damaged at all. Every message
/// is one line.
pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded> {
    let mut whole = Whole::default();
    let facts = decode_rows(bytes, options, &mut whole)?;
    let image = whole.finish().context("the image has no rows")?;
    Ok(Decoded {
        image,
        format: facts.format,
        stored_size: facts.stored_size,
        size: facts.size,
        scale: facts.scale,
        warnings: facts.warnings,
        held: facts.held.map(Arc::new),
    })
}

/// The same, but passes the rows on instead of collecting them. If it fails, some may have been
/// passed on.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_rows(
    bytes: &[u8],
    options: &DecodeOptions,
    rows: &mut dyn Rows,
) -> Result<Facts> {
    let Some(format) = Format::of_file(bytes) else {
        bail!(refusal(bytes));
    };
    let decode = || {
        let mut feed = Feed::new(format, options, rows);
        match format {
            Format::Jpeg => jpeg::decode(bytes, &mut feed)?,
            Format::Tiff => tiff::decode(bytes, &mut feed)?,
            Format::Png => png::decode(bytes, &mut feed)?,
            Format::Gif => gif::decode(bytes, &mut feed)?,
            Format::WebP | Format::Bmp | Format::Pnm => general::decode(format, bytes, &mut feed)?,
            #[cfg(feature = "heic")]
            Format::Heic => heif::decode(format, bytes, &mut feed)?,
            #[cfg(feature = "avif")]
            Format::Avif => heif::decode(format, bytes, &mut feed)?,
            #[cfg(feature = "jxl")]
            Format::Jxl => jxl::decode(bytes, &mut feed)?,
            Format::Raw => raw::decode(bytes, &mut feed)?,
            #[cfg(not(feature = "heic"))]
            Format::Heic => bail!(refusal(bytes)),
            #[cfg(not(feature = "avif"))]
            Format::Avif => bail!(refusal(bytes)),
            #[cfg(not(feature = "jxl"))]
            Format::Jxl => bail!(refusal(bytes)),
        }
        feed.finish()
    };
    guard::catch(decode).unwrap_or_else(|| {
        bail!(
            "the {} file cannot be decoded: it is damaged or of an unusual kind; save it as PNG or JPEG",
            format.title()
        )
    })
}

/// Refuses an image of no pixels or too many; called before anything is allocated for them.
fn check_size(width: u32, height: u32, options: &DecodeOptions) -> Result<()> {
    ensure!(
        width > 0 && height > 0,
        "not an image: its header says {width} x {height} pixels"
    );
    ensure!(
        width.max(height) <= MAX_SIDE,
        FailureKind::Limit.because(format!(
            "{width} x {height} pixels: a side exceeds the limit of {MAX_SIDE}; cut the image into \
             parts"
        ))
    );
    let pixels = u64::from(width) * u64::from(height);
    ensure!(
        pixels <= options.max_pixels,
        FailureKind::Limit.because(format!(
            "{width} x {height} pixels exceed the limit of {}; shrink the image or pass \
             --max-pixels {pixels}",
            options.max_pixels
        ))
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_says_to_what_images_are_reduced() {
        let recipe = |reduce_to| {
            let options = DecodeOptions {
                reduce_to,
                ..DecodeOptions::default()
            };
            options.recipe()
        };
        assert_eq!(recipe(None), "orient true; alpha White");
        assert_eq!(
            recipe(Some(448)),
            "orient true; alpha White; reduced to 448"
        );
    }
}
