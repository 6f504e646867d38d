//! Labels as a table, with or without a header.

use anyhow::{Result, ensure};

use super::columns::{ClassEntry, Column, Columns};
use super::{Found, Written, shape};
use crate::input::text_file::column::class_number;
use crate::input::text_file::{Row, Table, column};

/// Reads a table. Its first row is a header if one cell names a column of labels; without a header
/// the first column holds labels and the others prompts, except for columns of numbers or ids,
/// which are keys. A first row whose cell above a column of ids is not an id is a header as well.
/// Empty cells hold nothing, rows of empty cells are skipped, and there are no comments.
///
/// # Errors
/// When the header has the label twice or not at all, a row has more cells than the header, or a
/// row has cells but no label; the line is named.
pub(super) fn entries(table: Table) -> Result<Found> {
    let separator = table.separator();
    let mut rows = table.collect::<Result<Vec<Row>>>()?;
    let (columns, is_header, by_id) = columns(&rows)?;
    if is_header {
        rows.remove(0);
    }
    let width = is_header.then_some(columns.columns.len());
    let entry = |row| entry(row, &columns, width, &separator);
    let entries = rows.into_iter().map(entry).collect::<Result<_>>()?;
    Ok(Found {
        entries,
        written: Written::Rows("lines"),
        by_id,
        warnings: columns.warnings,
        notes: columns.notes,
    })
}

fn cell(row: &Row, place: usize) -> &str {
    row.cells.get(place).map_or("", String::as_str)
}

/// The columns, whether the first row is a header, and whether keys were detected rather than
/// named.
fn columns(rows: &[Row]) -> Result<(Columns, bool, bool)> {
    let Some((first, rest)) = rows.split_first() else {
        return Ok((without_header(rows), false, false));
    };
    let names = first.cells.as_slice();
    let holds_ids = |place: usize| {
        let mut cells = rest
            .iter()
            .map(|row| cell(row, place))
            .filter(|cell| !cell.is_empty());
        cells.clone().next().is_some() && cells.all(shape::is_id)
    };
    let is_label = |name: &String| column::LABEL.contains(&column::key(name).as_str());
    let filled = names.iter().filter(|name| !name.is_empty()).count();
    let known = names.iter().filter(|name| column::is_known(name)).count();
    if names.iter().any(is_label) || (filled > 1 && known == filled) {
        return Ok((Columns::named(names, holds_ids)?, true, false));
    }
    match above_ids(names, rest) {
        Some(columns) => Ok((columns?, true, true)),
        None => {
            let found = without_header(rows);
            let by_id = found.columns.contains(&Column::Key);
            Ok((found, false, by_id))
        }
    }
}

/// The columns below a first row that names them, which shows by ids or numbers below a cell that
/// is neither.
fn above_ids(names: &[String], rest: &[Row]) -> Option<Result<Columns>> {
    let ids = |place: &usize| {
        let cells = rest.iter().map(|row| cell(row, *place));
        let name = names.get(*place).map_or("", String::as_str);
        shape::are_ids(cells) && !shape::is_id(name)
    };
    let id = (0..names.len()).find(ids)?;
    let words: Vec<usize> = (0..names.len())
        .filter(|place| {
            rest.iter()
                .all(|row| cell(row, *place).contains(char::is_alphabetic))
        })
        .filter(|place| !ids(place))
        .collect();
    let [label] = words[..] else {
        // With prompts or the like next to the labels, the columns are ambiguous.
        let is_said = names.iter().any(|name| column::is_known(name));
        return is_said.then(|| Columns::named(names, |_| false));
    };
    let mut found = Columns {
        columns: vec![Column::Unknown; names.len()],
        warnings: Vec::new(),
        notes: vec![format!(
            "the first line is a header: labels are in {:?}, their keys in {:?}",
            names[label], names[id]
        )],
    };
    found.columns[id] = Column::Key;
    found.columns[label] = Column::Label;
    found.warn_of_unknown(names);
    Some(Ok(found))
}

fn without_header(rows: &[Row]) -> Columns {
    let width = rows
        .iter()
        .map(|row| row.cells.len())
        .max()
        .unwrap_or_default();
    let cells = |place: usize| rows.iter().map(move |row| cell(row, place));
    let are_ids = |place: usize| shape::are_ids(cells(place));
    let are_words = |place: usize| cells(place).all(|cell| cell.contains(char::is_alphabetic));
    let mut columns = vec![Column::Prompt; width];
    // Ids before the labels; of several, those that are not mere numbers.
    let before = (0..width).take_while(|place| are_ids(*place)).count();
    let label = if before < width && are_words(before) {
        before
    } else {
        0
    };
    let before = 0..label;
    let key = before
        .clone()
        .find(|place| !cells(*place).all(|cell| class_number(cell).is_some()));
    let mut key = key.or(before.clone().next());
    columns[before].fill(Column::Unknown);
    if width == 2 && label == 0 && are_ids(1) && are_words(0) {
        key = Some(1);
    }
    if let Some(column) = columns.get_mut(label) {
        *column = Column::Label;
    }
    let mut notes = Vec::new();
    if let Some(key) = key {
        columns[key] = Column::Key;
        notes.push(format!(
            "the table has no header; column {} is read as keys and column {} as labels",
            key + 1,
            label + 1
        ));
    } else if width > 1 {
        // A first row without known column names would be a label.
        notes.push(
            "the table has no header; the first column is read as labels, the others as prompts"
                .to_owned(),
        );
    }
    Columns {
        columns,
        warnings: Vec::new(),
        notes,
    }
}

fn entry(row: Row, columns: &Columns, width: Option<usize>, separator: &str) -> Result<ClassEntry> {
    let line = row.line;
    let length = row
        .cells
        .iter()
        .rposition(|cell| !cell.is_empty())
        .map_or(0, |last| last + 1);
    if let Some(width) = width {
        ensure!(
            length <= width,
            "line {line} has {length} cells, but the header has {width}; put cells that contain \
             the separator, {separator}, in double quotes"
        );
    }
    let mut entry = ClassEntry::new(usize::try_from(line)?, String::new());
    for (place, cell) in row.cells.into_iter().enumerate() {
        if !cell.is_empty() {
            columns.at(place).put(&mut entry, vec![cell])?;
        }
    }
    let names = entry.aliases.iter().chain(&entry.text).chain(&entry.key);
    ensure!(
        !names.chain([&entry.label]).any(|name| name.contains('\n')),
        "a cell that begins on line {line} extends over several lines; is a double quote missing?"
    );
    ensure!(
        !entry.label.is_empty(),
        "line {line} has no label; add it or remove the line"
    );
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// The classes as `key=label:prompts`, and the number of notes.
    fn read(content: &str) -> Result<(Vec<String>, usize), String> {
        let reader = Box::new(Cursor::new(content.as_bytes().to_vec()));
        let table = Table::new(reader, b',', None).unwrap();
        let found = entries(table).map_err(|error| error.to_string())?;
        let shown = found.entries.iter().map(|entry| {
            let key = entry
                .key
                .as_ref()
                .map_or(String::new(), |key| format!("{key}="));
            format!("{key}{}:{}", entry.label, entry.prompts.join("/"))
        });
        Ok((shown.collect(), found.notes.len()))
    }

    #[test]
    fn columns_are_found_by_name_or_by_content() {
        let cases: [(&str, &[&str], usize); 18] = [
            ("category\ncat\ndog\n", &["cat:", "dog:"], 0),
            ("class_name\ncat\n", &["cat:"], 0),
            ("cat\ndog\n", &["cat:", "dog:"], 0),
            ("0,cat\n1,dog\n", &["0=cat:", "1=dog:"], 1),
            (
                "0,n02056570,cat\n1,n01622779,dog\n",
                &["n02056570=cat:", "n01622779=dog:"],
                1,
            ),
            (
                "/m/011k07,Tortoise\n/m/011q46kg,Box\n",
                &["/m/011k07=Tortoise:", "/m/011q46kg=Box:"],
                1,
            ),
            (
                "n02056570,king penguin\nn01622779,owl\nn01440764,tench\n",
                &[
                    "n02056570=king penguin:",
                    "n01622779=owl:",
                    "n01440764=tench:",
                ],
                1,
            ),
            (
                "LabelName,Name\n/m/011k07,Tortoise\n/m/011q46kg,Box\n",
                &["/m/011k07=Tortoise:", "/m/011q46kg=Box:"],
                1,
            ),
            ("cat,0\ndog,1\n", &["0=cat:", "1=dog:"], 1),
            ("cat,7\n", &["cat:7"], 1),
            ("7,up\n", &["7:up"], 1),
            ("0\n1\n2\n", &["0:", "1:", "2:"], 0),
            ("ClassId,SignName\n0,stop\n1,go\n", &["0=stop:", "1=go:"], 1),
            (",0\n0,cat\n1,dog\n", &["0=cat:", "1=dog:"], 1),
            ("label,name\n0,cat\n1,dog\n", &["0=cat:", "1=dog:"], 1),
            ("cat,a cat\ndog,a dog\n", &["cat:a cat", "dog:a dog"], 1),
            ("label,,\ncat,,\n,,\n", &["cat:"], 0),
            ("title,key\ncat,1\n", &["1=cat:"], 0),
        ];
        for (content, expected, notes) in cases {
            let (found, said) = read(content).unwrap();
            assert_eq!(found, expected, "{content:?}");
            assert_eq!(said, notes, "{content:?}");
        }
        for (content, part) in [
            ("key,prompt\n1,a\n", "no column of labels (key, prompt)"),
            ("id,words,caption\n0,a,b\n1,c,d\n", "no column of labels"),
            (
                "label\na cat, asleep\n",
                "line 2 has 2 cells, but the header has 1",
            ),
        ] {
            let error = read(content).unwrap_err();
            assert!(error.contains(part), "{content:?}: {error}");
        }
    }
}
