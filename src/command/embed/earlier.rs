//! What earlier runs computed: the rows of the existing file and of its journal.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::embedding::journal::{Entries, OwnedEntry};
use crate::embedding::{self, About, EmbeddingFile, Item, NoRows, Row, journal, journal_of};
use crate::file::atomic::finish_writing;
use crate::file::stamp::Stamp;
use crate::run::Console;
use crate::run::pipeline::{Content, Known, Memory, Place};

/// Where a row is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoredAt {
    /// In the journal, at this byte offset.
    Journal(u64),
    /// In the file, at this row.
    File(u64),
}

/// Half of the digest of a row's source, which is enough to avoid collisions.
type Key = [u8; 16];

/// Rows by their source.
pub(super) struct Earlier {
    places: HashMap<Key, StoredAt>,
    journal: Option<(Entries, u64)>,
    file: Option<Box<dyn EmbeddingFile>>,
}

impl Earlier {
    /// Reads the file at `path` and its journal.
    ///
    /// # Errors
    /// When one of them was made with another model or other settings, or is not such a file.
    pub(super) fn find(
        path: &Path,
        journal: &File,
        about: &About,
        console: &Console,
    ) -> Result<Self> {
        let mut earlier = Self {
            places: HashMap::new(),
            journal: None,
            file: None,
        };
        let journal_path = journal_of(path);
        let cannot = || format!("cannot resume with {}", journal_path.display());
        let mut rows = Vec::new();
        let found = journal::scan(journal, |at, row| {
            rows.extend(key(&row).map(|key| (key, at)))
        })
        .with_context(cannot)?;
        if let Some(found) = &found {
            check(about, &found.about, &journal_path)?;
            if found.torn > 0 {
                console.detail(&format!(
                    "{} ends in {} bytes of an incomplete row, which are dropped",
                    journal_path.display(),
                    found.torn
                ));
            }
            earlier.journal = Some((Entries::open(journal, about)?, found.end));
        }
        earlier.find_file(path, about, console)?;
        // The journal is newer than the file.
        let rows = rows
            .into_iter()
            .map(|(key, at)| (key, StoredAt::Journal(at)));
        earlier.places.extend(rows);
        console.detail(&format!(
            "found {} rows of earlier runs",
            earlier.places.len()
        ));
        Ok(earlier)
    }

    fn find_file(&mut self, path: &Path, about: &About, console: &Console) -> Result<()> {
        if !path.exists() {
            return Ok(());
        }
        let read = match read(path) {
            // A run was killed between its last two renames. Rows that it kept from the old file
            // are only in the new one, not in the journal.
            Err(_) if embedding::awaits_numbers(path) => {
                finish_writing(path)?;
                console.note(&format!(
                    "completed {}, which a killed run left without its numbers",
                    path.display()
                ));
                read(path)
            }
            read => read,
        };
        let (file, places) = match read {
            Ok(read) => read,
            Err(error) if error.chain().any(|cause| cause.is::<NoRows>()) => return Ok(()),
            // The file is unusable, but the journal has rows of the stopped run.
            Err(error) if self.journal.is_some() => {
                console.warn(&format!("{error:#}; its rows are computed again"));
                return Ok(());
            }
            Err(error) => {
                return Err(error.context(format!("cannot resume with {}", path.display())));
            }
        };
        check(about, file.about(), path)?;
        self.places.extend(places);
        self.file = Some(file);
        Ok(())
    }

    /// Where the complete part of the journal ends, if there is one.
    pub(super) fn journal_end(&self) -> Option<u64> {
        self.journal.as_ref().map(|(_, end)| *end)
    }

    /// The row at `place`.
    pub(super) fn get(&self, place: StoredAt) -> Result<(Row, Vec<f32>)> {
        match place {
            StoredAt::Journal(at) => {
                let (entries, _) = self.journal.as_ref().context("there is no journal")?;
                match entries.get(at)? {
                    OwnedEntry::Row(row, embedding) => Ok((row, embedding)),
                    OwnedEntry::Failed(_) => bail!("the journal has no row at {at}"),
                }
            }
            StoredAt::File(index) => {
                let file = self.file.as_ref().context("there is no file")?;
                let index = usize::try_from(index)?;
                let mut embedding = Vec::new();
                file.vectors(index..index + 1, &mut embedding)?;
                Ok((file.row(index)?, embedding))
            }
        }
    }

    /// Where the row of a text is stored.
    pub(super) fn of_text(&self, text: &str) -> Option<StoredAt> {
        self.places.get(&text_key(text)).copied()
    }

    /// Where the row of a file, if unchanged, is stored.
    fn of_file(&self, path: &[u8], stamp: Stamp) -> Option<StoredAt> {
        self.places.get(&image_key(path, stamp)).copied()
    }

    /// Where this exact row is stored.
    pub(super) fn of_row(&self, row: &Row, embedding: &[f32]) -> Option<StoredAt> {
        let place = *self.places.get(&key(row)?)?;
        let (known, values) = self.get(place).ok()?;
        (known == *row && values == embedding).then_some(place)
    }
}

/// A file, and where its rows are stored.
type Read = (Box<dyn EmbeddingFile>, HashMap<Key, StoredAt>);

/// Opens the file at `path` and reads the sources of all rows.
fn read(path: &Path) -> Result<Read> {
    let file = embedding::open(path)?;
    let mut places = HashMap::new();
    for index in 0..file.rows() {
        if let Some(key) = key(&file.row(index)?) {
            places.insert(key, StoredAt::File(index as u64));
        }
    }
    Ok((file, places))
}

/// Fails if rows of `found` do not belong into a file of `about`.
fn check(about: &About, found: &About, path: &Path) -> Result<()> {
    if let Some(difference) = found.difference(about) {
        bail!(
            "cannot resume: {} was made with other settings ({difference}); use the same settings, \
             or drop --resume to start over",
            path.display()
        );
    }
    Ok(())
}

/// `None` for an image from stdin, which cannot be recognised.
fn key(row: &Row) -> Option<Key> {
    match &row.item {
        Item::Text(text) => Some(text_key(text)),
        Item::Image { name, stamp, .. } => {
            let path = name.bytes.as_deref().unwrap_or(name.text.as_bytes());
            stamp.map(|stamp| image_key(path, stamp))
        }
    }
}

fn text_key(text: &str) -> Key {
    half(Sha256::new_with_prefix("text").chain_update(text))
}

fn image_key(path: &[u8], stamp: Stamp) -> Key {
    let hash = Sha256::new_with_prefix("file")
        .chain_update(stamp.bytes.to_le_bytes())
        .chain_update(stamp.modified_ns.to_le_bytes());
    half(hash.chain_update(path))
}

fn half(hash: Sha256) -> Key {
    let digest: [u8; 32] = hash.finalize().into();
    let (half, _) = digest.split_at(16);
    let mut key = Key::default();
    key.copy_from_slice(half);
    key
}

/// Rows of earlier runs, which take precedence over the cache.
pub(super) struct Resumed {
    pub(super) earlier: Arc<Earlier>,
    pub(super) cache: Option<Arc<dyn Memory>>,
}

impl Memory for Resumed {
    fn of_file(&self, place: Place<'_>) -> Option<Known> {
        let path = place.path.as_os_str().as_encoded_bytes();
        let row = self.earlier.of_file(path, place.stamp);
        // A row that cannot be read is computed again.
        let row = row.and_then(|row| self.earlier.get(row).ok());
        if let Some((row, embedding)) = row
            && let Item::Image { width, height, .. } = row.item
        {
            return Some(Known {
                embedding,
                size: (width as usize, height as usize),
                warnings: row.warnings,
                thumbnail: None,
            });
        }
        self.cache.as_ref()?.of_file(place)
    }

    fn digest(&self, bytes: &[u8]) -> Option<Content> {
        self.cache.as_ref()?.digest(bytes)
    }

    fn of_content(&self, content: &Content, place: Option<Place<'_>>) -> Option<Known> {
        self.cache.as_ref()?.of_content(content, place)
    }

    fn keep(&self, content: &Content, place: Option<Place<'_>>, known: &Known) {
        if let Some(cache) = &self.cache {
            cache.keep(content, place, known);
        }
    }
}
