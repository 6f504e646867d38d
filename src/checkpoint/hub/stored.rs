//! The cached contents of a repository, whichever program stored them.

use std::fs;
use std::path::{Path, PathBuf};

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
    pub content: Content,
}

/// What a file's path in a snapshot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
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
    pub fn commits(&self) -> Vec<String> {
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
