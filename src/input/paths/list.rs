//! The list of `--files-from`: one path or object per line, or paths that are NUL-separated; paths
//! are unchanged except for encoding and line ends.

#![deny(clippy::indexing_slicing)]

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{MAIN_SEPARATOR, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};

use super::{Entry, ImageRule, ImageSource, PathError, objects};
use crate::file::open;
use crate::input::shard::Shards;
use crate::input::text_file::{BadLine, Line, Lines, LoneReturn};
use crate::output::FailureKind;

/// Longer than any system's paths, so that a file which is not a list (or a NUL-separated one read
/// by lines) does not end up in memory.
const LONGEST_PATH_BYTES: usize = 64 * 1024;
/// The same for objects.
const LONGEST_OBJECT_BYTES: usize = 1 << 20;

/// The settings `--files-from` and `-0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesFrom {
    /// The list itself.
    pub source: ListSource,
    /// What ends a path in it.
    pub separator: Separator,
}

/// Where a list of paths is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListSource {
    /// A file (or a named pipe).
    File(PathBuf),
    /// `-`: stdin.
    Stdin,
}

/// What ends a path in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    /// A newline; a carriage return before it belongs to the path if a file of that name exists,
    /// else to a Windows line end.
    Line,
    /// A NUL byte, which no path can contain.
    Nul,
}

/// Notes on what was guessed about a list so far; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListNotes(Arc<Mutex<Vec<String>>>);

impl ListNotes {
    /// The notes, without duplicates.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn add(&self, note: String) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(note);
    }
}

/// Reads one path at a time and never looks ahead: an item is yielded as soon as its separator
/// arrived, also from a pipe that stays open. A bad entry does not affect the others.
pub(super) struct List {
    lines: Lines,
    /// The list's name in messages.
    name: String,
    separator: Separator,
    notes: ListNotes,
    dropped_return: bool,
    /// The archives that objects name images in.
    shards: Shards,
}

impl List {
    /// Opens the list. Errors when the file cannot be opened or is a folder.
    pub(super) fn open(files_from: FilesFrom, rule: ImageRule) -> anyhow::Result<Self> {
        let (reader, name): (Box<dyn Read + Send>, String) = match files_from.source {
            ListSource::Stdin => (Box::new(io::stdin()), "stdin".to_owned()),
            ListSource::File(path) => (Box::new(open_file(&path)?), path.display().to_string()),
        };
        Ok(Self::new(reader, name, files_from.separator, rule))
    }

    fn new(
        reader: Box<dyn Read + Send>,
        name: String,
        separator: Separator,
        rule: ImageRule,
    ) -> Self {
        let lines = match separator {
            Separator::Line => Lines::new(reader, LoneReturn::IsText, LONGEST_OBJECT_BYTES),
            Separator::Nul => Lines::separated_by_nul(reader, LONGEST_PATH_BYTES),
        };
        Self {
            lines,
            name,
            separator,
            notes: ListNotes::default(),
            dropped_return: false,
            shards: Shards::new(rule),
        }
    }

    /// Notes on what was guessed; more may follow while the list is read.
    pub(super) fn notes(&self) -> ListNotes {
        self.notes.clone()
    }

    /// An image, or why the line names none; with the line's keys if it is an object.
    fn check(&mut self, line: Line) -> Entry {
        if let Some(guess) = line.guess {
            self.notes.add(format!("{}: {guess}", self.name));
        }
        let number = line.number;
        if let Some(object) = self.object(&line) {
            return objects::entry(object, &self.name, number, &mut self.shards);
        }
        self.path(line).into()
    }

    /// The line, if it is an object and no file has this name.
    fn object<'a>(&self, line: &'a Line) -> Option<&'a [u8]> {
        let bytes = line.content.as_deref().ok()?;
        let is_object = self.separator == Separator::Line && bytes.starts_with(b"{");
        let is_file = || os_string(bytes.to_vec()).is_ok_and(|name| is_there(Path::new(&name)));
        (is_object && !is_file()).then_some(bytes)
    }

    fn path(&mut self, line: Line) -> Result<ImageSource, PathError> {
        let number = line.number;
        let entry = match self.separator {
            Separator::Line => "line",
            Separator::Nul => "entry",
        };
        let error = |cause: &str| PathError {
            path: format!("{}:{number}", self.name).into(),
            cause: FailureKind::Line.because(format!("{entry} {number} {cause}")),
        };
        let too_long = |limit: usize| {
            let rest = match self.lines.has_given_up() {
                true => "; it does not end, so the list is not read further",
                false => "",
            };
            error(&format!(
                "is longer than {limit} bytes; write one path or one object per line, or pass -0 \
                 for a NUL-separated list{rest}"
            ))
        };
        let bytes = match line.content {
            Ok(bytes) if bytes.len() > LONGEST_PATH_BYTES => {
                return Err(too_long(LONGEST_PATH_BYTES));
            }
            Ok(bytes) => bytes,
            Err(BadLine::TooLong { start, .. }) if start.starts_with(b"{") => {
                return Err(too_long(LONGEST_OBJECT_BYTES));
            }
            Err(BadLine::TooLong { .. }) => return Err(too_long(LONGEST_PATH_BYTES)),
            Err(BadLine::Unreadable(cause)) => {
                return Err(error(&format!("cannot be read: {cause}")));
            }
        };
        if matches!(bytes.as_slice(), b"" | b"\r") {
            return Err(error("is empty; remove it or add a path"));
        }
        if bytes.contains(&0) {
            return Err(error(
                "contains a NUL byte; pass -0 for a NUL-separated list",
            ));
        }
        let path = os_string(bytes).map_err(|()| error("is not UTF-8; rename the file"))?;
        let path = self.without_return(path.into());
        if path.is_dir() {
            let cause = "is a folder, but a list names files; pass the folder as an argument";
            return Err(PathError {
                path,
                cause: FailureKind::Read.because(cause),
            });
        }
        let hint = match self.separator {
            Separator::Line => hint(&path),
            Separator::Nul => None,
        };
        match hint {
            Some(cause) => {
                let cause = FailureKind::Missing.because(cause);
                Err(PathError { path, cause })
            }
            None => Ok(ImageSource::Path(path)),
        }
    }

    /// The path without the carriage return of a Windows line end, unless that is part of the name.
    fn without_return(&mut self, path: PathBuf) -> PathBuf {
        let bytes = path.as_os_str().as_encoded_bytes();
        let (Separator::Line, Some(b'\r')) = (self.separator, bytes.last()) else {
            return path;
        };
        // One among others ends a line of an old Mac's list.
        let returns = bytes.iter().filter(|byte| **byte == b'\r').count();
        if returns > 1 || is_there(&path) {
            return path;
        }
        let bytes = bytes.get(..bytes.len() - 1).unwrap_or_default().to_vec();
        let Ok(shorter) = os_string(bytes) else {
            return path;
        };
        if !std::mem::replace(&mut self.dropped_return, true) {
            self.notes.add(format!(
                "{}: lines have Windows line ends; the carriage returns were dropped",
                self.name
            ));
        }
        shorter.into()
    }
}

/// A hint on why a path does not exist.
fn hint(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    let unquoted = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let has_backslash = MAIN_SEPARATOR == '/' && text.contains('\\');
    if !(has_backslash || unquoted.is_some() || text.contains('\r')) || is_there(path) {
        return None;
    }
    let slashed = text.replace('\\', "/");
    Some(if text.contains('\r') {
        "there is no such file; the list's lines end in carriage returns, so save it with newlines"
            .to_owned()
    } else if unquoted.is_some_and(|path| is_there(Path::new(path))) {
        "there is no such file; the list has quotes around the path, so remove them".to_owned()
    } else if has_backslash && is_there(Path::new(&slashed)) {
        format!("there is no such file, but there is {slashed}; write / instead of \\ in the list")
    } else if has_backslash {
        "there is no such file; folders are separated by / here, not by \\ as on Windows".to_owned()
    } else {
        return None;
    })
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

impl Iterator for List {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let line = self.lines.next()?;
        Some(self.check(line))
    }
}

fn open_file(path: &Path) -> anyhow::Result<File> {
    let shown = path.display();
    // A folder opens without error on Unix and fails only when read.
    if path.is_dir() {
        bail!("the list {shown} is a folder; --files-from takes a file of paths, or - for stdin");
    }
    open::stream(path).with_context(|| format!("cannot open the list {shown}"))
}

#[cfg(unix)]
fn os_string(bytes: Vec<u8>) -> Result<OsString, ()> {
    Ok(std::os::unix::ffi::OsStringExt::from_vec(bytes))
}

#[cfg(not(unix))]
fn os_string(bytes: Vec<u8>) -> Result<OsString, ()> {
    String::from_utf8(bytes).map(OsString::from).map_err(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: ImageRule = ImageRule {
        extensions: &["png"],
        looks_like_image: |_| false,
    };

    /// Each entry as text; an error as `! cause`.
    fn read(content: &[u8], separator: Separator) -> Vec<String> {
        let reader = Box::new(io::Cursor::new(content.to_vec()));
        let list = List::new(reader, "list".to_owned(), separator, RULE);
        list.map(|entry| match entry.source {
            Ok(ImageSource::Path(path)) => path.to_string_lossy().into_owned(),
            Ok(other) => format!("{other:?}"),
            Err(error) => format!("! {}", error.cause),
        })
        .collect()
    }

    #[test]
    fn a_list_is_read_unchanged() {
        use Separator::{Line, Nul};
        #[rustfmt::skip]
        let cases: [(&[u8], Separator, &[&str]); 15] = [
            (b"", Line, &[]),
            (b"", Nul, &[]),
            (b"a.jpg\nb.jpg\n", Line, &["a.jpg", "b.jpg"]),
            (b"a.jpg\nb.jpg", Line, &["a.jpg", "b.jpg"]),
            (b" # a \n-\n", Line, &[" # a ", "-"]),
            (b"a.jpg\r\nb.jpg\r", Line, &["a.jpg", "b.jpg"]),
            (b"a.jpg\r\0b.jpg", Nul, &["a.jpg\r", "b.jpg"]),
            (b"\xef\xbb\xbfa.jpg\n", Line, &["a.jpg"]),
            (b"\xef\xbb\xbfa.jpg\0", Nul, &["\u{feff}a.jpg"]),
            (b"a\0.\0j\0p\0g\0\n\0", Line, &["a.jpg"]),
            (b"a\n\r\nb\n", Line, &["a", "! line 2 is empty; remove it or add a path", "b"]),
            (b"a\nb\0c\0", Nul, &["a\nb", "c"]),
            (b"a\n\nb\n", Line, &["a", "! line 2 is empty; remove it or add a path", "b"]),
            (b"a\0b\0", Line, &["! line 1 contains a NUL byte; pass -0 for a NUL-separated list"]),
            (b"a\0\0", Nul, &["a", "! entry 2 is empty; remove it or add a path"]),
        ];
        for (content, separator, expected) in cases {
            assert_eq!(read(content, separator), expected, "{content:?}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_affects_that_line_only() {
        let mut content = b"a.jpg\n".to_vec();
        content.resize(3 * LONGEST_PATH_BYTES, b'x');
        content.extend(b"\nb.jpg\n");
        let entries = read(&content, Separator::Line);
        let [first, long, last] = entries.as_slice() else {
            panic!("{entries:?}");
        };
        assert_eq!((first.as_str(), last.as_str()), ("a.jpg", "b.jpg"));
        assert!(
            long.starts_with("! line 2 is longer than 65536 bytes"),
            "{long}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_does_not_exist_gets_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        for name in ["a.jpg", "odd\r", "back\\slash", "\"quoted\""] {
            std::fs::write(at(name), "").unwrap();
        }
        let windows = at("a.jpg").replace('/', "\\");
        let quoted = format!("\"{}\"", at("a.jpg"));
        let lines = [
            &windows,
            "C:\\b.jpg",
            &quoted,
            &at("odd"),
            &at("back\\slash"),
            "a\rb",
        ];
        let found = read(lines.join("\r\n").as_bytes(), Separator::Line);
        let parts = [
            "but there is ",
            "separated by / here",
            "has quotes",
            "odd\r",
            "back\\slash",
            "end in carriage returns",
        ];
        for (found, part) in found.iter().zip(parts) {
            assert!(found.contains(part), "{found:?} {part}");
        }
        assert_eq!(found.len(), lines.len());
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_not_utf8_are_kept() {
        use std::os::unix::ffi::OsStrExt;
        let reader = Box::new(&b"caf\xe9.jpg\n"[..]);
        let mut list = List::new(reader, "list".to_owned(), Separator::Line, RULE);
        let Ok(ImageSource::Path(path)) = list.next().unwrap().source else {
            panic!("no path");
        };
        assert_eq!(path.as_os_str().as_bytes(), b"caf\xe9.jpg");
    }
}
