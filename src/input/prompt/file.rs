//! The files behind `--labels-file` and `--templates`: bytes -> entries.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::Entry;

/// A million labels of a Long-CLIP context each; more is some other file.
const LIMIT_BYTES: u64 = 1 << 30;

/// The file's text without its byte order mark.
///
/// # Errors
/// When it cannot be read, is larger than the limit, or is not UTF-8.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LIMIT_BYTES + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {shown}"))?;
    ensure!(
        bytes.len() as u64 <= LIMIT_BYTES,
        "{shown} is larger than {LIMIT_BYTES} bytes; is it the right file?"
    );
    let text = decode(bytes).with_context(|| format!("cannot read {shown}"))?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

fn decode(bytes: Vec<u8>) -> anyhow::Result<String> {
    let is_utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    ensure!(!is_utf16, "the file is UTF-16; save it as UTF-8");
    String::from_utf8(bytes).or_else(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        bail!("line {line} is not UTF-8; save the file as UTF-8")
    })
}

/// One entry a line, without surrounding white space; `#` comments and blank lines skipped.
pub(super) fn lines(text: &str) -> Vec<Entry> {
    let numbered = text.lines().map(str::trim).zip(1..);
    numbered
        .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
        .map(|(line, place)| Entry {
            place,
            label: line.to_owned(),
            prompts: Vec::new(),
        })
        .collect()
}

/// The classes of a JSON object, or the labels of a JSON list, in the order of the file.
///
/// # Errors
/// When it is neither; the message names line and column.
pub(super) fn json(text: &str) -> anyhow::Result<Vec<Entry>> {
    let Classes(entries) = serde_json::from_str(text)?;
    Ok(entries)
}

/// Kept as a list and not as a map: a map would drop the first of two equal labels.
struct Classes(Vec<Entry>);

impl<'de> Deserialize<'de> for Classes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ClassesVisitor).map(Self)
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a prompt or a list of prompts")]
enum Prompts {
    None(()),
    One(String),
    Many(Vec<String>),
}

impl Prompts {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::None(()) => Vec::new(),
            Self::One(prompt) => vec![prompt],
            Self::Many(prompts) => prompts,
        }
    }
}

struct ClassesVisitor;

impl<'de> Visitor<'de> for ClassesVisitor {
    type Value = Vec<Entry>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(r#"{"label": ["prompt", …], …} or ["label", …]"#)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((label, prompts)) = map.next_entry::<String, Prompts>()? {
            entries.push(Entry {
                place: entries.len() + 1,
                label,
                prompts: prompts.into_vec(),
            });
        }
        Ok(entries)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(label) = list.next_element()? {
            entries.push(Entry {
                place: entries.len() + 1,
                label,
                prompts: Vec::new(),
            });
        }
        Ok(entries)
    }
}
