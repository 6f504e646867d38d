//! Lines of a list that are JSON objects: an image, and keys that come back in its record.

use std::path::PathBuf;

use super::{Entry, ImageSource, PathError};
use crate::input::shard::Shards;
use crate::output::{FailureKind, Given, RECORD_KEYS};

/// The image that an object names, by `path` (or `image`) or in an archive.
pub(super) fn entry(line: &[u8], list: &str, number: u64, shards: &mut Shards) -> Entry {
    let error = |cause: &str| PathError {
        path: format!("{list}:{number}").into(),
        cause: FailureKind::Line.because(format!("line {number} {cause}")),
    };
    let parsed = match std::str::from_utf8(line) {
        Ok(text) => Given::parse(text.trim_end()).map_err(|cause| cause.to_string()),
        Err(cause) => Err(cause.to_string()),
    };
    let given = match parsed {
        Ok(given) => given,
        Err(cause) => return Err(error(&format!("is not a JSON object: {cause}"))).into(),
    };
    let source = match named(&given) {
        Ok(Named::Path(path)) => Ok(ImageSource::Path(path)),
        Ok(Named::Member(shard, key)) => shards.member(&shard, &key).map(ImageSource::Member),
        Err(cause) => Err(error(&cause)),
    };
    // The record has its own.
    let given = given.without(RECORD_KEYS);
    Entry {
        source,
        given: Some(given),
    }
}

/// What an object names.
enum Named {
    Path(PathBuf),
    /// An archive, and the key of an image in it.
    Member(PathBuf, String),
}

fn named(given: &Given) -> Result<Named, String> {
    let of_record = RECORD_KEYS.iter().filter(|key| **key != "image");
    for key in of_record {
        if given.pairs().any(|(name, _)| name == *key) {
            return Err(format!(
                "has the key {key:?}, which is one of the record's own; give it another name"
            ));
        }
    }
    let text = |key: &str| {
        let found = given.text(key);
        found.map_err(|()| format!("has a {key:?} that is not a text"))
    };
    let path = match (text("path")?, text("image")?) {
        (Some(_), Some(_)) => return Err("has both \"path\" and \"image\"; keep one".to_owned()),
        (path, image) => path.or(image),
    };
    match (path, text("shard")?) {
        (Some(_), Some(_)) => Err("has both \"path\" and \"shard\"; keep one".to_owned()),
        (Some(path), None) if path.is_empty() => Err("has an empty path".to_owned()),
        (Some(path), None) if path.contains('\0') => Err("has a NUL in its path".to_owned()),
        (Some(path), None) if PathBuf::from(&path).is_dir() => Err(format!(
            "names the folder {path}, but a list names files; pass the folder as an argument"
        )),
        (Some(path), None) => Ok(Named::Path(path.into())),
        (None, Some(shard)) => match text("key")? {
            Some(key) => Ok(Named::Member(shard.into(), key)),
            None => Err(format!(
                "has a \"shard\" without a \"key\"; {{\"path\": {shard:?}}} names all of its images"
            )),
        },
        (None, None) => Err(
            "names no image; add \"path\", or \"shard\" and \"key\" for one in an archive"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ImageRule;
    use super::*;

    fn entry(line: &[u8], list: &str, number: u64) -> Entry {
        let rule = ImageRule {
            extensions: &["png"],
            looks_like_image: |_| false,
        };
        super::entry(line, list, number, &mut Shards::new(rule))
    }

    #[test]
    fn an_object_names_a_file_and_keeps_its_other_keys() {
        for line in [
            r#"{"id":7,"path":"a b.png"}"#,
            r#"{"path":"a b.png","image_id":[1]}"#,
            "{\"path\":\"a b.png\"}\r",
        ] {
            let entry = entry(line.as_bytes(), "list", 3);
            assert_eq!(entry.source, Ok(ImageSource::Path("a b.png".into())));
            let given = serde_json::to_string(&entry.given.unwrap()).unwrap();
            assert_eq!(given, line.trim_end());
        }
        let image = entry(br#"{"image":"a.png","n":1}"#, "list", 3);
        assert_eq!(image.source, Ok(ImageSource::Path("a.png".into())));
        // The record says it.
        let given = serde_json::to_string(&image.given.unwrap()).unwrap();
        assert_eq!(given, r#"{"n":1}"#);
    }

    #[test]
    fn a_bad_object_is_refused_with_its_line() {
        let cases = [
            ("{\"shard\":\"a.tar\"}", "without a \"key\""),
            ("{", "line 3 is not a JSON object"),
            ("{\"path\":\"a\",\"path\":\"b\"}", "\"path\" is there twice"),
            ("{\"path\":\"a\"} {}", "line 3 is not a JSON object"),
            ("{\"id\":7}", "names no image; add \"path\""),
            ("{\"path\":7}", "has a \"path\" that is not a text"),
            ("{\"path\":\"\"}", "empty path"),
            ("{\"path\":\".\"}", "names the folder ."),
            (
                "{\"path\":\"a\",\"image\":\"a\"}",
                "both \"path\" and \"image\"",
            ),
            (
                "{\"path\":\"a\",\"predictions\":[]}",
                "the key \"predictions\"",
            ),
        ];
        for (line, expected) in cases {
            let entry = entry(line.as_bytes(), "list", 3);
            let error = entry.source.unwrap_err();
            assert_eq!(error.path, PathBuf::from("list:3"));
            assert_eq!(error.cause.kind, FailureKind::Line);
            let said = &error.cause.cause;
            assert!(said.contains(expected), "{line}: {said}");
        }
        // Its other keys come back all the same.
        let bad = entry(br#"{"id":7,"error":"x"}"#, "list", 3);
        let given = serde_json::to_string(&bad.given.unwrap()).unwrap();
        assert_eq!(given, r#"{"id":7}"#);
    }
}
