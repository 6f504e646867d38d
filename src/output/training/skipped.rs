//! `skipped.jsonl`: what of the data was not trained on, and why.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// One thing that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Where it is: a file and a line, or a picture.
    pub place: String,
    /// Why.
    pub cause: String,
    /// The step that wanted it; none if it was found before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
}

/// The file, made when there is something to write.
pub struct Skips {
    path: PathBuf,
    file: Option<File>,
    known: HashSet<String>,
    /// Those that a step wanted.
    failed: usize,
}

impl Skips {
    /// Goes on with the file at `path` if there is one, so that nothing is told twice.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn go_on(path: &Path) -> Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
            read => read.unwrap_or_default(),
        };
        let lines = text.lines().map(serde_json::from_str::<Skipped>);
        let known: Vec<Skipped> = lines.filter_map(Result::ok).collect();
        Ok(Self {
            path: path.to_owned(),
            file: None,
            failed: known.iter().filter(|one| one.step.is_some()).count(),
            known: known.into_iter().map(|one| one.place).collect(),
        })
    }

    /// Adds one, unless it is known; whether it was not.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn add(&mut self, skipped: &Skipped) -> Result<bool> {
        if !self.known.insert(skipped.place.clone()) {
            return Ok(false);
        }
        let writing = || format!("cannot write {}", self.path.display());
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let mut options = OpenOptions::new();
                let file = options.append(true).create(true).open(&self.path);
                none.insert(file.with_context(writing)?)
            }
        };
        let mut line = serde_json::to_vec(skipped)?;
        line.push(b'\n');
        file.write_all(&line).with_context(writing)?;
        self.failed += usize::from(skipped.step.is_some());
        Ok(true)
    }

    /// Pictures that were wanted by a step and could not be decoded.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// Everything that was left out.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_twice() {
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
        let mut skips = Skips::go_on(&path).unwrap();
        assert_eq!((skips.failed(), skips.count()), (1, 2));
        assert!(!skips.add(&skipped("a:1", None)).unwrap());
        assert!(skips.add(&skipped("c.jpg", Some(7))).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
        assert_eq!(skips.failed(), 2);
    }
}
