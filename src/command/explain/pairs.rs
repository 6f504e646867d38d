//! Words with regions: how much of the cosine each word and patch have together.

use anyhow::{Context as _, Result, ensure};

use super::picture::Picture;
use crate::input::tokenizer::{Fitted, LongText, encode, fit};
use crate::model::direct::{Direct, of_text};
use crate::output::explanation::{Pair, Pairs, Remainder};
use crate::run::session::Session;
use crate::task::attribution::parts::{Part, Unit, in_characters, split};

/// The share of each pair, and what is left of the cosine.
pub(super) fn explain(label: &str, picture: &Picture, session: &Session) -> Result<Pairs> {
    let checkpoint = &session.checkpoint;
    let context = checkpoint.architecture.context_length;
    let fitted: Fitted = fit(label, context, LongText::Error)
        .context("--pairs looks at one pass of the text tower")?;
    let words = split(label, Unit::Words);
    let text = of_words(label, &words, of_text(checkpoint, &fitted.into_first())?)?;
    let mut image = picture.direct(checkpoint)?;
    // The class token stands for no place in the image.
    let class = image.sources.remove(0);
    add(&mut image.rest, &class);
    let norm = length(&text) * length(&image);
    ensure!(
        norm > 0.0 && norm.is_finite(),
        "an embedding is zero or not finite"
    );
    let product =
        |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / norm };
    let side = image.sources.len().isqrt();
    let pairs = words.iter().zip(&text.sources).map(|(word, of_word)| {
        let map: Vec<f64> = image
            .sources
            .iter()
            .map(|patch| product(of_word, patch))
            .collect();
        let row = |row: &[f64]| row.iter().map(|value| *value as f32).collect();
        Pair {
            word: word.text.clone(),
            span: in_characters(label, &word.bytes),
            value: map.iter().sum::<f64>() as f32,
            map: map.chunks(side).map(row).collect(),
        }
    });
    let pairs: Vec<Pair> = pairs.collect();
    let words: f64 = text
        .sources
        .iter()
        .map(|word| product(word, &image.rest))
        .sum();
    let patches: f64 = image
        .sources
        .iter()
        .map(|patch| product(&text.rest, patch))
        .sum();
    let neither = product(&text.rest, &image.rest);
    let sum: f64 = text
        .sources
        .iter()
        .flat_map(|word| image.sources.iter().map(move |patch| (word, patch)))
        .map(|(word, patch)| product(word, patch))
        .sum();
    let remainder = words.abs() + patches.abs() + neither.abs();
    Ok(Pairs {
        cosine: (sum + words + patches + neither) as f32,
        words: pairs,
        sum: sum as f32,
        remainder: Remainder {
            words: words as f32,
            patches: patches as f32,
            neither: neither as f32,
        },
        share: (remainder / (remainder + sum.abs()).max(f64::MIN_POSITIVE)) as f32,
    })
}

/// The same sum with one source per word; the start and the end of the text join the rest.
fn of_words(label: &str, words: &[Part], mut direct: Direct) -> Result<Direct> {
    let tokens: Vec<Vec<u32>> = words.iter().map(|word| encode(&word.text)).collect();
    let inner = |ids: &Vec<u32>| ids.len() - 2;
    ensure!(
        tokens.iter().map(inner).sum::<usize>() + 2 == direct.sources.len()
            && encode(label).len() == direct.sources.len(),
        "the words of the label have other tokens alone than together; --pairs needs a text without \
         damaged characters and special tokens"
    );
    let ends = [
        direct.sources.remove(0),
        direct.sources.pop().unwrap_or_default(),
    ];
    ends.iter().for_each(|end| add(&mut direct.rest, end));
    let dim = direct.rest.len();
    let mut sources = direct.sources.into_iter();
    let word = |ids: &Vec<u32>| {
        let mut sum = vec![0.0; dim];
        sources
            .by_ref()
            .take(inner(ids))
            .for_each(|token| add(&mut sum, &token));
        sum
    };
    Ok(Direct {
        sources: tokens.iter().map(word).collect(),
        rest: direct.rest,
    })
}

fn add(sum: &mut [f64], part: &[f64]) {
    sum.iter_mut()
        .zip(part)
        .for_each(|(sum, part)| *sum += part);
}

/// The length of the sum.
fn length(direct: &Direct) -> f64 {
    let mut sum = direct.rest.clone();
    direct
        .sources
        .iter()
        .for_each(|source| add(&mut sum, source));
    sum.iter().map(|value| value * value).sum::<f64>().sqrt()
}
