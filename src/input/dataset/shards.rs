//! Archives of images with one class each: next to an image (`0001.jpg`) is its label as a text
//! (`0001.cls`) or in an object (`0001.json`), as in WebDataset; a table has a column of labels; or
//! images lie in one folder per class.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::names::composed;
use super::parts::{self, Folder};
use super::{Labelled, Remark, Sample, manifest};
use crate::input::paths::{self, Expansion, ImageRule, ImageSource, PassedOver, PathError};
use crate::input::shard::{self, Item, Kind, LABEL_KEYS, key};
use crate::input::text_file;
use crate::output::FailureKind;

/// An image that was found.
type Image = Result<PathBuf, PathError>;

/// Lists the images of the archives that `root` names.
pub(super) fn labelled(root: &Path, shards: Vec<PathBuf>, rule: ImageRule) -> Result<Labelled> {
    let passed_over = PassedOver::default();
    let mut reading = Reading::default();
    for path in &shards {
        let reading_it = || format!("cannot read {}", path.display());
        let kind = Kind::of(path).unwrap_or(Kind::Tar);
        let members = shard::open(path, kind, rule, passed_over.clone());
        reading
            .shard(members.with_context(reading_it)?)
            .with_context(reading_it)?;
    }
    let Reading {
        mut found,
        unlabelled,
        ..
    } = reading;
    let shown = root.display();
    match (found.samples.is_empty(), unlabelled.first()) {
        (true, None) => bail!("{shown} has no images"),
        (true, Some(_)) => by_folder(root, &shards, unlabelled, &mut found)?,
        (false, None) => {}
        (false, Some(first)) => bail!(
            "{} images of {shown} have no label, such as {}; add {}",
            unlabelled.len(),
            name(first).display(),
            missing(root)
        ),
    }
    let skipped = passed_over.system_folders();
    let skipped = skipped.map(|folders| Remark::Detail(format!("skipped {folders}")));
    found.remarks.extend(skipped);
    found.shards = shards;
    Ok(found)
}

/// What an archive without labels needs.
fn missing(root: &Path) -> &'static str {
    match Kind::of(root) {
        Some(Kind::Parquet) => "a column \"label\" with a text or a class number in each row",
        _ => "a .cls or a .json with a label next to each",
    }
}

fn name(image: &Image) -> &Path {
    match image {
        Ok(path) => path,
        Err(error) => &error.path,
    }
}

/// What was found in the archives so far.
#[derive(Default)]
struct Reading {
    class_of: HashMap<String, usize>,
    found: Labelled,
    unlabelled: Vec<Image>,
}

impl Reading {
    fn shard(&mut self, mut members: shard::Members) -> Result<()> {
        // The key of its sample, the image, and the label that a table has.
        let mut images: Vec<(String, Image, Option<String>)> = Vec::new();
        // Of `.cls` and of `.json`, by the keys of their samples. Tar keeps the order of a folder's
        // files, which need not be that of their names.
        let mut labels: HashMap<String, [Option<String>; 2]> = HashMap::new();
        while let Some(item) = members.next_or_text(is_label) {
            // Figures of a part of the images would be taken for those of all.
            let item = item.map_err(|error| anyhow!("{}", error.cause))?;
            let key = |path: &Path| key(&path.to_string_lossy()).to_owned();
            match item {
                Item::Image(image) => {
                    let image = image.map(|member| member.name().to_owned());
                    images.push((key(name(&image)), image, members.label()?));
                }
                Item::Text(path, text) => {
                    let label = text.and_then(|text| label(&path, &text));
                    let label = label.with_context(|| format!("cannot use {}", path.display()))?;
                    let known = labels.entry(key(&path)).or_default();
                    let known = &mut known[usize::from(is_json(&path))];
                    ensure!(
                        known.is_none() || *known == label,
                        "{} occurs twice, with different labels",
                        path.display()
                    );
                    *known = label;
                }
            }
        }
        for (key, source, own) in images {
            let label = labels
                .get(&key)
                .and_then(|[class, json]| class.as_ref().or(json.as_ref()));
            match own.as_ref().or(label) {
                Some(label) => {
                    let class = class_of(&mut self.class_of, &mut self.found.classes, label);
                    self.found.samples.push(Sample { source, class });
                }
                None => self.unlabelled.push(source),
            }
        }
        Ok(())
    }
}

/// The index of the class of this name, which is added if it is new.
fn class_of(known: &mut HashMap<String, usize>, names: &mut Vec<String>, label: &str) -> usize {
    *known
        .entry(composed(label.trim()))
        .or_insert_with_key(|label| {
            names.push(label.clone());
            names.len() - 1
        })
}

fn is_json(path: &Path) -> bool {
    text_file::extension(path) == "json"
}

fn is_label(path: &Path) -> bool {
    is_json(path) || text_file::extension(path) == "cls"
}

/// The label in a file; an object may have none.
fn label(path: &Path, text: &str) -> Result<Option<String>> {
    if !is_json(path) {
        ensure!(!text.trim().is_empty(), "the label is empty");
        return Ok(Some(text.trim().to_owned()));
    }
    let object = text_file::json_object(text)?;
    let value = LABEL_KEYS.iter().find_map(|key| object.get(*key));
    value.map(manifest::label_of).transpose()
}

/// Takes the folders of the archives, or the folders in the only one, for classes.
fn by_folder(
    root: &Path,
    shards: &[PathBuf],
    images: Vec<Image>,
    found: &mut Labelled,
) -> Result<()> {
    let inside = |image: &Image| -> Vec<String> {
        let path = name(image);
        let shard = shards.iter().find(|shard| path.starts_with(shard));
        let path = shard
            .and_then(|shard| path.strip_prefix(shard).ok())
            .unwrap_or(path);
        let folders = path.parent().into_iter().flat_map(Path::iter);
        folders
            .map(|folder| folder.to_string_lossy().into_owned())
            .collect()
    };
    let folders: Vec<Vec<String>> = images.iter().map(inside).collect();
    // Archives often hold one folder with everything.
    let first = folders.first().map_or(&[][..], Vec::as_slice);
    let is_common = |depth: &usize| {
        let same =
            |folders: &Vec<String>| folders.len() > depth + 1 && folders[*depth] == first[*depth];
        *depth < first.len() && folders.iter().all(same)
    };
    let depth = (0..).take_while(is_common).count();
    let mut classes: BTreeMap<String, Vec<&Path>> = BTreeMap::new();
    for (folders, image) in folders.iter().zip(&images) {
        if let Some(class) = folders.get(depth) {
            classes
                .entry(composed(class))
                .or_default()
                .push(name(image));
        }
    }
    if classes.is_empty() {
        bail!(
            "the images of {} have no labels; add {}, or one folder per class",
            root.display(),
            missing(root)
        );
    }
    let parts: Vec<Folder<'_>> = (classes.iter())
        .map(|(name, images)| Folder::new(name, root, images.iter().copied()))
        .collect();
    let remarks = parts::check(root, &parts)?;
    found.classes = classes.into_keys().collect();
    found.remarks.extend(remarks);
    let count = images.len();
    for (folders, source) in folders.iter().zip(images) {
        let class = folders.get(depth).map(|class| composed(class));
        let class = class.and_then(|class| found.classes.binary_search(&class).ok());
        found
            .samples
            .extend(class.map(|class| Sample { source, class }));
    }
    let loose = count - found.samples.len();
    if loose > 0 {
        found.remarks.push(Remark::Note(format!(
            "skipped {loose} image{} of {} outside the class folders",
            if loose == 1 { "" } else { "s" },
            root.display()
        )));
    }
    Ok(())
}

/// The images of a dataset, one after another.
pub(crate) struct Sources {
    samples: std::vec::IntoIter<Image>,
    /// The archives that hold the images, if they are in some.
    shards: Option<Expansion>,
}

impl Sources {
    pub(super) fn new(dataset: &Labelled, rule: ImageRule) -> Result<Self> {
        let images = dataset.samples.iter().map(|sample| sample.source.clone());
        let shards = (!dataset.shards.is_empty())
            .then(|| paths::expand(dataset.shards.clone(), None, rule))
            .transpose()?;
        Ok(Self {
            samples: images.collect::<Vec<_>>().into_iter(),
            shards,
        })
    }
}

impl Iterator for Sources {
    type Item = Result<ImageSource, PathError>;

    fn next(&mut self) -> Option<Self::Item> {
        let sample = self.samples.next()?;
        let (Some(shards), Ok(path)) = (&mut self.shards, &sample) else {
            return Some(sample.map(ImageSource::Path));
        };
        // Images without a class are passed over.
        let mut sources = shards.map(|entry| entry.source);
        let is_it = |source: &Self::Item| match source {
            Ok(ImageSource::Member(member)) => member.name() == path,
            _ => false,
        };
        Some(sources.find(is_it).unwrap_or_else(|| {
            let cause = "is no longer in its archive, which changed meanwhile";
            Err(PathError {
                path: path.clone(),
                cause: FailureKind::Missing.because(cause),
            })
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.samples.size_hint()
    }
}

impl ExactSizeIterator for Sources {}
