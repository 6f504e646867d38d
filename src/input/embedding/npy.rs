//! NumPy's format, with the rows' names in a file beside it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::lines::Lines;
use super::{EmbeddingFile, Mapped, NoRows, Numbers, map};
use crate::output::embedding::{About, Dtype, Line, Row, sidecar_of};

const MAGIC: &[u8] = b"\x93NUMPY";

/// A longer header describes no plain array.
const LONGEST_HEADER: usize = 1 << 16;

/// Rows whose checksum is looked at when a file is opened.
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

    /// Whether all rows of the numbers at `path` are those that the file at `sidecar` names.
    pub(super) fn is_pair(path: &Path, sidecar: PathBuf) -> bool {
        Self::open_pair(path, sidecar)
            .is_ok_and(|npy| (0..npy.rows()).all(|index| npy.row(index).is_ok()))
    }

    fn open_pair(path: &Path, sidecar: PathBuf) -> Result<Self> {
        let bytes = map(path)?;
        let header = Header::read(&bytes)?;
        let numbers = Numbers::new(
            &bytes,
            header.length..bytes.len(),
            header.dtype,
            header.shape,
        )?;
        let open_names = || {
            let names = map(&sidecar)?;
            Lines::new(&names, 0..names.len())
        };
        let names = open_names().with_context(|| {
            format!(
                "the names of the rows are expected in {}, as longclip embed writes them",
                sidecar.display()
            )
        })?;
        ensure!(numbers.rows > 0, NoRows);
        ensure!(
            names.count() == numbers.rows,
            "it has {} rows and {} has {}: the two do not belong together; run longclip embed \
             --resume to finish them",
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

    /// Checks the first, the last and some rows between; [`EmbeddingFile::row`] checks its own.
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
             embed --resume to finish them",
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

/// What stands before the numbers.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    /// Its bytes, the magic ones included.
    length: usize,
    dtype: Dtype,
    shape: [usize; 2],
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self> {
        let rest = bytes.strip_prefix(MAGIC).context("not a file of NumPy's")?;
        let (start, stated) = match *rest {
            [1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([a, b]))),
            [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d]) as usize),
            _ => bail!("the header is of a version that is not known, or cut short"),
        };
        ensure!(
            stated <= LONGEST_HEADER,
            "the header claims {stated} bytes; that of a plain array has far fewer"
        );
        let length = start + stated;
        let text = bytes
            .get(start..length)
            .context("the header is cut short")?;
        let text = std::str::from_utf8(text).context("the header is no text")?;
        let (dtype, shape) = parse(text)?;
        Ok(Self {
            length,
            dtype,
            shape,
        })
    }
}

/// Reads the header's dictionary, a literal of Python's with three keys in any order.
fn parse(text: &str) -> Result<(Dtype, [usize; 2])> {
    let body = text
        .trim()
        .strip_prefix('{')
        .and_then(|t| t.strip_suffix('}'));
    let mut rest = body.context("the header is no dictionary")?.trim();
    let (mut dtype, mut shape, mut rows_first) = (None, None, false);
    while !rest.is_empty() {
        let (key, value) = rest
            .split_once(':')
            .context("the header has a key without a value")?;
        let value = value.trim_start();
        // The only value that holds commas is the shape.
        let end = match value.starts_with('(') {
            true => value.find(')').context("the header's shape does not end")? + 1,
            false => value.find(',').unwrap_or(value.len()),
        };
        let (value, after) = value.split_at(end);
        match key.trim().trim_matches(['\'', '"']) {
            "descr" => dtype = Some(parse_dtype(value.trim().trim_matches(['\'', '"']))?),
            "fortran_order" => rows_first = value.trim() == "False",
            "shape" => shape = Some(parse_shape(value)?),
            key => bail!("the header has an unknown key {key:?}"),
        }
        rest = after.trim_start().trim_start_matches(',').trim();
    }
    ensure!(
        rows_first,
        "the numbers are not stored row by row (C order)"
    );
    let shape = shape.context("the header tells no shape")?;
    Ok((dtype.context("the header tells no type")?, shape))
}

fn parse_dtype(descr: &str) -> Result<Dtype> {
    Ok(match descr {
        "<f4" => Dtype::F32,
        "<f2" => Dtype::F16,
        _ => bail!(
            "the numbers are of type {descr:?}; embeddings are float32 (<f4) or float16 (<f2)"
        ),
    })
}

fn parse_shape(tuple: &str) -> Result<[usize; 2]> {
    let sizes = tuple.trim_matches(['(', ')']).split(',').map(str::trim);
    let sizes: Vec<&str> = sizes.filter(|size| !size.is_empty()).collect();
    let &[rows, dim] = sizes.as_slice() else {
        bail!("the array has the shape {tuple}; embeddings have rows and columns");
    };
    let size = |text: &str| {
        text.parse()
            .with_context(|| format!("the array has the shape {tuple}, which cannot be"))
    };
    let shape = [size(rows)?, size(dim)?];
    crate::output::embedding::check_dim(shape[1])?;
    Ok(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: u8, text: &str) -> Vec<u8> {
        let mut bytes = [MAGIC, &[version, 0]].concat();
        match version {
            1 => bytes.extend((text.len() as u16).to_le_bytes()),
            _ => bytes.extend((text.len() as u32).to_le_bytes()),
        }
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn headers_of_all_versions_are_read() {
        let cases = [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 512), }   \n",
            "{\"shape\":(3,512),\"fortran_order\":False,\"descr\":\"<f4\"}",
            "{'shape': (3, 512,), 'descr': '<f4', 'fortran_order': False}",
        ];
        for text in cases {
            for version in [1, 2, 3] {
                let bytes = header(version, text);
                let expected = Header {
                    length: bytes.len(),
                    dtype: Dtype::F32,
                    shape: [3, 512],
                };
                assert_eq!(Header::read(&bytes).unwrap(), expected, "{text}");
                for length in 0..bytes.len() {
                    assert!(Header::read(&bytes[..length]).is_err(), "{length}");
                }
            }
        }
    }

    #[test]
    fn headers_of_other_arrays_are_refused() {
        let rest = "'fortran_order': False, 'shape': (3, 512)}";
        let cases = [
            (format!("{{'descr': '<f8', {rest}"), "float32"),
            (format!("{{'descr': '>f4', {rest}"), "float32"),
            (format!("{{'descr': [('a', '<f4')], {rest}"), "float32"),
            (format!("{{{rest}"), "no type"),
            (
                "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 512)}".to_owned(),
                "row by row",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False}".to_owned(),
                "no shape",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}".to_owned(),
                "rows and columns",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, -1)}".to_owned(),
                "cannot be",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 0)}".to_owned(),
                "none of a CLIP",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 99999999)}".to_owned(),
                "none of a CLIP",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 99999999999999999999)}"
                    .to_owned(),
                "cannot be",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5".to_owned(),
                "no dictionary",
            ),
            ("{'extra': 1, 'descr': '<f4'}".to_owned(), "unknown key"),
            ("[]".to_owned(), "no dictionary"),
        ];
        for (text, expected) in cases {
            let error = Header::read(&header(1, &text)).unwrap_err();
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
        let mut long = header(2, "{}");
        long[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(
            Header::read(&long)
                .unwrap_err()
                .to_string()
                .contains("far fewer")
        );
    }
}
