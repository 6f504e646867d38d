//! Classes as written, before templates are filled.

use std::collections::HashMap;

use anyhow::{bail, ensure};

use super::{Class, LabelSet, Templates};

/// A class as written, or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Line or position, from 1.
    pub(super) place: usize,
    pub(super) label: String,
    /// What templates are filled with instead of the label.
    pub(super) text: Option<String>,
    /// What they are filled with beside it.
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
        }
        Ok(())
    }
}

/// How classes were written: what the places of entries count, and what the same label twice means.
#[derive(Clone, Copy)]
pub(super) enum Written {
    /// Each class once, at a place of this kind.
    As(&'static str),
    /// In rows, of which several may describe one class.
    AsTable,
}

/// Entries -> classes with their prompts.
pub(super) fn label_set(
    entries: Vec<Entry>,
    written: Written,
    templates: &Templates,
) -> anyhow::Result<LabelSet> {
    ensure!(
        !entries.is_empty(),
        "there are no labels; give at least one"
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
            (Some(&first), Written::AsTable) => drafts[first].add(entry)?,
            (Some(&first), Written::As(places)) => bail!(twice(&drafts[first], &entry, places)),
        }
    }
    check_keys(&drafts)?;
    let mut set = LabelSet {
        classes: Vec::with_capacity(drafts.len()),
        uses_templates: false,
        warnings: Vec::new(),
    };
    for draft in drafts {
        set.uses_templates |= draft.names_itself || !draft.entry.aliases.is_empty();
        set.classes.push(draft.into_class(templates));
    }
    Ok(set)
}

/// What data sets call the classes must tell them apart.
fn check_keys(drafts: &[Draft]) -> anyhow::Result<()> {
    let mut seen = HashMap::new();
    for Draft { entry, .. } in drafts {
        let Some(key) = &entry.key else { continue };
        if let Some(first) = seen.insert(key, &entry.label) {
            bail!(
                "the key {key:?} stands for both {first:?} and {:?}",
                entry.label
            );
        }
    }
    Ok(())
}

fn twice(first: &Draft, second: &Entry, places: &str) -> String {
    format!(
        "label {:?} is there twice ({places} {} and {}); remove one",
        second.label, first.entry.place, second.place
    )
}

/// A class in the making.
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
    fn add(&mut self, row: Entry) -> anyhow::Result<()> {
        if row.prompts.is_empty() && row.aliases.is_empty() {
            ensure!(!self.names_itself, twice(self, &row, "lines"));
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
                "label {:?} has two values of {kind} (lines {} and {}); remove one",
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
