//! The rows of a run in progress: `FILE.partial`, to which each row is appended as soon as it is
//! ready. However the run ends, all rows but the one being written can be read again.
//!
//! ```text
//! "LCEMBED1" frame*      frame = length u32, CRC-32 u32, payload
//! payload = 'H' header pairs as JSON | 'R' length u32, row as JSON, dim x f32 | 'F' failure as JSON
//! ```
//!
//! Numbers are little-endian. The header is the first frame.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::{About, Dtype, Entry, Line, push_values};

/// Magic bytes of a journal.
pub(crate) const MAGIC: &[u8; 8] = b"LCEMBED1";

/// Bytes before a frame's payload.
pub(crate) const FRAME_START: usize = 8;

/// First byte of a payload, its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Header = b'H' as isize,
    Row = b'R' as isize,
    Failure = b'F' as isize,
}

impl Tag {
    pub(crate) fn of(byte: u8) -> Option<Self> {
        [Self::Header, Self::Row, Self::Failure]
            .into_iter()
            .find(|tag| *tag as u8 == byte)
    }
}

/// A journal that is open for writing.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    end: u64,
}

impl Journal {
    /// Starts over in a file that [`lock`](crate::file::lock::lock) opened, discarding the journal
    /// that was in it.
    ///
    /// # Errors
    /// When it contains something other than a journal, or cannot be written.
    pub fn begin(mut file: File, path: &Path, about: &About) -> Result<Self> {
        check_own(&mut file, path)?;
        let mut journal = Self::go_on(file, path, 0)?;
        journal.write(MAGIC)?;
        let pairs: BTreeMap<_, _> = about.pairs().into_iter().collect();
        let mut payload = vec![Tag::Header as u8];
        payload.extend(serde_json::to_vec(&pairs)?);
        journal.frame(&payload)?;
        Ok(journal)
    }

    /// Continues after the first `end` bytes, which are complete frames; what follows is truncated.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn go_on(mut file: File, path: &Path, end: u64) -> Result<Self> {
        let writing = || format!("cannot write {}", path.display());
        file.set_len(end).with_context(writing)?;
        file.seek(SeekFrom::Start(end)).with_context(writing)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            end,
        })
    }

    /// Appends an entry and returns the offset of its frame. It is passed to the system when this
    /// returns: a kill does not undo it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, entry: Entry<'_>) -> Result<u64> {
        let mut payload = Vec::new();
        match entry {
            Entry::Row(row, embedding) => {
                let line = Line::of_row(row).to_bytes()?;
                payload.push(Tag::Row as u8);
                payload.extend(u32::try_from(line.len())?.to_le_bytes());
                payload.extend(line);
                push_values(&mut payload, embedding, Dtype::F32);
            }
            Entry::Failed(failure) => {
                payload.push(Tag::Failure as u8);
                payload.extend(Line::of_failure(failure).to_bytes()?);
            }
        }
        let start = self.end;
        self.frame(&payload)?;
        Ok(start)
    }

    /// The file so far, for reading.
    ///
    /// # Errors
    /// When the system has no file handle left.
    pub fn file(&self) -> Result<File> {
        Ok(self.file.try_clone()?)
    }

    fn frame(&mut self, payload: &[u8]) -> Result<()> {
        let mut frame = u32::try_from(payload.len())?.to_le_bytes().to_vec();
        frame.extend(crc32fast::hash(payload).to_le_bytes());
        frame.extend(payload);
        // One call: only a kill within it can tear a frame.
        self.write(&frame)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.end += bytes.len() as u64;
        Ok(())
    }
}

/// Fails if the file contains something other than a journal: other commands keep partial results
/// under such a name when they are stopped.
fn check_own(file: &mut File, path: &Path) -> Result<()> {
    let reading = || format!("cannot read {}", path.display());
    let mut start = Vec::new();
    file.seek(SeekFrom::Start(0)).with_context(reading)?;
    file.take(MAGIC.len() as u64)
        .read_to_end(&mut start)
        .with_context(reading)?;
    ensure!(
        MAGIC.starts_with(&start),
        "{} exists but was not left by a stopped longclip embed (perhaps it has the results of a \
         stopped classify); move it away, or choose another --output",
        path.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::testing::{about, images};
    use super::*;
    use crate::file::lock::lock;

    #[test]
    fn only_a_journal_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl.partial");
        let about = about(Kind::Images, 3);
        for (content, is_replaced) in [("", true), ("LCEM", true), ("{\"image\":\"a\"}", false)] {
            std::fs::write(&path, content).unwrap();
            let begun = Journal::begin(lock(&path).unwrap(), &path, &about);
            assert_eq!(begun.is_ok(), is_replaced, "{content}");
            let kept = std::fs::read(&path).unwrap() == content.as_bytes();
            assert_eq!(kept, !is_replaced, "{content}");
        }
    }

    #[test]
    fn entries_follow_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy.partial");
        std::fs::write(&path, [&MAGIC[..], &[7; 100_000]].concat()).unwrap();
        let mut journal =
            Journal::begin(lock(&path).unwrap(), &path, &about(Kind::Images, 3)).unwrap();
        let listed = images(3, 3);
        let mut starts = Vec::new();
        for (row, embedding) in &listed.rows {
            starts.push(journal.add(Entry::Row(row, embedding)).unwrap());
        }
        assert!(starts.is_sorted());
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.starts_with(MAGIC));
        let start = starts[2] as usize;
        let length = u32::from_le_bytes(bytes[start..start + 4].try_into().unwrap()) as usize;
        assert_eq!(start + FRAME_START + length, bytes.len());
        assert_eq!(Tag::of(bytes[start + FRAME_START]), Some(Tag::Row));
    }
}
