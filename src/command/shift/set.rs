//! One of the two sets: where its images or embeddings are, and the classes that it names.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::embedding::{self, Embeddings, Kind, NoRows};
use crate::input::dataset::{self, Labelled, LabelledOptions};
use crate::input::paths::is_shard;
use crate::output::Name;
use crate::run::Console;
use crate::run::flags::ImageArgs;
use crate::run::images::{IMAGES, Images};
use crate::run::made_with::{Foreign, MadeWith};

/// A set before its images are read.
pub(super) struct Set {
    pub(super) path: PathBuf,
    pub(super) source: Source,
}

/// Where the images are.
pub(super) enum Source {
    /// A file of embeddings.
    Embedded(Embedded),
    /// A dataset with a class per image.
    Dataset(Labelled),
    /// Images without classes.
    Images(Box<Images>),
}

/// A file of embeddings, and the class folder of each row if all have one.
pub(super) struct Embedded {
    pub(super) file: Embeddings,
    pub(super) classes: Option<(Vec<String>, Vec<usize>)>,
}

impl Set {
    /// Opens the set at `path`. Classes are looked for only if there are `labels` for them.
    pub(super) fn open(path: &Path, has_labels: bool, console: &Console) -> Result<Self> {
        let source = match path.is_dir() || is_shard(path, IMAGES) {
            true => images(path, has_labels, console)?,
            false if embedding::kind_of(path).is_some() => Source::Embedded(Embedded::open(path)?),
            false => {
                let options = LabelledOptions::usual("test");
                let found = dataset::labelled(path, &options, IMAGES)?;
                console.remarks(&found.remarks);
                Source::Dataset(found)
            }
        };
        Ok(Self {
            path: path.to_owned(),
            source,
        })
    }

    /// The names of the classes, if images have one.
    pub(super) fn classes(&self) -> Option<&[String]> {
        match &self.source {
            Source::Embedded(embedded) => {
                let classes = embedded.classes.as_ref();
                classes.map(|(names, _)| names.as_slice())
            }
            Source::Dataset(dataset) => Some(&dataset.classes),
            Source::Images(_) => None,
        }
    }

    /// The model that a file of embeddings was made with, if it says so.
    pub(super) fn made_with(&self) -> Option<MadeWith<'_>> {
        match &self.source {
            Source::Embedded(embedded) => Some(MadeWith {
                path: &self.path,
                about: embedded.file.about()?,
                redo: "embed again",
            }),
            Source::Dataset(_) | Source::Images(_) => None,
        }
    }

    /// The matrix of another program, if it is one.
    pub(super) fn foreign(&self) -> Option<Foreign<'_>> {
        match &self.source {
            Source::Embedded(Embedded {
                file: Embeddings::Matrix(matrix),
                ..
            }) => Some(Foreign {
                path: &self.path,
                matrix,
            }),
            _ => None,
        }
    }

    /// The embeddings, if they are read from a file.
    pub(super) fn embedded(&self) -> Option<&Embedded> {
        match &self.source {
            Source::Embedded(embedded) => Some(embedded),
            Source::Dataset(_) | Source::Images(_) => None,
        }
    }
}

/// A folder or an archive: a dataset if it has classes and they are wanted.
fn images(path: &Path, has_labels: bool, console: &Console) -> Result<Source> {
    if has_labels {
        let options = LabelledOptions::usual("test").or_shards();
        match dataset::labelled(path, &options, IMAGES) {
            Ok(found) => {
                console.remarks(&found.remarks);
                return Ok(Source::Dataset(found));
            }
            Err(error) => {
                console.detail(&format!("{} has no true labels: {error:#}", path.display()))
            }
        }
    }
    let args = ImageArgs {
        images: vec![path.to_owned()],
        files_from: None,
        null: false,
        tar: false,
    };
    Ok(Source::Images(Box::new(Images::open(&args, &[])?)))
}

impl Embedded {
    fn open(path: &Path) -> Result<Self> {
        ensure!(
            path.exists() || path.to_string_lossy().contains(':'),
            "{} does not exist",
            path.display()
        );
        let file = embedding::open_any(path)?;
        ensure!(
            file.about().is_none_or(|about| about.kind == Kind::Images),
            "{} holds embeddings of texts, but images are compared; embed images instead",
            path.display()
        );
        ensure!(
            file.rows() > 0,
            "{}: {NoRows}; embed images first",
            path.display()
        );
        let mut folders = Vec::new();
        for row in 0..file.rows() {
            let name = file.name(row);
            match name.with_context(|| format!("cannot read {}", path.display()))? {
                Some(Name::Image(name)) => {
                    let folder = Path::new(&name.text).parent().and_then(Path::file_name);
                    folders.push(folder.map(|name| name.to_string_lossy().into_owned()));
                }
                Some(Name::Text(_)) => bail!("{} mixes texts with images", path.display()),
                None => folders.push(None),
            }
        }
        let folders: Option<Vec<String>> = folders.into_iter().collect();
        Ok(Self {
            file,
            classes: folders.map(numbered),
        })
    }

    /// The number of rows.
    pub(super) fn len(&self) -> usize {
        self.file.rows()
    }

    /// Passes each row `[dim]` to `take`, in order.
    pub(super) fn for_each(
        &self,
        path: &Path,
        mut take: impl FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let (dim, step) = (self.file.dim(), self.file.block_rows());
        let mut values = Vec::new();
        for start in (0..self.len()).step_by(step) {
            let end = self.len().min(start + step);
            let reading = || format!("cannot read {}", path.display());
            let read = self.file.vectors(start..end, &mut values);
            read.with_context(reading)?;
            for (row, vector) in (start..).zip(values.chunks_exact(dim)) {
                take(row, vector).with_context(reading)?;
            }
        }
        Ok(())
    }
}

/// The names without repetitions in byte order, and the index of each.
fn numbered(all: Vec<String>) -> (Vec<String>, Vec<usize>) {
    let mut names = all.clone();
    names.sort_unstable();
    names.dedup();
    let of = all
        .iter()
        .map(|name| names.partition_point(|other| other < name));
    let of = of.collect();
    (names, of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_numbered_in_byte_order() {
        let all = ["b", "a", "b", "c"].map(str::to_owned).to_vec();
        let (names, of) = numbered(all);
        assert_eq!(
            (names, of),
            (
                ["a", "b", "c"].map(str::to_owned).to_vec(),
                vec![1, 0, 1, 2]
            )
        );
    }
}
