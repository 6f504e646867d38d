//! Meaning of the columns of a table of labels, and of the fields of JSON objects.

use anyhow::{Result, bail, ensure};

use super::entry::Entry;
use crate::input::text_file::column::{self, key};

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

    /// Stores the texts of a cell according to its column.
    ///
    /// # Errors
    /// When there are several texts but the column holds one.
    pub(super) fn put(&self, entry: &mut Entry, place: usize, texts: Vec<String>) -> Result<()> {
        let column = self.columns.get(place).copied().unwrap_or(Column::Prompt);
        match column {
            Column::Alias => entry.aliases.extend(texts),
            Column::Prompt => entry.prompts.extend(texts),
            Column::Unknown => {}
            Column::Label | Column::Text | Column::Key => {
                let mut texts = texts.into_iter();
                let Some(text) = texts.next() else {
                    return Ok(());
                };
                if texts.next().is_some() {
                    bail!("one class has several labels, texts or keys");
                }
                match column {
                    Column::Label => entry.label = text,
                    Column::Text => entry.text = Some(text),
                    _ => entry.key = Some(text),
                }
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

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
