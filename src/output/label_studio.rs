//! Tasks of Label Studio with pre-annotations: one array, to be imported as it is.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::json::Objects;
use super::{Format, Record, RecordWriter, emit};

/// Writes records as tasks, for a labelling interface with `<Image name="image" value="$image"/>`
/// and `<Choices name="label" toName="image">`.
pub(super) struct TaskWriter {
    sink: Box<dyn Write + Send>,
    tasks: Objects,
    /// Which model predicted.
    model: String,
}

impl TaskWriter {
    pub(super) fn new(sink: Box<dyn Write + Send>, model: String) -> Self {
        Self {
            sink,
            tasks: Objects::new(Format::Json),
            model,
        }
    }
}

impl RecordWriter for TaskWriter {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        let piece = self.tasks.next(&task(record, &self.model))?;
        emit(&mut *self.sink, &piece)
    }

    fn finish(&mut self) -> io::Result<()> {
        emit(&mut *self.sink, self.tasks.end())
    }
}

/// A task without a prediction if no label fits or the image failed.
fn task(record: &Record, model: &str) -> Value {
    let mut predictions = Vec::new();
    if let (Ok(scores), false) = (&record.outcome, record.chosen.is_empty()) {
        let choices: Vec<&str> = record.chosen.iter().map(|label| &**label).collect();
        let mut prediction = json!({ "model_version": model });
        // Tasks are sorted by it.
        if let Some(score) = scores.first().and_then(|best| best.probability) {
            prediction["score"] = json!(score);
        }
        prediction["result"] = json!([{
            "from_name": "label",
            "to_name": "image",
            "type": "choices",
            "value": { "choices": choices },
        }]);
        predictions.push(prediction);
    }
    json!({ "data": { "image": address(record.image.exact()) }, "predictions": predictions })
}

/// Where Label Studio serves a local file, relative to its document root.
fn address(path: &[u8]) -> String {
    let mut path = path;
    while let Some(rest) = path.strip_prefix(b"./").or(path.strip_prefix(b"/")) {
        path = rest;
    }
    let encoded = path.iter().map(|&byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    });
    format!("/data/local-files/?d={}", encoded.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::super::Style;
    use super::super::testing::{STYLE, contract, written};
    use super::*;

    #[test]
    fn tasks_have_the_chosen_labels() {
        let mut records = contract();
        records[0].chosen = vec!["a cat sleeping".into()];
        let style = Style {
            model: "tiny".into(),
            ..STYLE
        };
        let tasks = written(Format::LabelStudio, style, &records);
        let tasks: Value = serde_json::from_str(&tasks).unwrap();
        let expected = json!([
            {
                "data": { "image": "/data/local-files/?d=img.jpg" },
                "predictions": [{
                    "model_version": "tiny",
                    "score": tasks[0]["predictions"][0]["score"],
                    "result": [{
                        "from_name": "label",
                        "to_name": "image",
                        "type": "choices",
                        "value": { "choices": ["a cat sleeping"] },
                    }],
                }],
            },
            { "data": { "image": "/data/local-files/?d=broken.jpg" }, "predictions": [] },
        ]);
        assert_eq!(tasks, expected);
        let score = tasks[0]["predictions"][0]["score"].as_f64().unwrap();
        assert!((score - 0.997_981_25).abs() < 1e-7);
    }

    #[test]
    fn paths_are_relative_and_encoded() {
        for (path, expected) in [
            ("./a b.jpg", "a%20b.jpg"),
            ("/x/é&?.jpg", "x/%C3%A9%26%3F.jpg"),
            ("../a", "../a"),
        ] {
            let found = address(path.as_bytes());
            assert_eq!(found, format!("/data/local-files/?d={expected}"));
        }
    }
}
