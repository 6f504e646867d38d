//! NumPy's format: the numbers `[rows, dim]` in C order, and `NAME.paths.jsonl` next to them with
//! one object per row.
//!
//! Two files cannot appear atomically. Each row's object therefore has the CRC-32 of its
//! embedding's bytes, which shows a reader whether the two belong together, and the last one also
//! that of all numbers. The numbers appear last: new numbers are never without their names.

use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::line::LineIndex;
use super::matrix::numbers::{Element, MatrixLayout, StorageOrder, rows_and_columns};
use super::read::{EmbeddingFile, Mapped, NoRows, StoredNumbers, crc32, map};
use super::{About, Dtype, Line, Row, Rows, push_values, visit_rows};
use crate::file::atomic::AtomicFile;

/// The file of the row names: `X.paths.jsonl` for `X.npy`.
#[must_use]
pub(crate) fn sidecar_of(path: &Path) -> PathBuf {
    path.with_extension("paths.jsonl")
}

pub(super) fn write(path: &Path, about: &About, rows: &dyn Rows) -> Result<()> {
    let (mut numbers, mut names) = (
        AtomicFile::create_alone(path)?,
        AtomicFile::create_alone(&sidecar_of(path))?,
    );
    let (mut numbers_sink, mut names_sink) = (numbers.sink()?, names.sink()?);
    let writing = || format!("cannot write {}", path.display());
    numbers_sink
        .write_all(&header_of(rows.rows(), about))
        .with_context(writing)?;
    let mut bytes = Vec::with_capacity(about.dim * about.dtype.size());
    let (mut all, mut left) = (crc32fast::Hasher::new(), rows.rows());
    visit_rows(rows, |row, embedding| {
        bytes.clear();
        push_values(&mut bytes, embedding, about.dtype);
        all.update(&bytes);
        left = left.saturating_sub(1);
        let mut line = Line::of_row(row)
            .with_crc32(crc32fast::hash(&bytes))
            .with(about);
        line.numbers_crc32 = (left == 0).then(|| all.clone().finalize());
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
    numbers: StoredNumbers,
    names: LineIndex,
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
        let names = LineIndex::new(&names, 0..names.len())?;
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
        let numbers = StoredNumbers::new(&bytes, header.length..bytes.len(), dtype, shape)?;
        let open_names = || {
            let names = map(&sidecar)?;
            LineIndex::new(&names, 0..names.len())
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

    /// Checks the first, the last and some rows between, and all numbers if their checksum is
    /// known, or else each row; [`EmbeddingFile::row`] checks each row that it reads.
    fn sample(&self) -> Result<()> {
        let last = self.numbers.rows - 1;
        let all = Line::from_bytes(self.names.get(last)?)?.numbers_crc32;
        let numbers = self.numbers.bytes(0..self.numbers.rows)?;
        if all.is_some_and(|all| all != crc32(numbers)) {
            // Whoever joined or sorted such files kept each row's own checksum.
            return (0..=last).try_for_each(|index| self.row(index).map(drop));
        }
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

/// Magic bytes of the format.
const MAGIC: &[u8] = b"\x93NUMPY";

/// Longer headers do not describe a plain array.
const LONGEST_HEADER: usize = 1 << 16;

/// A header within the limit ends before this offset in bytes.
pub(super) const HEAD_BYTES: usize = LONGEST_HEADER + 12;

/// The header of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Length in bytes, including the magic bytes.
    pub(super) length: usize,
    /// Layout of the numbers.
    pub(super) layout: MatrixLayout,
}

impl Header {
    /// Reads the header at the start of `bytes`.
    ///
    /// # Errors
    /// When it is missing, or describes something other than a matrix of numbers.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let rest = bytes.strip_prefix(MAGIC).context("not a NumPy file")?;
        let (start, stated) = match *rest {
            [1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([a, b]))),
            [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d]) as usize),
            _ => bail!("the header has an unknown version or is cut short"),
        };
        ensure!(
            stated <= LONGEST_HEADER,
            "the header claims {stated} bytes; that of a plain array has far fewer"
        );
        let length = start + stated;
        let text = bytes
            .get(start..length)
            .context("the header is cut short")?;
        let text = std::str::from_utf8(text).context("the header is not text")?;
        let layout = parse(text)?;
        Ok(Self { length, layout })
    }

    /// Type and shape of numbers in the layout that longclip embed writes.
    ///
    /// # Errors
    /// When the layout differs.
    pub(super) fn ours(&self) -> Result<(Dtype, [usize; 2])> {
        let layout = &self.layout;
        let dtype = match layout.element {
            Element::F32 => Some(Dtype::F32),
            Element::F16 => Some(Dtype::F16),
            Element::Bf16 | Element::F64 => None,
        };
        let dtype = dtype.filter(|_| !layout.is_big_endian && layout.order == StorageOrder::Rows);
        let dtype = dtype.context(
            "the numbers are not little-endian float32 or float16, row by row, as longclip embed \
             writes them; the file was changed",
        )?;
        Ok((dtype, [layout.rows, layout.dim]))
    }
}

/// Parses the header's dictionary, a Python literal with three keys in any order.
fn parse(text: &str) -> Result<MatrixLayout> {
    let body = text
        .trim()
        .strip_prefix('{')
        .and_then(|t| t.strip_suffix('}'));
    let mut rest = body.context("the header is not a dictionary")?.trim();
    let (mut element, mut shape, mut order) = (None, None, None);
    while !rest.is_empty() {
        let (key, value) = rest
            .split_once(':')
            .context("the header has a key without a value")?;
        let value = value.trim_start();
        // Only the shape of a plain array contains commas.
        let end = match value.starts_with('(') {
            true => value.find(')').context("the header's shape does not end")? + 1,
            false => value.find(',').unwrap_or(value.len()),
        };
        let (value, after) = value.split_at(end);
        match key.trim().trim_matches(['\'', '"']) {
            "descr" => element = Some(parse_element(value.trim().trim_matches(['\'', '"']))?),
            "fortran_order" => order = Some(parse_order(value.trim())?),
            "shape" => shape = Some(parse_shape(value)?),
            key => bail!("the header has an unknown key {key:?}"),
        }
        rest = after.trim_start().trim_start_matches(',').trim();
    }
    let (element, is_big_endian) = element.context("the header has no type")?;
    let [rows, dim] = shape.context("the header has no shape")?;
    Ok(MatrixLayout {
        element,
        is_big_endian,
        order: order.context("the header has no order")?,
        rows,
        dim,
    })
}

/// The type, and whether it is big-endian.
fn parse_element(descr: &str) -> Result<(Element, bool)> {
    let is_big_endian = descr.starts_with('>');
    let element = match descr.trim_start_matches(['<', '>', '=']) {
        "f2" => Element::F16,
        "f4" => Element::F32,
        "f8" => Element::F64,
        "V2" | "|V2" => bail!(
            "the numbers are of type {descr:?}, the raw bytes that NumPy writes for bfloat16; \
             save them as float32"
        ),
        _ => bail!(
            "the numbers are of type {descr:?}; embeddings are float16 (<f2), float32 (<f4) or float64 \
             (<f8)"
        ),
    };
    Ok((element, is_big_endian))
}

fn parse_order(value: &str) -> Result<StorageOrder> {
    match value {
        "False" => Ok(StorageOrder::Rows),
        "True" => Ok(StorageOrder::Columns),
        _ => bail!("the header's order is {value:?} instead of True or False"),
    }
}

/// Rows and columns; a one-dimensional array is one row.
fn parse_shape(tuple: &str) -> Result<[usize; 2]> {
    let sizes = tuple.trim_matches(['(', ')']).split(',').map(str::trim);
    let sizes = sizes.filter(|size| !size.is_empty()).map(|size| {
        let size: Option<usize> = size.parse().ok();
        size.with_context(|| {
            format!("the header has the shape {tuple}, which is not a list of sizes")
        })
    });
    let shape = rows_and_columns(&sizes.collect::<Result<Vec<_>>>()?).with_context(|| {
        format!("the array has the shape {tuple}; embeddings have rows and columns")
    })?;
    crate::embedding::check_dim(shape[1])?;
    Ok(shape)
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
                let header = Header::read(&bytes).unwrap();
                assert_eq!(header.length, bytes.len());
                assert_eq!(header.ours().unwrap(), (Dtype::F32, [3, 512]), "{text}");
                for length in 0..bytes.len() {
                    assert!(Header::read(&bytes[..length]).is_err(), "{length}");
                }
            }
        }
    }

    #[test]
    fn numbers_of_other_programs_may_have_other_layouts() {
        use StorageOrder::{Columns, Rows};
        let layout = |element, is_big_endian, order, [rows, dim]: [usize; 2]| MatrixLayout {
            element,
            is_big_endian,
            order,
            rows,
            dim,
        };
        #[rustfmt::skip]
        let cases = [
            ("<f2 False (3, 512)", layout(Element::F16, false, Rows, [3, 512])),
            (">f4 False (3, 512)", layout(Element::F32, true, Rows, [3, 512])),
            ("=f8 True (3, 512)", layout(Element::F64, false, Columns, [3, 512])),
            ("<f4 False (512,)", layout(Element::F32, false, Rows, [1, 512])),
            ("<f4 True (0, 512)", layout(Element::F32, false, Columns, [0, 512])),
        ];
        for (array, expected) in cases {
            let [descr, fortran, tuple] = array.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                panic!("{array}");
            };
            let text =
                format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {tuple}, }}");
            let header = Header::read(&header(1, &text)).unwrap();
            assert_eq!(header.layout, expected, "{text}");
            let is_ours = expected.element != Element::F64
                && !expected.is_big_endian
                && expected.order == Rows;
            assert_eq!(header.ours().is_ok(), is_ours, "{text}");
        }
    }

    #[test]
    fn headers_of_other_arrays_are_refused() {
        let rest = "'fortran_order': False, 'shape': (3, 512)}";
        let cases = [
            (format!("{{'descr': '<i4', {rest}"), "float32"),
            (format!("{{'descr': '|u1', {rest}"), "float32"),
            (format!("{{'descr': '<f16', {rest}"), "float32"),
            (format!("{{'descr': '|V2', {rest}"), "bfloat16"),
            (format!("{{'descr': '|O', {rest}"), "float32"),
            (format!("{{'descr': [('a', '<f4')], {rest}"), "float32"),
            (format!("{{{rest}"), "no type"),
            (
                "{'descr': '<f4', 'fortran_order': 0, 'shape': (3, 512)}".to_owned(),
                "instead of True or False",
            ),
            ("{'descr': '<f4', 'shape': (3, 512)}".to_owned(), "no order"),
            (
                "{'descr': '<f4', 'fortran_order': False}".to_owned(),
                "no shape",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4, 5)}".to_owned(),
                "rows and columns",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, -1)}".to_owned(),
                "not a list of sizes",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 0)}".to_owned(),
                "those of CLIP models",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 99999999)}".to_owned(),
                "those of CLIP models",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 99999999999999999999)}"
                    .to_owned(),
                "not a list of sizes",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5".to_owned(),
                "not a dictionary",
            ),
            ("{'extra': 1, 'descr': '<f4'}".to_owned(), "unknown key"),
            ("[]".to_owned(), "not a dictionary"),
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
