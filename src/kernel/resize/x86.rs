//! Resampling for x86-64; both widths work the same way. A step covers a few taps of three
//! channels: bytes are shuffled so that each 32-bit lane holds neighbouring taps of one channel
//! (four lanes: R, G, B, nothing), and multiplied with weights laid out the same way, split into
//! digits that the instruction accepts. Sums by digit are shifted into place and the lanes of a
//! channel added at the end.

use std::arch::x86_64::*;
use std::array::from_fn;

use super::{HALF, Taps, WEIGHT_BITS, vertical_body};

/// Rows processed at once, to load each weight once for all of them.
const GROUP: usize = 4;
/// Taps per step of 512 bits.
const WIDE: usize = 16;
/// Taps per step of 256 bits.
const NARROW: usize = 4;

/// The bytes of 16 weights for `dpbusd`, lowest first: `[digit, 4 taps, 4 channels, 4 taps]`.
#[derive(Clone)]
#[repr(align(64))]
pub(super) struct Bytes([[i8; 64]; 3]);

/// The halves of 4 weights for `madd`, lower first: `[half, 2 taps, 4 channels, 2 taps]`.
#[derive(Clone)]
#[repr(align(32))]
pub(super) struct Halves([[i16; 16]; 2]);

#[target_feature(enable = "avx2")]
pub(super) fn vertical_256(image: &[u8], columns: usize, taps: &Taps, out: &mut [u8]) {
    vertical_body(image, columns, taps, out);
}

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn vertical_512(image: &[u8], columns: usize, taps: &Taps, out: &mut [u8]) {
    vertical_body(image, columns, taps, out);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni,avx2")]
pub(super) fn horizontal_512(
    image: &[u8],
    row_bytes: usize,
    taps: &Taps,
    weights: &[Bytes],
    out: &mut [u8],
) {
    let steps = taps.stride.div_ceil(WIDE);
    let order: [u8; 64] = from_fn(|i| {
        let (quad, channel, tap) = (i / 16, i / 4 % 4, i % 4);
        ((quad * 4 + tap) * 3 + channel.min(2)) as u8
    });
    // SAFETY: the array has the loaded size.
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
                // SAFETY: the arrays have the loaded size.
                let digits = digits
                    .each_ref()
                    .map(|digit| unsafe { _mm512_load_si512(digit.as_ptr().cast()) });
                for (sums, row) in sums.iter_mut().zip(&rows) {
                    let samples = &row[read.clone()];
                    // SAFETY: the mask keeps the load inside the slice.
                    let samples = unsafe { _mm512_maskz_loadu_epi8(mask, samples.as_ptr().cast()) };
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
pub(super) fn horizontal_256(
    image: &[u8],
    row_bytes: usize,
    taps: &Taps,
    weights: &[Halves],
    out: &mut [u8],
) {
    let steps = taps.stride.div_ceil(NARROW);
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
    // SAFETY: the array has the loaded size.
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
                // SAFETY: the arrays have the loaded size.
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

/// Four rows from `first` on; past the last row, the last one is repeated. A row's slice extends to
/// the end of the image, so that a load may run over the row's end.
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

/// Rounds and clamps the sums of four rows to bytes, `[4 rows, 4 channels]`.
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
    // SAFETY: the array has the stored size.
    unsafe { _mm_storeu_si128(pixels.as_mut_ptr().cast(), packed) };
    pixels
}

/// Writes a pixel into each existing row of the group.
#[inline(always)]
fn store(pixels: &[u8; 16], out: &mut [u8], first: usize, output: usize, outputs: usize) {
    let rows = out[first * outputs * 3..].chunks_exact_mut(outputs * 3);
    for (row, pixel) in rows.zip(pixels.chunks_exact(4)) {
        row[output * 3..][..3].copy_from_slice(&pixel[..3]);
    }
}

/// The weights, `[outputs, steps]`.
pub(super) fn bytes_of(taps: &Taps) -> Vec<Bytes> {
    let steps = taps.stride.div_ceil(WIDE);
    let mut all = vec![Bytes([[0; 64]; 3]); taps.starts.len() * steps];
    for output in 0..taps.starts.len() {
        for (tap, weight) in taps.of(output).iter().enumerate() {
            let Bytes(digits) = &mut all[output * steps + tap / WIDE];
            // Signed digits: a negative low digit borrows from the next.
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

/// The weights, `[outputs, steps]`.
pub(super) fn halves_of(taps: &Taps) -> Vec<Halves> {
    let steps = taps.stride.div_ceil(NARROW);
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
