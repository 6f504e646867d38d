//! The frames of an animated WebP. Each is decoded as a still image of its own; the decoder's own
//! composition leaves out the disposal of frames.

use std::io::Cursor;
use std::ops::Range;

use anyhow::{Result, ensure};
use image::codecs::webp::WebPDecoder;
use image::{DynamicImage, ImageDecoder as _, Limits};

use super::super::format::Format;
use super::super::general::{explain, webp_chunk};
use super::super::orient;
use super::canvas::{Animation, Disposal, Piece, Pieces, Place};

/// Bytes before the first chunk.
const START: usize = 12;

/// Bytes before the chunks of a frame.
const FRAME: usize = 16;

/// Pixels that a byte of a lossy frame can stand for: see `is_hollow` of still images.
const MAX_PIXELS_PER_BYTE: u64 = 8 * 256;

/// Allocation limit of the decoder besides the frame itself, in bytes.
const SCRATCH_BYTES: u64 = 64 << 20;

pub(super) struct WebP {
    bytes: Vec<u8>,
    size: (usize, usize),
    /// Where the next chunk begins.
    next: usize,
    /// The chunks of the frame.
    frame: Range<usize>,
    is_first: bool,
}

/// A chunk: its kind, its contents as far as the file has them, whether it has all, and the end.
struct Chunk<'a> {
    kind: &'a [u8],
    body: Range<usize>,
    is_whole: bool,
    next: usize,
}

impl<'a> Chunk<'a> {
    fn at(bytes: &'a [u8], at: usize) -> Option<Self> {
        let (kind, rest) = bytes.get(at..)?.split_at_checked(4)?;
        let size = u32::from_le_bytes(*rest.first_chunk()?) as usize;
        let start = at + 8;
        let end = start.saturating_add(size);
        Some(Self {
            kind,
            body: start..end.min(bytes.len()),
            is_whole: end <= bytes.len(),
            next: end.saturating_add(size % 2),
        })
    }
}

/// A number of three bytes.
fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let [a, b, c] = bytes.get(at..)?.first_chunk()?;
    Some(usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16)
}

/// Whether the file is shorter than its header says.
fn is_short(bytes: &[u8]) -> bool {
    let claimed = bytes.get(4..).and_then(|rest| rest.first_chunk());
    claimed.is_some_and(|size| u64::from(u32::from_le_bytes(*size)) + 8 > bytes.len() as u64)
}

/// The number of frames if it is an animation, else 1. What is missing counts as one.
pub(super) fn count(bytes: &[u8]) -> u64 {
    let is_animated = webp_chunk(bytes, b"VP8X").is_some_and(|body| {
        let flags = body.first().copied().unwrap_or_default();
        flags & 2 != 0
    });
    if !is_animated {
        return 1;
    }
    let mut count = u64::from(is_short(bytes));
    let mut at = START;
    while let Some(chunk) = Chunk::at(bytes, at) {
        count += u64::from(chunk.kind == b"ANMF");
        at = chunk.next;
    }
    count
}

pub(super) fn open(bytes: Vec<u8>) -> Result<Box<dyn super::Series>> {
    let body = webp_chunk(&bytes, b"VP8X").unwrap_or_default();
    let (Some(width), Some(height)) = (number(body, 4), number(body, 7)) else {
        return Err(Format::WebP.damaged());
    };
    let [exif, xmp] = [b"EXIF", b"XMP "].map(|kind| webp_chunk(&bytes, kind));
    let orientation = orient::of(exif, xmp);
    let size = (width + 1, height + 1);
    let file_bytes = bytes.len();
    let webp = WebP {
        bytes,
        size,
        next: START,
        frame: 0..0,
        is_first: true,
    };
    Ok(Box::new(Animation::new(
        webp,
        Format::WebP,
        orientation,
        size,
        file_bytes,
    )))
}

impl Pieces for WebP {
    const SCRATCH: (u64, u64) = (0, 10);

    fn next(&mut self) -> Result<Option<Piece>> {
        let chunk = loop {
            let Some(chunk) = Chunk::at(&self.bytes, self.next) else {
                ensure!(!is_short(&self.bytes), Format::WebP.cut());
                return Ok(None);
            };
            self.next = chunk.next;
            if chunk.kind == b"ANMF" {
                break chunk;
            }
        };
        ensure!(chunk.is_whole, Format::WebP.cut());
        let body = &self.bytes[chunk.body.clone()];
        self.frame = (chunk.body.start + FRAME).min(chunk.body.end)..chunk.body.end;
        let numbers = [0, 3, 6, 9, 12].map(|at| number(body, at));
        let (
            [
                Some(x),
                Some(y),
                Some(width),
                Some(height),
                Some(milliseconds),
            ],
            Some(flags),
        ) = (numbers, body.get(FRAME - 1))
        else {
            return Err(Format::WebP.damaged());
        };
        let place = Place {
            left: 2 * x,
            top: 2 * y,
            width: width + 1,
            height: height + 1,
        };
        let fits =
            place.left + place.width <= self.size.0 && place.top + place.height <= self.size.1;
        ensure!(fits, Format::WebP.damaged());
        let is_first = std::mem::replace(&mut self.is_first, false);
        Ok(Some(Piece {
            place,
            blends: flags & 2 == 0 && !is_first,
            disposal: match flags & 1 {
                0 => Disposal::Keep,
                _ => Disposal::Fill([0; 4]),
            },
            seconds: milliseconds as f64 / 1000.0,
        }))
    }

    fn pixels(&mut self, piece: &Piece) -> Result<Vec<u8>> {
        let file = self.still(piece)?;
        let fault = |error| explain(Format::WebP, error);
        let mut decoder = WebPDecoder::new(Cursor::new(file)).map_err(fault)?;
        let mut limits = Limits::no_limits();
        let total = decoder.total_bytes();
        limits.max_alloc = Some(total.saturating_mul(2).saturating_add(SCRATCH_BYTES));
        decoder.set_limits(limits).map_err(fault)?;
        let image = DynamicImage::from_decoder(decoder).map_err(fault)?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        ensure!(
            (width, height) == (piece.place.width, piece.place.height),
            Format::WebP.damaged()
        );
        Ok(image.into_rgba8().into_raw())
    }

    /// As libwebp does, truncated.
    fn mix(over: [u8; 4], under: [u8; 4]) -> [u8; 4] {
        let top = u32::from(over[3]);
        let below = (u32::from(under[3]) * (256 - top)) >> 8;
        let alpha = top + below;
        let scale = (1 << 24) / alpha;
        let mut mixed = [alpha as u8; 4];
        for ((mixed, over), under) in mixed.iter_mut().zip(over).zip(under).take(3) {
            let sum = u32::from(over) * top + u32::from(under) * below;
            *mixed = ((u64::from(sum) * u64::from(scale)) >> 24) as u8;
        }
        mixed
    }
}

impl WebP {
    /// The frame as a file of its own.
    fn still(&self, piece: &Piece) -> Result<Vec<u8>> {
        let Place { width, height, .. } = piece.place;
        let part = &self.bytes[..self.frame.end];
        let (mut chunks, mut has_alpha) = (Vec::new(), false);
        let mut at = self.frame.start;
        while let Some(chunk) = Chunk::at(part, at) {
            let body = &part[chunk.body.clone()];
            if let b"ALPH" | b"VP8 " | b"VP8L" = chunk.kind {
                ensure!(chunk.is_whole, Format::WebP.damaged());
                // The decoder allocates what a lossy frame claims before it compares the two.
                let side = |at: usize| body.get(at..).and_then(|rest| rest.first_chunk());
                let side =
                    |at| side(at).map(|side| usize::from(u16::from_le_bytes(*side) & 0x3fff));
                ensure!(
                    chunk.kind != b"VP8 " || (side(6), side(8)) == (Some(width), Some(height)),
                    Format::WebP.damaged()
                );
                has_alpha |= chunk.kind != b"VP8 ";
                append(&mut chunks, chunk.kind, body);
            }
            at = chunk.next;
        }
        ensure!(
            chunks.starts_with(b"VP8L")
                || (width * height) as u64 / MAX_PIXELS_PER_BYTE <= chunks.len() as u64,
            Format::WebP.hollow(width as u32, height as u32)
        );
        let mut header = vec![if has_alpha { 0x10 } else { 0 }, 0, 0, 0];
        for side in [width - 1, height - 1] {
            header.extend_from_slice(&(side as u32).to_le_bytes()[..3]);
        }
        let mut body = b"WEBP".to_vec();
        append(&mut body, b"VP8X", &header);
        body.extend(chunks);
        let mut file = Vec::with_capacity(body.len() + 8);
        append(&mut file, b"RIFF", &body);
        Ok(file)
    }
}

fn append(file: &mut Vec<u8>, kind: &[u8], body: &[u8]) {
    file.extend_from_slice(kind);
    file.extend_from_slice(&(body.len() as u32).to_le_bytes());
    file.extend_from_slice(body);
    file.resize(file.len() + body.len() % 2, 0);
}
