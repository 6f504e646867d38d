//! Images with captions, in the formats of the common retrieval datasets.
//!
//! - `captions_val2017.json` (COCO): `{"images": [{id, file_name}], "annotations": [{image_id,
//!   caption}]}`.
//! - `dataset_flickr30k.json` (Karpathy's splits): `{"images": [{filename, split, sentences:
//!   [{raw}]}]}`.
//! - Urban-1k: the folders `image` and `caption`, with one text file per image; or one folder with
//!   both; text files end in `.txt` or `.caption`.
//! - A folder with a `metadata.jsonl` or `.csv`, as on the Hugging Face Hub.
//! - Tables or JSON Lines with path and caption; several captions per image are several rows or a
//!   list. Flickr8k's captions.txt and token files, Flickr30k's results.csv.
//! - JSON: a list of objects as in JSON Lines, or `{path: [caption, …]}`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::rows::{ImagePaths, Parts};
use super::{Split, folders, pairs, rows};
use crate::input::paths::{ImageRule, ImageSource, PathError};
use crate::input::text_file::column::{CAPTION, PATH};
use crate::input::text_file::{Fields, fields_of};
use crate::input::{paths, text_file};

/// A longer text file next to an image is not a caption.
const LONGEST_CAPTION: u64 = 1 << 20;

/// Which lines of a caption file are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CaptionLines {
    /// All lines.
    #[default]
    Whole,
    /// The first line, as Long-CLIP's Urban-1k script does.
    First,
}

/// Which part of a dataset is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct CaptionOptions {
    /// Which lines of a caption file are used.
    pub lines: CaptionLines,
    /// Maximum number of captions per image; the first ones are kept.
    pub most: Option<usize>,
    /// Folder of the images that a file names; by default the file's own folder.
    pub images: Option<PathBuf>,
    /// Split of a file that has several.
    pub split: Option<String>,
    /// The default split; without one, Karpathy's test split and all rows of a table.
    pub usual_split: Option<&'static str>,
    /// What to do with bad captions.
    pub bad: BadCaptions,
}

/// What to do with captions without a word, and with those of a missing image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BadCaptions {
    /// They are an error.
    #[default]
    Refused,
    /// Empty captions are passed on unchanged, and problems with the others are collected.
    Kept,
}

/// Images and captions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Captioned {
    /// The images, without duplicates.
    pub images: Vec<PathBuf>,
    /// The captions.
    pub texts: Vec<String>,
    /// Index of the image of each caption.
    pub image_of_text: Vec<usize>,
    /// Problems with captions of missing images, and where these captions are.
    pub lost: Vec<(String, String)>,
    /// Notes on what was guessed about the file.
    pub notes: Vec<String>,
    /// The kind of file and what was read of it, for the report.
    pub protocol: String,
}

impl Captioned {
    /// The images as the pipeline takes them.
    #[must_use]
    pub(crate) fn sources(&self) -> Vec<Result<ImageSource, PathError>> {
        let paths = self.images.iter().cloned();
        paths.map(|path| Ok(ImageSource::Path(path))).collect()
    }
}

/// Reads images with captions.
///
/// # Errors
/// When it is not such a dataset, an image has no name or a caption is empty.
pub(crate) fn captioned(
    path: &Path,
    options: &CaptionOptions,
    rule: ImageRule,
) -> Result<Captioned> {
    let usual = options.usual_split.map_or(Split::All, Split::Usual);
    let mut reading = CaptionReader {
        options,
        parts: Parts::new(options.split.as_deref().map_or(usual, Split::Named)),
        place_of: HashMap::new(),
        counts: Vec::new(),
        found: Captioned::default(),
    };
    if !path.is_dir() && pairs::shards(path)?.is_some() {
        bail!(
            "{} names tar archives, which only finetune reads; unpack them to a folder",
            path.display()
        );
    }
    let kind = if path.is_dir() {
        reading.folder(path, rule)
    } else if text_file::extension(path) == "json" {
        reading.json(path, rule)
    } else {
        reading.rows(path)
    };
    let kind = kind.with_context(|| format!("cannot read captions from {}", path.display()))?;
    let CaptionReader {
        counts,
        mut found,
        parts,
        ..
    } = reading;
    found.notes.extend(parts.note(path)?);
    ensure!(
        !found.texts.is_empty(),
        "there are no captions in {}",
        path.display()
    );
    let several = counts.iter().filter(|count| **count > 1).count();
    found.protocol = format!(
        "{kind}; {} images, {} captions{}; {}{}",
        found.images.len(),
        found.texts.len(),
        if several > 0 {
            ", any caption of an image counts as correct"
        } else {
            ""
        },
        match options.lines {
            CaptionLines::Whole => "whole captions",
            CaptionLines::First => "first line of each caption",
        },
        options.most.map_or(String::new(), |most| format!(
            ", the first {most} of each image"
        )),
    );
    Ok(found)
}

struct CaptionReader<'a> {
    options: &'a CaptionOptions,
    /// Which rows were read; data without rows have no splits either.
    parts: Parts<'a>,
    place_of: HashMap<PathBuf, usize>,
    /// Maximum number of captions per image.
    counts: Vec<usize>,
    found: Captioned,
}

impl CaptionReader<'_> {
    fn image(&mut self, path: PathBuf) -> usize {
        let Self {
            place_of,
            counts,
            found,
            ..
        } = self;
        *place_of.entry(path).or_insert_with_key(|path| {
            counts.push(0);
            found.images.push(path.clone());
            found.images.len() - 1
        })
    }

    fn caption(&mut self, image: usize, text: &str) -> Result<()> {
        if self
            .options
            .most
            .is_some_and(|most| self.counts[image] >= most)
        {
            return Ok(());
        }
        let text = match self.options.lines {
            CaptionLines::Whole => text.trim(),
            CaptionLines::First => text.trim_start().lines().next().unwrap_or_default().trim(),
        };
        ensure!(
            !text.is_empty() || self.options.bad == BadCaptions::Kept,
            "a caption of {} is empty; add a caption or remove the image",
            self.found.images[image].display()
        );
        self.counts[image] += 1;
        self.found.texts.push(text.to_owned());
        self.found.image_of_text.push(image);
        Ok(())
    }

    /// One row of a file: an image and its captions.
    fn row(&mut self, images: &mut ImagePaths, row: &Fields) -> Result<()> {
        if !self.parts.takes(row) {
            return Ok(());
        }
        let path = images.path(rows::text(row, PATH, "path")?)?;
        let image = self.image(path);
        captions_of(row, CAPTION)?
            .iter()
            .try_for_each(|text| self.caption(image, text))
    }

    fn rows(&mut self, path: &Path) -> Result<String> {
        let mut images = ImagePaths::new(path, self.options.images.as_deref());
        let rows = rows::rows(path, "path,caption")?;
        self.found.notes.extend(rows.notes.iter().cloned());
        for (line, row) in rows {
            let take = || self.row(&mut images, &row?);
            take().with_context(|| format!("line {line}"))?;
        }
        self.found.notes.extend(images.note());
        Ok("rows of path and caption".to_owned())
    }

    fn folder(&mut self, root: &Path, rule: ImageRule) -> Result<String> {
        if let Some(file) = folders::metadata(root)? {
            let kind = self.rows(&file)?;
            let unnamed = match self.options.images {
                None => unnamed(root, rule, &self.place_of)?,
                // Those that the file names are elsewhere.
                Some(_) => String::new(),
            };
            return Ok(format!("{kind} in {}{unnamed}", file.display()));
        }
        let sidecars = Sidecars::of(root);
        let mut without = Vec::new();
        for entry in paths::expand(vec![sidecars.images.clone()], None, rule)? {
            let ImageSource::Path(path) = entry.source? else {
                continue;
            };
            match sidecars.caption(&path)? {
                Some(text) => {
                    let image = self.image(path);
                    self.caption(image, &text)?;
                }
                None => without.push(path),
            }
        }
        if let Some(first) = without.first() {
            let (count, shown) = (without.len(), first.display());
            if self.found.texts.is_empty() {
                bail!(
                    "no image has a caption; {shown} needs a file of the same name that ends in .txt or \
                     .caption, or the folder a metadata.jsonl with columns file_name and text"
                );
            }
            bail!(
                "{count} of the images have no caption (the first is {shown}); add .txt files of \
                 the same names, or remove the images"
            );
        }
        Ok("one text file per image".to_owned())
    }
}

/// The note on images in a folder that its file does not name.
pub(super) fn unnamed<T>(
    root: &Path,
    rule: ImageRule,
    named: &HashMap<PathBuf, T>,
) -> Result<String> {
    let all = paths::expand(vec![root.to_owned()], None, rule)?;
    let is_unnamed = |entry: &paths::Entry| match &entry.source {
        Ok(ImageSource::Path(path)) => !named.contains_key(path),
        _ => false,
    };
    Ok(match all.filter(is_unnamed).count() {
        0 => String::new(),
        1 => " (1 other image of the folder is skipped)".to_owned(),
        count => format!(" ({count} other images of the folder are skipped)"),
    })
}

/// Captions in files next to images, or in a separate folder as in Urban-1k.
pub(super) struct Sidecars {
    /// The folder of the images.
    pub(super) images: PathBuf,
    captions: PathBuf,
}

impl Sidecars {
    pub(super) fn of(root: &Path) -> Self {
        let part = |names: [&str; 2]| {
            let mut places = names.map(|name| root.join(name)).into_iter();
            places.find(|path| path.is_dir())
        };
        match (part(["image", "images"]), part(["caption", "captions"])) {
            (Some(images), Some(captions)) => Self { images, captions },
            _ => Self {
                images: root.to_owned(),
                captions: root.to_owned(),
            },
        }
    }

    /// The file with this extension that belongs to an image.
    pub(super) fn file(&self, image: &Path, extension: &str) -> PathBuf {
        let inside = image.strip_prefix(&self.images).unwrap_or(image);
        self.captions.join(inside).with_extension(extension)
    }

    /// The caption of an image, if it has one.
    ///
    /// # Errors
    /// When a file cannot be read, or two files disagree.
    pub(super) fn caption(&self, image: &Path) -> Result<Option<String>> {
        let [text, other] = ["txt", "caption"].map(|extension| self.file(image, extension));
        let (own, more) = (content(&text)?, content(&other)?);
        if let (Some(own), Some(more)) = (&own, &more) {
            ensure!(
                own.trim() == more.trim(),
                "{} and {} differ; keep one of them",
                text.display(),
                other.display()
            );
        }
        Ok(own.or(more))
    }
}

/// The file's text; `None` if it does not exist.
pub(super) fn content(path: &Path) -> Result<Option<String>> {
    match path.try_exists() {
        Ok(false) => Ok(None),
        _ => Ok(Some(text_file::read(path, LONGEST_CAPTION)?.content)),
    }
}

/// A row's caption or captions, from the first of these columns that has any.
pub(super) fn captions_of(row: &Fields, columns: &[&str]) -> Result<Vec<String>> {
    let value = rows::value(row, columns);
    match value.with_context(|| rows::missing(row, columns, "caption"))? {
        Value::Array(list) => {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let texts: Option<Vec<String>> = list.iter().map(text).collect();
            texts
                .filter(|texts| !texts.is_empty())
                .context("the list of captions is empty or holds values that are not strings")
        }
        _ => Ok(vec![rows::text(row, columns, "caption")?.to_owned()]),
    }
}

#[cfg(test)]
mod tests;

/// Larger files are not caption files.
const LIMIT_BYTES: u64 = 2 << 30;

#[derive(Deserialize)]
struct Json {
    images: Vec<JsonImage>,
    annotations: Option<Vec<Annotation>>,
}

#[derive(Deserialize)]
struct JsonImage {
    id: Option<u64>,
    #[serde(alias = "filename")]
    file_name: String,
    /// The folder, in Karpathy's COCO file.
    filepath: Option<String>,
    split: Option<String>,
    sentences: Option<Vec<Sentence>>,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    caption: String,
}

#[derive(Deserialize)]
struct Sentence {
    raw: String,
}

impl CaptionReader<'_> {
    pub(super) fn json(&mut self, path: &Path, rule: ImageRule) -> Result<String> {
        let text = text_file::read(path, LIMIT_BYTES)?.content;
        let mut images = ImagePaths::new(path, self.options.images.as_deref());
        let kind = match serde_json::from_str::<Json>(&text) {
            Ok(Json {
                images: all,
                annotations: Some(annotations),
            }) => self.coco(&mut images, &all, &annotations),
            Ok(json) => self.karpathy(&images, json.images),
            Err(error) => self.other(&mut images, &text, rule, error),
        };
        self.found.notes.extend(images.note());
        kind
    }

    /// A list of objects, or `{path: [caption, …]}`.
    fn other(
        &mut self,
        images: &mut ImagePaths,
        text: &str,
        rule: ImageRule,
        error: serde_json::Error,
    ) -> Result<String> {
        let names_images = |map: &Map<String, Value>| {
            let is_image = |name: &String| rule.has_image_extension(Path::new(name));
            !map.is_empty() && map.keys().all(is_image)
        };
        match serde_json::from_str(text) {
            Ok(Value::Array(list)) => {
                for (place, entry) in (1..).zip(list) {
                    let taken = fields_of(entry, "it").and_then(|row| self.row(images, &row));
                    taken.with_context(|| format!("entry {place}"))?;
                }
                Ok("a JSON list of images and captions".to_owned())
            }
            Ok(Value::Object(map)) if names_images(&map) => {
                for (name, captions) in map {
                    let take = || -> Result<()> {
                        let image = self.image(images.path(&name)?);
                        let row = Map::from_iter([("caption".to_owned(), captions)]);
                        let texts = captions_of(&row, &["caption"])?;
                        texts.iter().try_for_each(|text| self.caption(image, text))
                    };
                    take().with_context(|| format!("the captions of {name:?}"))?;
                }
                Ok("captions by path".to_owned())
            }
            _ => Err(error).context(
                "expected COCO's or Karpathy's JSON (an object with images and their captions), a \
                 list of objects with path and caption, or an object that maps paths to captions",
            ),
        }
    }

    fn coco(
        &mut self,
        images: &mut ImagePaths,
        all: &[JsonImage],
        annotations: &[Annotation],
    ) -> Result<String> {
        let mut names = HashMap::new();
        for image in all {
            let place = self.image(images.path(&image.file_name)?);
            names.insert(image.id.context("an image has no id")?, place);
        }
        for (number, annotation) in (1..).zip(annotations) {
            let id = annotation.image_id;
            let lost =
                || format!("the caption is of image {id}, which is not in the list of images");
            match names.get(&id) {
                Some(&image) => self.caption(image, &annotation.caption)?,
                None if self.options.bad == BadCaptions::Kept => {
                    self.found
                        .lost
                        .push((format!("annotation {number}"), lost()));
                }
                None => bail!("annotation {number}: {}", lost()),
            }
        }
        Ok("COCO captions".to_owned())
    }

    fn karpathy(&mut self, images: &ImagePaths, all: Vec<JsonImage>) -> Result<String> {
        let has_splits = all.iter().any(|image| image.split.is_some());
        let asked = (self.options.split.as_deref()).or(self.options.usual_split);
        let wanted = asked.unwrap_or("test");
        if has_splits {
            // The images of the split are selected here.
            self.parts = Parts::new(Split::All);
        }
        let is_wanted = |image: &JsonImage| !has_splits || image.split.as_deref() == Some(wanted);
        for image in all.into_iter().filter(is_wanted) {
            let folder = image.filepath.as_deref().unwrap_or_default();
            let place = self.image(images.within(folder).path(&image.file_name)?);
            for sentence in image.sentences.context("an image has no sentences")? {
                self.caption(place, &sentence.raw)?;
            }
        }
        ensure!(
            !self.found.images.is_empty(),
            "no image is in the split {wanted:?}; choose another with --split"
        );
        let split = has_splits.then(|| format!(", split {wanted}"));
        Ok(format!("Karpathy's JSON{}", split.unwrap_or_default()))
    }
}
