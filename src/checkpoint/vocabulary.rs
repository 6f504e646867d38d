//! Checks that a model uses CLIP's vocabulary. The built-in tokenizer is always used, so a model
//! trained with another vocabulary would misinterpret its token ids.

#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::source::ModelFiles;
use crate::file::open;
use crate::input::tokenizer::{END_OF_TEXT, START_OF_TEXT, VOCABULARY, piece};

type Vocabulary = HashMap<String, u32>;

/// The relevant part of a tokenizer.json.
#[derive(Deserialize)]
struct TokenizerFile {
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    vocab: Vocabulary,
}

/// Fails if the tokenizer files next to the weights are not CLIP's; passes if there are none.
///
/// # Errors
/// When a file cannot be read, or names the first token that differs.
pub(crate) fn check(files: &ModelFiles) -> Result<()> {
    let (path, vocabulary) = match (&files.vocabulary, &files.tokenizer) {
        (Some(path), _) => (path, read::<Vocabulary>(path)?),
        (None, Some(path)) => (path, read::<TokenizerFile>(path)?.model.vocab),
        (None, None) => return Ok(()),
    };
    is_clips(&vocabulary).with_context(|| {
        format!(
            "{} is not CLIP's vocabulary, the only one that longclip supports",
            path.display()
        )
    })
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let bytes = open::bytes(path, open::SETTINGS_BYTES)
        .with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is not a tokenizer that longclip knows", path.display()))
}

fn is_clips(vocabulary: &Vocabulary) -> Result<()> {
    ensure!(
        vocabulary.len() == VOCABULARY,
        "it has {} tokens, but CLIP's has {VOCABULARY}",
        vocabulary.len()
    );
    for (name, id) in [
        ("<|startoftext|>", START_OF_TEXT),
        ("<|endoftext|>", END_OF_TEXT),
    ] {
        ensure!(
            vocabulary.get(name) == Some(&id),
            "{name} is not token {id}"
        );
    }
    for (token, &id) in vocabulary {
        // Other bytes are written as substitute letters there; nine of ten tokens are plain.
        let plain = token.bytes().all(|byte| byte.is_ascii_graphic());
        if plain && piece(id) != *token {
            bail!("token {id} is {token:?}, but CLIP's is {:?}", piece(id));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clips() -> Vocabulary {
        let mut vocabulary: Vocabulary = (0..VOCABULARY as u32)
            .map(|id| (piece(id), id))
            .filter(|(token, _)| token.is_ascii())
            .collect();
        let mut id = 0;
        while vocabulary.len() < VOCABULARY {
            vocabulary.insert(format!("\u{e9}{id}"), id);
            id += 1;
        }
        vocabulary
    }

    #[test]
    fn clips_own_passes_and_another_is_named() {
        is_clips(&clips()).unwrap();
        let mut swapped = clips();
        let (cat, dog) = (swapped["cat</w>"], swapped["dog</w>"]);
        swapped.insert("cat</w>".to_owned(), dog);
        swapped.insert("dog</w>".to_owned(), cat);
        let error = is_clips(&swapped).unwrap_err().to_string();
        assert!(
            error.contains("cat</w>") && error.contains("dog</w>"),
            "{error}"
        );
        let mut smaller = clips();
        smaller.remove("cat</w>");
        assert!(is_clips(&smaller).is_err());
    }
}
