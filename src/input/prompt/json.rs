//! Labels as JSON.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::Entry;

/// The classes of a JSON object, or the labels of a JSON list, in the order of the file.
///
/// # Errors
/// When it is neither; the message names line and column.
pub(super) fn entries(text: &str) -> anyhow::Result<Vec<Entry>> {
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
#[serde(
    untagged,
    expecting = "expected a prompt or a list of prompts, or an object of prompt, alias, text and key"
)]
enum Value {
    None(()),
    One(String),
    Many(Vec<String>),
    Described(Described),
}

/// The columns of a table, by the same names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    #[serde(default, alias = "prompts", alias = "description")]
    prompt: Texts,
    #[serde(default, alias = "aliases")]
    alias: Texts,
    text: Option<String>,
    #[serde(alias = "folder", alias = "id")]
    key: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Texts {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl Texts {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

impl Value {
    fn into_entry(self, place: usize, label: String) -> Entry {
        let mut entry = Entry::new(place, label);
        match self {
            Self::None(()) => {}
            Self::One(prompt) => entry.prompts = vec![prompt],
            Self::Many(prompts) => entry.prompts = prompts,
            Self::Described(described) => {
                entry.prompts = described.prompt.into_vec();
                entry.aliases = described.alias.into_vec();
                entry.text = described.text;
                entry.key = described.key;
            }
        }
        entry
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
        while let Some((label, value)) = map.next_entry::<String, Value>()? {
            entries.push(value.into_entry(entries.len() + 1, label));
        }
        Ok(entries)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(label) = list.next_element()? {
            entries.push(Entry::new(entries.len() + 1, label));
        }
        Ok(entries)
    }
}
