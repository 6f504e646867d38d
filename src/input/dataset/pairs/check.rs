//! Validates all training data before training: what is usable, and what is wrong with the rest.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::{Bad, Image, LongCaption, Pair, PairOptions, Raw, ShortCaption, Taken, Tokens};
use crate::file::digest::hexadecimal;
use crate::input::paths::ImageRule;
use crate::input::tokenizer::{self, LongText};

/// Pairs validated together, on all threads.
const BATCH: usize = 1024;

/// The usable pairs, and what was found during validation.
#[derive(Debug)]
pub struct Pairs {
    /// Usable pairs, in the order of the data.
    pub pairs: Vec<Pair>,
    /// Unusable entries, in the order of the data.
    pub bad: Vec<Bad>,
    /// Kind of data.
    pub kind: String,
    /// Notes on what was guessed about it.
    pub notes: Vec<String>,
    /// Statistics.
    pub counts: Counts,
    /// Digest that identifies these pairs: images by name and size, captions by their tokens.
    pub sha256: String,
}

/// Statistics of the usable pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Captions truncated to the context length, long and short ones.
    pub cut: usize,
    /// Short captions that are the long one's first sentence.
    pub derived: usize,
    /// Short captions that equal the long one.
    pub whole: usize,
    /// Distinct long captions.
    pub different: usize,
    /// Distinct images.
    pub images: usize,
}

/// Reads and validates the data at `path`; `seen` receives the number of further pairs each time.
///
/// # Errors
/// When it is not training data, or cannot be read as a whole; a bad pair is not an error.
pub fn read(
    path: &Path,
    options: &PairOptions,
    rule: ImageRule,
    seen: &dyn Fn(usize),
) -> Result<Pairs> {
    let mut checking = Checking::new(path, options, seen);
    let kind = super::each(path, options, rule, &mut |taken| checking.take(taken))
        .with_context(|| format!("cannot read the data {}", path.display()))?;
    checking.look()?;
    let Checking {
        mut found, hash, ..
    } = checking;
    found.kind = kind.name;
    found.notes = kind.notes;
    found.counts.different = checking.captions.len();
    found.counts.images = checking.images.len();
    found.sha256 = hexadecimal(&hash.finalize());
    Ok(found)
}

struct Checking<'a> {
    options: &'a PairOptions,
    seen: &'a dyn Fn(usize),
    /// Prefix of image names that is specific to this machine.
    root: &'a Path,
    waiting: Vec<Taken>,
    found: Pairs,
    hash: Sha256,
    /// Hashes of what is counted once.
    captions: HashSet<u64>,
    images: HashSet<u64>,
}

/// A usable pair.
struct Good {
    pair: Pair,
    bytes: u64,
    cut: usize,
    derived: bool,
    whole: bool,
}

impl<'a> Checking<'a> {
    fn new(path: &'a Path, options: &'a PairOptions, seen: &'a dyn Fn(usize)) -> Self {
        let folder = if path.is_dir() {
            path
        } else {
            path.parent().unwrap_or(Path::new(""))
        };
        Self {
            options,
            seen,
            root: options.images.as_deref().unwrap_or(folder),
            waiting: Vec::with_capacity(BATCH),
            found: Pairs {
                pairs: Vec::new(),
                bad: Vec::new(),
                kind: String::new(),
                notes: Vec::new(),
                counts: Counts::default(),
                sha256: String::new(),
            },
            hash: Sha256::new(),
            captions: HashSet::new(),
            images: HashSet::new(),
        }
    }

    fn take(&mut self, taken: Taken) -> Result<()> {
        self.waiting.push(taken);
        if self.waiting.len() == BATCH {
            self.look()?;
        }
        Ok(())
    }

    /// Validates all pending pairs.
    fn look(&mut self) -> Result<()> {
        let options = self.options;
        let waiting = std::mem::take(&mut self.waiting);
        let looked: Vec<_> = waiting
            .into_par_iter()
            .map(|taken| taken.and_then(|raw| good(raw, options)))
            .collect();
        (self.seen)(looked.len());
        for one in looked {
            match one {
                Ok(good) => self.add(good),
                Err(bad) => self.found.bad.push(bad),
            }
        }
        ensure!(
            u32::try_from(self.found.pairs.len()).is_ok(),
            "there are more than {} pairs",
            u32::MAX
        );
        Ok(())
    }

    fn add(&mut self, good: Good) {
        let Pair { image, long, short } = &good.pair;
        let name = match image {
            Image::File(path) => path
                .strip_prefix(self.root)
                .unwrap_or(path)
                .to_string_lossy(),
            Image::Member { name, .. } => Cow::Borrowed(&**name),
        };
        // Lengths first, so that no two lists of pairs are the same bytes.
        self.hash.update((name.len() as u64).to_le_bytes());
        self.hash.update(name.as_bytes());
        self.hash.update(good.bytes.to_le_bytes());
        for tokens in std::iter::once(long).chain(short) {
            self.hash.update((tokens.0.len() as u64).to_le_bytes());
            let bytes = tokens.0.iter().flat_map(|id| id.to_le_bytes());
            self.hash.update(bytes.collect::<Vec<u8>>());
        }
        self.captions.insert(hashed(long));
        self.images.insert(hashed(image));
        let counts = &mut self.found.counts;
        counts.cut += good.cut;
        counts.derived += usize::from(good.derived);
        counts.whole += usize::from(good.whole);
        self.found.pairs.push(good.pair);
    }
}

fn hashed(value: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn good(raw: Raw, options: &PairOptions) -> std::result::Result<Good, Bad> {
    let place = raw.place.clone();
    check_pair(raw, options).map_err(|error| Bad {
        place,
        cause: format!("{error:#}"),
    })
}

fn check_pair(raw: Raw, options: &PairOptions) -> Result<Good> {
    let bytes = raw.image.check(&options.decode);
    let bytes = bytes.with_context(|| match &raw.image {
        Image::File(path) => format!("the image {}", path.display()),
        Image::Member { name, .. } => format!("the image {name}"),
    })?;
    let (long, is_cut) = tokens(&raw.long, options).context("the caption")?;
    let mut cut = usize::from(is_cut);
    let mut derived = false;
    let mut whole = false;
    let short = match options.short {
        ShortCaption::Unused => None,
        ShortCaption::Used => {
            let text = match &raw.short {
                Some(short) => Cow::Borrowed(short.as_str()),
                None => {
                    derived = true;
                    Cow::Owned(first_sentence(&raw.long))
                }
            };
            let (short, is_cut) = tokens(&text, options).context("the short caption")?;
            // A long caption without a second sentence is truncated as a whole: that counts once.
            whole = short == long;
            cut += usize::from(is_cut && !whole);
            Some(short)
        }
    };
    Ok(Good {
        pair: Pair {
            image: raw.image,
            long,
            short,
        },
        bytes,
        cut,
        derived,
        whole,
    })
}

/// The text within the context, and whether it was truncated.
fn tokens(text: &str, options: &PairOptions) -> Result<(Tokens, bool)> {
    let policy = match options.long {
        LongCaption::Cut => LongText::Truncate,
        LongCaption::Bad => LongText::Error,
    };
    let fitted = tokenizer::fit(text, options.context_length, policy)?;
    let is_cut = fitted.cut.is_some();
    let ids = fitted.into_first();
    if ids.len() <= 2 {
        bail!("is empty");
    }
    Ok((Tokens::new(&ids)?, is_cut))
}

/// The text before the first full stop and space, as in Long-CLIP's training code.
fn first_sentence(text: &str) -> String {
    let line = text.trim().replace('\n', " ");
    let first = line.split(". ").next().unwrap_or_default().trim();
    if first.is_empty() {
        line
    } else {
        first.to_owned()
    }
}

#[cfg(test)]
mod tests;
