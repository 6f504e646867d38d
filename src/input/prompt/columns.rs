//! Classes as written, before templates are filled: their parts, the columns of a table or fields
//! of an object that hold them, and their conversion to a set of labels.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, bail, ensure};

use super::{Class, LabelSet, Templates};
use crate::input::text_file::column::{self, key};
use crate::input::tokenizer::LONGEST_TEXT;

/// The plainest names of labels and keys: preferred if several columns match.
const PLAIN_LABELS: [&str; 3] = ["label", "class", "name"];
const PLAIN_KEYS: [&str; 3] = ["key", "folder", "id"];

/// Content of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Label,
    Text,
    Alias,
    Prompt,
    Key,
    Unknown,
}

impl Column {
    pub(super) fn named(name: &str) -> Self {
        match key(name).as_str() {
            "text" => Self::Text,
            "alias" | "aliases" => Self::Alias,
            "prompt" | "prompts" | "description" => Self::Prompt,
            name if column::LABEL.contains(&name) => Self::Label,
            name if column::KEY.contains(&name) => Self::Key,
            _ => Self::Unknown,
        }
    }

    /// Stores the texts of a cell of this column.
    ///
    /// # Errors
    /// When there are several texts but the column holds one.
    pub(super) fn put(self, entry: &mut ClassEntry, texts: Vec<String>) -> Result<()> {
        match self {
            Self::Alias => entry.aliases.extend(texts),
            Self::Prompt => entry.prompts.extend(texts),
            Self::Unknown => {}
            Self::Label | Self::Text | Self::Key => {
                let mut texts = texts.into_iter();
                let Some(text) = texts.next() else {
                    return Ok(());
                };
                ensure!(
                    texts.next().is_none(),
                    "one class has several labels, texts or keys"
                );
                match self {
                    Self::Label => entry.label = text,
                    Self::Text => entry.text = Some(text),
                    _ => entry.key = Some(text),
                }
            }
        }
        Ok(())
    }
}

/// The columns of a table, and what is unusual about them.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) columns: Vec<Column>,
    pub(super) warnings: Vec<String>,
    /// Notes on what was guessed.
    pub(super) notes: Vec<String>,
}

impl Columns {
    /// Content of columns of these names. A column `text` has the labels if no other has. If
    /// several could have them, those that hold only numbers or ids are keys if one other is left;
    /// if more are left, the one with a plain name has the labels.
    ///
    /// # Errors
    /// When none or several have labels, or several have texts or keys.
    pub(super) fn named(names: &[String], holds_ids: impl Fn(usize) -> bool) -> Result<Self> {
        let mut columns: Vec<Column> = names.iter().map(|name| Column::named(name)).collect();
        let mut notes = Vec::new();
        let places = |columns: &[Column], wanted: Column| -> Vec<usize> {
            let found = columns
                .iter()
                .enumerate()
                .filter(|(_, column)| **column == wanted);
            found.map(|(place, _)| place).collect()
        };
        let labels = places(&columns, Column::Label);
        let worded: Vec<usize> = labels
            .iter()
            .copied()
            .filter(|place| !holds_ids(*place))
            .collect();
        if let (true, [label]) = (labels.len() > 1, worded.as_slice()) {
            for place in labels.iter().filter(|place| *place != label) {
                columns[*place] = Column::Key;
            }
            notes.push(format!(
                "the labels are in column {:?}; the numbers or ids next to them are keys",
                names[*label]
            ));
        }
        let is_plain = |place: &&usize| PLAIN_LABELS.contains(&key(&names[**place]).as_str());
        let plain: Vec<usize> = worded.iter().filter(is_plain).copied().collect();
        if let (true, [label]) = (worded.len() > 1, plain.as_slice()) {
            for place in labels.iter().filter(|place| *place != label) {
                columns[*place] = Column::Unknown;
            }
        }
        if let ([], &[text]) = (labels.as_slice(), places(&columns, Column::Text).as_slice()) {
            columns[text] = Column::Label;
        }
        choose_key(names, &mut columns, &holds_ids);
        for (column, kind) in [
            (Column::Label, "labels"),
            (Column::Key, "keys"),
            (Column::Text, "texts"),
        ] {
            ensure!(
                places(&columns, column).len() <= 1,
                "the header names more than one column of {kind}; rename the others"
            );
        }
        ensure!(
            columns.contains(&Column::Label),
            "the header has no column of labels ({}); name one column label",
            names.join(", ")
        );
        let mut found = Self {
            columns,
            warnings: Vec::new(),
            notes,
        };
        found.warn_of_unknown(names);
        Ok(found)
    }

    /// The warning about columns that are not read.
    pub(super) fn warn_of_unknown(&mut self, names: &[String]) {
        let cells = names.iter().zip(&self.columns);
        let unknown =
            cells.filter(|(name, column)| **column == Column::Unknown && !name.is_empty());
        let unknown: Vec<String> = unknown.map(|(name, _)| format!("{name:?}")).collect();
        let (noun, verb, are) = match unknown.len() {
            0 => return,
            1 => ("column", "is", "it is"),
            _ => ("columns", "are", "they are"),
        };
        self.warnings = vec![format!(
            "{noun} {} {verb} not read: {are} not one of label, text, alias, prompt, description \
             and key",
            unknown.join(", ")
        )];
    }

    /// The column at `place`; beyond the header, prompts follow.
    pub(super) fn at(&self, place: usize) -> Column {
        self.columns.get(place).copied().unwrap_or(Column::Prompt)
    }
}

/// Of several key columns, a named one wins, then one that holds words; other columns of numbers or
/// ids are not read.
fn choose_key(names: &[String], columns: &mut [Column], holds_ids: impl Fn(usize) -> bool) {
    let keys: Vec<usize> = (0..columns.len())
        .filter(|place| columns[*place] == Column::Key)
        .collect();
    let is_first = |place: &usize| PLAIN_KEYS.contains(&key(&names[*place]).as_str());
    if keys.len() < 2 || keys.iter().filter(|place| is_first(place)).count() > 1 {
        return;
    }
    let chosen = keys.iter().copied().find(is_first);
    let chosen = chosen.or_else(|| keys.iter().copied().find(|place| !holds_ids(*place)));
    let chosen = chosen.unwrap_or(keys[0]);
    for place in keys.into_iter().filter(|place| *place != chosen) {
        columns[place] = Column::Unknown;
    }
}

/// A class as written, or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClassEntry {
    /// Line or position, from 1.
    pub(super) place: usize,
    pub(super) label: String,
    /// Text that replaces the label in templates.
    pub(super) text: Option<String>,
    /// Other texts for the templates.
    pub(super) aliases: Vec<String>,
    /// The class's own prompts.
    pub(super) prompts: Vec<String>,
    pub(super) key: Option<String>,
}

impl ClassEntry {
    pub(super) fn new(place: usize, label: String) -> Self {
        Self {
            place,
            label,
            text: None,
            aliases: Vec::new(),
            prompts: Vec::new(),
            key: None,
        }
    }

    /// Bytes of its longest text.
    fn longest(&self) -> usize {
        let texts = self.prompts.iter().chain(&self.aliases);
        let texts = texts.chain(&self.text).chain(&self.key);
        texts
            .chain([&self.label])
            .map(String::len)
            .max()
            .unwrap_or(0)
    }

    fn check(&self) -> anyhow::Result<()> {
        let (place, label) = (self.place, &self.label);
        // First, so that no message quotes it.
        ensure!(
            self.longest() <= LONGEST_TEXT,
            "label {place} has a text of {} bytes, too many for one text (at most {LONGEST_TEXT}); \
             is it the right file?",
            self.longest()
        );
        ensure!(
            !label.trim().is_empty(),
            "label {place} is empty; remove it or write its text"
        );
        ensure!(
            !label.contains('\0'),
            "label {place} contains a NUL; remove it"
        );
        let (text, key) = (self.text.as_slice(), self.key.as_slice());
        for (texts, kind) in [
            (self.prompts.as_slice(), "prompt"),
            (&self.aliases, "alias"),
            (text, "text"),
            (key, "key"),
        ] {
            ensure!(
                texts.iter().all(|text| !text.trim().is_empty()),
                "class {label:?} has an empty {kind}; remove it or write its text"
            );
            ensure!(
                !texts.iter().any(|text| text.contains('\0')),
                "class {label:?} has a NUL in its {kind}; remove it"
            );
        }
        Ok(())
    }
}

/// How classes were written: what the places of entries count, and what duplicate labels mean.
#[derive(Clone, Copy)]
pub(super) enum Written {
    /// Each class once, at a place of this kind.
    As(&'static str),
    /// In rows at places of this kind; several rows may describe one class.
    Rows(&'static str),
}

/// Distinguishes classes of one name that have different keys by appending those; the prompts keep
/// the name. ImageNet has two cranes. Returns a note on what was done.
pub(super) fn distinguish(entries: &mut [ClassEntry]) -> Option<String> {
    let mut keys: HashMap<&str, Vec<Option<&str>>> = HashMap::new();
    for entry in entries.iter() {
        keys.entry(&entry.label)
            .or_default()
            .push(entry.key.as_deref());
    }
    let differ = |keys: &Vec<Option<&str>>| {
        let distinct: HashSet<_> = keys.iter().flatten().collect();
        keys.len() > 1 && distinct.len() == keys.len()
    };
    let shared: HashSet<String> = keys
        .into_iter()
        .filter(|(_, keys)| differ(keys))
        .map(|(label, _)| label.to_owned())
        .collect();
    let mut example = None;
    for entry in entries
        .iter_mut()
        .filter(|entry| shared.contains(&entry.label))
    {
        let name = format!(
            "{} ({})",
            entry.label,
            entry.key.as_deref().unwrap_or_default()
        );
        let label = std::mem::replace(&mut entry.label, name);
        entry.text.get_or_insert(label);
        example.get_or_insert_with(|| entry.label.clone());
    }
    let more = match shared.len() {
        1 => String::new(),
        count => format!(" ({count} such names)"),
    };
    example.map(|label| {
        format!(
            "keys were added to labels with the same name, such as \
                                 {label:?}{more}"
        )
    })
}

/// Converts entries to classes with their prompts.
pub(super) fn label_set(
    entries: Vec<ClassEntry>,
    written: Written,
    templates: &Templates,
) -> anyhow::Result<LabelSet> {
    ensure!(
        !entries.is_empty(),
        "there are no labels; pass at least one"
    );
    let mut drafts: Vec<Draft> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::with_capacity(entries.len());
    for entry in entries {
        entry.check()?;
        match (places.get(&entry.label), written) {
            (None, _) => {
                places.insert(entry.label.clone(), drafts.len());
                drafts.push(Draft::new(entry));
            }
            (Some(&first), Written::Rows(places)) => drafts[first].add(entry, places)?,
            (Some(&first), Written::As(places)) => bail!(twice(&drafts[first], &entry, places)),
        }
    }
    check_keys(&drafts)?;
    let mut set = LabelSet {
        classes: Vec::with_capacity(drafts.len()),
        uses_templates: false,
        warnings: Vec::new(),
        note: None,
    };
    for draft in drafts {
        set.uses_templates |= draft.names_itself || !draft.entry.aliases.is_empty();
        set.classes.push(draft.into_class(templates)?);
    }
    Ok(set)
}

/// Checks that the datasets' names of the classes are unique.
fn check_keys(drafts: &[Draft]) -> anyhow::Result<()> {
    let mut seen = HashMap::new();
    for Draft { entry, .. } in drafts {
        let Some(key) = &entry.key else { continue };
        if let Some(first) = seen.insert(key, &entry.label) {
            bail!(
                "the key {key:?} belongs to both {first:?} and {:?}",
                entry.label
            );
        }
    }
    Ok(())
}

fn twice(first: &Draft, second: &ClassEntry, places: &str) -> String {
    format!(
        "label {:?} occurs twice ({places} {} and {}); remove one",
        second.label, first.entry.place, second.place
    )
}

/// A class under construction.
struct Draft {
    entry: ClassEntry,
    /// Whether the label is one of the texts that are filled into the templates.
    names_itself: bool,
}

impl Draft {
    fn new(entry: ClassEntry) -> Self {
        Self {
            names_itself: entry.prompts.is_empty(),
            entry,
        }
    }

    /// Adds another row of the same label.
    fn add(&mut self, row: ClassEntry, places: &str) -> anyhow::Result<()> {
        if row.prompts.is_empty() && row.aliases.is_empty() {
            ensure!(!self.names_itself, twice(self, &row, places));
        }
        self.names_itself |= row.prompts.is_empty();
        let entry = &mut self.entry;
        entry.prompts.extend(row.prompts);
        entry.aliases.extend(row.aliases);
        for (known, more, kind) in [
            (&mut entry.key, row.key, "key"),
            (&mut entry.text, row.text, "text"),
        ] {
            let differ = known.is_some() && more.is_some() && *known != more;
            ensure!(
                !differ,
                "label {:?} has two values of {kind} ({places} {} and {}); remove one",
                entry.label,
                entry.place,
                row.place
            );
            *known = known.take().or(more);
        }
        Ok(())
    }

    fn into_class(self, templates: &Templates) -> anyhow::Result<Class> {
        let entry = self.entry;
        let name = self
            .names_itself
            .then_some(entry.text.as_ref().unwrap_or(&entry.label));
        let names = name.into_iter().chain(&entry.aliases);
        let mut prompts = Vec::new();
        for name in names {
            templates.check_length(name)?;
            prompts.extend(templates.fill(name));
        }
        prompts.extend(entry.prompts);
        Ok(Class {
            label: entry.label,
            prompts,
            key: entry.key,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_stores_its_texts() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let stored = |column: Column, texts: Vec<String>| {
            let mut entry = ClassEntry::new(1, "cat".to_owned());
            column.put(&mut entry, texts).map(|()| entry).ok()
        };
        let plain = || ClassEntry::new(1, "cat".to_owned());
        for column in [Column::Label, Column::Text, Column::Key] {
            assert_eq!(stored(column, texts(&[])), Some(plain()), "{column:?}");
            assert_eq!(stored(column, texts(&["a", "b"])), None, "{column:?}");
        }
        assert_eq!(stored(Column::Unknown, texts(&["a"])), Some(plain()));
        let text = ClassEntry {
            text: Some("a".to_owned()),
            ..plain()
        };
        assert_eq!(stored(Column::Text, texts(&["a"])), Some(text));
        let prompts = ClassEntry {
            prompts: texts(&["a", "b"]),
            ..plain()
        };
        assert_eq!(stored(Column::Prompt, texts(&["a", "b"])), Some(prompts));
    }

    #[test]
    fn names_determine_what_columns_hold() {
        use Column::{Alias, Key, Label, Prompt, Text, Unknown};
        let cases: [(&str, &[usize], &[Column]); 11] = [
            ("label,prompt", &[], &[Label, Prompt]),
            ("Class Name,aliases,x", &[], &[Label, Alias, Unknown]),
            ("text", &[], &[Label]),
            ("text,prompt", &[], &[Label, Prompt]),
            ("name,text", &[], &[Label, Text]),
            ("label,class_name", &[0], &[Key, Label]),
            ("class_id,species", &[0], &[Key, Label]),
            ("index,wnid,label", &[0], &[Unknown, Key, Label]),
            ("id,wnid,label", &[0], &[Key, Unknown, Label]),
            (",category", &[0], &[Unknown, Label]),
            ("label,category,title", &[], &[Label, Unknown, Unknown]),
        ];
        for (names, numbers, expected) in cases {
            let names: Vec<_> = names.split(',').map(str::to_owned).collect();
            let found = Columns::named(&names, |place| numbers.contains(&place)).unwrap();
            assert_eq!(found.columns, expected, "{names:?}");
        }
        for (names, part) in [
            ("label,class", "more than one column of labels"),
            ("category,species", "more than one column of labels"),
            ("label,key,folder", "more than one column of keys"),
            ("key,prompt", "has no column of labels"),
        ] {
            let names: Vec<_> = names.split(',').map(str::to_owned).collect();
            let error = Columns::named(&names, |_| false).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
