//! Iterates over the rows of a table with any separator.

use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{io, iter};

use anyhow::{Result, anyhow, ensure};
use serde_json::{Map, Value};

use super::decode::{Decoded, LoneReturn};
use super::{column, extension, separator};

/// How much of a table is examined to detect its separator.
const SAMPLE_BYTES: u64 = 64 * 1024;

/// Longest row in bytes; what is longer has a quotation mark that is never closed, or is not a table.
const LONGEST_ROW: u64 = 16 << 20;

/// One row of cells, unchanged except for surrounding white space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Number of its first line, from 1.
    pub line: u64,
    /// Its cells.
    pub cells: Vec<String>,
}

/// The fields of a row by [`column::key`] of their columns' names, as for JSON Lines.
pub(crate) type Fields = Map<String, Value>;

/// Reads a table row by row; rows of empty cells are skipped, and there are no comments.
pub(crate) struct Table {
    reader: csv::Reader<Box<dyn Read + Send>>,
    separator: u8,
    notes: Vec<String>,
    /// Lines before the first row that the reader sees.
    skipped_lines: u64,
    record: csv::ByteRecord,
    /// Bytes that may still be read for the row.
    allowance: Arc<AtomicU64>,
}

/// The separator that a file's extension implies: a comma, or a tab for `.tsv` and `.tab`.
#[must_use]
pub(crate) fn usual_separator(path: &Path) -> u8 {
    match extension(path).as_str() {
        "tsv" | "tab" => b'\t',
        _ => b',',
    }
}

impl Table {
    /// Reads the beginning of the table: its encoding, and its separator unless `delimiter` sets
    /// it. `usual` is the separator that the file's name implies, see [`usual_separator`].
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn new(
        reader: Box<dyn Read + Send>,
        usual: u8,
        delimiter: Option<u8>,
    ) -> io::Result<Self> {
        let mut decoded = Decoded::new(reader, LoneReturn::EndsLine);
        let mut sample = Vec::new();
        decoded
            .by_ref()
            .take(SAMPLE_BYTES)
            .read_to_end(&mut sample)?;
        let mut notes: Vec<String> = decoded.guess().map(str::to_owned).into_iter().collect();
        let is_whole = (sample.len() as u64) < SAMPLE_BYTES;
        let text = String::from_utf8_lossy(&sample);
        let declared = separator::declared(&text);
        let skipped = declared.map_or(0, |(_, length)| length);
        let separator = match (delimiter, declared) {
            (Some(byte), _) | (None, Some((byte, _))) => byte,
            (None, None) => {
                let end = if is_whole {
                    text.len()
                } else {
                    text.rfind('\n').unwrap_or(text.len())
                };
                let found = separator::find(text.get(..end).unwrap_or_default(), usual);
                notes.extend(found.note);
                found.byte
            }
        };
        let mut start = Cursor::new(sample);
        start.set_position(skipped as u64);
        let allowance = Arc::new(AtomicU64::new(0));
        let whole: Box<dyn Read + Send> = Box::new(Rationed {
            reader: UnixLines::new(start.chain(decoded)),
            allowance: Arc::clone(&allowance),
        });
        Ok(Self {
            reader: csv::ReaderBuilder::new()
                .delimiter(separator)
                .has_headers(false)
                .flexible(true)
                .terminator(csv::Terminator::Any(b'\n'))
                .from_reader(whole),
            separator,
            notes,
            skipped_lines: u64::from(skipped > 0),
            record: csv::ByteRecord::new(),
            allowance,
        })
    }

    /// Notes on what was guessed about the file, without its name.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The separator in messages: `","`, `tabs`.
    pub(crate) fn separator(&self) -> String {
        separator::shown(self.separator)
    }

    /// Takes the first row as the column names. Returns those and the rows after it, each with the
    /// number of its first line; missing cells are empty, and cells beyond the last column must be
    /// empty.
    ///
    /// # Errors
    /// When there is no row, or it cannot be read.
    pub(crate) fn named(mut self) -> Result<NamedRows> {
        let header = self.next().transpose()?;
        let mut names = header.map(|row| row.cells).unwrap_or_default();
        ensure!(!names.is_empty(), "the file has no rows");
        // Spreadsheets write empty columns around a table.
        while names.last().is_some_and(String::is_empty) {
            names.pop();
        }
        let keys = names.iter().map(|name| column::key(name)).collect();
        Ok(NamedRows {
            names,
            keys,
            table: self,
        })
    }

    fn row(&mut self) -> Option<Result<Row>> {
        loop {
            self.allowance.store(LONGEST_ROW, Ordering::Relaxed);
            // An error of the reader below ends the rows.
            match self.reader.read_byte_record(&mut self.record) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(unreadable(error))),
            }
            let is_empty = |cell: &[u8]| cell.iter().all(u8::is_ascii_whitespace);
            if !self.record.iter().all(is_empty) {
                let line = self.line();
                return Some(cells(&self.record, line).map(|cells| Row { line, cells }));
            }
        }
    }

    /// The next row, or its error, with the number of its first line.
    pub(crate) fn numbered(&mut self) -> Option<(u64, Result<Row>)> {
        let row = self.row()?;
        let line = row.as_ref().map_or_else(|_| self.line(), |row| row.line);
        Some((line, row))
    }

    /// The number of the first line of the row just read. The reader records a position before the
    /// blank lines that it skips; only the end of the row is certain.
    fn line(&self) -> u64 {
        let noted = self.record.position().map_or(1, csv::Position::line);
        let within = self.record.as_slice().iter().filter(|byte| **byte == b'\n');
        let end = self.reader.position().line();
        noted.max(end.saturating_sub(1 + within.count() as u64)) + self.skipped_lines
    }
}

impl Iterator for Table {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        self.row()
    }
}

/// The rows of a table with column names, with the number of each row's first line.
pub(crate) struct NamedRows {
    names: Vec<String>,
    keys: Vec<String>,
    table: Table,
}

impl NamedRows {
    /// The names of the columns, as written.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether one of the columns has one of these names, in the form of [`column::key`].
    pub(crate) fn has(&self, names: &[&str]) -> bool {
        self.keys.iter().any(|key| names.contains(&key.as_str()))
    }

    /// Notes on what was guessed about the file, without its name.
    pub(crate) fn notes(&self) -> &[String] {
        self.table.notes()
    }

    fn fields(&self, row: Row) -> Result<Fields> {
        let more = row.cells.iter().skip(self.keys.len());
        let surplus = more.filter(|cell| !cell.is_empty()).count();
        ensure!(
            surplus == 0,
            "the row has {} fields but the first line has {}; put a text that contains the \
             separator ({}) in double quotes",
            row.cells.len(),
            self.keys.len(),
            self.table.separator()
        );
        let mut fields = Fields::new();
        // Spreadsheets omit the empty cells at the end of a row.
        let cells = row.cells.into_iter().chain(iter::repeat(String::new()));
        for (key, cell) in self.keys.iter().zip(cells) {
            if !key.is_empty() {
                fields.entry(key.clone()).or_insert(Value::String(cell));
            }
        }
        Ok(fields)
    }
}

impl Iterator for NamedRows {
    type Item = (u64, Result<Fields>);

    fn next(&mut self) -> Option<Self::Item> {
        let (line, row) = self.table.numbered()?;
        Some((line, row.and_then(|row| self.fields(row))))
    }
}

/// A reader that fails once more than the allowance was read: a row is held in memory.
struct Rationed<R> {
    reader: R,
    allowance: Arc<AtomicU64>,
}

impl<R: Read> Read for Rationed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        let left = self.allowance.load(Ordering::Relaxed);
        let left = left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other(format!(
                "a row has more than {LONGEST_ROW} bytes; is a quotation mark not closed, or is it \
                 another file?"
            ))
        })?;
        self.allowance.store(left, Ordering::Relaxed);
        Ok(count)
    }
}

/// The same text with every line ended by a newline only, including the last, so that lines can be
/// counted.
struct UnixLines<R> {
    reader: R,
    /// A carriage return that may belong to a line end.
    waiting: bool,
    /// The last byte passed on; `None` before and after the text.
    last: Option<u8>,
    ended: bool,
}

impl<R: Read> UnixLines<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            waiting: false,
            last: None,
            ended: false,
        }
    }
}

impl<R: Read> Read for UnixLines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A byte may be passed on late, so there must be room for one more than is read.
        let mut chunk = vec![0; buffer.len().saturating_sub(1)];
        let mut made = Vec::with_capacity(buffer.len());
        while made.is_empty() && !self.ended {
            let count = self.reader.read(&mut chunk)?;
            for &byte in chunk.get(..count).unwrap_or_default() {
                if self.waiting && byte != b'\n' {
                    made.push(b'\r');
                }
                self.waiting = byte == b'\r';
                if !self.waiting {
                    made.push(byte);
                }
            }
            self.ended = count == 0;
            if self.ended && (self.waiting || self.last.is_some_and(|last| last != b'\n')) {
                made.push(b'\n');
            }
            self.last = made.last().copied().or(self.last);
        }
        made.as_slice().read(buffer)
    }
}

fn cells(record: &csv::ByteRecord, line: u64) -> Result<Vec<String>> {
    let cell = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| anyhow!("line {line} is not UTF-8; save the file as UTF-8"))?;
        ensure!(
            !text.contains('\0'),
            "line {line} contains a NUL; save the file as text in UTF-8"
        );
        Ok(text.trim().to_owned())
    };
    record.iter().map(cell).collect()
}

fn unreadable(error: csv::Error) -> anyhow::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(),
        kind => anyhow!("the table cannot be read: {kind:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_an_end_ends_the_table() {
        for endless in [&b"\0"[..], b"\"a", b"a,b\n\"a"] {
            let last = io::repeat(*endless.last().unwrap());
            let table = Table::new(Box::new(endless.chain(last)), b',', None).unwrap();
            let rows: Vec<_> = table.collect();
            let error = rows.last().unwrap().as_ref().unwrap_err().to_string();
            assert!(error.contains("a row has more than"), "{error}");
        }
    }

    fn table(content: &[u8], delimiter: Option<u8>) -> Table {
        let reader = Box::new(Cursor::new(content.to_vec()));
        Table::new(reader, b',', delimiter).unwrap()
    }

    fn rows(content: &[u8], delimiter: Option<u8>) -> Vec<(u64, Vec<String>)> {
        let rows = table(content, delimiter).map(Result::unwrap);
        rows.map(|row| (row.line, row.cells)).collect()
    }

    #[test]
    fn every_form_of_a_table_gives_the_same_rows() {
        let expected = [
            (1, vec!["label".to_owned(), "prompt".to_owned()]),
            (2, vec!["Möwe".to_owned(), "eine Möwe; weiß".to_owned()]),
        ];
        let text = "label,prompt\r\nMöwe,\"eine Möwe; weiß\"\r\n";
        let bytes = |text: &str| text.as_bytes().to_vec();
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let cases: [Vec<u8>; 9] = [
            bytes(text),
            bytes(&format!("\u{feff}{text}")),
            bytes(&text.replace("\r\n", "\n")),
            bytes(&text.replace("\r\n", "\r")),
            bytes(&text.replace(',', ";")),
            bytes(&text.replace(',', "\t")),
            bytes(&text.replace(',', " | ").replace('"', "")),
            utf16(text),
            utf16(&format!("\u{feff}{}", text.replace(',', "\t"))),
        ];
        for content in cases {
            let shown = String::from_utf8_lossy(&content);
            assert_eq!(rows(&content, None), expected, "{shown}");
        }
    }

    #[test]
    fn a_declared_or_given_separator_wins() {
        let cells = |content: &[u8], delimiter| {
            let rows = rows(content, delimiter);
            rows.into_iter()
                .map(|(line, cells)| (line, cells.join("/")))
                .collect::<Vec<_>>()
        };
        let row = |line, text: &str| (line, text.to_owned());
        assert_eq!(cells(b"sep=|\r\na,b|c\r\n", None), [row(2, "a,b/c")]);
        assert_eq!(cells(b"sep=|\na,b|c\n", Some(b',')), [row(2, "a/b|c")]);
        assert_eq!(cells(b"a:b;c\n", Some(b':')), [row(1, "a/b;c")]);
    }

    #[test]
    fn lines_are_counted_and_empty_rows_skipped() {
        let content = b"a,b\r\n,,\r\n\r\n\"c\r\nd\",e\r\n;,\r\nf,g\r\n";
        let found: Vec<_> = rows(content, Some(b','))
            .into_iter()
            .map(|(line, cells)| (line, cells.join("/")))
            .collect();
        let expected = [(1, "a/b"), (4, "c\nd/e"), (6, ";/"), (7, "f/g")];
        let expected = expected.map(|(line, text)| (line, text.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn bytes_that_are_not_text_are_refused_with_their_line() {
        for (content, part) in [
            (&b"a,b\nc,\xff\n"[..], "line 2 is not UTF-8"),
            (b"a,b\nc,d\0\n", "line 2 contains a NUL"),
        ] {
            let error = table(content, None).find_map(Result::err).unwrap();
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn named_rows_have_fields() {
        let content = b"File_Name;Label;;\nx.jpg;cat;;\ny.jpg\nz.jpg;a;b\n";
        let mut named = table(content, None).named().unwrap();
        assert_eq!(named.names(), ["File_Name", "Label"]);
        assert!(named.has(column::PATH) && !named.has(column::KEY));
        assert_eq!(named.notes().len(), 1);
        let (line, fields) = named.next().unwrap();
        let fields = Value::Object(fields.unwrap()).to_string();
        assert_eq!(
            (line, &*fields),
            (2, "{\"filename\":\"x.jpg\",\"label\":\"cat\"}")
        );
        let (line, fields) = named.next().unwrap();
        assert_eq!((line, &fields.unwrap()["label"]), (3, &Value::from("")));
        let (line, fields) = named.next().unwrap();
        let error = fields.unwrap_err().to_string();
        assert_eq!(line, 4);
        assert!(
            error.starts_with("the row has 3 fields but the first line has 2"),
            "{error}"
        );
        assert!(table(b"\n,,\n", None).named().is_err());
    }
}
