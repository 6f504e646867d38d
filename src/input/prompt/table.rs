//! Labels as a table: CSV or TSV.

use anyhow::{Result, ensure};

use super::Entry;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Label,
    Text,
    Alias,
    Prompt,
    Key,
    Unknown,
}

impl Column {
    fn named(name: &str) -> Self {
        match name.trim().to_lowercase().as_str() {
            "label" | "class" | "name" => Self::Label,
            "text" => Self::Text,
            "alias" | "aliases" => Self::Alias,
            "prompt" | "prompts" | "description" => Self::Prompt,
            "key" | "folder" | "id" => Self::Key,
            _ => Self::Unknown,
        }
    }
}

/// A table's rows, and what is odd about it.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
    pub(super) warnings: Vec<String>,
}

/// Reads a table whose cells are separated by `delimiter`. Its first row is a header if one cell of it
/// is `label`, `class` or `name`; without one the first column holds labels and the others prompts.
/// Empty cells hold nothing, rows of empty cells are skipped, and there are no comments.
///
/// # Errors
/// When the header has the label twice or not at all, a row has more cells than the header, or a row
/// has cells but no label; the line is named.
pub(super) fn read(text: &str, delimiter: u8) -> Result<Table> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut columns: Option<Vec<Column>> = None;
    let mut table = Table {
        entries: Vec::new(),
        warnings: Vec::new(),
    };
    for record in reader.records() {
        let record = record?;
        if record.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        if columns.is_none() {
            columns = header(&record, &mut table.warnings)?;
            if columns.is_some() {
                continue;
            }
            columns = Some(Vec::new());
        }
        let columns = columns.as_deref().unwrap_or_default();
        table.entries.push(entry(&record, columns)?);
    }
    Ok(table)
}

/// The columns, if the first row names them.
fn header(record: &csv::StringRecord, warnings: &mut Vec<String>) -> Result<Option<Vec<Column>>> {
    let columns: Vec<_> = record.iter().map(Column::named).collect();
    let count = |wanted| columns.iter().filter(|column| **column == wanted).count();
    if count(Column::Label) == 0 {
        return Ok(None);
    }
    for (column, name) in [
        (Column::Label, "labels"),
        (Column::Key, "keys"),
        (Column::Text, "texts"),
    ] {
        ensure!(
            count(column) <= 1,
            "the header names more than one column of {name}; rename the others"
        );
    }
    let cells = record.iter().zip(&columns);
    let unknown = cells.filter(|(name, column)| **column == Column::Unknown && !name.is_empty());
    warnings.extend(unknown.map(|(name, _)| {
        format!(
            "column {name:?} is not read: it is none of label, text, alias, prompt, description \
             and key"
        )
    }));
    Ok(Some(columns))
}

fn entry(record: &csv::StringRecord, columns: &[Column]) -> Result<Entry> {
    let line = record.position().map_or(0, csv::Position::line);
    ensure!(
        columns.is_empty() || record.len() <= columns.len(),
        "line {line} has {} cells, the header {}; put cells that hold a comma in double quotes",
        record.len(),
        columns.len()
    );
    let mut entry = Entry::new(usize::try_from(line)?, String::new());
    for (index, cell) in record.iter().enumerate() {
        let column = match columns.get(index) {
            Some(column) => *column,
            None if index == 0 => Column::Label,
            None => Column::Prompt,
        };
        let cell = cell.trim();
        if cell.is_empty() {
            continue;
        }
        match column {
            Column::Label => entry.label = cell.to_owned(),
            Column::Text => entry.text = Some(cell.to_owned()),
            Column::Alias => entry.aliases.push(cell.to_owned()),
            Column::Prompt => entry.prompts.push(cell.to_owned()),
            Column::Key => entry.key = Some(cell.to_owned()),
            Column::Unknown => {}
        }
    }
    let names = entry.aliases.iter().chain(&entry.text).chain(&entry.key);
    ensure!(
        !names.chain([&entry.label]).any(|name| name.contains('\n')),
        "a cell that begins on line {line} goes over several lines; is a double quote missing?"
    );
    ensure!(
        !entry.label.is_empty(),
        "line {line} has no label; write it or remove the line"
    );
    Ok(entry)
}
