//! NumPy's format: the numbers `[rows, dim]` in C order, and `NAME.paths.jsonl` next to them with
//! one object per row.
//!
//! Two files cannot appear atomically. Each row's object therefore has the CRC-32 of its
//! embedding's bytes, which shows a reader whether the two belong together, and the numbers appear
//! last: new numbers are never without their names.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{About, Dtype, Line, Rows, push_values, visit_rows};
use crate::output::file::AtomicFile;

/// The file of the row names: `X.paths.jsonl` for `X.npy`.
#[must_use]
pub fn sidecar_of(path: &Path) -> PathBuf {
    path.with_extension("paths.jsonl")
}

pub(super) fn write(path: &Path, about: &About, rows: &dyn Rows) -> Result<()> {
    let (numbers, names) = (
        AtomicFile::create_alone(path)?,
        AtomicFile::create_alone(&sidecar_of(path))?,
    );
    let (mut numbers_sink, mut names_sink) = (numbers.sink()?, names.sink()?);
    let writing = || format!("cannot write {}", path.display());
    numbers_sink
        .write_all(&header(rows.rows(), about))
        .with_context(writing)?;
    let mut bytes = Vec::with_capacity(about.dim * about.dtype.size());
    visit_rows(rows, |row, embedding| {
        bytes.clear();
        push_values(&mut bytes, embedding, about.dtype);
        let line = Line::of_row(row)
            .with_crc32(crc32fast::hash(&bytes))
            .with(about);
        numbers_sink.write_all(&bytes).with_context(writing)?;
        names_sink
            .write_all(&line.to_bytes()?)
            .with_context(writing)
    })?;
    numbers_sink.flush().with_context(writing)?;
    names_sink.flush().with_context(writing)?;
    // Synced to disk before the old pair is touched: a full disk leaves the old one, and a kill
    // between the renames leaves the numbers in FILE.writing, which --resume moves into place.
    numbers.sync()?;
    names.sync()?;
    names.commit()?;
    numbers.commit()
}

/// Version 1.0 of the header, padded so that the numbers begin at a multiple of 64.
fn header(rows: usize, about: &About) -> Vec<u8> {
    let descr = match about.dtype {
        Dtype::F32 => "<f4",
        Dtype::F16 => "<f2",
    };
    let mut text = format!(
        "{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {}), }}",
        about.dim
    );
    const START: usize = 10;
    let whole = (START + text.len() + 1).next_multiple_of(64);
    let padding = whole - START - text.len() - 1;
    text.extend(std::iter::repeat_n(' ', padding));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    // At most two numbers of 20 digits: always below 256.
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.into_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::testing::about;
    use super::*;

    #[test]
    fn the_header_is_what_numpy_writes() {
        let about = about(Kind::Images, 512);
        let bytes = header(3, &about);
        assert_eq!(bytes.len(), 128);
        // numpy.lib.format.write_array_header_1_0 for float32 (3, 512).
        let expected = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3, 512), }";
        assert_eq!(&bytes[..expected.len()], expected);
        assert!(bytes[expected.len()..127].iter().all(|byte| *byte == b' '));
        assert_eq!(bytes[127], b'\n');
        for rows in [0, 1, usize::MAX] {
            let bytes = header(rows, &about);
            assert_eq!(bytes.len() % 64, 0);
            assert_eq!(usize::from(bytes[8]) + 10, bytes.len());
        }
    }
}
