//! Packed f32 weights kept as f16 or bf16 where that loses nothing: openai/CLIP's were published in
//! f16, and files that hold them in f32 hold the same numbers.
#![allow(unsafe_code, reason = "views packed lanes as halves")]

use std::sync::atomic::{AtomicBool, Ordering};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::buffer::Buffer;
use super::level::{Job, Level, run};
use super::parallel::{Counter, region, threads_for};
use super::simd::Simd;

/// The type that packed f32 weights are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    F16,
    Bf16,
}

/// Whether all values seen so far are exact in a half.
pub(super) struct Exact {
    f16: AtomicBool,
    bf16: AtomicBool,
}

impl Exact {
    /// Nothing seen.
    pub(super) fn new() -> Exact {
        Exact {
            f16: AtomicBool::new(true),
            bf16: AtomicBool::new(true),
        }
    }

    /// Looks at more values.
    #[inline(always)]
    pub(super) fn see(&self, values: &[f32]) {
        if self.f16.load(Ordering::Relaxed) && !values.iter().all(|x| is_f16(*x)) {
            self.f16.store(false, Ordering::Relaxed);
        }
        if self.bf16.load(Ordering::Relaxed) && !values.iter().all(|x| x.to_bits() << 16 == 0) {
            self.bf16.store(false, Ordering::Relaxed);
        }
    }

    /// The half that holds all values, if one does.
    pub(super) fn half(&self) -> Option<Half> {
        if self.f16.load(Ordering::Relaxed) {
            Some(Half::F16)
        } else if self.bf16.load(Ordering::Relaxed) {
            Some(Half::Bf16)
        } else {
            None
        }
    }
}

/// Whether a value is the same in f16.
#[inline(always)]
fn is_f16(x: f32) -> bool {
    let (bits, exponent) = (x.to_bits(), x.to_bits() >> 23 & 0xff);
    // Ten bits of mantissa, and the exponent of a normal f16; zeros, denormals and NaN are rarer.
    bits & 0x1fff == 0 && (113..=142).contains(&exponent)
        || f16::from_f32(x).to_f32().to_bits() == bits
}

impl Half {
    /// `lanes`, filled, in half the memory.
    pub(super) fn halved(self, lanes: &Buffer, count: usize) -> Buffer {
        /// Values that a thread converts at a time.
        const SHARE: usize = 1 << 16;
        let halves = Buffer::new(count.div_ceil(2));
        let shares = Counter::new(count.div_ceil(SHARE));
        region(threads_for(count), &|| {
            while let Some(share) = shares.take(1) {
                let first = share.start * SHARE;
                let length = SHARE.min(count - first);
                // SAFETY: inside both buffers; the counter gives each share to one thread.
                let (from, to) = unsafe {
                    (
                        std::slice::from_raw_parts(lanes.pointer().add(first), length),
                        halves.pointer().cast::<u16>().add(first),
                    )
                };
                // SAFETY: as above; a half is 16 bits, any of which are valid.
                unsafe {
                    match self {
                        Half::F16 => std::slice::from_raw_parts_mut(to.cast::<f16>(), length)
                            .convert_from_f32_slice(from),
                        Half::Bf16 => std::slice::from_raw_parts_mut(to.cast::<bf16>(), length)
                            .convert_from_f32_slice(from),
                    }
                }
            }
        });
        halves
    }

    /// Writes `count` halves from `first` on, as f32.
    ///
    /// # Safety
    /// They exist in `halves`; `to` has room for them.
    pub(super) unsafe fn widen(
        self,
        level: Level,
        halves: &Buffer,
        first: usize,
        count: usize,
        to: *mut f32,
    ) {
        // SAFETY: the caller's promises; any bits are a half.
        let (from, to) = unsafe {
            (
                std::slice::from_raw_parts(halves.pointer().cast::<u16>().add(first), count),
                std::slice::from_raw_parts_mut(to, count),
            )
        };
        let half = self;
        run(level, Widen { half, from, to });
    }
}

struct Widen<'a> {
    half: Half,
    from: &'a [u16],
    to: &'a mut [f32],
}

impl Job for Widen<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        if self.half == Half::Bf16 {
            for (to, from) in self.to.iter_mut().zip(self.from) {
                *to = f32::from_bits(u32::from(*from) << 16);
            }
            return;
        }
        let whole = self.from.len() / V::LANES * V::LANES;
        for at in (0..whole).step_by(V::LANES) {
            // SAFETY: whole vectors of both; the dispatcher vouches for the CPU.
            unsafe { V::load_f16(self.from[at..].as_ptr()).store(self.to[at..].as_mut_ptr()) };
        }
        for (to, from) in self.to[whole..].iter_mut().zip(&self.from[whole..]) {
            *to = f16::from_bits(*from).to_f32();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{levels, randoms};

    #[test]
    fn exact_values_come_back_to_the_bit() {
        let odd = [
            0.0,
            -0.0,
            1e-7,
            6e-8,
            65_504.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
        ];
        let values = randoms(1, 200_001).into_iter().chain(odd);
        let values: Vec<f32> = values.map(|x| f16::from_f32(x).to_f32()).collect();
        let short: Vec<f32> = values
            .iter()
            .map(|x| bf16::from_f32(*x * 1e30).to_f32())
            .collect();
        for (values, expected) in [(values, Half::F16), (short, Half::Bf16)] {
            let exact = Exact::new();
            exact.see(&values);
            assert_eq!(exact.half(), Some(expected));
            let lanes = Buffer::new(values.len());
            // SAFETY: room for all values.
            unsafe { std::ptr::copy(values.as_ptr(), lanes.pointer(), values.len()) };
            let halves = expected.halved(&lanes, values.len());
            for level in levels() {
                let mut back = vec![1.0; values.len() - 3];
                // SAFETY: both hold so many.
                unsafe { expected.widen(level, &halves, 3, back.len(), back.as_mut_ptr()) };
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert!(bits(&back) == bits(&values[3..]), "{expected:?} {level:?}");
            }
        }
    }

    #[test]
    fn a_single_value_that_would_change_keeps_all_in_f32() {
        for odd in [1.000_1, 1e-8, 65_505.0, 1.234_567_8e-30] {
            let exact = Exact::new();
            exact.see(&[1.0, 0.5]);
            exact.see(&[2.0, odd]);
            assert_eq!(exact.half(), None, "{odd}");
        }
    }
}
