//! The metadata that `convert` writes into a safetensors header, so that a single file carries
//! everything that its shapes do not show.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Checkpoint;
use super::architecture::ImageTower;
use crate::input::preprocess::{CropOffset, Resize};

/// Pairs of text, as safetensors headers hold them.
pub(crate) type Metadata = BTreeMap<String, String>;

/// The activation of the MLPs.
pub const ACTIVATION: &str = "longclip.activation";
/// The context length in tokens.
pub(crate) const CONTEXT_LENGTH: &str = "longclip.context_length";
/// The preprocessing: a JSON object with `image_size`, `resize`, `interpolation`, `crop_offset`, `mean` and
/// `std`.
pub(crate) const PREPROCESS: &str = "longclip.preprocess";
/// Attention heads of the image tower.
pub const VISION_HEADS: &str = "longclip.vision_heads";
/// Attention heads of the text tower.
pub const TEXT_HEADS: &str = "longclip.text_heads";
/// Epsilon of the image tower's LayerNorms.
pub(crate) const VISION_EPSILON: &str = "longclip.vision_norm_epsilon";
/// Epsilon of the text tower's LayerNorms.
pub(crate) const TEXT_EPSILON: &str = "longclip.text_norm_epsilon";
/// SHA-256 of the weight files that this one was converted from.
pub(crate) const SOURCE_SHA256: &str = "longclip.source_sha256";
/// The program that wrote the file, with its version.
pub(crate) const CONVERTER: &str = "longclip.converter";

/// The key-value pairs that describe a checkpoint.
#[must_use]
pub fn describe(checkpoint: &Checkpoint, source_sha256: &[String]) -> Metadata {
    let architecture = &checkpoint.architecture;
    let pixels = &checkpoint.preprocess;
    let text = &architecture.text;
    let preprocess = json!({
        "image_size": pixels.image_size,
        "resize": size(pixels.resize),
        "interpolation": pixels.filter.name(),
        "crop_offset": match pixels.offset {
            CropOffset::HalfToEven => "half_to_even",
            CropOffset::Floor => "floor",
        },
        "mean": pixels.mean,
        "std": pixels.std,
    });
    let mut pairs = vec![
        // Required by transformers: marks a file written for PyTorch.
        ("format", "pt".to_owned()),
        (ACTIVATION, checkpoint.activation.to_string()),
        (CONTEXT_LENGTH, architecture.context_length.to_string()),
        (PREPROCESS, preprocess.to_string()),
        (TEXT_HEADS, text.heads.to_string()),
        (TEXT_EPSILON, text.norm_epsilon.to_string()),
        (SOURCE_SHA256, source_sha256.join(" ")),
        (
            CONVERTER,
            concat!("longclip ", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
    ];
    if let ImageTower::VisionTransformer(vision) = &architecture.image {
        pairs.push((VISION_HEADS, vision.tower.heads.to_string()));
        pairs.push((VISION_EPSILON, vision.tower.norm_epsilon.to_string()));
    }
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// A resize target, in the form of the transformers processors.
pub(super) fn size(resize: Resize) -> Value {
    match resize {
        Resize::ShortestEdge(edge) => json!({"shortest_edge": edge}),
        Resize::Exact { width, height } => json!({"height": height, "width": width}),
    }
}

/// The value of `key` as JSON, which includes plain numbers.
pub(super) fn value(metadata: &Metadata, key: &str) -> Option<Value> {
    serde_json::from_str(metadata.get(key)?).ok()
}

/// The object under [`PREPROCESS`].
pub(super) fn preprocess(metadata: &Metadata) -> Result<Option<Value>> {
    let Some(text) = metadata.get(PREPROCESS) else {
        return Ok(None);
    };
    let value = serde_json::from_str(text)
        .with_context(|| format!("{PREPROCESS} in the file's header is not JSON"))?;
    Ok(Some(value))
}
