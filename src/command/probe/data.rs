//! The images and classes of `DATA`, `--test` and `--val`, with the lists of `--labels-from`.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::DataArgs;
use super::embedded::Embedded;
use crate::embedding;
use crate::file::open;
use crate::input::dataset::{self, LabelledOptions, Split, clean};
use crate::input::paths::split_name;
use crate::run::Console;
use crate::run::images::IMAGES;

/// The first line is read up to this many bytes.
const LONGEST_LINE: u64 = 1 << 24;

/// Images from one source, each with its class.
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) source: Source,
    /// The class of each image, as an index into [`Data::classes`].
    pub(super) classes: Vec<usize>,
}

/// Where images come from; there are as many as [`Part::classes`].
pub(super) enum Source {
    /// A file of embeddings, and the rows that have a class.
    Embedded(Embedded),
    /// Image files.
    Images(Vec<dataset::Sample>),
}

/// All images of a run.
pub(super) struct Data {
    /// The names of the classes in the training data.
    pub(super) classes: Vec<String>,
    /// Whether these are names of folders.
    pub(super) are_folders: bool,
    pub(super) train: Part,
    pub(super) validation: Option<Part>,
    pub(super) test: Option<Part>,
}

/// Images with named classes.
struct Named {
    source: Source,
    names: Vec<String>,
    classes: Vec<usize>,
    are_folders: bool,
}

impl Data {
    /// Opens all files; images are read later.
    pub(super) fn open(args: &DataArgs, console: &Console) -> Result<Self> {
        let labels = ListedLabels::read(&args.labels_from)?;
        let train = open(&args.data, "train", &labels, None, console)?;
        dataset::check_single_labels(&train.names)?;
        ensure!(
            train.names.len() > 1,
            "{} has images of only one class ({:?}); a probe needs at least two",
            args.data.display(),
            train.names.first().map_or("", String::as_str)
        );
        let other = |path: &Option<PathBuf>, split| {
            let part = |path: &PathBuf| -> Result<Part> {
                let known = Some(train.names.as_slice());
                let named = open(path, split, &labels, known, console)?;
                matched(path, named, &train.names, &args.data)
            };
            path.as_ref().map(part).transpose()
        };
        let opened = Self {
            validation: other(&args.val, "val")?,
            test: other(&args.test, "test")?,
            are_folders: train.are_folders,
            train: Part {
                path: args.data.clone(),
                source: train.source,
                classes: train.classes,
            },
            classes: train.names,
        };
        let is_embedded = |part: &Part| matches!(part.source, Source::Embedded(_));
        ensure!(
            labels.is_empty() || opened.parts().any(is_embedded),
            "--labels-from applies only to files from longclip embed; datasets have classes of \
             their own"
        );
        Ok(opened)
    }

    /// The parts that exist: training, validation and test images.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        let others = [&self.validation, &self.test].into_iter().flatten();
        std::iter::once(&self.train).chain(others)
    }
}

/// With `known` classes, any folder in a path may be one of them. Of a file with splits, `split` is
/// used.
fn open(
    path: &Path,
    split: &'static str,
    labels: &ListedLabels,
    known: Option<&[String]>,
    console: &Console,
) -> Result<Named> {
    if holds_embeddings(path)? {
        let (embedded, names, classes) = Embedded::open(path, labels, known, console)?;
        return Ok(Named {
            source: Source::Embedded(embedded),
            names,
            classes,
            are_folders: labels.is_empty(),
        });
    }
    let found = dataset::labelled(path, &LabelledOptions::usual(split), IMAGES)?;
    console.remarks(&found.remarks);
    Ok(Named {
        classes: found.samples.iter().map(|sample| sample.class).collect(),
        source: Source::Images(found.samples),
        names: found.classes,
        are_folders: path.is_dir(),
    })
}

/// Whether a file holds embeddings, judging by its name, or for JSON lines by the first line.
fn holds_embeddings(path: &Path) -> Result<bool> {
    let (path, _) = split_name(path);
    let path = path.as_path();
    if path.is_dir() {
        return Ok(false);
    }
    match embedding::kind_of(path) {
        Some("jsonl") if path.is_file() => {
            let reading = || format!("cannot read {}", path.display());
            let (file, _) = open::regular(path).with_context(reading)?;
            let mut line = Vec::new();
            let mut limited = BufReader::new(file.take(LONGEST_LINE));
            limited.read_until(b'\n', &mut line).with_context(reading)?;
            let first: Option<serde_json::Value> = serde_json::from_slice(&line).ok();
            let has = |key| first.as_ref().is_some_and(|line| line.get(key).is_some());
            Ok(has("embedding") || has("model") && has("precision"))
        }
        None | Some("jsonl") => Ok(false),
        Some(_) => {
            ensure!(path.exists(), "{} does not exist", path.display());
            Ok(true)
        }
    }
}

/// Maps the classes of a part to those of the training data.
fn matched(path: &Path, part: Named, known: &[String], train: &Path) -> Result<Part> {
    let exact: HashMap<&str, usize> = (known.iter().enumerate())
        .map(|(at, name)| (name.as_str(), at))
        .collect();
    let plain = |name: &str| clean(name).to_lowercase();
    let mut loose: HashMap<String, Option<usize>> = HashMap::new();
    for (at, name) in known.iter().enumerate() {
        // Names that two classes share match neither.
        loose
            .entry(plain(name))
            .and_modify(|found| *found = None)
            .or_insert(Some(at));
    }
    let find = |name: &String| {
        let found = exact.get(name.as_str()).copied();
        found.or_else(|| loose.get(&plain(name)).copied().flatten())
    };
    let mut places = Vec::new();
    for name in &part.names {
        let place = find(name).with_context(|| {
            format!(
                "{} has images of the class {name:?}, but {} has none; omit them, or add such \
                 images to both",
                path.display(),
                train.display()
            )
        })?;
        places.push(place);
    }
    Ok(Part {
        path: path.to_owned(),
        source: part.source,
        classes: part.classes.iter().map(|class| places[*class]).collect(),
    })
}

/// The lists of `--labels-from`, with the classes of embedded images.
#[derive(Default)]
pub(super) struct ListedLabels {
    classes: Vec<String>,
    /// By absolute path, relative names resolved from the list's folder.
    of: HashMap<PathBuf, usize>,
    /// By absolute path, relative names resolved from the working folder; `None` if lists disagree
    /// because they mean different images.
    typed: HashMap<PathBuf, Option<usize>>,
    files: String,
}

impl ListedLabels {
    /// Reads the files, if any.
    fn read(files: &[PathBuf]) -> Result<Self> {
        let mut labels = Self::default();
        let mut places: HashMap<String, usize> = HashMap::new();
        for file in files {
            ensure!(
                !file.is_dir(),
                "--labels-from {} is a folder; name a .csv, .tsv or .jsonl file with columns path and \
                 label",
                file.display()
            );
            let options = LabelledOptions {
                shards: false,
                images: None,
                split: Split::All,
            };
            let found = dataset::labelled(file, &options, IMAGES)?;
            let folder = file.parent().unwrap_or(Path::new(""));
            for sample in found.samples {
                let Ok(path) = sample.source else { continue };
                let next = places.len();
                let name = &found.classes[sample.class];
                let class = *places.entry(name.clone()).or_insert(next);
                let other = labels.of.insert(normal(&path), class);
                ensure!(
                    other.is_none_or(|other| other == class),
                    "--labels-from {} gives two classes to {}",
                    file.display(),
                    path.display()
                );
                let typed = normal(path.strip_prefix(folder).unwrap_or(&path));
                let said = labels.typed.entry(typed).or_insert(Some(class));
                *said = said.filter(|said| *said == class);
            }
        }
        let mut names: Vec<(String, usize)> = places.into_iter().collect();
        names.sort_by_key(|(_, place)| *place);
        labels.classes = names.into_iter().map(|(name, _)| name).collect();
        let shown: Vec<_> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        labels.files = shown.join(", ");
        Ok(labels)
    }

    /// The class of a row, if it has one.
    pub(super) fn class(&self, row: &Path) -> Result<Option<usize>> {
        let row_path = normal(row);
        if let Some(&class) = self.of.get(&row_path) {
            return Ok(Some(class));
        }
        let typed = self.typed.get(&row_path);
        typed
            .copied()
            .map(|class| {
                class.with_context(|| {
                format!(
                    "{} give different classes to {}, each relative to its own folder; embed the \
                     images with paths that are valid from here, or pass only one of the files",
                    self.files,
                    row.display()
                )
            })
            })
            .transpose()
    }

    /// All classes, in order of first appearance.
    pub(super) fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The files, for error messages.
    pub(super) fn files(&self) -> &str {
        &self.files
    }

    /// Whether no file was given.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// An absolute path without `.` components.
fn normal(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lists_may_use_the_same_relative_names() {
        let folder = tempfile::tempdir().unwrap();
        let list = |name: &str, lines: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, format!("path,label\n{lines}")).unwrap();
            path
        };
        let lists = [
            list("a/list.csv", "1.png,ox\n2.png,ox\n"),
            list("b/list.csv", "1.png,emu\n2.png,ox\n"),
        ];
        let labels = ListedLabels::read(&lists).unwrap();
        let class = |row: &Path| {
            let class = labels.class(row).map_err(|error| error.to_string());
            class.map(|class| class.map(|class| labels.classes[class].as_str()))
        };
        assert_eq!(class(&folder.path().join("a/1.png")), Ok(Some("ox")));
        assert_eq!(class(&folder.path().join("b/1.png")), Ok(Some("emu")));
        // Relative to the working folder, they agree on one image and not on the other.
        assert_eq!(class(Path::new("2.png")), Ok(Some("ox")));
        let error = class(Path::new("1.png")).unwrap_err();
        assert!(error.contains("give different classes to 1.png"), "{error}");
        assert_eq!(class(Path::new("3.png")), Ok(None));
        let other = list("b/other.csv", "../a/1.png,emu\n1.png,ox\n");
        let error = ListedLabels::read(&[lists[1].clone(), other])
            .map(drop)
            .unwrap_err();
        let error = error.to_string();
        assert!(error.contains("gives two classes to "), "{error}");
        assert!(error.ends_with("b/1.png"), "{error}");
    }

    #[test]
    fn files_of_embeddings_are_told_from_lists() {
        let room = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = room.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let cases = [
            (file("a.npy", ""), true),
            (file("a.NPZ", ""), true),
            (room.path().join("a.NPZ:images"), true),
            (file("list.csv", "path,label\n"), false),
            (
                file("list.jsonl", "{\"path\": \"a.jpg\", \"label\": \"ox\"}\n"),
                false,
            ),
            (
                file("rows.jsonl", "{\"path\": \"a.jpg\", \"embedding\": [1]}\n"),
                true,
            ),
            (
                file("head.jsonl", "{\"model\": \"m\", \"precision\": \"f32\"}\n"),
                true,
            ),
            (file("rows.ndjson", "{\"embedding\": [1]}\n"), true),
            (file("odd.jsonl", "no JSON\n"), false),
            (room.path().to_owned(), false),
            (room.path().join("missing.csv"), false),
        ];
        for (path, expected) in cases {
            let found = holds_embeddings(&path).unwrap();
            assert_eq!(found, expected, "{}", path.display());
        }
        let error = holds_embeddings(&room.path().join("missing.npy")).unwrap_err();
        assert!(error.to_string().ends_with("missing.npy does not exist"));
    }
}
