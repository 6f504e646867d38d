//! Tables and JSON lines with an image and its captions on each row.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Bad, Kind, PairOptions, Picture, Raw, Take};
use crate::input::dataset::captions::captions_of;
use crate::input::dataset::rows::{self, Images};
use crate::input::text_file::Fields;
use crate::input::text_file::column::PATH;

/// What the column with long captions may be called, as columns' names are compared.
const LONG: &[&str] = &[
    "caption",
    "long",
    "longcaption",
    "captionlong",
    "text",
    "title",
    "description",
    "sentence",
    "sentences",
    "comment",
    "prompt",
];
/// What the column with short ones may be called.
const SHORT: &[&str] = &["short", "shortcaption", "captionshort", "summary"];

/// The long captions of an image, and its short one.
pub(super) struct Captions {
    pub(super) long: Vec<String>,
    pub(super) short: Option<String>,
}

/// Hands over each row.
pub(super) fn each(path: &Path, options: &PairOptions, take: Take<'_>) -> Result<Kind> {
    let mut images = images(path, options);
    let rows = rows::rows(path, "image,caption")?;
    let mut notes = rows.notes.clone();
    for (line, row) in rows {
        let place = format!("{}:{line}", path.display());
        pairs(&mut images, &place, row, take)?;
    }
    notes.extend(images.note());
    Ok(Kind {
        name: "rows of picture and caption".to_owned(),
        notes,
    })
}

/// The images that a file names.
pub(super) fn images(file: &Path, options: &PairOptions) -> Images {
    Images::new(file, options.images.as_deref())
}

/// Hands over one row's pairs: one for each long caption.
pub(super) fn pairs(
    images: &mut Images,
    place: &str,
    row: Result<Fields>,
    take: Take<'_>,
) -> Result<()> {
    let read = || -> Result<_> {
        let row = row?;
        let picture = images.path(rows::text(&row, PATH, "picture")?)?;
        Ok((picture, captions(&row)?))
    };
    match read() {
        Ok((picture, Captions { long, short })) => long.into_iter().try_for_each(|long| {
            take(Ok(Raw {
                place: place.to_owned(),
                picture: Picture::File(picture.clone()),
                long,
                short: short.clone(),
            }))
        }),
        Err(error) => take(Err(Bad {
            place: place.to_owned(),
            cause: format!("{error:#}"),
        })),
    }
}

/// The captions of an object: ShareGPT4V's conversation, or columns.
pub(super) fn captions(row: &Fields) -> Result<Captions> {
    let short = rows::value(row, SHORT).and_then(Value::as_str);
    let short = short.filter(|text| !text.trim().is_empty());
    let short = short.map(str::to_owned);
    if let Some(conversations) = row.get("conversations") {
        let answer = conversations.get(1).and_then(|turn| turn.get("value"));
        let answer = answer.and_then(Value::as_str);
        let answer = answer.context("the conversation has no answer, which is the caption")?;
        return Ok(Captions {
            long: vec![answer.to_owned()],
            short,
        });
    }
    Ok(Captions {
        long: captions_of(row, LONG)?,
        short,
    })
}
