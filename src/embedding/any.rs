//! Embeddings whoever wrote them: whether a file is longclip embed's or another program's, and either
//! through one type.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::jsonl::Jsonl;
use super::npy::Npy;
use super::read::{EmbeddingFile, Mapped, open};
use super::safetensors::Safetensors;
use super::{Matrix, parquet};
use crate::embedding::{About, Item};
use crate::output::suffix::Suffix;
use crate::output::{Name, suffix};

/// Embeddings to search or to learn from, whoever wrote them.
pub enum Embeddings {
    /// What longclip embed wrote, which says what made it.
    Ours(Box<dyn EmbeddingFile>),
    /// What another program wrote.
    Matrix(Matrix),
}

/// The suffixes of files that [`open_any`] reads.
const READ: &[(&str, &str)] = &[
    ("npy", "npy"),
    ("npz", "npz"),
    ("safetensors", "safetensors"),
    ("parquet", "parquet"),
    ("jsonl", "jsonl"),
    ("ndjson", "jsonl"),
];

/// A file and, after a colon, the array in it that is meant: `x.npz:images`. A file of the whole name
/// comes first.
#[must_use]
pub fn split_array(path: &Path) -> (PathBuf, Option<String>) {
    let text = path.to_string_lossy();
    match text.rsplit_once(':') {
        Some((file, array)) if !path.exists() && Path::new(file).is_file() => {
            (PathBuf::from(file), Some(array.to_owned()))
        }
        _ => (path.to_owned(), None),
    }
}

/// Opens the file at `path`, of longclip embed or of another program; after a colon stands the name of an
/// array in it.
///
/// # Errors
/// When there is none, or it holds no embeddings.
pub fn open_any(path: &Path) -> Result<Embeddings> {
    let (file, array) = split_array(path);
    let Suffix::Names(suffix) = suffix::of(&file, READ) else {
        bail!(
            "{}: a file of embeddings ends in .npy, .npz, .safetensors, .parquet or .jsonl",
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
            "{} was written by longclip embed and holds one matrix; leave out what stands after the colon",
            file.display()
        );
        return Ok(Embeddings::Ours(open(&file)?));
    }
    let matrix = Matrix::open(&file, suffix, array.as_deref());
    Ok(Embeddings::Matrix(matrix.with_context(reading)?))
}

impl Embeddings {
    /// What the embeddings were made with, where the file says so.
    #[must_use]
    pub fn about(&self) -> Option<&About> {
        match self {
            Self::Ours(file) => Some(file.about()),
            Self::Matrix(_) => None,
        }
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::Ours(file) => file.rows(),
            Self::Matrix(matrix) => matrix.rows(),
        }
    }

    /// How many numbers a row has.
    #[must_use]
    pub fn dim(&self) -> usize {
        match self {
            Self::Ours(file) => file.about().dim,
            Self::Matrix(matrix) => matrix.dim(),
        }
    }

    /// What row `index` is called; `None` where nothing names the rows.
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

    /// As [`EmbeddingFile::vectors`]; those of a matrix are made unit vectors.
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
    pub fn numbers(&self) -> Option<Mapped<'_>> {
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
