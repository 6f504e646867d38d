//! Pictures with captions, in the forms in which the field's retrieval sets come.
//!
//! - `captions_val2017.json` (COCO): `{"images": [{id, file_name}], "annotations": [{image_id, caption}]}`.
//! - `dataset_flickr30k.json` (Karpathy's splits): `{"images": [{filename, split, sentences: [{raw}]}]}`.
//! - Urban-1k: the folders `image` and `caption`, a text file for each picture; or one folder with
//!   both.
//! - CSV, TSV or JSON lines with path and caption; several rows, or a list `captions`, for several
//!   captions of a picture.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::manifest::{self, PATH, Row};
use crate::input::paths::{self, ImageSource, PictureRule};

/// What a column with captions may be called.
const CAPTION: &[&str] = &["caption", "text", "title", "sentence", "description"];
/// Larger files are something else.
const LIMIT_BYTES: u64 = 1 << 31;

/// Which part of a caption of several lines is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lines {
    /// All of it.
    #[default]
    Whole,
    /// Its first line, as Long-CLIP's Urban-1k script does.
    First,
}

/// What of a dataset is taken.
#[derive(Clone, Debug, Default)]
pub struct CaptionOptions {
    /// Which lines of a caption.
    pub lines: Lines,
    /// At most so many captions a picture, the first ones.
    pub most: Option<usize>,
    /// Where the pictures are that a file names; by default beside the file.
    pub images: Option<PathBuf>,
    /// The split of a file that has several; the test split if none is named.
    pub split: Option<String>,
    /// What becomes of bad captions.
    pub bad: BadCaptions,
}

/// What becomes of captions without a word, and of those of a picture that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadCaptions {
    /// They are an error.
    #[default]
    Refused,
    /// The empty ones are handed over as they are, and what is said of the others is kept.
    Kept,
}

/// Pictures and captions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Captioned {
    /// The pictures, each once.
    pub images: Vec<PathBuf>,
    /// The captions.
    pub texts: Vec<String>,
    /// The picture of each caption.
    pub image_of_text: Vec<usize>,
    /// What is wrong with captions that were kept and have no picture, and where they are.
    pub lost: Vec<(String, String)>,
    /// What the file calls itself and what was taken of it, for the report.
    pub protocol: String,
}

/// Reads pictures with captions.
///
/// # Errors
/// When it is nothing of the kind, a picture has no name or a caption is empty.
pub fn captioned(path: &Path, options: &CaptionOptions, rule: PictureRule) -> Result<Captioned> {
    let mut reading = Reading {
        options,
        place_of: HashMap::new(),
        counts: Vec::new(),
        found: Captioned::default(),
    };
    let is_json = path
        .extension()
        .is_some_and(|extension| extension == "json");
    let kind = if path.is_dir() {
        reading.folder(path, rule)
    } else if is_json {
        reading.json(path)
    } else {
        reading.rows(path)
    };
    let kind = kind.with_context(|| format!("cannot read captions from {}", path.display()))?;
    let Reading {
        counts, mut found, ..
    } = reading;
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
            ", any caption of an image counts as right"
        } else {
            ""
        },
        match options.lines {
            Lines::Whole => "whole captions",
            Lines::First => "first line of each caption",
        },
        options.most.map_or(String::new(), |most| format!(
            ", the first {most} of each image"
        )),
    );
    Ok(found)
}

struct Reading<'a> {
    options: &'a CaptionOptions,
    place_of: HashMap<PathBuf, usize>,
    /// Captions taken of each picture.
    counts: Vec<usize>,
    found: Captioned,
}

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
    /// Karpathy's COCO: the folder.
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

impl Reading<'_> {
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
            Lines::Whole => text.trim(),
            Lines::First => text.trim_start().lines().next().unwrap_or_default().trim(),
        };
        ensure!(
            !text.is_empty() || self.options.bad == BadCaptions::Kept,
            "a caption of {} is empty; write it or leave the picture out",
            self.found.images[image].display()
        );
        self.counts[image] += 1;
        self.found.texts.push(text.to_owned());
        self.found.image_of_text.push(image);
        Ok(())
    }

    /// Where the pictures of a file are.
    fn images_of(&self, file: &Path) -> PathBuf {
        let beside = || manifest::folder_of(file);
        self.options.images.clone().unwrap_or_else(beside)
    }

    fn rows(&mut self, path: &Path) -> Result<String> {
        let folder = self.images_of(path);
        for (place, row) in (1..).zip(manifest::rows(path, "path,caption")?) {
            let take = || -> Result<()> {
                let row = row?;
                let picture = manifest::picture(&folder, manifest::text(&row, PATH, "path")?)?;
                let image = self.image(picture);
                captions_of(&row)?
                    .iter()
                    .try_for_each(|text| self.caption(image, text))
            };
            take().with_context(|| format!("row {place}"))?;
        }
        Ok("rows of path and caption".to_owned())
    }

    fn json(&mut self, path: &Path) -> Result<String> {
        let mut text = String::new();
        let file = File::open(path)?;
        ensure!(
            file.metadata()?.len() <= LIMIT_BYTES,
            "the file is too large"
        );
        file.take(LIMIT_BYTES).read_to_string(&mut text)?;
        let json: Json = serde_json::from_str(&text).context(
            "expected COCO's or Karpathy's JSON, an object with images and their captions",
        )?;
        drop(text);
        let folder = self.images_of(path);
        match json.annotations {
            Some(annotations) => self.coco(&folder, &json.images, &annotations),
            None => self.karpathy(&folder, json.images),
        }
    }

    fn coco(
        &mut self,
        folder: &Path,
        images: &[JsonImage],
        annotations: &[Annotation],
    ) -> Result<String> {
        let mut names = HashMap::new();
        for image in images {
            let id = image.id.context("an image has no id")?;
            let place = self.image(manifest::picture(folder, &image.file_name)?);
            names.insert(id, place);
        }
        for (number, annotation) in (1..).zip(annotations) {
            let id = annotation.image_id;
            let lost =
                || format!("the caption is of image {id}, which is not in the list of images");
            match names.get(&id) {
                Some(&image) => self.caption(image, &annotation.caption)?,
                None if self.options.bad == BadCaptions::Kept => {
                    let place = format!("annotation {number}");
                    self.found.lost.push((place, lost()));
                }
                None => bail!("annotation {number}: {}", lost()),
            }
        }
        Ok("COCO captions".to_owned())
    }

    fn karpathy(&mut self, folder: &Path, images: Vec<JsonImage>) -> Result<String> {
        let has_splits = images.iter().any(|image| image.split.is_some());
        let wanted = self
            .options
            .split
            .clone()
            .unwrap_or_else(|| "test".to_owned());
        for image in images {
            if has_splits && image.split.as_deref() != Some(&wanted) {
                continue;
            }
            let mut path = folder.to_owned();
            path.extend(&image.filepath);
            let place = self.image(manifest::picture(&path, &image.file_name)?);
            let sentences = image.sentences.context("an image has no sentences")?;
            sentences
                .iter()
                .try_for_each(|sentence| self.caption(place, &sentence.raw))?;
        }
        ensure!(
            !self.found.images.is_empty(),
            "no image is in the split {wanted:?}; choose another with --split"
        );
        Ok(match has_splits {
            true => format!("Karpathy's JSON, split {wanted}"),
            false => "Karpathy's JSON".to_owned(),
        })
    }

    fn folder(&mut self, root: &Path, rule: PictureRule) -> Result<String> {
        let part = |names: [&str; 2]| {
            names
                .map(|name| root.join(name))
                .into_iter()
                .find(|p| p.is_dir())
        };
        let (images, captions) = match (part(["image", "images"]), part(["caption", "captions"])) {
            (Some(images), Some(captions)) => (images, captions),
            _ => (root.to_owned(), root.to_owned()),
        };
        let mut without = Vec::new();
        for source in paths::expand(vec![images.clone()], None, rule)? {
            let ImageSource::Path(path) = source? else {
                continue;
            };
            let inside = path.strip_prefix(&images).unwrap_or(&path);
            let file = captions.join(inside).with_extension("txt");
            match fs::read_to_string(&file) {
                Ok(text) => {
                    let image = self.image(path);
                    self.caption(image, &text)?;
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => without.push(path),
                Err(error) => return Err(error).with_context(|| file.display().to_string()),
            }
        }
        if let Some(first) = without.first() {
            let (count, shown) = (without.len(), first.display());
            if self.found.texts.is_empty() {
                bail!(
                    "no picture has a caption; {shown} needs a file of the same name that ends in .txt"
                );
            }
            bail!(
                "{count} of the pictures have no caption (the first is {shown}); write .txt files of the \
                 same names, or take the pictures out"
            );
        }
        Ok("a text file for each picture".to_owned())
    }
}

/// A row's caption, or list of captions.
fn captions_of(row: &Row) -> Result<Vec<String>> {
    let Some(list) = row.get("captions") else {
        return Ok(vec![manifest::text(row, CAPTION, "caption")?.to_owned()]);
    };
    let texts = list.as_array().map(|list| {
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        list.iter().map(text).collect::<Option<Vec<_>>>()
    });
    texts.flatten().context("captions is no list of texts")
}

#[cfg(test)]
mod tests;
