//! Reading a tensor's elements as f32, whatever their type and order.

use anyhow::{Result, ensure};
use rayon::prelude::*;

use super::element::{self, Element};
use super::{Dtype, StoredTensor};

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
            Dtype::F64 => self.fill_from::<element::F64>(first, out),
            Dtype::F32 => self.fill_from::<element::F32>(first, out),
            Dtype::F16 => self.fill_from::<element::F16>(first, out),
            Dtype::Bf16 => self.fill_from::<element::Bf16>(first, out),
            Dtype::I64 => self.fill_from::<element::I64>(first, out),
            Dtype::I32 => self.fill_from::<element::I32>(first, out),
            Dtype::I16 => self.fill_from::<element::I16>(first, out),
            Dtype::I8 => self.fill_from::<element::I8>(first, out),
            Dtype::U8 => self.fill_from::<element::U8>(first, out),
            Dtype::Bool => self.fill_from::<element::Bool>(first, out),
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

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

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
