//! A decoded image -> a JPEG file, in full or as a thumbnail for pages and terminals.
//!
//! A thumbnail is made for every image of a run, so it must be cheap compared with decoding: whole
//! blocks of pixels are averaged first, which reads each sample once, and only the rest goes
//! through the slow filter.

use ::image::ExtendedColorType;
use ::image::codecs::jpeg::JpegEncoder;
use ::image::metadata::Orientation;
use anyhow::{Context, Result};

use super::{Frame, RgbImage, Rows, orient};
use crate::input::resize::bicubic;

/// JPEG quality without visible loss at this size, about 3 KB for 128 pixels.
const QUALITY: u8 = 70;

/// Minimum factor of the reduction that is left to the filter. Averaging alone would alias on fine
/// patterns; from a factor of two on, the filter hides it.
const LEFT_TO_FILTER: usize = 2;

/// Longest side of a block: a `u16` can sum at most 257 values of 255.
const LONGEST_BLOCK: usize = 256;

/// `image` as a JPEG file with a longer side of at most `longest` pixels. A smaller image keeps its
/// size; the shorter side keeps at least one pixel.
///
/// # Errors
/// When the image has no pixels.
pub fn thumbnail(image: &RgbImage, longest: u32) -> Result<Vec<u8>> {
    let mut shrinker = Shrinker::new(longest);
    shrinker.start(&Frame::of(image));
    shrinker.add(&image.pixels);
    shrinker.finish()
}

/// Makes a thumbnail of an image whose rows come one after another: blocks of pixels are averaged as
/// they come.
pub(crate) struct Shrinker {
    longest: u32,
    averages: Option<Averages>,
}

impl Shrinker {
    /// As [`thumbnail`].
    pub(crate) fn new(longest: u32) -> Self {
        Self {
            longest,
            averages: None,
        }
    }

    /// The thumbnail, once all rows have come.
    ///
    /// # Errors
    /// As [`thumbnail`].
    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        let averages = self.averages.context("the image has no rows")?;
        let (whole, image) = (averages.upright, averages.finish());
        let (width, height) = fitted(whole.0, whole.1, self.longest as usize);
        match (image.width, image.height) == (width, height) {
            true => to_jpeg(&image, QUALITY),
            false => to_jpeg(&bicubic(&image, width, height), QUALITY),
        }
    }
}

impl Rows for Shrinker {
    fn bytes(&self, frame: &Frame) -> u64 {
        let averages = Averages::of(frame, self.longest as usize);
        let pixels = averages.columns.blocks() * averages.rows.blocks();
        // The averages, turned and resized, and sums of two bytes for each sample of a row.
        (3 * 3 * pixels + 6 * frame.width) as u64
    }

    fn start(&mut self, frame: &Frame) {
        self.averages = Some(Averages::of(frame, self.longest as usize));
    }

    fn add(&mut self, rows: &[u8]) {
        if let Some(averages) = &mut self.averages {
            averages.add(rows);
        }
    }
}

/// An axis of the image as stored, cut into blocks; pixels that do not fill one are dropped (less
/// than one of at least two per target pixel).
#[derive(Debug, Clone, Copy)]
struct Axis {
    length: usize,
    block: usize,
    /// Those of them that come first: the last ones of a mirrored axis.
    skipped: usize,
}

impl Axis {
    fn new(length: usize, block: usize, is_mirrored: bool) -> Self {
        Self {
            length,
            block,
            skipped: if is_mirrored { length % block } else { 0 },
        }
    }

    fn blocks(self) -> usize {
        self.length / self.block
    }
}

/// The image with one pixel per block.
struct Averages {
    columns: Axis,
    rows: Axis,
    orientation: Orientation,
    /// Width and height of the upright image.
    upright: (usize, usize),
    /// Rows that have come, and sums of those of the current block.
    seen: usize,
    sums: Vec<u16>,
    pixels: Vec<u8>,
}

impl Averages {
    /// For a thumbnail of at most `longest` pixels.
    fn of(frame: &Frame, longest: usize) -> Self {
        let upright = orient::size((frame.width, frame.height), frame.orientation);
        let target = fitted(upright.0, upright.1, longest);
        let block = |from: usize, to: usize| {
            let whole = from / (LEFT_TO_FILTER * to.max(1));
            whole.clamp(1, LONGEST_BLOCK)
        };
        let turn = orient::steps(frame.orientation);
        let across = Axis::new(upright.0, block(upright.0, target.0), turn.mirrored);
        let down = Axis::new(upright.1, block(upright.1, target.1), turn.flipped);
        let (columns, rows) = match turn.transposed {
            true => (down, across),
            false => (across, down),
        };
        Self {
            columns,
            rows,
            orientation: frame.orientation,
            upright,
            seen: 0,
            sums: vec![0; columns.blocks() * columns.block * 3],
            pixels: Vec::new(),
        }
    }

    fn add(&mut self, rows: &[u8]) {
        let (columns, down) = (self.columns, self.rows);
        for row in rows.chunks_exact((columns.length * 3).max(1)) {
            let place = self.seen.checked_sub(down.skipped);
            self.seen += 1;
            let Some(place) = place.filter(|place| *place < down.blocks() * down.block) else {
                continue;
            };
            // Row by row, so that the compiler vectorises over neighbours.
            for (sum, sample) in self.sums.iter_mut().zip(&row[columns.skipped * 3..]) {
                *sum += u16::from(*sample);
            }
            if place % down.block == down.block - 1 {
                self.end_block();
            }
        }
    }

    fn end_block(&mut self) {
        let area = (self.columns.block * self.rows.block) as u32;
        for block in self.sums.chunks_exact(self.columns.block * 3) {
            let mut colour = [area / 2; 3];
            for pixel in block.chunks_exact(3) {
                for (sum, sample) in colour.iter_mut().zip(pixel) {
                    *sum += u32::from(*sample);
                }
            }
            self.pixels.extend(colour.map(|sum| (sum / area) as u8));
        }
        self.sums.fill(0);
    }

    /// The averages, upright.
    fn finish(self) -> RgbImage {
        let image = RgbImage {
            width: self.columns.blocks(),
            height: self.rows.blocks(),
            pixels: self.pixels,
        };
        orient::apply(image, self.orientation)
    }
}

/// The size that fits `longest` and keeps the aspect ratio, rounded.
fn fitted(width: usize, height: usize, longest: usize) -> (usize, usize) {
    let now = width.max(height);
    let target = now.min(longest.max(1));
    let scaled = |side: usize| {
        let rounded = (side as u64 * target as u64 + now as u64 / 2) / now.max(1) as u64;
        (rounded as usize).max(usize::from(side > 0))
    };
    (scaled(width), scaled(height))
}

/// The image as a JPEG file of `quality` 1..=100.
///
/// # Errors
/// When a side is zero or longer than JPEG's 65535.
pub(crate) fn to_jpeg(image: &RgbImage, quality: u8) -> Result<Vec<u8>> {
    let (width, height) = (u32::try_from(image.width)?, u32::try_from(image.height)?);
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(&image.pixels, width, height, ExtendedColorType::Rgb8)
        .with_context(|| format!("cannot write {width} x {height} pixels as JPEG"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::{DecodeOptions, decode};
    use super::*;

    /// Four quarters: black, red, green, and blue at the lower right.
    fn quarters(width: usize, height: usize) -> RgbImage {
        let colour = |x: usize, y: usize| match (2 * x >= width, 2 * y >= height) {
            (false, false) => [0, 0, 0],
            (true, false) => [240, 0, 0],
            (false, true) => [0, 240, 0],
            (true, true) => [0, 0, 240],
        };
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| colour(x, y)));
        RgbImage {
            width,
            height,
            pixels: pixels.collect(),
        }
    }

    fn shown(image: &RgbImage, longest: u32) -> RgbImage {
        let bytes = thumbnail(image, longest).unwrap();
        decode(&bytes, &DecodeOptions::default()).unwrap().image
    }

    #[test]
    fn the_longer_side_fits_and_the_aspect_ratio_stays() {
        let cases = [
            ((4000, 3000), 128, (128, 96)),
            ((3000, 4000), 128, (96, 128)),
            ((130, 129), 128, (128, 127)),
            ((128, 128), 128, (128, 128)),
            ((20, 10), 128, (20, 10)),
            ((5000, 1), 128, (128, 1)),
            ((1, 5000), 100, (1, 100)),
            ((1, 1), 0, (1, 1)),
        ];
        for ((width, height), longest, expected) in cases {
            let small = shown(&quarters(width, height), longest);
            assert_eq!((small.width, small.height), expected, "{width} x {height}");
        }
    }

    #[test]
    fn colours_stay_where_they_are() {
        // Sides that no block divides, one that only the filter shrinks, one that stays.
        for (width, height) in [(1601, 1203), (150, 141), (64, 48), (12_000, 1_500)] {
            let image = quarters(width, height);
            let small = shown(&image, 64);
            for (across, down) in [(1, 1), (3, 1), (1, 3), (3, 3)] {
                let at = |image: &RgbImage| {
                    let (x, y) = (image.width * across / 4, image.height * down / 4);
                    let from = (y * image.width + x) * 3;
                    [0, 1, 2].map(|channel| image.pixels[from + channel])
                };
                let (wanted, got) = (at(&image), at(&small));
                let worst = wanted.iter().zip(got).map(|(a, b)| a.abs_diff(b)).max();
                // JPEG error at this quality; a colour in the wrong place differs by 240.
                assert!(worst <= Some(24), "{wanted:?} {got:?} {width}");
            }
        }
    }

    /// The averages of square blocks.
    fn averaged(image: &RgbImage, orientation: Orientation, block: usize) -> RgbImage {
        let frame = Frame {
            orientation,
            ..Frame::of(image)
        };
        let turn = orient::steps(orientation);
        let mut averages = Averages::of(&frame, usize::MAX);
        let axis = |axis: Axis, is_mirrored| Axis::new(axis.length, block, is_mirrored);
        let (of_columns, of_rows) = match turn.transposed {
            true => (turn.flipped, turn.mirrored),
            false => (turn.mirrored, turn.flipped),
        };
        averages.columns = axis(averages.columns, of_columns);
        averages.rows = axis(averages.rows, of_rows);
        averages.sums = vec![0; averages.columns.blocks() * block * 3];
        averages.add(&image.pixels);
        averages.finish()
    }

    #[test]
    fn rows_as_stored_give_the_thumbnail_of_the_upright_image() {
        let stored = RgbImage {
            width: 613,
            height: 307,
            pixels: (0..613 * 307 * 3).map(|i| (i / 7 % 253) as u8).collect(),
        };
        for value in 1..=8 {
            let orientation = Orientation::from_exif(value).unwrap();
            let upright = orient::apply(stored.clone(), orientation);
            for longest in [20, 100, 400, 613, 999] {
                let mut shrinker = Shrinker::new(longest);
                shrinker.start(&Frame {
                    orientation,
                    ..Frame::of(&stored)
                });
                for rows in stored.pixels.chunks(7 * 613 * 3) {
                    shrinker.add(rows);
                }
                let expected = thumbnail(&upright, longest).unwrap();
                assert!(shrinker.finish().unwrap() == expected, "{value} {longest}");
            }
            let expected = averaged(&upright, Orientation::NoTransforms, 5);
            assert!(averaged(&stored, orientation, 5) == expected, "{value}");
        }
    }

    #[test]
    fn blocks_are_averaged_and_rounded() {
        let row = |samples: [u8; 5]| samples.into_iter().flat_map(|sample| [sample, 255, 0]);
        let image = RgbImage {
            width: 5,
            height: 3,
            pixels: [[0, 1, 10, 20, 99], [2, 3, 30, 43, 99], [99; 5]]
                .into_iter()
                .flat_map(row)
                .collect(),
        };
        let small = averaged(&image, Orientation::NoTransforms, 2);
        assert_eq!((small.width, small.height), (2, 1));
        assert_eq!(small.pixels, [2, 255, 0, 26, 255, 0]);
    }

    #[test]
    fn the_largest_blocks_do_not_overflow() {
        let white = RgbImage {
            width: 600,
            height: 600,
            pixels: vec![255; 600 * 600 * 3],
        };
        let small = averaged(&white, Orientation::NoTransforms, LONGEST_BLOCK);
        assert_eq!(small.pixels, [255; 12]);
        assert!(shown(&white, 1).pixels.iter().all(|sample| *sample > 250));
    }

    #[test]
    fn an_image_without_pixels_is_refused() {
        let nothing = RgbImage {
            width: 0,
            height: 0,
            pixels: Vec::new(),
        };
        assert!(thumbnail(&nothing, 128).is_err());
    }

    #[test]
    fn written_images_are_read_back() {
        let shade = |at: usize| [at as u8 * 4, 128, 255 - at as u8 * 4];
        let image = RgbImage {
            width: 32,
            height: 16,
            pixels: (0..512).flat_map(|pixel| shade(pixel % 32)).collect(),
        };
        let bytes = to_jpeg(&image, 95).unwrap();
        let back = decode(&bytes, &DecodeOptions::default()).unwrap();
        assert_eq!((back.format, back.stored_size), ("jpeg", (32, 16)));
        let differences = image.pixels.iter().zip(&back.image.pixels);
        let worst = differences.map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst < Some(12), "{worst:?}");
    }

    #[test]
    fn no_pixels_make_no_jpeg() {
        let nothing = RgbImage {
            width: 0,
            height: 0,
            pixels: Vec::new(),
        };
        assert!(to_jpeg(&nothing, 90).is_err());
    }
}
