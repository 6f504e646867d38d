//! The images of a run that repeat, so that each different one is encoded once.
//!
//! Images are the same if the pixels that the tower would get are, so a copy in another format
//! counts too. Of a file that looks like an earlier one, the bytes are digested as well: the third
//! and later copies are not even decoded. Different files cost only the digest of their pixels.

use std::collections::HashMap;
use std::sync::Mutex;

use sha2::{Digest as _, Sha256};

use super::worker::Prepared;
use super::{Content, Known, lock};

/// Different images that are remembered, at least: at most twice as many are in memory. Past that,
/// the one not seen for longest is forgotten, and is encoded again when it comes back.
const REMEMBERED: usize = 8192;

/// Numbers of the widest results that are remembered: more than any embedding has, fewer than all
/// the patches of an image, of which so many would fill the memory.
const WIDEST: usize = 8192;

/// Bytes at the start, the middle and the end of a file by which a copy is suspected.
const GLANCE_BYTES: usize = 4096;

/// The images so far; workers use it at once.
#[derive(Default)]
pub(super) struct Repeats(Mutex<State>);

#[derive(Default)]
struct State {
    glances: Recent<()>,
    /// Digest of the pixels, and everything but the embedding, of files that were met twice.
    files: Recent<(Content, Known)>,
    /// By the digest of their pixels.
    embeddings: Recent<Vec<f32>>,
    /// Repeats of images in progress, by the same. No more than there are permits.
    waiting: HashMap<Content, Vec<Prepared>>,
    count: u64,
}

/// What to do with a decoded image.
pub(super) enum Claim {
    /// Encode it, then call [`Repeats::settle`].
    Encode(Prepared),
    /// It has this embedding.
    Known(Prepared, Vec<f32>),
    /// Nothing: `settle` of an image in progress returns it.
    Waits,
}

impl Repeats {
    /// How many images were not encoded, since an earlier one is the same.
    pub(super) fn count(&self) -> u64 {
        lock(&self.0).count
    }

    /// The digest of a file's bytes if it may be a copy of an earlier one; `content` is that digest
    /// if it is known.
    pub(super) fn file(&self, bytes: &[u8], content: Option<Content>) -> Option<Content> {
        let glance = glance(bytes);
        let is_new = lock(&self.0).glances.insert(glance, ()).is_none();
        (!is_new).then(|| content.unwrap_or_else(|| Sha256::digest(bytes).into()))
    }

    /// The results of a file with these bytes, if one was encoded.
    pub(super) fn of_file(&self, content: &Content) -> Option<Known> {
        let mut state = lock(&self.0);
        let (pixels, known) = state.files.get(content)?.clone();
        let embedding = state.embeddings.get(&pixels)?.clone();
        state.count += 1;
        Some(Known { embedding, ..known })
    }

    /// What to do with a decoded image. Its file is remembered if it may be a copy.
    pub(super) fn claim(&self, prepared: Prepared) -> Claim {
        let mut state = lock(&self.0);
        if let Some(file) = prepared.file {
            let known = prepared.known.clone();
            state.files.insert(file, (prepared.digest, known));
        }
        if let Some(embedding) = state.embeddings.get(&prepared.digest).cloned() {
            state.count += 1;
            return Claim::Known(prepared, embedding);
        }
        match state.waiting.get_mut(&prepared.digest) {
            Some(waiting) => {
                waiting.push(prepared);
                state.count += 1;
                Claim::Waits
            }
            None => {
                state.waiting.insert(prepared.digest, Vec::new());
                Claim::Encode(prepared)
            }
        }
    }

    /// Remembers the embedding of a claimed image, unless encoding failed; returns the repeats that
    /// waited for it.
    pub(super) fn settle(&self, pixels: &Content, embedding: Option<&Vec<f32>>) -> Vec<Prepared> {
        let mut state = lock(&self.0);
        if let Some(embedding) = embedding.filter(|embedding| embedding.len() <= WIDEST) {
            state.embeddings.insert(*pixels, embedding.clone());
        }
        state.waiting.remove(pixels).unwrap_or_default()
    }
}

/// A digest of a file's length and of some of its bytes, which takes no time.
fn glance(bytes: &[u8]) -> Content {
    let part = |start: usize| &bytes[start..bytes.len().min(start + GLANCE_BYTES)];
    let mut hash = Sha256::new();
    hash.update(bytes.len().to_le_bytes());
    for start in [0, bytes.len() / 2, bytes.len().saturating_sub(GLANCE_BYTES)] {
        hash.update(part(start));
    }
    hash.finalize().into()
}

/// The values of the last keys that were used, in two generations: the old one is dropped when the
/// new one is full.
struct Recent<V> {
    new: HashMap<Content, V>,
    old: HashMap<Content, V>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self {
            new: HashMap::new(),
            old: HashMap::new(),
        }
    }
}

impl<V> Recent<V> {
    fn get(&mut self, key: &Content) -> Option<&V> {
        if let Some(value) = self.old.remove(key) {
            self.insert(*key, value);
        }
        self.new.get(key)
    }

    /// Returns the key's earlier value.
    fn insert(&mut self, key: Content, value: V) -> Option<V> {
        if self.new.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.new);
        }
        let old = self.old.remove(&key);
        self.new.insert(key, value).or(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Content {
        Sha256::digest(number.to_le_bytes()).into()
    }

    #[test]
    fn memory_is_bounded_and_the_last_used_keys_stay() {
        let mut recent = Recent::default();
        for number in 0..5 * REMEMBERED {
            assert_eq!(recent.insert(key(number), number), None);
            assert!(recent.new.len() + recent.old.len() <= 2 * REMEMBERED);
            // Used again and again, however long ago it came.
            assert_eq!(recent.get(&key(0)), Some(&0));
        }
        let last = 5 * REMEMBERED - 1;
        assert_eq!(recent.get(&key(last)), Some(&last));
        assert_eq!(recent.get(&key(1)), None);
        assert_eq!(recent.insert(key(last), 7), Some(last));
    }

    #[test]
    fn a_glance_sees_the_length_both_ends_and_the_middle() {
        let bytes = vec![7; 100_000];
        let first = glance(&bytes);
        for place in [0, 50_000, 99_999] {
            let mut other = bytes.clone();
            other[place] = 8;
            assert_ne!(glance(&other), first, "{place}");
        }
        assert_ne!(glance(&bytes[1..]), first);
        for length in [0, 1, GLANCE_BYTES, GLANCE_BYTES + 1] {
            assert_ne!(glance(&bytes[..length]), first);
        }
    }
}
