//! Numbers of any floating-point type and order, read in blocks of rows, and the selection of the
//! matrix in a file with several named arrays (NumPy's .npz, safetensors).

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ::safetensors::Dtype as FileDtype;
use anyhow::{Context as _, Result, bail, ensure};
use half::{bf16, f16};

use crate::checkpoint::container::{Bytes, MemberContent, Zip};
use crate::embedding::check_dim;
use crate::embedding::npy::{HEAD_BYTES, Header};
use crate::embedding::read::{header, map, tensor_range};
use crate::input::text_file::column::first_few;

/// Data type of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::embedding) enum Element {
    F16,
    Bf16,
    F32,
    F64,
}

impl Element {
    fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

/// Order of the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::embedding) enum StorageOrder {
    /// Row by row (C order).
    Rows,
    /// Column by column (Fortran order).
    Columns,
}

/// Layout of a matrix `[rows, dim]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::embedding) struct MatrixLayout {
    pub(in crate::embedding) element: Element,
    pub(in crate::embedding) is_big_endian: bool,
    pub(in crate::embedding) order: StorageOrder,
    pub(in crate::embedding) rows: usize,
    pub(in crate::embedding) dim: usize,
}

impl MatrixLayout {
    /// The usual layout: little-endian, row by row.
    pub(in crate::embedding) fn plain(element: Element, [rows, dim]: [usize; 2]) -> Self {
        Self {
            element,
            is_big_endian: false,
            order: StorageOrder::Rows,
            rows,
            dim,
        }
    }

    /// Size in bytes; `None` if it overflows.
    pub(in crate::embedding) fn bytes(&self) -> Option<usize> {
        let count = self.rows.checked_mul(self.dim)?;
        count.checked_mul(self.element.size())
    }
}

/// Rows and columns of an array; a one-dimensional array is one row.
pub(in crate::embedding) fn rows_and_columns(shape: &[usize]) -> Option<[usize; 2]> {
    match *shape {
        [dim] => Some([1, dim]),
        [rows, dim] => Some([rows, dim]),
        _ => None,
    }
}

/// The mapped numbers of a matrix.
pub(in crate::embedding) struct Numbers {
    bytes: Arc<Bytes>,
    range: Range<usize>,
    pub(in crate::embedding) layout: MatrixLayout,
}

impl Numbers {
    /// Fails unless `range` has exactly the length of the numbers.
    pub(in crate::embedding) fn new(
        bytes: Arc<Bytes>,
        range: Range<usize>,
        layout: MatrixLayout,
    ) -> Result<Self> {
        ensure!(
            layout.bytes() == Some(range.len()) && bytes.get(range.clone()).is_some(),
            "the header states {} rows of {} numbers, but {} bytes follow; the file is damaged",
            layout.rows,
            layout.dim,
            range.len()
        );
        Ok(Self {
            bytes,
            range,
            layout,
        })
    }

    /// Reads some rows, which must exist, into `values`, `[rows, dim]`.
    pub(in crate::embedding) fn read(&self, rows: Range<usize>, values: &mut Vec<f64>) {
        let MatrixLayout { order, dim, .. } = self.layout;
        values.clear();
        match order {
            StorageOrder::Rows => self.run(rows.start * dim, rows.len() * dim, |value| {
                values.push(value);
            }),
            StorageOrder::Columns => {
                values.resize(rows.len() * dim, 0.0);
                for column in 0..dim {
                    let start = column * self.layout.rows + rows.start;
                    let mut place = column;
                    self.run(start, rows.len(), |value| {
                        if let Some(slot) = values.get_mut(place) {
                            *slot = value;
                        }
                        place += dim;
                    });
                }
            }
        }
    }

    /// Passes on `count` numbers from number `start`, in storage order.
    fn run(&self, start: usize, count: usize, take: impl FnMut(f64)) {
        let MatrixLayout {
            element,
            is_big_endian,
            ..
        } = self.layout;
        let start = self.range.start + start * element.size();
        let bytes = self.bytes.get(start..start + count * element.size());
        let bytes = bytes.expect("the range was compared with the layout when it was opened");
        match element {
            Element::F16 => {
                let read = |bytes| f16::from_bits(u16::from_ne_bytes(bytes)).to_f64();
                each(bytes, is_big_endian, read, take);
            }
            Element::Bf16 => {
                let read = |bytes| bf16::from_bits(u16::from_ne_bytes(bytes)).to_f64();
                each(bytes, is_big_endian, read, take);
            }
            Element::F32 => {
                let read = |bytes| f64::from(f32::from_ne_bytes(bytes));
                each(bytes, is_big_endian, read, take);
            }
            Element::F64 => each(bytes, is_big_endian, f64::from_ne_bytes, take),
        }
    }
}

/// Reads numbers of `N` bytes, swapping bytes if the byte order differs from this machine's.
fn each<const N: usize>(
    bytes: &[u8],
    is_big_endian: bool,
    read: impl Fn([u8; N]) -> f64,
    take: impl FnMut(f64),
) {
    let is_native = is_big_endian == cfg!(target_endian = "big");
    let chunks = bytes.as_chunks().0.iter();
    let numbers = chunks.map(|chunk| {
        let mut chunk = *chunk;
        if !is_native {
            chunk.reverse();
        }
        read(chunk)
    });
    numbers.for_each(take);
}

/// Files with more arrays are not files of embeddings.
const MAX_ARRAYS: usize = 4096;

/// Arrays that a message lists at most.
const LISTED: usize = 8;

/// Longer safetensors headers are not those of a file of embeddings.
const LONGEST_HEADER: u64 = 8 << 20;

/// One array of a file: its name, and its layout or why it is not a matrix.
struct Array {
    name: String,
    layout: Result<MatrixLayout>,
    /// Whether it has rows and columns, not a single dimension.
    is_matrix: bool,
}

impl Array {
    fn shown(&self) -> String {
        match &self.layout {
            Ok(layout) => format!("{} ({} x {})", self.name, layout.rows, layout.dim),
            Err(error) => format!("{} ({error:#})", self.name),
        }
    }
}

/// Opens the array `wanted` of the .npz file at `path`, or its only matrix.
pub(super) fn npz(path: &Path, wanted: Option<&str>) -> Result<Numbers> {
    let bytes = map(path)?;
    let zip = Zip::open(&bytes)?;
    let mut names: Vec<&str> = zip.names().collect();
    names.sort_unstable();
    ensure!(
        names.len() <= MAX_ARRAYS,
        "it lists {} members; a file of embeddings has a few",
        names.len()
    );
    let arrays = names.iter().filter_map(|member| {
        let name = member.strip_suffix(".npy")?.to_owned();
        let head = zip.head(member, HEAD_BYTES);
        let layout = head
            .and_then(|head| Header::read(&head))
            .map(|header| header.layout);
        Some(Array {
            name,
            is_matrix: layout.as_ref().is_ok_and(|layout| layout.rows != 1),
            layout,
        })
    });
    let (name, _) = choose(path, arrays.collect(), wanted)?;
    let content = match zip.content(&format!("{name}.npy"))? {
        MemberContent::Stored(range) => (Arc::clone(&bytes), range),
        MemberContent::Inflated(content) => {
            let range = 0..content.len();
            (Arc::new(Bytes::Owned(content)), range)
        }
    };
    let (bytes, range) = content;
    let found = Header::read(bytes.get(range.clone()).unwrap_or_default())?;
    let start = range.start + found.length;
    Numbers::new(bytes, start..range.end, found.layout)
}

/// Opens the tensor `wanted` of the safetensors file at `path`, or its only matrix.
pub(super) fn safetensors(path: &Path, wanted: Option<&str>) -> Result<Numbers> {
    let bytes = map(path)?;
    let (length, directory) = header(&bytes, LONGEST_HEADER)?;
    let mut tensors: Vec<_> = directory.tensors().into_iter().collect();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    let arrays = tensors.iter().map(|(name, info)| Array {
        name: name.clone(),
        layout: layout(info.dtype, &info.shape),
        is_matrix: info.shape.len() == 2,
    });
    let (name, layout) = choose(path, arrays.collect(), wanted)?;
    let info = tensors.iter().find(|(known, _)| *known == name);
    let (_, info) = info.context("the tensor is not there")?;
    let range = tensor_range(length, info)?;
    Numbers::new(bytes, range, layout)
}

fn layout(dtype: FileDtype, shape: &[usize]) -> Result<MatrixLayout> {
    let element = match dtype {
        FileDtype::F16 => Element::F16,
        FileDtype::BF16 => Element::Bf16,
        FileDtype::F32 => Element::F32,
        FileDtype::F64 => Element::F64,
        other => bail!("of type {other:?}; embeddings are F16, BF16, F32 or F64"),
    };
    let shape = rows_and_columns(shape)
        .with_context(|| format!("of shape {shape:?}; embeddings have rows and columns"))?;
    check_dim(shape[1])?;
    Ok(MatrixLayout::plain(element, shape))
}

/// The array `wanted`, else the only one that is a matrix, else the only one of a single dimension.
fn choose(path: &Path, arrays: Vec<Array>, wanted: Option<&str>) -> Result<(String, MatrixLayout)> {
    let path = path.display();
    let listed = |arrays: &[&Array]| {
        let shown: Vec<String> = arrays.iter().map(|array| array.shown()).collect();
        first_few(&shown, LISTED)
    };
    if let Some(wanted) = wanted {
        let Some(array) = arrays.iter().position(|array| array.name == wanted) else {
            let all: Vec<&Array> = arrays.iter().collect();
            bail!("it has no array {wanted:?}, but has {}", listed(&all));
        };
        let array = arrays.into_iter().nth(array).context("no such array")?;
        let layout = array
            .layout
            .with_context(|| format!("the array {wanted:?}"))?;
        return Ok((array.name, layout));
    }
    let readable = |array: &&Array| array.layout.is_ok();
    let mut found: Vec<&Array> = arrays.iter().filter(readable).collect();
    if found.iter().any(|array| array.is_matrix) {
        found.retain(|array| array.is_matrix);
    }
    match found[..] {
        [array] => {
            let layout = array
                .layout
                .as_ref()
                .map_err(|error| anyhow::anyhow!("{error:#}"))?;
            Ok((array.name.clone(), *layout))
        }
        [] => {
            let all: Vec<&Array> = arrays.iter().collect();
            ensure!(!all.is_empty(), "it holds no arrays");
            bail!("it has no matrix of embeddings, but has {}", listed(&all))
        }
        [first, ..] => bail!(
            "it holds several matrices, {}; name one of them, such as {path}:{}",
            listed(&found),
            first.name
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers in the storage order of a layout.
    fn stored(values: &[f32], layout: MatrixLayout) -> Vec<u8> {
        let MatrixLayout { rows, dim, .. } = layout;
        let place = |at: usize| match layout.order {
            StorageOrder::Rows => at,
            StorageOrder::Columns => (at % rows) * dim + at / rows,
        };
        let bytes = |value: f32| {
            let mut bytes = match layout.element {
                Element::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
                Element::Bf16 => bf16::from_f32(value).to_le_bytes().to_vec(),
                Element::F32 => value.to_le_bytes().to_vec(),
                Element::F64 => f64::from(value).to_le_bytes().to_vec(),
            };
            if layout.is_big_endian {
                bytes.reverse();
            }
            bytes
        };
        (0..rows * dim)
            .flat_map(|at| bytes(values[place(at)]))
            .collect()
    }

    #[test]
    fn every_layout_gives_the_same_numbers() {
        // All of them are exact in eight bits of precision.
        let values: Vec<f32> = (0..5 * 3).map(|at| at as f32 * 0.5 - 2.0).collect();
        for element in [Element::F16, Element::Bf16, Element::F32, Element::F64] {
            for order in [StorageOrder::Rows, StorageOrder::Columns] {
                for is_big_endian in [false, true] {
                    let layout = MatrixLayout {
                        element,
                        is_big_endian,
                        order,
                        rows: 5,
                        dim: 3,
                    };
                    let bytes = stored(&values, layout);
                    let length = bytes.len();
                    let bytes = Arc::new(Bytes::Owned(bytes));
                    assert!(Numbers::new(bytes.clone(), 0..length - 1, layout).is_err());
                    assert!(Numbers::new(bytes.clone(), 1..length + 1, layout).is_err());
                    let numbers = Numbers::new(bytes, 0..length, layout).unwrap();
                    let mut read = vec![7.0];
                    for rows in [0..5, 1..3, 4..5, 2..2] {
                        numbers.read(rows.clone(), &mut read);
                        let expected = &values[rows.start * 3..rows.end * 3];
                        let expected: Vec<f64> = expected.iter().map(|v| f64::from(*v)).collect();
                        assert_eq!(read, expected, "{layout:?} {rows:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        let layout = MatrixLayout::plain(Element::F64, [usize::MAX / 4, 512]);
        assert_eq!(layout.bytes(), None);
        assert!(Numbers::new(Arc::new(Bytes::Owned(vec![0; 8])), 0..8, layout).is_err());
    }
}
