//! Removes a repository, or one of its snapshots, from the cache.
//!
//! Links are removed, never followed, and nothing is removed by a path that goes through one. The
//! locks of all blobs are held, so that no download is disturbed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::stored::{bytes_below, names_in};
use super::{Content, Stored, StoredFile};

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
    /// [`Unavailable`](super::Unavailable) when another process is fetching one of its files;
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
                Content::Blob(etag) => Some(etag),
                Content::Copy | Content::Elsewhere => None,
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
