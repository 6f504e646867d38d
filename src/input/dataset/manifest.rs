//! CSV, TSV and JSON lines that name a picture and its label on each row.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};

use super::{Labelled, Sample, not_a_dataset};

/// What a column with paths may be called.
pub(super) const PATH: &[&str] = &[
    "path",
    "image",
    "file",
    "filename",
    "file_name",
    "filepath",
    "image_path",
];
/// What a column with classes may be called.
const LABEL: &[&str] = &["label", "class", "target", "category", "class_name"];

/// Columns, and letters of their names, that a message shows.
const COLUMNS_SHOWN: usize = 8;
const LETTERS_SHOWN: usize = 100;
/// Longer lines are some other file.
const LONGEST_LINE: u64 = 1 << 24;

/// One row: column names in lower case to values.
pub(super) type Row = Map<String, Value>;

/// Reads pictures with a label each.
pub(super) fn labelled(path: &Path) -> Result<Labelled> {
    let folder = folder_of(path);
    let mut found = Labelled::default();
    let mut classes = HashMap::new();
    let rows = rows(path, "path,label");
    let rows = rows.with_context(|| format!("cannot read {}", path.display()))?;
    for (place, row) in (1..).zip(rows) {
        let read = || -> Result<(PathBuf, String)> {
            let row = row?;
            Ok((
                picture(&folder, text(&row, PATH, "path")?)?,
                text(&row, LABEL, "label")?.trim().to_owned(),
            ))
        };
        let (picture, label) =
            read().with_context(|| format!("cannot use row {place} of {}", path.display()))?;
        let class = *classes.entry(label).or_insert_with_key(|label| {
            found.classes.push(label.clone());
            found.classes.len() - 1
        });
        found.samples.push(Sample {
            source: Ok(picture),
            class,
        });
    }
    ensure!(
        !found.samples.is_empty(),
        "{} has no rows; give each picture a row with path and label",
        path.display()
    );
    Ok(found)
}

/// The rows of a file, whatever its kind; `columns` is an example of what a table's first line may be.
pub(super) fn rows(path: &Path, columns: &str) -> Result<Box<dyn Iterator<Item = Result<Row>>>> {
    Ok(Box::new(numbered_rows(path, columns)?.map(|(_, row)| row)))
}

/// Rows with the line that each begins on, counted from 1.
pub(super) type NumberedRows = Box<dyn Iterator<Item = (u64, Result<Row>)>>;

/// The rows of a file, whatever its kind, and where they are.
pub(super) fn numbered_rows(path: &Path, columns: &str) -> Result<NumberedRows> {
    let extension = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let open = || File::open(path).with_context(|| format!("cannot read {}", path.display()));
    match extension.as_str() {
        "csv" => delimited(open()?, b',', columns),
        "tsv" => delimited(open()?, b'\t', columns),
        "jsonl" | "ndjson" => Ok(Box::new(json_lines(open()?))),
        _ => not_a_dataset(path),
    }
}

fn delimited(file: File, delimiter: u8, columns: &str) -> Result<NumberedRows> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .from_reader(BufReader::new(file));
    let names: Vec<String> = reader
        .headers()
        .context("cannot read the header")?
        .iter()
        .map(|name| name.trim_start_matches('\u{feff}').trim().to_lowercase())
        .collect();
    ensure!(
        names.iter().any(|name| PATH.contains(&name.as_str())),
        "the first line names no column with pictures; it must name the columns, as in {columns}, and is {}",
        listed(names.iter().map(String::as_str))
    );
    Ok(Box::new(reader.into_records().map(move |record| {
        let place = match &record {
            Ok(record) => record.position(),
            Err(error) => error.position(),
        };
        let line = place.map_or(0, csv::Position::line);
        let row = record.map(|record| {
            let values = record.iter().map(Value::from);
            names.iter().cloned().zip(values).collect()
        });
        (line, row.map_err(said))
    })))
}

/// What is wrong with a row, in words of a table.
fn said(error: csv::Error) -> anyhow::Error {
    match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => anyhow!(
            "the row has {len} fields and the first line {expected_len}; a text with commas (in a .tsv, tabs) needs quotes \
             around it"
        ),
        csv::ErrorKind::Utf8 { .. } => anyhow!("the row is no UTF-8 text"),
        _ => error.into(),
    }
}

/// Names of columns as a message shows them.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<_> = names.collect();
    let text = all[..all.len().min(COLUMNS_SHOWN)].join(", ");
    let mut shown: String = text.chars().take(LETTERS_SHOWN).collect();
    if all.len() > COLUMNS_SHOWN || shown.len() < text.len() {
        shown += ", …";
    }
    shown
}

fn json_lines(file: File) -> impl Iterator<Item = (u64, Result<Row>)> {
    let mut reader = BufReader::new(file);
    let mut number = 0;
    std::iter::from_fn(move || {
        loop {
            let mut line = Vec::new();
            let mut limited = (&mut reader).take(LONGEST_LINE);
            number += 1;
            match limited.read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(_) if line.iter().all(u8::is_ascii_whitespace) => {}
                Ok(_) => return Some((number, json_row(&line))),
                Err(error) => return Some((number, Err(error.into()))),
            }
        }
    })
}

fn json_row(line: &[u8]) -> Result<Row> {
    ensure!(
        (line.len() as u64) < LONGEST_LINE,
        "the line is longer than {LONGEST_LINE} bytes"
    );
    let value = serde_json::from_slice(line).map_err(|error| {
        // Its line is always the first one.
        let said = error.to_string();
        anyhow!(
            "the line is no JSON: {}",
            said.split(" at line ").next().unwrap_or_default()
        )
    })?;
    match value {
        Value::Object(row) => Ok(row
            .into_iter()
            .map(|(name, value)| (name.to_lowercase(), value))
            .collect()),
        _ => bail!("the line is no JSON object"),
    }
}

/// The text in the first of these columns.
pub(super) fn text<'a>(row: &'a Row, names: &[&str], what: &str) -> Result<&'a str> {
    let value = names.iter().find_map(|name| row.get(*name));
    let text = value.and_then(Value::as_str);
    let text = text.with_context(|| {
        let there = listed(row.keys().map(String::as_str));
        format!(
            "there is no {what} (a column {}); there are {there}",
            names.join(" or ")
        )
    })?;
    ensure!(!text.trim().is_empty(), "the {what} is empty");
    Ok(text)
}

/// The path of a picture, relative to the folder of the file that names it.
pub(super) fn picture(folder: &Path, name: &str) -> Result<PathBuf> {
    ensure!(
        !name.contains("://"),
        "{name:?} is an address on the net; download the pictures and name the files"
    );
    Ok(folder.join(name))
}

/// Where the paths in a file start.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, content: &str) -> Result<Labelled, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let mut found = labelled(&path).map_err(|error| format!("{error:#}"))?;
        for sample in &mut found.samples {
            let source = sample.source.as_mut().unwrap();
            *source = source
                .strip_prefix(folder.path())
                .unwrap_or(source)
                .to_owned();
        }
        Ok(found)
    }

    #[test]
    fn each_kind_of_file_gives_the_same_dataset() {
        let cases = [
            (
                "a.csv",
                "\u{feff}Path,other,Label\n\"x, y.jpg\",1,cat\nb.jpg,2,a dog\n/c.jpg,3,cat\n",
            ),
            (
                "a.tsv",
                "image\tclass\nx, y.jpg\tcat\nb.jpg\ta dog\n/c.jpg\tcat\n",
            ),
            (
                "a.jsonl",
                "{\"file_name\":\"x, y.jpg\",\"label\":\"cat\"}\n\n{\"path\":\"b.jpg\",\"target\":\"a dog\"}\r\n\
                 {\"path\":\"/c.jpg\",\"label\":\" cat\"}",
            ),
        ];
        for (name, content) in cases {
            let found = read(name, content).unwrap();
            assert_eq!(found.classes, ["cat", "a dog"], "{name}");
            let samples: Vec<_> = found
                .samples
                .iter()
                .map(|sample| (sample.source.clone().unwrap(), sample.class))
                .collect();
            let expected = [("x, y.jpg", 0), ("b.jpg", 1), ("/c.jpg", 0)];
            assert_eq!(
                samples,
                expected.map(|(path, class)| (path.into(), class)),
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_a_row_is_said_with_its_number() {
        let cases = [
            ("a.csv", "a,b\n1,2\n", "as in path,label, and is a, b"),
            (
                "a.csv",
                "path,label\nx.jpg,a cat, a dog\n",
                "3 fields and the first line 2",
            ),
            ("a.csv", "path,text\nx.jpg,cat\n", "row 1 of"),
            ("a.csv", "path,text\nx.jpg,cat\n", "there is no label"),
            ("a.csv", "path,label\nx.jpg,cat\ny.jpg\n", "row 2 of"),
            (
                "a.csv",
                "path,label\nhttp://a/b.jpg,cat\n",
                "address on the net",
            ),
            ("a.csv", "path,label\n ,cat\n", "the path is empty"),
            ("a.csv", "path,label\n", "has no rows"),
            ("a.jsonl", "[1]\n", "no JSON object"),
            (
                "a.jsonl",
                "{\"path\":\"a\",\"label\":3}\n",
                "there is no label",
            ),
            ("a.jsonl", "{\"path\":\n", "row 1 of"),
            ("a.xyz", "", "is no dataset"),
        ];
        for (name, content, part) in cases {
            let error = read(name, content).unwrap_err();
            assert!(error.contains(part), "{content:?}: {error}");
        }
        assert!(read("a.csv", "").is_err());
    }
}
