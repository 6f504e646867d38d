//! A file of embeddings and the classes of its rows.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::data::ListedLabels;
use crate::embedding::{self, Embeddings, Kind, NoRows, sidecar_of};
use crate::input::dataset;
use crate::input::paths::split_name;
use crate::output::{ImageName, Name};
use crate::run::Console;
use crate::run::made_with::{Foreign, MadeWith};
use crate::task::linear_probe::Samples;

/// The rows of a file of embeddings that have a class.
pub(super) struct Embedded {
    path: PathBuf,
    file: Embeddings,
    rows: Vec<usize>,
    names: Vec<ImageName>,
}

impl Embedded {
    /// Opens the file and returns it with the names of its classes, and the class of each row that
    /// has one.
    pub(super) fn open(
        path: &Path,
        labels: &ListedLabels,
        known: Option<&[String]>,
        console: &Console,
    ) -> Result<(Self, Vec<String>, Vec<usize>)> {
        let file = embedding::open_any(path)?;
        ensure!(
            file.about().is_none_or(|about| about.kind == Kind::Images),
            "{} holds embeddings of texts, but a probe is trained on images; embed images instead",
            path.display()
        );
        ensure!(
            file.rows() > 0,
            "{}: {NoRows}; embed images first",
            path.display()
        );
        let mut names = Vec::new();
        for row in 0..file.rows() {
            let name = file.name(row);
            match name.with_context(|| format!("cannot read {}", path.display()))? {
                Some(Name::Image(name)) => names.push(name),
                Some(Name::Text(_)) => {
                    bail!("{} mixes texts with images", path.display())
                }
                None => bail!(
                    "the rows of {} have no names, but classes are derived from image paths; write \
                     {} with one line {{\"image\": PATH}} per row",
                    path.display(),
                    sidecar_of(&split_name(path).0).display()
                ),
            }
        }
        let paths: Vec<&Path> = names.iter().map(|name| Path::new(&name.text)).collect();
        let (classes, of) = match (labels.is_empty(), known) {
            (false, _) => (
                labels.classes().to_vec(),
                by_file(path, &paths, labels, console)?,
            ),
            (true, None) => by_folder(path, &paths)?,
            (true, Some(known)) => (known.to_vec(), by_known_folder(path, &paths, known)?),
        };
        let rows: Vec<usize> = (0..names.len()).filter(|&row| of[row].is_some()).collect();
        let (classes, of) = used(classes, of.into_iter().flatten().collect());
        let embedded = Self {
            path: path.to_owned(),
            names: rows.iter().map(|&row| names[row].clone()).collect(),
            file,
            rows,
        };
        Ok((embedded, classes, of))
    }

    /// The model that it was made with, if it says so.
    pub(super) fn made_with(&self) -> Option<MadeWith<'_>> {
        Some(MadeWith {
            path: &self.path,
            about: self.file.about()?,
            redo: "embed again",
        })
    }

    /// The matrix of another program, if it is one.
    pub(super) fn foreign(&self) -> Option<Foreign<'_>> {
        match &self.file {
            Embeddings::Ours(_) => None,
            Embeddings::Matrix(matrix) => Some(Foreign {
                path: &self.path,
                matrix,
            }),
        }
    }

    /// The names of the images.
    pub(super) fn names(&self) -> &[ImageName] {
        &self.names
    }

    /// Adds all embeddings, with these classes.
    pub(super) fn read(&self, classes: &[usize], samples: &mut Samples) -> Result<()> {
        let dim = self.file.dim();
        let mut values = Vec::new();
        let mut block = 0..0;
        for ((&row, class), name) in self.rows.iter().zip(classes).zip(&self.names) {
            if !block.contains(&row) {
                let end = self.file.rows().min(row + self.file.block_rows());
                block = row..end;
                self.file
                    .vectors(block.clone(), &mut values)
                    .with_context(|| format!("cannot read {}", self.path.display()))?;
            }
            let embedding = &values[(row - block.start) * dim..][..dim];
            samples.push(embedding, *class).with_context(|| {
                format!(
                    "cannot use row {row} of {} ({}): the file was changed or is damaged; embed \
                     again",
                    self.path.display(),
                    name.text
                )
            })?;
        }
        Ok(())
    }
}

/// Only the classes that a row has, in byte order as for folders.
fn used(classes: Vec<String>, of: Vec<usize>) -> (Vec<String>, Vec<usize>) {
    let mut is_used = vec![false; classes.len()];
    of.iter().for_each(|&class| is_used[class] = true);
    let mut order: Vec<usize> = (0..classes.len()).filter(|&class| is_used[class]).collect();
    order.sort_by(|a, b| classes[*a].cmp(&classes[*b]));
    let mut place = vec![0; classes.len()];
    for (at, &class) in order.iter().enumerate() {
        place[class] = at;
    }
    (
        order.iter().map(|&class| classes[class].clone()).collect(),
        of.iter().map(|&class| place[class]).collect(),
    )
}

/// Takes classes from `--labels-from`; other rows are skipped.
fn by_file(
    path: &Path,
    paths: &[&Path],
    labels: &ListedLabels,
    console: &Console,
) -> Result<Vec<Option<usize>>> {
    let found: Vec<Option<usize>> = (paths.iter())
        .map(|row| labels.class(row))
        .collect::<Result<_>>()?;
    let count = found.iter().flatten().count();
    ensure!(
        count > 0,
        "{} lists none of the images of {}, such as {}; paths are resolved as written and from the \
         folder of the list",
        labels.files(),
        path.display(),
        paths[0].display()
    );
    if count < found.len() {
        console.note(&format!(
            "{} of {} images in {} have no label in {} and are skipped",
            found.len() - count,
            found.len(),
            path.display(),
            labels.files()
        ));
    }
    Ok(found)
}

/// The class is the first folder in which the paths differ.
fn by_folder(path: &Path, paths: &[&Path]) -> Result<(Vec<String>, Vec<Option<usize>>)> {
    let folders: Vec<Vec<String>> = paths.iter().map(|path| folders(path)).collect();
    let common = (folders.iter()).fold(folders[0].len(), |common, one| {
        let same = one.iter().zip(&folders[0]).take_while(|(a, b)| a == b);
        same.count().min(common)
    });
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut of = Vec::new();
    for (row, folders) in folders.iter().enumerate() {
        let Some(name) = folders.get(common) else {
            bail!(
                "cannot derive classes from the paths in {}: {} is not in a class folder; embed \
                 folders of two or more classes, or pass --labels-from FILE",
                path.display(),
                paths[row].display()
            );
        };
        let next = places.len();
        of.push(Some(*places.entry(name).or_insert(next)));
    }
    let mut names: Vec<String> = vec![String::new(); places.len()];
    for (name, place) in places {
        names[place] = name.to_owned();
    }
    // The folders where the paths differ.
    let mut images = vec![Vec::new(); names.len()];
    for (folders, place) in folders.iter().zip(of.iter().flatten()) {
        images[*place].push(
            folders
                .iter()
                .skip(common)
                .collect::<PathBuf>()
                .join("image"),
        );
    }
    ensure!(
        !dataset::are_parts(&names, &images),
        "the folders in {} ({}) are parts of a dataset, not classes; embed each part to its own \
         file",
        path.display(),
        names.join(", ")
    );
    Ok((names, of))
}

/// The class is the innermost folder that is a known class.
fn by_known_folder(path: &Path, paths: &[&Path], known: &[String]) -> Result<Vec<Option<usize>>> {
    let places: HashMap<&str, usize> = (known.iter().enumerate())
        .map(|(at, name)| (name.as_str(), at))
        .collect();
    let class = |row: &&Path| {
        let folders = folders(row);
        let found = folders
            .iter()
            .rev()
            .find_map(|name| places.get(name.as_str()));
        let found = found.copied().with_context(|| {
            format!(
                "{} in {} is not in the folder of a training class, such as {:?}; omit it, or pass \
                 --labels-from FILE",
                row.display(),
                path.display(),
                known[0]
            )
        });
        found.map(Some)
    };
    paths.iter().map(class).collect()
}

/// The folders of a path.
fn folders(path: &Path) -> Vec<String> {
    let parent = path.parent().unwrap_or(Path::new(""));
    let name = |component| match component {
        Component::Normal(name) => Some(dataset::composed(&name.to_string_lossy())),
        Component::ParentDir => Some("..".to_owned()),
        _ => None,
    };
    parent.components().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_classes(paths: &[&str]) -> Result<Vec<String>, String> {
        let paths: Vec<&Path> = paths.iter().map(Path::new).collect();
        let (names, of) =
            by_folder(Path::new("x.npy"), &paths).map_err(|error| error.to_string())?;
        Ok(of
            .into_iter()
            .flatten()
            .map(|class| names[class].clone())
            .collect())
    }

    #[test]
    fn the_class_is_the_first_folder_where_paths_differ() {
        let cases: [(&[&str], &[&str]); 3] = [
            (&["cat/a.png", "./dog/b.png"], &["cat", "dog"]),
            (&["/x/y/cat/a.png", "/x/y/dog/old/b.png"], &["cat", "dog"]),
            (
                &["p/cat/z/a.png", "p/cat/b.png", "p/ant/z/c.png"],
                &["cat", "cat", "ant"],
            ),
        ];
        for (paths, expected) in cases {
            assert_eq!(folder_classes(paths).unwrap(), expected, "{paths:?}");
        }
        let odd: [(&[&str], &str); 5] = [
            (&["a.png", "b.png"], "a.png is not in a class folder"),
            (&["cat/a.png", "cat/b.png"], "is not in a class folder"),
            (&["cat/a.png", "b.png"], "b.png is not in a class folder"),
            (&["train/cat/a.png", "test/dog/b.png"], "parts of a dataset"),
            (
                &[
                    "x/seg_train/cat/a.png",
                    "x/seg_train/dog/b.png",
                    "x/seg_test/cat/c.png",
                    "x/seg_test/dog/d.png",
                ],
                "parts of a dataset",
            ),
        ];
        for (paths, part) in odd {
            let error = folder_classes(paths).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_innermost_known_class_counts() {
        let known = ["cat".to_owned(), "dog".to_owned()];
        let find = |path: &str| {
            let found = by_known_folder(Path::new("x.npy"), &[Path::new(path)], &known);
            found.map(|found| found[0])
        };
        assert_eq!(find("a/dog/cat/x.png").unwrap(), Some(0));
        assert_eq!(find("dog/deep/x.png").unwrap(), Some(1));
        assert!(find("cow/cat.png").is_err());
    }

    #[test]
    fn only_classes_with_images_are_kept_in_byte_order() {
        let names = ["z", "b", "a"].map(str::to_owned).to_vec();
        let (names, of) = used(names, vec![2, 0, 2]);
        assert_eq!(
            (names, of),
            (vec!["a".to_owned(), "z".to_owned()], vec![0, 1, 0])
        );
    }
}
