//! How each key of a configuration file is handled: read, known to be harmless, supported for
//! certain values only, or unknown. Contains no keys itself.

use anyhow::{Result, bail, ensure};
use serde_json::{Map, Value};

use super::kinds;

/// The keys of one JSON object.
pub(super) type Object = Map<String, Value>;

/// Most keys of an object; the tables are searched for each.
const MOST_KEYS: usize = 10_000;
/// Longest value that a message shows, in bytes of JSON.
const SHOWN: usize = 80;

/// How a key is handled.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// Read by the code that owns the file.
    Read,
    /// Cannot change an embedding; the entry's comment says why.
    Harmless,
    /// Only these values (as JSON) are supported.
    Only(&'static [&'static str]),
    /// An unsupported feature: it is off if the value is `false`, `null`, 0 or empty.
    Off,
}

/// Keys that share a rule.
pub(super) struct Keys(pub(super) &'static [&'static str], pub(super) Rule);

/// One JSON object of a file.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// The file's name.
    pub(super) file: &'static str,
    /// The path of keys to the object, joined by dots; empty for the whole file.
    pub(super) path: &'a str,
    /// The library that the file belongs to.
    pub(super) library: &'static str,
}

impl Place<'_> {
    /// The full name of a key, including the file.
    pub(super) fn name(&self, key: &str) -> String {
        let dot = if self.path.is_empty() { "" } else { "." };
        format!("{}: {}{dot}{key}", self.file, self.path)
    }

    /// The error for an unsupported value.
    pub(super) fn refuse<T>(&self, key: &str, value: &Value, why: &str) -> Result<T> {
        bail!("{} is {}, {why}", self.name(key), shown(value))
    }

    /// Fails if there are too many keys, or at the first value of another kind than its key has.
    pub(super) fn check_kinds(&self, object: &Object) -> Result<()> {
        ensure!(
            object.len() <= MOST_KEYS,
            "{} has {} keys, too many for a configuration",
            self.name("").trim_end_matches([' ', '.', ':']),
            object.len()
        );
        for (key, value) in object {
            if let Some(wanted) = kinds::wrong(key, value) {
                return self.refuse(key, value, wanted);
            }
        }
        Ok(())
    }

    /// Fails as [`Self::check_kinds`], and at the first value that no rule allows; returns the keys
    /// that are in no table.
    pub(super) fn check<'o>(&self, object: &'o Object, tables: &[&[Keys]]) -> Result<Vec<&'o str>> {
        self.check_kinds(object)?;
        let mut unknown = Vec::new();
        for (key, value) in object {
            let mut all = tables.iter().flat_map(|table| table.iter());
            let Some(Keys(_, rule)) = all.find(|Keys(names, _)| names.contains(&key.as_str()))
            else {
                unknown.push(key.as_str());
                continue;
            };
            let library = self.library;
            match rule {
                Rule::Read | Rule::Harmless => {}
                Rule::Only(allowed) if allowed.contains(&value.to_string().as_str()) => {}
                Rule::Only(allowed) => {
                    let why = format!(
                        "but longclip supports only {}; use {library} for this model",
                        allowed.join(" or ")
                    );
                    return self.refuse(key, value, &why);
                }
                Rule::Off if !is_on(value) => {}
                Rule::Off => {
                    let why =
                        format!("which longclip does not support; use {library} for this model");
                    return self.refuse(key, value, &why);
                }
            }
        }
        Ok(unknown)
    }

    /// One warning about all unknown keys, if there are any.
    pub(super) fn warning(&self, unknown: &[&str]) -> Option<String> {
        let names: Vec<&str> = unknown.iter().take(8).copied().collect();
        let more = match unknown.len() - names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (!unknown.is_empty()).then(|| {
            format!(
                "{}{more}: unknown and ignored; check the results if {} uses it",
                self.name(&names.join(", ")),
                self.library
            )
        })
    }

    /// The object under `key`; an empty one if it is absent or `null`.
    ///
    /// # Errors
    /// When it is anything else.
    pub(super) fn object(&self, parent: &Object, key: &str) -> Result<Object> {
        match parent.get(key) {
            None | Some(Value::Null) => Ok(Object::new()),
            Some(Value::Object(object)) => Ok(object.clone()),
            Some(other) => self.refuse(key, other, "not an object"),
        }
    }

    /// The integer under `key`, if the key is present.
    ///
    /// # Errors
    /// When it is anything else, including `null`.
    pub(super) fn whole(&self, object: &Object, key: &str) -> Result<Option<usize>> {
        let Some(value) = object.get(key) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(number) => Ok(Some(number as usize)),
            None => self.refuse(key, value, "not a whole number"),
        }
    }

    /// The LayerNorm epsilon under `key`, if the key is present.
    ///
    /// # Errors
    /// When it is not a number from 0 to 1.
    pub(super) fn epsilon(&self, object: &Object, key: &str) -> Result<Option<f32>> {
        let Some(value) = object.get(key) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) if (0.0..=1.0).contains(&number) => Ok(Some(number as f32)),
            _ => self.refuse(key, value, "not a number from 0 to 1"),
        }
    }
}

/// Whether Python treats a value as true.
pub(super) fn is_on(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(object) => !object.is_empty(),
    }
}

/// A value, shortened for a message.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= SHOWN {
        return text;
    }
    let end = text.floor_char_boundary(SHOWN);
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PLACE: Place<'static> = Place {
        file: "a.json",
        path: "b",
        library: "someone",
    };

    const TABLE: &[Keys] = &[
        Keys(&["read"], Rule::Read),
        Keys(&["harmless", "too"], Rule::Harmless),
        Keys(&["pool"], Rule::Only(&["\"tok\"", "2"])),
        Keys(&["feature"], Rule::Off),
    ];

    fn check(value: &Value) -> Result<Vec<&str>> {
        PLACE.check(value.as_object().unwrap(), &[TABLE])
    }

    #[test]
    fn values_are_allowed_or_refused_by_name() {
        let allowed = [
            json!({"read": [1], "harmless": 3, "too": null}),
            json!({"pool": "tok"}),
            json!({"pool": 2, "feature": false}),
            json!({"feature": null}),
            json!({"feature": {}}),
            json!({"feature": 0.0}),
        ];
        for value in &allowed {
            assert_eq!(check(value).unwrap(), [""; 0], "{value}");
        }
        for (value, words) in [
            (json!({"pool": "avg"}), "a.json: b.pool is \"avg\""),
            (json!({"pool": null}), "b.pool is null"),
            (json!({"feature": true}), "b.feature is true"),
            (json!({"feature": 0.1}), "b.feature is 0.1"),
            (json!({"feature": "x".repeat(500)}), "xxx…"),
        ] {
            let error = check(&value).unwrap_err().to_string();
            assert!(
                error.contains(words) && error.contains("someone"),
                "{error}"
            );
        }
    }

    #[test]
    fn unknown_keys_are_listed() {
        let value = json!({"pool": "tok", "pol": 1, "x": 2});
        let unknown = check(&value).unwrap();
        let warning = PLACE.warning(&unknown).unwrap();
        assert!(
            warning.starts_with("a.json: b.pol, x: unknown"),
            "{warning}"
        );
        assert_eq!(PLACE.warning(&[]), None);
    }

    #[test]
    fn numbers_are_numbers() {
        let object = json!({"n": 3, "e": 1e-6, "bad": null, "float": 3.0, "list": [3]});
        let object = object.as_object().unwrap();
        assert_eq!(PLACE.whole(object, "n").unwrap(), Some(3));
        assert_eq!(PLACE.whole(object, "absent").unwrap(), None);
        assert_eq!(PLACE.epsilon(object, "e").unwrap(), Some(1e-6));
        for key in ["bad", "float", "list"] {
            let error = PLACE.whole(object, key).unwrap_err().to_string();
            assert!(error.contains(&format!("b.{key} is")), "{error}");
        }
        assert!(PLACE.epsilon(object, "bad").is_err());
        assert!(PLACE.epsilon(object, "n").is_err());
    }
}
