//! A row as one line of JSON, with the same keys wherever such lines are stored.

use std::borrow::Cow;
use std::io::BufRead as _;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{About, Failure, Item, Row, push_values};
use crate::checkpoint::container::Bytes;
use crate::file::stamp::Stamp;
use crate::output::{FailureKind, Given, ImageName, Name, json};

/// The keys, in order; which of them are present depends on the place.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Line<'a> {
    /// The keys of its line in a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    given: Option<Given>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_bytes: Option<String>,
    /// The same as `image`, under Parquet's name; either is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime_ns: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) crc32: Option<u32>,
    /// In the last line of a file of names: of all embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) numbers_crc32: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) embedding: Option<Cow<'a, [f32]>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_kind: Option<FailureKind>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: Cow<'a, [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Cow<'a, str>>,
}

impl<'a> Line<'a> {
    /// The line of a row alone.
    #[must_use]
    pub(crate) fn of_row(row: &'a Row) -> Self {
        let named = match &row.item {
            Item::Image {
                name,
                width,
                height,
                stamp,
            } => Self {
                width: Some(*width),
                height: Some(*height),
                bytes: stamp.map(|stamp| stamp.bytes),
                mtime_ns: stamp.map(|stamp| stamp.modified_ns),
                ..Self::of_image(name)
            },
            Item::Text(text) => Self {
                text: Some(Cow::Borrowed(text)),
                ..Self::default()
            },
        };
        Self {
            given: row.given.clone(),
            warnings: Cow::Borrowed(&row.warnings),
            ..named
        }
    }

    /// An input without an embedding.
    #[must_use]
    pub(crate) fn of_failure(failure: &'a Failure) -> Self {
        let named = match &failure.name {
            Name::Image(name) => Self::of_image(name),
            Name::Text(text) => Self {
                text: Some(Cow::Borrowed(text)),
                ..Self::default()
            },
        };
        Self {
            given: failure.given.clone(),
            error: Some(Cow::Borrowed(&failure.error)),
            error_kind: failure.kind,
            ..named
        }
    }

    /// Under both names: that of classify's records and that of Parquet's columns, so that files
    /// can be joined without renaming.
    fn of_image(name: &'a ImageName) -> Self {
        let bytes = name.bytes_as_text();
        Self {
            image: Some(Cow::Borrowed(&name.text)),
            image_bytes: bytes.clone(),
            path: Some(Cow::Borrowed(&name.text)),
            path_bytes: bytes,
            ..Self::default()
        }
    }

    /// Adds what made the row, for places without a header.
    #[must_use]
    pub(crate) fn with(self, about: &'a About) -> Self {
        Self {
            model: Some(Cow::Owned(about.model_id())),
            precision: Some(Cow::Borrowed(&about.precision)),
            settings: Some(Cow::Borrowed(&about.settings)),
            version: Some(Cow::Borrowed(&about.version)),
            ..self
        }
    }

    /// Adds the embedding itself.
    #[must_use]
    pub(crate) fn with_embedding(mut self, embedding: &'a [f32]) -> Self {
        self.embedding = Some(Cow::Borrowed(embedding));
        self
    }

    /// Adds the checksum of the embedding's bytes.
    #[must_use]
    pub(crate) fn with_crc32(mut self, crc32: u32) -> Self {
        self.crc32 = Some(crc32);
        self
    }

    /// The line, including its newline.
    ///
    /// # Errors
    /// When a number cannot be written, which does not occur for finite ones.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = json::printable(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads one line.
    ///
    /// # Errors
    /// When it is not such an object, or its embedding does not have its checksum.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Line<'static>> {
        let line: Line<'static> =
            serde_json::from_slice(bytes).context("not a row of embeddings")?;
        // Without an embedding, the checksum is that of one in another file.
        if let (Some(stated), Some(values)) = (line.crc32, &line.embedding) {
            let mut bytes = Vec::new();
            push_values(&mut bytes, values, super::Dtype::F32);
            ensure!(
                stated == crc32fast::hash(&bytes),
                "the embedding was changed or damaged (its crc32 differs); if the change is yours, \
                 remove crc32"
            );
        }
        Ok(line)
    }

    /// The row of the line.
    ///
    /// # Errors
    /// When keys are missing or contradict each other.
    pub(crate) fn row(&self) -> Result<Row> {
        ensure!(self.error.is_none(), "this input has no embedding");
        let item = match self.name()? {
            Name::Text(text) => Item::Text(text),
            Name::Image(name) => {
                let (Some(width), Some(height)) = (self.width, self.height) else {
                    bail!("the row does not state the image's width and height");
                };
                let stamp = self.bytes.zip(self.mtime_ns);
                let stamp = stamp.map(|(bytes, modified_ns)| Stamp { bytes, modified_ns });
                Item::Image {
                    name,
                    width,
                    height,
                    stamp,
                }
            }
        };
        Ok(Row {
            item,
            warnings: self.warnings.to_vec(),
            given: self.given.clone(),
        })
    }

    /// The failure of the line.
    ///
    /// # Errors
    /// When it has none.
    pub(crate) fn failure(&self) -> Result<Failure> {
        let error = self.error.as_ref().context("the line has no error")?;
        Ok(Failure {
            name: self.name()?,
            error: error.to_string(),
            kind: self.error_kind,
            given: self.given.clone(),
        })
    }

    /// What the line is about.
    ///
    /// # Errors
    /// When it names nothing, or several things.
    pub(crate) fn name(&self) -> Result<Name> {
        match (one_of(&self.image, &self.path)?, &self.text) {
            (Some(image), None) => {
                let bytes = one_of(&self.image_bytes, &self.path_bytes)?;
                let bytes = bytes.map(|bytes| STANDARD.decode(bytes)).transpose();
                Ok(Name::Image(ImageName {
                    text: image.to_string(),
                    bytes: bytes.context("image_bytes is not base64")?,
                }))
            }
            (None, Some(text)) => Ok(Name::Text(text.to_string())),
            _ => bail!("the row must have either an \"image\" (or \"path\") or a \"text\""),
        }
    }

    /// Whether the line has a key with a name.
    #[must_use]
    pub(crate) fn is_named(&self) -> bool {
        self.image.is_some() || self.path.is_some() || self.text.is_some()
    }

    /// Whether the line records the model of its embedding.
    #[must_use]
    pub(crate) fn has_model(&self) -> bool {
        self.model.is_some()
    }

    /// What made the row, if the line says so; embeddings have `dim` numbers, stored as `dtype`.
    ///
    /// # Errors
    /// When it does not say so.
    pub(crate) fn about(&self, dim: usize, dtype: super::Dtype) -> Result<About> {
        About::from_pairs(|key| {
            let value = match key {
                "format" => return Some("longclip embeddings 1".to_owned()),
                "kind" => {
                    return Some(
                        if self.image.is_some() || self.path.is_some() {
                            "images"
                        } else {
                            "texts"
                        }
                        .to_owned(),
                    );
                }
                "dim" => return Some(dim.to_string()),
                "dtype" => return Some(dtype.to_string()),
                "model" => &self.model,
                "precision" => &self.precision,
                "settings" => &self.settings,
                _ => &self.version,
            };
            value.as_ref().map(ToString::to_string)
        })
    }

    /// Whether the line names the model of `about`, by its digest.
    #[must_use]
    pub(crate) fn is_of(&self, about: &About) -> bool {
        let id = self.model.as_deref();
        id.and_then(|id| About::split_id(id).ok())
            .is_some_and(|(_, digest)| digest == about.sha256)
    }
}

/// The value of two keys of one meaning.
fn one_of<'a, T: PartialEq>(image: &'a Option<T>, path: &'a Option<T>) -> Result<Option<&'a T>> {
    if let (Some(image), Some(path)) = (image, path) {
        ensure!(
            image == path,
            "\"image\" and \"path\" name different images"
        );
    }
    Ok(image.as_ref().or(path.as_ref()))
}

/// Longer lines are not rows: an embedding of the widest model takes less than 2 MB as text.
const LONGEST_BYTES: usize = 16 << 20;

/// Positions of the lines within some bytes.
pub(super) struct LineIndex {
    bytes: Arc<Bytes>,
    /// Start of each line, and the end of the last one.
    starts: Vec<usize>,
}

impl LineIndex {
    /// Finds the lines of `range`; the last one may lack its newline.
    pub(super) fn new(bytes: &Arc<Bytes>, range: Range<usize>) -> Result<Self> {
        let mut rest = bytes.get(range.clone()).context("the file is cut short")?;
        let mut starts = vec![range.start];
        let mut at = range.start;
        while !rest.is_empty() {
            let length = rest.skip_until(b'\n')?;
            ensure!(
                length <= LONGEST_BYTES,
                "line {} has {length} bytes, too many for a row",
                starts.len()
            );
            at += length;
            starts.push(at);
        }
        Ok(Self {
            bytes: Arc::clone(bytes),
            starts,
        })
    }

    pub(super) fn count(&self) -> usize {
        self.starts.len() - 1
    }

    /// The line of this index, without its newline.
    pub(super) fn get(&self, index: usize) -> Result<&[u8]> {
        let (start, end) = index
            .checked_add(1)
            .and_then(|next| Some((self.starts.get(index)?, self.starts.get(next)?)))
            .with_context(|| format!("there is no row {index}"))?;
        let line = self.bytes.get(*start..*end).unwrap_or_default();
        Ok(line.strip_suffix(b"\n").unwrap_or(line))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{about, images, texts};
    use super::super::{Dtype, Kind};
    use super::*;

    #[test]
    fn rows_read_back_as_they_were() {
        let listed = images(6, 1).rows.into_iter();
        for (row, _) in listed.chain(texts(&["", "a \"cat\"\u{9b}\n", "猫"], 1).rows) {
            let line = Line::of_row(&row).to_bytes().unwrap();
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(Line::from_bytes(&line).unwrap().row().unwrap(), row);
        }
    }

    #[test]
    fn an_image_has_two_names_and_either_is_read() {
        let row = &images(1, 4).rows[0].0;
        let line = String::from_utf8(Line::of_row(row).to_bytes().unwrap()).unwrap();
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&line).unwrap();
        assert_eq!(object["image"], object["path"]);
        assert_eq!(object["image_bytes"], object["path_bytes"]);
        for dropped in [["image", "image_bytes"], ["path", "path_bytes"]] {
            let mut object = object.clone();
            dropped
                .iter()
                .for_each(|key| drop(object.remove(*key).unwrap()));
            let line = serde_json::to_vec(&object).unwrap();
            assert_eq!(Line::from_bytes(&line).unwrap().row().unwrap(), *row);
        }
    }

    #[test]
    fn a_line_records_what_made_it() {
        let about = about(Kind::Images, 4);
        let row = &images(1, 4).rows[0].0;
        let bytes = Line::of_row(row).with(&about).to_bytes().unwrap();
        let line = Line::from_bytes(&bytes).unwrap();
        assert_eq!(line.about(4, Dtype::F32).unwrap(), about);
        assert!(line.is_of(&about));
    }

    #[test]
    fn lines_that_are_not_rows_are_refused() {
        let cases = [
            "",
            "[]",
            "{}",
            "{\"image\":\"a\",\"text\":\"b\"}",
            "{\"image\":\"a\"}",
            "{\"image\":\"a\",\"path\":\"b\",\"width\":1,\"height\":1}",
            "{\"path\":\"a\",\"text\":\"b\",\"width\":1,\"height\":1}",
            "{\"path\":\"a\",\"path_bytes\":\"?\",\"width\":1,\"height\":1}",
            "{\"image\":\"a\",\"width\":-1,\"height\":1}",
            "{\"image\":\"a\",\"width\":4294967296,\"height\":1}",
            "{\"image\":\"a\",\"image_bytes\":\"?\",\"width\":1,\"height\":1}",
            "{\"text\":\"a\",\"error\":\"b\"}",
            "{\"text\":\"a\"",
        ];
        for case in cases {
            let row = Line::from_bytes(case.as_bytes()).and_then(|line| line.row());
            assert!(row.is_err(), "{case}");
        }
    }
}
