//! Queries, which are texts and images, and their embeddings.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

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
}
