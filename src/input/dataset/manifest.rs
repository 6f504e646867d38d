//! Files with one label per image: tables, JSON Lines, and JSON such as CoOp's splits.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value};

use super::names::composed;
use super::rows::{ImagePaths, Parts};
use super::{Labelled, LabelledOptions, Remark, Sample, Split, class_number, not_a_dataset, rows};
use crate::input::paths::ImageRule;
use crate::input::text_file::column::{CLASS, CLASS_NAME, PATH, first_few};
use crate::input::text_file::{self, Fields, fields_of};

/// Larger JSON files are not datasets.
const LIMIT_BYTES: u64 = 2 << 30;

/// Reads a file with one label per image.
pub(super) fn labelled(
    path: &Path,
    options: &LabelledOptions<'_>,
    rule: ImageRule,
) -> Result<Labelled> {
    let mut reading = LabelReader {
        images: ImagePaths::new(path, options.images),
        classes: HashMap::new(),
        class_of: HashMap::new(),
        found: Labelled::default(),
    };
    match text_file::extension(path).as_str() {
        "json" => reading.json(path, options, rule)?,
        _ => reading.rows(path, options)?,
    }
    let LabelReader {
        images, mut found, ..
    } = reading;
    ensure!(
        !found.samples.is_empty(),
        "{} has no rows; add one row per image, with path and label",
        path.display()
    );
    let note = images.note();
    found
        .remarks
        .extend(note.map(|note| Remark::Note(format!("{}: {note}", path.display()))));
    without_fractions(&mut found.classes);
    Ok(found)
}

/// Whether a file of rows has a column with labels.
pub(super) fn has_labels(path: &Path) -> Result<bool> {
    let row = rows::rows(path, "file_name,label")?.next();
    let row = row.map(|(_, row)| row).transpose()?;
    Ok(row.is_some_and(|row| rows::value(&row, CLASS).is_some()))
}

/// Converts numbers that pandas wrote as floats, because some were missing, to integers.
fn without_fractions(classes: &mut [String]) {
    let whole = |class: &String| {
        let (whole, _) = class.split_once('.')?;
        class_number(class).map(|_| whole.to_owned())
    };
    let all: Option<Vec<String>> = classes.iter().map(whole).collect();
    if let Some(all) = all {
        for (class, whole) in classes.iter_mut().zip(all) {
            *class = whole;
        }
    }
}

struct LabelReader {
    images: ImagePaths,
    classes: HashMap<String, usize>,
    /// Checks that each image has one class: with two, any answer would count as wrong.
    class_of: HashMap<PathBuf, usize>,
    found: Labelled,
}

impl LabelReader {
    fn take(&mut self, image: PathBuf, label: &str) -> Result<()> {
        let found = &mut self.found;
        let class = *self
            .classes
            .entry(composed(label.trim()))
            .or_insert_with_key(|label| {
                found.classes.push(label.clone());
                found.classes.len() - 1
            });
        let before = *self.class_of.entry(image.clone()).or_insert(class);
        ensure!(
            before == class,
            "{} has several labels, {:?} and {:?}, but an image is evaluated with one; keep one \
             label per image",
            image.display(),
            found.classes[before],
            found.classes[class]
        );
        found.samples.push(Sample {
            source: Ok(image),
            class,
        });
        Ok(())
    }

    fn rows(&mut self, path: &Path, options: &LabelledOptions<'_>) -> Result<()> {
        let reading = || format!("cannot read {}", path.display());
        let rows = rows::rows(path, "path,label").with_context(reading)?;
        let notes = rows.notes.iter().cloned().map(Remark::Note);
        self.found.remarks.extend(notes);
        self.all(rows, "line", path, options)
    }

    /// `what` is the unit in which rows are counted.
    fn all(
        &mut self,
        rows: impl Iterator<Item = (u64, Result<Fields>)>,
        what: &str,
        path: &Path,
        options: &LabelledOptions<'_>,
    ) -> Result<()> {
        let mut columns: Option<Vec<&str>> = None;
        let mut parts = Parts::new(match options.split {
            named @ Split::Named(_) => named,
            Split::Usual(_) | Split::All => Split::All,
        });
        for (place, row) in rows {
            let take = || -> Result<()> {
                let row = row?;
                if !parts.takes(&row) {
                    return Ok(());
                }
                let image = self.images.path(rows::text(&row, PATH, "path")?)?;
                let columns = columns.get_or_insert_with(|| label_columns(&row));
                let label = label(&row, columns)?;
                self.take(image, &label)
            };
            take().with_context(|| format!("cannot use {what} {place} of {}", path.display()))?;
        }
        let note = parts.note(path)?;
        self.found.remarks.extend(note.map(Remark::Note));
        Ok(())
    }

    fn json(&mut self, path: &Path, options: &LabelledOptions<'_>, rule: ImageRule) -> Result<()> {
        let text = text_file::read(path, LIMIT_BYTES)?.content;
        let value = serde_json::from_str(&text)
            .with_context(|| format!("cannot read {}", path.display()))?;
        match value {
            Value::Array(list) if list.first().is_some_and(Value::is_object) => {
                let rows = list.into_iter().map(|entry| fields_of(entry, "the entry"));
                let rows = (1..).zip(rows);
                self.all(rows, "entry", path, options)
            }
            Value::Object(map) if is_split_file(&map) => self.splits(path, map, options.split),
            Value::Object(map) if names_images(&map, rule) => {
                for (image, value) in &map {
                    let using = || format!("cannot use {image:?} of {}", path.display());
                    let label = label_of(value).with_context(using)?;
                    let image = self.images.path(image).with_context(using)?;
                    self.take(image, &label).with_context(using)?;
                }
                Ok(())
            }
            _ => not_a_dataset(path),
        }
    }

    /// CoOp's `split_zhou_*.json`: `{"train": [[path, class number, class name], …], …}`.
    fn splits(&mut self, path: &Path, splits: Map<String, Value>, wanted: Split<'_>) -> Result<()> {
        let names: Vec<String> = splits.keys().cloned().collect();
        let wanted = match wanted {
            Split::Named(name) => Some(name),
            Split::Usual(name) if names.iter().any(|known| known == name) => {
                self.found.remarks.push(Remark::Note(format!(
                    "{}: using the split {name} (available: {})",
                    path.display(),
                    names.join(", ")
                )));
                Some(name)
            }
            Split::Usual(_) | Split::All => None,
        };
        ensure!(
            wanted.is_none_or(|wanted| names.iter().any(|name| name == wanted)),
            "{} has no split {:?}; it has {}",
            path.display(),
            wanted.unwrap_or_default(),
            names.join(", ")
        );
        let mut numbers = HashMap::new();
        for (split, list) in splits {
            if wanted.is_some_and(|wanted| wanted != split) {
                continue;
            }
            let list = list.as_array().cloned().unwrap_or_default();
            for (place, entry) in (1..).zip(&list) {
                let using = || {
                    format!(
                        "cannot use entry {place} of {split:?} in {}",
                        path.display()
                    )
                };
                let (image, name) = self.entry(entry, &mut numbers).with_context(using)?;
                self.take(image, &name).with_context(using)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        entry: &Value,
        numbers: &mut HashMap<String, Value>,
    ) -> Result<(PathBuf, String)> {
        let [Value::String(image), number, rest @ ..] =
            &entry.as_array().map_or(&[][..], |all| all)
        else {
            bail!("it is not a list of path, class number and class name");
        };
        let name = label_of(rest.first().unwrap_or(number))?;
        let known = numbers
            .entry(name.clone())
            .or_insert_with(|| number.clone());
        ensure!(
            known == number,
            "the class name {name:?} has two class numbers, {known} and {number}"
        );
        Ok((self.images.path(image)?, name))
    }
}

/// Labels of a cell that a message lists at most.
const LABELS_SHOWN: usize = 5;

/// Whether every value is a list of lists that begin with a path.
fn is_split_file(map: &Map<String, Value>) -> bool {
    let is_entry = |entry: &Value| entry.get(0).is_some_and(Value::is_string);
    let is_list = |value: &Value| {
        value
            .as_array()
            .is_some_and(|list| list.iter().all(is_entry))
    };
    !map.is_empty()
        && map.values().all(is_list)
        && map
            .values()
            .any(|value| value.get(0).is_some_and(Value::is_array))
}

/// Whether every name is that of an image file, and every value a text or a number.
fn names_images(map: &Map<String, Value>, rule: ImageRule) -> bool {
    let is_label = |value: &Value| value.is_string() || value.is_number();
    let is_image = |name: &String| rule.has_image_extension(Path::new(name));
    !map.is_empty() && map.keys().all(is_image) && map.values().all(is_label)
}

/// The label columns in order of preference: names before class numbers.
fn label_columns(row: &Fields) -> Vec<&'static str> {
    let is_name = |name: &&str| {
        let text = row.get(*name).and_then(Value::as_str);
        text.is_some_and(|text| !text.trim().is_empty() && class_number(text).is_none())
    };
    let first = rows::value(row, CLASS).and_then(|value| label_of(value).ok());
    let is_number = first.is_some_and(|first| class_number(&first).is_some());
    let names = CLASS_NAME
        .iter()
        .copied()
        .filter(|name| is_number && is_name(name));
    names.chain(CLASS.iter().copied()).collect()
}

/// The label of a row.
fn label(row: &Fields, columns: &[&str]) -> Result<String> {
    let value = rows::value(row, columns);
    let value = value.with_context(|| rows::missing(row, CLASS, "label"))?;
    let label = label_of(value)?;
    ensure!(!label.trim().is_empty(), "the label is empty");
    Ok(label)
}

/// A label in JSON: a text or a class number.
pub(super) fn label_of(value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(answer) => Ok(answer.to_string()),
        Value::Array(list) => match &list[..] {
            [one @ (Value::String(_) | Value::Number(_))] => label_of(one),
            several => {
                let shown: Vec<String> = several.iter().map(Value::to_string).collect();
                bail!(
                    "the label holds several labels ([{}]), but an image is evaluated with one; \
                     keep one label per image",
                    first_few(&shown, LABELS_SHOWN)
                )
            }
        },
        Value::Null | Value::Object(_) => bail!("the label is neither a string nor a number"),
    }
}

#[cfg(test)]
mod tests;
