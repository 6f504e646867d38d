//! Tables and JSON Lines with an image and its captions per row.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Image, Kind, PairOptions, TRAIN, Take, pass_on};
use crate::input::dataset::Split;
use crate::input::dataset::captions::captions_of;
use crate::input::dataset::rows::{self, Images, Parts};
use crate::input::text_file::Fields;
use crate::input::text_file::column::PATH;

/// Accepted names of the column with long captions, normalised like column names.
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
/// Accepted names of the column with short captions.
const SHORT: &[&str] = &["short", "shortcaption", "captionshort", "summary"];

/// The long captions of an image, and its short one.
pub(super) struct Captions {
    pub(super) long: Vec<String>,
    pub(super) short: Option<String>,
}

/// Passes on each row.
pub(super) fn each(path: &Path, options: &PairOptions, take: Take<'_>) -> Result<Kind> {
    let mut reading = Reading::new(path, options);
    let rows = rows::rows(path, "image,caption")?;
    let mut notes = rows.notes.clone();
    for (line, row) in rows {
        reading.row(&format!("{}:{line}", path.display()), row, take)?;
    }
    notes.extend(reading.notes(path)?);
    Ok(Kind {
        name: "rows of image and caption".to_owned(),
        notes,
    })
}

/// State for reading the rows of a file.
pub(super) struct Reading<'a> {
    images: Images,
    parts: Parts<'a>,
}

impl<'a> Reading<'a> {
    /// Uses the named split, or the one for training.
    pub(super) fn new(file: &Path, options: &'a PairOptions) -> Self {
        let split = options.split.as_deref();
        Self {
            images: Images::new(file, options.images.as_deref()),
            parts: Parts::new(split.map_or(Split::Usual(TRAIN), Split::Named)),
        }
    }

    /// Passes on one row's pairs, if it is of the selected split.
    pub(super) fn row(&mut self, place: &str, row: Result<Fields>, take: Take<'_>) -> Result<()> {
        if row.as_ref().is_ok_and(|row| !self.parts.takes(row)) {
            return Ok(());
        }
        let read = || -> Result<_> {
            let row = row?;
            let image = self.images.path(rows::text(&row, PATH, "image")?)?;
            Ok((Image::File(image), captions(&row)?))
        };
        pass_on(place, read(), take)
    }

    /// Notes on the file once all rows were read.
    pub(super) fn notes(self, file: &Path) -> Result<Vec<String>> {
        let notes = [self.parts.note(file)?, self.images.note()];
        Ok(notes.into_iter().flatten().collect())
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
        let answer = answer.context("the conversation has no answer to use as the caption")?;
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
