//! Which rows of an index are the query itself.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::query::Query;
use crate::embedding::{Embeddings, Item};
use crate::file::stamp::Stamp;
use crate::output::{ImageName, Name};

/// What a query was made of, by which its rows are known.
pub(super) struct Own {
    files: Vec<OwnFile>,
    texts: Vec<String>,
    /// Where paths of rows may lead from, besides the working folder: the index's.
    folder: PathBuf,
}

/// An image of a query.
struct OwnFile {
    place: PathBuf,
    name: Option<OsString>,
    stamp: Option<Stamp>,
}

impl Own {
    /// What `queries`, which are asked together of the index at `index`, are made of.
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

    /// Whether a row is of one of the query's images or texts. An image's row is known by its path, which
    /// leads to the same file from here or from the folder of the index; or, wherever it was embedded, by
    /// its name, size and time of change together. A copy under another name is another image.
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
    /// `None` for a file that is not there: its query fails.
    fn new(path: &Path) -> Option<Self> {
        Some(Self {
            place: fs::canonicalize(path).ok()?,
            name: path.file_name().map(OsString::from),
            stamp: Stamp::of(path),
        })
    }
}
