//! The cached contents of a repository, whichever program stored them, and their removal.
//!
//! Links are removed, never followed, and nothing is removed by a path that goes through one. The
//! locks of all blobs are held, so that no download is disturbed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context as _, ensure};
use walkdir::WalkDir;

use super::cache::RepositoryCache;
use super::name::check_commit;
use super::{Repository, Settings};

/// The cache of one repository, opened read-only.
pub struct Stored {
    pub(super) cache: RepositoryCache,
    repository: Repository,
}

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// 40 hexadecimal digits.
    pub commit: String,
    /// Its name in the repository, with `/` between folders.
    pub name: String,
    /// Its path in the snapshot.
    pub path: PathBuf,
    /// What the path is.
    pub content: PathKind,
}

/// What a file's path in a snapshot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// A link to the repository's blob of this name, which may be missing.
    Blob(String),
    /// A regular file, where links are not possible.
    Copy,
    /// A link to something else.
    Elsewhere,
}

impl Stored {
    /// All model repositories in the cache, sorted by name.
    pub fn all(settings: &Settings) -> Vec<Repository> {
        let Some(entries) = settings
            .cache
            .as_ref()
            .and_then(|dir| fs::read_dir(dir).ok())
        else {
            return Vec::new();
        };
        let mut found: Vec<Repository> = entries
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| repository_of(entry.file_name().to_str()?))
            .collect();
        found.sort_by(|one, other| one.id().cmp(other.id()));
        found
    }

    /// The cache of the repository; `None` if it has nothing.
    pub fn open(settings: &Settings, repository: &Repository) -> Option<Self> {
        let stored = Self {
            cache: RepositoryCache::new(settings.cache.as_deref()?, repository),
            repository: repository.clone(),
        };
        stored.folder().is_dir().then_some(stored)
    }

    /// `owner/name`.
    pub fn id(&self) -> &str {
        self.repository.id()
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.cache.folder()
    }

    /// The commit of the repository's revision, if the cache knows it.
    pub fn commit(&self) -> Option<String> {
        self.cache.commit()
    }

    /// The commits that have a snapshot, sorted.
    pub(crate) fn commits(&self) -> Vec<String> {
        let mut commits = names_in(&self.snapshots());
        commits.retain(|name| check_commit(name).is_ok() && self.cache.snapshot(name).is_dir());
        commits
    }

    /// The files of one commit's snapshot, sorted by name.
    pub fn files(&self, commit: &str) -> Vec<StoredFile> {
        let folder = self.cache.snapshot(commit);
        let entries = WalkDir::new(&folder).min_depth(1).sort_by_file_name();
        let files = entries.into_iter().flatten();
        files
            .filter(|entry| !entry.file_type().is_dir())
            .map(|entry| StoredFile {
                commit: commit.to_owned(),
                name: slashed(entry.path().strip_prefix(&folder).unwrap_or(entry.path())),
                content: self.content(entry.path(), entry.path_is_symlink()),
                path: entry.into_path(),
            })
            .collect()
    }

    /// The total size of its files in bytes; links are not followed.
    pub fn bytes(&self) -> u64 {
        bytes_below(self.folder())
    }

    pub(super) fn snapshots(&self) -> PathBuf {
        self.folder().join("snapshots")
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.folder().join("blobs")
    }

    fn content(&self, path: &Path, is_link: bool) -> PathKind {
        if !is_link {
            return PathKind::Copy;
        }
        let blob = || {
            let target = fs::read_link(path).ok()?;
            let folder = path.parent()?.join(target.parent()?).canonicalize().ok()?;
            let ours = folder == self.blobs().canonicalize().ok()?;
            ours.then(|| target.file_name()?.to_str().map(str::to_owned))?
        };
        blob().map_or(PathKind::Elsewhere, PathKind::Blob)
    }
}

/// The names in a folder, sorted; empty if it cannot be read.
pub(super) fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// The total size of the files below a folder in bytes; links are not followed.
pub(super) fn bytes_below(folder: &Path) -> u64 {
    let entries = WalkDir::new(folder).into_iter().flatten();
    entries
        .filter(|entry| entry.file_type().is_file())
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// The repository that a cache folder of this name belongs to.
fn repository_of(folder: &str) -> Option<Repository> {
    let (owner, name) = folder.strip_prefix("models--")?.split_once("--")?;
    Repository::new(&format!("{owner}/{name}"), "main").ok()
}

fn slashed(path: &Path) -> String {
    let parts = path.iter().map(|part| part.to_string_lossy());
    parts.collect::<Vec<_>>().join("/")
}

/// What was removed from the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Snapshots.
    pub snapshots: usize,
    /// The space freed, in bytes.
    pub bytes: u64,
}

impl Stored {
    /// Removes the snapshot of one commit with the blobs that no other snapshot uses, or the whole
    /// repository if `commit` is `None` or the only one.
    ///
    /// # Errors
    /// `Unavailable` when another process is fetching one of its files;
    /// others when a folder of the repository is a link or something cannot be removed.
    pub fn remove(&self, commit: Option<&str>) -> anyhow::Result<Removed> {
        check_is_no_link(self.folder())?;
        check_is_no_link(self.cache.locks())?;
        if let Some(above) = self.cache.locks().parent() {
            check_is_no_link(above)?;
        }
        let commits = self.commits();
        let only = commit.filter(|commit| commits.iter().any(|other| other != commit));
        let locks = self.lock_all()?;
        let removed = match only {
            Some(commit) => self.remove_snapshot(commit)?,
            None => self.remove_all(commits.len())?,
        };
        if only.is_none() {
            // Removed while held: a process waiting for a lock then notices that its file is gone.
            self.remove_locks(locks.keys())?;
        }
        drop(locks);
        Ok(removed)
    }

    /// The locks of all blobs, complete and partial, and of those downloaded in the past.
    fn lock_all(&self) -> anyhow::Result<BTreeMap<String, Option<File>>> {
        let names = names_in(&self.blobs()).into_iter();
        let names = names.chain(names_in(self.cache.locks()));
        let etags: BTreeSet<String> = names
            .filter_map(|name| name.split('.').next().map(str::to_owned))
            // Opening a lock that is a link would touch its target.
            .filter(|etag| !etag.is_empty() && !is_link(&self.cache.lock_file(etag)))
            .collect();
        let lock = |etag: String| Ok((etag.clone(), self.cache.lock_at_once(&etag)?));
        etags.into_iter().map(lock).collect()
    }

    /// Removes these locks and those that are links, but none that another process may have taken
    /// in the meantime, and the folder if it is then empty.
    fn remove_locks<'a>(&self, held: impl Iterator<Item = &'a String>) -> anyhow::Result<()> {
        for etag in held {
            remove_tree(&self.cache.lock_file(etag))?;
        }
        let folder = self.cache.locks();
        for lock in names_in(folder).iter().map(|name| folder.join(name)) {
            if is_link(&lock) {
                remove_tree(&lock)?;
            }
        }
        match fs::remove_dir(folder) {
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
                Err(cause).with_context(|| format!("cannot remove {}", folder.display()))
            }
            // Gone, or in use again.
            _ => Ok(()),
        }
    }

    fn remove_all(&self, snapshots: usize) -> anyhow::Result<Removed> {
        let bytes = bytes_below_real(self.folder());
        // First what later runs would read, in case this is interrupted.
        remove_tree(&self.cache.references())?;
        remove_tree(&self.snapshots())?;
        remove_tree(self.folder())?;
        Ok(Removed { snapshots, bytes })
    }

    fn remove_snapshot(&self, commit: &str) -> anyhow::Result<Removed> {
        check_is_no_link(&self.snapshots())?;
        check_is_no_link(&self.blobs())?;
        check_is_no_link(&self.absent_markers())?;
        let blobs = |files: Vec<StoredFile>| -> BTreeSet<String> {
            let contents = files.into_iter().map(|file| file.content);
            let blob = |content| match content {
                PathKind::Blob(etag) => Some(etag),
                PathKind::Copy | PathKind::Elsewhere => None,
            };
            contents.filter_map(blob).collect()
        };
        let mut doomed = blobs(self.files(commit));
        for other in self.commits().iter().filter(|other| *other != commit) {
            for etag in blobs(self.files(other)) {
                doomed.remove(&etag);
            }
        }
        self.forget(commit)?;
        let snapshot = self.cache.snapshot(commit);
        let mut bytes = bytes_below_real(&snapshot);
        remove_tree(&snapshot)?;
        remove_tree(&self.absent_markers().join(commit))?;
        for etag in &doomed {
            let blob = self.cache.blob(etag);
            bytes += bytes_below_real(&blob);
            remove_tree(&blob)?;
        }
        Ok(Removed {
            snapshots: 1,
            bytes,
        })
    }

    /// Removes the branches and tags that point to `commit`.
    fn forget(&self, commit: &str) -> anyhow::Result<()> {
        let references = self.cache.references();
        check_is_no_link(&references)?;
        for entry in walkdir::WalkDir::new(&references).into_iter().flatten() {
            let means = || fs::read_to_string(entry.path());
            if entry.file_type().is_file() && means().is_ok_and(|found| found.trim() == commit) {
                remove_tree(entry.path())?;
            }
        }
        Ok(())
    }

    fn absent_markers(&self) -> PathBuf {
        self.folder().join(".no_exist")
    }
}

fn check_is_no_link(folder: &Path) -> anyhow::Result<()> {
    ensure!(
        !is_link(folder),
        "{} is a link to another place and was not touched; remove it yourself",
        folder.display()
    );
    Ok(())
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|metadata| metadata.is_symlink())
}

/// The size in bytes of a file, or of all files below a folder; 0 for a link.
fn bytes_below_real(path: &Path) -> u64 {
    if is_link(path) { 0 } else { bytes_below(path) }
}

/// Removes a file, a link (not its target) or a folder with its content. Something already gone is
/// not an error.
fn remove_tree(path: &Path) -> anyhow::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(cause) => Err(cause),
    };
    match removed {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
    .with_context(|| format!("cannot remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_cache_name_repositories() {
        let cases = [
            (
                "models--openai--clip-vit-base-patch32",
                Some("openai/clip-vit-base-patch32"),
            ),
            ("models--a--b--c", None),
            ("models--gpt2", None),
            ("models--..--b", None),
            ("datasets--a--b", None),
            (".locks", None),
        ];
        for (folder, expected) in cases {
            let found = repository_of(folder);
            assert_eq!(found.as_ref().map(Repository::id), expected, "{folder}");
        }
    }
}
