//! The file that is searched.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::query::Query;
use crate::command::Console;
use crate::command::made_with::MadeWith;
use crate::input::embedding::{self, EmbeddingFile, Mapped, NoRows};
use crate::input::image::{self, DecodeOptions};
use crate::input::resize::bicubic;
use crate::output::embedding::{Item, Name};
use crate::output::found::{Answer, Hit as Found, Picture};
use crate::task::search::{Hit, Vectors, search};

/// How far an embedding's length may be off 1: what rounding to 16 bits does, and some more.
const TOLERANCE: f64 = 2e-3;

/// Rows whose length is looked at before a search.
const SAMPLED: usize = 64;

/// Cells of a picture in the table, across; it is at most about as many pixels high.
const PREVIEW_COLUMNS: usize = 32;

pub(super) struct Index {
    path: PathBuf,
    file: Box<dyn EmbeddingFile>,
}

impl Index {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let index = Self {
            path: path.to_owned(),
            file: embedding::open(path)?,
        };
        ensure!(index.file.rows() > 0, NoRows);
        let step = index.file.rows().div_ceil(SAMPLED);
        (0..index.file.rows())
            .step_by(step)
            .try_for_each(|row| index.check_length(row))?;
        Ok(index)
    }

    /// What to say when there is no model to search with.
    pub(super) fn wants(&self) -> String {
        let model = &self.file.about().model;
        format!(
            "cannot search {}, which was made with the model {model} (--model {model})",
            self.path.display()
        )
    }

    /// The index as what a model made.
    pub(super) fn made_with(&self) -> MadeWith<'_> {
        MadeWith {
            path: &self.path,
            about: self.file.about(),
            anew: "embed anew",
        }
    }

    /// The `k` nearest rows of each query `[dim]`; of one that has several embeddings `[n, dim]`,
    /// the rows nearest to any of them.
    fn search(&self, queries: &[&[f32]], k: usize) -> Result<Vec<Vec<Hit>>> {
        let dim = self.file.about().dim;
        let mut found = self.search_each(&queries.concat(), k)?.into_iter();
        let mut all = Vec::new();
        for query in queries {
            let mut hits: Vec<Hit> = found.by_ref().take(query.len() / dim).flatten().collect();
            // A row counts once, at its best.
            hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
            let mut seen = HashSet::new();
            hits.retain(|hit| seen.insert(hit.row));
            hits.truncate(k);
            all.push(hits);
        }
        Ok(all)
    }

    /// The same for embeddings `[n, dim]`.
    fn search_each(&self, queries: &[f32], k: usize) -> Result<Vec<Vec<Hit>>> {
        let dim = self.file.about().dim;
        match self.file.numbers() {
            Some(Mapped::F32(numbers)) => search(queries, Vectors::F32(numbers), dim, k),
            Some(Mapped::F16(numbers)) => search(queries, Vectors::F16(numbers), dim, k),
            None => self.search_blocks(queries, k),
        }
    }

    /// Block by block, for files that must be decoded.
    fn search_blocks(&self, queries: &[f32], k: usize) -> Result<Vec<Vec<Hit>>> {
        let (rows, dim) = (self.file.rows(), self.file.about().dim);
        let mut best: Vec<Vec<Hit>> = vec![Vec::new(); queries.len() / dim];
        let mut values = Vec::new();
        for start in (0..rows).step_by(self.file.block_rows()) {
            let end = rows.min(start + self.file.block_rows());
            self.file.vectors(start..end, &mut values)?;
            let found = search(queries, Vectors::F32(&values), dim, k)?;
            for (best, found) in best.iter_mut().zip(found) {
                best.extend(found.into_iter().map(|hit| Hit {
                    row: hit.row + start,
                    ..hit
                }));
                // Stable: equal ones stay in the order of their rows.
                best.sort_by(|a, b| b.score.total_cmp(&a.score));
                best.truncate(k);
            }
        }
        Ok(best)
    }

    /// The answers to all queries, with pictures if there is somebody to tell why one has none.
    pub(super) fn answers(
        &self,
        queries: &[Query],
        encoded: Vec<Result<Vec<f32>>>,
        k: usize,
        preview: Option<&Console>,
    ) -> Result<Vec<Answer>> {
        let embeddings: Vec<&[f32]> = encoded.iter().flatten().map(Vec::as_slice).collect();
        let mut hits = self.search(&embeddings, k)?.into_iter();
        let mut answers = Vec::new();
        for (query, encoded) in queries.iter().zip(encoded) {
            let outcome = match encoded {
                Ok(_) => Ok(self.named(&hits.next().unwrap_or_default(), preview)?),
                Err(error) => Err(format!("{error:#}")),
            };
            answers.push(Answer {
                query: query.shown(),
                outcome,
            });
        }
        Ok(answers)
    }

    /// Hits with their names, and with pictures where they are wanted.
    fn named(&self, hits: &[Hit], preview: Option<&Console>) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for hit in hits {
            self.check_length(hit.row)?;
            let (name, picture) = match self.file.row(hit.row)?.item {
                Item::Text(text) => (Name::Text(text), None),
                Item::Image { name, .. } => {
                    let picture = preview.zip(name.path()).and_then(|(console, path)| {
                        let picture = thumbnail(&path);
                        if let Err(error) = &picture {
                            console.warn(&format!("{}: no preview: {error:#}", name.text));
                        }
                        picture.ok()
                    });
                    (Name::Image(name), picture)
                }
            };
            found.push(Found {
                name,
                cosine: hit.score,
                picture,
            });
        }
        Ok(found)
    }

    /// Cosines are products of unit vectors.
    fn check_length(&self, row: usize) -> Result<()> {
        let mut values = Vec::new();
        self.file
            .vectors(row..row + 1, &mut values)
            .with_context(|| format!("cannot search {}", self.path.display()))?;
        let squares: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
        let length = squares.sqrt();
        if (length - 1.0).abs() <= TOLERANCE {
            return Ok(());
        }
        bail!(
            "row {row} of {} has the length {length}, and embeddings have 1: the file was changed or \
             is damaged; embed anew",
            self.path.display()
        )
    }
}

/// A few pixels of the picture at `path`.
fn thumbnail(path: &Path) -> Result<Picture> {
    let image = image::read(path, &DecodeOptions::default())?.image;
    let columns = PREVIEW_COLUMNS.min(image.width.max(1));
    let rows = (image.height * columns / image.width.max(1)).clamp(1, 2 * PREVIEW_COLUMNS);
    let small = bicubic(&image, columns, rows);
    Ok(Picture::new(small.width, small.pixels))
}
