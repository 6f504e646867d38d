//! A tensor as stored in a file: element type, shape, strides and a byte range.
//!
//! Construction checks every index it can produce against its storage, so
//! reading need not trust the file.

#![allow(
    clippy::indexing_slicing,
    reason = "a view's range and strides are checked against its bytes when it is made; the loops \
              over them are the hot part of loading"
)]

mod read;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use crate::file::mapped::Bytes;

pub use read::Dtype;

/// Maximum dimensions of a tensor; CLIP needs four.
const MAX_DIMENSIONS: usize = 16;

/// Maximum elements of an expanded view (stride 0) beyond what its storage holds.
const MAX_EXPANDED: usize = 1 << 24;

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
    /// A view of `storage`: element (i, j, ...) lies at `offset + i*strides[0] + j*strides[1] +
    /// ...`.
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

    /// A tensor whose shape is known but which fails when read.
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

    /// A row-major tensor over its own bytes.
    pub(super) fn contiguous(dtype: Dtype, storage: Storage, shape: Vec<usize>) -> Result<Self> {
        count(&shape)?;
        let strides = contiguous_strides(&shape);
        Self::new(dtype, storage, 0, shape, strides)
    }

    /// An f32 tensor of row-major `values`; fails if their count does not match `shape`.
    pub(crate) fn from_f32(shape: &[usize], values: Vec<f32>) -> Result<Self> {
        let mut bytes = vec![0; values.len() * 4];
        for (bytes, value) in bytes.chunks_exact_mut(4).zip(&values) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        Self::from_f32_bytes(shape, bytes)
    }

    /// A tensor with a known shape but no data; it fails when read.
    pub(crate) fn shape_only(shape: Vec<usize>) -> Result<Self> {
        Self::unsupported("values that were not read", shape)
    }

    /// An f32 tensor of row-major values, little endian; fails if their count does not match
    /// `shape`.
    pub(crate) fn from_f32_bytes(shape: &[usize], bytes: Vec<u8>) -> Result<Self> {
        let elements = count(shape)?;
        ensure!(
            elements * 4 == bytes.len(),
            "shape {shape:?} holds {elements} elements, not {}",
            bytes.len() / 4
        );
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

    /// Whether the elements are floating-point numbers that can be read.
    pub(crate) fn is_float(&self) -> bool {
        matches!(
            self.dtype,
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16
        )
    }

    /// `[rows, columns] -> [columns, rows]`, without copying; fails unless 2-D.
    pub fn transpose(&self) -> Result<Self> {
        ensure!(
            self.shape.len() == 2,
            "shape {:?} has {} dimensions; only two-dimensional tensors can be transposed",
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

    /// Lets the system reclaim the memory of the whole storage that this tensor views, if it is
    /// part of a mapped file. Reading it again reads the file again.
    pub(crate) fn release(&self) {
        self.storage.release();
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
}

/// The number of elements in `shape`, unless it overflows.
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

/// Bytes shared by tensors: a range of a file's bytes.
#[derive(Clone)]
pub(in crate::checkpoint::container) struct Storage {
    bytes: Arc<Bytes>,
    range: Range<usize>,
}

impl Storage {
    /// `range` of `bytes`; `None` when it does not lie inside.
    pub(in crate::checkpoint::container) fn new(
        bytes: &Arc<Bytes>,
        range: Range<usize>,
    ) -> Option<Self> {
        bytes.get(range.clone())?;
        let bytes = Arc::clone(bytes);
        Some(Self { bytes, range })
    }

    /// The first `length` bytes; `None` when there are fewer.
    pub(in crate::checkpoint::container) fn first(&self, length: usize) -> Option<Self> {
        let end = self.range.start.checked_add(length)?;
        let range = self.range.start..end;
        let bytes = Arc::clone(&self.bytes);
        (end <= self.range.end).then_some(Self { bytes, range })
    }

    /// How many bytes there are.
    pub(in crate::checkpoint::container) fn length(&self) -> usize {
        self.range.len()
    }

    pub(super) fn owned(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        let bytes = Arc::new(Bytes::Owned(bytes));
        Self { bytes, range }
    }

    /// See [`Bytes::release`].
    pub(super) fn release(&self) {
        self.bytes.release(self.range.clone());
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [3, 2]: 0 1 / 2 3 / 4 5.
    fn six() -> StoredTensor {
        StoredTensor::from_f32(&[3, 2], (0..6u8).map(f32::from).collect()).unwrap()
    }

    #[test]
    fn views_share_bytes_and_give_the_right_elements() {
        let six = six();
        let turned = six.transpose().unwrap();
        let cases = [
            (six.clone(), vec![3, 2], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
            (
                turned.clone(),
                vec![2, 3],
                vec![0.0, 2.0, 4.0, 1.0, 3.0, 5.0],
            ),
            (
                six.narrow(1, 2).unwrap(),
                vec![2, 2],
                vec![2.0, 3.0, 4.0, 5.0],
            ),
            (six.narrow(3, 0).unwrap(), vec![0, 2], vec![]),
            (
                turned.narrow(1, 1).unwrap(),
                vec![1, 3],
                vec![1.0, 3.0, 5.0],
            ),
            (
                six.reshape(&[6]).unwrap(),
                vec![6],
                vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
            ),
            (
                turned.reshape(&[3, 2]).unwrap(),
                vec![3, 2],
                vec![0.0, 2.0, 4.0, 1.0, 3.0, 5.0],
            ),
            (
                turned.narrow(1, 1).unwrap().reshape(&[3]).unwrap(),
                vec![3],
                vec![1.0, 3.0, 5.0],
            ),
        ];
        for (tensor, shape, values) in cases {
            assert_eq!(tensor.shape(), shape);
            assert_eq!(tensor.to_f32().unwrap(), values, "{shape:?}");
            assert_eq!(tensor.elements(), values.len());
        }
        let whole = six.contiguous_bytes().unwrap();
        let part = six.narrow(1, 1).unwrap();
        assert_eq!(
            part.contiguous_bytes().unwrap().as_ptr(),
            whole[8..].as_ptr()
        );
        assert_eq!(turned.contiguous_bytes(), None);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let six = six();
        let scalar = StoredTensor::from_f32(&[], vec![1.5]).unwrap();
        let cases = [
            (
                StoredTensor::from_f32(&[2, 2], vec![0.0; 3]),
                "holds 4 elements, not 3",
            ),
            (
                StoredTensor::from_f32(&[usize::MAX, 2], vec![]),
                "more elements than memory",
            ),
            (six.narrow(2, 2), "do not lie in the 3 rows"),
            (six.narrow(usize::MAX, 2), "do not lie in the 3 rows"),
            (scalar.narrow(0, 1), "a scalar has no rows"),
            (scalar.transpose(), "0 dimensions"),
            (six.reshape(&[4]), "6 elements against 4"),
            (six.reshape(&[usize::MAX, 3]), "more elements than memory"),
        ];
        for (result, expected) in cases {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let error = six.copy_row_f32(3, &mut [0.0; 2]).unwrap_err().to_string();
        assert!(error.contains("row 3 of a tensor with 3 rows"), "{error}");
        let error = six.copy_row_f32(0, &mut [0.0; 3]).unwrap_err().to_string();
        assert!(error.contains("has 2 elements, not 3"), "{error}");
        let mut value = [0.0];
        scalar.copy_row_f32(0, &mut value).unwrap();
        assert_eq!(value, [1.5]);
    }

    #[test]
    fn an_empty_tensor_may_have_any_strides() {
        let storage = Storage::owned(Vec::new());
        let shape = vec![0, 3];
        let tensor = StoredTensor::new(Dtype::F32, storage, 9, shape, vec![1 << 62; 2]).unwrap();
        assert_eq!(tensor.to_f32().unwrap(), [0.0; 0]);
        assert_eq!(tensor.contiguous_bytes(), Some(&[][..]));
        assert_eq!(tensor.transpose().unwrap().to_f32().unwrap(), [0.0; 0]);
        assert_eq!(tensor.reshape(&[3, 0, 7]).unwrap().shape(), [3, 0, 7]);
        assert_eq!(tensor.first_non_finite(), None);
    }
}
