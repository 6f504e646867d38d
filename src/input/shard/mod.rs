//! Shards: archives of images, which are read as folders of them, in their own order.
//!
//! One file at a time is in memory (of a table, a few pages), and nothing is unpacked: names in an archive are names of
//! images in results and never paths that are opened. A file is an image by the same rule as in a
//! folder; hidden files, system folders and everything else are skipped.

#![deny(clippy::indexing_slicing)]

mod keyed;
mod name;
mod parquet;
pub(crate) mod tar;
mod zip;

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use self::parquet::Parquet;
use self::tar::Tar;
use self::zip::Zip;
use super::image::{self, DecodeOptions, ImageBytes};
use super::paths::{ImageRule, PassedOver, PathError, SNIFFED_BYTES, is_system};
use crate::file::{guard, open as opening};
use crate::output::FailureKind;
pub(crate) use keyed::Shards;
pub(crate) use name::key;

/// A kind of archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Tar, also compressed by gzip or zstd.
    Tar,
    /// Zip.
    Zip,
    /// A table with a column of images.
    Parquet,
}

/// Keys of a label in an object, and columns of labels in a table, the best first.
pub(crate) const LABEL_KEYS: [&str; 3] = ["label", "cls", "class"];

/// Longer files are not labels.
const TEXT_BYTES: u64 = 1 << 20;

/// Names of archives end in these, in lower case.
const ENDINGS: [(&str, Kind); 6] = [
    (".tar", Kind::Tar),
    (".tar.gz", Kind::Tar),
    (".tgz", Kind::Tar),
    (".tar.zst", Kind::Tar),
    (".zip", Kind::Zip),
    (".parquet", Kind::Parquet),
];

impl Kind {
    /// The kind of archive that a path names; `None` if it is none.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().to_lowercase();
        let known = ENDINGS.iter().find(|(ending, _)| name.ends_with(ending));
        known.map(|(_, kind)| *kind)
    }

    fn open(self, path: &Path) -> Result<Box<dyn Archive>> {
        Ok(match self {
            Self::Tar => Box::new(Tar::open(path)?),
            Self::Zip => Box::new(Zip::open(path)?),
            Self::Parquet => Box::new(Parquet::open(path)?),
        })
    }
}

/// The files of an archive, one after another.
trait Archive: Send {
    /// The next file; `None` at the end.
    ///
    /// # Errors
    /// When the archive is damaged; nothing follows then.
    fn next(&mut self) -> Result<Option<Entry>>;

    /// The content of the last file; asked for once, perhaps after [`Self::start`].
    ///
    /// # Errors
    /// When it cannot be read.
    fn content(&mut self) -> Result<Box<dyn Read + '_>>;

    /// The length of that in bytes, if [`Entry::bytes`] does not say it; asked for before it.
    ///
    /// # Errors
    /// When it is not known.
    fn length(&mut self) -> Result<u64> {
        bail!("the length of the file is not known")
    }

    /// The label of the last file, if the archive itself has labels.
    ///
    /// # Errors
    /// When it cannot be read.
    fn label(&mut self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Its first bytes, at most [`SNIFFED_BYTES`], which [`Self::content`] yields as well.
    ///
    /// # Errors
    /// When they cannot be read.
    fn start(&mut self) -> Result<Vec<u8>> {
        let mut start = Vec::new();
        let content = self.content()?;
        content.take(SNIFFED_BYTES).read_to_end(&mut start)?;
        Ok(start)
    }
}

/// A file in an archive.
#[derive(Debug)]
struct Entry {
    /// Its name in the archive, without anything that leads out of it.
    name: PathBuf,
    /// Length of its content in bytes, if that costs nothing.
    bytes: Option<u64>,
    /// Why it cannot be read.
    refusal: Option<String>,
    /// Whether it is an image whatever its name and content are, as a row of a table is.
    is_image: bool,
}

/// An archive, and the number of the file that it is at.
struct Shared {
    archive: Box<dyn Archive>,
    number: u64,
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An image in an archive, to be read before the next one is asked for.
#[derive(Clone)]
pub struct Member {
    /// Its name below that of the archive: `x.tar/dir/0001.jpg`.
    name: PathBuf,
    bytes: Option<u64>,
    number: u64,
    shared: Arc<Mutex<Shared>>,
}

impl Member {
    /// Its name below that of the archive.
    #[must_use]
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Its bytes.
    ///
    /// # Errors
    /// As for a file: when it cannot be read, is not an image, or is longer than one can be; when
    /// the archive ends before it does; and when a later file was asked for.
    pub(crate) fn read(&self, options: &DecodeOptions) -> Result<ImageBytes> {
        let mut shared = lock(&self.shared);
        ensure!(
            shared.number == self.number,
            "the archive was read past this image"
        );
        caught(|| {
            let bytes = match self.bytes {
                Some(bytes) => bytes,
                None => shared.archive.length()?,
            };
            image::read_member(shared.archive.content()?, bytes, options)
        })
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Member({}, {})",
            self.name.display(),
            self.number
        )
    }
}

impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.bytes, self.number) == (&other.name, other.bytes, other.number)
    }
}

impl Eq for Member {}

/// Runs a reader of archives, which may have a bug that a hostile one finds.
fn caught<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    guard::catch(read)
        .unwrap_or_else(|| Err(anyhow!("longclip crashed on this archive; this is a bug")))
}

/// An image, or a text that belongs to one.
pub(crate) enum Item {
    /// An image, or why it cannot be read.
    Image(Result<Member, PathError>),
    /// The name and the content of a text.
    Text(PathBuf, Result<String>),
}

/// The images of an archive, in its order.
pub(crate) struct Members {
    /// The archive's name.
    shard: PathBuf,
    /// `None` after the end.
    shared: Option<Arc<Mutex<Shared>>>,
    rule: ImageRule,
    passed_over: PassedOver,
    /// The last system folder that was skipped.
    system: PathBuf,
}

/// Opens the archive at `path`.
///
/// # Errors
/// When it cannot be opened or is not an archive of its kind.
pub(crate) fn open(
    path: &Path,
    kind: Kind,
    rule: ImageRule,
    passed_over: PassedOver,
) -> Result<Members> {
    let archive = caught(|| kind.open(path))?;
    Ok(Members::new(path, archive, rule, passed_over))
}

/// Opens a tar archive, plain or compressed, that comes on a stream; `name` stands for its path.
///
/// # Errors
/// As [`open`].
pub(crate) fn of_stream(
    stream: impl Read + Send + 'static,
    name: &Path,
    rule: ImageRule,
    passed_over: PassedOver,
) -> Result<Members> {
    let archive = caught(|| Tar::of_stream(Box::new(stream)))?;
    Ok(Members::new(name, Box::new(archive), rule, passed_over))
}

impl Members {
    fn new(
        shard: &Path,
        archive: Box<dyn Archive>,
        rule: ImageRule,
        passed_over: PassedOver,
    ) -> Self {
        let shared = Shared { archive, number: 0 };
        Self {
            shard: shard.to_owned(),
            shared: Some(Arc::new(Mutex::new(shared))),
            rule,
            passed_over,
            system: PathBuf::new(),
        }
    }

    /// The next image or text; `is_text` says which names are texts.
    pub(crate) fn next_or_text(
        &mut self,
        is_text: fn(&Path) -> bool,
    ) -> Option<Result<Item, PathError>> {
        let shared = self.shared.take()?;
        let found = caught(|| self.advance(&shared, is_text));
        match found {
            Ok(Some(item)) => {
                self.shared = Some(shared);
                Some(Ok(item))
            }
            Ok(None) => None,
            Err(error) => Some(Err(PathError {
                path: self.shard.clone(),
                cause: FailureKind::Decode.else_this(&error),
            })),
        }
    }

    /// The label of the last image, if the archive itself has labels.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn label(&mut self) -> Result<Option<String>> {
        let shared = self.shared.as_ref();
        shared.map_or(Ok(None), |shared| caught(|| lock(shared).archive.label()))
    }

    /// The next image or text, if `shared` has one.
    fn advance(
        &mut self,
        shared: &Arc<Mutex<Shared>>,
        is_text: fn(&Path) -> bool,
    ) -> Result<Option<Item>> {
        loop {
            let mut at = lock(shared);
            at.number += 1;
            let Some(entry) = at.archive.next()? else {
                return Ok(None);
            };
            let name = self.shard.join(&entry.name);
            let is_image = entry.is_image || {
                if self.is_hidden(&entry.name) {
                    continue;
                }
                if is_text(&entry.name) && entry.refusal.is_none() {
                    let text = caught(|| text(&mut *at.archive));
                    return Ok(Some(Item::Text(name, text)));
                }
                self.rule.has_image_extension(&entry.name)
                    || (entry.refusal.is_none()
                        && (self.rule.looks_like_image)(&at.archive.start()?))
            };
            if !is_image {
                self.passed_over.add_one();
                continue;
            }
            return Ok(Some(Item::Image(match entry.refusal {
                Some(cause) => Err(PathError {
                    path: name,
                    cause: FailureKind::Format.because(cause),
                }),
                None => Ok(Member {
                    name,
                    bytes: entry.bytes,
                    number: at.number,
                    shared: shared.clone(),
                }),
            })));
        }
    }

    /// Whether a walk of a folder would not come to a file of this name.
    fn is_hidden(&mut self, name: &Path) -> bool {
        let starts_with_dot = |part: &std::ffi::OsStr| part.as_encoded_bytes().starts_with(b".");
        if name.iter().any(starts_with_dot) {
            return true;
        }
        let folders = name.parent().into_iter().flat_map(Path::ancestors);
        let is_system_folder = |folder: &&Path| folder.file_name().is_some_and(is_system);
        let Some(folder) = folders.filter(is_system_folder).last() else {
            return false;
        };
        if self.system != folder {
            self.system = folder.to_owned();
            let name = folder.file_name().unwrap_or_default();
            self.passed_over.add_system(&name.to_string_lossy());
        }
        true
    }
}

impl Iterator for Members {
    type Item = Result<Member, PathError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_or_text(|_| false)? {
            Ok(Item::Image(image)) => Some(image),
            Ok(Item::Text(..)) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// The whole content of the last file of an archive.
fn text(archive: &mut dyn Archive) -> Result<String> {
    let content = opening::bounded(archive.content()?, TEXT_BYTES)?;
    String::from_utf8(content).context("it is not UTF-8")
}

/// The first bytes of a stream, at most `count`.
fn first(stream: &mut impl Read, count: u64) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    stream.take(count).read_to_end(&mut start)?;
    Ok(start)
}
