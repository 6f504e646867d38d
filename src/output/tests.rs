use super::testing::{STYLE, contract};
use super::*;

/// Those that write each record at once; Parquet is tested where it is written.
const FORMATS: [Format; 8] = [
    Format::Table,
    Format::Json,
    Format::Jsonl,
    Format::Csv,
    Format::Tsv,
    Format::Paths,
    Format::LabelStudio,
    Format::Github,
];

/// A record that every format shows.
fn shown() -> Record {
    Record {
        chosen: vec!["a cat sleeping".into(), "a cat jumping".into()],
        target: Some("a cat jumping".into()),
        ..contract()[0].clone()
    }
}

/// Counts the calls; fails on demand.
struct Sink {
    calls: Arc<std::sync::Mutex<Vec<&'static str>>>,
    failure: Option<io::ErrorKind>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls.lock().unwrap().push("write");
        self.failure
            .map_or(Ok(bytes.len()), |kind| Err(kind.into()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.calls.lock().unwrap().push("flush");
        Ok(())
    }
}

#[test]
fn each_record_arrives_in_one_piece_and_is_flushed() {
    for format in FORMATS {
        let calls = Arc::default();
        let sink = Sink {
            calls: Arc::clone(&calls),
            failure: None,
        };
        let mut writer = writer(format, Box::new(sink), STYLE).unwrap();
        writer.write(&shown()).unwrap();
        assert_eq!(*calls.lock().unwrap(), ["write", "flush"], "{format:?}");
        writer.write(&contract()[1]).unwrap();
        // One that failed has no label.
        let expected = if format == Format::Paths { 2 } else { 4 };
        assert_eq!(calls.lock().unwrap().len(), expected, "{format:?}");
    }
}

#[test]
fn the_kind_of_a_failure_is_preserved() {
    for format in FORMATS {
        let sink = Sink {
            calls: Arc::default(),
            failure: Some(io::ErrorKind::BrokenPipe),
        };
        let mut writer = writer(format, Box::new(sink), STYLE).unwrap();
        let error = writer.write(&shown()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{format:?}");
    }
}

#[test]
fn numbers_that_are_not_finite_do_no_harm() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for score in [Score::Probability, Score::Logit, Score::Cosine] {
            let mut record = shown();
            for prediction in record.outcome.as_mut().unwrap() {
                prediction.probability = Some(value);
                prediction.logit = value;
                prediction.cosine = Some(value);
            }
            for format in FORMATS {
                let style = Style { score, ..STYLE };
                let content = testing::written(format, style, &[record.clone()]);
                let expected = match format {
                    Format::Paths => "img.jpg",
                    _ => "a cat jumping",
                };
                assert!(content.contains(expected), "{format:?} {content}");
            }
        }
    }
}

#[test]
fn an_image_is_named_by_its_path() {
    let name = ImageName::from(Path::new("a b/é.jpg"));
    assert_eq!((name.text.as_str(), name.bytes), ("a b/é.jpg", None));
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_utf8_keeps_its_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let path = Path::new(std::ffi::OsStr::from_bytes(b"caf\xe9.jpg"));
    let name = ImageName::from(path);
    assert_eq!(name.text, "caf\u{fffd}.jpg");
    assert_eq!(name.bytes.as_deref(), Some(&b"caf\xe9.jpg"[..]));
    let index = FrameId {
        index: 12,
        time: None,
    };
    let frame = name.of_frame(Some(index));
    assert_eq!(frame.text, "caf\u{fffd}.jpg#12");
    assert_eq!(frame.bytes.as_deref(), Some(&b"caf\xe9.jpg#12"[..]));
}
