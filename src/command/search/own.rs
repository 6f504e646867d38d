//! Finds the rows of an index that are the query itself.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::query::Query;
use crate::embedding::{Embeddings, Item};
use crate::file::stamp::Stamp;
use crate::output::{ImageName, Name};

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
