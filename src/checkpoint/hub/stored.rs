//! What the cache holds of a repository, whoever put it there.

use std::fs;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::cache::RepositoryCache;
use super::name::check_commit;
use super::{Repository, Settings};

/// One repository's part of the cache. Opening it looks only.
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
    /// Where it is in the snapshot.
    pub path: PathBuf,
    /// What it is there.
    pub content: Content,
}

/// What stands in a snapshot under a file's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A link to the repository's blob of this name, which need not exist.
    Blob(String),
    /// The bytes themselves, where links cannot be made.
    Copy,
    /// A link to something else.
    Elsewhere,
}

impl Stored {
    /// The repositories of models in the cache, in the order of their names.
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

    /// What the cache has of the repository; none if it has nothing.
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

    /// The folder that holds it.
    pub fn folder(&self) -> &Path {
        self.cache.folder()
    }

    /// The commit that the repository's revision means here.
    pub fn commit(&self) -> Option<String> {
        self.cache.commit()
    }

    /// The commits that have a snapshot, in order.
    pub fn commits(&self) -> Vec<String> {
        let mut commits = names_in(&self.snapshots());
        commits.retain(|name| check_commit(name).is_ok() && self.cache.snapshot(name).is_dir());
        commits
    }

    /// The files of one commit's snapshot, in the order of their names.
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

    /// How many bytes its files take, links not followed.
    pub fn bytes(&self) -> u64 {
        bytes_below(self.folder())
    }

    pub(super) fn snapshots(&self) -> PathBuf {
        self.folder().join("snapshots")
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.folder().join("blobs")
    }

    fn content(&self, path: &Path, is_link: bool) -> Content {
        if !is_link {
            return Content::Copy;
        }
        let blob = || {
            let target = fs::read_link(path).ok()?;
            let folder = path.parent()?.join(target.parent()?).canonicalize().ok()?;
            let ours = folder == self.blobs().canonicalize().ok()?;
            ours.then(|| target.file_name()?.to_str().map(str::to_owned))?
        };
        blob().map_or(Content::Elsewhere, Content::Blob)
    }
}

/// The names in a folder, in order; none if it cannot be read.
pub(super) fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// How many bytes the files below a folder have, links not followed.
pub(super) fn bytes_below(folder: &Path) -> u64 {
    let entries = WalkDir::new(folder).into_iter().flatten();
    entries
        .filter(|entry| entry.file_type().is_file())
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// The repository whose folder in the cache has this name.
fn repository_of(folder: &str) -> Option<Repository> {
    let (owner, name) = folder.strip_prefix("models--")?.split_once("--")?;
    Repository::new(&format!("{owner}/{name}"), "main").ok()
}

fn slashed(path: &Path) -> String {
    let parts = path.iter().map(|part| part.to_string_lossy());
    parts.collect::<Vec<_>>().join("/")
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
