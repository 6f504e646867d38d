//! Numbers of any floating-point type and order, read in blocks of rows.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Result, ensure};
use half::{bf16, f16};

use crate::checkpoint::container::Bytes;

/// Data type of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
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
pub(super) enum Order {
    /// Row by row (C order).
    Rows,
    /// Column by column (Fortran order).
    Columns,
}

/// Layout of a matrix `[rows, dim]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) element: Element,
    pub(super) is_big_endian: bool,
    pub(super) order: Order,
    pub(super) rows: usize,
    pub(super) dim: usize,
}

impl Layout {
    /// The usual layout: little-endian, row by row.
    pub(super) fn plain(element: Element, [rows, dim]: [usize; 2]) -> Self {
        Self {
            element,
            is_big_endian: false,
            order: Order::Rows,
            rows,
            dim,
        }
    }

    /// Size in bytes; `None` if it overflows.
    pub(super) fn bytes(&self) -> Option<usize> {
        let count = self.rows.checked_mul(self.dim)?;
        count.checked_mul(self.element.size())
    }
}

/// Rows and columns of an array; a one-dimensional array is one row.
pub(super) fn rows_and_columns(shape: &[usize]) -> Option<[usize; 2]> {
    match *shape {
        [dim] => Some([1, dim]),
        [rows, dim] => Some([rows, dim]),
        _ => None,
    }
}

/// The mapped numbers of a matrix.
pub(super) struct Numbers {
    bytes: Arc<Bytes>,
    range: Range<usize>,
    pub(super) layout: Layout,
}

impl Numbers {
    /// Fails unless `range` has exactly the length of the numbers.
    pub(super) fn new(bytes: Arc<Bytes>, range: Range<usize>, layout: Layout) -> Result<Self> {
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
    pub(super) fn read(&self, rows: Range<usize>, values: &mut Vec<f64>) {
        let Layout { order, dim, .. } = self.layout;
        values.clear();
        match order {
            Order::Rows => self.run(rows.start * dim, rows.len() * dim, |value| {
                values.push(value);
            }),
            Order::Columns => {
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
        let Layout {
            element,
            is_big_endian,
            ..
        } = self.layout;
        let start = self.range.start + start * element.size();
        let bytes = &self.bytes[start..start + count * element.size()];
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers in the storage order of a layout.
    fn stored(values: &[f32], layout: Layout) -> Vec<u8> {
        let Layout { rows, dim, .. } = layout;
        let place = |at: usize| match layout.order {
            Order::Rows => at,
            Order::Columns => (at % rows) * dim + at / rows,
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
            for order in [Order::Rows, Order::Columns] {
                for is_big_endian in [false, true] {
                    let layout = Layout {
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
        let layout = Layout::plain(Element::F64, [usize::MAX / 4, 512]);
        assert_eq!(layout.bytes(), None);
        assert!(Numbers::new(Arc::new(Bytes::Owned(vec![0; 8])), 0..8, layout).is_err());
    }
}
