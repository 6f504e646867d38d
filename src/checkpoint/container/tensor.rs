//! A tensor as a file stores it: element type, shape, strides and a range of bytes.
//!
//! Making one checks every index it can ever produce against its storage, so
//! reading needs no further trust in the file.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;

use super::element::{self, Element};
use super::mapped::Bytes;

/// Dimensions a tensor may have; CLIP needs four.
const MAX_DIMENSIONS: usize = 16;

/// Elements an expanded view (stride 0) may have beyond what its storage holds.
const MAX_EXPANDED: usize = 1 << 24;

/// Elements one thread converts before it takes the next share.
const PARALLEL_CHUNK: usize = 1 << 18;

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
    /// A byte that is zero or not.
    Bool,
    /// A type that is listed by name but cannot be read.
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

/// Bytes that tensors share: a range of a file's bytes.
#[derive(Clone)]
pub(super) struct Storage {
    bytes: Arc<Bytes>,
    range: Range<usize>,
}

impl Storage {
    /// `range` of `bytes`; `None` when it does not lie inside.
    pub(super) fn new(bytes: &Arc<Bytes>, range: Range<usize>) -> Option<Self> {
        bytes.get(range.clone())?;
        let bytes = Arc::clone(bytes);
        Some(Self { bytes, range })
    }

    /// The first `length` bytes; `None` when there are fewer.
    pub(super) fn first(&self, length: usize) -> Option<Self> {
        let end = self.range.start.checked_add(length)?;
        let range = self.range.start..end;
        let bytes = Arc::clone(&self.bytes);
        (end <= self.range.end).then_some(Self { bytes, range })
    }

    /// How many bytes there are.
    pub(super) fn length(&self) -> usize {
        self.range.len()
    }

    fn owned(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        let bytes = Arc::new(Bytes::Owned(bytes));
        Self { bytes, range }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }
}

/// A named tensor's type, shape and place in a file; cheap to clone and to view.
#[derive(Clone)]
pub struct StoredTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    /// In elements, one per dimension.
    strides: Vec<usize>,
    /// In elements, from the storage's start.
    offset: usize,
    elements: usize,
    storage: Storage,
}

impl fmt::Debug for StoredTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.dtype, self.shape)
    }
}

impl StoredTensor {
    /// A view of `storage`: element (i, j, ...) lies at `offset + i*strides[0] + j*strides[1] + ...`.
    ///
    /// Fails when any element lies outside the storage.
    pub(super) fn new(
        dtype: Dtype,
        storage: Storage,
        offset: usize,
        shape: Vec<usize>,
        strides: Vec<usize>,
    ) -> Result<Self> {
        let elements = count(&shape)?;
        ensure!(
            strides.len() == shape.len(),
            "{} strides for {} dimensions",
            strides.len(),
            shape.len()
        );
        let size = dtype
            .size()
            .with_context(|| format!("elements of type {dtype} cannot be read"))?;
        let held = storage.as_slice().len() / size;
        let needed = extent(offset, &shape, &strides, elements)
            .with_context(|| format!("shape {shape:?} reaches beyond any file"))?;
        ensure!(
            needed <= held,
            "shape {shape:?} needs {needed} elements of its storage, which holds {held}"
        );
        ensure!(
            elements <= held.max(MAX_EXPANDED),
            "shape {shape:?} expands {held} stored elements to {elements}"
        );
        Ok(Self {
            dtype,
            shape,
            strides,
            offset,
            elements,
            storage,
        })
    }

    /// A tensor that is listed with its shape but fails when read.
    pub(super) fn unsupported(name: &'static str, shape: Vec<usize>) -> Result<Self> {
        let elements = count(&shape)?;
        Ok(Self {
            dtype: Dtype::Unsupported(name),
            strides: contiguous_strides(&shape),
            shape,
            offset: 0,
            elements,
            storage: Storage::owned(Vec::new()),
        })
    }

    /// A row-major tensor of its own bytes.
    pub(super) fn contiguous(dtype: Dtype, storage: Storage, shape: Vec<usize>) -> Result<Self> {
        count(&shape)?;
        let strides = contiguous_strides(&shape);
        Self::new(dtype, storage, 0, shape, strides)
    }

    /// An f32 tensor of row-major `values`; fails when `shape` does not hold as many.
    pub fn from_f32(shape: &[usize], values: Vec<f32>) -> Result<Self> {
        let elements = count(shape)?;
        ensure!(
            elements == values.len(),
            "shape {shape:?} holds {elements} elements, not {}",
            values.len()
        );
        let mut bytes = vec![0; values.len() * 4];
        for (bytes, value) in bytes.chunks_exact_mut(4).zip(&values) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        Self::contiguous(Dtype::F32, Storage::owned(bytes), shape.to_vec())
    }

    /// The type of the stored elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Sizes of the dimensions, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many elements the shape holds.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Whether the elements are floating-point numbers this program reads.
    pub fn is_float(&self) -> bool {
        matches!(
            self.dtype,
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16
        )
    }

    /// `[rows, columns] -> [columns, rows]`, without copying; fails unless 2-D.
    pub fn transpose(&self) -> Result<Self> {
        ensure!(
            self.shape.len() == 2,
            "shape {:?} has {} dimensions; only two can be transposed",
            self.shape,
            self.shape.len()
        );
        let mut turned = self.clone();
        turned.shape.reverse();
        turned.strides.reverse();
        Ok(turned)
    }

    /// Rows `start..start + length` along dimension 0, without copying.
    pub fn narrow(&self, start: usize, length: usize) -> Result<Self> {
        let Some(&rows) = self.shape.first() else {
            bail!("a scalar has no rows to take");
        };
        ensure!(
            start.checked_add(length).is_some_and(|end| end <= rows),
            "rows {start}.. ({length} of them) do not lie in the {rows} rows of shape {:?}",
            self.shape
        );
        let mut part = self.clone();
        part.shape[0] = length;
        part.elements = count(&part.shape)?;
        if part.elements > 0 {
            part.offset += start * part.strides[0];
        }
        Ok(part)
    }

    /// The same elements in another shape: a view when contiguous, a copy otherwise.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        let elements = count(shape)?;
        ensure!(
            elements == self.elements,
            "shape {:?} cannot become {shape:?}: {} elements against {elements}",
            self.shape,
            self.elements
        );
        let mut reshaped = if self.is_contiguous() {
            self.clone()
        } else {
            let bytes = self.gather()?;
            Self::contiguous(self.dtype, Storage::owned(bytes), self.shape.clone())?
        };
        reshaped.strides = contiguous_strides(shape);
        reshaped.shape = shape.to_vec();
        Ok(reshaped)
    }

    /// The elements' bytes, little endian as stored; `None` unless they lie row-major
    /// and adjacent, and for unsupported types.
    pub fn contiguous_bytes(&self) -> Option<&[u8]> {
        let size = self.dtype.size()?;
        if !self.is_contiguous() {
            return None;
        }
        if self.elements == 0 {
            return Some(&[]);
        }
        self.storage
            .as_slice()
            .get(self.offset * size..(self.offset + self.elements) * size)
    }

    /// Convert row `row` along dimension 0 (the rest row-major; the one element of a
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

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (&size, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if size != 1 && stride != expected && self.elements > 0 {
                return false;
            }
            expected *= size;
        }
        true
    }

    fn check_readable(&self) -> Result<()> {
        ensure!(
            self.dtype.size().is_some(),
            "elements of type {} cannot be read; convert the tensor to float32 and save it again",
            self.dtype
        );
        Ok(())
    }

    /// Convert the elements from row-major index `first` on into `out`.
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
    fn gather(&self) -> Result<Vec<u8>> {
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

    /// Cut the row-major elements `first..first + length` into runs of one stride.
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

    /// The longest tail of dimensions that one stride walks: how many dimensions lie
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

/// How many elements `shape` holds, if that is a number at all.
fn count(shape: &[usize]) -> Result<usize> {
    ensure!(
        shape.len() <= MAX_DIMENSIONS,
        "{} dimensions are more than the {MAX_DIMENSIONS} that weights may have",
        shape.len()
    );
    // Zero sizes must not hide an overflow of the others: strides multiply them too.
    shape
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size.max(1)))
        .filter(|&product| isize::try_from(product).is_ok_and(|p| p < isize::MAX / 8))
        .with_context(|| format!("shape {shape:?} has more elements than memory has bytes"))?;
    Ok(shape.iter().product())
}

fn contiguous_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for index in (1..shape.len()).rev() {
        strides[index - 1] = strides[index] * shape[index].max(1);
    }
    strides
}

/// One past the highest element index a view touches; `None` on overflow.
fn extent(offset: usize, shape: &[usize], strides: &[usize], elements: usize) -> Option<usize> {
    if elements == 0 {
        return Some(0);
    }
    let mut last = offset;
    for (&size, &stride) in shape.iter().zip(strides) {
        last = last.checked_add((size - 1).checked_mul(stride)?)?;
    }
    last.checked_add(1)
}
