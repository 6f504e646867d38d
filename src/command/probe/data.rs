//! The images and classes of `DATA`, `--test` and `--val`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::DataArgs;
use super::embedded::Embedded;
use super::labels_from::Labels;
use crate::input::dataset;
use crate::input::dataset::{LabelledOptions, clean};
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
        let labels = Labels::read(&args.labels_from)?;
        let train = open(&args.data, "train", (&labels, None), console)?;
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
                let named = open(path, split, (&labels, known), console)?;
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
    (labels, known): (&Labels, Option<&[String]>),
    console: &Console,
) -> Result<Named> {
    if holds_embeddings(path)? {
        let (embedded, names, classes) = Embedded::open(path, (labels, known), console)?;
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
    let suffix = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    if path.is_dir() {
        return Ok(false);
    }
    match suffix.as_str() {
        "npy" | "npz" | "safetensors" | "parquet" => {
            if !path.exists() {
                bail!("{} does not exist", path.display());
            }
            Ok(true)
        }
        "jsonl" if path.is_file() => {
            let reading = || format!("cannot read {}", path.display());
            let file = File::open(path).with_context(reading)?;
            let mut line = Vec::new();
            let mut limited = BufReader::new(file.take(LONGEST_LINE));
            limited.read_until(b'\n', &mut line).with_context(reading)?;
            let first: Option<serde_json::Value> = serde_json::from_slice(&line).ok();
            let has = |key| first.as_ref().is_some_and(|line| line.get(key).is_some());
            Ok(has("embedding") || has("model") && has("precision"))
        }
        _ => Ok(false),
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
