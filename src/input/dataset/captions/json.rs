//! Captions in one JSON file: COCO's, Karpathy's, a list of objects, or a map of paths to captions.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{BadCaptions, CaptionReader, ImagePaths, Parts, Split, captions_of};
use crate::input::paths::ImageRule;
use crate::input::text_file;
use crate::input::text_file::fields_of;

/// Larger files are not caption files.
const LIMIT_BYTES: u64 = 1 << 31;

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
                    let row = fields_of(entry, "it");
                    let taken = row.and_then(|row| self.row(images, &row));
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
            let id = image.id.context("an image has no id")?;
            let place = self.image(images.path(&image.file_name)?);
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

    fn karpathy(&mut self, images: &ImagePaths, all: Vec<JsonImage>) -> Result<String> {
        let has_splits = all.iter().any(|image| image.split.is_some());
        let wanted = self
            .options
            .split
            .clone()
            .unwrap_or_else(|| self.options.usual_split.unwrap_or("test").to_owned());
        if has_splits {
            // The images of the split are selected here.
            self.parts = Parts::new(Split::All);
        }
        for image in all {
            if has_splits && image.split.as_deref() != Some(&wanted) {
                continue;
            }
            let folder = image.filepath.as_deref().unwrap_or_default();
            let place = self.image(images.within(folder).path(&image.file_name)?);
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
}
