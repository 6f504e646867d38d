//! Packed tensors -> f32, bit-exact as the format specifies: the f32 product of scale and code.

use anyhow::{Context, Result, ensure};
use half::f16;
use rayon::prelude::*;

use super::packed::{Encoding, Entry, Packed};
use crate::checkpoint::Tensors;
use crate::checkpoint::container::StoredTensor;

/// All tensors of a packed file, all values finite.
pub(super) fn tensors(packed: &Packed) -> Result<Tensors> {
    let entries = packed.header.tensors.par_iter();
    entries
        .map(|entry| {
            let bytes = values(entry, packed.data(entry))
                .with_context(|| format!("tensor {}", entry.name))?;
            let tensor = StoredTensor::from_f32_bytes(&entry.shape, bytes)?;
            Ok((entry.name.clone(), tensor))
        })
        .collect()
}

/// The bytes of a tensor's f32 values; `data` has the length that the encoding requires.
fn values(entry: &Entry, data: &[u8]) -> Result<Vec<u8>> {
    // Untouched zeros cost no memory, and most rows of the token embedding are zeros.
    let mut out = vec![0; 4 * entry.rows() * entry.columns()];
    match entry.encoding {
        Encoding::F32 => {
            let values = data.chunks_exact(4);
            copy(
                values.map(|v| f32::from_le_bytes([v[0], v[1], v[2], v[3]])),
                &mut out,
            )?;
        }
        Encoding::F16 => copy(halves(data), &mut out)?,
        Encoding::Rows => {
            let (scales, codes) = data.split_at(2 * entry.rows());
            scale_rows(scales, codes, 0..entry.rows(), &mut out)?;
        }
        Encoding::SomeRows => {
            let (rows, rest) = data.split_at(2 * entry.stored_rows());
            let (scales, codes) = rest.split_at(rows.len());
            let rows = row_numbers(rows, entry.rows())?;
            scale_rows(scales, codes, rows.into_iter(), &mut out)?;
        }
    }
    Ok(out)
}

fn copy(values: impl Iterator<Item = f32>, out: &mut [u8]) -> Result<()> {
    let mut finite = true;
    for (out, value) in out.chunks_exact_mut(4).zip(values) {
        finite &= value.is_finite();
        out.copy_from_slice(&value.to_le_bytes());
    }
    ensure!(finite, "a value is not finite");
    Ok(())
}

/// Row indices, strictly ascending and below `limit`.
fn row_numbers(bytes: &[u8], limit: usize) -> Result<Vec<usize>> {
    let (pairs, _) = bytes.as_chunks();
    let rows: Vec<usize> = pairs
        .iter()
        .map(|pair| u16::from_le_bytes(*pair).into())
        .collect();
    ensure!(
        rows.is_sorted_by(|a, b| a < b) && rows.last().is_none_or(|last| *last < limit),
        "its row indices do not ascend below {limit}"
    );
    Ok(rows)
}

/// Writes each row's scale times its codes to its place.
fn scale_rows(
    scales: &[u8],
    codes: &[u8],
    rows: impl ExactSizeIterator<Item = usize>,
    out: &mut [u8],
) -> Result<()> {
    let columns = codes.len() / rows.len().max(1);
    let scaled = halves(scales).zip(codes.chunks_exact(columns.max(1)));
    for (row, (scale, codes)) in rows.zip(scaled) {
        ensure!(
            scale.is_finite() && scale > 0.0,
            "the scale of row {row} is {scale}"
        );
        let out = &mut out[4 * row * columns..][..4 * columns];
        for (out, code) in out.chunks_exact_mut(4).zip(codes) {
            // Always finite: the product of an f16 and a byte is far below f32's maximum.
            let value = scale * f32::from(code.cast_signed());
            out.copy_from_slice(&value.to_le_bytes());
        }
    }
    Ok(())
}

fn halves(bytes: &[u8]) -> impl Iterator<Item = f32> {
    let (pairs, _) = bytes.as_chunks();
    pairs.iter().map(|pair| f16::from_le_bytes(*pair).to_f32())
}
