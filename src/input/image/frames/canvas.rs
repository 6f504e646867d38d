//! Composes the frames of an animation: each one is drawn on what the earlier ones left.

use anyhow::{Result, ensure};
use image::ColorType;
use image::metadata::Orientation;

use super::super::format::Format;
use super::super::rows::{Feed, Rows, band_bytes};
use super::super::{DecodeOptions, check_size};
use super::{Passed, Series};

/// Bytes per pixel of the canvas.
const PIXEL: usize = 4;

/// Pixels of the canvases of all frames together that a byte of a file may stand for: a frame of few
/// bytes costs as much as its canvas.
const PIXELS_PER_BYTE: u64 = 100_000;

/// Pixels that even a file without a byte may stand for.
const FREE_PIXELS: u64 = 64_000_000;

/// A rectangle of the canvas, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// What is done to a frame's place before the next one is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disposal {
    Keep,
    /// Filled with this colour.
    Fill([u8; PIXEL]),
    /// What was there before the frame comes back.
    Restore,
}

/// The part of the canvas that a frame draws.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) place: Place,
    /// Whether it is blended with what is there, instead of replacing it.
    pub(super) blends: bool,
    pub(super) disposal: Disposal,
    /// For how long it is shown.
    pub(super) seconds: f64,
}

/// The frames of a file, as stored.
pub(super) trait Pieces {
    /// Bytes per pixel of the canvas, and of the piece, that decoding a piece takes besides them.
    const SCRATCH: (u64, u64);

    /// The next piece, before its pixels are decoded; `None` at the end.
    fn next(&mut self) -> Result<Option<Piece>>;

    /// Its pixels, RGBA `[height, width, 4]`.
    fn pixels(&mut self, piece: &Piece) -> Result<Vec<u8>>;

    /// Blends a pixel that is neither opaque nor transparent with what is visible under it.
    fn mix(over: [u8; PIXEL], under: [u8; PIXEL]) -> [u8; PIXEL];
}

/// An animation in progress.
pub(super) struct Animation<P> {
    pieces: P,
    format: Format,
    orientation: Orientation,
    /// Columns and rows of the canvas. A GIF's grows with a frame that extends beyond it, as in
    /// Pillow.
    size: (usize, usize),
    /// RGBA `[rows, columns, 4]`; empty before the first frame.
    canvas: Vec<u8>,
    /// The last frame's place, and what becomes of it.
    last: Option<(Place, Disposal)>,
    /// What [`Disposal::Restore`] brings back.
    saved: Vec<u8>,
    seconds: f64,
    /// How many pixels of canvases may still come.
    left: u64,
}

impl<P: Pieces> Animation<P> {
    pub(super) fn new(
        pieces: P,
        format: Format,
        orientation: Orientation,
        size: (usize, usize),
        file_bytes: usize,
    ) -> Self {
        let paid = (file_bytes as u64).saturating_mul(PIXELS_PER_BYTE);
        Self {
            pieces,
            format,
            orientation,
            size,
            canvas: Vec::new(),
            last: None,
            saved: Vec::new(),
            seconds: 0.0,
            left: paid.saturating_add(FREE_PIXELS),
        }
    }

    /// The most memory that drawing a piece takes, with the canvas of `size`.
    fn bytes(&self, piece: &Piece, size: (usize, usize)) -> u64 {
        let (canvas, part) = P::SCRATCH;
        let pixels = |(width, height): (usize, usize)| (width as u64).saturating_mul(height as u64);
        let place = pixels((piece.place.width, piece.place.height));
        // While it grows, there are two canvases.
        let canvases = if size == self.size { 1 } else { 2 };
        let held = pixels(size).saturating_mul(PIXEL as u64 * canvases + canvas);
        held.saturating_add(place.saturating_mul(2 * PIXEL as u64 + part))
            .saturating_add(self.saved.len() as u64)
    }

    /// Draws a piece on the canvas, which has `size` from now on.
    fn draw(&mut self, piece: &Piece, size: (usize, usize)) -> Result<()> {
        self.grow(size);
        self.dispose();
        if piece.disposal == Disposal::Restore {
            let rows = rows_of(&piece.place, size.0);
            self.saved = rows
                .flat_map(|row| self.canvas[row].iter().copied())
                .collect();
        }
        let pixels = self.pieces.pixels(piece)?;
        let width = piece.place.width * PIXEL;
        for (row, drawn) in rows_of(&piece.place, size.0).zip(pixels.chunks_exact(width)) {
            let row = &mut self.canvas[row];
            if !piece.blends {
                row.copy_from_slice(drawn);
                continue;
            }
            let (under, _) = row.as_chunks_mut::<PIXEL>();
            let (over, _) = drawn.as_chunks::<PIXEL>();
            for (under, over) in under.iter_mut().zip(over) {
                match (over[3], under[3]) {
                    (0, _) => {}
                    (255, _) | (_, 0) => *under = *over,
                    _ => *under = P::mix(*over, *under),
                }
            }
        }
        self.last = Some((piece.place, piece.disposal));
        Ok(())
    }

    /// Makes the canvas as large as `size`.
    fn grow(&mut self, size: (usize, usize)) {
        if self.canvas.is_empty() || size != self.size {
            let mut canvas = vec![0; size.0 * size.1 * PIXEL];
            let old = self.canvas.chunks_exact((self.size.0 * PIXEL).max(1));
            for (row, old) in canvas.chunks_exact_mut(size.0 * PIXEL).zip(old) {
                row[..old.len()].copy_from_slice(old);
            }
            self.canvas = canvas;
            self.size = size;
        }
    }

    /// Does with the last frame what it said.
    fn dispose(&mut self) {
        let Some((place, disposal)) = self.last.take() else {
            return;
        };
        let rows = rows_of(&place, self.size.0);
        match disposal {
            Disposal::Keep => {}
            Disposal::Fill(colour) => rows.for_each(|row| {
                let (pixels, _) = self.canvas[row].as_chunks_mut::<PIXEL>();
                pixels.fill(colour);
            }),
            Disposal::Restore => {
                let saved = std::mem::take(&mut self.saved);
                for (row, saved) in rows.zip(saved.chunks_exact(place.width * PIXEL)) {
                    self.canvas[row].copy_from_slice(saved);
                }
            }
        }
    }
}

/// The ranges of a place's rows in a canvas of `columns`.
fn rows_of(place: &Place, columns: usize) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
    let Place {
        left,
        top,
        width,
        height,
    } = *place;
    (top..top + height).map(move |y| {
        let start = (y * columns + left) * PIXEL;
        start..start + width * PIXEL
    })
}

impl<P: Pieces> Series for Animation<P> {
    fn next(
        &mut self,
        options: &DecodeOptions,
        to: Option<&mut dyn Rows>,
    ) -> Result<Option<Passed>> {
        let Some(piece) = self.pieces.next()? else {
            return Ok(None);
        };
        let place = &piece.place;
        ensure!(place.width > 0 && place.height > 0, self.format.damaged());
        let size = (
            self.size.0.max(place.left.saturating_add(place.width)),
            self.size.1.max(place.top.saturating_add(place.height)),
        );
        let [width, height] = [size.0, size.1].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
        check_size(width, height, options)?;
        let left = self.left.checked_sub(u64::from(width) * u64::from(height));
        self.left = left.ok_or_else(|| self.format.hollow(width, height))?;
        let bytes = self.bytes(&piece, size);
        let facts = match to {
            None => {
                let _held = options.memory.decode(bytes)?;
                self.draw(&piece, size)?;
                None
            }
            Some(rows) => {
                let mut feed = Feed::new(self.format, options, rows);
                let bytes = bytes.saturating_add(band_bytes(width, PIXEL));
                feed.start((width, height), self.orientation, bytes)?;
                self.draw(&piece, size)?;
                feed.add_each((width, height), ColorType::Rgba8, |y, row| {
                    row.copy_from_slice(&self.canvas[y * row.len()..][..row.len()]);
                    Ok(())
                })?;
                Some(feed.finish()?)
            }
        };
        // Sums of thousandths are not exact.
        let time = (self.seconds * 1e6).round() / 1e6;
        self.seconds += piece.seconds;
        let time = Some(time);
        Ok(Some(Passed { time, facts }))
    }
}
