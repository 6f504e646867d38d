//! Journals of what was done to a user's files, for [`super::undo`]: a header and one step per
//! line, each written before it is done. What a step is, those who write it know.

#![deny(clippy::indexing_slicing)]

mod owner;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::file::open;
use owner::Seals;

/// Maximum number of journals within one second.
const MAX_PER_SECOND: usize = 1000;
/// Longer first lines are not those of a journal, in bytes.
const LONGEST_HEADER: u64 = 1 << 16;

/// The error when nothing more can be done, because it could not be reverted.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoJournal;

impl std::fmt::Display for NoJournal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("it cannot be noted for undo")
    }
}

/// A path: text if it is UTF-8, else its bytes in base64.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Name {
    Text(String),
    Bytes { base64: String },
}

impl Name {
    pub(super) fn new(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes {
                base64: STANDARD.encode(path.as_os_str().as_encoded_bytes()),
            },
        }
    }

    pub(super) fn path(self) -> Result<PathBuf> {
        match self {
            Self::Text(text) => Ok(text.into()),
            Self::Bytes { base64 } => os_string(STANDARD.decode(base64)?).map(PathBuf::from),
        }
    }
}

#[cfg(unix)]
fn os_string(bytes: Vec<u8>) -> Result<OsString> {
    use std::os::unix::ffi::OsStringExt as _;
    Ok(OsString::from_vec(bytes))
}

#[cfg(not(unix))]
fn os_string(_: Vec<u8>) -> Result<OsString> {
    anyhow::bail!("this system does not allow this name")
}

/// A journal that is being written.
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    is_synced: bool,
    /// The longest line that is read back, in bytes.
    longest: u64,
    /// `None` if the user's key cannot be kept: then `undo` asks for a confirmation.
    seals: Option<Seals>,
}

impl Journal {
    /// Creates `longclip-WHAT-TIME.jsonl` in `folder`. With `is_synced` each line is on disk before
    /// its step is done.
    pub(super) fn create(folder: &Path, what: &str, is_synced: bool, longest: u64) -> Result<Self> {
        // Before the journal is there: making the user's key takes a moment.
        let seals = Seals::make();
        let created = create(folder, what);
        let (file, path) = created
            .with_context(|| format!("cannot write the undo journal in {}", folder.display()))?;
        Ok(Self {
            file,
            path,
            is_synced,
            longest,
            seals,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the header, or one step before it is done.
    pub(super) fn line(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(line)?;
        if let Some(seals) = &mut self.seals {
            seals.seal(&mut text);
        }
        text.push(b'\n');
        ensure!(
            (text.len() as u64) < self.longest,
            "its line in the undo journal would be too long"
        );
        let written = self.file.write_all(&text).and_then(|()| {
            if self.is_synced {
                self.file.sync_data()?;
            }
            Ok(())
        });
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// What was written of a line when the run was killed.
    #[cfg(test)]
    pub(super) fn cut_short(&mut self) {
        self.file.write_all(b"{\"step\":\"fol").unwrap();
    }
}

/// `longclip-sorted-20261121T101530Z.jsonl`, with a number if that exists.
fn create(folder: &Path, what: &str) -> io::Result<(File, PathBuf)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = time(now.map_or(0, |now| now.as_secs()));
    for number in 1..=MAX_PER_SECOND {
        let number = if number == 1 {
            String::new()
        } else {
            format!("-{number}")
        };
        let path = folder.join(format!("longclip-{what}-{time}{number}.jsonl"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Seconds since 1970 as a date and time in UTC, such as `20261121T101530Z`.
fn time(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years of 365 days that start in March, so that a leap day is a year's last day.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = year + 400 * era + u64::from(month >= 10);
    let month = if month < 10 { month + 3 } else { month - 9 };
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!(
        "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{:02}Z",
        second % 60
    )
}

/// The lines of a journal. A last line without a newline was being written when the run was
/// stopped, and its step was not done.
pub(super) struct Lines {
    reader: BufReader<File>,
    seals: Option<Seals>,
    /// Whether this user wrote all lines so far, on this machine.
    pub(super) are_own: bool,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            reader: BufReader::new(open::regular(path)?.0),
            seals: Seals::find(),
            are_own: true,
        })
    }

    /// The next line, of fewer than `longest` bytes.
    pub(super) fn next(&mut self, longest: u64) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        (&mut self.reader)
            .take(longest)
            .read_until(b'\n', &mut line)?;
        if line.pop() == Some(b'\n') {
            let seals = self.seals.as_mut();
            self.are_own &= seals.is_some_and(|seals| seals.check(&line));
            return Ok(Some(line));
        }
        ensure!(
            line.len() as u64 + 1 < longest,
            "a line is longer than {longest} bytes"
        );
        Ok(None)
    }
}

/// Whether the file at `path` begins as a journal of `what`.
pub(super) fn is_of(path: &Path, what: &str) -> bool {
    #[derive(Deserialize)]
    struct Header {
        longclip: String,
    }
    let header = Lines::open(path).and_then(|mut lines| lines.next(LONGEST_HEADER));
    let header = header.ok().flatten();
    let header = header.and_then(|line| serde_json::from_slice::<Header>(&line).ok());
    header.is_some_and(|header| header.longclip == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_kept_exactly() {
        let mut paths = vec![PathBuf::from("/x/\n.jpg")];
        #[cfg(unix)]
        paths.push(os_string(b"/x/caf\xe9".to_vec()).unwrap().into());
        for path in paths {
            assert_eq!(Name::new(&path).path().unwrap(), path);
        }
    }

    #[test]
    fn a_line_that_would_not_be_read_back_is_not_written() {
        let room = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(room.path(), "test", false, 20).unwrap();
        journal.line(&"fits").unwrap();
        assert!(journal.line(&"is longer than twenty bytes").is_err());
        let mut lines = Lines::open(journal.path()).unwrap();
        assert_eq!(lines.next(20).unwrap().unwrap(), b"\"fits\"");
        assert!(!lines.are_own && lines.next(20).unwrap().is_none());
        assert!(!is_of(journal.path(), "test"));
    }

    #[test]
    fn times_are_dates() {
        for (seconds, expected) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (951_868_800, "20000301T000000Z"),
            (1_795_256_130, "20261121T101530Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(time(seconds), expected);
        }
    }
}
