//! Text files as people and tools write them: the program's only reader of tables and of lines.
//!
//! Both accept UTF-8 and UTF-16, with or without a byte order mark, and the line ends of Unix,
//! Windows and old Macs. What was guessed about a file is returned as notes. The meaning of lines
//! and cells is not known here.

#![deny(clippy::indexing_slicing)]

pub(crate) mod column;
mod decode;
mod lines;
mod separator;
mod table;

use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

pub(crate) use decode::Decoded;

use crate::file;
pub(crate) use decode::LoneReturn;
pub(crate) use lines::{BadLine, LONGEST_LINE, Line, Lines, NotText};
pub(crate) use lines::{check_no_nul, fields_of, json_cause, json_object};
pub(crate) use separator::SEPARATORS;
pub(crate) use table::Row;
pub(crate) use table::{Fields, NamedRows, Table, usual_separator};

/// The name of a file in messages; `-` is stdin.
#[must_use]
pub(crate) fn shown(path: &Path) -> String {
    match path.as_os_str() == "-" {
        true => "stdin".to_owned(),
        false => path.display().to_string(),
    }
}

/// A file's extension in lower case; empty if it has none.
pub(crate) fn extension(path: &Path) -> String {
    let extension = path.extension().unwrap_or_default();
    extension.to_string_lossy().to_lowercase()
}

/// Opens a file, or stdin for `-`.
///
/// # Errors
/// When it is a folder, a pipe without a writer, or cannot be opened.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read + Send>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin()));
    }
    let file = file::open::stream(path);
    let file = file.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Box::new(file))
}

/// The whole text of a file of limited size, and notes on what was guessed about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    /// Without a byte order mark and without NULs.
    pub content: String,
    /// Without the file's name.
    pub guess: Option<&'static str>,
}

/// Reads a whole text of at most `limit_bytes`; `-` is stdin.
///
/// # Errors
/// When it cannot be read, is larger, is not UTF-8 or UTF-16, or contains a NUL; names the line.
pub(crate) fn read(path: &Path, limit_bytes: u64) -> Result<Text> {
    let shown = shown(path);
    let reading = || format!("cannot read {shown}");
    let mut decoded = Decoded::new(open(path)?, LoneReturn::EndsLine);
    let text = TextOnly {
        reader: &mut decoded,
        has_nul: false,
    };
    let bytes = file::open::bounded(text, limit_bytes).with_context(reading)?;
    let content = utf8(bytes).with_context(reading)?;
    check_no_nul(&content).with_context(reading)?;
    Ok(Text {
        content,
        guess: decoded.guess(),
    })
}

/// A reader that ends after a NUL, so that no device or other binary file is read to its limit.
struct TextOnly<R> {
    reader: R,
    has_nul: bool,
}

impl<R: Read> Read for TextOnly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.has_nul {
            return Ok(0);
        }
        let count = self.reader.read(buffer)?;
        self.has_nul = buffer.iter().take(count).any(|byte| *byte == 0);
        Ok(count)
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).or_else(|error| {
        let valid = error
            .as_bytes()
            .iter()
            .take(error.utf8_error().valid_up_to());
        let line = valid.filter(|byte| **byte == b'\n').count() + 1;
        bail!("line {line} is not UTF-8; save the file as UTF-8")
    })
}
