//! The list behind `--files-from`: one path a line, or NUL-separated, as it stands.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::{ImageSource, PathError};

/// Longer than any system's paths, so that a file which is no list at all
/// (or a NUL-separated one read by lines) does not end up in memory.
const LONGEST_PATH_BYTES: usize = 64 * 1024;

/// What `--files-from` and `-0` say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesFrom {
    /// The list itself.
    pub source: ListSource,
    /// What ends a path in it.
    pub separator: Separator,
}

/// Where a list of paths is read.
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
    /// A newline; a carriage return before it belongs to the path.
    Line,
    /// A NUL byte, which no path can hold.
    Nul,
}

impl Separator {
    fn byte(self) -> u8 {
        match self {
            Self::Line => b'\n',
            Self::Nul => 0,
        }
    }

    fn entry_name(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Nul => "entry",
        }
    }
}

/// Reads one path at a time and never looks ahead: an item leaves as soon as its
/// separator arrived, also from a pipe that stays open.
pub(super) struct List {
    reader: BufReader<Box<dyn Read + Send>>,
    name: PathBuf,
    separator: Separator,
    entries_read: u64,
    ended: bool,
}

impl List {
    /// Opens the list. Errors when the file cannot be opened or is a folder.
    pub(super) fn open(files_from: FilesFrom) -> anyhow::Result<Self> {
        let (reader, name): (Box<dyn Read + Send>, PathBuf) = match files_from.source {
            ListSource::Stdin => (Box::new(io::stdin()), PathBuf::from("-")),
            ListSource::File(path) => (Box::new(open_file(&path)?), path),
        };
        Ok(Self {
            reader: BufReader::new(reader),
            name,
            separator: files_from.separator,
            entries_read: 0,
            ended: false,
        })
    }

    /// The next entry's bytes without its separator; `None` at the end.
    fn read_entry(&mut self) -> io::Result<Option<Vec<u8>>> {
        let separator = self.separator.byte();
        let limit = LONGEST_PATH_BYTES as u64 + 1;
        let mut bytes = Vec::new();
        let read = (&mut self.reader)
            .take(limit)
            .read_until(separator, &mut bytes)?;
        if bytes.last() == Some(&separator) {
            bytes.pop();
        }
        Ok((read > 0).then_some(bytes))
    }

    /// Says where in the list something is wrong.
    fn error(&self, cause: &str) -> PathError {
        let entry = self.separator.entry_name();
        PathError {
            path: self.name.clone(),
            cause: format!("{entry} {} {cause}", self.entries_read),
        }
    }

    fn check(&mut self, bytes: Vec<u8>) -> Result<ImageSource, PathError> {
        if bytes.len() > LONGEST_PATH_BYTES {
            // What follows is the rest of this entry, not a path.
            self.ended = true;
            return Err(self.error(&format!(
                "is longer than {LONGEST_PATH_BYTES} bytes; give one path a line, or pass -0 for a NUL-separated list"
            )));
        }
        if bytes.is_empty() {
            return Err(self.error("is empty; remove it or give a path"));
        }
        if bytes.contains(&0) {
            return Err(self.error("holds a NUL byte; pass -0 for a NUL-separated list"));
        }
        let path = PathBuf::from(
            os_string(bytes).map_err(|()| self.error("is not UTF-8; rename the file"))?,
        );
        if path.is_dir() {
            let cause = "is a folder, and a list names files; name the folder as an argument";
            return Err(PathError {
                path,
                cause: cause.to_owned(),
            });
        }
        Ok(ImageSource::Path(path))
    }
}

impl Iterator for List {
    type Item = Result<ImageSource, PathError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        self.entries_read += 1;
        match self.read_entry() {
            Ok(entry) => entry.map(|bytes| self.check(bytes)),
            Err(error) => {
                self.ended = true;
                Some(Err(self.error(&format!("cannot be read: {error}"))))
            }
        }
    }
}

fn open_file(path: &Path) -> anyhow::Result<File> {
    let shown = path.display();
    // A folder opens without complaint on Unix and fails only when read.
    if path.is_dir() {
        bail!("the list {shown} is a folder; --files-from takes a file of paths, or - for stdin");
    }
    File::open(path).with_context(|| format!("cannot open the list {shown}"))
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

    /// Each entry as text; an error as `! cause`.
    fn read(content: &[u8], separator: Separator) -> Vec<String> {
        let list = List {
            reader: BufReader::new(Box::new(io::Cursor::new(content.to_vec()))),
            name: PathBuf::from("list"),
            separator,
            entries_read: 0,
            ended: false,
        };
        list.map(|entry| match entry {
            Ok(ImageSource::Path(path)) => path.to_string_lossy().into_owned(),
            Ok(ImageSource::Stdin) => "stdin".to_owned(),
            Err(error) => format!("! {}", error.cause),
        })
        .collect()
    }

    #[test]
    fn a_list_is_taken_as_it_stands() {
        use Separator::{Line, Nul};
        let cases: [(&[u8], Separator, &[&str]); 9] = [
            (b"", Line, &[]),
            (b"", Nul, &[]),
            (b"a.jpg\nb.jpg\n", Line, &["a.jpg", "b.jpg"]),
            (b"a.jpg\nb.jpg", Line, &["a.jpg", "b.jpg"]),
            (b" # a \r\n-\n", Line, &[" # a \r", "-"]),
            (b"a\nb\0c\0", Nul, &["a\nb", "c"]),
            (
                b"a\n\nb\n",
                Line,
                &["a", "! line 2 is empty; remove it or give a path", "b"],
            ),
            (
                b"a\0b\0",
                Line,
                &["! line 1 holds a NUL byte; pass -0 for a NUL-separated list"],
            ),
            (
                b"a\0\0",
                Nul,
                &["a", "! entry 2 is empty; remove it or give a path"],
            ),
        ];
        for (content, separator, expected) in cases {
            assert_eq!(read(content, separator), expected, "{content:?}");
        }
    }

    #[test]
    fn an_endless_line_stops_the_list() {
        let mut content = b"a.jpg\n".to_vec();
        content.resize(3 * LONGEST_PATH_BYTES, b'x');
        content.extend(b"\nb.jpg\n");
        let entries = read(&content, Separator::Line);
        assert_eq!(entries.len(), 2);
        assert!(
            entries[1].starts_with("! line 2 is longer than 65536 bytes"),
            "{entries:?}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_not_utf8_are_kept() {
        use std::os::unix::ffi::OsStrExt;
        let mut list = List {
            reader: BufReader::new(Box::new(&b"caf\xe9.jpg\n"[..])),
            name: PathBuf::from("list"),
            separator: Separator::Line,
            entries_read: 0,
            ended: false,
        };
        let Some(Ok(ImageSource::Path(path))) = list.next() else {
            panic!("no path");
        };
        assert_eq!(path.as_os_str().as_bytes(), b"caf\xe9.jpg");
    }
}
