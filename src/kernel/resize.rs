//! The two passes of a picture's resampling, in the integer arithmetic of Pillow.
//!
//! Weights are integers with 22 fractional bits, sums begin at one half, and each pass rounds to
//! 8 bits. Sums wrap modulo 2^32, so the order of additions and the way a weight is split into
//! digits do not matter: every level gives the same bytes.
#![allow(unsafe_code, reason = "vector instructions and their loads")]

use std::ops::Range;

/// Fractional bits of a weight: a product of 8 bits, the sign and a bit to spare fill the rest of 32.
pub const WEIGHT_BITS: u32 = 22;

/// One half, with which a sum begins so that cutting off its fraction rounds.
const HALF: i32 = 1 << (WEIGHT_BITS - 1);

/// A little below 2: three signed bytes hold it, and no sensible filter comes near.
const LARGEST_WEIGHT: i32 = (1 << WEIGHT_BITS) / 10 * 19;

/// Rows that a vector routine does at once, to load each weight once for all of them.
const GROUP: usize = 4;

/// Columns of the vertical pass whose sums stay in registers.
const BLOCK: usize = 48;

/// What each output position of an axis is made of.
#[derive(Debug, Clone, Default)]
pub struct Taps {
    /// The first input position of each output, `[outputs]`.
    pub starts: Vec<usize>,
    /// How many input positions follow from there, `[outputs]`.
    pub counts: Vec<usize>,
    /// Their weights, `[outputs, stride]`; those past an output's count are zero.
    pub weights: Vec<i32>,
    /// Weights stored for an output.
    pub stride: usize,
}

impl Taps {
    /// The weights that count, of one output.
    fn of(&self, output: usize) -> &[i32] {
        &self.weights[output * self.stride..][..self.counts[output]]
    }

    /// The input positions that any output needs.
    pub fn reach(&self) -> Range<usize> {
        let ends = self.starts.iter().zip(&self.counts).map(|(s, c)| s + c);
        self.starts.iter().min().copied().unwrap_or(0)..ends.max().unwrap_or(0)
    }

    fn check(&self, inputs: usize) {
        let outputs = self.starts.len();
        assert_eq!(self.counts.len(), outputs, "a count for each output");
        assert_eq!(self.weights.len(), outputs * self.stride, "all weights");
        assert!(
            self.counts.iter().all(|count| *count <= self.stride),
            "no count beyond the weights"
        );
        assert!(self.reach().end <= inputs, "taps inside the picture");
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

/// The instructions to use. All levels give the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Portable code.
    Scalar,
    /// 256-bit multiply-add of 16-bit halves of the weights.
    Avx2,
    /// 512-bit dot products of bytes with the weights' three bytes (VBMI, VNNI).
    Avx512,
}

impl Level {
    /// Whether this processor has the instructions.
    pub fn is_available(self) -> bool {
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

    /// The levels that this processor has, the fastest last.
    pub fn available() -> Vec<Self> {
        let all = [Self::Scalar, Self::Avx2, Self::Avx512];
        all.into_iter()
            .filter(|level| level.is_available())
            .collect()
    }

    /// The fastest level that this processor has.
    pub fn best() -> Self {
        Self::available().pop().unwrap_or(Self::Scalar)
    }
}

/// Resamples the columns of `rows` of an RGB picture: `image` is `[height, width, 3]`, `out` is
/// `[rows, outputs, 3]`.
///
/// # Panics
/// When the lengths of the slices do not agree with `width`, `rows` and `taps`.
pub fn horizontal(
    level: Level,
    (image, width): (&[u8], usize),
    rows: Range<usize>,
    taps: &Taps,
    out: &mut [u8],
) {
    taps.check(width);
    assert!(
        rows.end * width * 3 <= image.len(),
        "rows inside the picture"
    );
    assert_eq!(
        out.len(),
        rows.len() * taps.starts.len() * 3,
        "room for the rows"
    );
    if out.is_empty() {
        return;
    }
    let image = &image[rows.start * width * 3..rows.end * width * 3];
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this processor was just found to have the instructions.
        Level::Avx512 if level.is_available() => unsafe {
            x86::horizontal_512(image, width * 3, taps, out);
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 if level.is_available() => unsafe {
            x86::horizontal_256(image, width * 3, taps, out);
        },
        _ => horizontal_scalar(image, width, taps, out),
    }
}

/// Resamples the rows of samples: `image` is `[height, columns]`, `out` is `[outputs, columns]`.
///
/// # Panics
/// When the lengths of the slices do not agree with `columns` and `taps`.
pub fn vertical(level: Level, image: &[u8], columns: usize, taps: &Taps, out: &mut [u8]) {
    assert_eq!(out.len(), taps.starts.len() * columns, "room for the rows");
    if out.is_empty() {
        return;
    }
    taps.check(image.len() / columns);
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this processor was just found to have the instructions.
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

/// Cuts off the fraction and limits to a byte.
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

/// Plain code that the compiler turns into vectors of whatever width its caller enables.
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

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! Both widths work alike. A step covers a few taps of three channels: bytes are shuffled so
    //! that each 32-bit lane holds neighbouring taps of one channel (four lanes: R, G, B, nothing),
    //! and multiplied with weights laid out the same way, split into digits that the instruction
    //! can take. Sums by digit are shifted into place and the lanes of a channel added at the end.

    use std::arch::x86_64::*;
    use std::array::from_fn;

    use super::{GROUP, HALF, Taps, WEIGHT_BITS, vertical_body};

    /// Taps in a step of 512 bits.
    const WIDE: usize = 16;
    /// Taps in a step of 256 bits.
    const NARROW: usize = 4;

    /// The bytes of 16 weights for `dpbusd`, lowest first: `[digit, 4 taps, 4 channels, 4 taps]`.
    #[derive(Clone)]
    #[repr(align(64))]
    struct Bytes([[i8; 64]; 3]);

    /// The halves of 4 weights for `madd`, lower first: `[half, 2 taps, 4 channels, 2 taps]`.
    #[derive(Clone)]
    #[repr(align(32))]
    struct Halves([[i16; 16]; 2]);

    #[target_feature(enable = "avx2")]
    pub(super) fn vertical_256(image: &[u8], columns: usize, taps: &Taps, out: &mut [u8]) {
        vertical_body(image, columns, taps, out);
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn vertical_512(image: &[u8], columns: usize, taps: &Taps, out: &mut [u8]) {
        vertical_body(image, columns, taps, out);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni,avx2")]
    pub(super) fn horizontal_512(image: &[u8], row_bytes: usize, taps: &Taps, out: &mut [u8]) {
        let steps = taps.stride.div_ceil(WIDE);
        let weights = bytes_of(taps, steps);
        let order: [u8; 64] = from_fn(|i| {
            let (quad, channel, tap) = (i / 16, i / 4 % 4, i % 4);
            ((quad * 4 + tap) * 3 + channel.min(2)) as u8
        });
        // SAFETY: an array of the size that is loaded.
        let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
        let outputs = taps.starts.len();
        for first in (0..image.len() / row_bytes).step_by(GROUP) {
            let rows = group(image, row_bytes, first);
            for output in 0..outputs {
                let begin = taps.starts[output] * 3;
                let end = begin + taps.counts[output] * 3;
                let mut sums = [[_mm512_setzero_si512(); 3]; GROUP];
                let offsets = (begin..end).step_by(WIDE * 3);
                for (at, Bytes(digits)) in offsets.zip(&weights[output * steps..]) {
                    let read = at..end.min(at + WIDE * 3);
                    let mask = u64::MAX >> (64 - read.len());
                    // SAFETY: arrays of the size that is loaded.
                    let digits = digits
                        .each_ref()
                        .map(|digit| unsafe { _mm512_load_si512(digit.as_ptr().cast()) });
                    for (sums, row) in sums.iter_mut().zip(&rows) {
                        let samples = &row[read.clone()];
                        // SAFETY: the mask keeps the load inside the slice.
                        let samples =
                            unsafe { _mm512_maskz_loadu_epi8(mask, samples.as_ptr().cast()) };
                        let samples = _mm512_permutexvar_epi8(order, samples);
                        for (sum, digit) in sums.iter_mut().zip(digits) {
                            *sum = _mm512_dpbusd_epi32(*sum, samples, digit);
                        }
                    }
                }
                let pixels = pack(sums.map(|sums| fold_512(sums)));
                store(&pixels, out, first, output, outputs);
            }
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn horizontal_256(image: &[u8], row_bytes: usize, taps: &Taps, out: &mut [u8]) {
        let steps = taps.stride.div_ceil(NARROW);
        let weights = halves_of(taps, steps);
        let order: [u8; 32] = from_fn(|i| {
            let (pair, channel, tap) = (i / 16, i / 4 % 4, i / 2 % 2);
            let byte = ((pair * 2 + tap) * 3 + channel) as u8;
            // A set high bit gives zero: the upper byte of each 16 bits, and the fourth channel.
            if channel == 3 || i % 2 == 1 {
                0x80
            } else {
                byte
            }
        });
        // SAFETY: an array of the size that is loaded.
        let order = unsafe { _mm256_loadu_si256(order.as_ptr().cast()) };
        let outputs = taps.starts.len();
        for first in (0..image.len() / row_bytes).step_by(GROUP) {
            let rows = group(image, row_bytes, first);
            for output in 0..outputs {
                let begin = taps.starts[output] * 3;
                let end = begin + taps.counts[output] * 3;
                let mut sums = [[_mm256_setzero_si256(); 2]; GROUP];
                let offsets = (begin..end).step_by(NARROW * 3);
                for (at, Halves(halves)) in offsets.zip(&weights[output * steps..]) {
                    // SAFETY: arrays of the size that is loaded.
                    let halves = halves
                        .each_ref()
                        .map(|half| unsafe { _mm256_load_si256(half.as_ptr().cast()) });
                    for (sums, row) in sums.iter_mut().zip(&rows) {
                        let samples = _mm256_broadcastsi128_si256(load_16(row, at));
                        let samples = _mm256_shuffle_epi8(samples, order);
                        for (sum, half) in sums.iter_mut().zip(halves) {
                            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(samples, half));
                        }
                    }
                }
                let pixels = pack(sums.map(|sums| fold_256(sums)));
                store(&pixels, out, first, output, outputs);
            }
        }
    }

    /// Four rows from `first` on; past the last row, the last again. A row's slice goes on to the
    /// end of the picture, so that a load may run over the row's end.
    #[inline(always)]
    fn group(image: &[u8], row_bytes: usize, first: usize) -> [&[u8]; GROUP] {
        let last = image.len() / row_bytes - 1;
        from_fn(|i| &image[last.min(first + i) * row_bytes..])
    }

    /// 16 bytes of `row` from `at` on; zeros past its end.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn load_16(row: &[u8], at: usize) -> __m128i {
        let rest = &row[at..];
        let mut padded = [0; 16];
        let from = if rest.len() >= 16 {
            rest.as_ptr()
        } else {
            padded[..rest.len()].copy_from_slice(rest);
            padded.as_ptr()
        };
        // SAFETY: either 16 bytes of the slice, or the array.
        unsafe { _mm_loadu_si128(from.cast()) }
    }

    /// Joins the digits and adds the four quads of taps: sums of R, G, B, nothing.
    #[inline]
    #[target_feature(enable = "avx512f,avx2")]
    fn fold_512([low, middle, high]: [__m512i; 3]) -> __m128i {
        let high = _mm512_add_epi32(_mm512_slli_epi32::<8>(high), middle);
        let sum = _mm512_add_epi32(_mm512_slli_epi32::<8>(high), low);
        let upper = _mm512_extracti64x4_epi64::<1>(sum);
        let sum = _mm256_add_epi32(_mm512_castsi512_si256(sum), upper);
        let upper = _mm256_extracti128_si256::<1>(sum);
        _mm_add_epi32(_mm256_castsi256_si128(sum), upper)
    }

    /// Joins the halves and adds the two pairs of taps: sums of R, G, B, nothing.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn fold_256([low, high]: [__m256i; 2]) -> __m128i {
        let sum = _mm256_add_epi32(_mm256_slli_epi32::<16>(high), low);
        let upper = _mm256_extracti128_si256::<1>(sum);
        _mm_add_epi32(_mm256_castsi256_si128(sum), upper)
    }

    /// Rounds and limits the sums of four rows to bytes, `[4 rows, 4 channels]`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn pack(sums: [__m128i; GROUP]) -> [u8; 16] {
        let shift = |sum| {
            let sum = _mm_add_epi32(sum, _mm_set1_epi32(HALF));
            _mm_srai_epi32::<{ WEIGHT_BITS as i32 }>(sum)
        };
        let [a, b, c, d] = sums.map(shift);
        let packed = _mm_packus_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d));
        let mut pixels = [0; 16];
        // SAFETY: an array of the size that is stored.
        unsafe { _mm_storeu_si128(pixels.as_mut_ptr().cast(), packed) };
        pixels
    }

    /// Puts a pixel into each of the group's rows that exist.
    #[inline(always)]
    fn store(pixels: &[u8; 16], out: &mut [u8], first: usize, output: usize, outputs: usize) {
        let rows = out[first * outputs * 3..].chunks_exact_mut(outputs * 3);
        for (row, pixel) in rows.zip(pixels.chunks_exact(4)) {
            row[output * 3..][..3].copy_from_slice(&pixel[..3]);
        }
    }

    /// `[outputs, steps]`
    fn bytes_of(taps: &Taps, steps: usize) -> Vec<Bytes> {
        let mut all = vec![Bytes([[0; 64]; 3]); taps.starts.len() * steps];
        for output in 0..taps.starts.len() {
            for (tap, weight) in taps.of(output).iter().enumerate() {
                let Bytes(digits) = &mut all[output * steps + tap / WIDE];
                // Signed digits: a low one that is negative takes one from the next.
                let low = *weight as i8;
                let rest = (weight - i32::from(low)) >> 8;
                let middle = rest as i8;
                let high = ((rest - i32::from(middle)) >> 8) as i8;
                for channel in 0..3 {
                    let at = tap % WIDE / 4 * 16 + channel * 4 + tap % 4;
                    [digits[0][at], digits[1][at], digits[2][at]] = [low, middle, high];
                }
            }
        }
        all
    }

    /// `[outputs, steps]`
    fn halves_of(taps: &Taps, steps: usize) -> Vec<Halves> {
        let mut all = vec![Halves([[0; 16]; 2]); taps.starts.len() * steps];
        for output in 0..taps.starts.len() {
            for (tap, weight) in taps.of(output).iter().enumerate() {
                let Halves(halves) = &mut all[output * steps + tap / NARROW];
                let low = *weight as i16;
                let high = ((weight - i32::from(low)) >> 16) as i16;
                for channel in 0..3 {
                    let at = tap % NARROW / 2 * 8 + channel * 2 + tap % 2;
                    [halves[0][at], halves[1][at]] = [low, high];
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator, so that cases are the same everywhere.
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
                horizontal(level, (&image, width), first..height, &across, &mut wide);
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
    fn sums_are_rounded_and_limited() {
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
                horizontal(level, (&image, 2), 0..1, &taps, &mut out);
                assert_eq!(out, [expected; 3], "{level:?} {taps:?}");
                vertical(level, &image, 3, &taps, &mut out);
                assert_eq!(out, [expected; 3], "{level:?} {taps:?}");
            }
        }
    }
}
