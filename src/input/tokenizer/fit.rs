//! Fits a text into the tokens that a model reads, or says why not.

use anyhow::{Context, Result, bail, ensure};

use super::merges::{self, Joiner};
use super::{END_OF_TEXT, START_OF_TEXT, WORD, clean, encode_clean, encode_word};

/// What OpenAI's models read; such a user may want to hear of Long-CLIP.
const SHORT_CONTEXT: usize = 77;
/// About how much of a text an error quotes.
const QUOTED_CHARS: usize = 40;

/// What happens to a text that has more tokens than the model reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LongText {
    /// It is an error, which names the text and the ways out.
    #[default]
    Error,
    /// The tokens that are too many are dropped and the last one kept becomes the end of text, as
    /// the reference does with `truncate=True`.
    Truncate,
}

/// The tokens of one text as the text tower reads them: the start of text first, the first end of
/// text last, never padded.
///
/// The tower's output at the **last** entry is the text's embedding. The reference reads it where
/// the ids have their first maximum, which is the first end of text; what follows cannot change
/// that row under the causal mask, so it is not kept. This matters only for a text that holds a
/// literal `<|endoftext|>`: the reference embeds just the part before it, and so do we.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenIds(Vec<u32>);

#[allow(
    clippy::len_without_is_empty,
    reason = "there are always a start and an end"
)]
impl TokenIds {
    /// Token ids from elsewhere, cut after the first end of text.
    ///
    /// Fails if they do not begin with [`START_OF_TEXT`] or have no [`END_OF_TEXT`].
    pub fn new(mut ids: Vec<u32>) -> Result<Self> {
        ensure!(
            ids.first() == Some(&START_OF_TEXT),
            "token ids must begin with the start of text, {START_OF_TEXT}, but begin with {:?}",
            ids.first()
        );
        let end = ids.iter().position(|&id| id == END_OF_TEXT);
        let end = end.with_context(|| format!("token ids lack the end of text, {END_OF_TEXT}"))?;
        ids.truncate(end + 1);
        Ok(Self(ids))
    }

    /// The ids, `[tokens]`.
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }

    /// How many tokens there are, with the start and the end: at least two.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// A text that fits its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// What the text tower reads.
    pub token_ids: TokenIds,
    /// What was dropped to make the text fit; none if it did.
    pub cut: Option<Cut>,
}

/// The end of a text that its model does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// How many tokens were dropped.
    pub tokens: usize,
    /// What they say, as cleaned text; from the next whole character if a token ended inside one.
    pub text: String,
}

/// The tokens of `text` for a model that reads `context_length` of them, start and end included.
///
/// Fails if the text has more and `policy` is [`LongText::Error`], and if `context_length` has no
/// room for a start and an end.
pub fn fit(text: &str, context_length: usize, policy: LongText) -> Result<Fitted> {
    ensure!(
        context_length >= 2,
        "a context of {context_length} tokens has no room for a text: 2 are its start and its end"
    );
    let cleaned = clean(text);
    let mut ids = encode_clean(&cleaned);
    let mut cut = None;
    if ids.len() > context_length {
        if policy == LongText::Error {
            bail!(too_long(text, ids.len(), context_length));
        }
        cut = Some(Cut {
            tokens: ids.len() - context_length,
            text: rest(&cleaned, context_length - 2),
        });
        ids.truncate(context_length);
        ids[context_length - 1] = END_OF_TEXT;
    }
    let token_ids = TokenIds::new(ids)?;
    Ok(Fitted { token_ids, cut })
}

fn too_long(text: &str, tokens: usize, context_length: usize) -> String {
    let long_clip = if context_length == SHORT_CONTEXT {
        ", or use a Long-CLIP model (248)"
    } else {
        ""
    };
    let ways = if long_clip.is_empty() { " or" } else { "," };
    format!(
        "text \"{}\" has {tokens} tokens but this model reads {context_length}; \
         shorten it{ways} pass --long-text truncate{long_clip}",
        start_of(text)
    )
}

/// The first characters of a text on one line, for quoting.
fn start_of(text: &str) -> String {
    let printable = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c });
    let mut start: String = printable.take(QUOTED_CHARS).collect();
    if start.len() < text.trim().len() {
        start.truncate(start.trim_end().len());
        start.push('…');
    }
    start
}

/// What of a cleaned text comes after its first `kept` tokens (the start of text not counted).
fn rest(cleaned: &str, mut kept: usize) -> String {
    let mut joiner = Joiner::default();
    for word in WORD.find_iter(cleaned) {
        let mut ids = Vec::new();
        encode_word(word.as_str(), &mut joiner, &mut ids);
        if kept < ids.len() {
            let mut bytes = Vec::new();
            for &id in &ids[..kept] {
                merges::expand(id, &mut bytes);
            }
            let from = cleaned.ceil_char_boundary(word.start() + bytes.len());
            return cleaned[from..].to_owned();
        }
        kept -= ids.len();
    }
    String::new()
}
