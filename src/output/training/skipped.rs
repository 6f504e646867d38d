//! `skipped.jsonl`: data that were not used for training, and why.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// A skipped entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Where it is: a file and a line, or an image.
    pub place: String,
    /// Why.
    pub cause: String,
    /// The step that needed it; `None` if it was found before the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
}

/// The file, created with the first entry.
pub struct Skips {
    path: PathBuf,
    file: Option<File>,
    known: HashSet<String>,
    /// Those that a step needed.
    failed: usize,
}

impl Skips {
    /// Resumes the file at `path` if it exists, so that nothing is reported twice.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn go_on(path: &Path) -> Result<Self> {
        let (file, known) =
            whole_lines(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            failed: known.iter().filter(|one| one.step.is_some()).count(),
            known: known.into_iter().map(|one| one.place).collect(),
        })
    }

    /// Adds an entry, unless it is known; returns whether it is new.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, skipped: &Skipped) -> Result<bool> {
        if !self.known.insert(skipped.place.clone()) {
            return Ok(false);
        }
        let writing = || format!("cannot write {}", self.path.display());
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = options().create(true).open(&self.path);
                none.insert(file.with_context(writing)?)
            }
        };
        let mut line = serde_json::to_vec(skipped)?;
        line.push(b'\n');
        file.write_all(&line).with_context(writing)?;
        self.failed += usize::from(skipped.step.is_some());
        Ok(true)
    }

    /// Images that a step needed and that could not be decoded.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// All skipped entries.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.len()
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    options
}

/// The file and its entries; an incomplete last line is removed, so that the next one does not
/// continue it.
fn whole_lines(path: &Path) -> io::Result<(Option<File>, Vec<Skipped>)> {
    let mut file = match options().open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, Vec::new())),
        opened => opened?,
    };
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let whole = text
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1);
    if whole < text.len() {
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
    }
    let lines = text[..whole].split(|&byte| byte == b'\n');
    let known = lines.filter_map(|line| serde_json::from_slice(line).ok());
    Ok((Some(file), known.collect()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn nothing_is_reported_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("skipped.jsonl");
        let skipped = |place: &str, step| Skipped {
            place: place.to_owned(),
            cause: "is empty".to_owned(),
            step,
        };
        let mut skips = Skips::go_on(&path).unwrap();
        assert!(!path.exists());
        assert!(skips.add(&skipped("a:1", None)).unwrap());
        assert!(skips.add(&skipped("b.jpg", Some(3))).unwrap());
        assert!(!skips.add(&skipped("b.jpg", Some(5))).unwrap());
        let skips = Skips::go_on(&path).unwrap();
        assert_eq!((skips.failed(), skips.count()), (1, 2));
        // Cut short by a crash.
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], b"{\"place\":\"d.j"].concat()).unwrap();
        let mut skips = Skips::go_on(&path).unwrap();
        assert_eq!((skips.failed(), skips.count()), (1, 2));
        assert!(!skips.add(&skipped("a:1", None)).unwrap());
        assert!(skips.add(&skipped("c.jpg", Some(7))).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
        assert_eq!(skips.failed(), 2);
        let again = Skips::go_on(&path).unwrap();
        assert_eq!((again.failed(), again.count()), (2, 3));
    }
}
