//! Whether a list for undoing was written by this user on this machine: each line carries a seal
//! that only the holder of the user's key can make.
//!
//! The list lies in a folder that others may have made. With a list of their own, they could have
//! `undo` move a file of theirs to any path of the user's.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use rand::TryRngCore as _;
use rand::rngs::OsRng;
use sha2::{Digest as _, Sha256};

use crate::file::digest::{Digest, hexadecimal};
use crate::file::temporary::{Readers, TemporaryFile};

/// Name of the key in the state folder.
const FILE: &str = "undo.key";
/// Before the seal, which is the last key of a line's object.
const MARK: &str = ",\"seal\":\"";
/// After it.
const END: &str = "\"}";

/// Seals the lines of one list in their order, or checks them.
pub(super) struct Seals {
    key: Digest,
    /// The seal of the line before.
    last: Digest,
}

impl Seals {
    /// With the user's key, which is made if there is none; `None` if it cannot be kept.
    pub(super) fn make() -> Option<Self> {
        let path = key_path()?;
        let key = read_key(&path).or_else(|| {
            // Another run may be as far; the first key stays.
            let _ = make_key(&path);
            read_key(&path)
        })?;
        Some(Self::with(key))
    }

    /// With the user's key, if there is one.
    pub(super) fn find() -> Option<Self> {
        Some(Self::with(read_key(&key_path()?)?))
    }

    fn with(key: Digest) -> Self {
        Self {
            key,
            last: Digest::default(),
        }
    }

    /// Adds the seal to a JSON object without a newline.
    pub(super) fn seal(&mut self, line: &mut Vec<u8>) {
        let seal = self.next(line);
        line.pop();
        line.extend(format!("{MARK}{seal}{END}").bytes());
    }

    /// Whether the line carries the seal that [`Seals::seal`] adds to it at this place.
    pub(super) fn check(&mut self, line: &[u8]) -> bool {
        let length = MARK.len() + 2 * self.last.len() + END.len();
        let split = line.len().checked_sub(length);
        let Some((body, end)) = split.and_then(|at| line.split_at_checked(at)) else {
            return false;
        };
        let mut plain = body.to_vec();
        plain.push(b'}');
        let seal = self.next(&plain);
        end == format!("{MARK}{seal}{END}").as_bytes()
    }

    /// The seal of the next line. The inner digest has a fixed length, so that no line continues
    /// another one's; the seal before it ties each line to its place.
    fn next(&mut self, line: &[u8]) -> String {
        let inner = Sha256::new_with_prefix(self.key)
            .chain_update(self.last)
            .chain_update(line)
            .finalize();
        self.last = Sha256::new_with_prefix(self.key)
            .chain_update(inner)
            .finalize()
            .into();
        hexadecimal(&self.last)
    }
}

/// `$XDG_STATE_HOME/longclip`, else `~/.local/state/longclip`, on Windows `%LOCALAPPDATA%`.
fn key_path() -> Option<PathBuf> {
    if cfg!(test) {
        // Unit tests leave the home of whoever runs them alone.
        return None;
    }
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let folder = path("XDG_STATE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| path("LOCALAPPDATA").filter(|path| path.is_absolute()))
        .or_else(|| Some(path("HOME")?.join(".local/state")))?;
    folder
        .is_absolute()
        .then(|| folder.join("longclip").join(FILE))
}

fn read_key(path: &Path) -> Option<Digest> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut key = Digest::default();
    File::open(path).ok()?.read_exact(&mut key).ok()?;
    Some(key)
}

/// Writes a new key, readable by the user alone.
fn make_key(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut key = Digest::default();
    OsRng.try_fill_bytes(&mut key).map_err(io::Error::other)?;
    let file = TemporaryFile::next_to(path, Readers::User)?;
    file.as_file().write_all(&key)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_lines_in_their_order_carry_the_seals_of_a_key() {
        let lines = ["{\"a\":1}", "{\"b\":2}", "{\"b\":2}"];
        let mut seals = Seals::with([7; 32]);
        let sealed = lines.map(|line| {
            let mut line = line.as_bytes().to_vec();
            seals.seal(&mut line);
            let read: serde_json::Value = serde_json::from_slice(&line).unwrap();
            assert!(read["seal"].is_string());
            line
        });
        assert_ne!(sealed[1], sealed[2]);
        let check = |key: u8, order: &[usize]| {
            let mut seals = Seals::with([key; 32]);
            order.iter().all(|at| seals.check(&sealed[*at]))
        };
        assert!(check(7, &[0, 1, 2]) && check(7, &[0]));
        assert!(!check(8, &[0]));
        for order in [&[1][..], &[0, 2], &[0, 0]] {
            assert!(!check(7, order), "{order:?}");
        }
        for at in 0..sealed[0].len() {
            let mut line = sealed[0].clone();
            line[at] ^= 1;
            assert!(!Seals::with([7; 32]).check(&line), "{at}");
        }
        assert!(!Seals::with([7; 32]).check(b"{}"));
    }

    #[test]
    fn a_key_is_made_once_and_belongs_to_the_user() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("state/longclip").join(FILE);
        assert_eq!(read_key(&path), None);
        make_key(&path).unwrap();
        let key = read_key(&path).unwrap();
        assert_ne!(key, Digest::default());
        assert!(make_key(&path).is_err());
        assert_eq!(read_key(&path), Some(key));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0);
        }
    }
}
