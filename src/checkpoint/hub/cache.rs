//! The cache's layout, shared with Python's `huggingface_hub`:
//!
//! ```text
//! models--owner--name/blobs/<etag>            the content
//!                     refs/<revision>         the commit that a branch or tag means
//!                     snapshots/<commit>/…    the files, as links to blobs
//!                     .no_exist/<commit>/…    empty: the hub has no such file
//! .locks/models--owner--name/<etag>.lock
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::name::check_commit;
use super::{Progress, Repository, Unavailable};
use crate::file::fault::is_passing;
use crate::file::lock::is_at;
use crate::file::open;

/// The cache of one repository, for one revision.
pub(super) struct RepositoryCache {
    layout: CacheRepo,
    folder: PathBuf,
    locks: PathBuf,
    revision: String,
}

impl RepositoryCache {
    pub(super) fn new(cache: &Path, repository: &Repository) -> Self {
        let revision = repository.revision().to_owned();
        let repo = Repo::with_revision(
            repository.id().to_owned(),
            RepoType::Model,
            revision.clone(),
        );
        Self {
            folder: cache.join(repo.folder_name()),
            locks: cache.join(".locks").join(repo.folder_name()),
            layout: Cache::new(cache.to_owned()).repo(repo),
            revision,
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The commit of the revision, if the cache knows it.
    pub(super) fn commit(&self) -> Option<String> {
        if check_commit(&self.revision).is_ok() {
            return Some(self.revision.clone());
        }
        let commit = open::text(&self.reference(), open::SETTINGS_BYTES).ok()?;
        let commit = commit.trim();
        check_commit(commit).ok().map(|()| commit.to_owned())
    }

    fn reference(&self) -> PathBuf {
        self.references().join(&self.revision)
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.layout.pointer_path(commit)
    }

    pub(super) fn absent_marker(&self, commit: &str, file: &str) -> PathBuf {
        self.folder.join(".no_exist").join(commit).join(file)
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// The path of a partial blob.
    pub(super) fn partial(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{etag}.incomplete"))
    }

    /// The folder of the locks of this repository's blobs.
    pub(super) fn locks(&self) -> &Path {
        &self.locks
    }

    /// The folder of references (branches and tags).
    pub(super) fn references(&self) -> PathBuf {
        self.folder.join("refs")
    }

    /// Waits until no other process fetches the blob. The lock ends when the
    /// returned file is dropped; `None` if the file system has no locks.
    pub(super) fn lock(&self, etag: &str, progress: &dyn Progress) -> anyhow::Result<Option<File>> {
        let path = self.lock_file(etag);
        let waited = (|| {
            loop {
                let file = open_lock(&path)?;
                match file.try_lock() {
                    Ok(()) => {}
                    Err(TryLockError::WouldBlock) => {
                        progress.note("another process is fetching this file; waiting for it");
                        file.lock()?;
                    }
                    Err(TryLockError::Error(cause)) if is_unsupported(&cause) => return Ok(None),
                    Err(TryLockError::Error(cause)) => return Err(cause),
                }
                // A removal deletes the file that we waited for, and a lock on a deleted file would
                // keep nobody out.
                if is_at(&file, &path) {
                    return Ok(Some(file));
                }
            }
        })();
        waited.map_err(|cause| cannot_write(&path, cause))
    }

    /// The blob's lock, if it is free. Fails with [`Unavailable`] if another process does.
    pub(super) fn lock_at_once(&self, etag: &str) -> anyhow::Result<Option<File>> {
        let path = self.lock_file(etag);
        let file = open_lock(&path).map_err(|cause| cannot_write(&path, cause))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Err(Unavailable::error(format!(
                "another process is fetching a file of {}; try again when it is done",
                self.folder.display()
            ))),
            Err(TryLockError::Error(cause)) if is_unsupported(&cause) => Ok(None),
            Err(TryLockError::Error(cause)) => Err(cannot_write(&path, cause)),
        }
    }

    /// The file whose lock means that a process fetches the blob.
    pub(super) fn lock_file(&self, etag: &str) -> PathBuf {
        self.locks.join(format!("{etag}.lock"))
    }

    /// Puts the blob into the commit's snapshot under `file`, as a relative
    /// link, or as a copy where links cannot be made.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> anyhow::Result<PathBuf> {
        let (path, blob) = (self.snapshot(commit).join(file), self.blob(etag));
        if is_same_file(&path, &blob) {
            return Ok(path);
        }
        let up = "../".repeat(file.matches('/').count() + 2);
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        create_folder_of(&path)
            .and_then(|()| {
                replace_with(&path, |new| symlink(&target, new))
                    .or_else(|_| replace_with(&path, |new| fs::copy(&blob, new).map(drop)))
            })
            .map_err(|cause| cannot_write(&path, cause))?;
        Ok(path)
    }

    /// Records the commit of the branch or tag.
    pub(super) fn write_reference(&self, commit: &str) -> anyhow::Result<()> {
        if self.commit().as_deref() == Some(commit) {
            return Ok(());
        }
        write_small(&self.reference(), commit.as_bytes())
    }

    /// Records that the commit has no such file.
    pub(super) fn write_marker(&self, commit: &str, file: &str) -> anyhow::Result<()> {
        write_small(&self.absent_marker(commit, file), b"")
    }
}

/// The error for a cache that cannot be written; a full disk is worth another try.
pub(super) fn cannot_write(path: &Path, cause: io::Error) -> anyhow::Error {
    let path = path.display();
    let error = anyhow::Error::new(cause);
    if is_passing(&error) {
        return error.context(format!(
            "the disk is full or failed, writing {path}; free some space and run again (what has \
             been downloaded is kept), or set HF_HOME to another disk"
        ));
    }
    error.context(format!(
        "cannot write {path}; set HF_HOME to a writable folder"
    ))
}

pub(super) fn create_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn open_lock(path: &Path) -> io::Result<File> {
    create_folder_of(path)?;
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).open(path)
}

fn is_unsupported(cause: &io::Error) -> bool {
    cause.kind() == io::ErrorKind::Unsupported
}

fn write_small(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    create_folder_of(path)
        .and_then(|()| {
            replace_with(path, |new| {
                let mut file = OpenOptions::new().write(true).create_new(true).open(new)?;
                file.write_all(content)
            })
        })
        .map_err(|cause| cannot_write(path, cause))
}

/// Begins the names of files in progress.
const PREFIX: &str = ".longclip-";
/// No small file and no copy of a blob takes longer.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// Removes what killed runs left in `folder`. Links have no locks, so that age decides.
fn remove_stale(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_ours = entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes());
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = || modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > STALE));
        if is_ours && is_old() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Creates a new file next to `path` and renames it over `path`, so that a reader never sees a
/// partial file and two writers do not interfere.
fn replace_with(path: &Path, make: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    remove_stale(folder);
    let made = tempfile::Builder::new()
        .prefix(PREFIX)
        .make_in(folder, make)?;
    made.persist(path).map_err(|failed| failed.error)?;
    Ok(())
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    // A target with '/' makes a link that Windows cannot follow.
    let target: PathBuf = target.components().collect();
    std::os::windows::fs::symlink_file(target, link)
}

/// Opens (or creates) a partial blob, keeping its content.
pub(super) fn open_partial(path: &Path) -> anyhow::Result<File> {
    create_folder_of(path)
        .and_then(|()| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
        })
        .map_err(|cause| cannot_write(path, cause))
}

/// Gives a complete and verified blob its name.
pub(super) fn settle(file: File, partial: &Path, blob: &Path) -> anyhow::Result<()> {
    file.sync_all()
        .map_err(|cause| cannot_write(partial, cause))?;
    drop(file);
    fs::rename(partial, blob).map_err(|cause| cannot_write(blob, cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn repository_cache(folder: &Path, revision: &str) -> RepositoryCache {
        let repository = Repository::new("owner/name", revision).unwrap();
        RepositoryCache::new(folder, &repository)
    }

    #[test]
    fn a_reference_is_used_only_if_it_is_a_commit() {
        let folder = tempfile::tempdir().unwrap();
        let cache = repository_cache(folder.path(), "refs/pr/1");
        assert_eq!(cache.commit(), None);
        write_small(&cache.reference(), b"../../../etc").unwrap();
        assert_eq!(cache.commit(), None);
        cache.write_reference(COMMIT).unwrap();
        assert_eq!(cache.commit().as_deref(), Some(COMMIT));
        let reference = "models--owner--name/refs/refs/pr/1";
        let written = fs::read_to_string(folder.path().join(reference)).unwrap();
        assert_eq!(written, COMMIT);
        let pinned = repository_cache(folder.path(), COMMIT);
        assert_eq!(pinned.commit().as_deref(), Some(COMMIT));
    }

    #[test]
    fn links_are_relative_and_reach_the_blob_from_any_depth() {
        let folder = tempfile::tempdir().unwrap();
        let cache = repository_cache(folder.path(), "main");
        for (file, etag) in [("a.json", "aa"), ("deep/er/b.json", "bb"), ("a.json", "bb")] {
            write_small(&cache.blob(etag), etag.as_bytes()).unwrap();
            let path = cache.link(COMMIT, file, etag).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), etag, "{file}");
            #[cfg(unix)]
            assert!(fs::read_link(&path).unwrap().is_relative());
            assert_eq!(cache.link(COMMIT, file, etag).unwrap(), path);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_on_a_deleted_file_is_taken_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = repository_cache(folder.path(), "main");
        let silent = crate::checkpoint::hub::Silent;
        let first = cache.lock("aa", &silent).unwrap();
        assert!(super::super::is_worth_retrying(
            &cache.lock_at_once("aa").unwrap_err()
        ));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| cache.lock("aa", &silent).unwrap());
            std::thread::sleep(std::time::Duration::from_millis(200));
            fs::remove_file(cache.lock_file("aa")).unwrap();
            drop(first);
            let second = waiting.join().unwrap();
            assert!(second.is_some() && cache.lock_at_once("aa").is_err());
        });
        assert!(cache.lock_at_once("aa").unwrap().is_some());
    }

    #[test]
    fn an_unwritable_cache_names_the_folder_and_a_full_disk_can_be_retried() {
        let full = cannot_write(Path::new("/x/y"), io::ErrorKind::StorageFull.into());
        let denied = cannot_write(Path::new("/x/y"), io::ErrorKind::PermissionDenied.into());
        assert!(super::super::is_worth_retrying(&full) && full.to_string().contains("/x/y"));
        assert!(!super::super::is_worth_retrying(&denied) && denied.to_string().contains("/x/y"));
    }
}
