//! Classes as written, before templates are filled.

use std::collections::{HashMap, HashSet};

use anyhow::{bail, ensure};

use super::{Class, LabelSet, Templates};

/// A class as written, or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
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

impl Entry {
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

    fn check(&self) -> anyhow::Result<()> {
        let (place, label) = (self.place, &self.label);
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
pub(super) fn distinguish(entries: &mut [Entry]) -> Option<String> {
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
    entries: Vec<Entry>,
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
        set.classes.push(draft.into_class(templates));
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

fn twice(first: &Draft, second: &Entry, places: &str) -> String {
    format!(
        "label {:?} occurs twice ({places} {} and {}); remove one",
        second.label, first.entry.place, second.place
    )
}

/// A class under construction.
struct Draft {
    entry: Entry,
    /// Whether the label is one of the texts that are filled into the templates.
    names_itself: bool,
}

impl Draft {
    fn new(entry: Entry) -> Self {
        Self {
            names_itself: entry.prompts.is_empty(),
            entry,
        }
    }

    /// Adds another row of the same label.
    fn add(&mut self, row: Entry, places: &str) -> anyhow::Result<()> {
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

    fn into_class(self, templates: &Templates) -> Class {
        let entry = self.entry;
        let name = self
            .names_itself
            .then_some(entry.text.as_ref().unwrap_or(&entry.label));
        let names = name.into_iter().chain(&entry.aliases);
        let mut prompts: Vec<_> = names.flat_map(|name| templates.fill(name)).collect();
        prompts.extend(entry.prompts);
        Class {
            label: entry.label,
            prompts,
            key: entry.key,
        }
    }
}
