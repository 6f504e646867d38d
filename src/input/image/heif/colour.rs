//! Planes of luma and chroma -> 8-bit RGB, by the matrices of ITU-T H.273.
//!
//! Pillow's plugins differ in what pixels between two samples of chroma get, and pipelines that models
//! are trained with use these: libheif repeats a sample, libavif weighs four of them.

use anyhow::{Result, bail};

use super::super::format::unsupported;

/// How samples stand for colours: code points of H.273.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signal {
    pub(super) matrix: u16,
    pub(super) transfer: u16,
    /// Whether samples use the whole range, instead of 16 to 235 of 255.
    pub(super) is_full: bool,
}

/// A decoded picture.
#[derive(Debug)]
pub(super) struct Planes {
    /// Columns and rows of luma.
    pub(super) size: (usize, usize),
    /// Luma and two of chroma, `[rows, columns]`; these are empty in a grey picture.
    pub(super) planes: [Vec<u16>; 3],
    /// Columns of the planes of chroma.
    pub(super) chroma_columns: usize,
    /// Whether chroma is smoothed.
    pub(super) is_smooth: bool,
    pub(super) sampling: Sampling,
    /// Bits per sample.
    pub(super) bits: u8,
    pub(super) signal: Signal,
}

/// How many pixels share a sample of chroma.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sampling {
    Grey,
    /// Columns and rows.
    Shared(usize, usize),
}

impl Sampling {
    /// HEVC's numbers: 0 is grey, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub(super) fn of(number: u8) -> Self {
        match number {
            0 => Self::Grey,
            1 => Self::Shared(2, 2),
            2 => Self::Shared(2, 1),
            _ => Self::Shared(1, 1),
        }
    }

    /// Bytes of the samples of so many pixels.
    pub(super) fn bytes(self, pixels: u64) -> u64 {
        match self {
            Self::Grey => 2 * pixels,
            Self::Shared(across, down) => 2 * pixels + 4 * pixels / (across * down) as u64,
        }
    }
}

/// The equation between samples and colours.
#[derive(Debug, Clone, Copy)]
enum Matrix {
    /// The planes are green, blue and red.
    Identity,
    /// Differences of green and of orange.
    YCgCo,
    /// Red and blue in luma.
    Weights(f32, f32),
}

impl Matrix {
    fn of(number: u16) -> Result<Self> {
        Ok(match number {
            0 => Self::Identity,
            1 => Self::Weights(0.2126, 0.0722),
            4 => Self::Weights(0.30, 0.11),
            2 | 3 | 5 | 6 => Self::Weights(0.299, 0.114),
            7 => Self::Weights(0.212, 0.087),
            8 => Self::YCgCo,
            9 => Self::Weights(0.2627, 0.0593),
            other => bail!(unsupported(&format!(
                "an image with colours of kind {other} (matrix coefficients of H.273)"
            ))),
        })
    }
}

/// Turns rows of planes into colours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Converter {
    matrix: Matrix,
    /// Sample of black, and factor to 0..=255.
    luma: (f32, f32),
    /// Sample of no colour, and factor to -127.5..=127.5.
    chroma: (f32, f32),
}

impl Converter {
    /// # Errors
    /// When the colours are of a kind that is not supported.
    pub(super) fn of(signal: Signal, bits: u8) -> Result<Self> {
        let unit = f32::from(1_u16 << (bits - 8));
        let whole = f32::from(u16::MAX >> (16 - bits));
        let matrix = Matrix::of(signal.matrix)?;
        let middle = 128.0 * unit;
        let (black, luma, chroma) = match signal.is_full {
            true => (0.0, whole, whole),
            false => (16.0 * unit, 219.0 * unit, 224.0 * unit),
        };
        let (neutral, chroma) = match matrix {
            Matrix::Identity => (black, luma),
            Matrix::YCgCo | Matrix::Weights(..) => (middle, chroma),
        };
        Ok(Self {
            matrix,
            luma: (black, 255.0 / luma),
            chroma: (neutral, 255.0 / chroma),
        })
    }

    /// Writes the colours of the pixels from column `from` of row `y`, each at the start of
    /// `channels` samples of `row`.
    pub(super) fn colours(
        &self,
        planes: &Planes,
        y: usize,
        from: usize,
        row: &mut [u8],
        channels: usize,
    ) {
        let luma = &planes.planes[0][y * planes.size.0 + from..];
        let pixels = row.chunks_exact_mut(channels).zip(luma);
        let Sampling::Shared(across, down) = planes.sampling else {
            for (pixel, luma) in pixels {
                let grey = self.light(*luma);
                pixel[..3].fill(grey as u8);
            }
            return;
        };
        let columns = planes.chroma_columns;
        let rows = planes.size.1.div_ceil(down);
        let (near_row, far_row) = neighbours(y, down, rows);
        let (near_row, far_row) = (near_row * columns, far_row * columns);
        let [_, first, second] = &planes.planes;
        for (x, (pixel, luma)) in pixels.enumerate() {
            let (near, far) = neighbours(from + x, across, columns);
            let sample = |plane: &[u16]| match planes.is_smooth {
                false => f32::from(plane[near_row + near]),
                true => {
                    let row =
                        |row| 3.0 * f32::from(plane[row + near]) + f32::from(plane[row + far]);
                    (3.0 * row(near_row) + row(far_row)) / 16.0
                }
            };
            let colour = self.colour(*luma, sample(first), sample(second));
            // Rounded, and cut to the range.
            pixel[..3].copy_from_slice(&colour.map(|sample| (sample + 0.5) as u8));
        }
    }

    /// Writes luma as the fourth of each four samples.
    pub(super) fn alphas(&self, planes: &Planes, y: usize, from: usize, row: &mut [u8]) {
        let luma = &planes.planes[0][y * planes.size.0 + from..];
        for (pixel, luma) in row.chunks_exact_mut(4).zip(luma) {
            pixel[3] = self.light(*luma) as u8;
        }
    }

    /// Luma in 0..=255 plus a half.
    fn light(&self, luma: u16) -> f32 {
        (f32::from(luma) - self.luma.0) * self.luma.1 + 0.5
    }

    fn colour(&self, luma: u16, first: f32, second: f32) -> [f32; 3] {
        let y = (f32::from(luma) - self.luma.0) * self.luma.1;
        let [first, second] =
            [first, second].map(|sample| (sample - self.chroma.0) * self.chroma.1);
        match self.matrix {
            Matrix::Identity => [second, y, first],
            Matrix::YCgCo => [y - first + second, y + first, y - first - second],
            Matrix::Weights(red, blue) => {
                let r = y + 2.0 * (1.0 - red) * second;
                let b = y + 2.0 * (1.0 - blue) * first;
                [r, (y - red * r - blue * b) / (1.0 - red - blue), b]
            }
        }
    }
}

/// The sample that a pixel shares with others and the next one on its side of it, which lies three
/// times as far away.
fn neighbours(pixel: usize, shared: usize, count: usize) -> (usize, usize) {
    let near = pixel / shared;
    let far = match (shared, pixel % shared) {
        (1, _) => near,
        (_, 0) => near.saturating_sub(1),
        _ => (near + 1).min(count.saturating_sub(1)),
    };
    (near, far)
}

/// A pixel whose colours were multiplied by its alpha -> as they were before.
pub(super) fn divide(pixel: &mut [u8]) {
    let [colours @ .., alpha] = pixel else {
        return;
    };
    let alpha = u32::from(*alpha).max(1);
    for sample in colours {
        *sample = ((u32::from(*sample) * 255 + alpha / 2) / alpha).min(255) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colour(matrix: u16, is_full: bool, bits: u8, samples: [u16; 3]) -> [u8; 3] {
        let signal = Signal {
            matrix,
            transfer: 13,
            is_full,
        };
        let planes = Planes {
            size: (1, 1),
            planes: samples.map(|sample| vec![sample]),
            chroma_columns: 1,
            is_smooth: false,
            sampling: Sampling::Shared(1, 1),
            bits,
            signal,
        };
        let mut row = [0; 3];
        let converter = Converter::of(signal, bits).unwrap();
        converter.colours(&planes, 0, 0, &mut row, 3);
        row
    }

    #[test]
    fn samples_become_colours() {
        let cases = [
            ((6, true, 8, [76, 85, 255]), [254, 0, 0]),
            ((6, false, 8, [16, 128, 128]), [0; 3]),
            ((6, false, 8, [235, 128, 128]), [255; 3]),
            ((6, false, 8, [255, 128, 128]), [255; 3]),
            ((1, true, 8, [54, 99, 255]), [254, 0, 0]),
            ((1, true, 10, [1023, 512, 512]), [255; 3]),
            ((9, false, 10, [64, 512, 512]), [0; 3]),
            ((9, false, 12, [3760, 2048, 2048]), [255; 3]),
            ((0, true, 8, [10, 20, 30]), [30, 10, 20]),
            ((8, true, 8, [100, 138, 118]), [80, 110, 100]),
        ];
        for ((matrix, is_full, bits, samples), expected) in cases {
            let got = colour(matrix, is_full, bits, samples);
            assert_eq!(got, expected, "{matrix} {is_full} {bits} {samples:?}");
        }
        let constant = Signal {
            matrix: 10,
            transfer: 1,
            is_full: true,
        };
        assert!(Converter::of(constant, 8).is_err());
    }

    #[test]
    fn pixels_that_share_chroma_have_one_colour() {
        let signal = Signal {
            matrix: 6,
            transfer: 13,
            is_full: true,
        };
        let mut planes = Planes {
            size: (4, 2),
            planes: [vec![100; 8], vec![128, 200], vec![128, 90]],
            chroma_columns: 2,
            is_smooth: false,
            sampling: Sampling::Shared(2, 2),
            bits: 8,
            signal,
        };
        let converter = Converter::of(signal, 8).unwrap();
        let mut row = [0; 9];
        converter.colours(&planes, 1, 1, &mut row, 3);
        assert_eq!(row[..3], [100; 3]);
        assert_eq!(row[3..6], row[6..]);
        assert_ne!(row[3..6], [100; 3]);
        planes.is_smooth = true;
        converter.colours(&planes, 1, 1, &mut row, 3);
        // Of red, 38 stand between the samples: a quarter and three of them.
        let reds = [0, 3, 6].map(|at| row[at]);
        assert_eq!(reds, [87, 60, 47]);
    }

    #[test]
    fn premultiplied_colours_are_divided() {
        for (mut pixel, expected) in [
            ([100, 50, 0, 200], [128, 64, 0, 200]),
            ([7, 7, 7, 255], [7, 7, 7, 255]),
            ([0, 0, 0, 0], [0, 0, 0, 0]),
            ([9, 1, 0, 1], [255, 255, 0, 1]),
        ] {
            divide(&mut pixel);
            assert_eq!(pixel, expected);
        }
    }
}
