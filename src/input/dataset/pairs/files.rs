//! Pairs outside archives: tables and JSON Lines with an image and its captions per row, JSON lists
//! (streamed at any length) and objects of captions, and folders with one text file per image or
//! with a metadata file.

use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::Value;

use super::{Bad, DataKind, Image, PairOptions, Raw, TRAIN, Take, check_no_split, pass_on};
use crate::file::open;
use crate::input::dataset::captions::{
    BadCaptions, CaptionOptions, Sidecars, captions_of, content, unnamed,
};
use crate::input::dataset::rows::{ImagePaths, Parts};
use crate::input::dataset::{Split, captions, folders, rows};
use crate::input::paths::{ImageRule, ImageSource};
use crate::input::text_file::column::{LONG_CAPTION, PATH, SHORT_CAPTION};
use crate::input::text_file::{Decoded, Fields, LoneReturn, fields_of};
use crate::input::{paths, text_file};

/// The long captions of an image, and its short one.
pub(super) struct Captions {
    pub(super) long: Vec<String>,
    pub(super) short: Option<String>,
}

impl Captions {
    pub(super) fn of(long: String) -> Self {
        Self {
            long: vec![long],
            short: None,
        }
    }
}

/// Passes on each row.
pub(super) fn each_row(path: &Path, options: &PairOptions, take: Take<'_>) -> Result<DataKind> {
    let mut reading = RowReader::new(path, options);
    let rows = rows::rows(path, "image,caption")?;
    let mut notes = rows.notes.clone();
    for (line, row) in rows {
        reading.row(&format!("{}:{line}", path.display()), row, take)?;
    }
    notes.extend(reading.notes(path)?);
    Ok(DataKind {
        name: "rows of image and caption".to_owned(),
        notes,
    })
}

/// State for reading the rows of a file.
pub(super) struct RowReader<'a> {
    images: ImagePaths,
    parts: Parts<'a>,
}

impl<'a> RowReader<'a> {
    /// Uses the named split, or the one for training.
    pub(super) fn new(file: &Path, options: &'a PairOptions) -> Self {
        let split = options.split.as_deref();
        Self {
            images: ImagePaths::new(file, options.images.as_deref()),
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
    let short = rows::value(row, SHORT_CAPTION).and_then(Value::as_str);
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
        long: captions_of(row, LONG_CAPTION)?,
        short,
    })
}

/// Passes on each entry.
pub(super) fn each_entry(
    path: &Path,
    options: &PairOptions,
    rule: ImageRule,
    take: Take<'_>,
) -> Result<DataKind> {
    let reading = || format!("cannot read {}", path.display());
    let file = open::stream(path).with_context(reading)?;
    let decoded = Decoded::new(file, LoneReturn::IsText);
    let mut reader = BufReader::with_capacity(1 << 20, decoded);
    if first_character(&mut reader).with_context(reading)? != Some(b'[') {
        return captioned(path, options, rule, take);
    }
    let mut failure = None;
    let mut reading = RowReader::new(path, options);
    let entries = Entries {
        path,
        reading: &mut reading,
        take,
        failure: &mut failure,
    };
    let mut json = serde_json::Deserializer::from_reader(reader);
    let read = entries.deserialize(&mut json);
    // The receiver's error comes first: it is what ended the reading.
    if let Some(error) = failure {
        return Err(error);
    }
    read.with_context(|| format!("{} is not a JSON list of objects", path.display()))?;
    Ok(DataKind {
        name: "a JSON list of images and captions".to_owned(),
        notes: reading.notes(path)?,
    })
}

fn first_character(reader: &mut impl BufRead) -> Result<Option<u8>> {
    loop {
        let buffer = reader.fill_buf()?;
        let Some(first) = buffer.first().copied() else {
            return Ok(None);
        };
        // White space, or a byte order mark.
        if !first.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(&first) {
            return Ok(Some(first));
        }
        reader.consume(1);
    }
}

/// COCO's and Karpathy's files, and maps of paths to captions: every caption is a pair of its own.
fn captioned(
    path: &Path,
    options: &PairOptions,
    rule: ImageRule,
    take: Take<'_>,
) -> Result<DataKind> {
    let wanted = CaptionOptions {
        images: options.images.clone(),
        split: options.split.clone(),
        usual_split: Some(TRAIN),
        bad: BadCaptions::Kept,
        ..CaptionOptions::default()
    };
    let found = captions::captioned(path, &wanted, rule)?;
    let captions = found.texts.into_iter().zip(found.image_of_text);
    for (number, (text, image)) in (1..).zip(captions) {
        let image = found
            .images
            .get(image)
            .context("the caption has no image")?;
        take(Ok(Raw {
            place: format!("{}, caption {number}", path.display()),
            image: Image::File(image.clone()),
            long: text,
            short: None,
        }))?;
    }
    for (place, cause) in found.lost {
        let place = format!("{}, {place}", path.display());
        take(Err(Bad { place, cause }))?;
    }
    let kind = found.protocol.split(';').next().unwrap_or_default();
    Ok(DataKind {
        name: kind.to_owned(),
        notes: found.notes,
    })
}

/// Visits the elements of a list as they are parsed.
struct Entries<'a, 'o> {
    path: &'a Path,
    reading: &'a mut RowReader<'o>,
    take: Take<'a>,
    failure: &'a mut Option<anyhow::Error>,
}

impl<'de> DeserializeSeed<'de> for Entries<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut number = 0;
        while let Some(entry) = list.next_element::<Value>()? {
            number += 1;
            let place = format!("{}, entry {number}", self.path.display());
            let taken = self
                .reading
                .row(&place, fields_of(entry, "the entry"), self.take);
            if let Err(error) = taken {
                *self.failure = Some(error);
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

/// Passes on each image.
pub(super) fn each_image(
    root: &Path,
    options: &PairOptions,
    rule: ImageRule,
    take: Take<'_>,
) -> Result<DataKind> {
    if let Some(file) = folders::metadata(root)? {
        return named(root, &file, options, rule, take);
    }
    check_no_split(root, options)?;
    let sidecars = Sidecars::of(root);
    for entry in paths::expand(vec![sidecars.images.clone()], None, rule)? {
        match entry.source {
            Ok(ImageSource::Path(image)) => pairs(&image, &sidecars, take)?,
            Ok(_) => {}
            Err(error) => take(Err(Bad {
                place: error.path.display().to_string(),
                cause: error.cause.cause,
            }))?,
        }
    }
    Ok(DataKind::of("one text file per image"))
}

/// The images that the folder's metadata file names.
fn named(
    root: &Path,
    file: &Path,
    options: &PairOptions,
    rule: ImageRule,
    take: Take<'_>,
) -> Result<DataKind> {
    let mut known: HashMap<PathBuf, ()> = HashMap::new();
    let mut kind = each_row(file, options, &mut |taken| {
        if let Ok(Raw {
            image: Image::File(path),
            ..
        }) = &taken
        {
            known.insert(path.clone(), ());
        }
        take(taken)
    })?;
    kind.name = format!("{} in {}", kind.name, file.display());
    if options.images.is_none() {
        kind.name += &unnamed(root, rule, &known)?;
    }
    Ok(kind)
}

fn pairs(image: &Path, sidecars: &Sidecars, take: Take<'_>) -> Result<()> {
    let place = image.display().to_string();
    let read = || -> Result<_> {
        let mut found = match sidecars.caption(image)? {
            Some(long) => Captions::of(long),
            None => from_json(&sidecars.file(image, "json"))?,
        };
        let short = content(&sidecars.file(image, "short.txt"))?;
        found.short = short.or(found.short);
        Ok((Image::File(image.to_owned()), found))
    };
    pass_on(&place, read(), take)
}

fn from_json(path: &Path) -> Result<Captions> {
    let content = content(path)?.context(
        "it has no caption: there is no .txt, .caption or .json file of the same name, and no \
         metadata.jsonl in the folder",
    )?;
    captions_in(&content).with_context(|| format!("cannot use {}", path.display()))
}

/// The captions in an object.
pub(super) fn captions_in(content: &str) -> Result<Captions> {
    captions(&text_file::json_object(content)?)
}
