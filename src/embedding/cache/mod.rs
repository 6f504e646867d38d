//! What earlier runs computed, kept in one SQLite file: embeddings of images and texts, thumbnails,
//! and the digests of files that have not changed.
//!
//! Everything hangs on content: an image's embedding on the SHA-256 of its file and on a *recipe*, a
//! text that names all that the number depends on (weights, arithmetic, preprocessing). A path with
//! the file's size and time of change is only a short way to the digest. So a moved, copied or
//! renamed image is known again, and a changed one is not taken for the old.
//!
//! Several programs may use one cache at once. What is read back is checked as anybody's file would
//! be: lengths, finite numbers, unit length.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};

use crate::file::stamp::Stamp;

/// The file in the cache's folder.
const FILE: &str = "longclip-embeddings.sqlite3";

/// The layout of the tables; another one is another program's.
const LAYOUT: i64 = 1;

/// Rows that are written together: each transaction waits for the disk.
const ROWS_A_WRITE: usize = 256;

/// How long to wait for another program that writes.
const PATIENCE: Duration = Duration::from_secs(20);

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS recipe (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS file (
        path BLOB PRIMARY KEY, bytes INTEGER NOT NULL, modified_ns INTEGER NOT NULL,
        content BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS image (
        id INTEGER PRIMARY KEY, recipe INTEGER NOT NULL, content BLOB NOT NULL,
        width INTEGER NOT NULL, height INTEGER NOT NULL, warnings TEXT NOT NULL,
        embedding BLOB NOT NULL, UNIQUE (recipe, content));
    CREATE TABLE IF NOT EXISTS text (
        id INTEGER PRIMARY KEY, recipe INTEGER NOT NULL, content BLOB NOT NULL,
        embedding BLOB NOT NULL, UNIQUE (recipe, content));
    CREATE TABLE IF NOT EXISTS thumbnail (
        id INTEGER PRIMARY KEY, recipe INTEGER NOT NULL, content BLOB NOT NULL,
        jpeg BLOB NOT NULL, UNIQUE (recipe, content));
";

/// The number of a recipe that a cache does not know and cannot take up.
const UNKNOWN: i64 = -1;

/// A SHA-256.
pub type Digest = [u8; 32];

/// The number of a recipe in this cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe(i64);

/// A cache that is open; all methods may be called by several threads at once.
pub struct Cache(Mutex<State>);

struct State {
    connection: Connection,
    waiting: Vec<Row>,
    /// Why rows were lost, the first time that happened.
    failure: Option<rusqlite::Error>,
    /// Whether anything can be kept.
    is_writable: bool,
    /// The file.
    path: PathBuf,
}

/// Something to be written.
enum Row {
    File(Vec<u8>, Stamp, Digest),
    Image(Recipe, Digest, ImageRow),
    Text(Recipe, Digest, Vec<f32>),
    Thumbnail(Recipe, Digest, Vec<u8>),
}

impl Cache {
    /// Opens the cache in `folder`, making both if they are not there.
    ///
    /// # Errors
    /// When the folder cannot be made or written, or its file is no cache or one of another version.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let opened = writable(folder, &path);
        let (connection, is_writable) = match opened {
            Ok(connection) => (connection, true),
            // Somebody else's cache: what it knows is of use all the same.
            Err(error) => match is_read_only(&error).then(|| readable(&path)).transpose() {
                Ok(Some(connection)) => (connection, false),
                _ => return Err(error).with_context(|| cannot_use(&path)),
            },
        };
        Ok(Self(Mutex::new(State {
            connection,
            waiting: Vec::new(),
            failure: None,
            is_writable,
            path,
        })))
    }

    /// Whether new things are kept; one that cannot be written is only read.
    pub fn is_writable(&self) -> bool {
        self.state().is_writable
    }

    /// The number of a recipe.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn recipe(&self, text: &str) -> Result<Recipe> {
        let state = self.state();
        let find = || {
            state
                .connection
                .prepare_cached("SELECT id FROM recipe WHERE text = ?1")?
                .query_row([text], |row| row.get(0))
                .optional()
        };
        let insert = || -> Result<i64> {
            // Looked for first: a cache that is only read need not be writable.
            if let Some(id) = find()? {
                return Ok(id);
            }
            if !state.is_writable {
                return Ok(UNKNOWN);
            }
            state
                .connection
                .execute("INSERT OR IGNORE INTO recipe (text) VALUES (?1)", [text])?;
            find()?.context("it loses what is written to it")
        };
        Ok(Recipe(insert().with_context(|| cannot_use(&state.path))?))
    }

    /// The digest of the file at `path`, if it was read with this stamp.
    pub fn digest_of(&self, path: &Path, stamp: Stamp) -> Option<Digest> {
        let state = self.state();
        state.query(
            "SELECT content FROM file WHERE path = ?1 AND bytes = ?2 AND modified_ns = ?3",
            params![
                path_bytes(path)?,
                stamp.bytes.cast_signed(),
                stamp.modified_ns
            ],
            |row| row.get::<_, Digest>(0),
        )
    }

    /// Remembers the digest of the file at `path`.
    pub fn keep_digest(&self, path: &Path, stamp: Stamp, digest: Digest) {
        if let Some(path) = path_bytes(path) {
            self.state().push(Row::File(path, stamp, digest));
        }
    }

    /// What is known of an image's content; `dim` is the length that its embedding must have.
    pub fn image(&self, recipe: Recipe, content: &Digest, dim: usize) -> Option<ImageRow> {
        let row = self.state().query(
            "SELECT width, height, warnings, embedding FROM image WHERE recipe = ?1 AND content = ?2",
            params![recipe.0, content],
            image,
        )??;
        (row.embedding.len() == dim && is_unit_length(&row.embedding)).then_some(row)
    }

    /// Remembers an image.
    pub fn keep_image(&self, recipe: Recipe, content: Digest, row: ImageRow) {
        self.state().push(Row::Image(recipe, content, row));
    }

    /// The embedding of the text with this digest.
    pub fn text(&self, recipe: Recipe, content: &Digest, dim: usize) -> Option<Vec<f32>> {
        let embedding = self.state().query(
            "SELECT embedding FROM text WHERE recipe = ?1 AND content = ?2",
            params![recipe.0, content],
            |row| Ok(floats(row.get_ref(0)?.as_blob()?)),
        )??;
        (embedding.len() == dim && is_unit_length(&embedding)).then_some(embedding)
    }

    /// Remembers a text.
    pub fn keep_text(&self, recipe: Recipe, content: Digest, embedding: Vec<f32>) {
        self.state().push(Row::Text(recipe, content, embedding));
    }

    /// A small JPEG of the image.
    pub fn thumbnail(&self, recipe: Recipe, content: &Digest) -> Option<Vec<u8>> {
        self.state().query(
            "SELECT jpeg FROM thumbnail WHERE recipe = ?1 AND content = ?2",
            params![recipe.0, content],
            |row| row.get(0),
        )
    }

    /// Remembers a small JPEG of the image.
    pub fn keep_thumbnail(&self, recipe: Recipe, content: Digest, jpeg: Vec<u8>) {
        self.state().push(Row::Thumbnail(recipe, content, jpeg));
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// When this or an earlier write failed, or a read: some results were not kept. They were right
    /// all the same.
    pub fn flush(&self) -> Result<()> {
        let mut state = self.state();
        state.write();
        match state.failure.take() {
            Some(failure) => Err(failure).context("the cache does not hold everything of this run"),
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
        // Whoever wants to know calls `flush`.
        self.state().write();
    }
}

impl State {
    /// The one row of a query; none if there is none or it cannot be read.
    fn query<T>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Option<T> {
        let mut statement = self.connection.prepare_cached(sql).ok()?;
        statement.query_row(parameters, read).ok()
    }

    fn push(&mut self, row: Row) {
        if !self.is_writable {
            return;
        }
        self.waiting.push(row);
        if self.waiting.len() >= ROWS_A_WRITE {
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

impl Row {
    fn statement(&self) -> (&'static str, Vec<rusqlite::types::Value>) {
        let blob = |bytes: &[u8]| rusqlite::types::Value::Blob(bytes.to_vec());
        match self {
            Self::File(path, stamp, content) => (
                "INSERT OR REPLACE INTO file (path, bytes, modified_ns, content) VALUES (?1, ?2, ?3, ?4)",
                vec![
                    blob(path),
                    stamp.bytes.cast_signed().into(),
                    stamp.modified_ns.into(),
                    blob(content),
                ],
            ),
            Self::Image(recipe, content, row) => (
                "INSERT OR REPLACE INTO image (recipe, content, width, height, warnings, embedding) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                vec![
                    recipe.0.into(),
                    blob(content),
                    (row.size.0 as i64).into(),
                    (row.size.1 as i64).into(),
                    lines(&row.warnings).into(),
                    blob(&bytes(&row.embedding)),
                ],
            ),
            Self::Text(recipe, content, embedding) => (
                "INSERT OR REPLACE INTO text (recipe, content, embedding) VALUES (?1, ?2, ?3)",
                vec![recipe.0.into(), blob(content), blob(&bytes(embedding))],
            ),
            Self::Thumbnail(recipe, content, jpeg) => (
                "INSERT OR REPLACE INTO thumbnail (recipe, content, jpeg) VALUES (?1, ?2, ?3)",
                vec![recipe.0.into(), blob(content), blob(jpeg)],
            ),
        }
    }
}

/// Opens the file for reading and writing, and makes its tables if it has none.
fn writable(folder: &Path, path: &Path) -> Result<Connection> {
    fs::create_dir_all(folder)?;
    let connection = Connection::open(path)?;
    connection.busy_timeout(PATIENCE)?;
    // Readers and a writer at once; a file system that cannot do it keeps its own mode.
    let _: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    // Safe against a killed program; a lost second before a power cut is computed again.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    match layout(&connection)? {
        0 => {
            connection.execute_batch(TABLES)?;
            connection.pragma_update(None, "user_version", LAYOUT)?;
        }
        LAYOUT => {}
        other => bail!("it has layout {other}, this longclip reads {LAYOUT}"),
    }
    Ok(connection)
}

/// Opens a file that nobody may write, in a folder where nothing can be made.
fn readable(path: &Path) -> Result<Connection> {
    let text = path.to_str().context("its path is not UTF-8")?;
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '%' | '?' | '#' => format!("%{:02x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    // Immutable: nothing beside the file is looked for or made.
    let uri = format!("file:{escaped}?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri, flags)?;
    ensure!(layout(&connection)? == LAYOUT, "it has another layout");
    Ok(connection)
}

fn layout(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn is_read_only(error: &anyhow::Error) -> bool {
    let code = error
        .downcast_ref::<rusqlite::Error>()
        .and_then(rusqlite::Error::sqlite_error_code);
    matches!(code, Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen))
}

fn cannot_use(path: &Path) -> String {
    format!(
        "cannot use the cache {}; name another folder with --cache, or, if the file is damaged, delete it",
        path.display()
    )
}

/// Whether another try may help: another program writes for longer than this one waits, or the disk
/// is full.
#[must_use]
pub fn is_worth_retrying(error: &anyhow::Error) -> bool {
    let mut causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<rusqlite::Error>());
    causes.any(|cause| {
        let code = cause.sqlite_error_code();
        matches!(
            code,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull)
        )
    })
}

/// Fails unless `folder` can be a cache: said before a model is loaded.
///
/// # Errors
/// When it is a file.
pub fn check_folder(folder: &Path) -> Result<()> {
    ensure!(
        !folder.exists() || folder.is_dir(),
        "the cache {} is a file; name a folder",
        folder.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests;

/// What is known of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRow {
    /// Width and height in pixels, the image upright.
    pub size: (usize, usize),
    /// What was wrong with the file although it could be decoded; each of one line.
    pub warnings: Vec<String>,
    /// The unit embedding `[dim]`.
    pub embedding: Vec<f32>,
}

/// A row of width, height, warnings, embedding; none if it is damaged.
pub(super) fn image(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<ImageRow>> {
    let size = |value: i64| usize::try_from(value).ok();
    let (width, height) = (size(row.get(0)?), size(row.get(1)?));
    let warnings: String = row.get(2)?;
    let embedding = floats(row.get_ref(3)?.as_blob()?);
    let read = || {
        Some(ImageRow {
            size: (width?, height?),
            warnings: warnings.lines().map(str::to_owned).collect(),
            embedding: embedding?,
        })
    };
    Ok(read())
}

/// Warnings as one text.
pub(super) fn lines(warnings: &[String]) -> String {
    let line = |warning: &String| warning.replace(['\n', '\r'], " ");
    warnings.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// f32 in little endian.
pub(super) fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// The reverse; none if the length is no multiple of four.
pub(super) fn floats(bytes: &[u8]) -> Option<Vec<f32>> {
    let (values, rest) = bytes.as_chunks::<4>();
    let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes));
    rest.is_empty().then(|| values.collect())
}

/// Whether this is a direction: also false for anything that is not finite.
pub(super) fn is_unit_length(values: &[f32]) -> bool {
    let squares: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    (squares - 1.0).abs() < 1e-3
}

/// What stands for a path: where it leads to from the root; none where the working folder is gone.
pub fn path_bytes(path: &Path) -> Option<Vec<u8>> {
    let absolute = std::path::absolute(path).ok()?;
    Some(absolute.as_os_str().as_encoded_bytes().to_vec())
}
