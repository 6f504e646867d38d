//! Queries, which are texts and images, their embeddings and weighted sums.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::input::paths::ImageSource;
use crate::input::tokenizer::LongText;
use crate::run::Console;
use crate::run::engine::Engine;
use crate::run::images::{IMAGES, Running};
use crate::run::session::Stop;
use crate::run::texts::Fitter;
use crate::task::embeddings::TextEmbeddings;

pub(super) enum Query {
    Text(String),
    Image(PathBuf),
}

impl Query {
    /// A text, or the path of an image.
    pub(super) fn new(query: &str) -> Self {
        match is_image(query) {
            true => Self::Image(PathBuf::from(query)),
            false => Self::Text(query.to_owned()),
        }
    }

    /// All queries, texts and images as given, then those of `--image`.
    pub(super) fn all(queries: &[String], images: &[PathBuf]) -> Result<Vec<Self>> {
        let stdin = images.iter().filter(|path| path.as_os_str() == "-").count();
        ensure!(
            stdin <= 1,
            "stdin holds one image, so - can be given only once; remove the others"
        );
        let given = queries.iter().map(|query| Self::new(query));
        let images = images.iter().cloned().map(Self::Image);
        let all: Vec<Self> = given.chain(images).collect();
        ensure!(
            !all.is_empty(),
            "nothing to search for; pass a text, the path of an image, or --image FILE"
        );
        Ok(all)
    }

    /// The query, for display.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Image(path) => path.display().to_string(),
        }
    }
}

/// Whether a query is the path of an image. Two of three must hold: it begins like a path, it has
/// an image extension, the file exists.
fn is_image(query: &str) -> bool {
    let path = Path::new(query);
    let begins_like_a_path = query.starts_with("./") || query.starts_with("../") || path.has_root();
    let extension = path.extension().and_then(|extension| extension.to_str());
    let is_known = |extension: &str| {
        let known = IMAGES.extensions.iter();
        known
            .into_iter()
            .any(|known| known.eq_ignore_ascii_case(extension))
    };
    let ends_like_an_image = extension.is_some_and(is_known);
    // The path of a missing image must not become a text that finds something.
    (begins_like_a_path && ends_like_an_image)
        || ((begins_like_a_path || ends_like_an_image) && path.is_file())
}

/// The embedding of each query `[dim]`, or the error of an image. A long text may have several,
/// `[chunks, dim]`, and the best one counts. `None` if a signal stopped it before all images were
/// read.
pub(super) fn encode(
    queries: &[&Query],
    engine: &Engine,
    policy: LongText,
    stop: &Stop,
    console: &Console,
) -> Result<Option<Vec<Result<Vec<f32>>>>> {
    let mut texts = encode_texts(queries, engine, policy, console)?
        .into_iter()
        .map(Ok);
    let mut images = encode_images(queries, engine, stop, console)?.into_iter();
    let next = |query: &&Query| match query {
        Query::Text(_) => texts.next(),
        Query::Image(_) => images.next(),
    };
    Ok(queries.iter().map(next).collect())
}

fn encode_texts(
    queries: &[&Query],
    engine: &Engine,
    policy: LongText,
    console: &Console,
) -> Result<Vec<Vec<f32>>> {
    let mut fitter = Fitter::new(&engine.session, policy, console);
    let mut fitted = Vec::new();
    for (number, query) in (1..).zip(queries) {
        if let Query::Text(text) = query {
            fitted.push(fitter.fit(&format!("query {number}"), text)?);
        }
    }
    fitter.finish();
    if fitted.is_empty() {
        return Ok(Vec::new());
    }
    let embeddings = TextEmbeddings::encode(engine.load(console)?.as_ref(), &fitted)?;
    Ok(embeddings.texts().map(<[f32]>::to_vec).collect())
}

fn encode_images(
    queries: &[&Query],
    engine: &Engine,
    stop: &Stop,
    console: &Console,
) -> Result<Vec<Result<Vec<f32>>>> {
    let sources = queries.iter().filter_map(|query| match query {
        Query::Text(_) => None,
        Query::Image(path) if path.as_os_str() == "-" => Some(Ok(ImageSource::Stdin)),
        Query::Image(path) => Some(Ok(ImageSource::Path(path.clone()))),
    });
    let sources: Vec<_> = sources.collect();
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let mut embeddings = Vec::new();
    let images = Running::of(sources, engine, stop.clone());
    images.for_each(engine, console, |encoded| {
        embeddings.push(encoded.outcome.map(|known| known.embedding));
        Ok(())
    })?;
    Ok(embeddings)
}

/// The direction of a shorter sum is only rounding error.
const SHORTEST: f64 = 1e-5;

/// Weights and queries that are added to every query.
pub(super) struct Added(pub(super) Vec<(f32, Query)>);

impl Added {
    /// Parses the values of `--add`: a weight, a query, a weight, a query and so on.
    pub(super) fn new(words: &[String]) -> Result<Self> {
        let (pairs, _) = words.as_chunks();
        let pair = |[weight, query]: &[String; 2]| {
            let parsed: Option<f32> = weight
                .parse()
                .ok()
                .filter(|weight: &f32| weight.is_finite());
            let parsed = parsed.with_context(|| {
                format!(
                    "--add takes a weight and a query, such as --add 0.5 \"a heart\"; {weight:?} is not a \
                     number"
                )
            })?;
            Ok((parsed, Query::new(query)))
        };
        Ok(Self(pairs.iter().map(pair).collect::<Result<_>>()?))
    }

    /// The sum with `query`, for display.
    pub(super) fn shown(&self, query: &Query) -> String {
        if self.0.is_empty() {
            return query.shown();
        }
        let mut shown = format!("\"{}\"", query.shown());
        for (weight, added) in &self.0 {
            let sign = if *weight < 0.0 { '-' } else { '+' };
            let weight = match weight.abs() {
                1.0 => String::new(),
                weight => format!("{weight} "),
            };
            shown += &format!(" {sign} {weight}\"{}\"", added.shown());
        }
        shown
    }

    /// The normalised sum of `query` and the weighted unit vectors that are added, for each
    /// embedding of the query (`[n, dim]`); `embeddings` are `[1, dim]` each.
    pub(super) fn to(
        &self,
        query: Vec<f32>,
        embeddings: &[Result<Vec<f32>>],
        dim: usize,
    ) -> Result<Vec<f32>> {
        let mut added = Vec::new();
        for ((weight, part), embedding) in self.0.iter().zip(embeddings) {
            match embedding {
                Ok(embedding) => added.push((*weight, embedding.as_slice())),
                Err(error) => bail!("cannot add {}: {error:#}", part.shown()),
            }
        }
        if added.is_empty() {
            return Ok(query);
        }
        for ((_, part), (_, embedding)) in self.0.iter().zip(&added) {
            ensure!(
                embedding.len() == dim,
                "cannot add {}, a text with several chunks; pass --long-text chunk-mean or slide",
                part.shown()
            );
        }
        let sums = query.chunks_exact(dim).map(|query| sum(query, &added));
        Ok(sums.collect::<Result<Vec<_>>>()?.concat())
    }
}

/// The normalised sum.
fn sum(query: &[f32], added: &[(f32, &[f32])]) -> Result<Vec<f32>> {
    let mut sum: Vec<f64> = query.iter().map(|value| f64::from(*value)).collect();
    for (weight, embedding) in added {
        for (total, value) in sum.iter_mut().zip(*embedding) {
            *total += f64::from(*weight) * f64::from(*value);
        }
    }
    let length = sum.iter().map(|value| value.powi(2)).sum::<f64>().sqrt();
    ensure!(
        length >= SHORTEST && length.is_finite(),
        "the weighted sum is nearly zero (length {length:e}) and has no direction; choose other \
         weights"
    );
    Ok(sum.iter().map(|value| (value / length) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_an_image_is_not_a_text() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, "x").unwrap();
            path.to_str().unwrap().to_owned()
        };
        assert!(is_image(&at("a.jpg")) && is_image(&at("no-extension")));
        assert!(!is_image(folder.path().to_str().unwrap()));
        assert!(!is_image(&(at("b.PNG") + "x")));
        assert!(!is_image("a cat.jpg") && !is_image("a cat") && !is_image(""));
        // This file has neither an image extension nor the beginning of a path.
        assert!(!is_image("Cargo.toml") && is_image("./Cargo.toml"));
    }

    fn added(words: &[&str]) -> Result<Added> {
        Added::new(
            &words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_sum_is_weighted_and_of_unit_length() {
        let two = added(&["0.5", "b", "-1", "c"]).unwrap();
        let embeddings = [Ok(vec![0.0, 1.0, 0.0]), Ok(vec![0.0, 0.0, 1.0])];
        let sum = two
            .to(vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0], &embeddings, 3)
            .unwrap();
        let expected = [1.0, 0.5, -1.0].map(|value: f32| value / 1.5);
        for (value, expected) in sum.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{sum:?}");
        }
        // The second embedding of the query has a sum of its own.
        let expected = [0.0, 1.5, -1.0].map(|value: f32| value / 3.25f32.sqrt());
        for (value, expected) in sum[3..].iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{sum:?}");
        }
        let none = added(&[]).unwrap();
        assert_eq!(none.to(vec![1.0, 0.0], &[], 2).unwrap(), [1.0, 0.0]);
    }

    #[test]
    fn sums_without_a_direction_are_refused() {
        let same = added(&["-1", "a"]).unwrap();
        let error = same
            .to(vec![1.0, 0.0], &[Ok(vec![1.0, 0.0])], 2)
            .unwrap_err();
        assert!(error.to_string().contains("no direction"), "{error}");
        let error = same.to(vec![1.0, 0.0], &[Ok(vec![1.0, 0.0, 0.0, 1.0])], 2);
        assert!(error.unwrap_err().to_string().contains("several chunks"));
        let error = same.to(vec![1.0, 0.0], &[Err(anyhow::anyhow!("gone"))], 2);
        assert_eq!(error.unwrap_err().to_string(), "cannot add a: gone");
        for weight in ["x", "nan", "inf", ""] {
            let error = added(&[weight, "b"]).err().unwrap().to_string();
            assert!(error.contains("is not a number"), "{error}");
        }
    }

    #[test]
    fn sums_are_shown_as_formulas() {
        let query = Query::Text("sun".to_owned());
        assert_eq!(added(&[]).unwrap().shown(&query), "sun");
        let shown = added(&["0.5", "heart", "-1", "a, b", "1", "c", "-2.5", "d"]).unwrap();
        let expected = "\"sun\" + 0.5 \"heart\" - \"a, b\" + \"c\" - 2.5 \"d\"";
        assert_eq!(shown.shown(&query), expected);
    }
}
