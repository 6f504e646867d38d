//! `--class-map`: names for the classes of a dataset, by which labels are matched.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use crate::input::text_file::{Table, usual_separator};
use crate::input::{dataset, text_file};
use crate::run::Console;

/// Column names of a class map.
const CLASS: &[&str] = &["class", "folder"];

const LABEL: &[&str] = &["label"];

/// The names that a `--class-map` gives to classes; others keep their own.
pub(super) fn class_map(path: &Path, classes: &[String], console: &Console) -> Result<Vec<String>> {
    let reading = || format!("cannot use the class map {}", path.display());
    let table = Table::new(text_file::open(path)?, usual_separator(path), None);
    let rows = table.with_context(reading)?.named().with_context(reading)?;
    ensure!(
        rows.has(CLASS) && rows.has(LABEL),
        "{}: the first line must name the columns class and label",
        reading()
    );
    for note in rows.notes() {
        console.note(&format!("{}: {note}", path.display()));
    }
    let mut map = HashMap::new();
    for (line, row) in rows {
        let row = row.with_context(reading)?;
        let field = |names: &[&str]| {
            let mut values = names.iter().filter_map(|name| row.get(*name)?.as_str());
            let value = values.find(|value| !value.is_empty());
            dataset::composed(value.unwrap_or_default())
        };
        let (class, label) = (field(CLASS), field(LABEL));
        ensure!(
            !class.is_empty() && !label.is_empty(),
            "{}: line {line} lacks a class or its label",
            reading()
        );
        if let Some(other) = map.insert(class.clone(), label) {
            bail!(
                "{}: line {line} maps {class:?} again, which is {other:?} above; keep one of the \
                 lines",
                reading()
            );
        }
    }
    let mut unknown: Vec<&String> = map
        .keys()
        .filter(|class| !classes.contains(class))
        .collect();
    unknown.sort();
    if let Some(class) = unknown.first() {
        console.warn(&format!(
            "{} names {class:?}, which is not a class of the dataset ({} such name{})",
            path.display(),
            unknown.len(),
            if unknown.len() == 1 { "" } else { "s" }
        ));
    }
    let renamed = |class: &String| map.get(class).unwrap_or(class).clone();
    Ok(classes.iter().map(renamed).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_class_map_renames_some_classes() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("map.csv");
        let classes = ["n01", "n02"].map(str::to_owned);
        let cases: [(&str, Result<[&str; 2], &str>); 6] = [
            ("class,label\nn02,ox\n", Ok(["n01", "ox"])),
            ("label,folder\nemu,n01\nox,n02\n", Ok(["emu", "ox"])),
            // A name that is no class is only warned of.
            ("class,label\nn03,ox\n", Ok(["n01", "n02"])),
            ("class,name\nn02,ox\n", Err("must name the columns")),
            ("class,label\nn02,\n", Err("line 2 lacks")),
            (
                "class,label\nn02,ox\nn02,emu\n",
                Err("line 3 maps \"n02\" again"),
            ),
        ];
        for (text, expected) in cases {
            fs::write(&path, text).unwrap();
            match (class_map(&path, &classes, &Console::silent()), expected) {
                (Ok(names), Ok(expected)) => assert_eq!(names, expected),
                (Err(error), Err(part)) => {
                    let error = format!("{error:#}");
                    assert!(error.contains(part), "{error}");
                }
                (found, expected) => panic!("{text:?}: {found:?}, not {expected:?}"),
            }
        }
    }
}
