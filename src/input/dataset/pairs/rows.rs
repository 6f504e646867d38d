//! CSV, TSV and JSON lines with a picture and its captions on each row.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Bad, PairOptions, Picture, Raw, Take};
use crate::input::dataset::manifest::{self, PATH, Row};

/// What the column with long captions may be called.
const LONG: &[&str] = &[
    "caption",
    "long",
    "long_caption",
    "caption_long",
    "text",
    "title",
    "description",
];
/// What the column with short ones may be called.
const SHORT: &[&str] = &["short", "short_caption", "caption_short", "summary"];

/// Hands over each row.
pub(super) fn each(path: &Path, options: &PairOptions, take: Take<'_>) -> Result<String> {
    let folder = images(path, options);
    for (line, row) in manifest::numbered_rows(path, "image,caption")? {
        let place = format!("{}:{line}", path.display());
        take(pair(&folder, &place, row))?;
    }
    Ok("rows of picture and caption".to_owned())
}

/// Where the pictures are that a file names.
pub(super) fn images(file: &Path, options: &PairOptions) -> PathBuf {
    let beside = || manifest::folder_of(file);
    options.images.clone().unwrap_or_else(beside)
}

/// One row's pair.
pub(super) fn pair(folder: &Path, place: &str, row: Result<Row>) -> super::Taken {
    let read = || -> Result<Raw> {
        let row = row?;
        let picture = manifest::picture(folder, manifest::text(&row, PATH, "picture")?)?;
        let (long, short) = captions(&row)?;
        Ok(Raw {
            place: place.to_owned(),
            picture: Picture::File(picture),
            long,
            short,
        })
    };
    read().map_err(|error| Bad {
        place: place.to_owned(),
        cause: format!("{error:#}"),
    })
}

/// The captions of an object: ShareGPT4V's conversation, or columns.
pub(super) fn captions(row: &Row) -> Result<(String, Option<String>)> {
    let short = SHORT.iter().find_map(|name| row.get(*name)?.as_str());
    let short = short.filter(|text| !text.trim().is_empty());
    let short = short.map(str::to_owned);
    if let Some(conversations) = row.get("conversations") {
        let answer = conversations.get(1).and_then(|turn| turn.get("value"));
        let answer = answer.and_then(serde_json::Value::as_str);
        let answer = answer.context("the conversation has no answer, which is the caption")?;
        return Ok((answer.to_owned(), short));
    }
    Ok((manifest::text(row, LONG, "caption")?.to_owned(), short))
}
