//! Keys of a line of a list, which come back in the record of its image.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A JSON object, its keys in order and its values as they were written.
#[derive(Clone, Debug)]
pub(crate) struct Given(Arc<[(String, Box<RawValue>)]>);

impl Given {
    /// Reads a line.
    ///
    /// # Errors
    /// When it is not one object, or has a key twice.
    pub(crate) fn parse(line: &str) -> serde_json::Result<Self> {
        serde_json::from_str(line)
    }

    /// The keys and values, in order.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        let pairs = self.0.iter();
        pairs.map(|(key, value)| (key.as_str(), value.as_ref()))
    }

    /// The value of a key, if it is a text.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn text(&self, key: &str) -> Result<Option<String>, ()> {
        let value = self.pairs().find(|(name, _)| *name == key);
        let text = |(_, value): (_, &RawValue)| serde_json::from_str(value.get());
        value.map(text).transpose().map_err(drop)
    }

    /// Whether there is anything but the path.
    pub(crate) fn says_more(&self) -> bool {
        self.pairs().any(|(key, _)| key != "path")
    }

    /// The same without some keys.
    pub(crate) fn without(&self, keys: &[&str]) -> Self {
        let is_kept = |(key, _): &&(String, _)| !keys.contains(&key.as_str());
        Self(self.0.iter().filter(is_kept).cloned().collect())
    }
}

impl PartialEq for Given {
    fn eq(&self, other: &Self) -> bool {
        let texts = |given: &Self| -> Vec<(String, String)> {
            let pairs = given.pairs();
            pairs
                .map(|(key, value)| (key.to_owned(), value.get().to_owned()))
                .collect()
        };
        texts(self) == texts(other)
    }
}

impl Eq for Given {}

impl Serialize for Given {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.pairs() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Given;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
                let mut pairs: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if pairs.iter().any(|(known, _)| *known == key) {
                        return Err(A::Error::custom(format!("the key {key:?} is there twice")));
                    }
                    pairs.push((key, on_one_line(value)));
                }
                Ok(Given(pairs.into()))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// The value with spaces for other white space between its parts, which a record of one line cannot
/// hold.
fn on_one_line(value: Box<RawValue>) -> Box<RawValue> {
    let is_wide = |c: char| matches!(c, '\t' | '\n' | '\r');
    if !value.get().contains(is_wide) {
        return value;
    }
    // In texts these are escaped.
    let text = value.get().replace(is_wide, " ");
    RawValue::from_string(text).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_were_written() {
        let line =
            r#"{"id":123456789012345678901234567890,"x":1.10,"a":[1,{"b":null}],"e":"\u00e9\t"}"#;
        let given = Given::parse(line).unwrap();
        assert_eq!(serde_json::to_string(&given).unwrap(), line);
        let spaced = Given::parse("{\"a\" :\t[1,\t2] , \"b\": 1e400}").unwrap();
        let shown = serde_json::to_string(&spaced).unwrap();
        assert_eq!(shown, r#"{"a":[1, 2],"b":1e400}"#);
        let back: Given = serde_json::from_str(&shown).unwrap();
        assert_eq!(back, spaced);
        assert_eq!(given.text("e"), Ok(Some("é\t".to_owned())));
        assert_eq!((given.text("id"), given.text("no")), (Err(()), Ok(None)));
        let rest = given.without(&["id", "a"]);
        assert_eq!(
            serde_json::to_string(&rest).unwrap(),
            r#"{"x":1.10,"e":"\u00e9\t"}"#
        );
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for line in [
            "",
            "{",
            "[]",
            "{} {}",
            "{\"a\":1,\"a\":2}",
            "{\"a\":}",
            "{\"a\":NaN}",
        ] {
            assert!(Given::parse(line).is_err(), "{line}");
        }
    }
}
