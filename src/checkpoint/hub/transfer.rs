//! Downloads one blob into the cache: resumes, verifies, and only then names it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::answer::{Fault, Response, interrupted};
use super::cache::{RepositoryCache, cannot_write, open_partial, settle};
use super::client::{Client, Patience, RemoteFile};
use super::pace::Paced;
use super::verify::Digest;
use super::{Unavailable, name};

/// A try that received at least this many bytes does not count as failed.
const GAIN_BYTES: u64 = 1 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// Makes sure that the blob of `remote` is in the cache, complete and correct.
///
/// # Errors
/// [`Unavailable`] when the hub or the disk fails, others when the file is
/// refused or the cache cannot be written.
pub(super) fn bring(
    client: &Client<'_>,
    cache: &RepositoryCache,
    remote: &RemoteFile,
) -> anyhow::Result<()> {
    let blob = cache.blob(&remote.etag);
    if has_length(&blob, remote.bytes) {
        return Ok(());
    }
    let limit = client.settings.limit_bytes;
    ensure!(
        remote.bytes <= limit,
        "the hub reports {} with {} bytes, above the limit of {limit}",
        remote.name,
        remote.bytes
    );
    let _lock = cache.lock(&remote.etag, client.progress)?;
    if has_length(&blob, remote.bytes) {
        return Ok(()); // fetched by another process while we waited
    }
    let partial = cache.partial(&remote.etag);
    let fetched = fetch(client, remote, &partial);
    client.progress.finish();
    settle(fetched?, &partial, &blob)
}

/// How many bytes of `remote` the cache has, whole or in part.
pub(super) fn already(cache: &RepositoryCache, remote: &RemoteFile) -> u64 {
    if has_length(&cache.blob(&remote.etag), remote.bytes) {
        return remote.bytes;
    }
    let partial = cache.partial(&remote.etag).metadata();
    // A longer one is begun again.
    let kept = partial.map_or(0, |found| found.len());
    if kept > remote.bytes { 0 } else { kept }
}

fn has_length(path: &Path, bytes: u64) -> bool {
    path.metadata()
        .is_ok_and(|found| found.is_file() && found.len() == bytes)
}

/// Tries until the partial file is complete; received bytes are kept between
/// tries and between runs.
fn fetch(client: &Client<'_>, remote: &RemoteFile, partial: &Path) -> anyhow::Result<File> {
    let mut patience = Patience::default();
    let mut furthest = 0;
    loop {
        let mut growing = Growing::open(remote, partial)?;
        furthest = growing.have.max(furthest);
        client
            .progress
            .start(&remote.name, remote.bytes, growing.have);
        let Err(fault) = growing.complete(client) else {
            return Ok(growing.file);
        };
        let gained = growing.have >= furthest + GAIN_BYTES;
        patience.wait(client, fault, gained)?;
    }
}

/// A partially downloaded blob.
struct Growing<'a> {
    remote: &'a RemoteFile,
    path: PathBuf,
    file: File,
    digest: Digest,
    have: u64,
}

impl<'a> Growing<'a> {
    /// Opens the partial file and hashes what an earlier try left in it.
    fn open(remote: &'a RemoteFile, partial: &Path) -> anyhow::Result<Self> {
        let file = open_partial(partial)?;
        let mut growing = Self {
            remote,
            path: partial.to_owned(),
            file,
            digest: Digest::for_etag(&remote.etag, remote.bytes),
            have: 0,
        };
        let reading = || format!("cannot read {}", partial.display());
        let mut buffer = vec![0; BUFFER_BYTES];
        while growing.have <= remote.bytes {
            let count = growing.file.read(&mut buffer).with_context(reading)?;
            if count == 0 {
                break;
            }
            growing.digest.update(&buffer[..count]);
            growing.have += count as u64;
        }
        if growing.have > remote.bytes {
            growing.begin_again()?;
        }
        Ok(growing)
    }

    fn begin_again(&mut self) -> anyhow::Result<()> {
        self.digest = Digest::for_etag(&self.remote.etag, self.remote.bytes);
        self.have = 0;
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(|cause| cannot_write(&self.path, cause))?;
        Ok(())
    }

    /// Receives the missing bytes and verifies the whole.
    fn complete(&mut self, client: &Client<'_>) -> Result<(), Fault> {
        if self.have < self.remote.bytes {
            let answer = client.get(self.remote, self.have)?;
            self.check_extent(client, &answer)?;
            self.receive(client, answer)?;
        }
        let empty = Digest::for_etag(&self.remote.etag, self.remote.bytes);
        if std::mem::replace(&mut self.digest, empty).agrees(&self.remote.etag) {
            return Ok(());
        }
        self.begin_again().map_err(Fault::Lasting)?;
        let message = format!(
            "{} arrived damaged from {} (its hash does not match)",
            self.remote.name, self.remote.url
        );
        Err(Fault::passing(Unavailable::error(message)))
    }

    /// Checks that the body starts where our part ends, and ends where the file does.
    fn check_extent(&mut self, client: &Client<'_>, answer: &Response) -> Result<(), Fault> {
        let header = |name: &str| answer.headers().get(name)?.to_str().ok();
        let (have, bytes) = (self.have, self.remote.bytes);
        if answer.status().as_u16() == 206 {
            let range = header("Content-Range").unwrap_or("no range");
            if range == format!("bytes {have}-{}/{bytes}", bytes - 1) {
                return Ok(());
            }
            let range = name::excerpt(range);
            // Once the part is dropped, the next try asks for the whole file.
            self.begin_again().map_err(Fault::Lasting)?;
            return Err(
                self.not_as_announced(&format!("{range:?} instead of bytes {have} to {bytes}"))
            );
        }
        if have > 0 {
            self.begin_again().map_err(Fault::Lasting)?;
            client.progress.start(&self.remote.name, bytes, 0);
        }
        match header("Content-Length") {
            Some(length) if length.parse() != Ok(bytes) => {
                let length = name::excerpt(length);
                Err(self.not_as_announced(&format!("{length} bytes instead of {bytes}")))
            }
            _ => Ok(()),
        }
    }

    fn not_as_announced(&self, what: &str) -> Fault {
        let message = format!("{} sent {what} of {}", self.remote.url, self.remote.name);
        Fault::passing(Unavailable::error(message))
    }

    fn receive(&mut self, client: &Client<'_>, answer: Response) -> Result<(), Fault> {
        let mut body = Paced::new(answer.into_body().into_reader(), client.settings);
        let mut buffer = vec![0; BUFFER_BYTES];
        while self.have < self.remote.bytes {
            let missing = usize::try_from(self.remote.bytes - self.have).unwrap_or(usize::MAX);
            let room = missing.min(BUFFER_BYTES);
            let count = match body.read(&mut buffer[..room]) {
                Ok(0) => return Err(self.cut(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => count,
                Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(cause) => return Err(self.cut(cause)),
            };
            self.file
                .write_all(&buffer[..count])
                .map_err(|cause| Fault::Lasting(cannot_write(&self.path, cause)))?;
            self.digest.update(&buffer[..count]);
            self.have += count as u64;
            client.progress.advance(count as u64);
        }
        Ok(())
    }

    fn cut(&self, cause: std::io::Error) -> Fault {
        let message = format!(
            "the connection to {} broke after {} of {} bytes",
            self.remote.url, self.have, self.remote.bytes
        );
        interrupted(message, cause)
    }
}
