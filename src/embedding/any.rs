//! Embeddings from any program: a file is longclip embed's or another program's, and both are read
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

/// Splits a path from the name of an array after a colon: `x.npz:images`. A file with the whole
/// name takes precedence.
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

/// Opens the file at `path`, of longclip embed or of another program; the name of an array in it
/// may follow a colon.
///
/// # Errors
/// When it does not exist, or holds no embeddings.
pub fn open_any(path: &Path) -> Result<Embeddings> {
    let (file, array) = split_array(path);
    let Suffix::Names(suffix) = suffix::of(&file, READ) else {
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
    pub fn about(&self) -> Option<&About> {
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
    pub fn dim(&self) -> usize {
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
