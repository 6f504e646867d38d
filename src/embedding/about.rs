//! Metadata of a file of embeddings: what made them.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};

use crate::file::stamp::Stamp;
use crate::output::{FailureKind, Given, ImageName, Name};

/// CLIP's embeddings are never wider.
const MAX_DIM: usize = 1 << 16;

/// What the rows of a file have in common. Rows of different models, or of one model with other
/// settings, never share a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The model as the user named it.
    pub model: String,
    /// SHA-256 of its weights, 64 hexadecimal digits.
    pub sha256: String,
    /// Compute precision of the towers: `f32`, `bf16`, ….
    pub precision: String,
    /// All other settings on which the embeddings depend.
    pub settings: String,
    /// Images or texts.
    pub kind: Kind,
    /// Numbers per embedding.
    pub dim: usize,
    /// Data type of the stored numbers.
    pub dtype: Dtype,
    /// The version of longclip that wrote the file.
    pub version: String,
}

/// What was embedded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Images.
    Images,
    /// Texts.
    Texts,
}

/// Data type of stored numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits: half the space, cosines accurate to about 0.0002.
    F16,
}

impl Dtype {
    /// Bytes per number.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Images => "images",
            Self::Texts => "texts",
        })
    }
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "images" => Self::Images,
            "texts" => Self::Texts,
            _ => bail!("{text:?} is neither \"images\" nor \"texts\""),
        })
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        })
    }
}

impl FromStr for Dtype {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "f32" => Self::F32,
            "f16" => Self::F16,
            _ => bail!("{text:?} is neither \"f32\" nor \"f16\""),
        })
    }
}

impl About {
    /// The model with its weights: `NAME@SHA256`.
    #[must_use]
    pub(crate) fn model_id(&self) -> String {
        format!("{}@{}", self.model, self.sha256)
    }

    /// The name and the digest in what [`About::model_id`] returned.
    ///
    /// # Errors
    /// When it does not have this form.
    pub(crate) fn split_id(id: &str) -> Result<(&str, &str)> {
        let (name, digest) = id.rsplit_once('@').unwrap_or(("", id));
        let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        ensure!(is_digest, "the model {id:?} is not of the form NAME@SHA256");
        Ok((name, digest))
    }

    /// All fields as pairs of text, for headers that store such pairs.
    #[must_use]
    pub(crate) fn pairs(&self) -> [(&'static str, String); 8] {
        [
            ("format", "longclip embeddings 1".to_owned()),
            ("kind", self.kind.to_string()),
            ("model", self.model_id()),
            ("dim", self.dim.to_string()),
            ("dtype", self.dtype.to_string()),
            ("precision", self.precision.clone()),
            ("settings", self.settings.clone()),
            ("version", self.version.clone()),
        ]
    }

    /// Restores what [`About::pairs`] returned, looked up by key.
    ///
    /// # Errors
    /// When a pair is missing or has an invalid value.
    pub(crate) fn from_pairs(get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let pair = |key: &str| {
            get(key).with_context(|| {
                format!("the header has no {key:?}; was the file written by longclip embed?")
            })
        };
        let format = pair("format")?;
        ensure!(
            format == "longclip embeddings 1",
            "the header says {format:?}, not \"longclip embeddings 1\"; a newer longclip may read it"
        );
        let id = pair("model")?;
        let (model, sha256) = Self::split_id(&id)?;
        let about = Self {
            model: model.to_owned(),
            sha256: sha256.to_owned(),
            precision: pair("precision")?,
            settings: pair("settings")?,
            kind: pair("kind")?.parse()?,
            dim: pair("dim")?
                .parse()
                .context("the header's dim is not a number")?,
            dtype: pair("dtype")?.parse()?,
            version: pair("version")?,
        };
        check_dim(about.dim)?;
        Ok(about)
    }

    /// The first reason why rows of `self` cannot go into a file of `other`, as `what: its value
    /// and the other's`; `None` if they can. The version does not count.
    #[must_use]
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        if self.sha256 != other.sha256 {
            return Some(format!(
                "model: {} and {}",
                self.model_id(),
                other.model_id()
            ));
        }
        // Only the digest counts; the name is what the user called the model.
        let called = Self {
            model: other.model.clone(),
            ..self.clone()
        };
        let pairs = called.pairs().into_iter().zip(other.pairs());
        pairs
            .filter(|((key, _), _)| *key != "version")
            .find(|((_, mine), (_, theirs))| mine != theirs)
            .map(|((key, mine), (_, theirs))| {
                let (mine, theirs) = without_common(&mine, &theirs);
                format!("{key}: {mine} and {theirs}")
            })
    }
}

/// The words of each that the other lacks.
fn without_common(mine: &str, theirs: &str) -> (String, String) {
    let rest = |of: &str, other: &str| {
        let words = of
            .split(' ')
            .filter(|word| !other.split(' ').any(|o| o == *word));
        words.collect::<Vec<_>>().join(" ")
    };
    (rest(mine, theirs), rest(theirs, mine))
}

/// Fails if embeddings are never this wide.
///
/// # Errors
/// Names the limits.
pub(crate) fn check_dim(dim: usize) -> Result<()> {
    ensure!(
        (1..=MAX_DIM).contains(&dim),
        "the embeddings have {dim} dimensions; those of CLIP models have 1 to {MAX_DIM}"
    );
    Ok(())
}

/// The input that an embedding was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The image or the text.
    pub item: Item,
    /// Warnings about an input that could still be embedded.
    pub warnings: Vec<String>,
    /// The keys of its line in a list; Parquet has no place for them.
    pub(crate) given: Option<Given>,
}

/// What was embedded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An image.
    Image {
        /// Its path as given or found.
        name: ImageName,
        /// Width in pixels, the image upright.
        width: u32,
        /// Height in pixels, the image upright.
        height: u32,
        /// The file when it was read; `None` for stdin.
        stamp: Option<Stamp>,
    },
    /// A text.
    Text(String),
}

impl Item {
    /// The path or the text, for people.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Image { name, .. } => &name.text,
            Self::Text(text) => text,
        }
    }
}

/// An input without an embedding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which input.
    pub name: Name,
    /// Why it failed.
    pub error: String,
    /// The same in a word, for an image.
    pub(crate) kind: Option<FailureKind>,
    /// The keys of its line in a list.
    pub(crate) given: Option<Given>,
}

#[cfg(test)]
mod tests {
    use super::super::testing::about;
    use super::*;

    #[test]
    fn pairs_read_back() {
        let about = about(Kind::Texts, 512);
        let pairs = about.pairs();
        let get = |key: &str| {
            pairs
                .iter()
                .find(|(k, _)| *k == key)
                .map(|(_, v)| v.clone())
        };
        assert_eq!(About::from_pairs(get).unwrap(), about);
        for (missing, _) in &pairs {
            let error = About::from_pairs(|key| get(key).filter(|_| key != *missing)).unwrap_err();
            assert!(error.to_string().contains(missing), "{error}");
            let odd = |key: &str| {
                Some("odd".to_owned())
                    .filter(|_| key == *missing)
                    .or(get(key))
            };
            let is_free = ["precision", "settings", "version"].contains(missing);
            assert_eq!(About::from_pairs(odd).is_ok(), is_free, "{missing}");
        }
        for dim in ["0", "65537", "-1", "18446744073709551616"] {
            let wide = |key: &str| Some(dim.to_owned()).filter(|_| key == "dim").or(get(key));
            assert!(About::from_pairs(wide).is_err(), "{dim}");
        }
    }

    #[test]
    fn differences_are_named() {
        let one = about(Kind::Images, 512);
        let renamed = About {
            model: "./copy.pt".to_owned(),
            version: "9.9.9".to_owned(),
            ..one.clone()
        };
        assert_eq!(one.difference(&renamed), None);
        let cases = [
            (
                About {
                    sha256: "cd".repeat(32),
                    ..one.clone()
                },
                "model: longclip-b@abab",
            ),
            (
                About {
                    precision: "f32".to_owned(),
                    ..one.clone()
                },
                "precision: bf16 and f32",
            ),
            (
                About {
                    dtype: Dtype::F16,
                    ..one.clone()
                },
                "dtype: f32 and f16",
            ),
            (
                About {
                    settings: "activation=quick_gelu orient=no".to_owned(),
                    ..one.clone()
                },
                "settings: orient=yes and orient=no",
            ),
            (about(Kind::Texts, 512), "kind: images and texts"),
        ];
        for (other, expected) in cases {
            let difference = one.difference(&other).unwrap();
            assert!(difference.starts_with(expected), "{difference}");
        }
    }

    #[test]
    fn a_model_is_a_name_and_a_digest() {
        let digest = "0f".repeat(32);
        let id = format!("me/x@main@{digest}");
        assert_eq!(About::split_id(&id).unwrap(), ("me/x@main", &*digest));
        assert!(About::split_id("longclip-b").is_err());
        assert!(About::split_id(&format!("a@{}", "g".repeat(64))).is_err());
    }
}
