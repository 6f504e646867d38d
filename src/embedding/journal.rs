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
use std::io::{BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail, ensure};

use super::{About, Dtype, Entry, Failure, Line, Row, push_values};
use crate::checkpoint::container::Bytes;

/// Magic bytes of a journal.
const MAGIC: &[u8; 8] = b"LCEMBED1";

/// Bytes before a frame's payload.
const FRAME_START: usize = 8;

/// First byte of a payload, its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Header = b'H' as isize,
    Row = b'R' as isize,
    Failure = b'F' as isize,
}

impl Tag {
    fn of(byte: u8) -> Option<Self> {
        [Self::Header, Self::Row, Self::Failure]
            .into_iter()
            .find(|tag| *tag as u8 == byte)
    }
}

/// A journal that is open for writing.
#[derive(Debug)]
pub(crate) struct Journal {
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
    pub(crate) fn begin(mut file: File, path: &Path, about: &About) -> Result<Self> {
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
    pub(crate) fn go_on(mut file: File, path: &Path, end: u64) -> Result<Self> {
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
    pub(crate) fn add(&mut self, entry: Entry<'_>) -> Result<u64> {
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
    pub(crate) fn file(&self) -> Result<File> {
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

/// Longer frames are invalid: a row has a name and at most 2^16 numbers.
const LONGEST_FRAME: usize = 64 << 20;

/// The readable part of a journal.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Settings of the run that wrote it.
    pub about: About,
    /// Bytes up to the end of the last complete frame.
    pub end: u64,
    /// Bytes after it, left behind by a killed run.
    pub torn: u64,
}

/// Reads the journal from its start and passes each row with the position of its frame to `take`.
/// `None` if not even its header was written.
///
/// # Errors
/// When the file is not a journal, or cannot be read.
pub(crate) fn scan(file: &File, mut take: impl FnMut(u64, Row)) -> Result<Option<Scan>> {
    let length = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut magic = Vec::new();
    (&mut reader)
        .take(MAGIC.len() as u64)
        .read_to_end(&mut magic)?;
    ensure!(
        MAGIC.starts_with(&magic),
        "it is not a journal of longclip embed"
    );
    let mut end = magic.len() as u64;
    let mut about = None;
    while let Some(payload) = next_frame(&mut reader)? {
        let (tag, content) = tagged(&payload);
        match (tag, &about) {
            (Some(Tag::Header), None) => about = Some(read_about(content)?),
            (Some(Tag::Row), Some(about)) => take(end, read_row(&payload, about)?.0),
            (Some(Tag::Failure), Some(_)) => {}
            _ => bail!("it was written by a newer longclip; finish the run with that version"),
        }
        end += (FRAME_START + payload.len()) as u64;
    }
    let torn = length.saturating_sub(end);
    Ok(about.map(|about| Scan { about, end, torn }))
}

/// The next payload; `None` at the end of the file or if the rest is not a complete frame.
fn next_frame(reader: &mut impl std::io::Read) -> Result<Option<Vec<u8>>> {
    let mut start = Vec::new();
    reader.take(FRAME_START as u64).read_to_end(&mut start)?;
    let Some((length, crc32)) = frame_start(&start) else {
        return Ok(None);
    };
    let mut payload = Vec::new();
    reader.take(length as u64).read_to_end(&mut payload)?;
    let whole = payload.len() == length && crc32fast::hash(&payload) == crc32;
    Ok(whole.then_some(payload))
}

/// The type of a payload, and what follows.
fn tagged(payload: &[u8]) -> (Option<Tag>, &[u8]) {
    match payload.split_first() {
        Some((tag, content)) => (Tag::of(*tag), content),
        None => (None, &[]),
    }
}

/// Length and checksum of a frame. No payload is empty: eight zero bytes are not a frame.
fn frame_start(bytes: &[u8]) -> Option<(usize, u32)> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    let crc32 = u32::from_le_bytes(*rest.first_chunk()?);
    (1..=LONGEST_FRAME)
        .contains(&length)
        .then_some((length, crc32))
}

fn read_about(json: &[u8]) -> Result<About> {
    let pairs: BTreeMap<String, String> =
        serde_json::from_slice(json).context("its header is damaged")?;
    About::from_pairs(|key| pairs.get(key).cloned())
}

/// The row of a payload, and the range of its numbers.
fn read_row(payload: &[u8], about: &About) -> Result<(Row, Range<usize>)> {
    let read = || {
        let length = u32::from_le_bytes(*payload.get(1..)?.first_chunk()?) as usize;
        let start = 5usize.checked_add(length)?;
        let line = payload.get(5..start)?;
        (payload.len() - start == about.dim * 4).then_some((line, start..payload.len()))
    };
    let (line, numbers) = read().context("one of its rows is damaged")?;
    Ok((Line::from_bytes(line)?.row()?, numbers))
}

/// The entries of a journal, by the positions of their frames.
pub(crate) struct Entries {
    bytes: Bytes,
    about: About,
    /// Start of the part of the map that is held in memory.
    held: AtomicUsize,
}

/// How much of a journal is held in memory during a sequential read.
const HELD_BYTES: usize = 16 << 20;

/// One entry.
#[derive(Debug, PartialEq)]
pub(crate) enum OwnedEntry {
    /// A row and its embedding `[dim]`.
    Row(Row, Vec<f32>),
    /// An input without an embedding.
    Failed(Failure),
}

impl Entries {
    /// Maps all that the file holds now.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub(crate) fn open(file: &File, about: &About) -> Result<Self> {
        Ok(Self {
            bytes: Bytes::map(file, file.metadata()?.len())?,
            about: about.clone(),
            held: AtomicUsize::new(0),
        })
    }

    /// Releases what was read, so that the journal does not fill memory.
    fn release(&self, place: usize) {
        let held = self.held.load(Ordering::Relaxed);
        if place < held {
            self.held.store(place, Ordering::Relaxed);
        } else if place - held > HELD_BYTES {
            self.bytes.release(held..place);
            self.held.store(place, Ordering::Relaxed);
        }
    }

    /// The entry of the frame at `place`.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn get(&self, place: u64) -> Result<OwnedEntry> {
        let frame = || {
            let rest = self.bytes.get(usize::try_from(place).ok()?..)?;
            let (length, crc32) = frame_start(rest)?;
            let payload = rest.get(FRAME_START..FRAME_START + length)?;
            (crc32fast::hash(payload) == crc32).then_some(payload)
        };
        let payload = frame().context("the journal was changed by another program")?;
        self.release(usize::try_from(place)?);
        let (tag, content) = tagged(payload);
        match tag {
            Some(Tag::Row) => {
                let (row, numbers) = read_row(payload, &self.about)?;
                let numbers = payload
                    .get(numbers)
                    .unwrap_or_default()
                    .as_chunks()
                    .0
                    .iter();
                Ok(OwnedEntry::Row(
                    row,
                    numbers.map(|b| f32::from_le_bytes(*b)).collect(),
                ))
            }
            Some(Tag::Failure) => Ok(OwnedEntry::Failed(Line::from_bytes(content)?.failure()?)),
            _ => bail!("the journal has no entry at {place}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::testing::{about, images};
    use super::*;
    use crate::file::lock::lock;
    use crate::output::{FailureKind, Given, Name};

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

    #[test]
    fn every_row_before_the_cut_survives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy.partial");
        let about = about(Kind::Images, 6);
        let mut journal = Journal::begin(lock(&path).unwrap(), &path, &about).unwrap();
        let listed = images(5, 6);
        let mut ends = vec![journal.file().unwrap().metadata().unwrap().len()];
        for (row, embedding) in &listed.rows {
            journal.add(Entry::Row(row, embedding)).unwrap();
            ends.push(journal.file().unwrap().metadata().unwrap().len());
        }
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..=whole.len() {
            // What follows the cut may also be zeros: blocks that never reached the disk.
            for zeros in [0, 1, 8, 20] {
                let mut bytes = whole[..length].to_vec();
                bytes.extend(vec![0; zeros]);
                std::fs::write(&path, bytes).unwrap();
                let mut rows = Vec::new();
                let file = File::open(&path).unwrap();
                let found = scan(&file, |place, row| rows.push((place, row)));
                if length < MAGIC.len() && zeros > 0 {
                    assert!(found.is_err());
                    continue;
                }
                let found = found.unwrap();
                let count = ends.iter().filter(|end| **end <= length as u64).count();
                assert_eq!(found.is_some(), count > 0, "{length}");
                let Some(found) = found else { continue };
                assert_eq!(found.end, ends[count - 1]);
                assert_eq!(found.torn, (length + zeros) as u64 - found.end);
                assert_eq!(found.about, about);
                assert_eq!(rows.len(), count - 1);
                let entries = Entries::open(&file, &about).unwrap();
                for ((place, row), (expected, embedding)) in rows.iter().zip(&listed.rows) {
                    assert_eq!(row, expected);
                    let expected = OwnedEntry::Row(expected.clone(), embedding.clone());
                    assert_eq!(entries.get(*place).unwrap(), expected);
                    assert!(entries.get(place + 1).is_err());
                }
            }
        }
    }

    #[test]
    fn a_run_resumes_after_the_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy.partial");
        let about = about(Kind::Images, 6);
        let listed = images(2, 6);
        let mut journal = Journal::begin(lock(&path).unwrap(), &path, &about).unwrap();
        let [first, second] = [0, 1].map(|index| &listed.rows[index]);
        journal.add(Entry::Row(&first.0, &first.1)).unwrap();
        let torn = journal.add(Entry::Row(&second.0, &second.1)).unwrap();
        drop(journal);
        let file = lock(&path).unwrap();
        file.set_len(torn + 20).unwrap();
        let found = scan(&file, |_, _| {}).unwrap().unwrap();
        assert_eq!((found.end, found.torn), (torn, 20));
        let mut journal = Journal::go_on(file, &path, found.end).unwrap();
        let failure = Failure {
            kind: Some(FailureKind::Limit),
            given: Some(Given::parse("{\"id\":1e400}").unwrap()),
            name: Name::Text("x".to_owned()),
            error: "y".to_owned(),
        };
        let place = journal.add(Entry::Failed(&failure)).unwrap();
        assert_eq!(place, torn);
        let entries = Entries::open(&journal.file().unwrap(), &about).unwrap();
        assert_eq!(entries.get(place).unwrap(), OwnedEntry::Failed(failure));
    }

    #[test]
    fn files_that_are_not_a_journal_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.partial");
        for content in [&b"{\"image\""[..], b"\x93NUMPY\x01\x00", b"LCEMBED2"] {
            std::fs::write(&path, content).unwrap();
            assert!(scan(&File::open(&path).unwrap(), |_, _| {}).is_err());
        }
        std::fs::write(&path, b"").unwrap();
        assert!(
            scan(&File::open(&path).unwrap(), |_, _| {})
                .unwrap()
                .is_none()
        );
    }
}
