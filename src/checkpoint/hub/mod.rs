//! The only code that talks to the model hub or knows its cache.
//!
//! It downloads single files of a repository into the cache that Python's
//! `huggingface_hub` also uses, and knows nothing about models: which files a
//! model needs is decided in [`source`](super::source).
//!
//! Responses of a hub, mirror or proxy are untrusted: header values
//! that name files are checked before they become paths, a body is written
//! only if the status says it is the file, and a file gets its name in the
//! cache only after its length and its hash agree with the announced ones.
//! The user's token goes to the endpoint's own origin and nowhere else. A redirect does not lead into
//! the user's own network (`reach`), and a server that is nearly silent is given up (`pace`).

mod answer;
mod cache;
mod client;
mod name;
mod pace;
mod reach;
mod settings;
mod stored;
mod transfer;
mod verify;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use cache::RepositoryCache;
use client::Client;

use crate::file::fault::is_passing;

pub(crate) use client::Listing;
pub(crate) use name::{Repository, check_file_name};
pub use settings::{Settings, Token};
pub(crate) use stored::{PathKind, StoredFile};
pub use stored::{Removed, Stored};
pub(crate) use verify::Condition;

/// Progress of a transfer, reported to the caller.
pub trait Progress: Sync {
    /// A download of `file` starts: `bytes` in total, `have` of them from an
    /// earlier try. Called again if it restarts.
    fn start(&self, file: &str, bytes: u64, have: u64);
    /// `bytes` more have arrived.
    fn advance(&self, bytes: u64);
    /// The file is complete and verified, or the download was abandoned.
    fn finish(&self);
    /// A note for the user, in one line.
    fn note(&self, message: &str);
}

/// Ignores all progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _file: &str, _bytes: u64, _have: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn finish(&self) {}
    fn note(&self, _message: &str) {}
}

/// A temporary failure: the hub is down, unreachable or
/// busy, a transfer arrived damaged, the disk is full. The command line ends
/// with exit code 75 for these; [`is_worth_retrying`] finds them.
#[derive(Debug)]
pub(crate) struct Unavailable {
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Unavailable {
    fn error(message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self {
            message: message.into(),
            source: None,
        })
    }

    fn caused_by(
        message: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> anyhow::Error {
        anyhow::Error::new(Self {
            message: message.into(),
            source: Some(Box::new(source)),
        })
    }
}

impl std::fmt::Display for Unavailable {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Unavailable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| source.as_ref() as &(dyn std::error::Error + 'static))
    }
}

/// Whether running the same command later may succeed (exit code 75): an
/// `Unavailable` hub or a disk that fails anywhere in the chain of causes.
pub fn is_worth_retrying(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<Unavailable>()) || is_passing(error)
}

/// One repository at one revision, in the cache and on the hub.
pub(crate) struct Hub<'a> {
    settings: &'a Settings,
    progress: &'a dyn Progress,
    repository: &'a Repository,
    cache: RepositoryCache,
    /// Created at the first request: cached files need none.
    client: OnceCell<Client<'a>>,
}

impl<'a> Hub<'a> {
    /// Names a repository without accessing anything yet.
    ///
    /// # Errors
    /// When no cache folder is known (neither `HF_HOME` nor a home folder).
    pub(crate) fn new(
        settings: &'a Settings,
        progress: &'a dyn Progress,
        repository: &'a Repository,
    ) -> anyhow::Result<Self> {
        let folder = settings.cache.as_deref().context(
            "no folder for downloaded models, because the home folder is unknown; set HF_HOME",
        )?;
        Ok(Self {
            settings,
            progress,
            repository,
            cache: RepositoryCache::new(folder, repository),
            client: OnceCell::new(),
        })
    }

    /// One client for all requests, so that they share connections.
    fn client(&self) -> anyhow::Result<&Client<'a>> {
        match self.client.get() {
            Some(client) => Ok(client),
            None => {
                let client = Client::new(self.settings, self.progress)?;
                Ok(self.client.get_or_init(|| client))
            }
        }
    }

    /// The cached snapshot folder of the revision, if any. No
    /// network, nothing written.
    pub(crate) fn snapshot(&self) -> Option<PathBuf> {
        let commit = self.cache.commit()?;
        let folder = self.cache.snapshot(&commit);
        folder.is_dir().then_some(folder)
    }

    /// Whether the cached snapshot is known not to have `file` (the hub said so before).
    pub(crate) fn is_known_absent(&self, file: &str) -> bool {
        self.cache
            .commit()
            .is_some_and(|commit| self.cache.absent_marker(&commit, file).is_file())
    }

    /// Records in the cache that the repository has no `file` at `commit`.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub(crate) fn remember_absent(&self, commit: &str, file: &str) -> anyhow::Result<()> {
        name::check_commit(commit)?;
        check_file_name(file)?;
        self.cache.write_marker(commit, file)
    }

    /// Lists the files of the revision, as the hub reports them.
    ///
    /// # Errors
    /// [`Unavailable`] when the hub cannot be reached; others when it refuses.
    pub(crate) fn list(&self) -> anyhow::Result<Listing> {
        self.client()?.list(self.repository)
    }

    /// Brings `file` of the revision into the cache and returns its path in
    /// the snapshot folder. With `commit` (from [`Hub::list`]) all files come
    /// from one commit even if the branch moves meanwhile.
    ///
    /// # Errors
    /// [`Unavailable`] when the hub cannot be reached, the download fails or the disk is full;
    /// others when the hub refuses or its response is invalid.
    pub(crate) fn fetch(&self, file: &str, commit: Option<&str>) -> anyhow::Result<PathBuf> {
        check_file_name(file)?;
        if let Some(commit) = commit {
            name::check_commit(commit)?;
            let path = self.cache.snapshot(commit).join(file);
            if path.is_file() {
                return Ok(path);
            }
        }
        let client = self.client()?;
        let revision = commit.unwrap_or_else(|| self.repository.revision());
        let remote = client.head(self.repository, revision, file)?;
        transfer::bring(client, &self.cache, &remote)?;
        let path = self.cache.link(&remote.commit, file, &remote.etag)?;
        if commit.is_none() {
            self.cache.write_reference(&remote.commit)?;
        }
        Ok(path)
    }

    /// The size of `file` at `commit`, and how much of it is cached, both in bytes. Nothing is
    /// written.
    ///
    /// # Errors
    /// As for [`Hub::fetch`].
    pub(crate) fn measure(&self, file: &str, commit: Option<&str>) -> anyhow::Result<(u64, u64)> {
        check_file_name(file)?;
        let revision = commit.unwrap_or_else(|| self.repository.revision());
        let remote = self.client()?.head(self.repository, revision, file)?;
        Ok((remote.bytes, transfer::already(&self.cache, &remote)))
    }

    /// Makes the cached branch or tag point at `commit`. Called last, so that
    /// an interrupted update leaves the older snapshot in use.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub(crate) fn remember_commit(&self, commit: &str) -> anyhow::Result<()> {
        name::check_commit(commit)?;
        self.cache.write_reference(commit)
    }

    /// The URL of a file, for use in a browser.
    pub(crate) fn address(&self, file: &str) -> String {
        answer::resolve_url(
            &self.settings.endpoint,
            self.repository,
            self.repository.revision(),
            file,
        )
    }

    /// `owner/name`.
    pub(crate) fn repository(&self) -> &str {
        self.repository.id()
    }

    /// The requested revision.
    pub(crate) fn revision(&self) -> &str {
        self.repository.revision()
    }

    /// Whether the settings forbid the network.
    pub(crate) fn is_offline(&self) -> bool {
        self.settings.offline
    }

    /// Passes a note to the caller's [`Progress`].
    pub(crate) fn note(&self, message: &str) {
        self.progress.note(message);
    }

    /// The folder that holds this repository in the cache.
    pub(crate) fn folder(&self) -> &Path {
        self.cache.folder()
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn a_full_disk_and_a_hub_that_is_down_are_worth_retrying() {
        let io = |kind| anyhow::Error::new(std::io::Error::from(kind)).context("writing the blob");
        let down = || Unavailable::error("the hub is down");
        let cases = [
            (down(), true, false),
            (down().context("model x").context("y"), true, false),
            (io(ErrorKind::StorageFull), true, true),
            (io(ErrorKind::QuotaExceeded), true, true),
            (io(ErrorKind::PermissionDenied), false, false),
            (anyhow::anyhow!("no such model"), false, false),
        ];
        for (error, expected, full) in cases {
            assert_eq!(is_worth_retrying(&error), expected, "{error:#}");
            assert_eq!(is_passing(&error), full, "{error:#}");
        }
    }
}
