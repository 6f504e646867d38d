//! Several files of embeddings as one, in order.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    About, EmbeddingFile, Entry, Failure, Format, Line, Rows, Take, journal_of, open, write,
};
use crate::file::lock::lock;
use crate::input::text_file::Lines;

/// One of the files.
pub(crate) struct Piece {
    /// The file; `None` if nothing in it could be embedded.
    pub(crate) file: Option<PathBuf>,
    /// The list of its failures.
    pub(crate) errors: Option<PathBuf>,
    /// The rows in it.
    pub(crate) rows: usize,
    /// The failures in the list.
    pub(crate) failures: usize,
}

/// Writes the rows of `pieces` to a file at `path`: the bytes of a file that was written at once. At
/// least one piece must have rows.
///
/// # Errors
/// When a file was made with something else than the first, cannot be read or written, or another
/// run is writing at `path`.
pub(crate) fn join(format: Format, path: &Path, pieces: &[Piece]) -> Result<()> {
    let first = pieces.iter().find_map(|piece| piece.file.as_deref());
    let about = open(first.context("there is nothing to join")?)?
        .about()
        .clone();
    // As for a run that embeds: one writer at a time.
    let journal = journal_of(path);
    let held = lock(&journal)?;
    ensure!(
        held.metadata()?.len() == 0,
        "{} was left by a stopped run; finish that one with --resume, or choose another --output",
        journal.display()
    );
    let joined = Joined { pieces, about };
    let written = write(format, path, &joined.about, &joined);
    let removed = fs::remove_file(&journal);
    written?;
    removed.with_context(|| format!("cannot remove {}", journal.display()))
}

struct Joined<'a> {
    pieces: &'a [Piece],
    about: About,
}

impl Rows for Joined<'_> {
    fn rows(&self) -> usize {
        self.pieces.iter().map(|piece| piece.rows).sum()
    }

    fn failures(&self) -> usize {
        self.pieces.iter().map(|piece| piece.failures).sum()
    }

    fn visit(&self, take: &mut Take<'_>) -> Result<()> {
        for piece in self.pieces {
            if let Some(path) = &piece.file {
                let file = open(path)?;
                if let Some(difference) = file.about().difference(&self.about) {
                    bail!("{} differs from the first ({difference})", path.display());
                }
                ensure!(
                    file.rows() == piece.rows,
                    "{} has {} rows, but {} are recorded",
                    path.display(),
                    file.rows(),
                    piece.rows
                );
                rows_of(&*file, take).with_context(|| format!("cannot read {}", path.display()))?;
            }
            for failure in piece.errors.iter().flat_map(|path| failures_of(path)) {
                take(Entry::Failed(&failure?))?;
            }
        }
        Ok(())
    }
}

fn rows_of(file: &dyn EmbeddingFile, take: &mut Take<'_>) -> Result<()> {
    let dim = file.about().dim;
    let mut values = Vec::new();
    for start in (0..file.rows()).step_by(file.block_rows()) {
        let end = (start + file.block_rows()).min(file.rows());
        file.vectors(start..end, &mut values)?;
        for (index, embedding) in (start..end).zip(values.chunks_exact(dim)) {
            take(Entry::Row(&file.row(index)?, embedding))?;
        }
    }
    Ok(())
}

/// The failures in a list that [`write()`] wrote.
fn failures_of(path: &Path) -> Box<dyn Iterator<Item = Result<Failure>> + '_> {
    let lines = match Lines::open(path) {
        Ok(lines) => lines,
        Err(error) => return Box::new(std::iter::once(Err(error))),
    };
    Box::new(lines.map(move |line| {
        let text = line.text().map_err(|bad| anyhow::anyhow!("{}", bad.cause));
        let failure = text.and_then(|text| Line::from_bytes(text.as_bytes())?.failure());
        failure.with_context(|| format!("cannot read {}", path.display()))
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Listed, about, images};
    use super::super::{Kind, errors_of};
    use super::*;
    use crate::output::{FailureKind, ImageName, Name};

    fn failure(name: &str) -> Failure {
        Failure {
            name: Name::Image(ImageName::from(Path::new(name))),
            error: "gone".to_owned(),
            kind: Some(FailureKind::Missing),
            given: None,
        }
    }

    #[test]
    fn joined_files_have_the_bytes_of_one() {
        let folder = tempfile::tempdir().unwrap();
        let about = about(Kind::Images, 5);
        let all = images(7, about.dim);
        for suffix in ["npy", "safetensors", "parquet"] {
            let at = |name: &str| folder.path().join(format!("{name}.{suffix}"));
            let format = Format::of_path(&at("x")).unwrap();
            let parts = [(0..3, vec!["a"]), (3..3, vec!["b", "c"]), (3..7, vec![])];
            let mut pieces = Vec::new();
            for (index, (rows, failed)) in parts.into_iter().enumerate() {
                let path = at(&index.to_string());
                let part = Listed {
                    rows: all.rows[rows.clone()].to_vec(),
                    failed: failed.iter().map(|name| failure(name)).collect(),
                };
                write(format, &path, &about, &part).unwrap();
                pieces.push(Piece {
                    errors: (!failed.is_empty()).then(|| errors_of(&path)),
                    file: (!rows.is_empty()).then_some(path),
                    rows: rows.len(),
                    failures: failed.len(),
                });
            }
            let whole = Listed {
                failed: ["a", "b", "c"].map(failure).to_vec(),
                rows: all.rows.clone(),
            };
            write(format, &at("whole"), &about, &whole).unwrap();
            join(format, &at("joined"), &pieces).unwrap();
            let bytes = |path: &Path| fs::read(path).unwrap();
            assert_eq!(bytes(&at("joined")), bytes(&at("whole")), "{suffix}");
            let errors = |name| bytes(&errors_of(&at(name)));
            assert_eq!(errors("joined"), errors("whole"), "{suffix}");
            // What an interrupted run left stays.
            fs::write(journal_of(&at("joined")), "LCEMBED1").unwrap();
            let error = join(format, &at("joined"), &pieces).unwrap_err();
            assert!(error.to_string().contains("left by a stopped run"));
            assert_eq!(bytes(&journal_of(&at("joined"))), b"LCEMBED1");
            pieces[0].rows += 1;
            let error = join(format, &at("other"), &pieces).unwrap_err();
            assert!(error.to_string().contains("are recorded"), "{error:#}");
        }
    }
}
