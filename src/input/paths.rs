//! Arguments, folders, lists and stdin -> image sources in a stable order.
//!
//! Everything is lazy: a folder is read when its turn comes and a list line by line, so memory
//! holds one folder listing per level, for any number of images. An [`ImageRule`] decides what is
//! an image; nothing here decodes.

mod list;
mod objects;
mod walk;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::bail;

use super::shard::{self, Kind, Member, Members};
use crate::output::{Failure, FailureKind, Given};
use list::List;
use walk::Walk;

pub(crate) use list::{FilesFrom, ListNotes, ListSource, Separator};
pub(crate) use walk::{SNIFFED_BYTES, is_system};

/// Source of one image's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    /// A path as it was given, listed or found.
    Path(PathBuf),
    /// `-`: the bytes of one image on stdin.
    Stdin,
    /// An image in an archive, to be read before the next source is asked for.
    Member(Member),
}

/// An image of a run, and the keys of its line in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where its bytes are, or why it has none.
    pub source: Result<ImageSource, PathError>,
    pub(crate) given: Option<Given>,
}

impl From<Result<ImageSource, PathError>> for Entry {
    fn from(source: Result<ImageSource, PathError>) -> Self {
        Self {
            source,
            given: None,
        }
    }
}

/// A path that yields no image; the walk continues after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathError {
    /// The folder, file or list that could not be used.
    pub path: PathBuf,
    /// Why, without the path.
    pub cause: Failure,
}

impl fmt::Display for PathError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path.display(), self.cause)
    }
}

impl std::error::Error for PathError {}

/// Which files of a folder are accepted: those with an image's extension *or* magic bytes.
#[derive(Clone, Copy, Debug)]
pub struct ImageRule {
    /// Extensions without the dot; compared ignoring case.
    pub extensions: &'static [&'static str],
    /// Whether a file that begins with these bytes (at most 32) is an image.
    pub looks_like_image: fn(&[u8]) -> bool,
}

/// Entries of folders that were skipped so far; clones share the counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct PassedOver {
    files: Arc<AtomicU64>,
    /// Number of system folders per name.
    system: Arc<Mutex<BTreeMap<String, u64>>>,
    /// Archives of images: how many, and the first.
    shards: Arc<Mutex<Option<(u64, PathBuf)>>>,
}

impl PassedOver {
    /// The count so far: files that are not images, pipes and devices, broken or cyclic links.
    /// Hidden entries are not counted.
    pub(crate) fn count(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// The skipped system folders, for messages: `3 system folders (@eaDir, lost+found)`.
    pub(crate) fn system_folders(&self) -> Option<String> {
        let names = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        let shown: Vec<&str> = names.keys().map(String::as_str).collect();
        match names.values().sum::<u64>() {
            0 => None,
            1 => Some(format!("1 system folder ({})", shown.join(", "))),
            count => Some(format!("{count} system folders ({})", shown.join(", "))),
        }
    }

    /// Adds the counts of another walk.
    pub(crate) fn add(&self, other: &Self) {
        self.files.fetch_add(other.count(), Ordering::Relaxed);
        let others = other.system.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, count) in others.iter() {
            *names.entry(name.clone()).or_insert(0) += count;
        }
    }

    /// How many archives of images there were, which no walk enters, and the first one.
    pub(crate) fn shards(&self) -> Option<(u64, PathBuf)> {
        let shards = self.shards.lock();
        shards.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add_shard(&self, path: &Path) {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards.get_or_insert_with(|| (0, path.to_owned())).0 += 1;
    }

    pub(crate) fn add_one(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_system(&self, name: &str) {
        let mut names = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        *names.entry(name.to_owned()).or_insert(0) += 1;
    }
}

/// The image sources behind `arguments` and then `files_from`, in that order.
///
/// A folder among the arguments is walked: byte order of names within each folder, files and
/// folders in one order, hidden entries and system folders skipped. Every other argument and every
/// entry of the list yields exactly one item, whether it exists or not, except that an archive
/// ([`shard`]) yields its images in its order. `-` among the arguments is stdin; in a
/// list it is a file of that name.
///
/// # Errors
/// When stdin is requested twice, or the list cannot be opened.
pub fn expand(
    arguments: Vec<PathBuf>,
    files_from: Option<FilesFrom>,
    rule: ImageRule,
) -> anyhow::Result<Expansion> {
    let list_is_stdin = files_from
        .as_ref()
        .is_some_and(|list| list.source == ListSource::Stdin);
    match arguments.iter().filter(|path| is_stdin(path)).count() {
        0 => {}
        1 if !list_is_stdin => {}
        1 => bail!(
            "stdin cannot be both an image (-) and a list (--files-from -); write the list to a file"
        ),
        _ => bail!("stdin holds one image, so - can be given only once; remove the others"),
    }
    Ok(Expansion {
        arguments: arguments.into_iter(),
        walk: None,
        list: files_from.map(|list| List::open(list, rule)).transpose()?,
        shard: None,
        no_shards: None,
        is_folded: false,
        given: None,
        stdin_is_tar: false,
        rule,
        passed_over: PassedOver::default(),
    })
}

/// Splits a file from the name of a part of it after a colon: `x.npz:images`. A file with the whole
/// name takes precedence.
#[must_use]
pub(crate) fn split_name(path: &Path) -> (PathBuf, Option<String>) {
    let text = path.to_string_lossy();
    match text.rsplit_once(':') {
        Some((file, name)) if !path.exists() && Path::new(file).is_file() => {
            (PathBuf::from(file), Some(name.to_owned()))
        }
        _ => (path.to_owned(), None),
    }
}

/// How many items [`expand`] will yield, or `None` if counting would consume the list (stdin, a
/// pipe) or read an archive. Walks every folder: call it concurrently with the real work.
pub fn count(
    arguments: &[PathBuf],
    files_from: Option<&FilesFrom>,
    rule: ImageRule,
) -> Option<u64> {
    let can_read_twice = files_from.is_none_or(|list| match &list.source {
        ListSource::Stdin => false,
        ListSource::File(path) => path.is_file(),
    });
    if !can_read_twice {
        return None;
    }
    let sources = expand(arguments.to_vec(), files_from.cloned(), rule).ok()?;
    let mut count = 0;
    for source in sources {
        if matches!(source.source, Ok(ImageSource::Member(_))) {
            return None;
        }
        count += 1;
    }
    Some(count)
}

/// Iterator of [`expand`].
pub struct Expansion {
    arguments: std::vec::IntoIter<PathBuf>,
    walk: Option<Walk>,
    list: Option<List>,
    /// The archive that is being read.
    shard: Option<Members>,
    /// Why archives are refused.
    no_shards: Option<&'static str>,
    /// Whether an archive is one item.
    is_folded: bool,
    /// The keys of the line that named it.
    given: Option<Given>,
    stdin_is_tar: bool,
    rule: ImageRule,
    passed_over: PassedOver,
}

impl Expansion {
    /// The counter of skipped entries; it keeps counting while the iterator runs.
    pub(crate) fn passed_over(&self) -> PassedOver {
        self.passed_over.clone()
    }

    /// Takes stdin for a tar archive of images if `is_tar`, instead of one image.
    #[must_use]
    pub(crate) fn stdin_is_tar(self, is_tar: bool) -> Self {
        Self {
            stdin_is_tar: is_tar,
            ..self
        }
    }

    /// Makes every archive an error with this cause, if there is one.
    #[must_use]
    pub(crate) fn no_shards(self, cause: Option<&'static str>) -> Self {
        Self {
            no_shards: cause,
            ..self
        }
    }

    /// Yields an archive as a path if `is_folded`, without opening it; [`unfold`] reads it later.
    #[must_use]
    pub(crate) fn folded(self, is_folded: bool) -> Self {
        Self { is_folded, ..self }
    }

    /// Starts reading `path` if it is an archive; else returns it.
    fn name(&mut self, path: PathBuf) -> Option<Result<ImageSource, PathError>> {
        let Some(kind) = Kind::of(&path).filter(|_| is_shard(&path, self.rule)) else {
            return Some(Ok(ImageSource::Path(path)));
        };
        if let Some(cause) = self.no_shards {
            let cause = FailureKind::Format.because(cause);
            return Some(Err(PathError { path, cause }));
        }
        if self.is_folded {
            return Some(Ok(ImageSource::Path(path)));
        }
        let opened = shard::open(&path, kind, self.rule, self.passed_over());
        self.enter(path, opened)
    }

    fn enter(
        &mut self,
        path: PathBuf,
        opened: anyhow::Result<Members>,
    ) -> Option<Result<ImageSource, PathError>> {
        match opened {
            Ok(members) => {
                self.shard = Some(members);
                None
            }
            Err(error) => Some(Err(PathError {
                path,
                cause: FailureKind::Decode.else_this(&error),
            })),
        }
    }

    /// Notes on what was guessed about the list, while the iterator runs.
    pub(crate) fn list_notes(&self) -> ListNotes {
        self.list.as_ref().map(List::notes).unwrap_or_default()
    }
}

impl Iterator for Expansion {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            if let Some(item) = self.walk.as_mut().and_then(Iterator::next) {
                return Some(item.into());
            }
            if let Some(item) = self.shard.as_mut().and_then(Iterator::next) {
                return Some(Entry {
                    source: item.map(ImageSource::Member),
                    given: self.given.clone(),
                });
            }
            (self.walk, self.shard, self.given) = (None, None, None);
            let item = match self.arguments.next() {
                Some(path) if is_stdin(&path) && self.stdin_is_tar => {
                    let stdin = io::stdin();
                    let opened = shard::of_stream(stdin, &path, self.rule, self.passed_over());
                    self.enter(path, opened)
                }
                Some(path) if is_stdin(&path) => Some(Ok(ImageSource::Stdin)),
                Some(path) if path.is_dir() => {
                    self.walk = Some(Walk::new(&path, self.rule, self.passed_over()));
                    None
                }
                Some(path) => self.name(path),
                None => {
                    let entry = self.list.as_mut()?.next()?;
                    self.given = entry.given;
                    match entry.source {
                        Ok(ImageSource::Path(path)) => self.name(path),
                        Ok(ImageSource::Member(member)) if self.no_shards.is_some() => {
                            let cause = self.no_shards.unwrap_or_default();
                            Some(Err(PathError {
                                path: member.name().to_owned(),
                                cause: FailureKind::Format.because(cause),
                            }))
                        }
                        other => Some(other),
                    }
                }
            };
            if let Some(source) = item {
                let given = self.given.take();
                return Some(Entry { source, given });
            }
        }
    }
}

/// The images of an item of a [folded](Expansion::folded) expansion: those of an archive, else the
/// item itself.
pub(crate) fn unfold(entry: Entry, rule: ImageRule) -> Box<dyn Iterator<Item = Entry> + Send> {
    match &entry.source {
        Ok(ImageSource::Path(path)) if is_shard(path, rule) => {
            let given = entry.given.clone();
            match expand(vec![path.clone()], None, rule) {
                Ok(images) => Box::new(images.map(move |image| Entry {
                    given: given.clone(),
                    ..image
                })),
                // Only stdin and lists fail.
                Err(_) => Box::new(std::iter::once(entry)),
            }
        }
        _ => Box::new(std::iter::once(entry)),
    }
}

/// Whether a path among the arguments or in the list is an archive whose images are read. A missing
/// one is not, nor is an image of such a name.
pub(crate) fn is_shard(path: &Path, rule: ImageRule) -> bool {
    let is_named_so = Kind::of(path).is_some() && path.exists() && !path.is_dir();
    // A pipe could be read once only.
    is_named_so && !(path.is_file() && rule.begins_like_image(path))
}

fn is_stdin(path: &Path) -> bool {
    // As bytes: a `Path` comparison would take `-/` for `-`.
    path.as_os_str() == "-"
}

#[cfg(test)]
mod tests;
