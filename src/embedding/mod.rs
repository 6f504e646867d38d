//! Embeddings on disk, both ways: one file per format (npy, safetensors, Parquet, jsonl), matrices
//! of other programs, probes, and the cache.
//!
//! Every file records what made it (`About`), so that embeddings of two models are never
//! compared, and what each row was made of ([`Row`]), so that a later run knows which rows are
//! still valid. During a run the rows are kept in a [`journal`]; [`write()`] converts it to the
//! file at the end, and [`open`] reads it back. No byte of a file is trusted.

#![deny(clippy::indexing_slicing)]

mod about;
pub mod cache;
pub(crate) mod joined;
pub mod journal;
mod jsonl;
mod line;
mod matrix;
mod npy;
mod parquet;
pub mod probe;
mod read;
mod safetensors;
mod states;

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::file::atomic::AtomicFile;
use crate::output::suffix::{self, Suffix};

pub(crate) use about::check_dim;
pub(crate) use about::{About, Failure, Kind};
pub use about::{Dtype, Item, Row};
pub(crate) use jsonl::jsonl_line;
pub(crate) use line::Line;
pub use matrix::open_any;
pub(crate) use matrix::{Embeddings, Matrix, kind_of};
pub(crate) use npy::sidecar_of;
pub use read::open;
pub(crate) use read::{EmbeddingFile, Mapped, NoRows, awaits_numbers};
pub(crate) use states::{StatesFile, Stored};

/// The formats of files of embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// NumPy's, with the row names in a file next to it.
    Npy,
    /// safetensors.
    Safetensors,
    /// Apache Parquet.
    Parquet,
    /// One JSON object per line.
    Jsonl,
}

impl Format {
    /// The formats by file suffix.
    pub(crate) const SUFFIXES: &[(&str, Self)] = &[
        ("npy", Self::Npy),
        ("safetensors", Self::Safetensors),
        ("parquet", Self::Parquet),
        ("jsonl", Self::Jsonl),
        ("ndjson", Self::Jsonl),
    ];

    /// The format of a file's suffix.
    ///
    /// # Errors
    /// When the suffix is not that of a format.
    pub(crate) fn of_path(path: &Path) -> Result<Self> {
        match suffix::of(path, Self::SUFFIXES) {
            Suffix::Names(format) => Ok(format),
            _ => bail!(
                "{} is not a file of embeddings; the name must end in .npy, .safetensors, \
                 .parquet or .jsonl",
                path.display()
            ),
        }
    }

    /// The suffix of its files.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Npy => "npy",
            Self::Safetensors => "safetensors",
            Self::Parquet => "parquet",
            Self::Jsonl => "jsonl",
        }
    }

    /// Fails if the format does not support this data type.
    ///
    /// # Errors
    /// Names the formats that do.
    pub(crate) fn check_dtype(self, dtype: Dtype) -> Result<()> {
        let narrow = dtype == Dtype::F16 && matches!(self, Self::Parquet | Self::Jsonl);
        ensure!(
            !narrow,
            "this format has no 16-bit numbers; write .npy or .safetensors, or drop --dtype f16"
        );
        Ok(())
    }
}

/// The result of one input.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// Its row and its unit embedding `[dim]`.
    Row(&'a Row, &'a [f32]),
    /// Why there is no embedding.
    Failed(&'a Failure),
}

/// Receiver of the entries of [`Rows`], in order.
pub(crate) type Take<'a> = dyn FnMut(Entry<'_>) -> Result<()> + 'a;

/// The entries of a file, in order; visited as often as a format needs.
pub trait Rows {
    /// Number of rows.
    fn rows(&self) -> usize;

    /// Number of failed inputs.
    fn failures(&self) -> usize;

    /// Passes every entry to `take`.
    ///
    /// # Errors
    /// When one cannot be read, and the errors of `take`.
    fn visit(&self, take: &mut Take<'_>) -> Result<()>;
}

/// Writes the file at `path`, which appears complete or not at all. Failures are stored in the file
/// if the format can hold them (jsonl), else in `errors_of` `path`.
///
/// # Errors
/// When a file cannot be written or an entry cannot be read.
pub fn write(format: Format, path: &Path, about: &About, rows: &dyn Rows) -> Result<()> {
    format.check_dtype(about.dtype)?;
    if format == Format::Jsonl {
        return jsonl::write(path, about, rows);
    }
    write_failures(path, rows)?;
    match format {
        Format::Npy => npy::write(path, about, rows),
        Format::Safetensors => safetensors::write(path, about, rows),
        Format::Parquet | Format::Jsonl => parquet::write(path, about, rows),
    }
}

/// Path of the list of failed inputs.
#[must_use]
pub(crate) fn errors_of(path: &Path) -> PathBuf {
    with_extension(path, ".errors.jsonl")
}

/// Path of the journal of a file in progress.
#[must_use]
pub(crate) fn journal_of(path: &Path) -> PathBuf {
    with_extension(path, ".partial")
}

fn with_extension(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Lists failures; removes the list of an earlier run.
fn write_failures(path: &Path, rows: &dyn Rows) -> Result<()> {
    let place = errors_of(path);
    if rows.failures() == 0 {
        return match fs::remove_file(&place) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error)
                .with_context(|| format!("cannot remove the old list {}", place.display())),
            _ => Ok(()),
        };
    }
    let file = AtomicFile::create_alone(&place)?;
    let mut sink = file.sink()?;
    rows.visit(&mut |entry| {
        if let Entry::Failed(failure) = entry {
            sink.write_all(&Line::of_failure(failure).to_bytes()?)?;
        }
        Ok(())
    })?;
    sink.flush()?;
    file.commit()
}

/// Visits the rows only, and fails if their number is not the expected one.
fn visit_rows(rows: &dyn Rows, mut take: impl FnMut(&Row, &[f32]) -> Result<()>) -> Result<()> {
    let mut seen = 0;
    rows.visit(&mut |entry| match entry {
        Entry::Row(row, embedding) => {
            seen += 1;
            take(row, embedding)
        }
        Entry::Failed(_) => Ok(()),
    })?;
    ensure!(
        seen == rows.rows(),
        "{seen} rows were found, but {} were expected",
        rows.rows()
    );
    Ok(())
}

/// Appends `values` to `bytes` as the file stores them, little-endian.
fn push_values(bytes: &mut Vec<u8>, values: &[f32], dtype: Dtype) {
    match dtype {
        Dtype::F32 => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        Dtype::F16 => {
            let halves = values.iter().map(|value| half::f16::from_f32(*value));
            bytes.extend(halves.flat_map(half::f16::to_le_bytes));
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::file::stamp::Stamp;
    use crate::output::ImageName;

    /// Entries in memory.
    #[derive(Default)]
    pub(crate) struct Listed {
        pub(crate) rows: Vec<(Row, Vec<f32>)>,
        pub(crate) failed: Vec<Failure>,
    }

    impl Rows for Listed {
        fn rows(&self) -> usize {
            self.rows.len()
        }

        fn failures(&self) -> usize {
            self.failed.len()
        }

        fn visit(&self, take: &mut Take<'_>) -> Result<()> {
            for (row, embedding) in &self.rows {
                take(Entry::Row(row, embedding))?;
            }
            self.failed
                .iter()
                .try_for_each(|failure| take(Entry::Failed(failure)))
        }
    }

    pub(crate) fn about(kind: Kind, dim: usize) -> About {
        About {
            model: "longclip-b".to_owned(),
            sha256: "ab".repeat(32),
            precision: "bf16".to_owned(),
            settings: "activation=quick_gelu orient=yes".to_owned(),
            kind,
            dim,
            dtype: Dtype::F32,
            version: "0.1.0".to_owned(),
        }
    }

    /// A unit vector from a seed.
    pub(crate) fn vector(seed: usize, dim: usize) -> Vec<f32> {
        let value = |at: usize| ((seed * 7919 + at * 104_729 + 17) % 1009) as f64 - 504.0;
        let norm = (0..dim).map(|at| value(at).powi(2)).sum::<f64>().sqrt();
        (0..dim).map(|at| (value(at) / norm) as f32).collect()
    }

    /// Images with unusual names, and one from stdin.
    pub(crate) fn images(count: usize, dim: usize) -> Listed {
        let rows = (0..count).map(|index| {
            let name = match index % 4 {
                0 => ImageName {
                    text: format!("a {index}\u{fffd}.jpg"),
                    bytes: Some(
                        format!("a {index}")
                            .into_bytes()
                            .into_iter()
                            .chain([0xff])
                            .collect(),
                    ),
                },
                1 => ImageName::from(Path::new(&format!("é \"{index}\"\n.png"))),
                _ => ImageName::from(Path::new(&format!("p/{index}.png"))),
            };
            let row = Row {
                given: None,
                item: Item::Image {
                    name,
                    width: index as u32 + 1,
                    height: 7,
                    stamp: (index % 3 != 2).then_some(Stamp {
                        bytes: u64::MAX >> 1,
                        modified_ns: -1_763_719_725_123_456_789,
                    }),
                },
                warnings: vec!["jpeg: cut".to_owned(), String::new()][..index % 3].to_vec(),
            };
            (row, vector(index, dim))
        });
        Listed {
            rows: rows.collect(),
            failed: Vec::new(),
        }
    }

    pub(crate) fn texts(texts: &[&str], dim: usize) -> Listed {
        let rows = texts.iter().enumerate().map(|(index, text)| {
            let row = Row {
                given: None,
                item: Item::Text((*text).to_owned()),
                warnings: Vec::new(),
            };
            (row, vector(index, dim))
        });
        Listed {
            rows: rows.collect(),
            failed: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{about, images};
    use super::*;
    use crate::output::Name;

    #[test]
    fn the_suffix_names_the_format() {
        let cases = [
            ("a.npy", Some(Format::Npy)),
            ("a.b.SafeTensors", Some(Format::Safetensors)),
            ("b/a.parquet", Some(Format::Parquet)),
            ("a.jsonl", Some(Format::Jsonl)),
            ("a.NDJSON", Some(Format::Jsonl)),
            ("a.json", None),
            ("npy", None),
            ("/dev/stdout", None),
        ];
        for (path, expected) in cases {
            assert_eq!(Format::of_path(Path::new(path)).ok(), expected, "{path}");
        }
    }

    #[test]
    fn a_list_of_failures_does_not_outlive_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let mut rows = images(2, 4);
        rows.failed = vec![Failure {
            kind: None,
            given: None,
            name: Name::Text("x".to_owned()),
            error: "too long".to_owned(),
        }];
        write(Format::Npy, &path, &about(Kind::Images, 4), &rows).unwrap();
        let list = fs::read_to_string(errors_of(&path)).unwrap();
        assert_eq!(list, "{\"text\":\"x\",\"error\":\"too long\"}\n");
        rows.failed.clear();
        write(Format::Npy, &path, &about(Kind::Images, 4), &rows).unwrap();
        assert!(!errors_of(&path).exists());
    }

    #[test]
    fn narrow_numbers_are_refused_by_formats_without_them() {
        for (format, fits) in [
            (Format::Npy, true),
            (Format::Safetensors, true),
            (Format::Parquet, false),
            (Format::Jsonl, false),
        ] {
            assert_eq!(format.check_dtype(Dtype::F16).is_ok(), fits, "{format:?}");
            assert!(format.check_dtype(Dtype::F32).is_ok());
        }
    }
}
