//! Folders of pictures with a text file each.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Bad, Picture, Raw, Take, Taken, rows};
use crate::input::paths::{self, ImageSource, PictureRule};

/// Hands over each picture.
pub(super) fn each(root: &Path, rule: PictureRule, take: Take<'_>) -> Result<String> {
    let part = |names: [&str; 2]| {
        let mut places = names.map(|name| root.join(name)).into_iter();
        places.find(|path| path.is_dir())
    };
    // Urban-1k's folders, or one with both.
    let (images, captions) = match (part(["image", "images"]), part(["caption", "captions"])) {
        (Some(images), Some(captions)) => (images, captions),
        _ => (root.to_owned(), root.to_owned()),
    };
    for source in paths::expand(vec![images.clone()], None, rule)? {
        let taken = match source {
            Ok(ImageSource::Path(picture)) => {
                let inside = picture.strip_prefix(&images).unwrap_or(&picture);
                let beside = captions.join(inside);
                pair(picture, &beside)
            }
            Ok(ImageSource::Stdin) => continue,
            Err(error) => Err(Bad {
                place: error.path.display().to_string(),
                cause: error.cause,
            }),
        };
        take(taken)?;
    }
    Ok("a text file for each picture".to_owned())
}

fn pair(picture: PathBuf, beside: &Path) -> Taken {
    let place = picture.display().to_string();
    let read = || -> Result<Raw> {
        let (long, mut short) = match text(&beside.with_extension("txt"))? {
            Some(long) => (long, None),
            None => from_json(&beside.with_extension("json"))?,
        };
        short = text(&beside.with_extension("short.txt"))?.or(short);
        Ok(Raw {
            place: place.clone(),
            picture: Picture::File(picture.clone()),
            long,
            short,
        })
    };
    read().map_err(|error| Bad {
        place: place.clone(),
        cause: format!("{error:#}"),
    })
}

/// The file's text; none where there is no such file.
fn text(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn from_json(path: &Path) -> Result<(String, Option<String>)> {
    let content = text(path)?;
    let content =
        content.context("it has no caption: no .txt or .json file of the same name is there")?;
    captions_of(&content).with_context(|| format!("cannot use {}", path.display()))
}

/// The captions in an object.
pub(super) fn captions_of(content: &str) -> Result<(String, Option<String>)> {
    let Value::Object(row) = serde_json::from_str(content)? else {
        anyhow::bail!("it is no JSON object");
    };
    let row = row
        .into_iter()
        .map(|(name, value)| (name.to_lowercase(), value));
    rows::captions(&row.collect())
}
