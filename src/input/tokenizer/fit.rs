//! Fits a text into the model's context, or says why it does not fit.

use anyhow::{Context, Result, bail, ensure};

use super::{END_OF_TEXT, Joiner, START_OF_TEXT, WORD, chunk, clean, encode_clean, encode_word};

/// Longest text that is tokenised, in bytes. What is longer is a book or another file, of which no
/// model reads a thousandth.
pub(crate) const LONGEST_TEXT: usize = 1 << 20;
/// Context length of OpenAI's models; their users may want to know of Long-CLIP.
const SHORT_CONTEXT: usize = 77;
/// About how many characters of a text an error quotes.
const QUOTED_CHARS: usize = 40;

/// What happens to a text with more tokens than the model reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LongText {
    /// It is an error, which names the text and ways to fix it.
    #[default]
    Error,
    /// The excess tokens are dropped and the last one kept becomes the end of text, as in the
    /// reference with `truncate=True`.
    Truncate,
    /// The text is split into chunks that end at word ends, each embedded alone; the mean is the
    /// text's embedding.
    ChunkMean,
    /// The same with overlapping windows: each begins at the first word that is at least `stride`
    /// tokens after the start of the previous one.
    Slide {
        /// By default half of the context.
        stride: Option<usize>,
    },
    /// The chunks of [`LongText::ChunkMean`]; each image is compared with the best matching one.
    BestChunk,
}

impl LongText {
    /// The name in `--long-text`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Truncate => "truncate",
            Self::ChunkMean => "chunk-mean",
            Self::Slide { .. } => "slide",
            Self::BestChunk => "best-chunk",
        }
    }
}

/// The tokens of one text as the text tower reads them: start of text first, the first end of text
/// last, never padded.
///
/// The tower's output at the **last** entry is the text's embedding. The reference reads it at the
/// first maximum of the ids, which is the first end of text; what follows cannot change that row
/// under the causal mask, so it is dropped. This matters only for a text with a literal
/// `<|endoftext|>`: the reference embeds just the part before it, and so does longclip.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenIds(Vec<u32>);

#[allow(
    clippy::len_without_is_empty,
    reason = "there are always a start and an end"
)]
impl TokenIds {
    /// Existing token ids, truncated after the first end of text.
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

    /// The number of tokens, including start and end: at least two.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// A text as its model can read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// Inputs of the text tower: at least one chunk, and more only if the text is too long and
    /// [`LongText`] allows it.
    pub chunks: Vec<Chunk>,
    /// How several chunks are combined.
    pub reading: Reading,
    /// What was dropped to make the text fit; `None` if it fitted.
    pub cut: Option<Cut>,
}

impl Fitted {
    /// The first chunk's token ids: the only one, unless the text was split into chunks.
    #[must_use]
    pub fn into_first(mut self) -> TokenIds {
        self.chunks.swap_remove(0).token_ids
    }

    fn single(ids: Vec<u32>, cut: Option<Cut>) -> Result<Self> {
        Ok(Self {
            chunks: vec![Chunk::new(TokenIds::new(ids)?)],
            reading: Reading::Mean,
            cut,
        })
    }
}

/// A part of a text that the model reads at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The text tower's input.
    pub token_ids: TokenIds,
    /// How many of these tokens are text, the chunk's weight in a mean.
    pub tokens: usize,
}

impl Chunk {
    pub(super) fn new(token_ids: TokenIds) -> Self {
        let tokens = token_ids.len() - 2;
        Self { token_ids, tokens }
    }
}

/// How the embeddings of several chunks are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// By their mean, weighted by tokens, normalised to unit length.
    Mean,
    /// By the one that fits best, for each item compared.
    Best,
}

/// The end of a text that the model does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// How many tokens were dropped.
    pub tokens: usize,
    /// Their text, as cleaned; from the next complete character if a token ended inside one.
    pub text: String,
}

/// The tokens of `text` for a model that reads `context_length` of them, start and end included.
///
/// Fails if the text has more and `policy` is [`LongText::Error`], if it has over a mebibyte, and if
/// `context_length` has no room for a start and an end, or for the requested stride.
pub fn fit(text: &str, context_length: usize, policy: LongText) -> Result<Fitted> {
    let cleaned = cleaned(text, context_length)?;
    let ids = encode_clean(&cleaned);
    let (stride, reading) = match policy {
        _ if ids.len() <= context_length => return Fitted::single(ids, None),
        LongText::Error => bail!(too_long(text, ids.len(), context_length)),
        LongText::Truncate => {
            let (ids, cut) = truncated(&cleaned, ids, context_length);
            return Fitted::single(ids, Some(cut));
        }
        LongText::ChunkMean => (None, Reading::Mean),
        LongText::Slide { stride } => (
            Some(stride.unwrap_or(((context_length - 2) / 2).max(1))),
            Reading::Mean,
        ),
        LongText::BestChunk => (None, Reading::Best),
    };
    let chunks = chunk::cut(&cleaned, context_length - 2, stride)
        .with_context(|| format!("text \"{}\" cannot be split into chunks", start_of(text)))?;
    Ok(Fitted {
        chunks,
        reading,
        cut: None,
    })
}

/// The text as the tokenizer reads it; fails if no context or no text is that long.
fn cleaned(text: &str, context_length: usize) -> Result<String> {
    ensure!(
        context_length >= 2,
        "a context of {context_length} tokens has no room for a text: start and end alone take 2"
    );
    ensure!(
        text.len() <= LONGEST_TEXT,
        "text \"{}\" has {} bytes, too many for one text (at most {LONGEST_TEXT}); shorten it",
        start_of(text),
        text.len()
    );
    Ok(clean(text))
}

/// The first of `ids`, more than `context_length`, with an end of text in the last place.
fn truncated(cleaned: &str, mut ids: Vec<u32>, context_length: usize) -> (Vec<u32>, Cut) {
    let cut = Cut {
        tokens: ids.len() - context_length,
        text: rest(cleaned, context_length - 2),
    };
    ids.truncate(context_length);
    ids[context_length - 1] = END_OF_TEXT;
    (ids, cut)
}

/// The tokens of one text at the full length of the context, as image generators read them.
///
/// The rows after the end of text depend on the padding, and generators attend to them; a literal
/// `<|endoftext|>` ends nothing but where the text is pooled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaddedIds(Vec<u32>);

impl PaddedIds {
    /// `text` followed by as many `pad` as are missing; a longer one is cut, which [`fit`] reports.
    ///
    /// # Errors
    /// Those of [`fit`] with [`LongText::Truncate`].
    pub fn new(text: &str, context_length: usize, pad: u32) -> Result<Self> {
        let cleaned = cleaned(text, context_length)?;
        let mut ids = encode_clean(&cleaned);
        if ids.len() > context_length {
            ids = truncated(&cleaned, ids, context_length).0;
        }
        ids.resize(context_length, pad);
        Ok(Self(ids))
    }

    /// The ids, `[context_length]`.
    pub(crate) fn as_slice(&self) -> &[u32] {
        &self.0
    }

    /// The first end of text, where the text is pooled.
    pub(crate) fn end(&self) -> usize {
        let end = self.0.iter().position(|&id| id == END_OF_TEXT);
        end.expect("a tokenised text has an end")
    }
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

/// The part of a cleaned text after its first `kept` tokens (the start of text not counted).
fn rest(cleaned: &str, mut kept: usize) -> String {
    let mut joiner = Joiner::default();
    for word in WORD.find_iter(cleaned) {
        let mut ids = Vec::new();
        encode_word(word.as_str(), &mut joiner, &mut ids);
        if kept < ids.len() {
            let mut bytes = Vec::new();
            for &id in &ids[..kept] {
                super::expand(id, &mut bytes);
            }
            let from = cleaned.ceil_char_boundary(word.start() + bytes.len());
            return cleaned[from..].to_owned();
        }
        kept -= ids.len();
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, context_length: usize) -> (Vec<u32>, Option<(usize, String)>) {
        let fitted = fit(text, context_length, LongText::Truncate).unwrap();
        let cut = fitted.cut.clone().map(|cut| (cut.tokens, cut.text));
        (fitted.into_first().as_slice().to_vec(), cut)
    }

    #[test]
    fn a_text_that_fits_is_kept_whole() {
        let ids = vec![START_OF_TEXT, 320, 1125, END_OF_TEXT];
        assert_eq!(cut("a photo", 4), (ids.clone(), None));
        for policy in [LongText::Error, LongText::ChunkMean, LongText::BestChunk] {
            let token_ids = fit("a photo", 4, policy).unwrap().into_first();
            assert_eq!((token_ids.len(), token_ids.as_slice()), (4, ids.as_slice()));
        }
    }

    #[test]
    fn truncating_overwrites_the_last_token_kept() {
        let ids = vec![START_OF_TEXT, 320, 1125, END_OF_TEXT];
        assert_eq!(
            cut("A photo of  a CAT", 4),
            (ids, Some((3, "of a cat".to_owned())))
        );
        let ids = vec![START_OF_TEXT, END_OF_TEXT];
        assert_eq!(cut("a photo", 2), (ids, Some((2, "a photo".to_owned()))));
    }

    #[test]
    fn padded_texts_have_the_length_of_the_context() {
        let padded = |text, length, pad| PaddedIds::new(text, length, pad).unwrap();
        let ids = [START_OF_TEXT, 320, 1125, END_OF_TEXT];
        for pad in [0, END_OF_TEXT] {
            let found = padded("a photo", 6, pad);
            assert_eq!(found.as_slice(), [&ids[..], &[pad; 2]].concat());
            assert_eq!(found.end(), 3);
        }
        // Text after a literal end is read, but pooled before it.
        let found = padded("a <|endoftext|> photo", 7, 0);
        let read = [START_OF_TEXT, 320, END_OF_TEXT, 1125, END_OF_TEXT, 0, 0];
        assert_eq!((found.as_slice(), found.end()), (&read[..], 2));
        let found = padded("a photo of a cat", 4, 0);
        assert_eq!((found.as_slice(), found.end()), (&ids[..], 3));
    }

    #[test]
    fn the_dropped_text_starts_at_a_complete_character() {
        let cases = [
            (3, 5, "汉👍 cat"),
            (4, 4, "👍 cat"),
            (5, 3, "👍 cat"),
            (6, 2, "👍 cat"),
            (7, 1, "cat"),
        ];
        for (context_length, tokens, rest) in cases {
            let (ids, cut) = cut("Cats 汉👍 cat", context_length);
            assert_eq!(
                (ids.len(), cut),
                (context_length, Some((tokens, rest.to_owned())))
            );
        }
    }

    #[test]
    fn the_last_entry_is_the_first_end_of_text() {
        let ids = vec![START_OF_TEXT, 320, END_OF_TEXT];
        assert_eq!(cut("a <|endoftext|> b c d", 77), (ids.clone(), None));
        assert_eq!(cut("a <|EndOfText|> b c d", 6).0, ids);
        let ids = vec![START_OF_TEXT, START_OF_TEXT, END_OF_TEXT];
        assert_eq!(cut("<|startoftext|>", 77), (ids, None));
    }

    #[test]
    fn errors_name_the_text_the_numbers_and_the_fixes() {
        let long = "A photograph\x1b taken from the roof of a very tall house ".repeat(8);
        let cases = [
            (
                77,
                "shorten it, pass --long-text truncate, or use a Long-CLIP model (248)",
            ),
            (16, "shorten it or pass --long-text truncate"),
        ];
        for (context_length, ways) in cases {
            let error = fit(&long, context_length, LongText::Error).unwrap_err();
            let expected = format!(
                "text \"A photograph  taken from the roof of a v…\" has 90 tokens but this model \
                 reads {context_length}; {ways}"
            );
            assert_eq!(error.to_string(), expected);
        }
        let error = fit("éclair x y", 4, LongText::Error)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("text \"éclair x y\" has"), "{error}");
        for context_length in [0, 1] {
            let error = fit("a", context_length, LongText::Truncate).unwrap_err();
            assert!(error.to_string().contains("no room"), "{error}");
        }
    }

    #[test]
    fn token_ids_without_start_or_end_are_refused() {
        for ids in [vec![], vec![320, END_OF_TEXT], vec![START_OF_TEXT, 320]] {
            assert!(TokenIds::new(ids.clone()).is_err(), "{ids:?}");
        }
        let ids = TokenIds::new(vec![START_OF_TEXT, END_OF_TEXT, 0, 0, END_OF_TEXT]).unwrap();
        assert_eq!(ids.as_slice(), [START_OF_TEXT, END_OF_TEXT]);
    }
}
