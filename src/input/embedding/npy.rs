//! NumPy's format as longclip embed writes it, with the row names in a file next to it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::lines::Lines;
use super::matrix::npy::Header;
use super::{EmbeddingFile, Mapped, NoRows, Numbers, map};
use crate::output::embedding::{About, Line, Row, sidecar_of};

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
