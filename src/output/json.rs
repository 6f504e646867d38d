//! JSON: one array of objects, or one object per line.
//!
//! Numbers are the shortest decimals that read back as the same `f32`.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

use super::text::is_printable;
use super::{FailureKind, Format, Given, Prediction, Record, RecordWriter, emit};

/// Objects as they come, as text: one array, or one object per line.
pub(crate) struct Objects {
    is_array: bool,
    is_empty: bool,
}

impl Objects {
    /// One array for [`Format::Json`], else lines.
    pub(crate) fn new(format: Format) -> Self {
        Self {
            is_array: format == Format::Json,
            is_empty: true,
        }
    }

    /// The text of the next object and of what is before it.
    pub(crate) fn next(&mut self, object: &impl Serialize) -> io::Result<Vec<u8>> {
        let is_first = std::mem::replace(&mut self.is_empty, false);
        let object = printable(object)?;
        Ok(match (self.is_array, is_first) {
            (true, true) => [&b"[\n"[..], &object].concat(),
            (true, false) => [&b",\n"[..], &object].concat(),
            (false, _) => [&object[..], b"\n"].concat(),
        })
    }

    /// The text after the last object.
    pub(crate) fn end(&self) -> &'static [u8] {
        match (self.is_array, self.is_empty) {
            (true, true) => b"[]\n",
            (true, false) => b"\n]\n",
            (false, _) => b"",
        }
    }
}

/// Writes records as objects.
pub(super) struct JsonWriter {
    sink: Box<dyn Write + Send>,
    objects: Objects,
}

impl JsonWriter {
    pub(super) fn new(sink: Box<dyn Write + Send>, format: Format) -> Self {
        Self {
            sink,
            objects: Objects::new(format),
        }
    }
}

impl RecordWriter for JsonWriter {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        let piece = self.objects.next(&RecordObject::of(record))?;
        emit(&mut *self.sink, &piece)
    }

    fn finish(&mut self) -> io::Result<()> {
        emit(&mut *self.sink, self.objects.end())
    }
}

/// What a record's own keys are called.
pub(crate) const RECORD_KEYS: &[&str] = &[
    "image",
    "image_bytes",
    "frame",
    "time",
    "target",
    "uncertain",
    "predictions",
    "error",
    "error_kind",
    "warnings",
];

/// The keys of a record, in order: first those of its line in a list.
#[derive(Serialize)]
struct RecordObject<'a> {
    #[serde(flatten)]
    given: Option<&'a Given>,
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    uncertain: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    predictions: Option<&'a [Prediction]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_kind: Option<FailureKind>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

impl<'a> RecordObject<'a> {
    fn of(record: &'a Record) -> Self {
        Self {
            given: record.given.as_ref(),
            image: &record.image.text,
            image_bytes: record.image.bytes_as_text(),
            frame: record.frame.map(|frame| frame.index),
            time: record.frame.and_then(|frame| frame.time),
            target: record.target.as_deref(),
            uncertain: record.uncertain,
            predictions: record.outcome.as_deref().ok(),
            error: record
                .outcome
                .as_ref()
                .err()
                .map(|failure| failure.cause.as_str()),
            error_kind: record.outcome.as_ref().err().map(|failure| failure.kind),
            warnings: &record.warnings,
        }
    }
}

/// `value` as compact JSON on one line, without characters that a terminal would act on.
pub(crate) fn printable(value: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(escaped(serde_json::to_string(value)?).into_bytes())
}

/// The same, indented and with a newline at the end.
pub(crate) fn pretty(value: &impl Serialize) -> io::Result<String> {
    Ok(escaped(serde_json::to_string_pretty(value)? + "\n"))
}

/// JSON that also escapes what JSON allows and a terminal may act on, such as U+009B, which starts a
/// command. All such characters are within strings, and none is beyond U+FFFF.
fn escaped(json: String) -> String {
    let is_raw = |c: char| c == '\n' || is_printable(c);
    if json.chars().all(is_raw) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if is_raw(character) {
            escaped.push(character);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::testing::{STYLE, answered, contract, failed, prediction, written};
    use super::super::{FrameId, ImageName};
    use super::*;

    fn jsonl(record: Record) -> String {
        written(Format::Jsonl, STYLE, &[record])
    }

    #[test]
    fn lines_are_those_of_the_contract() {
        let expected = concat!(
            r#"{"image":"img.jpg","predictions":["#,
            r#"{"label":"a cat sleeping","probability":0.99798125,"logit":27.71,"cosine":0.2771},"#,
            r#"{"label":"a cat jumping","probability":0.00201881,"logit":21.51,"cosine":0.2151}]}"#,
            "\n",
            r#"{"image":"broken.jpg","error":"not an image: the file ends before any image data","#,
            r#""error_kind":"decode"}"#,
            "\n",
        );
        assert_eq!(written(Format::Jsonl, STYLE, &contract()), expected);
        assert_eq!(written(Format::Jsonl, STYLE, &[]), "");
    }

    #[test]
    fn an_array_is_complete_at_any_length() {
        for count in 0..=2 {
            let array = written(Format::Json, STYLE, &contract()[..count]);
            let parsed: serde_json::Value = serde_json::from_str(&array).unwrap();
            let parsed = parsed.as_array().unwrap();
            assert_eq!(parsed.len(), count);
            assert!(array.ends_with("]\n"));
            for (object, record) in parsed.iter().zip(contract()) {
                let line: serde_json::Value = serde_json::from_str(&jsonl(record)).unwrap();
                assert_eq!(*object, line);
            }
        }
        assert_eq!(written(Format::Json, STYLE, &[]), "[]\n");
        let one = written(Format::Json, STYLE, &[failed("a", "b")]);
        assert_eq!(
            one,
            "[\n{\"image\":\"a\",\"error\":\"b\",\"error_kind\":\"decode\"}\n]\n"
        );
    }

    #[test]
    fn the_keys_of_records_are_known() {
        let mut whole = answered("a", vec![prediction("x", None, 0.25)]);
        whole.image.bytes = Some(vec![255]);
        whole.frame = Some(FrameId {
            index: 3,
            time: Some(0.12),
        });
        whole.target = Some("x".into());
        whole.uncertain = true;
        whole.warnings = vec!["y".to_owned()];
        let mut found = Vec::new();
        for record in [whole, failed("a", "b")] {
            let object: serde_json::Value = serde_json::from_str(&jsonl(record)).unwrap();
            found.extend(object.as_object().unwrap().keys().cloned());
        }
        found.sort();
        found.dedup();
        let mut known = RECORD_KEYS.to_vec();
        known.sort_unstable();
        assert_eq!(found, known);
    }

    #[test]
    fn optional_keys_appear_when_they_have_a_value() {
        let mut record = answered("a", vec![prediction("x", None, 0.25)]);
        record.warnings = vec!["jpeg: cut short".to_owned()];
        record.image = ImageName {
            text: "caf\u{fffd}".to_owned(),
            bytes: Some(b"caf\xe9".to_vec()),
        };
        let expected = concat!(
            "{\"image\":\"caf\u{fffd}\",\"image_bytes\":\"Y2Fm6Q==\",",
            r#""predictions":[{"label":"x","logit":25.0,"cosine":0.25}],"#,
            r#""warnings":["jpeg: cut short"]}"#,
            "\n",
        );
        assert_eq!(jsonl(record), expected);
        let mut frame = failed("-", "cut");
        frame.frame = Some(FrameId {
            index: 3,
            time: Some(0.12),
        });
        let expected = "{\"image\":\"-\",\"frame\":3,\"time\":0.12,\"error\":\"cut\",\"error_kind\":\"decode\"}\n";
        assert_eq!(jsonl(frame), expected);
        let none = jsonl(answered("a", vec![]));
        assert_eq!(none, "{\"image\":\"a\",\"predictions\":[]}\n");
    }

    #[test]
    fn no_control_character_is_written_raw() {
        let hostile = "a\u{1b}[2J\n\t\"\\\u{7f}\u{9b}é\u{0}\u{202e}\u{200b}";
        let line = jsonl(failed(hostile, hostile));
        assert!(line.trim_end().chars().all(is_printable), "{line:?}");
        let shown = pretty(&serde_json::json!({ "image": hostile })).unwrap();
        assert!(shown.lines().count() == 3 && shown.lines().all(|l| l.chars().all(is_printable)));
        let parsed: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(parsed["image"], hostile);
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["image"], hostile);
        assert_eq!(parsed["error"], hostile);
    }

    #[test]
    fn numbers_read_back_as_they_were() {
        for value in [
            0.1_f32,
            1e-20,
            f32::MIN_POSITIVE,
            1.0 / 3.0,
            0.998,
            1.0,
            0.0,
        ] {
            let line = jsonl(answered("a", vec![prediction("x", Some(value), value)]));
            let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
            let read = parsed["predictions"][0]["probability"].to_string();
            assert_eq!(read.parse::<f32>().unwrap().to_bits(), value.to_bits());
        }
    }
}
