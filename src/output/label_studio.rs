//! Tasks of Label Studio with pre-annotations: one array, to be imported as it is.

use std::io::{self, Write};
use std::path::{MAIN_SEPARATOR, Path, PathBuf, is_separator};

use serde_json::{Value, json};

use super::json::Objects;
use super::{Format, ImageName, Record, RecordWriter, emit};

/// Writes records as tasks, for a labelling interface with `<Image name="image" value="$image"/>`
/// and `<Choices name="label" toName="image">`.
pub(super) struct TaskWriter {
    sink: Box<dyn Write + Send>,
    tasks: Objects,
    /// Which model predicted.
    model: String,
    /// The working folder, which is Label Studio's document root.
    root: PathBuf,
}

impl TaskWriter {
    /// # Errors
    /// When the working folder cannot be found.
    pub(super) fn new(sink: Box<dyn Write + Send>, model: String) -> io::Result<Self> {
        Ok(Self {
            sink,
            tasks: Objects::new(Format::Json),
            model,
            root: std::env::current_dir()?,
        })
    }
}

impl RecordWriter for TaskWriter {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        // Whoever writes records looks with `is_inside` before.
        let address =
            address(record.image.exact(), &self.root).ok_or(io::ErrorKind::InvalidInput)?;
        let piece = self.tasks.next(&task(record, &address, &self.model))?;
        emit(&mut *self.sink, &piece)
    }

    fn finish(&mut self) -> io::Result<()> {
        emit(&mut *self.sink, self.tasks.end())
    }
}

/// A task without a prediction if no label fits or the image failed.
fn task(record: &Record, address: &str, model: &str) -> Value {
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
    json!({ "data": { "image": address }, "predictions": predictions })
}

/// Whether an image is a file in the working folder, where Label Studio serves files.
///
/// # Errors
/// When the working folder cannot be found.
pub(crate) fn is_inside(image: &ImageName) -> io::Result<bool> {
    let root = std::env::current_dir()?;
    Ok(image.path().is_some() && inside(image.exact(), &root).is_some())
}

/// A path relative to `root`, with `/` between its parts; `None` if it is elsewhere. Links are not
/// followed: Label Studio serves them under their own names.
fn inside(path: &[u8], root: &Path) -> Option<Vec<u8>> {
    let root = root.as_os_str().as_encoded_bytes();
    let separator = [MAIN_SEPARATOR as u8];
    // On Windows, what starts with a separator has no drive and is elsewhere.
    let start = Path::new(&*String::from_utf8_lossy(path)).has_root();
    let whole = match start {
        true => path.to_vec(),
        false => [root, path].join(&separator[..]),
    };
    let parts = |path: &[u8]| {
        let mut parts = Vec::new();
        for part in path.split(|&byte| is_separator(char::from(byte))) {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                part => parts.push(part.to_vec()),
            }
        }
        parts
    };
    let parts_of_path = parts(&whole);
    let relative = parts_of_path.strip_prefix(&*parts(root))?;
    Some(relative.join(&b'/'))
}

/// Where Label Studio serves a local file, relative to its document root; `None` if it cannot.
fn address(path: &[u8], root: &Path) -> Option<String> {
    let path = inside(path, root)?;
    let encoded = path.iter().map(|&byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    });
    let encoded: String = encoded.collect();
    Some(format!("/data/local-files/?d={encoded}"))
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
            ("./a b.jpg", Some("a%20b.jpg")),
            ("x//./y/../é&?.jpg", Some("x/%C3%A9%26%3F.jpg")),
            ("/home/me/photos/x/a", Some("x/a")),
            ("../photos/a", Some("a")),
            ("../a", None),
            ("x/../../a", None),
            ("/home/me/photos2/a", None),
            ("/a", None),
        ] {
            let found = address(path.as_bytes(), Path::new("/home/me/photos"));
            let expected = expected.map(|path| format!("/data/local-files/?d={path}"));
            assert_eq!(found, expected, "{path}");
        }
    }

    #[cfg(windows)]
    #[test]
    fn paths_of_windows_have_slashes() {
        let root = Path::new("C:\\photos");
        for (path, expected) in [
            ("x\\a.jpg", Some("/data/local-files/?d=x/a.jpg")),
            ("C:\\photos\\x\\a.jpg", Some("/data/local-files/?d=x/a.jpg")),
            ("D:\\photos\\a.jpg", None),
        ] {
            assert_eq!(address(path.as_bytes(), root).as_deref(), expected);
        }
    }

    #[test]
    fn a_file_elsewhere_is_no_task() {
        let mut writer = TaskWriter::new(Box::new(io::sink()), String::new()).unwrap();
        let record = super::super::testing::failed("../broken.jpg", "x");
        assert!(!is_inside(&record.image).unwrap());
        assert!(!is_inside(&ImageName::stdin()).unwrap());
        let error = writer.write(&record).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
