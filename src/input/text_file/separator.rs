//! Detects the separator of a table's cells from its first rows.

use super::column;

/// Separators that spreadsheets and databases write.
pub(crate) const SEPARATORS: [u8; 4] = *b",;\t|";
/// Rows that are examined.
const ROWS: usize = 100;

/// The separator, and notes on what was guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Separator {
    pub(super) byte: u8,
    pub(super) note: Option<String>,
}

/// Cell counts of the rows with one separator.
struct Look {
    byte: u8,
    /// Cells of the first row that are column names, if it has several cells.
    named: usize,
    /// Rows of more than one cell.
    split: usize,
    /// Whether all rows have the same number of cells, more than one.
    is_even: bool,
}

/// Detects the separator from complete rows of a table; `usual` is the separator that the extension
/// implies.
///
/// A first row of column names decides; then a separator that splits all rows into the same number
/// of cells, the usual one first; then the usual one if it occurs at all; then one that occurs in
/// half of the rows. A separator other than the usual one, or an ambiguous one, is noted.
pub(super) fn find(rows: &str, usual: u8) -> Separator {
    let looks = SEPARATORS.map(|byte| look(rows, byte));
    let best = |fits: &dyn Fn(&Look) -> usize| {
        let fitting = looks.iter().filter(|look| fits(look) > 0);
        fitting.max_by_key(|look| (fits(look), look.byte == usual))
    };
    let count = |rows: usize| rows.max(1);
    let total = count(records(rows, usual).count());
    let chosen = best(&|look| look.named)
        .or_else(|| best(&|look| usize::from(look.is_even)))
        .or_else(|| {
            looks
                .iter()
                .find(|look| look.byte == usual && look.split > 0)
        })
        .or_else(|| {
            best(&|look| {
                if look.split * 2 >= total {
                    look.split
                } else {
                    0
                }
            })
        });
    let Some(chosen) = chosen else {
        return Separator {
            byte: usual,
            note: None,
        };
    };
    let rival = looks
        .iter()
        .find(|look| look.byte != chosen.byte && look.is_even && chosen.is_even);
    let note = match rival {
        Some(rival) if chosen.named == 0 => Some(format!(
            "cells are read as separated by {}, not by {}; pass --delimiter to change this",
            shown(chosen.byte),
            shown(rival.byte)
        )),
        _ if chosen.byte != usual => Some(format!(
            "cells are read as separated by {}; pass --delimiter to change this",
            shown(chosen.byte)
        )),
        _ => None,
    };
    Separator {
        byte: chosen.byte,
        note,
    }
}

/// The separator in Excel's first line `sep=;`, and the length of that line.
pub(super) fn declared(start: &str) -> Option<(u8, usize)> {
    let line = start.split_inclusive('\n').next()?;
    let content = line.trim_end_matches(['\r', '\n']);
    let bare = content
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let name = bare.unwrap_or(content).get(..4)?;
    let value = bare.unwrap_or(content).get(4..)?;
    let &[byte] = value.as_bytes() else {
        return None;
    };
    name.eq_ignore_ascii_case("sep=")
        .then_some((byte, line.len()))
}

/// A separator in messages.
pub(super) fn shown(byte: u8) -> String {
    match byte {
        b'\t' => "tabs".to_owned(),
        byte => format!("{:?}", char::from(byte).to_string()),
    }
}

fn records(rows: &str, byte: u8) -> impl Iterator<Item = csv::StringRecord> {
    let reader = csv::ReaderBuilder::new()
        .delimiter(byte)
        .has_headers(false)
        .flexible(true)
        .from_reader(rows.as_bytes());
    let whole = reader.into_records().map_while(Result::ok);
    let is_there = |record: &csv::StringRecord| record.iter().any(|cell| !cell.trim().is_empty());
    whole.filter(is_there).take(ROWS)
}

fn look(rows: &str, byte: u8) -> Look {
    let lengths: Vec<usize> = records(rows, byte).map(|record| record.len()).collect();
    let first = records(rows, byte).next().unwrap_or_default();
    let named = first.iter().filter(|cell| column::is_known(cell)).count();
    let length = lengths.first().copied().unwrap_or_default();
    Look {
        byte,
        named: if length > 1 { named } else { 0 },
        split: lengths.iter().filter(|length| **length > 1).count(),
        is_even: length > 1 && lengths.iter().all(|other| *other == length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_detected() {
        let cases: [(&str, u8, u8, bool); 20] = [
            ("", b',', b',', false),
            ("label\ncat\n", b',', b',', false),
            ("label\na cat; asleep\na dog; awake\n", b',', b';', true),
            ("label,prompt\ncat,a; b\ndog,c; d\n", b',', b',', false),
            ("label;prompt\ncat;a, b\ndog;c, d\n", b',', b';', true),
            ("label\tprompt\ncat\ta cat\n", b',', b'\t', true),
            ("label,prompt\ncat,a cat\n", b'\t', b',', true),
            ("path|x\na|b\n", b',', b'|', true),
            (
                "image_name| comment_number| comment\na.jpg| 0| A dog, a cat\n",
                b',',
                b'|',
                true,
            ),
            ("cat;a cat, asleep\ndog;a dog\n", b',', b';', true),
            ("cat;a cat, b\ndog;a dog, c\n", b',', b',', true),
            ("cat,a cat\ndog;x,a dog\n", b',', b',', false),
            ("cat,\"a; b; c\"\ndog,x\n", b',', b',', false),
            ("cat,a\n\n,,\ndog\n", b',', b',', false),
            ("cat;kitten\ndog\nbird;chick\n", b',', b';', true),
            ("cat;kitten\ndog\nbird\n", b',', b',', false),
            ("cat\ndog\n", b'\t', b'\t', false),
            ("a, b\nc\nd\n", b'\t', b'\t', false),
            ("name;text;key\n\"a;b\";c;1\n", b',', b';', true),
            (
                "label;prompt\r\npenguin;ein Pinguin, schwarz\r\nMöwe;eine Möwe\r\n",
                b',',
                b';',
                true,
            ),
        ];
        for (rows, usual, expected, is_noted) in cases {
            let found = find(rows, usual);
            assert_eq!(char::from(found.byte), char::from(expected), "{rows:?}");
            assert_eq!(found.note.is_some(), is_noted, "{rows:?} {:?}", found.note);
        }
    }

    #[test]
    fn a_declared_separator_is_used() {
        let cases = [
            ("sep=;\r\na;b", Some((b';', 7))),
            ("SEP=\t\na", Some((b'\t', 6))),
            ("\"sep=,\"\na", Some((b',', 8))),
            ("sep=;", Some((b';', 5))),
            ("sep=;;\n", None),
            ("sep=\n", None),
            ("séparé\n", None),
            ("", None),
        ];
        for (start, expected) in cases {
            assert_eq!(declared(start), expected, "{start:?}");
        }
    }
}
