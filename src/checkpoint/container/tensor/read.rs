//! The types of a tensor's elements, and reading them as f32, whatever their type and order.

use std::fmt;

use anyhow::{Result, ensure};
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::StoredTensor;

/// Elements that a thread converts before taking the next share.
const PARALLEL_CHUNK: usize = 1 << 18;

impl StoredTensor {
    /// Converts row `row` along dimension 0 (the rest row-major; the one element of a
    /// 1-D row or, as row 0, a scalar) into `out`, which must have exactly its length.
    pub fn copy_row_f32(&self, row: usize, out: &mut [f32]) -> Result<()> {
        let rows = self.shape.first().copied().unwrap_or(1);
        ensure!(
            row < rows,
            "row {row} of a tensor with {rows} rows (shape {:?})",
            self.shape
        );
        let length = self.elements / rows;
        ensure!(
            out.len() == length,
            "a row of shape {:?} has {length} elements, not {}",
            self.shape,
            out.len()
        );
        self.fill(row * length, out)
    }

    /// All elements, row-major, as f32; large tensors are converted in parallel.
    ///
    /// Fails for an unsupported element type.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        self.check_readable()?;
        let mut out = vec![0f32; self.elements];
        out.par_chunks_mut(PARALLEL_CHUNK)
            .enumerate()
            .try_for_each(|(chunk, out)| self.fill(chunk * PARALLEL_CHUNK, out))?;
        Ok(out)
    }

    /// Row-major index of the first element that is NaN or infinite as an f32;
    /// `None` when all are finite (as integers are) or the type is unsupported.
    pub fn first_non_finite(&self) -> Option<usize> {
        const EXPONENT: u32 = 0x7f80_0000;
        if !self.is_float() {
            return None;
        }
        let chunk = 4096;
        (0..self.elements.div_ceil(chunk))
            .into_par_iter()
            .find_map_first(|index| {
                let first = index * chunk;
                let mut values = [0f32; 4096];
                let values = &mut values[..chunk.min(self.elements - first)];
                self.fill(first, values).ok()?;
                let largest = values.iter().map(|v| v.to_bits() & EXPONENT).max();
                if largest < Some(EXPONENT) {
                    return None;
                }
                let within = values.iter().position(|v| !v.is_finite())?;
                Some(first + within)
            })
    }

    /// How many elements are NaN or infinite as an f32.
    pub fn count_non_finite(&self) -> u64 {
        if !self.is_float() {
            return 0;
        }
        let chunk = 4096;
        (0..self.elements.div_ceil(chunk))
            .into_par_iter()
            .map(|index| {
                let first = index * chunk;
                let mut values = [0f32; 4096];
                let values = &mut values[..chunk.min(self.elements - first)];
                // What cannot be read holds no numbers.
                match self.fill(first, values) {
                    Ok(()) => values.iter().filter(|v| !v.is_finite()).count() as u64,
                    Err(_) => 0,
                }
            })
            .sum()
    }

    pub(super) fn check_readable(&self) -> Result<()> {
        ensure!(
            self.dtype.size().is_some(),
            "its elements ({}) cannot be read; convert the tensor to float32 and save it again",
            self.dtype
        );
        Ok(())
    }

    /// Converts the elements from row-major index `first` on into `out`.
    fn fill(&self, first: usize, out: &mut [f32]) -> Result<()> {
        match self.dtype {
            Dtype::F64 => self.fill_from::<F64>(first, out),
            Dtype::F32 => self.fill_from::<F32>(first, out),
            Dtype::F16 => self.fill_from::<F16>(first, out),
            Dtype::Bf16 => self.fill_from::<Bf16>(first, out),
            Dtype::I64 => self.fill_from::<I64>(first, out),
            Dtype::I32 => self.fill_from::<I32>(first, out),
            Dtype::I16 => self.fill_from::<I16>(first, out),
            Dtype::I8 => self.fill_from::<I8>(first, out),
            Dtype::U8 => self.fill_from::<U8>(first, out),
            Dtype::Bool => self.fill_from::<Bool>(first, out),
            Dtype::Unsupported(_) => self.check_readable()?,
        }
        Ok(())
    }

    fn fill_from<E: Element>(&self, first: usize, out: &mut [f32]) {
        let bytes = self.storage.as_slice();
        let mut done = 0;
        self.runs(first, out.len(), |run| {
            let out = &mut out[done..done + run.length];
            done += run.length;
            let start = run.start * E::SIZE;
            if run.stride == 1 {
                E::convert(&bytes[start..start + run.length * E::SIZE], out);
                return;
            }
            for (index, value) in out.iter_mut().enumerate() {
                let start = start + index * run.stride * E::SIZE;
                *value = E::read(&bytes[start..start + E::SIZE]);
            }
        });
    }

    /// The elements' bytes, row-major, copied.
    pub(super) fn gather(&self) -> Result<Vec<u8>> {
        self.check_readable()?;
        let size = self.dtype.size().unwrap_or_default();
        let bytes = self.storage.as_slice();
        let mut out = Vec::with_capacity(self.elements * size);
        self.runs(0, self.elements, |run| {
            for index in 0..run.length {
                let start = (run.start + index * run.stride) * size;
                out.extend_from_slice(&bytes[start..start + size]);
            }
        });
        Ok(out)
    }

    /// Splits the row-major elements `first..first + length` into runs of one stride.
    fn runs(&self, first: usize, length: usize, mut visit: impl FnMut(Run)) {
        if length == 0 {
            return; // the strides of an empty tensor are unchecked
        }
        let (outer, run_length, stride) = self.inner_run();
        let mut index = first;
        let end = first + length;
        while index < end {
            let within = index % run_length;
            let mut remainder = index / run_length;
            let mut start = self.offset + within * stride;
            for (&size, &step) in self.shape[..outer].iter().zip(&self.strides[..outer]).rev() {
                start += (remainder % size) * step;
                remainder /= size;
            }
            let length = (run_length - within).min(end - index);
            visit(Run {
                start,
                length,
                stride,
            });
            index += length;
        }
    }

    /// The longest run of trailing dimensions with one stride: how many dimensions lie
    /// outside it, its length and its stride.
    fn inner_run(&self) -> (usize, usize, usize) {
        let mut outer = self.shape.len();
        let (mut length, mut stride) = (1, 1);
        while outer > 0 {
            let (size, step) = (self.shape[outer - 1], self.strides[outer - 1]);
            if size != 1 {
                if length == 1 {
                    stride = step;
                } else if step != length * stride {
                    break;
                }
                length *= size;
            }
            outer -= 1;
        }
        (outer, length, stride)
    }
}

/// Elements at `start`, `start + stride`, ..., `length` of them.
struct Run {
    start: usize,
    length: usize,
    stride: usize,
}

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// 16-bit float of IEEE 754.
    F16,
    /// The upper half of a 32-bit float.
    Bf16,
    /// Signed 64-bit integer.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Signed 16-bit integer.
    I16,
    /// Signed byte.
    I8,
    /// Unsigned byte.
    U8,
    /// A boolean stored as a byte.
    Bool,
    /// A type that is known by name but not supported.
    Unsupported(&'static str),
}

impl Dtype {
    /// Bytes of one element; `None` for an unsupported type.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::F64 | Self::I64 => Some(8),
            Self::F32 | Self::I32 => Some(4),
            Self::F16 | Self::Bf16 | Self::I16 => Some(2),
            Self::I8 | Self::U8 | Self::Bool => Some(1),
            Self::Unsupported(_) => None,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::Bool => "bool",
            Self::Unsupported(name) => name,
        })
    }
}

/// One element type of a file: little endian, of any alignment.
pub(super) trait Element {
    /// Bytes of one element.
    const SIZE: usize;

    /// The element that `bytes` (exactly `SIZE` of them) hold.
    fn read(bytes: &[u8]) -> f32;

    /// Converts `out.len()` adjacent elements; `bytes` is `SIZE` times as long.
    fn convert(bytes: &[u8], out: &mut [f32]) {
        for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(Self::SIZE)) {
            *value = Self::read(bytes);
        }
    }
}

/// The element types of [`Element`], and how to read one.
macro_rules! elements {
    ($($name:ident: $size:literal, $bytes:ident => $value:expr;)*) => {$(
        /// An element type.
        pub(super) struct $name;
        impl Element for $name {
            const SIZE: usize = $size;
            #[inline(always)]
            fn read(bytes: &[u8]) -> f32 {
                let mut $bytes = [0u8; $size];
                $bytes.copy_from_slice(bytes);
                $value
            }
        }
    )*};
}

elements! {
    F64: 8, b => f64::from_le_bytes(b) as f32;
    F32: 4, b => f32::from_le_bytes(b);
    Bf16: 2, b => f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16);
    I64: 8, b => i64::from_le_bytes(b) as f32;
    I32: 4, b => i32::from_le_bytes(b) as f32;
    I16: 2, b => f32::from(i16::from_le_bytes(b));
    I8: 1, b => f32::from(i8::from_le_bytes(b));
    U8: 1, b => f32::from(b[0]);
    Bool: 1, b => f32::from(u8::from(b[0] != 0));
}

/// Half precision, converted with the processor's instruction if it has one.
pub(super) struct F16;

impl Element for F16 {
    const SIZE: usize = 2;

    fn read(bytes: &[u8]) -> f32 {
        f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }

    fn convert(bytes: &[u8], out: &mut [f32]) {
        // The vector routine needs aligned halves, hence a buffer that fits the L1 cache.
        let mut halves = [f16::ZERO; 512];
        for (out, bytes) in out.chunks_mut(512).zip(bytes.chunks(1024)) {
            let halves = &mut halves[..out.len()];
            for (half, bytes) in halves.iter_mut().zip(bytes.chunks_exact(2)) {
                *half = f16::from_le_bytes([bytes[0], bytes[1]]);
            }
            halves.convert_to_f32_slice(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::super::Storage;
    use super::*;

    fn stored(dtype: Dtype, bytes: Vec<u8>) -> StoredTensor {
        let length = bytes.len() / dtype.size().unwrap();
        StoredTensor::contiguous(dtype, Storage::owned(bytes), vec![length]).unwrap()
    }

    #[test]
    fn every_half_converts_as_the_half_crate_says() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let f16s = stored(Dtype::F16, bytes.clone()).to_f32().unwrap();
        let bf16s = stored(Dtype::Bf16, bytes).to_f32().unwrap();
        for bits in 0..=u16::MAX {
            let index = usize::from(bits);
            let pairs = [
                (f16s[index], f16::from_bits(bits).to_f32()),
                (bf16s[index], bf16::from_bits(bits).to_f32()),
            ];
            for (got, expected) in pairs {
                let both_nan = got.is_nan() && expected.is_nan();
                assert!(
                    both_nan || got.to_bits() == expected.to_bits(),
                    "{bits:#06x}"
                );
            }
        }
    }

    #[test]
    fn large_tensors_are_cut_into_shares_without_seams() {
        let (rows, columns) = (1031, 517);
        let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        assert!(values.len() > 2 * PARALLEL_CHUNK);
        let tensor = StoredTensor::from_f32(&[rows, columns], values.clone()).unwrap();
        assert_eq!(tensor.to_f32().unwrap(), values);
        let turned = tensor.transpose().unwrap().to_f32().unwrap();
        for (index, &value) in turned.iter().enumerate() {
            let (column, row) = (index / rows, index % rows);
            assert_eq!(value, values[row * columns + column]);
        }
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_found() {
        for (index, value) in [
            (0, f32::NAN),
            (4095, f32::INFINITY),
            (4096, f32::NEG_INFINITY),
            (9999, f32::NAN),
        ] {
            let mut values = vec![f32::MAX; 10_000];
            values[index] = value;
            values[9999] = f32::NAN;
            let tensor = StoredTensor::from_f32(&[100, 100], values).unwrap();
            assert_eq!(tensor.first_non_finite(), Some(index));
        }
        let doubles = [1.0, -1e300].iter().flat_map(|v: &f64| v.to_le_bytes());
        let beyond_f32 = stored(Dtype::F64, doubles.collect());
        assert_eq!(beyond_f32.first_non_finite(), Some(1));
        let halves = [0x00, 0x3c, 0x00, 0x7c].to_vec();
        assert_eq!(
            stored(Dtype::F16, halves.clone()).first_non_finite(),
            Some(1)
        );
        assert_eq!(stored(Dtype::I16, halves).first_non_finite(), None);
    }
}
