//! The hash that names a blob.

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::file::digest::hexadecimal;

/// An incremental hash of a file's bytes, of the kind that the hub names it by.
pub(super) enum Digest {
    /// Large files: sha256 of the content.
    Sha256(Sha256),
    /// Small files: git's object name, sha1 of `blob <length>\0` and the content.
    GitBlob(Sha1),
}

impl Digest {
    /// The hash of the kind that `etag` has (64 digits or 40, see
    /// [`parse_etag`](super::name::parse_etag)), for a file of `bytes`.
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
