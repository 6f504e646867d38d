//! Labels x templates -> prompts: the texts that the text tower reads for each class.
//!
//! A label is the user's name of a class, shown in records; a prompt is a text that describes it,
//! an alias another name. Labels come from arguments, from a built-in set, or from a file:
//!
//! - text: one label per line, `#` comments and blank lines skipped. What surrounds every label,
//!   such as a number, an id or quotes, is removed; see `shape`. A file whose content has one of
//!   the other forms is read as that.
//! - JSON: `{"cat": ["a photo of a cat", "a kitten"], "dog": "a dog"}` are complete prompts, used
//!   unchanged; templates apply only to classes without prompts (`"bird": []` or `"bird": null`).
//!   `{"cat": {"alias": ["kitten"], "key": "n02121808"}}` is equivalent to a table. `["cat",
//!   "dog"]` are labels, used unchanged whatever they begin with. Lists by number, such as
//!   `id2label`, are described in `json`. JSON Lines, YAML and Python literals are equivalent.
//! - CSV and TSV: a header with the column `label` (or another name of `column::LABEL`) and any
//!   of `prompt` (or `description`; complete, as in JSON), `alias` (filled into the templates in
//!   addition to the label), `text` (filled in instead of the label) and `key` (or another name of
//!   `column::KEY`; the dataset's name of the class). Without a header the first column that does
//!   not hold ids has the labels and the others prompts. Rows with the same label are one class.
//!
//! The label itself is filled into the templates unless all entries of its class have complete
//! prompts. Text files cannot have aliases: any character that could separate them may occur in a
//! label. Classes are in the order of the file, or that of their numbers.

mod columns;
mod document;
mod json;
mod literal;
mod shape;
mod table;
mod template;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::HashMap;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::input::text_file::Table;
use columns::{ClassEntry, Written, distinguish, label_set};
use document::{Content, Tables};

pub use template::Templates;

/// One class: its label and the texts that describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// The text as typed, shown in records.
    pub label: String,
    /// Complete prompts, at least one.
    pub prompts: Vec<String>,
    /// The dataset's name of the class, such as its folder's.
    pub key: Option<String>,
}

/// The classes to choose from: at least one, without duplicate labels or keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelSet {
    /// In the order of the source.
    pub classes: Vec<Class>,
    /// Whether any prompt was made by a template.
    pub uses_templates: bool,
    /// Warnings about the file.
    pub warnings: Vec<String>,
    /// Notes on what was guessed about the file.
    pub note: Option<String>,
}

/// Classes as a file has them.
struct Found {
    entries: Vec<ClassEntry>,
    written: Written,
    /// Whether keys were detected rather than named: they may distinguish classes with the same
    /// label.
    by_id: bool,
    warnings: Vec<String>,
    notes: Vec<String>,
}

impl Found {
    /// Classes that stand once each, at places of this kind.
    fn of(entries: Vec<ClassEntry>, places: &'static str) -> Self {
        Self {
            entries,
            written: Written::As(places),
            by_id: false,
            warnings: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// The classes of `--labels`, as typed.
///
/// # Errors
/// When there are none, one is empty, or one is given twice.
pub(crate) fn labels_from_arguments(
    labels: &[String],
    templates: &Templates,
) -> anyhow::Result<LabelSet> {
    let entries = labels.iter().zip(1..);
    let entries = entries.map(|(label, place)| ClassEntry::new(place, label.clone()));
    label_set(entries.collect(), Written::As("labels"), templates)
}

/// The classes of `--labels-file NAME|FILE`: a built-in set (names take precedence over files), or
/// a file in any of the forms above; stdin for `-`. `delimiter` separates the cells of a table;
/// without one it is detected.
///
/// # Errors
/// When the file cannot be read, is not text (the line is named), has none of the forms, has no
/// labels, or has an empty label or one twice (both places are named).
pub(crate) fn labels_from_file(
    path: &Path,
    delimiter: Option<u8>,
    templates: &Templates,
) -> Result<LabelSet> {
    if let Some(found) = path.to_str().and_then(built_in_entries) {
        let found = found?;
        return label_set(found.entries, found.written, templates);
    }
    let is_name = path.extension().is_none() && path.components().count() == 1;
    ensure!(
        !is_name || path.exists() || path.as_os_str() == "-",
        "no labels {path:?}: it is neither a built-in set ({}) nor a file",
        label_names().collect::<Vec<_>>().join(", ")
    );
    let document = document::read(path, Tables::Read(delimiter))?;
    let shown = document::shown(path);
    let classes = || -> Result<LabelSet> {
        let mut found = entries(document.content)?;
        if found.by_id {
            found.notes.extend(distinguish(&mut found.entries));
        }
        let mut set = label_set(found.entries, found.written, templates)?;
        set.warnings = found.warnings;
        set.note = document::note(path, &[document.notes, found.notes].concat());
        Ok(set)
    };
    classes().with_context(|| format!("cannot use the labels file {shown}"))
}

fn entries(content: Content) -> Result<Found> {
    match content {
        Content::Node(node) => json::entries(node),
        Content::Table(table) => table::entries(table),
        Content::Lines(items) => {
            let by_id = items.iter().any(|item| item.key.is_some());
            let entries = items.into_iter().map(|item| {
                let mut entry = ClassEntry::new(item.line, item.text);
                entry.key = item.key;
                entry
            });
            Ok(Found {
                by_id,
                ..Found::of(entries.collect(), "lines")
            })
        }
    }
}

fn built_in_entries(name: &str) -> Option<Result<Found>> {
    let content = Cursor::new(labels(name)?);
    let table = Table::new(Box::new(content), b',', Some(b','));
    Some(table.map_err(Into::into).and_then(table::entries))
}

/// ImageNet's names of the classes with these WordNet ids, alone (`n02099601`) or before a name
/// (`n02099601-golden_retriever`); `None` unless all of them are known.
pub(crate) fn wordnet_names(classes: &[String]) -> Option<Vec<String>> {
    let is_id = |name: &String| name.len() >= 9 && name.starts_with('n');
    if !classes.iter().all(is_id) {
        return None;
    }
    let entries = built_in_entries("imagenet")?.ok()?.entries;
    let keyed = entries
        .iter()
        .filter_map(|entry| Some((entry.key.as_deref()?, &entry.label)));
    let names: HashMap<&str, &String> = keyed.collect();
    let name = |class: &String| names.get(class.get(..9)?).map(|name| (*name).clone());
    classes.iter().map(name).collect()
}

/// A built-in file by its name.
type Named = (&'static str, &'static str);

macro_rules! files {
    ($folder:literal, $extension:literal, $($name:literal)*) => {
        &[$((
            $name,
            include_str!(concat!("../../assets/", $folder, "/", $name, $extension)),
        )),*]
    };
}

/// Datasets whose templates and labels have one name; files as published, in `assets` with their
/// source and licence.
macro_rules! datasets {
    ($folder:literal, $extension:literal) => {
        files!(
            $folder, $extension,
            "aircraft" "birdsnap" "caltech101" "cars" "cifar10" "cifar100" "clevr" "country211"
            "dtd" "eurosat" "fer2013" "flowers102" "food101" "gtsrb" "hateful-memes" "kinetics700"
            "kitti" "mnist" "pcam" "pets" "resisc45" "sst2" "stl10" "sun397" "ucf101" "voc2007"
        )
    };
}

/// Templates, one per line.
const TEMPLATES: [&[Named]; 2] = [
    files!("templates", ".txt", "photo" "openai80" "openai7"),
    datasets!("templates", ".txt"),
];

/// Labels as a table.
const LABELS: [&[Named]; 2] = [
    files!("labels", ".csv", "imagenet"),
    datasets!("labels", ".csv"),
];

/// The templates of this name, one per line.
fn templates(name: &str) -> Option<&'static str> {
    match name {
        "none" => Some("{}"),
        // ImageNet's labels and templates share one name too, like those of all other datasets.
        "imagenet" => find(&TEMPLATES, "openai80"),
        name => find(&TEMPLATES, name),
    }
}

/// The labels of this name, a table with a header.
fn labels(name: &str) -> Option<&'static str> {
    find(&LABELS, name)
}

/// Sets whose labels are not in the order of the dataset's class numbers, because tools number the
/// classes differently or nobody has checked.
#[rustfmt::skip]
const UNNUMBERED: [&str; 11] = [
    "birdsnap", "caltech101", "clevr", "eurosat", "fer2013", "kinetics700", "kitti", "pets",
    "sun397", "ucf101", "voc2007",
];

/// Whether class numbers of the dataset are indices into this built-in set; other names are files,
/// in the user's order.
pub(crate) fn counts_classes(name: &str) -> bool {
    !UNNUMBERED.contains(&name)
}

/// The names of the built-in template sets.
pub(crate) fn template_names() -> impl Iterator<Item = &'static str> {
    let more = TEMPLATES.concat().into_iter().map(|(name, _)| name);
    ["none", "imagenet"].into_iter().chain(more)
}

/// The names of the built-in label sets.
pub(crate) fn label_names() -> impl Iterator<Item = &'static str> {
    LABELS.concat().into_iter().map(|(name, _)| name)
}

fn find(sets: &[&[Named]], name: &str) -> Option<&'static str> {
    let found = sets.concat().into_iter().find(|(known, _)| *known == name);
    found.map(|(_, content)| content)
}
