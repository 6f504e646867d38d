//! NumPy's format: the numbers `[rows, dim]` in C order, and `NAME.paths.jsonl` next to them with
//! one object per row.
//!
//! Two files cannot appear atomically. Each row's object therefore has the CRC-32 of its
//! embedding's bytes, which shows a reader whether the two belong together, and the numbers appear
//! last: new numbers are never without their names.

use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::line::Lines;
use super::matrix::npy::Header;
use super::read::{EmbeddingFile, Mapped, NoRows, Numbers, map};
use super::{About, Dtype, Line, Row, Rows, push_values, visit_rows};
use crate::file::atomic::AtomicFile;

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
        .write_all(&header_of(rows.rows(), about))
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
fn header_of(rows: usize, about: &About) -> Vec<u8> {
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

/// Rows whose checksum is verified when a file is opened.
const SAMPLED: usize = 64;

pub(super) struct Npy {
    about: About,
    numbers: Numbers,
    names: Lines,
    path: PathBuf,
    sidecar: PathBuf,
}

impl Npy {
    pub(super) fn open(path: &Path) -> Result<Self> {
        Self::open_pair(path, sidecar_of(path))
    }

    /// Whether the file that would name the rows of `path` records its model, as longclip embed
    /// writes it.
    pub(super) fn has_model(path: &Path) -> Result<bool> {
        let sidecar = sidecar_of(path);
        if !sidecar.exists() {
            return Ok(false);
        }
        let names = map(&sidecar)?;
        let names = Lines::new(&names, 0..names.len())?;
        let first = names.get(0).and_then(Line::from_bytes);
        // A file without lines belongs to an empty index.
        Ok(names.count() == 0 || first.is_ok_and(|line| line.has_model()))
    }

    /// Whether the rows at `path` all match those that the file at `sidecar` names.
    pub(super) fn is_pair(path: &Path, sidecar: PathBuf) -> bool {
        Self::open_pair(path, sidecar)
            .is_ok_and(|npy| (0..npy.rows()).all(|index| npy.row(index).is_ok()))
    }

    fn open_pair(path: &Path, sidecar: PathBuf) -> Result<Self> {
        let bytes = map(path)?;
        let header = Header::read(&bytes)?;
        let (dtype, shape) = header.ours()?;
        let numbers = Numbers::new(&bytes, header.length..bytes.len(), dtype, shape)?;
        let open_names = || {
            let names = map(&sidecar)?;
            Lines::new(&names, 0..names.len())
        };
        let names = open_names().with_context(|| {
            format!(
                "the row names are expected in {}, as longclip embed writes them",
                sidecar.display()
            )
        })?;
        ensure!(numbers.rows > 0, NoRows);
        ensure!(
            names.count() == numbers.rows,
            "it has {} rows and {} has {}: the two do not belong together; run longclip embed \
             --resume to complete them",
            numbers.rows,
            sidecar.display(),
            names.count()
        );
        let first = Line::from_bytes(names.get(0)?)?;
        let npy = Self {
            about: first.about(numbers.dim, numbers.dtype)?,
            numbers,
            names,
            path: path.to_owned(),
            sidecar,
        };
        npy.sample()?;
        Ok(npy)
    }

    /// Checks the first, the last and some rows between; [`EmbeddingFile::row`] checks each row
    /// that it reads.
    fn sample(&self) -> Result<()> {
        let last = self.numbers.rows - 1;
        let step = last.div_ceil(SAMPLED).max(1);
        let mut sample = (0..last).step_by(step).chain([last]);
        sample.try_for_each(|index| self.row(index).map(drop))
    }
}

impl EmbeddingFile for Npy {
    fn about(&self) -> &About {
        &self.about
    }

    fn rows(&self) -> usize {
        self.numbers.rows
    }

    fn row(&self, index: usize) -> Result<Row> {
        let line = Line::from_bytes(self.names.get(index)?)
            .with_context(|| format!("row {index} of {}", self.sidecar.display()))?;
        let crc32 = crc32fast::hash(self.numbers.bytes(index..index + 1)?);
        ensure!(
            line.crc32 == Some(crc32) && line.is_of(&self.about),
            "row {index} differs between {} and {}: the two do not belong together; run longclip \
             embed --resume to complete them",
            self.path.display(),
            self.sidecar.display()
        );
        line.row()
    }

    fn vectors(&self, range: Range<usize>, values: &mut Vec<f32>) -> Result<()> {
        self.numbers.values(range, values)
    }

    fn numbers(&self) -> Option<Mapped<'_>> {
        self.numbers.mapped()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::testing::about;
    use super::*;

    #[test]
    fn the_header_is_what_numpy_writes() {
        let about = about(Kind::Images, 512);
        let bytes = header_of(3, &about);
        assert_eq!(bytes.len(), 128);
        // numpy.lib.format.write_array_header_1_0 for float32 (3, 512).
        let expected = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3, 512), }";
        assert_eq!(&bytes[..expected.len()], expected);
        assert!(bytes[expected.len()..127].iter().all(|byte| *byte == b' '));
        assert_eq!(bytes[127], b'\n');
        for rows in [0, 1, usize::MAX] {
            let bytes = header_of(rows, &about);
            assert_eq!(bytes.len() % 64, 0);
            assert_eq!(usize::from(bytes[8]) + 10, bytes.len());
        }
    }
}
