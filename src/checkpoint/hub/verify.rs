//! Verification of cached files against the hashes that name them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::digest::Digest;
use super::name::parse_etag;
use super::{Content, Stored, StoredFile};

const BUFFER_BYTES: usize = 256 << 10;

/// The result of verifying a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Its content has the hash that the hub gave.
    Whole {
        /// Its length.
        bytes: u64,
    },
    /// The content differs or cannot be read; with the reason.
    Damaged(String),
    /// There is no hash to compare with; with the reason.
    Unknown(String),
}

impl Stored {
    /// Verifies the files of these commits, reporting each before it is read. Blobs that several
    /// snapshots share are read once.
    pub fn verify(
        &self,
        commits: &[String],
        mut report: impl FnMut(&StoredFile),
    ) -> Vec<(StoredFile, Condition)> {
        let mut known = HashMap::new();
        let files = commits.iter().flat_map(|commit| self.files(commit));
        files
            .map(|file| {
                let condition = match &file.content {
                    Content::Blob(etag) => known
                        .entry(etag.clone())
                        .or_insert_with(|| {
                            report(&file);
                            check(&self.cache.blob(etag), etag)
                        })
                        .clone(),
                    Content::Copy => Condition::Unknown(
                        "a copy, not a link to a blob whose name is its hash".to_owned(),
                    ),
                    Content::Elsewhere => {
                        Condition::Unknown("a link to something outside the cache".to_owned())
                    }
                };
                (file, condition)
            })
            .collect()
    }
}

/// Compares a blob with the hash that is its name.
fn check(blob: &Path, etag: &str) -> Condition {
    if parse_etag(etag).is_err() {
        return Condition::Unknown(format!("its blob's name, {etag:?}, is not a hash"));
    }
    match blob.symlink_metadata() {
        Ok(metadata) if metadata.is_symlink() => {
            Condition::Unknown("its blob is a link to something else".to_owned())
        }
        Ok(_) => match hash(blob, etag) {
            Ok((true, bytes)) => Condition::Whole { bytes },
            Ok((false, bytes)) => Condition::Damaged(format!(
                "the hash of its {bytes} bytes is not the one that the hub gave, {etag}"
            )),
            Err(cause) => Condition::Damaged(format!("it cannot be read: {cause}")),
        },
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            Condition::Damaged("its content is missing from the cache".to_owned())
        }
        Err(cause) => Condition::Damaged(format!("it cannot be read: {cause}")),
    }
}

/// Whether the file has the hash, and its length in bytes.
fn hash(path: &Path, etag: &str) -> io::Result<(bool, u64)> {
    let mut file = File::open(path)?;
    // The length is part of git's hash, so a wrong length gives a wrong hash.
    let mut digest = Digest::for_etag(etag, file.metadata()?.len());
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((digest.agrees(etag), bytes)),
            Ok(count) => {
                digest.update(&buffer[..count]);
                bytes += count as u64;
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
}
