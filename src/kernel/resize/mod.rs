//! The two passes of image resampling, in Pillow's integer arithmetic.
//!
//! Weights are integers with 22 fractional bits, sums start at one half, and each pass rounds to
//! 8 bits. Sums wrap modulo 2^32, so the order of additions and the way a weight is split into
//! digits do not matter: every level gives the same bytes.
#![allow(unsafe_code, reason = "vector instructions and their loads")]

#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

/// Fractional bits of a weight: the 8 bits of a pixel, the sign and a spare bit fill the rest of
/// 32.
pub(crate) const WEIGHT_BITS: u32 = 22;

/// One half, the initial value of a sum, so that truncation rounds.
const HALF: i32 = 1 << (WEIGHT_BITS - 1);

/// Maximum weight, slightly below 2: fits three signed bytes, and no sensible filter comes close.
const LARGEST_WEIGHT: i32 = (1 << WEIGHT_BITS) / 10 * 19;

/// Columns of the vertical pass whose sums stay in registers.
const BLOCK: usize = 48;

/// The filter taps of each output position along an axis.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taps {
    /// The first input position of each output, `[outputs]`.
    pub(crate) starts: Vec<usize>,
    /// The number of input positions from there, `[outputs]`.
    pub(crate) counts: Vec<usize>,
    /// Their weights, `[outputs, stride]`; those past an output's count are zero.
    pub(crate) weights: Vec<i32>,
    /// Weights stored per output.
    pub(crate) stride: usize,
}

impl Taps {
    /// The non-padding weights of one output.
    fn of(&self, output: usize) -> &[i32] {
        &self.weights[output * self.stride..][..self.counts[output]]
    }

    /// The input positions that any output needs.
    pub(crate) fn reach(&self) -> Range<usize> {
        let ends = self.starts.iter().zip(&self.counts).map(|(s, c)| s + c);
        self.starts.iter().min().copied().unwrap_or(0)..ends.max().unwrap_or(0)
    }

    /// The taps of some outputs, in an image without its first `skipped` positions.
    pub(crate) fn part(&self, outputs: Range<usize>, skipped: usize) -> Self {
        let starts = self.starts[outputs.clone()].iter();
        Self {
            starts: starts.map(|start| start - skipped).collect(),
            counts: self.counts[outputs.clone()].to_vec(),
            weights: self.weights[outputs.start * self.stride..outputs.end * self.stride].to_vec(),
            stride: self.stride,
        }
    }

    /// The taps for the mirrored axis of `inputs` positions: the first output becomes the last.
    pub(crate) fn mirrored(self, inputs: usize) -> Self {
        let mut mirrored = Self {
            stride: self.stride,
            ..Self::default()
        };
        for output in (0..self.starts.len()).rev() {
            let count = self.counts[output];
            mirrored.starts.push(inputs - self.starts[output] - count);
            mirrored.counts.push(count);
            mirrored.weights.extend(self.of(output).iter().rev());
            mirrored
                .weights
                .resize(mirrored.starts.len() * self.stride, 0);
        }
        mirrored
    }

    fn check(&self, inputs: usize) {
        let outputs = self.starts.len();
        assert_eq!(self.counts.len(), outputs, "one count per output");
        assert_eq!(
            self.weights.len(),
            outputs * self.stride,
            "`outputs * stride` weights"
        );
        assert!(
            self.counts.iter().all(|count| *count <= self.stride),
            "no count above the stride"
        );
        assert!(self.reach().end <= inputs, "taps inside the image");
        let largest = self
            .weights
            .iter()
            .map(|weight| weight.unsigned_abs())
            .max();
        assert!(
            largest.unwrap_or(0) <= LARGEST_WEIGHT as u32,
            "weights of at most 1.9"
        );
    }
}

/// The instruction set to use. All levels give the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Portable code.
    Scalar,
    /// 256-bit multiply-add of 16-bit halves of the weights.
    Avx2,
    /// 512-bit dot products of bytes with the weights' three bytes (VBMI, VNNI).
    Avx512,
}

impl Level {
    /// Whether this CPU has the instructions.
    pub(crate) fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        let is_available = match self {
            Self::Scalar => true,
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            Self::Avx512 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vbmi")
                    && is_x86_feature_detected!("avx512vnni")
            }
        };
        #[cfg(not(target_arch = "x86_64"))]
        let is_available = self == Self::Scalar;
        is_available
    }

    /// The levels that this CPU supports, the fastest last.
    pub(crate) fn available() -> Vec<Self> {
        let all = [Self::Scalar, Self::Avx2, Self::Avx512];
        all.into_iter()
            .filter(|level| level.is_available())
            .collect()
    }

    /// The fastest level that this CPU supports.
    pub(crate) fn best() -> Self {
        Self::available().pop().unwrap_or(Self::Scalar)
    }
}

/// The taps of a horizontal pass, their weights laid out once for all blocks of rows.
pub(crate) struct Across {
    taps: Taps,
    width: usize,
    weights: Weights,
}

/// Weights as a level reads them, besides those in [`Taps`].
enum Weights {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Halves(Vec<x86::Halves>),
    #[cfg(target_arch = "x86_64")]
    Bytes(Vec<x86::Bytes>),
}

impl Across {
    /// For rows of `width` pixels.
    ///
    /// # Panics
    /// When `taps` do not lie inside such rows.
    pub(crate) fn new(level: Level, taps: Taps, width: usize) -> Self {
        taps.check(width);
        let weights = match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if level.is_available() => Weights::Bytes(x86::bytes_of(&taps)),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 if level.is_available() => Weights::Halves(x86::halves_of(&taps)),
            _ => Weights::Plain,
        };
        Self {
            taps,
            width,
            weights,
        }
    }

    /// Pixels of a resampled row.
    pub(crate) fn outputs(&self) -> usize {
        self.taps.starts.len()
    }

    /// Resamples the columns of an RGB image: `image` is `[rows, width, 3]`, `out` is
    /// `[rows, outputs, 3]`.
    ///
    /// # Panics
    /// When the lengths of the slices do not match.
    pub(crate) fn run(&self, image: &[u8], out: &mut [u8]) {
        let (row, taps) = (self.width * 3, &self.taps);
        assert!(image.len().is_multiple_of(row), "whole rows");
        assert_eq!(
            out.len(),
            image.len() / row * self.outputs() * 3,
            "room for the rows"
        );
        if out.is_empty() {
            return;
        }
        match &self.weights {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: weights are laid out like this only on a CPU with the instructions.
            Weights::Bytes(weights) => unsafe {
                x86::horizontal_512(image, row, taps, weights, out);
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Weights::Halves(weights) => unsafe {
                x86::horizontal_256(image, row, taps, weights, out);
            },
            Weights::Plain => horizontal_scalar(image, self.width, taps, out),
        }
    }
}

/// Resamples the rows of samples: `image` is `[height, columns]`, `out` is `[outputs, columns]`.
///
/// # Panics
/// When the lengths of the slices do not match `columns` and `taps`.
pub(crate) fn vertical(level: Level, image: &[u8], columns: usize, taps: &Taps, out: &mut [u8]) {
    assert_eq!(out.len(), taps.starts.len() * columns, "room for the rows");
    if out.is_empty() {
        return;
    }
    taps.check(image.len() / columns);
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this CPU was just found to have the instructions.
        Level::Avx512 if level.is_available() => unsafe {
            x86::vertical_512(image, columns, taps, out);
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 if level.is_available() => unsafe {
            x86::vertical_256(image, columns, taps, out);
        },
        _ => vertical_body(image, columns, taps, out),
    }
}

/// Truncates the fraction and clamps to a byte.
#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

fn horizontal_scalar(image: &[u8], width: usize, taps: &Taps, out: &mut [u8]) {
    let outputs = taps.starts.len();
    for (row, out) in image
        .chunks_exact(width * 3)
        .zip(out.chunks_exact_mut(outputs * 3))
    {
        let (row, _) = row.as_chunks::<3>();
        let (out, _) = out.as_chunks_mut::<3>();
        for (output, out) in out.iter_mut().enumerate() {
            let mut sums = [HALF; 3];
            for (pixel, weight) in row[taps.starts[output]..].iter().zip(taps.of(output)) {
                for (sum, sample) in sums.iter_mut().zip(pixel) {
                    *sum = sum.wrapping_add(weight.wrapping_mul(i32::from(*sample)));
                }
            }
            *out = sums.map(clip);
        }
    }
}

/// Plain code that the compiler vectorises for the instruction set of its caller.
#[inline(always)]
fn vertical_body(image: &[u8], columns: usize, taps: &Taps, out: &mut [u8]) {
    for (output, out) in out.chunks_exact_mut(columns).enumerate() {
        let rows = &image[taps.starts[output] * columns..];
        let weights = taps.of(output);
        let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
        for (at, block) in blocks.iter_mut().enumerate() {
            let mut sums = [HALF; BLOCK];
            for (row, weight) in rows.chunks_exact(columns).zip(weights) {
                let samples = &row[at * BLOCK..][..BLOCK];
                for (sum, sample) in sums.iter_mut().zip(samples) {
                    *sum = sum.wrapping_add(weight.wrapping_mul(i32::from(*sample)));
                }
            }
            *block = sums.map(clip);
        }
        let done = columns - rest.len();
        for (at, out) in rest.iter_mut().enumerate() {
            let column = rows[done + at..].iter().step_by(columns);
            let terms = column
                .zip(weights)
                .map(|(s, w)| w.wrapping_mul(i32::from(*s)));
            *out = clip(terms.fold(HALF, i32::wrapping_add));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small random generator, so that cases are the same everywhere.
    fn next(state: &mut u64) -> usize {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (*state >> 33) as usize
    }

    fn random_taps(state: &mut u64, inputs: usize, outputs: usize) -> Taps {
        let stride = 1 + next(state) % 70;
        let mut taps = Taps {
            stride,
            ..Taps::default()
        };
        for _ in 0..outputs {
            let start = next(state) % inputs;
            let count = (1 + next(state) % stride).min(inputs - start);
            taps.starts.push(start);
            taps.counts.push(count);
            for tap in 0..stride {
                let weight = next(state) as i32 % (2 * LARGEST_WEIGHT) - LARGEST_WEIGHT;
                let share = weight / (1 + next(state) as i32 % 60);
                taps.weights.push(if tap < count { share } else { 0 });
            }
        }
        taps
    }

    #[test]
    fn all_levels_give_the_same_bytes() {
        let mut state = 11;
        for case in 0..120 {
            let (width, height) = (1 + next(&mut state) % 90, 1 + next(&mut state) % 11);
            let image: Vec<u8> = (0..width * height * 3)
                .map(|_| next(&mut state) as u8)
                .collect();
            let outputs = 1 + next(&mut state) % 40;
            let across = random_taps(&mut state, width, outputs);
            let down = random_taps(&mut state, height, outputs);
            let first = next(&mut state) % height;
            let run = |level| {
                let mut wide = vec![0; (height - first) * outputs * 3];
                let rows = &image[first * width * 3..];
                Across::new(level, across.clone(), width).run(rows, &mut wide);
                let mut tall = vec![0; outputs * width * 3];
                vertical(level, &image, width * 3, &down, &mut tall);
                (wide, tall)
            };
            let expected = run(Level::Scalar);
            for level in Level::available() {
                assert!(run(level) == expected, "{level:?}, case {case}");
            }
        }
    }

    #[test]
    fn sums_are_rounded_and_clamped() {
        let one = 1 << WEIGHT_BITS;
        let cases = [
            (vec![one], 1, 7),
            (vec![one / 2, one / 2], 2, 54),
            (vec![0, one], 2, 100),
            (vec![one / 2 * 3, -one], 2, 0),
            (vec![-one, one / 10 * 19], 2, 183),
            (vec![one / 2 * 3, one / 2 * 3], 2, 161),
            (vec![one / 10 * 19, one / 10 * 19], 2, 203),
        ];
        for (weights, count, expected) in cases {
            let taps = Taps {
                starts: vec![0],
                counts: vec![count],
                stride: weights.len(),
                weights,
            };
            let image = [7, 7, 7, 100, 100, 100];
            for level in Level::available() {
                let mut out = [0; 3];
                Across::new(level, taps.clone(), 2).run(&image, &mut out);
                assert_eq!(out, [expected; 3], "{level:?} {taps:?}");
                vertical(level, &image, 3, &taps, &mut out);
                assert_eq!(out, [expected; 3], "{level:?} {taps:?}");
            }
        }
    }
}
