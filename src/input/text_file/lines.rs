//! Iterates over the lines of a file, each of a bounded length.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use serde_json::Value;

use super::column;
use super::decode::{Decoded, LoneReturn};
use super::table::Fields;

/// How much of an overlong line is skipped before the rest of the file is given up.
const LONGEST_SKIPPED: u64 = 64 << 20;
/// Longer lines are not texts or objects.
pub(crate) const LONGEST_LINE: usize = 16 << 20;

/// One line without its line end.
#[derive(Debug)]
pub(crate) struct Line {
    /// Line number, from 1.
    pub number: u64,
    /// Notes on what was guessed about the file, on its first line only.
    pub guess: Option<&'static str>,
    /// The line, or why it cannot be read.
    pub content: Result<Vec<u8>, BadLine>,
}

/// Why a line cannot be read.
#[derive(Debug)]
pub(crate) enum BadLine {
    /// Longer than the limit.
    TooLong {
        /// Its beginning.
        start: Vec<u8>,
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// The file could not be read; no more lines follow.
    Unreadable(io::Error),
}

/// A line that is not text: the reason, and its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotText {
    /// The line's number.
    pub line: u64,
    /// The reason, without the place.
    pub cause: String,
    /// How the line begins.
    pub start: String,
}

/// Reads a file line by line and never further than needed: a line is yielded as soon as its end
/// arrived, also from a pipe that stays open. An overlong line does not affect the others.
pub(crate) struct Lines {
    reader: BufReader<Input>,
    separator: u8,
    limit: usize,
    read: u64,
    ended: bool,
}

/// Source of lines.
enum Input {
    Text(Decoded<Box<dyn Read + Send>>),
    /// Split byte by byte, without decoding.
    Raw(Box<dyn Read + Send>),
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Text(reader) => reader.read(buffer),
            Self::Raw(reader) => reader.read(buffer),
        }
    }
}

impl Lines {
    /// The lines of a text in any of the encodings of [`Decoded`], of at most `limit` bytes each.
    pub(crate) fn new(reader: Box<dyn Read + Send>, lone_return: LoneReturn, limit: usize) -> Self {
        Self::over(Input::Text(Decoded::new(reader, lone_return)), b'\n', limit)
    }

    /// The lines of a text file, or of stdin for `-`, each of at most [`LONGEST_LINE`] bytes.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let reader = super::open(path)?;
        Ok(Self::new(reader, LoneReturn::EndsLine, LONGEST_LINE))
    }

    /// NUL-separated entries, byte by byte.
    pub(crate) fn separated_by_nul(reader: Box<dyn Read + Send>, limit: usize) -> Self {
        Self::over(Input::Raw(reader), 0, limit)
    }

    fn over(input: Input, separator: u8, limit: usize) -> Self {
        Self {
            reader: BufReader::new(input),
            separator,
            limit,
            read: 0,
            ended: false,
        }
    }

    /// Notes on what was guessed about the file, once a line of it was read.
    pub(crate) fn guess(&self) -> Option<&'static str> {
        match self.reader.get_ref() {
            Input::Text(decoded) => decoded.guess(),
            Input::Raw(_) => None,
        }
    }

    /// The objects of JSON Lines, by [`column::key`] of their names; blank lines are skipped.
    pub(crate) fn json_objects(self) -> impl Iterator<Item = (u64, Result<Fields>)> {
        self.filter_map(|line| {
            let number = line.number;
            match line.text() {
                Ok(text) if text.trim().is_empty() => None,
                Ok(text) => Some((number, json_object(&text))),
                Err(error) => Some((number, Err(anyhow!("the line is {}", error.cause)))),
            }
        })
    }

    /// Whether an overlong line was too long to look for its end.
    pub(crate) fn has_given_up(&self) -> bool {
        self.ended
    }

    fn read_line(&mut self) -> io::Result<Option<Result<Vec<u8>, BadLine>>> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader)
            .take(self.limit as u64 + 1)
            .read_until(self.separator, &mut bytes)?;
        if read == 0 {
            return Ok(None);
        }
        if bytes.last() == Some(&self.separator) {
            bytes.pop();
        } else if bytes.len() > self.limit {
            self.ended = !self.skip_line()?;
            bytes.truncate(64);
            let limit_bytes = self.limit;
            return Ok(Some(Err(BadLine::TooLong {
                start: bytes,
                limit_bytes,
            })));
        }
        Ok(Some(Ok(bytes)))
    }

    /// Skips the rest of a line; false if it is too long.
    fn skip_line(&mut self) -> io::Result<bool> {
        let mut skipped = 0;
        loop {
            let buffer = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                buffer => buffer?,
            };
            let end = buffer.iter().position(|byte| *byte == self.separator);
            let count = end.map_or(buffer.len(), |at| at + 1);
            self.reader.consume(count);
            skipped += count as u64;
            if end.is_some() || count == 0 {
                return Ok(true);
            }
            if skipped > LONGEST_SKIPPED {
                return Ok(false);
            }
        }
    }
}

impl Iterator for Lines {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        if self.ended {
            return None;
        }
        self.read += 1;
        let content = match self.read_line() {
            Ok(line) => line?,
            Err(error) => {
                self.ended = true;
                Err(BadLine::Unreadable(error))
            }
        };
        let guess = self.guess().filter(|_| self.read == 1);
        Some(Line {
            number: self.read,
            guess,
            content,
        })
    }
}

impl Line {
    /// A line for a text that is not from a file.
    pub(crate) fn of(number: u64, text: String) -> Self {
        Self {
            number,
            guess: None,
            content: Ok(text.into_bytes()),
        }
    }

    /// The line as text, without the carriage return of a Windows line end.
    ///
    /// # Errors
    /// When it is too long, is not UTF-8, contains a NUL, or cannot be read.
    pub(crate) fn text(self) -> Result<String, NotText> {
        let line = self.number;
        let no = |cause: &str, bytes: &[u8]| NotText {
            line,
            cause: cause.to_owned(),
            start: String::from_utf8_lossy(bytes).into_owned(),
        };
        let mut bytes = self.content.map_err(|bad| match bad {
            BadLine::TooLong { start, limit_bytes } => no(
                &format!("longer than {limit_bytes} bytes; is it the right file?"),
                &start,
            ),
            BadLine::Unreadable(error) => no(&format!("not readable: {error}"), b""),
        })?;
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        if bytes.contains(&0) {
            return Err(no("not text: it contains a NUL", &bytes));
        }
        String::from_utf8(bytes)
            .map_err(|error| no("not UTF-8; save the file as UTF-8", error.as_bytes()))
    }
}

/// One object, with its names as [`column::key`] writes them; of two equal names the first counts.
///
/// # Errors
/// When it is not JSON, or not an object.
pub(crate) fn json_object(text: &str) -> Result<Fields> {
    let value = serde_json::from_str(text)
        .map_err(|error| anyhow!("the line is not JSON: {}", json_cause(&error)))?;
    fields_of(value, "the line")
}

/// The fields of an object that is an element of JSON; `what` names it in the message.
///
/// # Errors
/// When it is not an object.
pub(crate) fn fields_of(value: Value, what: &str) -> Result<Fields> {
    match value {
        Value::Object(fields) => Ok(column::keyed(fields)),
        _ => bail!("{what} is not a JSON object"),
    }
}

/// The error in one line of JSON, without the line number, which is always 1.
pub(crate) fn json_cause(error: &serde_json::Error) -> String {
    let said = error.to_string();
    said.split(" at line ")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Refuses a text with a NUL, which labels, captions and names never contain.
///
/// # Errors
/// Names the line.
pub(crate) fn check_no_nul(text: &str) -> Result<()> {
    let Some(at) = text.find('\0') else {
        return Ok(());
    };
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    bail!("line {line} contains a NUL; save the file as text in UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &'static [u8], limit: usize) -> Lines {
        Lines::new(Box::new(bytes), LoneReturn::EndsLine, limit)
    }

    #[test]
    fn lines_have_numbers_and_errors() {
        let content = b"\xef\xbb\xbfa cat\r\n\n # b \n\xff\xfe\nx\0y\n0123456789\nlast";
        let found: Vec<_> = lines(content, 9)
            .map(|line| (line.number, line.text().map_err(|error| error.cause)))
            .collect();
        let expected = [
            Ok("a cat"),
            Ok(""),
            Ok(" # b "),
            Err("not UTF-8; save the file as UTF-8"),
            Err("not text: it contains a NUL"),
            Err("longer than 9 bytes; is it the right file?"),
            Ok("last"),
        ];
        let found: Vec<_> = found
            .iter()
            .zip(1..)
            .map(|((number, text), place)| {
                assert_eq!(*number, place);
                text.as_deref().map_err(String::as_str)
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn an_endless_line_ends_the_file() {
        let endless = Box::new(io::repeat(b'x'));
        let found: Vec<_> = Lines::new(endless, LoneReturn::EndsLine, 100).collect();
        assert!(matches!(
            found.as_slice(),
            [Line {
                number: 1,
                guess: None,
                content: Err(BadLine::TooLong { start, .. })
            }] if start.len() == 64
        ));
    }

    #[test]
    fn nul_separates_raw_bytes() {
        let reader = Lines::separated_by_nul(Box::new(&b"\xef\xbb\xbfa\nb\0\0c\r\0"[..]), 100);
        let found: Vec<_> = reader.map(|line| line.content.unwrap()).collect();
        assert_eq!(found, [&b"\xef\xbb\xbfa\nb"[..], b"", b"c\r"]);
    }

    #[test]
    fn json_lines_are_objects() {
        let content = b"{\"File_Name\": \"a\", \"filename\": 1}\n\n[1]\n{\"a\":\n{}\0\n";
        let found: Vec<_> = lines(content, 100)
            .json_objects()
            .map(|(number, object)| (number, object.map_err(|error| error.to_string())))
            .collect();
        let shown: Vec<_> = found
            .iter()
            .map(|(number, object)| match object {
                Ok(object) => format!("{number} {}", Value::Object(object.clone())),
                Err(error) => format!("{number} {error}"),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "1 {\"filename\":\"a\"}",
                "3 the line is not a JSON object",
                "4 the line is not JSON: EOF while parsing a value",
                "5 the line is not text: it contains a NUL",
            ]
        );
    }
}
