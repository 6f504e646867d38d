//! Whether cached files still are what their names in the cache promise.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::digest::Digest;
use super::name::parse_etag;
use super::{Content, Stored, StoredFile};

const BUFFER_BYTES: usize = 256 << 10;

/// What a check of a file found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Its bytes have the hash that the hub stated; `bytes` of them.
    Whole {
        /// Its length.
        bytes: u64,
    },
    /// They have not, or cannot be read; says why.
    Damaged(String),
    /// The cache has nothing to compare it with; says why.
    Unknown(String),
}

impl Stored {
    /// Checks the files of these commits, telling each file before it is read. Blobs that several
    /// snapshots share are read once.
    pub fn verify(
        &self,
        commits: &[String],
        mut tell: impl FnMut(&StoredFile),
    ) -> Vec<(StoredFile, Condition)> {
        let mut known = HashMap::new();
        let files = commits.iter().flat_map(|commit| self.files(commit));
        files
            .map(|file| {
                let condition = match &file.content {
                    Content::Blob(etag) => known
                        .entry(etag.clone())
                        .or_insert_with(|| {
                            tell(&file);
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
        return Condition::Unknown(format!("its blob's name, {etag:?}, is no hash"));
    }
    match blob.symlink_metadata() {
        Ok(metadata) if metadata.is_symlink() => {
            Condition::Unknown("its blob is a link to something else".to_owned())
        }
        Ok(_) => match hash(blob, etag) {
            Ok((true, bytes)) => Condition::Whole { bytes },
            Ok((false, bytes)) => Condition::Damaged(format!(
                "its {bytes} bytes do not have the hash that the hub stated, {etag}"
            )),
            Err(cause) => Condition::Damaged(format!("it cannot be read: {cause}")),
        },
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            Condition::Damaged("its content is gone from the cache".to_owned())
        }
        Err(cause) => Condition::Damaged(format!("it cannot be read: {cause}")),
    }
}

/// Whether the file has the hash, and its length in bytes.
fn hash(path: &Path, etag: &str) -> io::Result<(bool, u64)> {
    let mut file = File::open(path)?;
    // Part of git's hash, so that a wrong length is a wrong hash.
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
