//! Texts from a file or stdin, one a line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A longer line is no text: so that a file of another kind does not end up in memory.
const LONGEST_BYTES: u64 = 16 << 20;

/// The lines of a file, as they stand but for what ends them.
pub(in crate::command) struct Lines {
    reader: Option<Box<dyn BufRead + Send>>,
    name: PathBuf,
    read: u64,
}

/// A line that is no text.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::command) struct NoText {
    file: PathBuf,
    line: u64,
    /// The line, as far as it can be shown.
    pub(in crate::command) text: String,
    pub(in crate::command) cause: String,
}

impl NoText {
    /// Where it is, for people.
    pub(in crate::command) fn place(&self) -> String {
        format!("{}, line {}", self.file.display(), self.line)
    }
}

impl Lines {
    /// Opens the file; `-` is stdin.
    pub(in crate::command) fn open(path: &Path) -> Result<Self> {
        let reader: Box<dyn BufRead + Send> = if path == Path::new("-") {
            Box::new(BufReader::new(std::io::stdin()))
        } else {
            let file = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
                // Opening a folder succeeds on some systems.
                true => Err(std::io::ErrorKind::IsADirectory.into()),
                false => Ok(file),
            });
            let file = file.with_context(|| format!("cannot read {}", path.display()))?;
            Box::new(BufReader::new(file))
        };
        Ok(Self {
            reader: Some(reader),
            name: path.to_owned(),
            read: 0,
        })
    }

    fn no_text(&mut self, bytes: &[u8], cause: String) -> NoText {
        NoText {
            file: self.name.clone(),
            line: self.read,
            text: String::from_utf8_lossy(bytes).into_owned(),
            cause,
        }
    }
}

impl Iterator for Lines {
    type Item = Result<String, NoText>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut bytes = Vec::new();
        let read = self
            .reader
            .as_mut()?
            .take(LONGEST_BYTES + 1)
            .read_until(b'\n', &mut bytes);
        self.read += 1;
        match read {
            Ok(0) => return None,
            Ok(_) => {}
            Err(cause) => {
                self.reader = None;
                return Some(Err(self.no_text(b"", cause.to_string())));
            }
        }
        if bytes.len() as u64 > LONGEST_BYTES {
            // What follows is the rest of this line.
            self.reader = None;
            let cause = format!("longer than {LONGEST_BYTES} bytes; is it the right file?");
            return Some(Err(self.no_text(&bytes[..64], cause)));
        }
        for end in *b"\n\r" {
            if bytes.last() == Some(&end) {
                bytes.pop();
            }
        }
        // A byte order mark is no part of the first text.
        if self.read == 1 && bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        Some(String::from_utf8(bytes).map_err(|error| {
            let cause = "not UTF-8; save the file as UTF-8".to_owned();
            self.no_text(error.as_bytes(), cause)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_as_they_are() {
        let content = b"\xef\xbb\xbfa cat\r\n\n # b \n\xff\xfe\nlast";
        let mut lines = Lines {
            reader: Some(Box::new(&content[..])),
            name: "f".into(),
            read: 0,
        };
        let texts: Vec<_> = lines
            .by_ref()
            .map(|line| line.map_err(|error| error.place()))
            .collect();
        let expected = [
            Ok("a cat".to_owned()),
            Ok(String::new()),
            Ok(" # b ".to_owned()),
            Err("f, line 4".to_owned()),
            Ok("last".to_owned()),
        ];
        assert_eq!(texts, expected);
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn a_file_without_lines_is_not_read_to_its_end() {
        let lines = Lines {
            reader: Some(Box::new(BufReader::new(std::io::repeat(b'x')))),
            name: "f".into(),
            read: 0,
        };
        let found: Vec<_> = lines.collect();
        assert_eq!(found.len(), 1);
        assert!(found[0].as_ref().unwrap_err().cause.contains("longer than"));
    }
}
