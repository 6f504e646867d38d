//! The texts that the text tower is timed on.

use std::path::Path;

use anyhow::Result;

use crate::input::prompt::{self, Templates};
use crate::input::tokenizer::{self, END_OF_TEXT, LongText, START_OF_TEXT, TokenIds};

/// Maximum number of labels timed together.
const MOST: usize = 1000;

const ADJECTIVES: [&str; 34] = [
    "red", "green", "blue", "old", "new", "small", "large", "wooden", "metal", "happy", "sad",
    "wet", "dry", "bright", "dark", "white", "black", "yellow", "broken", "clean", "dirty",
    "heavy", "light", "round", "square", "tall", "short", "soft", "hard", "fast", "slow", "hot",
    "cold", "quiet",
];
const NOUNS: [&str; 30] = [
    "cat", "dog", "car", "tree", "house", "boat", "plane", "bird", "horse", "sheep", "cow", "bear",
    "zebra", "lamp", "chair", "table", "cup", "fork", "knife", "spoon", "bowl", "pizza", "cake",
    "apple", "orange", "bed", "sofa", "clock", "vase", "book",
];

/// The labels of `file`, at most 1000, or as many generated ones. Guesses about the file are passed
/// to `say`.
pub(super) fn labels(file: Option<&Path>, say: impl FnMut(&String)) -> Result<Vec<String>> {
    let Some(file) = file else {
        return Ok((0..MOST).map(made).collect());
    };
    let set = prompt::labels_from_file(file, None, &Templates::none())?;
    set.note.iter().for_each(say);
    Ok(set
        .classes
        .into_iter()
        .flat_map(|class| class.prompts)
        .take(MOST)
        .collect())
}

/// The generated label with this index below 1020. All differ, and both words change from one to
/// the next, so that even a few labels share only the template.
fn made(number: usize) -> String {
    let adjective = number % ADJECTIVES.len();
    let noun = (adjective + number / ADJECTIVES.len()) % NOUNS.len();
    format!("a photo of a {} {}", ADJECTIVES[adjective], NOUNS[noun])
}

/// The tokens of `labels`, each at its own length.
pub(super) fn tokens(labels: &[String], context_length: usize) -> Result<Vec<TokenIds>> {
    let fit = |label: &String| tokenizer::fit(label, context_length, LongText::Error);
    labels
        .iter()
        .map(|label| Ok(fit(label)?.into_first()))
        .collect()
}

/// Texts of arbitrary words that fill the context and have nothing in common.
pub(super) fn full_context(count: usize, context_length: usize) -> Result<Vec<TokenIds>> {
    let mut state = 1_u32;
    let mut word = || {
        // Knuth's constants; the high bits are the most random.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % START_OF_TEXT
    };
    let text = |_| {
        let mut ids = vec![START_OF_TEXT];
        ids.extend((2..context_length).map(|_| word()));
        ids.push(END_OF_TEXT);
        TokenIds::new(ids)
    };
    (0..count).map(text).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn generated_labels_differ() {
        let labels = labels(None, |_| ()).unwrap();
        assert_eq!(labels.len(), MOST);
        assert_eq!(
            labels[..2],
            ["a photo of a red cat", "a photo of a green dog"]
        );
        assert_eq!(labels.iter().collect::<HashSet<_>>().len(), MOST);
        let first_words: HashSet<_> = (0..10)
            .map(|n| made(n).split(' ').nth(4).map(str::to_owned))
            .collect();
        assert_eq!(first_words.len(), 10);
    }

    #[test]
    fn full_texts_fill_the_context_and_share_only_their_start() {
        let texts = full_context(10, 77).unwrap();
        assert!(texts.iter().all(|text| text.len() == 77));
        let second: HashSet<_> = texts.iter().map(|text| text.as_slice()[1]).collect();
        assert_eq!(second.len(), 10);
    }

    #[test]
    fn a_file_replaces_the_labels() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("labels.txt");
        std::fs::write(&file, "a cat\na dog in the rain\n").unwrap();
        assert_eq!(
            labels(Some(&file), |_| ()).unwrap(),
            ["a cat", "a dog in the rain"]
        );
        let tokens = tokens(&labels(Some(&file), |_| ()).unwrap(), 77).unwrap();
        assert_eq!(tokens[0].len(), 4);
        assert_eq!(tokens[1].len(), 7);
    }
}
