//! Embeddings from any program: a file is longclip embed's or another program's, and both are read
//! through one type.
//!
//! Matrices of other programs do not record what made them. Numbers of any floating-point type and
//! order are read, and rows are normalised to unit length. What such a file does not say (the
//! model, often the names of the rows) the user says, or rows are numbered.

pub(super) mod numbers;
mod table;

use std::fmt;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::jsonl::Jsonl;
use super::line::LineIndex;
use super::npy::Npy;
use super::parquet;
use super::read::{EmbeddingFile, Mapped, check_range, map, open};
use super::safetensors::Safetensors;
use crate::embedding::npy::Header;
use crate::embedding::{About, Item, Line, sidecar_of};
use crate::input::paths::split_name;
use crate::output::suffix::Suffix;
use crate::output::{Name, suffix};
use numbers::Numbers;

/// Rows whose lengths differ from 1 by at most this count as normalised.
const TOLERANCE: f64 = 2e-3;

/// Numbers read at once.
const BLOCK_VALUES: usize = 1 << 19;

/// A matrix `[rows, dim]` of another program; its rows are returned as unit vectors.
pub struct Matrix {
    numbers: Numbers,
    names: Names,
    lengths: Lengths,
}

/// Source of the rows' names.
enum Names {
    /// Rows have no names.
    None,
    /// A JSON Lines file next to the numbers.
    Lines(LineIndex),
    /// The file itself.
    Listed(Vec<Option<Name>>),
}

/// Statistics of the rows' lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Lengths {
    /// The smallest and the largest non-zero length.
    pub range: Option<(f64, f64)>,
    /// Rows of zeros: how many, and the first. They have no direction and are never found.
    pub zeros: Option<(usize, usize)>,
}

impl Lengths {
    /// Whether every row is a unit vector already, within 16-bit precision.
    #[must_use]
    pub(crate) fn are_one(&self) -> bool {
        let is_one = |length: f64| (length - 1.0).abs() <= TOLERANCE;
        self.range
            .is_none_or(|(least, most)| is_one(least) && is_one(most))
    }
}

impl fmt::Display for Lengths {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.range {
            Some((least, most)) if most - least > 1e-3 * most => {
                write!(formatter, "{least:.4} to {most:.4}")
            }
            Some((_, most)) => write!(formatter, "{most:.4}"),
            None => formatter.write_str("0"),
        }
    }
}

impl Matrix {
    /// Opens the file at `path`; `array` selects one of several arrays.
    ///
    /// # Errors
    /// When it is not such a file, or a row holds a number that is not finite.
    pub(super) fn open(path: &Path, suffix: &str, array: Option<&str>) -> Result<Self> {
        ensure!(
            array.is_none() || suffix != "npy" && suffix != "jsonl",
            "it holds one matrix without a name; drop the name after the colon"
        );
        let (numbers, names) = match suffix {
            "npz" => (numbers::npz(path, array)?, Names::None),
            "safetensors" => (numbers::safetensors(path, array)?, Names::None),
            "parquet" => table::parquet(path, array)?,
            "jsonl" => table::lines(path)?,
            "npy" => (plain(path)?, Names::None),
            other => bail!("matrices are not read from .{other} files"),
        };
        let names = match names {
            Names::None => names_next_to(path, numbers.layout.rows)?,
            names => names,
        };
        let mut matrix = Self {
            numbers,
            names,
            lengths: Lengths::default(),
        };
        matrix.lengths = matrix.look()?;
        Ok(matrix)
    }

    /// Number of rows.
    #[must_use]
    pub(crate) fn rows(&self) -> usize {
        self.numbers.layout.rows
    }

    /// Numbers per row.
    #[must_use]
    pub(crate) fn dim(&self) -> usize {
        self.numbers.layout.dim
    }

    /// Statistics of the rows' lengths.
    #[must_use]
    pub(crate) fn lengths(&self) -> Lengths {
        self.lengths
    }

    /// Whether every row has a name.
    #[must_use]
    pub(crate) fn has_names(&self) -> bool {
        match &self.names {
            Names::None => false,
            Names::Lines(_) => true,
            Names::Listed(names) => names.iter().all(Option::is_some),
        }
    }

    /// The name of row `index`; `None` if rows have no names.
    ///
    /// # Errors
    /// When the names are damaged.
    pub(crate) fn name(&self, index: usize) -> Result<Option<Name>> {
        match &self.names {
            Names::None => Ok(None),
            Names::Lines(lines) => {
                let name = Line::from_bytes(lines.get(index)?).and_then(|line| line.name());
                let place = || format!("line {} of the row names", index + 1);
                name.map(Some).with_context(place)
            }
            Names::Listed(names) => {
                let name = names.get(index);
                let name = name.with_context(|| format!("there is no row {index}"))?;
                Ok(name.clone())
            }
        }
    }

    /// Writes the unit vectors of `range` into `values`, `[range, dim]`; rows of zeros become NaN,
    /// so that they are never found.
    ///
    /// # Errors
    /// When there are no such rows.
    pub(crate) fn vectors(&self, range: Range<usize>, values: &mut Vec<f32>) -> Result<()> {
        check_range(&range, self.rows())?;
        let mut stored = Vec::new();
        self.numbers.read(range, &mut stored);
        values.clear();
        for row in stored.chunks_exact(self.dim()) {
            let (scale, length) = length(row);
            let unit = row.iter().map(|value| (value / scale / length) as f32);
            values.extend(unit);
        }
        Ok(())
    }

    /// Suggested number of rows per read.
    #[must_use]
    pub(crate) fn block_rows(&self) -> usize {
        (BLOCK_VALUES / self.dim()).max(1)
    }

    /// Checks every row when the file is opened: a search must not fail at the last one.
    fn look(&self) -> Result<Lengths> {
        let mut found = Lengths::default();
        let mut stored = Vec::new();
        for start in (0..self.rows()).step_by(self.block_rows()) {
            let end = self.rows().min(start + self.block_rows());
            self.numbers.read(start..end, &mut stored);
            for (row, values) in (start..).zip(stored.chunks_exact(self.dim())) {
                if let Some(odd) = values.iter().find(|value| !value.is_finite()) {
                    bail!(
                        "row {row} holds {odd}, but embeddings are finite; correct or remove the \
                         row"
                    );
                }
                let (scale, length) = length(values);
                if length == 0.0 {
                    let (count, first) = found.zeros.unwrap_or((0, row));
                    found.zeros = Some((count + 1, first));
                    continue;
                }
                let length = scale * length;
                let (least, most) = found.range.unwrap_or((length, length));
                found.range = Some((least.min(length), most.max(length)));
            }
        }
        Ok(found)
    }
}

/// A row's length as two factors, so that squares neither overflow nor underflow.
fn length(row: &[f64]) -> (f64, f64) {
    let scale = row
        .iter()
        .fold(0.0, |most: f64, value| most.max(value.abs()));
    if scale == 0.0 {
        return (0.0, 0.0);
    }
    let squares: f64 = row.iter().map(|value| (value / scale).powi(2)).sum();
    (scale, squares.sqrt())
}

/// The array of a .npy file.
fn plain(path: &Path) -> Result<Numbers> {
    let bytes = map(path)?;
    let header = Header::read(&bytes)?;
    let range = header.length..bytes.len();
    Numbers::new(bytes, range, header.layout)
}

/// The row names in a JSON Lines file next to `path`, one object per row, as longclip embed writes
/// it.
fn names_next_to(path: &Path, rows: usize) -> Result<Names> {
    let sidecar = sidecar_of(path);
    if !sidecar.exists() {
        return Ok(Names::None);
    }
    let reading = || {
        format!(
            "cannot read the names of the rows from {}",
            sidecar.display()
        )
    };
    let read = || -> Result<LineIndex> {
        let bytes = map(&sidecar)?;
        let lines = LineIndex::new(&bytes, 0..bytes.len())?;
        ensure!(
            lines.count() == rows,
            "it has {} lines, but there are {rows} rows",
            lines.count()
        );
        Ok(lines)
    };
    Ok(Names::Lines(read().with_context(reading)?))
}

/// Embeddings to search or to learn from, from any program.
pub enum Embeddings {
    /// Written by longclip embed, which records what made them.
    Ours(Box<dyn EmbeddingFile>),
    /// Written by another program.
    Matrix(Matrix),
}

/// File name suffixes that [`open_any`] reads.
const READ: &[(&str, &str)] = &[
    ("npy", "npy"),
    ("npz", "npz"),
    ("safetensors", "safetensors"),
    ("parquet", "parquet"),
    ("jsonl", "jsonl"),
    ("ndjson", "jsonl"),
];

/// The kind of embeddings that a file holds, judging by its name, as a suffix. JSON lines may also
/// hold something else.
pub(crate) fn kind_of(path: &Path) -> Option<&'static str> {
    match suffix::of(path, READ) {
        Suffix::Names(kind) => Some(kind),
        _ => None,
    }
}

/// Opens the file at `path`, of longclip embed or of another program; the name of an array in it
/// may follow a colon.
///
/// # Errors
/// When it does not exist, or holds no embeddings.
pub fn open_any(path: &Path) -> Result<Embeddings> {
    let (file, array) = split_name(path);
    let Some(suffix) = kind_of(&file) else {
        bail!(
            "{} is not a file of embeddings; the name must end in .npy, .npz, .safetensors, \
             .parquet or .jsonl",
            file.display()
        );
    };
    let is_ours = || -> Result<bool> {
        Ok(match suffix {
            "npy" => Npy::has_model(&file)?,
            "safetensors" => Safetensors::has_model(&file)?,
            "parquet" => parquet::pair(&parquet::reader(&file)?, "format").is_some(),
            "jsonl" => Jsonl::has_model(&file)?,
            _ => false,
        })
    };
    let reading = || format!("cannot read the embeddings {}", path.display());
    if is_ours().with_context(reading)? {
        ensure!(
            array.is_none(),
            "{} was written by longclip embed and holds one matrix; drop the name after the colon",
            file.display()
        );
        return Ok(Embeddings::Ours(open(&file)?));
    }
    let matrix = Matrix::open(&file, suffix, array.as_deref());
    Ok(Embeddings::Matrix(matrix.with_context(reading)?))
}

impl Embeddings {
    /// What the embeddings were made with, if the file says so.
    #[must_use]
    pub(crate) fn about(&self) -> Option<&About> {
        match self {
            Self::Ours(file) => Some(file.about()),
            Self::Matrix(_) => None,
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::Ours(file) => file.rows(),
            Self::Matrix(matrix) => matrix.rows(),
        }
    }

    /// Numbers per row.
    #[must_use]
    pub(crate) fn dim(&self) -> usize {
        match self {
            Self::Ours(file) => file.about().dim,
            Self::Matrix(matrix) => matrix.dim(),
        }
    }

    /// The name of row `index`; `None` if rows have no names.
    ///
    /// # Errors
    /// When there is no such row, or the file is damaged there.
    pub fn name(&self, index: usize) -> Result<Option<Name>> {
        match self {
            Self::Ours(file) => Ok(Some(match file.row(index)?.item {
                Item::Image { name, .. } => Name::Image(name),
                Item::Text(text) => Name::Text(text),
            })),
            Self::Matrix(matrix) => matrix.name(index),
        }
    }

    /// As [`EmbeddingFile::vectors`]; rows of a foreign matrix are normalised to unit length.
    ///
    /// # Errors
    /// When there are no such rows, or the file is damaged there.
    pub fn vectors(&self, range: Range<usize>, values: &mut Vec<f32>) -> Result<()> {
        match self {
            Self::Ours(file) => file.vectors(range, values),
            Self::Matrix(matrix) => matrix.vectors(range, values),
        }
    }

    /// As [`EmbeddingFile::numbers`].
    #[must_use]
    pub(crate) fn numbers(&self) -> Option<Mapped<'_>> {
        match self {
            Self::Ours(file) => file.numbers(),
            Self::Matrix(_) => None,
        }
    }

    /// As [`EmbeddingFile::block_rows`].
    #[must_use]
    pub fn block_rows(&self) -> usize {
        match self {
            Self::Ours(file) => file.block_rows(),
            Self::Matrix(matrix) => matrix.block_rows(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::numbers::{Element, MatrixLayout};
    use super::*;
    use crate::checkpoint::container::Bytes;

    fn matrix(values: &[f64], dim: usize) -> Result<Matrix> {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let (length, rows) = (bytes.len(), values.len() / dim);
        let layout = MatrixLayout::plain(Element::F64, [rows, dim]);
        let mut matrix = Matrix {
            numbers: Numbers::new(Arc::new(Bytes::Owned(bytes)), 0..length, layout)?,
            names: Names::None,
            lengths: Lengths::default(),
        };
        matrix.lengths = matrix.look()?;
        Ok(matrix)
    }

    #[test]
    fn rows_are_normalised_at_any_length() {
        let values = [3.0, 4.0, 3e200, -4e200, 3e-200, 4e-200, 0.0, 0.0, 0.6, 0.8];
        let matrix = matrix(&values, 2).unwrap();
        let mut unit = vec![1.0];
        matrix.vectors(0..5, &mut unit).unwrap();
        let expected = [0.6, 0.8, 0.6, -0.8, 0.6, 0.8];
        for (value, expected) in unit.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{unit:?}");
        }
        assert!(unit[6].is_nan() && unit[7].is_nan());
        assert_eq!(matrix.lengths().zeros, Some((1, 3)));
        assert!(!matrix.lengths().are_one());
        matrix.vectors(4..5, &mut unit).unwrap();
        assert_eq!(unit, [0.6, 0.8]);
        assert!(matrix.vectors(4..6, &mut unit).is_err());
    }

    #[test]
    fn lengths_are_shown_as_far_as_they_differ() {
        let said = |values: &[f64]| {
            let lengths = matrix(values, 1).unwrap().lengths();
            (lengths.are_one(), lengths.to_string())
        };
        let text = |text: &str| text.to_owned();
        assert_eq!(said(&[1.0, -1.0015]), (true, text("1.0000 to 1.0015")));
        assert_eq!(said(&[10.0, 10.001]), (false, text("10.0010")));
        assert_eq!(said(&[0.5, 0.0, 8.25]), (false, text("0.5000 to 8.2500")));
        assert_eq!(said(&[0.0]), (true, text("0")));
        for odd in [f64::NAN, f64::INFINITY] {
            let error = matrix(&[1.0, 1.0, odd], 1).err().unwrap().to_string();
            assert!(error.starts_with("row 2 holds"), "{error}");
        }
    }
}
