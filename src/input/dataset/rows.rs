//! The rows of a file that lists images: tables and JSON Lines, and the caption lists that come
//! with Flickr8k and Flickr30k.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::Value;

use super::{Split, not_a_dataset};
use crate::input::text_file::column::{PART, PATH, first_few};
use crate::input::text_file::{self, Fields, Lines, NamedRows, Table, column, usual_separator};

/// Columns, and letters of their names, that a message shows at most.
const COLUMNS_SHOWN: usize = 8;
const LETTERS_SHOWN: usize = 100;
/// Splits that a message lists at most.
const PARTS_SHOWN: usize = 5;

/// One row: its line in the file, and its fields by the [`column::key`] of their columns' names.
type Numbered = (u64, Result<Fields>);

/// The rows of a file.
pub(super) struct Rows {
    rows: Box<dyn Iterator<Item = Numbered>>,
    /// Notes on what was guessed; they name the file.
    pub(super) notes: Vec<String>,
}

impl Iterator for Rows {
    type Item = Numbered;

    fn next(&mut self) -> Option<Numbered> {
        self.rows.next()
    }
}

/// Reads the rows of a file of any kind; `columns` is an example of a table's header for messages.
pub(super) fn rows(path: &Path, columns: &str) -> Result<Rows> {
    match text_file::extension(path).as_str() {
        "jsonl" | "ndjson" => Ok(Rows {
            rows: Box::new(Lines::open(path)?.json_objects()),
            notes: Vec::new(),
        }),
        "csv" | "tsv" | "tab" | "txt" | "token" => match tokens(path)? {
            Some(rows) => Ok(rows),
            None => table(path, columns),
        },
        _ => not_a_dataset(path),
    }
}

fn table(path: &Path, columns: &str) -> Result<Rows> {
    let reading = || format!("cannot read {}", path.display());
    let open = || -> Result<Table> {
        let reader = text_file::open(path)?;
        Table::new(reader, usual_separator(path), None).with_context(reading)
    };
    let named = open()?.named().context("cannot read the header")?;
    ensure!(
        named.has(PATH),
        "the first line has no column with images; it must name the columns, such as {columns}, \
         but is {}",
        listed(named.names().iter().map(String::as_str))
    );
    let notes = named.notes().iter();
    let notes = notes
        .map(|note| format!("{}: {note}", path.display()))
        .collect();
    let rows: Box<dyn Iterator<Item = Numbered>> = match is_flickr30k(&named) {
        true => {
            let mut table = open()?;
            let mut rows = std::iter::from_fn(move || table.numbered());
            rows.next();
            Box::new(rows.map(|(line, row)| (line, row.and_then(flickr30k))))
        }
        false => Box::new(named),
    };
    Ok(Rows { rows, notes })
}

/// Whether a table is Flickr30k's results.csv: `image_name| comment_number| comment`.
fn is_flickr30k(named: &NamedRows) -> bool {
    let keys: Vec<String> = named.names().iter().map(|name| column::key(name)).collect();
    keys == ["imagename", "commentnumber", "comment"]
}

/// A row of Flickr30k's table. The published file lacks the separator after the number in one row
/// (`2199200615.jpg| 4   A dog runs …`).
fn flickr30k(row: text_file::Row) -> Result<Fields> {
    let comment = match &row.cells[..] {
        [_, _, comment] => Some(comment.as_str()),
        [_, both] => both
            .split_once(' ')
            .and_then(|(number, comment)| number.parse::<u32>().ok().map(|_| comment.trim_start())),
        _ => None,
    };
    match (row.cells.first(), comment) {
        (Some(image), Some(comment)) => Ok(fields(image, comment)),
        _ => Err(anyhow!(
            "the row has {} fields but the first line has 3",
            row.cells.len()
        )),
    }
}

fn fields(image: &str, caption: &str) -> Fields {
    let field = |name: &str, text: &str| (name.to_owned(), Value::from(text));
    Fields::from_iter([field("image", image), field("caption", caption)])
}

/// Flickr8k's token file, without column names: `x.jpg#0`, a tab, a caption.
fn tokens(path: &Path) -> Result<Option<Rows>> {
    let first = Lines::open(path)?.next().and_then(|line| line.text().ok());
    if first.and_then(|first| token(&first)).is_none() {
        return Ok(None);
    }
    let rows = Lines::open(path)?.filter_map(|line| {
        let number = line.number;
        let row = line
            .text()
            .map_err(|error| anyhow!("the line is {}", error.cause));
        let row = match row {
            Ok(text) if text.trim().is_empty() => return None,
            Ok(text) => {
                token(&text).context("the line is not an image, #, a number, a tab and a caption")
            }
            Err(error) => Err(error),
        };
        Some((number, row))
    });
    Ok(Some(Rows {
        rows: Box::new(rows),
        notes: Vec::new(),
    }))
}

fn token(line: &str) -> Option<Fields> {
    let (name, caption) = line.split_once('\t')?;
    let (image, number) = name.trim_start_matches('\u{feff}').rsplit_once('#')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && image.contains('.')).then(|| fields(image, caption.trim()))
}

/// Names of columns for messages.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<_> = names.collect();
    let text = first_few(&all, COLUMNS_SHOWN);
    match text.char_indices().nth(LETTERS_SHOWN) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned() + ", …",
        None => text,
    }
}

/// The value in the first of these columns that has one; an empty text only if no other has a
/// value.
pub(super) fn value<'a>(row: &'a Fields, names: &[&str]) -> Option<&'a Value> {
    let values = names.iter().filter_map(|name| row.get(*name));
    let mut values = values.filter(|value| !value.is_null());
    let is_blank = |value: &&Value| value.as_str().is_some_and(|text| text.trim().is_empty());
    let first = values.next()?;
    let filled = std::iter::once(first)
        .chain(values)
        .find(|value| !is_blank(value));
    filled.or(Some(first))
}

/// Selects the rows of one split, and records which splits there are.
pub(super) struct Parts<'a> {
    wanted: Split<'a>,
    /// One more than is shown; the empty name is that of rows without a split.
    known: Vec<String>,
    has_taken: bool,
}

impl<'a> Parts<'a> {
    /// With [`Split::Usual`], also accept rows without a split.
    pub(super) fn new(wanted: Split<'a>) -> Self {
        Self {
            wanted,
            known: Vec::new(),
            has_taken: false,
        }
    }

    /// Whether a row is selected.
    pub(super) fn takes(&mut self, row: &Fields) -> bool {
        let part = match value(row, PART) {
            Some(Value::String(part)) => part.trim().to_owned(),
            Some(Value::Number(part)) => part.to_string(),
            _ => String::new(),
        };
        let is_wanted = match self.wanted {
            Split::Named(wanted) => part == wanted,
            Split::Usual(usual) => part.is_empty() || part == usual,
            Split::All => true,
        };
        self.has_taken |= is_wanted;
        if self.known.len() <= PARTS_SHOWN && !self.known.contains(&part) {
            self.known.push(part);
        }
        is_wanted
    }

    /// The note on the selection, once all rows were seen.
    ///
    /// # Errors
    /// When the wanted split is not there.
    pub(super) fn note(&self, path: &Path) -> Result<Option<String>> {
        let named = self.known.iter().filter(|part| !part.is_empty());
        let shown = first_few(&named.collect::<Vec<_>>(), PARTS_SHOWN);
        let path = path.display();
        match self.wanted {
            Split::Named(wanted) if !self.has_taken && shown.is_empty() => bail!(
                "{path} has no row of the split {wanted:?}; it has no column split, so drop --split"
            ),
            Split::Named(wanted) | Split::Usual(wanted) if !self.has_taken && !shown.is_empty() => {
                bail!(
                    "{path} has no row of the split {wanted:?}; it has {shown}: name one with --split"
                )
            }
            Split::Usual(usual) if self.known.len() > 1 => Ok(Some(format!(
                "{path}: using the rows of the split {usual} (available: {shown})"
            ))),
            Split::All if self.known.len() > 1 => Ok(Some(format!(
                "{path}: using the rows of all splits ({shown})"
            ))),
            _ => Ok(None),
        }
    }
}

/// The text in the first of these columns.
pub(super) fn text<'a>(row: &'a Fields, names: &[&str], what: &str) -> Result<&'a str> {
    let text = value(row, names).and_then(Value::as_str);
    let text = text.with_context(|| missing(row, names, what))?;
    ensure!(!text.trim().is_empty(), "the {what} is empty");
    Ok(text)
}

/// The error if none of these columns exists.
pub(super) fn missing(row: &Fields, names: &[&str], what: &str) -> String {
    let there = listed(row.keys().map(String::as_str));
    let shown = names
        .iter()
        .take(COLUMNS_SHOWN)
        .copied()
        .collect::<Vec<_>>();
    format!(
        "there is no {what} (a column {}); there are {there}",
        shown.join(" or ")
    )
}

/// The images that a file names, relative to a folder.
pub(super) struct ImagePaths {
    folder: PathBuf,
    /// The first path with backslashes that was read with slashes, and the first that does not
    /// exist either way.
    replaced: Option<String>,
    lost: Option<String>,
}

impl ImagePaths {
    /// Those in `folder`, or by default next to the file that names them.
    pub(super) fn new(file: &Path, folder: Option<&Path>) -> Self {
        let own_folder = || file.parent().unwrap_or(Path::new("")).to_owned();
        Self {
            folder: folder.map_or_else(own_folder, Path::to_owned),
            replaced: None,
            lost: None,
        }
    }

    /// Locates an image. Backslashes are read as separators if no file of that name exists but one
    /// with slashes does.
    ///
    /// # Errors
    /// When it is not a path in a folder.
    pub(super) fn path(&mut self, name: &str) -> Result<PathBuf> {
        ensure!(
            !name.contains("://"),
            "{name:?} is a URL; download the images and use their file names"
        );
        let path = self.folder.join(name);
        if cfg!(windows) || !name.contains('\\') || path.exists() {
            return Ok(path);
        }
        let slashes = name.replace('\\', "/");
        ensure!(
            !has_drive(&slashes),
            "{name:?} is a Windows path; write paths relative to the file, with /"
        );
        let other = self.folder.join(&slashes);
        if !other.exists() {
            self.lost.get_or_insert(name.to_owned());
            return Ok(path);
        }
        self.replaced.get_or_insert(name.to_owned());
        Ok(other)
    }

    /// Images in a subfolder of this folder.
    pub(super) fn within(&self, folder: &str) -> Self {
        Self {
            folder: self.folder.join(folder),
            replaced: None,
            lost: None,
        }
    }

    /// Notes on what was guessed.
    pub(super) fn note(&self) -> Option<String> {
        let replaced = self
            .replaced
            .as_ref()
            .map(|name| format!("paths with backslashes are read with slashes, such as {name:?}"));
        replaced.or_else(|| {
            self.lost.as_ref().map(|name| {
                format!("paths with backslashes do not exist, such as {name:?}; write them with /")
            })
        })
    }
}

/// `C:/x`, or a path on another machine (`//server/x`).
fn has_drive(path: &str) -> bool {
    let bytes = path.as_bytes();
    path.starts_with("//") || matches!(bytes, [letter, b':', ..] if letter.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, content: &str) -> Result<Vec<(String, String)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let rows = rows(&path, "path,caption").map_err(|error| format!("{error:#}"))?;
        rows.map(|(line, row)| {
            let row = row.map_err(|error| format!("{line}: {error:#}"))?;
            let text = |names: &[&str]| text(&row, names, "text").unwrap().to_owned();
            Ok((text(PATH), text(&["caption"])))
        })
        .collect()
    }

    #[test]
    fn flickrs_files_are_read() {
        #[rustfmt::skip]
        let cases = [
            (
                "results.csv",
                "image_name| comment_number| comment\na.jpg| 0| A cat , asleep .\n\
                 b.jpg| 4   A dog \"runs\" .\n",
            ),
            ("Flickr8k.token.txt", "a.jpg#0\tA cat , asleep .\nb.jpg#4\tA dog \"runs\" .\n"),
            ("results.token", "a.jpg#0\tA cat , asleep .\r\n\r\nb.jpg#14\tA dog \"runs\" ."),
            ("captions.txt", "image,caption\na.jpg,\"A cat , asleep .\"\nb.jpg,A dog \"runs\" .\n"),
        ];
        for (name, content) in cases {
            let found = read(name, content).unwrap();
            let expected = [("a.jpg", "A cat , asleep ."), ("b.jpg", "A dog \"runs\" .")];
            let expected = expected.map(|(image, text)| (image.to_owned(), text.to_owned()));
            assert_eq!(found, expected, "{name}");
        }
        #[rustfmt::skip]
        let cases = [
            (
                "a.csv",
                "image_name| comment_number| comment\na.jpg| x A cat\n",
                "2: the row has 2 fields",
            ),
            ("a.txt", "a.jpg#0\tA cat\nb.jpg\tA dog\n", "2: the line is not an image"),
            ("a.txt", "a cat\na dog\n", "the first line has no column with images"),
        ];
        for (name, content, part) in cases {
            let error = read(name, content).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[cfg(not(windows))]
    #[test]
    fn backslashes_are_read_as_separators_if_the_file_exists() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| std::fs::write(folder.path().join(name), "x").unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        file("a/b.jpg");
        file("a\\c.jpg");
        let found = |name: &str| {
            let mut images = ImagePaths::new(&folder.path().join("list.csv"), None);
            let path = images.path(name).map_err(|error| error.to_string())?;
            let path = path.strip_prefix(folder.path()).unwrap_or(&path);
            Ok::<_, String>((path.to_owned(), images.note().unwrap_or_default()))
        };
        let cases = [
            (
                "a\\b.jpg",
                "a/b.jpg",
                "are read with slashes, such as \"a\\\\b.jpg\"",
            ),
            ("a\\c.jpg", "a\\c.jpg", ""),
            ("a\\d.jpg", "a\\d.jpg", "do not exist"),
            ("a/d.jpg", "a/d.jpg", ""),
        ];
        for (name, path, note) in cases {
            let (found, said) = found(name).unwrap();
            assert_eq!(found, Path::new(path));
            assert!(
                said.contains(note) && said.is_empty() == note.is_empty(),
                "{said}"
            );
        }
        for name in ["C:\\x\\a.jpg", "\\\\server\\a.jpg", "https://x/a.jpg"] {
            assert!(found(name).is_err(), "{name}");
        }
    }
}
