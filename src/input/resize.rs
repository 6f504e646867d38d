//! Pillow's bicubic and bilinear resampling, bit for bit (its `Resample.c`, read as a specification).
//!
//! The filter is the cubic with a = -1/2, or a triangle, widened by the scale when shrinking (so it
//! antialiases).
//! Weights are computed in f64, normalised, and rounded to integers, and results are rounded to 8
//! bits between the two passes, so their order matters: horizontal first, except where Pillow 13
//! does the vertical first (older releases never do; the difference is a level or two on tall
//! images). Along an axis that keeps its size the weights are 1 and 0, so skipping the pass needs
//! no special case.

use super::image::{Frame, RgbImage, orient};
use crate::kernel::resize::{Across, Level, Taps, WEIGHT_BITS, vertical};

/// How neighbouring pixels are weighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// The cubic with a = -1/2: CLIP's.
    Bicubic,
    /// A triangle: that of many models with a sigmoid loss.
    Bilinear,
}

impl Filter {
    /// The name in configuration files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bicubic => "bicubic",
            Self::Bilinear => "bilinear",
        }
    }

    /// Reach to either side, in pixels of the coarser of the two sizes.
    fn support(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Bilinear => 1.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Self::Bicubic => cubic(x),
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
        }
    }
}

/// Rows that are resampled at once: enough for the kernels, and few enough to stay in the cache.
const BLOCK_ROWS: usize = 32;

/// A rectangle of the resized image, in its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// The first column.
    pub(crate) left: usize,
    /// The first row.
    pub(crate) top: usize,
    /// Columns.
    pub(crate) width: usize,
    /// Rows.
    pub(crate) height: usize,
}

/// Resizes `image` to `width` x `height` pixels, bicubic.
pub(crate) fn bicubic(image: &RgbImage, width: usize, height: usize) -> RgbImage {
    resize(image, Filter::Bicubic, width, height)
}

/// Resizes `image` to `width` x `height` pixels.
pub(crate) fn resize(image: &RgbImage, filter: Filter, width: usize, height: usize) -> RgbImage {
    let window = Window {
        left: 0,
        top: 0,
        width,
        height,
    };
    let whole = (image.width as f64, image.height as f64);
    resize_window(image, filter, whole, (width, height), window)
}

/// The part `window` of `image` resized to `size`; see [`Resizer::new`].
pub(crate) fn resize_window(
    image: &RgbImage,
    filter: Filter,
    extent: (f64, f64),
    size: (usize, usize),
    window: Window,
) -> RgbImage {
    let mut resizer = Resizer::new(&Frame::of(image), filter, extent, size, window);
    resizer.add(&image.pixels);
    resizer.finish()
}

/// Resizes an image whose rows come one after another. Holds only the rows that the next outputs
/// need: in one pass along the columns, as many as the filter is high.
pub(crate) struct Resizer {
    across: Across,
    down: Taps,
    level: Level,
    is_vertical_first: bool,
    frame: Frame,
    /// Rows that have come.
    seen: usize,
    /// The rows from `first` on that outputs still need, resampled across unless that comes second.
    band: Vec<u8>,
    first: usize,
    /// Rows of the result that are done, and their pixels, `[done, across outputs, 3]`.
    done: usize,
    pixels: Vec<u8>,
}

impl Resizer {
    /// The part `window` of an image resized to `size` (width, height), all of them upright: the
    /// same bytes as turning and resizing all of it and cropping, but only what the window needs is
    /// computed. Only `extent` (columns, rows) of the image counts, of whose last pixels a part may
    /// be padding; it is Pillow's `box` from the upper left corner.
    pub(crate) fn new(
        frame: &Frame,
        filter: Filter,
        extent: (f64, f64),
        size: (usize, usize),
        window: Window,
    ) -> Self {
        let (width, height) = orient::size((frame.width, frame.height), frame.orientation);
        let mut across = taps(filter, width, extent.0, size.0, window.left, window.width);
        let mut down = taps(filter, height, extent.1, size.1, window.top, window.height);
        let mut is_vertical_first = is_vertical_first((width, height), size.0, size.1);
        // Rows come as stored, so the axes are turned back, each with its weights; the sums stay
        // the same. The result is turned at the end.
        let turn = orient::steps(frame.orientation);
        if turn.mirrored {
            across = across.mirrored(width);
        }
        if turn.flipped {
            down = down.mirrored(height);
        }
        if turn.transposed {
            (across, down) = (down, across);
            is_vertical_first = !is_vertical_first;
        }
        let level = Level::best();
        Self {
            first: down.reach().start,
            across: Across::new(level, across, frame.width),
            down,
            level,
            is_vertical_first,
            frame: *frame,
            seen: 0,
            band: Vec::new(),
            done: 0,
            pixels: Vec::new(),
        }
    }

    /// The most bytes that a resizer of these sizes holds, about.
    pub(crate) fn bytes(frame: &Frame, size: (usize, usize), window: Window) -> u64 {
        let upright = orient::size((frame.width, frame.height), frame.orientation);
        let is_turned = orient::steps(frame.orientation).transposed;
        let is_vertical_first = is_vertical_first(upright, size.0, size.1) != is_turned;
        let (size, window) = match is_turned {
            true => ((size.1, size.0), (window.height, window.width)),
            false => (size, (window.width, window.height)),
        };
        let columns = match is_vertical_first {
            true => frame.width,
            false => window.0,
        };
        let under_filter = |length: usize, size: usize| 4 * (length / size.max(1) + 1) + 3;
        let (wide, high) = (
            under_filter(frame.width, size.0),
            under_filter(frame.height, size.1),
        );
        // Rows under the filter, twice since they grow, and those of a block and of its result.
        let rows = 2 * (high + 2 * BLOCK_ROWS);
        // A weight per tap in at most four forms of four bytes.
        let taps = window.0 * wide + window.1 * high;
        (3 * rows * columns + 3 * window.0 * window.1 + 16 * taps) as u64
    }

    /// Takes the next rows, `[rows, width, 3]`.
    pub(crate) fn add(&mut self, rows: &[u8]) {
        for block in rows.chunks(BLOCK_ROWS * self.frame.width * 3) {
            self.add_block(block);
            self.advance();
        }
    }

    fn add_block(&mut self, block: &[u8]) {
        let row = self.frame.width * 3;
        let (rows, reach) = (block.len() / row, self.down.reach());
        let inside = |limit: usize| limit.saturating_sub(self.seen).min(rows) * row;
        let block = &block[inside(reach.start)..inside(reach.end)];
        self.seen += rows;
        if self.is_vertical_first {
            self.band.extend_from_slice(block);
        } else {
            run_across(&self.across, row, block, &mut self.band);
        }
    }

    /// Computes the outputs whose rows are there, and drops the rows that no other one needs.
    fn advance(&mut self) {
        let row = self.frame.width * 3;
        let columns = match self.is_vertical_first {
            true => row,
            false => self.across.outputs() * 3,
        };
        let end = self.first + self.band.len() / columns;
        let ends = self.down.starts.iter().zip(&self.down.counts);
        let ready = ends.skip(self.done).take_while(|(s, c)| *s + *c <= end);
        let ready = self.done + ready.count();
        if ready > self.done {
            let down = self.down.part(self.done..ready, self.first);
            let mut short = vec![0; (ready - self.done) * columns]; // [ready, columns]
            vertical(self.level, &self.band, columns, &down, &mut short);
            if self.is_vertical_first {
                run_across(&self.across, row, &short, &mut self.pixels);
            } else {
                self.pixels.extend_from_slice(&short);
            }
            self.done = ready;
        }
        let needed = self.down.starts.get(self.done).map_or(end, |s| end.min(*s));
        let passed = needed - self.first;
        // Not each time, since the rest is moved.
        if 2 * passed >= end - self.first {
            self.band.drain(..passed * columns);
            self.first = needed;
        }
    }

    /// The result, `[window height, window width, 3]`.
    ///
    /// # Panics
    /// When not all rows have come.
    pub(crate) fn finish(self) -> RgbImage {
        assert_eq!(self.done, self.down.starts.len(), "all rows have come");
        let small = RgbImage {
            width: self.across.outputs(),
            height: self.done,
            pixels: self.pixels,
        };
        orient::apply(small, self.frame.orientation)
    }
}

/// Appends `rows`, of `row` bytes each, resampled.
fn run_across(across: &Across, row: usize, rows: &[u8], to: &mut Vec<u8>) {
    let before = to.len();
    to.resize(before + rows.len() / row * across.outputs() * 3, 0);
    across.run(rows, &mut to[before..]);
}

/// Pillow 13's rule, found by comparing 1,728 sizes: the image loses rows, and more than twice as
/// many of them as columns.
fn is_vertical_first(image: (usize, usize), width: usize, height: usize) -> bool {
    let lost_columns = image.0.saturating_sub(width);
    let lost_rows = image.1.saturating_sub(height);
    let won_columns = width.saturating_sub(image.0);
    lost_rows > 0 && lost_rows + 2 * won_columns > 2 * lost_columns
}

/// The filter taps of outputs `first..first + count` when the first `extent` of `inputs` pixels
/// become `outputs`.
fn taps(
    filter: Filter,
    inputs: usize,
    extent: f64,
    outputs: usize,
    first: usize,
    count: usize,
) -> Taps {
    let scale = extent / outputs as f64;
    let filter_scale = scale.max(1.0);
    let support = filter.support() * filter_scale;
    let stride = support.ceil() as usize * 2 + 1;
    let mut taps = Taps {
        starts: Vec::with_capacity(count),
        counts: Vec::with_capacity(count),
        weights: Vec::with_capacity(count * stride),
        stride,
    };
    for output in first..first + count {
        let center = (output as f64 + 0.5) * scale;
        // Casts to usize truncate the fraction and make negative numbers 0, as intended here.
        let start = (center - support + 0.5) as usize;
        let end = ((center + support + 0.5) as usize).min(inputs);
        let offset = |input: usize| (input as f64 - center + 0.5) * (1.0 / filter_scale);
        let weights: Vec<f64> = (start..end)
            .map(|input| filter.weight(offset(input)))
            .collect();
        let total: f64 = weights.iter().sum();
        let divisor = if total == 0.0 { 1.0 } else { total };
        taps.weights
            .extend(weights.iter().map(|weight| to_fixed(weight / divisor)));
        taps.weights.resize((output - first + 1) * stride, 0);
        taps.starts.push(start);
        taps.counts.push(end - start);
    }
    taps
}

/// The cubic filter with a = -1/2. The order of operations matters to the last bit.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Rounds half away from zero.
fn to_fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << WEIGHT_BITS);
    (scaled + 0.5_f64.copysign(scaled)) as i32
}

#[cfg(test)]
mod tests;
