//! JSON files: a list of objects, streamed at any length, or an object of captions.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::Value;

use super::rows::Reading;
use super::{Bad, Image, Kind, PairOptions, Raw, TRAIN, Take};
use crate::input::dataset::captions::{self, BadCaptions, CaptionOptions};
use crate::input::paths::ImageRule;
use crate::input::text_file::{Decoded, Fields, LoneReturn, column};

/// Passes on each entry.
pub(super) fn each(
    path: &Path,
    options: &PairOptions,
    rule: ImageRule,
    take: Take<'_>,
) -> Result<Kind> {
    let reading = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(reading)?;
    let decoded = Decoded::new(file, LoneReturn::IsText);
    let mut reader = BufReader::with_capacity(1 << 20, decoded);
    if first_character(&mut reader).with_context(reading)? != Some(b'[') {
        return captioned(path, options, rule, take);
    }
    let mut failure = None;
    let mut reading = Reading::new(path, options);
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
    Ok(Kind {
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
fn captioned(path: &Path, options: &PairOptions, rule: ImageRule, take: Take<'_>) -> Result<Kind> {
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
        take(Ok(Raw {
            place: format!("{}, caption {number}", path.display()),
            image: Image::File(found.images[image].clone()),
            long: text,
            short: None,
        }))?;
    }
    for (place, cause) in found.lost {
        let place = format!("{}, {place}", path.display());
        take(Err(Bad { place, cause }))?;
    }
    let kind = found.protocol.split(';').next().unwrap_or_default();
    Ok(Kind {
        name: kind.to_owned(),
        notes: found.notes,
    })
}

/// Visits the elements of a list as they are parsed.
struct Entries<'a, 'o> {
    path: &'a Path,
    reading: &'a mut Reading<'o>,
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
            let taken = self.reading.row(&place, object(entry), self.take);
            if let Err(error) = taken {
                *self.failure = Some(error);
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

fn object(entry: Value) -> Result<Fields> {
    match entry {
        Value::Object(row) => Ok(column::keyed(row)),
        _ => anyhow::bail!("the entry is not a JSON object"),
    }
}
