//! Hashes that name the files of a hub, and the verification of cached files against them.

use std::collections::HashMap;
use std::io;
use std::io::Read as _;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::name::parse_etag;
use super::{PathKind, Stored, StoredFile};
use crate::file::digest::hexadecimal;
use crate::file::open;

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
                    PathKind::Blob(etag) => known
                        .entry(etag.clone())
                        .or_insert_with(|| {
                            report(&file);
                            check(&self.cache.blob(etag), etag)
                        })
                        .clone(),
                    PathKind::Copy => Condition::Unknown(
                        "a copy, not a link to a blob whose name is its hash".to_owned(),
                    ),
                    PathKind::Elsewhere => {
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
    let (mut file, length) = open::regular(path)?;
    // The length is part of git's hash, so a wrong length gives a wrong hash.
    let mut digest = Digest::for_etag(etag, length);
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

/// An incremental hash of a file's bytes, of the kind that the hub names it by.
pub(super) enum Digest {
    /// Large files: sha256 of the content.
    Sha256(Sha256),
    /// Small files: git's object name, sha1 of `blob <length>\0` and the content.
    GitBlob(Sha1),
}

impl Digest {
    /// The hash of the kind that `etag` has (64 digits or 40, see
    /// [`parse_etag`]), for a file of `bytes`.
    pub(super) fn for_etag(etag: &str, bytes: u64) -> Self {
        match etag.len() {
            64 => Self::Sha256(Sha256::new()),
            _ => Self::GitBlob(Sha1::new_with_prefix(format!("blob {bytes}\0"))),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::GitBlob(hash) => hash.update(bytes),
        }
    }

    /// Whether the bytes so far have the hash `etag`.
    pub(super) fn agrees(self, etag: &str) -> bool {
        match self {
            Self::Sha256(hash) => hexadecimal(&hash.finalize()) == etag,
            Self::GitBlob(hash) => hexadecimal(&hash.finalize()) == etag,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_hash_are_known() {
        // `printf hello | sha256sum` and `printf hello | git hash-object --stdin`.
        let cases = [
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
            "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0",
        ];
        for etag in cases {
            for (content, expected) in [("hello", true), ("hellp", false)] {
                let mut digest = Digest::for_etag(etag, 5);
                digest.update(&content.as_bytes()[..2]);
                digest.update(&content.as_bytes()[2..]);
                assert_eq!(digest.agrees(etag), expected, "{etag} {content}");
            }
        }
    }
}
