//! The JSON files next to the weights or, without any, the safetensors header that `convert` wrote.
//! Dimensions come from the tensors; these files are checked against them.
//!
//! Each key of these files is read, is listed as unable to change an embedding, or is refused by
//! file, key and value (`keys`); an unknown key is a warning. One library owns a checkpoint:
//! weights under open_clip's file names are described by open_clip's file, all others by
//! transformers' files.

#![deny(clippy::indexing_slicing)]

mod hugging_face;
mod keys;
mod kinds;
mod open_clip;
mod processor;
mod tokenizer;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::architecture::{Activation, Architecture};
use super::metadata::{self, Metadata};
use super::source::ModelFiles;
use crate::file::open;
use crate::input::preprocess::{CropOffset, Preprocess};
use crate::input::resize::Filter;
use hugging_face::HuggingFace;
use keys::{Object, Place};
use open_clip::OpenClip;
use processor::Processor;

/// The configuration of a checkpoint, as far as it has one.
#[derive(Clone, Debug, Default)]
pub struct ModelConfig {
    hugging_face: Option<HuggingFace>,
    open_clip: Option<OpenClip>,
    pixels: Option<Pixels>,
    /// The description of the towers.
    stated: Option<TowerSettings>,
    warnings: Vec<String>,
    /// Key-value pairs of the safetensors header.
    header: Metadata,
}

/// The source of the preprocessing.
#[derive(Clone, Debug)]
enum Pixels {
    OpenClip(open_clip::Pixels),
    Processor(Processor),
}

/// What a configuration gives that shapes do not.
#[derive(Clone, Copy, Debug)]
struct TowerSettings {
    vision_heads: Option<usize>,
    vision_head_width: Option<usize>,
    text_heads: usize,
    vision_epsilon: f32,
    text_epsilon: f32,
}

impl ModelConfig {
    /// Reads the files next to the weights.
    ///
    /// # Errors
    /// When a file cannot be read, is not JSON, or asks for something unsupported.
    pub fn read(files: &ModelFiles) -> Result<Self> {
        let mut config = Self::default();
        let open_clip = read_json(files.open_clip_config.as_deref())?;
        if open_clip.is_none() || !is_open_clips(files) {
            config.read_hugging_face(files)?;
        }
        // An empty object says nothing; open_clip itself fails on it.
        if let Some(object) = open_clip.filter(|object| !object.is_empty()) {
            config.read_open_clip(&object)?;
        }
        // open_clip reads no other transformers file.
        if config.open_clip.is_none()
            && let Some(object) = read_json(files.tokenizer_config.as_deref())?
        {
            tokenizer::check(&object, &mut config.warnings)?;
        }
        if config.pixels.is_none() {
            let processor = read_processor(files, &mut config.warnings)?;
            config.pixels = processor.map(Pixels::Processor);
        }
        Ok(config)
    }

    /// Reads transformers' description of the towers, and its image processor.
    fn read_hugging_face(&mut self, files: &ModelFiles) -> Result<()> {
        let Some(object) = read_json(files.config.as_deref())? else {
            return Ok(());
        };
        self.hugging_face = HuggingFace::read(object, &mut self.warnings)?;
        if let Some(read) = &self.hugging_face {
            self.stated = Some(read.stated()?);
            let processor = read_processor(files, &mut self.warnings)?;
            self.pixels = processor.map(Pixels::Processor);
        }
        Ok(())
    }

    /// Fills what is still unknown from open_clip's file.
    fn read_open_clip(&mut self, object: &Object) -> Result<()> {
        if self.hugging_face.is_none() {
            let read = OpenClip::read(object, &mut self.warnings)?;
            self.stated = Some(read.stated()?);
            self.open_clip = Some(read);
        }
        if self.pixels.is_none() {
            let pixels = open_clip::Pixels::read(object, &mut self.warnings)?;
            self.pixels = pixels.map(Pixels::OpenClip);
        }
        Ok(())
    }

    /// Adds the header of the weights, for what no file next to them gives.
    ///
    /// # Errors
    /// When it has another kind of value than `convert` writes.
    pub fn with_header(mut self, header: Metadata) -> Result<Self> {
        self.header = header;
        for (key, is_whole) in [
            (metadata::VISION_HEADS, true),
            (metadata::TEXT_HEADS, true),
            (metadata::VISION_EPSILON, false),
            (metadata::TEXT_EPSILON, false),
        ] {
            let Some(text) = self.header.get(key) else {
                continue;
            };
            let number = self.header_number(key).unwrap_or(Value::Null);
            let heads = number.as_u64().filter(|heads| *heads > 0);
            let epsilon = number.as_f64().filter(|e| (0.0..=1.0).contains(e));
            let (fits, wanted) = match is_whole {
                true => (heads.is_some(), "not a whole number above 0"),
                false => (epsilon.is_some(), "not a number from 0 to 1"),
            };
            ensure!(fits, "header of the weights: {key} is {text:?}, {wanted}");
        }
        Ok(self)
    }

    fn header_number(&self, key: &str) -> Option<Value> {
        metadata::value(&self.header, key)
    }

    /// Heads of an image tower of this width, if a configuration gives them.
    #[must_use]
    pub(crate) fn vision_heads(&self, width: usize) -> Option<usize> {
        let Some(stated) = &self.stated else {
            return Some(self.header_number(metadata::VISION_HEADS)?.as_u64()? as usize);
        };
        let head_width = stated.vision_head_width.unwrap_or(64).max(1);
        stated.vision_heads.or(Some(width / head_width))
    }

    /// Heads of the text tower, if a configuration gives them.
    #[must_use]
    pub(crate) fn text_heads(&self) -> Option<usize> {
        let header = || self.header_number(metadata::TEXT_HEADS)?.as_u64();
        let stated = self.stated.map(|stated| stated.text_heads);
        stated.or_else(|| Some(header()? as usize))
    }

    /// Whether a configuration gives the activation.
    #[must_use]
    pub(crate) fn tells_activation(&self) -> bool {
        self.stated.is_some() || self.header.contains_key(metadata::ACTIVATION)
    }

    /// Epsilon of the image tower's LayerNorms, if a configuration gives it.
    #[must_use]
    pub(crate) fn vision_epsilon(&self) -> Option<f32> {
        let header = || self.header_number(metadata::VISION_EPSILON)?.as_f64();
        let stated = self.stated.map(|stated| stated.vision_epsilon);
        stated.or_else(|| Some(header()? as f32))
    }

    /// Epsilon of the text tower's LayerNorms, if a configuration gives it.
    #[must_use]
    pub(crate) fn text_epsilon(&self) -> Option<f32> {
        let header = || self.header_number(metadata::TEXT_EPSILON)?.as_f64();
        let stated = self.stated.map(|stated| stated.text_epsilon);
        stated.or_else(|| Some(header()? as f32))
    }

    /// Compares the dimensions in the files with those of the tensors and returns warnings. A
    /// different context length in config.json is a warning, any other difference an error.
    ///
    /// # Errors
    /// When the two contradict each other.
    pub fn check(&self, architecture: &Architecture) -> Result<Vec<String>> {
        let mut warnings = self.warnings.clone();
        if let Some(config) = &self.hugging_face {
            warnings.extend(config.check(architecture)?);
        }
        if let Some(config) = &self.open_clip {
            config.check(architecture)?;
        }
        Ok(warnings)
    }

    /// The activation and where it is given; `None` if no file gives it.
    ///
    /// # Errors
    /// When the two towers differ, or the activation is not one that CLIP models have.
    pub fn activation(&self) -> Result<Option<(Activation, String)>> {
        if let Some(config) = &self.hugging_face {
            return config.activation().map(Some);
        }
        if let Some(config) = &self.open_clip {
            return config.activation().map(Some);
        }
        let Some(name) = self.header.get(metadata::ACTIVATION) else {
            return Ok(None);
        };
        let activation = parse_activation(name).context("in the header of the weights")?;
        Ok(Some((activation, "the file's own header".to_owned())))
    }

    /// The preprocessing: as given by the file next to the weights, else by their header, else
    /// CLIP's own. Only the header that `convert` writes gives the rounding of the crop offset;
    /// without it, a transformers image processor implies that library's rounding, anything else
    /// torchvision's.
    ///
    /// # Errors
    /// When the file asks for something unsupported: another interpolation, no crop, or a size that
    /// is not the model's.
    pub fn preprocess(&self, image_size: usize) -> Result<Preprocess> {
        let header = metadata::preprocess(&self.header)?;
        let mut wanted = match &self.pixels {
            Some(Pixels::OpenClip(pixels)) => pixels.preprocess(image_size)?,
            Some(Pixels::Processor(processor)) => processor.preprocess(image_size)?,
            None => from_header(header.as_ref(), image_size)?,
        };
        match header.as_ref().and_then(|header| header.get("crop_offset")) {
            None => {}
            Some(Value::String(name)) if name == "floor" => wanted.offset = CropOffset::Floor,
            Some(Value::String(name)) if name == "half_to_even" => {
                wanted.offset = CropOffset::HalfToEven;
            }
            Some(other) => {
                return HEADER.refuse("crop_offset", other, "not \"floor\" or \"half_to_even\"");
            }
        }
        Ok(wanted)
    }
}

/// The header of the weights, as named in messages.
const HEADER: Place<'static> = Place {
    file: "header of the weights",
    path: metadata::PREPROCESS,
    library: "longclip",
};

/// Whether the weights have a file name that open_clip uses.
fn is_open_clips(files: &ModelFiles) -> bool {
    let name = files.weights.first().and_then(|path| path.file_name());
    name.is_some_and(|name| name.to_string_lossy().starts_with("open_clip_"))
}

/// The image processor; processor_config.json wins, as in transformers.
fn read_processor(files: &ModelFiles, warnings: &mut Vec<String>) -> Result<Option<Processor>> {
    if let Some(around) = read_json(files.processor.as_deref())?
        && let Some(nested) = Processor::nested(&around, warnings)?
    {
        return Ok(Some(nested));
    }
    let legacy = read_json(files.preprocessor.as_deref())?;
    legacy
        .map(|config| Processor::legacy(config, warnings))
        .transpose()
}

/// The preprocessing in the header; CLIP's own where it is silent.
fn from_header(header: Option<&Value>, image_size: usize) -> Result<Preprocess> {
    let mut wanted = Preprocess::clip(image_size);
    let header = match header {
        None => return Ok(wanted),
        Some(Value::Object(header)) => header,
        Some(other) => bail!(
            "header of the weights: {} is {}, not an object",
            metadata::PREPROCESS,
            keys::shown(other)
        ),
    };
    if let Some(size) = header.get("image_size") {
        agree(HEADER, "image_size", size, &json!(image_size))?;
    }
    if let Some(size) = header.get("resize") {
        match processor::resize(size, false) {
            Some(resize) if resize.least() >= image_size => wanted.resize = resize,
            _ => return HEADER.refuse("resize", size, "not a size that the crop fits into"),
        }
    }
    if let Some(name) = header.get("interpolation") {
        match filter(name) {
            Some(filter) => wanted.filter = filter,
            None => return HEADER.refuse("interpolation", name, "not \"bicubic\" or \"bilinear\""),
        }
    }
    normalisation(HEADER, header, ["mean", "std"], &mut wanted)?;
    Ok(wanted)
}

/// A filter by its name, or by its number in Pillow.
fn filter(stated: &Value) -> Option<Filter> {
    match (stated.as_str(), stated.as_u64()) {
        (Some("bicubic"), _) | (_, Some(3)) => Some(Filter::Bicubic),
        (Some("bilinear"), _) | (_, Some(2)) => Some(Filter::Bilinear),
        _ => None,
    }
}

fn agree(place: Place<'_>, key: &str, stated: &Value, found: &Value) -> Result<()> {
    ensure!(
        stated == found,
        "{} is {stated}, but the tensors say {found}; the two do not belong together",
        place.name(key)
    );
    Ok(())
}

fn read_json(path: Option<&Path>) -> Result<Option<Object>> {
    let Some(path) = path else { return Ok(None) };
    let reading = || format!("cannot read {}", path.display());
    let bytes = open::bytes(path, open::SETTINGS_BYTES).with_context(reading)?;
    let value = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is not JSON", path.display()))?;
    match value {
        Value::Object(object) => Ok(Some(object)),
        other => bail!(
            "{} is {}, not a JSON object",
            path.display(),
            keys::shown(&other)
        ),
    }
}

fn parse_activation(name: &str) -> Result<Activation> {
    match name {
        "quick_gelu" => Ok(Activation::QuickGelu),
        "gelu" => Ok(Activation::Gelu),
        other => bail!(
            "the configuration names the activation {other:?}, but CLIP models have quick_gelu or \
             gelu; pass the right one with --activation"
        ),
    }
}

/// Sets mean and deviation from the two keys, if present.
fn normalisation(
    place: Place<'_>,
    config: &Object,
    [mean, std]: [&str; 2],
    wanted: &mut Preprocess,
) -> Result<()> {
    let finite = |value: &f32| value.is_finite();
    let positive = |value: &f32| value.is_finite() && *value > 0.0;
    if let Some(value) = config.get(mean) {
        match three(value).filter(|mean| mean.iter().all(finite)) {
            Some(mean) => wanted.mean = mean,
            None => return place.refuse(mean, value, "not three numbers"),
        }
    }
    if let Some(value) = config.get(std) {
        match three(value).filter(|std| std.iter().all(positive)) {
            Some(std) => wanted.std = std,
            None => return place.refuse(std, value, "not three numbers above zero"),
        }
    }
    Ok(())
}

/// Three numbers, or one for all three channels.
fn three(value: &Value) -> Option<[f32; 3]> {
    if let Some(number) = value.as_f64() {
        return Some([number as f32; 3]);
    }
    let list: Vec<f32> = value
        .as_array()?
        .iter()
        .map(|number| Some(number.as_f64()? as f32))
        .collect::<Option<_>>()?;
    list.try_into().ok()
}
