//! The embedding cache: one SQLite file with embeddings of images and texts, thumbnails, and the
//! digests of unchanged files.
//!
//! Entries are keyed by content: an image's embedding by the SHA-256 of its file and by a *recipe*,
//! a text that names everything the numbers depend on (weights, arithmetic, preprocessing). A path
//! with the file's size and modification time only saves computing the digest. So a moved, copied
//! or renamed image is recognised, and a changed one is computed again.
//!
//! Several programs may use one cache at once. Data read back is validated like any foreign file:
//! each row has a checksum of all that it says and of what it is for; a row without the right one is
//! computed again.

mod row;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};

use crate::file::stamp::Stamp;
use row::{
    Row, floats, image, is_sound, sum, sum_of_file, sum_of_image, sum_of_text, sum_of_thumbnail,
};

pub(crate) use row::ImageRow;

/// Name of the file in the cache folder.
const FILE: &str = "longclip-embeddings.sqlite3";

/// Version of the table layout; a file with another version belongs to another version of longclip.
const LAYOUT: i64 = 2;
/// The layout whose rows have no checksums.
const UNCHECKED: i64 = 1;

/// Rows written in one transaction: each transaction waits for the disk.
const ROWS_PER_WRITE: usize = 256;

/// How long to wait for a lock that another program holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(20);

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS recipe (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS file (
        path BLOB PRIMARY KEY, bytes INTEGER NOT NULL, modified_ns INTEGER NOT NULL,
        content BLOB NOT NULL, crc32 INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS image (
        id INTEGER PRIMARY KEY, recipe INTEGER NOT NULL, content BLOB NOT NULL,
        width INTEGER NOT NULL, height INTEGER NOT NULL, warnings TEXT NOT NULL,
        embedding BLOB NOT NULL, crc32 INTEGER NOT NULL, UNIQUE (recipe, content));
    CREATE TABLE IF NOT EXISTS text (
        id INTEGER PRIMARY KEY, recipe INTEGER NOT NULL, content BLOB NOT NULL,
        embedding BLOB NOT NULL, crc32 INTEGER NOT NULL, UNIQUE (recipe, content));
    CREATE TABLE IF NOT EXISTS thumbnail (
        id INTEGER PRIMARY KEY, recipe INTEGER NOT NULL, content BLOB NOT NULL,
        jpeg BLOB NOT NULL, crc32 INTEGER NOT NULL, UNIQUE (recipe, content));
";

const DROP_TABLES: &str = "
    DROP TABLE IF EXISTS recipe; DROP TABLE IF EXISTS file; DROP TABLE IF EXISTS image;
    DROP TABLE IF EXISTS text; DROP TABLE IF EXISTS thumbnail;
";

/// Recipe number for a recipe that is not in the cache and cannot be added to it.
const UNKNOWN: i64 = -1;

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// A recipe in this cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    number: i64,
    /// Of its text, since a damaged number may be another recipe's.
    crc32: u32,
}

/// An open cache; several threads may call its methods at once.
pub(crate) struct Cache(Mutex<State>);

struct State {
    connection: Connection,
    waiting: Vec<Row>,
    /// Why rows were lost, the first time that happened.
    failure: Option<rusqlite::Error>,
    /// The keys of rows that are there and could not be used.
    damaged: HashSet<u32>,
    /// Whether the rows of an older layout were dropped.
    is_renewed: bool,
    /// Whether the cache is writable.
    is_writable: bool,
    /// Path of the file.
    path: PathBuf,
}

impl Cache {
    /// Opens the cache in `folder`; creates both if they do not exist.
    ///
    /// # Errors
    /// When the folder cannot be created or written, or its file is not a cache or has another
    /// version.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let opened = writable(folder, &path);
        let (connection, is_renewed, is_writable) = match opened {
            Ok((connection, is_renewed)) => (connection, is_renewed, true),
            // A read-only cache, such as another user's, is still useful.
            Err(error) => match is_read_only(&error).then(|| readable(&path)).transpose() {
                Ok(Some(connection)) => (connection, false, false),
                _ => {
                    if is_read_only(&error) {
                        probe(folder).with_context(|| cannot_use(&path))?;
                    }
                    return Err(error).with_context(|| cannot_use(&path));
                }
            },
        };
        Ok(Self(Mutex::new(State {
            connection,
            waiting: Vec::new(),
            failure: None,
            damaged: HashSet::new(),
            is_renewed,
            is_writable,
            path,
        })))
    }

    /// Whether new results are stored; a cache that cannot be written is only read.
    pub(crate) fn is_writable(&self) -> bool {
        self.state().is_writable
    }

    /// Whether the cache had rows without checksums, which are computed again.
    pub(crate) fn is_renewed(&self) -> bool {
        self.state().is_renewed
    }

    /// The number of rows that are in the cache and could not be used.
    pub(crate) fn damaged(&self) -> usize {
        self.state().damaged.len()
    }

    /// A recipe in the cache.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub(crate) fn recipe(&self, text: &str) -> Result<Recipe> {
        let state = self.state();
        let find = || {
            state
                .connection
                .prepare_cached("SELECT id FROM recipe WHERE text = ?1")?
                .query_row([text], |row| row.get(0))
                .optional()
        };
        let insert = || -> Result<i64> {
            // Look it up first: a read-only cache need not be writable.
            if let Some(id) = find()? {
                return Ok(id);
            }
            if !state.is_writable {
                return Ok(UNKNOWN);
            }
            state
                .connection
                .execute("INSERT OR IGNORE INTO recipe (text) VALUES (?1)", [text])?;
            find()?.context("written rows are lost")
        };
        Ok(Recipe {
            number: insert().with_context(|| cannot_use(&state.path))?,
            crc32: crc32fast::hash(text.as_bytes()),
        })
    }

    /// The digest of the file at `path`, if it was stored with this stamp.
    pub(crate) fn digest_of(&self, path: &Path, stamp: Stamp) -> Option<Digest> {
        let path = path_bytes(path)?;
        self.state().query(
            sum(&[b"file", &path]),
            "SELECT content, crc32 FROM file WHERE path = ?1 AND bytes = ?2 AND modified_ns = ?3",
            params![path, stamp.bytes.cast_signed(), stamp.modified_ns],
            |row| {
                let content: Digest = row.get(0)?;
                let is_whole = row.get::<_, u32>(1)? == sum_of_file(&path, stamp, &content);
                Ok(is_whole.then_some(content))
            },
        )
    }

    /// Stores the digest of the file at `path`.
    pub(crate) fn keep_digest(&self, path: &Path, stamp: Stamp, digest: Digest) {
        if let Some(path) = path_bytes(path) {
            self.state().push(Row::File(path, stamp, digest));
        }
    }

    /// The stored result for an image's content; `dim` is the length that its embedding must have.
    pub(crate) fn image(&self, recipe: Recipe, content: &Digest, dim: usize) -> Option<ImageRow> {
        self.state().query(
            sum(&[b"image", content]),
            "SELECT width, height, warnings, embedding, crc32 FROM image WHERE recipe = ?1 AND \
             content = ?2",
            params![recipe.number, content],
            |row| {
                let (size, warnings) = ([row.get(0)?, row.get(1)?], row.get_ref(2)?.as_str()?);
                let sum = sum_of_image(recipe, content, size, warnings, row.get_ref(3)?.as_blob()?);
                let found = image(row)?.filter(|found| is_sound(&found.embedding, dim));
                Ok(found.filter(|_| row.get(4) == Ok(sum)))
            },
        )
    }

    /// Stores an image's result.
    pub(crate) fn keep_image(&self, recipe: Recipe, content: Digest, row: ImageRow) {
        self.state().push(Row::Image(recipe, content, row));
    }

    /// The stored embedding of the text with this digest.
    pub(crate) fn text(&self, recipe: Recipe, content: &Digest, dim: usize) -> Option<Vec<f32>> {
        self.state().query(
            sum(&[b"text", content]),
            "SELECT embedding, crc32 FROM text WHERE recipe = ?1 AND content = ?2",
            params![recipe.number, content],
            |row| {
                let stored = row.get_ref(0)?.as_blob()?;
                let is_whole = row.get::<_, u32>(1)? == sum_of_text(recipe, content, stored);
                let embedding = floats(stored).filter(|embedding| is_sound(embedding, dim));
                Ok(embedding.filter(|_| is_whole))
            },
        )
    }

    /// Stores a text's embedding.
    pub(crate) fn keep_text(&self, recipe: Recipe, content: Digest, embedding: Vec<f32>) {
        self.state().push(Row::Text(recipe, content, embedding));
    }

    /// The stored thumbnail of an image, a small JPEG.
    pub(crate) fn thumbnail(&self, recipe: Recipe, content: &Digest) -> Option<Vec<u8>> {
        self.state().query(
            sum(&[b"thumbnail", content]),
            "SELECT jpeg, crc32 FROM thumbnail WHERE recipe = ?1 AND content = ?2",
            params![recipe.number, content],
            |row| {
                let jpeg: Vec<u8> = row.get(0)?;
                let is_whole = row.get::<_, u32>(1)? == sum_of_thumbnail(recipe, content, &jpeg);
                Ok(is_whole.then_some(jpeg))
            },
        )
    }

    /// Stores an image's thumbnail, a small JPEG.
    pub(crate) fn keep_thumbnail(&self, recipe: Recipe, content: Digest, jpeg: Vec<u8>) {
        self.state().push(Row::Thumbnail(recipe, content, jpeg));
    }

    /// Writes all pending rows.
    ///
    /// # Errors
    /// When this write, an earlier one or a read failed, so that some results were not stored. The
    /// results themselves are correct.
    pub(crate) fn flush(&self) -> Result<()> {
        let mut state = self.state();
        state.write();
        match state.failure.take() {
            Some(failure) => Err(failure).context(
                "not all results of this run were stored in the \
                                                   cache",
            ),
            None => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // Errors are reported by `flush`.
        self.state().write();
    }
}

impl State {
    /// The single row of a query; `None` if there is none, or it cannot be read or used, which is
    /// counted once per `key`.
    fn query<T>(
        &mut self,
        key: u32,
        sql: &str,
        parameters: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<Option<T>>,
    ) -> Option<T> {
        let found = self.connection.prepare_cached(sql);
        let found = found.and_then(|mut found| found.query_row(parameters, read).optional());
        match found {
            Ok(None) => None,
            Ok(Some(Some(row))) => Some(row),
            Ok(Some(None)) | Err(_) => {
                self.damaged.insert(key);
                None
            }
        }
    }

    fn push(&mut self, row: Row) {
        if !self.is_writable {
            return;
        }
        self.waiting.push(row);
        if self.waiting.len() >= ROWS_PER_WRITE {
            self.write();
        }
    }

    fn write(&mut self) {
        let rows = std::mem::take(&mut self.waiting);
        if rows.is_empty() {
            return;
        }
        if let Err(error) = insert(&mut self.connection, &rows) {
            self.failure.get_or_insert(error);
        }
    }
}

fn insert(connection: &mut Connection, rows: &[Row]) -> rusqlite::Result<()> {
    // Immediate: a transaction that began as a reader could not wait for another writer.
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for row in rows {
        let (sql, parameters) = row.statement();
        transaction
            .prepare_cached(sql)?
            .execute(rusqlite::params_from_iter(parameters))?;
    }
    transaction.commit()
}

/// Opens the file for reading and writing, and creates its tables if it has none; also returns
/// whether rows of an older layout were dropped.
fn writable(folder: &Path, path: &Path) -> Result<(Connection, bool)> {
    fs::create_dir_all(folder)?;
    // SQLite does not say why it cannot open a file.
    OpenOptions::new().create(true).append(true).open(path)?;
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Readers and a writer at once; file systems without support keep their own mode.
    let _: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    // Safe if the program is killed; rows lost in a power cut are computed again.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let found = layout(&connection)?;
    match found {
        LAYOUT => {}
        0 | UNCHECKED => {
            let begin = "BEGIN IMMEDIATE";
            let end = format!("{TABLES} PRAGMA user_version = {LAYOUT}; COMMIT");
            connection.execute_batch(begin)?;
            // Another program may have been faster.
            if layout(&connection)? == UNCHECKED {
                connection.execute_batch(DROP_TABLES)?;
            }
            connection.execute_batch(&end)?;
        }
        other => bail!("it has layout {other}, but this longclip reads layout {LAYOUT}"),
    }
    Ok((connection, found == UNCHECKED))
}

/// Fails as writing a file in `folder` does: SQLite does not say why it cannot open one, and a full
/// disk is worth a retry.
fn probe(folder: &Path) -> io::Result<()> {
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(b"x")?;
    file.sync_all()
}

/// Opens a read-only file in a folder where no file can be created.
fn readable(path: &Path) -> Result<Connection> {
    let text = path.to_str().context("its path is not UTF-8")?;
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '%' | '?' | '#' => format!("%{:02x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    // Immutable: SQLite neither looks for nor creates files next to it.
    let uri = format!("file:{escaped}?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri, flags)?;
    let layout = layout(&connection)?;
    if layout == UNCHECKED {
        // Nothing in it can be used, and nothing can be added.
        let empty = Connection::open_in_memory()?;
        empty.execute_batch(TABLES)?;
        return Ok(empty);
    }
    ensure!(layout == LAYOUT, "it has another layout");
    Ok(connection)
}

fn layout(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn is_read_only(error: &anyhow::Error) -> bool {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        return matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem);
    }
    let code = error
        .downcast_ref::<rusqlite::Error>()
        .and_then(rusqlite::Error::sqlite_error_code);
    matches!(code, Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen))
}

fn cannot_use(path: &Path) -> String {
    format!(
        "cannot use the cache {}; pass another folder to --cache, or delete the file if it is \
         damaged",
        path.display()
    )
}

/// Whether retrying may help: another program held the lock for longer than this one waits, or the
/// disk is full or failed.
#[must_use]
pub fn is_worth_retrying(error: &anyhow::Error) -> bool {
    let mut causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<rusqlite::Error>());
    causes.any(|cause| {
        let code = cause.sqlite_error_code();
        matches!(
            code,
            Some(
                ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::DiskFull
                    | ErrorCode::SystemIoFailure
            )
        )
    })
}

/// Fails unless `folder` can hold a cache; called before a model is loaded.
///
/// # Errors
/// When it is a file.
pub(crate) fn check_folder(folder: &Path) -> Result<()> {
    ensure!(
        !folder.exists() || folder.is_dir(),
        "the cache {} is a file; pass a folder",
        folder.display()
    );
    Ok(())
}

/// The key for a path: its absolute form; `None` if the working folder no longer exists.
pub(crate) fn path_bytes(path: &Path) -> Option<Vec<u8>> {
    let absolute = std::path::absolute(path).ok()?;
    Some(absolute.as_os_str().as_encoded_bytes().to_vec())
}
