//! The file of embeddings that is searched.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::query::Query;
use crate::embedding::{self, Embeddings, Item, Mapped, NoRows};
use crate::file::exhaustion;
use crate::file::stamp::Stamp;
use crate::input::image::{self, DecodeOptions};
use crate::input::resize::bicubic;
use crate::output::found::{NamedHit, Preview};
use crate::output::{ImageName, Name};
use crate::run::Console;
use crate::run::flags::{EngineArgs, ModelArgs};
use crate::run::made_with::{Foreign, MadeWith};
use crate::run::session::Session;
use crate::task::search::{Hit, Vectors, search};

/// Maximum deviation of an embedding's length from 1: rounding to 16 bits, with some margin.
const TOLERANCE: f64 = 2e-3;

/// Rows whose length is checked before a search.
const SAMPLED: usize = 64;

/// Width of an image in the table, in cells; its height in pixels is at most about the same.
const PREVIEW_COLUMNS: usize = 32;

pub(super) struct Index {
    path: PathBuf,
    file: Embeddings,
}

/// Which hits of a query to return.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// The maximum number.
    pub(super) most: usize,
    /// The minimum cosine.
    pub(super) threshold: Option<f32>,
}

/// What a search found.
pub(super) struct Hits {
    /// The best hits of each query.
    pub(super) of_query: Vec<Vec<Hit>>,
    /// Whether more hits reached the threshold than were returned.
    pub(super) are_cut: bool,
}

impl Index {
    pub(super) fn open(path: &Path) -> Result<Self> {
        exhaustion::doing("reading the index");
        let index = Self {
            path: path.to_owned(),
            file: embedding::open_any(path)?,
        };
        ensure!(index.file.rows() > 0, NoRows);
        let step = index.file.rows().div_ceil(SAMPLED);
        (0..index.file.rows())
            .step_by(step)
            .try_for_each(|row| index.check_length(row))?;
        Ok(index)
    }

    /// The model to encode queries with.
    pub(super) fn model(&self, args: &EngineArgs, console: &Console) -> Result<ModelArgs> {
        match (self.made_with(), self.foreign()) {
            (Some(made), _) => made.model(args, console),
            (None, foreign) => {
                foreign.map_or(Ok(()), |foreign| foreign.check_choice(args.choice))?;
                Ok(args.model.clone())
            }
        }
    }

    /// Fails if the model's embeddings have another dimension.
    pub(super) fn check_dim(&self, session: &Session) -> Result<()> {
        match (self.made_with(), self.foreign()) {
            (Some(made), _) => made.check_dim(session),
            (None, foreign) => foreign.map_or(Ok(()), |foreign| foreign.check_dim(session)),
        }
    }

    /// Fails if the file says which model made it and the weights differ. Reads all weights.
    pub(super) fn check_model(&self, session: &Session) -> Result<()> {
        self.made_with()
            .map_or(Ok(()), |made| made.check_model(session))
    }

    /// Reports what a file of another program does not specify.
    pub(super) fn report(&self, session: &Session, console: &Console) {
        if let Some(foreign) = self.foreign() {
            foreign.report(session, console);
        }
    }

    /// The number of features per row.
    pub(super) fn dim(&self) -> usize {
        self.file.dim()
    }

    /// Whether its rows have names.
    pub(super) fn has_names(&self) -> bool {
        match &self.file {
            Embeddings::Ours(_) => true,
            Embeddings::Matrix(matrix) => matrix.has_names(),
        }
    }

    /// The error when the model cannot be opened.
    pub(super) fn wants(&self) -> String {
        let path = self.path.display();
        match self.file.about() {
            Some(about) => format!(
                "cannot search {path}, which was made with model {0} (--model {0})",
                about.model
            ),
            None => format!("cannot search {path}"),
        }
    }

    fn made_with(&self) -> Option<MadeWith<'_>> {
        Some(MadeWith {
            path: &self.path,
            about: self.file.about()?,
            redo: "embed again",
        })
    }

    fn foreign(&self) -> Option<Foreign<'_>> {
        match &self.file {
            Embeddings::Ours(_) => None,
            Embeddings::Matrix(matrix) => Some(Foreign {
                path: &self.path,
                matrix,
            }),
        }
    }

    /// The hits of each query, without the rows that are the query itself according to `own`.
    pub(super) fn hits(
        &self,
        queries: &[&[f32]],
        own: &[Option<Own>],
        wanted: Wanted,
    ) -> Result<Hits> {
        // One more shows whether hits were cut off.
        let mut fetched = wanted.most.saturating_add(1);
        loop {
            let found = self.search(queries, fetched)?;
            let mut hits = Hits {
                of_query: Vec::new(),
                are_cut: false,
            };
            let mut are_all = true;
            for (mut found, own) in found.into_iter().zip(own) {
                let is_end = found.len() < fetched;
                found.retain(|hit| wanted.threshold.is_none_or(|least| hit.score >= least));
                let is_end = is_end || found.len() < fetched;
                if let Some(own) = own {
                    let mut kept = Vec::new();
                    for hit in found {
                        if !own.is(&self.file, hit.row)? {
                            kept.push(hit);
                        }
                    }
                    found = kept;
                }
                are_all &= is_end || found.len() > wanted.most;
                hits.are_cut |= found.len() > wanted.most;
                found.truncate(wanted.most);
                hits.of_query.push(found);
            }
            if are_all {
                return Ok(hits);
            }
            fetched = fetched.saturating_mul(2);
        }
    }

    /// The `k` nearest rows of each query `[dim]`, or the rows nearest to any of its embeddings
    /// `[n, dim]`.
    fn search(&self, queries: &[&[f32]], k: usize) -> Result<Vec<Vec<Hit>>> {
        let dim = self.file.dim();
        let mut found = self.search_each(&queries.concat(), k)?.into_iter();
        let mut all = Vec::new();
        for query in queries {
            let mut hits: Vec<Hit> = found.by_ref().take(query.len() / dim).flatten().collect();
            // A row counts once, with its best score.
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
        let dim = self.file.dim();
        match self.file.numbers() {
            Some(Mapped::F32(numbers)) => search(queries, Vectors::F32(numbers), dim, k),
            Some(Mapped::F16(numbers)) => search(queries, Vectors::F16(numbers), dim, k),
            None => self.search_blocks(queries, k),
        }
    }

    /// Searches block by block, for files that must be decoded.
    fn search_blocks(&self, queries: &[f32], k: usize) -> Result<Vec<Vec<Hit>>> {
        let (rows, dim) = (self.file.rows(), self.file.dim());
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
                // Stable: ties stay in row order.
                best.sort_by(|a, b| b.score.total_cmp(&a.score));
                best.truncate(k);
            }
        }
        Ok(best)
    }

    /// Hits with their names, and with image previews if `preview` is given, which is warned of
    /// images that have none.
    pub(super) fn named(
        &self,
        hits: &[Hit],
        preview: Option<(&Console, &DecodeOptions)>,
    ) -> Result<Vec<NamedHit>> {
        let mut found = Vec::new();
        for hit in hits {
            self.check_length(hit.row)?;
            let name = self.file.name(hit.row)?;
            let small = match &name {
                Some(Name::Image(name)) => {
                    preview
                        .zip(name.path())
                        .and_then(|((console, decode), path)| {
                            let image = thumbnail(&path, decode);
                            if let Err(error) = &image {
                                console.warn(&format!("{}: no preview: {error:#}", name.text));
                            }
                            image.ok()
                        })
                }
                Some(Name::Text(_)) | None => None,
            };
            found.push(NamedHit {
                row: hit.row,
                name,
                cosine: hit.score,
                preview: small,
            });
        }
        Ok(found)
    }

    /// Checks that a row is a unit vector, since cosines are computed as dot products. Rows of a
    /// matrix are normalised when they are read.
    fn check_length(&self, row: usize) -> Result<()> {
        if self.file.about().is_none() {
            return Ok(());
        }
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
            "row {row} of {} has length {length} instead of 1: the file was changed or is damaged; \
             embed again",
            self.path.display()
        )
    }
}

/// A small preview of the image at `path`.
fn thumbnail(path: &Path, decode: &DecodeOptions) -> Result<Preview> {
    let image = image::read(path, decode)?.image;
    let columns = PREVIEW_COLUMNS.min(image.width.max(1));
    let rows = (image.height * columns / image.width.max(1)).clamp(1, 2 * PREVIEW_COLUMNS);
    let small = bicubic(&image, columns, rows);
    Ok(Preview::new(small.width, small.pixels))
}

/// The images and texts of a query, by which its rows are recognised.
pub(super) struct Own {
    files: Vec<OwnFile>,
    texts: Vec<String>,
    /// The folder of the index: paths of rows may be relative to it.
    folder: PathBuf,
}

/// An image file of a query.
struct OwnFile {
    place: PathBuf,
    name: Option<OsString>,
    stamp: Option<Stamp>,
}

impl Own {
    /// The images and texts of `queries`, which form one query of the index at `index`.
    pub(super) fn new<'a>(queries: impl Iterator<Item = &'a Query>, index: &Path) -> Self {
        let (mut files, mut texts) = (Vec::new(), Vec::new());
        for query in queries {
            match query {
                Query::Text(text) => texts.push(text.clone()),
                Query::Image(path) => files.extend(OwnFile::new(path)),
            }
        }
        Self {
            files,
            texts,
            folder: index.parent().unwrap_or(Path::new("")).to_owned(),
        }
    }

    /// Whether a row belongs to one of the query's images or texts. An image is recognised by its
    /// path, relative to the working folder or the folder of the index, or by its name, size and
    /// modification time together. A copy under another name is another image.
    pub(super) fn is(&self, index: &Embeddings, row: usize) -> Result<bool> {
        let (name, stamp) = match index {
            Embeddings::Matrix(matrix) => (matrix.name(row)?, None),
            Embeddings::Ours(file) => match file.row(row)?.item {
                Item::Image { name, stamp, .. } => (Some(Name::Image(name)), stamp),
                Item::Text(text) => (Some(Name::Text(text)), None),
            },
        };
        Ok(match name {
            Some(Name::Image(name)) => self.files.iter().any(|own| self.is_file(own, &name, stamp)),
            Some(Name::Text(text)) => self.texts.contains(&text),
            None => false,
        })
    }

    fn is_file(&self, own: &OwnFile, name: &ImageName, stamp: Option<Stamp>) -> bool {
        let Some(path) = name.path() else {
            return false;
        };
        let leads_there =
            |path: &Path| fs::canonicalize(path).is_ok_and(|place| place == own.place);
        let is_same = own.name.as_deref() == path.file_name() && stamp == own.stamp;
        (is_same && stamp.is_some())
            || leads_there(&path)
            || (path.is_relative() && leads_there(&self.folder.join(&path)))
    }
}

impl OwnFile {
    /// `None` if the file does not exist; its query fails.
    fn new(path: &Path) -> Option<Self> {
        Some(Self {
            place: fs::canonicalize(path).ok()?,
            name: path.file_name().map(OsString::from),
            stamp: Stamp::of(path),
        })
    }
}
