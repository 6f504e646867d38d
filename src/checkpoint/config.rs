//! What the JSON files beside the weights say: config.json, open_clip_config.json,
//! preprocessor_config.json; and, where there are none, what `convert` wrote into the header of the
//! weights. Sizes come from the tensors; these are checked against them.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::architecture::{Activation, Architecture, ImageTower};
use super::metadata::{self, Metadata};
use super::source::ModelFiles;
use crate::input::preprocess::Preprocess;

/// The configuration files of a checkpoint, as far as there are any.
#[derive(Clone, Debug, Default)]
pub struct ModelConfig {
    hugging_face: Option<Value>,
    open_clip: Option<Value>,
    preprocessor: Option<Value>,
    /// Pairs of the weights' own header.
    header: Metadata,
}

impl ModelConfig {
    /// Reads what lies beside the weights.
    ///
    /// # Errors
    /// When a file cannot be read or is not JSON.
    pub fn read(files: &ModelFiles) -> Result<Self> {
        Ok(Self {
            hugging_face: read_json(files.config.as_deref())?,
            open_clip: read_json(files.open_clip_config.as_deref())?,
            preprocessor: read_json(files.preprocessor.as_deref())?,
            header: Metadata::new(),
        })
    }

    /// The same, with the header of the weights for what no file beside them tells.
    #[must_use]
    pub fn with_header(mut self, header: Metadata) -> Self {
        self.header = header;
        self
    }

    fn header_number(&self, key: &str) -> Option<Value> {
        metadata::value(&self.header, key)
    }

    fn tower(&self, tower: &str, key: &str) -> Option<&Value> {
        self.hugging_face.as_ref()?.get(tower)?.get(key)
    }

    fn number(&self, tower: &str, key: &str) -> Option<u64> {
        self.tower(tower, key)?.as_u64()
    }

    /// Heads of the image tower of this width, where a configuration says.
    #[must_use]
    pub fn vision_heads(&self, width: usize) -> Option<usize> {
        if let Some(stated) = self.number("vision_config", "num_attention_heads") {
            return Some(stated as usize);
        }
        if self.has_open_clip("vision_cfg") {
            // open_clip's own default, which most of its configurations leave unsaid.
            let head_width = self.open_clip_number("vision_cfg", "head_width");
            return Some(width / (head_width.unwrap_or(64) as usize).max(1));
        }
        Some(self.header_number(metadata::VISION_HEADS)?.as_u64()? as usize)
    }

    /// Heads of the text tower, where a configuration says.
    #[must_use]
    pub fn text_heads(&self) -> Option<usize> {
        let stated = self.number("text_config", "num_attention_heads");
        let stated = stated.or_else(|| {
            let heads = self.open_clip_number("text_cfg", "heads");
            // Open_clip's own default.
            heads.or_else(|| self.has_open_clip("text_cfg").then_some(8))
        });
        let header = || self.header_number(metadata::TEXT_HEADS)?.as_u64();
        Some(stated.or_else(header)? as usize)
    }

    /// Whether a configuration file tells the activation.
    #[must_use]
    pub fn tells_activation(&self) -> bool {
        let open_clip = self.open_clip.as_ref().and_then(|c| c.get("model_cfg"));
        let header = self.header.get(metadata::ACTIVATION);
        self.hugging_face.is_some() || open_clip.is_some() || header.is_some()
    }

    /// Epsilon of the image tower's LayerNorms, where config.json says.
    #[must_use]
    pub fn vision_epsilon(&self) -> Option<f32> {
        let header = || self.header_number(metadata::VISION_EPSILON)?.as_f64();
        let config = self.tower("vision_config", "layer_norm_eps");
        Some(config.and_then(Value::as_f64).or_else(header)? as f32)
    }

    /// Epsilon of the text tower's LayerNorms, where config.json says.
    #[must_use]
    pub fn text_epsilon(&self) -> Option<f32> {
        let header = || self.header_number(metadata::TEXT_EPSILON)?.as_f64();
        let config = self.tower("text_config", "layer_norm_eps");
        Some(config.and_then(Value::as_f64).or_else(header)? as f32)
    }

    fn open_clip_value(&self, tower: &str, key: &str) -> Option<&Value> {
        let config = self.open_clip.as_ref()?.get("model_cfg")?;
        config.get(tower)?.get(key)
    }

    fn has_open_clip(&self, tower: &str) -> bool {
        let config = self.open_clip.as_ref().and_then(|c| c.get("model_cfg"));
        config.is_some_and(|config| config.get(tower).is_some())
    }

    fn open_clip_number(&self, tower: &str, key: &str) -> Option<u64> {
        self.open_clip_value(tower, key)?.as_u64()
    }

    /// Compares the sizes that config.json states with those of the tensors. A different context
    /// length is a warning, anything else an error.
    ///
    /// # Errors
    /// When the two contradict each other.
    pub fn check(&self, architecture: &Architecture) -> Result<Vec<String>> {
        let a = architecture;
        let mut stated = vec![
            ("vision_config", "image_size", a.image.image_size()),
            ("text_config", "hidden_size", a.text.width),
            ("text_config", "num_hidden_layers", a.text.layers),
            ("text_config", "intermediate_size", a.text.mlp_width),
            ("text_config", "vocab_size", a.vocabulary),
        ];
        // A ResNet has no port to transformers, and so no names there.
        if let ImageTower::VisionTransformer(sizes) = &a.image {
            stated.extend([
                ("vision_config", "hidden_size", sizes.tower.width),
                ("vision_config", "num_hidden_layers", sizes.tower.layers),
                ("vision_config", "intermediate_size", sizes.tower.mlp_width),
                ("vision_config", "patch_size", sizes.patch_size),
            ]);
        }
        for (tower, key, found) in stated {
            if let Some(number) = self.number(tower, key) {
                agree("config.json", tower, key, [&number.into(), &found.into()])?;
            }
        }
        let (width, layers): (_, Value) = match &a.image {
            ImageTower::VisionTransformer(sizes) => (sizes.tower.width, sizes.tower.layers.into()),
            ImageTower::ResNet(sizes) => (sizes.width, sizes.blocks.to_vec().into()),
        };
        let stated = [
            ("vision_cfg", "width", width.into()),
            ("vision_cfg", "layers", layers),
            ("vision_cfg", "patch_size", a.image.patch_size().into()),
            ("vision_cfg", "image_size", a.image.image_size().into()),
            ("text_cfg", "width", a.text.width.into()),
            ("text_cfg", "layers", a.text.layers.into()),
        ];
        for (tower, key, found) in stated {
            // A ResNet has no patches, whatever is stated; `layers` is its list of four numbers.
            let stated = self.open_clip_value(tower, key);
            let comparable = |value: &&Value| value.is_u64() || value.is_array() && key == "layers";
            if let Some(value) = stated.filter(comparable).filter(|_| !found.is_null()) {
                agree("open_clip_config.json", tower, key, [value, &found])?;
            }
        }
        let context = self.number("text_config", "max_position_embeddings");
        Ok(context
            .filter(|&context| context != a.context_length as u64)
            .map(|context| {
                format!(
                    "config.json says a context of {context} tokens, the positional table has {}: \
                     using the table",
                    a.context_length
                )
            })
            .into_iter()
            .collect())
    }

    /// The activation and where it is stated; `None` where no file tells.
    ///
    /// # Errors
    /// When the two towers differ or the name is of an activation that is not CLIP's.
    pub fn activation(&self) -> Result<Option<(Activation, String)>> {
        if let Some(config) = &self.hugging_face {
            let of = |tower: &str| match config.get(tower).and_then(|c| c.get("hidden_act")) {
                // transformers' own default, which it does not always write down.
                None => Ok(Activation::QuickGelu),
                Some(Value::String(name)) => parse_activation(name),
                Some(other) => bail!("config.json: {tower}.hidden_act is {other}, not a name"),
            };
            let (vision, text) = (of("vision_config")?, of("text_config")?);
            ensure!(
                vision == text,
                "config.json: the towers have different activations ({vision} and {text})"
            );
            return Ok(Some((vision, "hidden_act in config.json".to_owned())));
        }
        let Some(config) = self.open_clip.as_ref().and_then(|c| c.get("model_cfg")) else {
            let Some(name) = self.header.get(metadata::ACTIVATION) else {
                return Ok(None);
            };
            let activation = parse_activation(name).context("in the header of the weights")?;
            return Ok(Some((activation, "the file's own header".to_owned())));
        };
        let quick = config.get("quick_gelu").and_then(Value::as_bool) == Some(true);
        let activation = if quick {
            Activation::QuickGelu
        } else {
            Activation::Gelu
        };
        let source = "quick_gelu in open_clip_config.json".to_owned();
        Ok(Some((activation, source)))
    }

    /// How pixels are made: preprocessor_config.json or open_clip's `preprocess_cfg`, else CLIP's.
    ///
    /// # Errors
    /// When the file asks for what longclip does not do: another interpolation, no crop, another
    /// size than the model's.
    pub fn preprocess(&self, image_size: usize) -> Result<Preprocess> {
        if let Some(config) = &self.preprocessor {
            return hugging_face_pixels(config, image_size).context("preprocessor_config.json");
        }
        let open_clip = self.open_clip.as_ref();
        if let Some(config) = open_clip.and_then(|config| config.get("preprocess_cfg")) {
            return open_clip_pixels(config, image_size)
                .context("preprocess_cfg in open_clip_config.json");
        }
        if let Some(config) = metadata::preprocess(&self.header)? {
            let stated = config.get("image_size").and_then(Value::as_u64);
            same_size("image_size", stated, image_size)?;
            return with_normalisation(&config, ["mean", "std"], image_size)
                .context(metadata::PREPROCESS);
        }
        Ok(Preprocess::clip(image_size))
    }
}

fn agree(file: &str, tower: &str, key: &str, [stated, found]: [&Value; 2]) -> Result<()> {
    ensure!(
        stated == found,
        "{file} says {tower}.{key} is {stated}, but the tensors say {found}; the two files do not \
         belong together"
    );
    Ok(())
}

fn read_json(path: Option<&Path>) -> Result<Option<Value>> {
    let Some(path) = path else { return Ok(None) };
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let value = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is not JSON", path.display()))?;
    Ok(Some(value))
}

fn parse_activation(name: &str) -> Result<Activation> {
    match name {
        "quick_gelu" => Ok(Activation::QuickGelu),
        "gelu" => Ok(Activation::Gelu),
        other => bail!(
            "the configuration names the activation {other:?}; CLIP models have quick_gelu or gelu: say \
             which with --activation if you know better"
        ),
    }
}

fn hugging_face_pixels(config: &Value, image_size: usize) -> Result<Preprocess> {
    for step in ["do_resize", "do_center_crop", "do_normalize", "do_rescale"] {
        ensure!(
            config.get(step).and_then(Value::as_bool) != Some(false),
            "{step} is false, but longclip always does that step"
        );
    }
    if let Some(filter) = config.get("resample") {
        ensure!(
            filter.as_u64() == Some(3),
            "resample is {filter}, but longclip resizes with bicubic (3) only"
        );
    }
    if let Some(factor) = config.get("rescale_factor").and_then(Value::as_f64) {
        ensure!(
            (factor * 255.0 - 1.0).abs() < 1e-4,
            "rescale_factor is {factor}, but longclip scales by 1/255"
        );
    }
    let side = |key: &str| {
        let size = config.get(key)?;
        let field = |name: &str| size.get(name).and_then(Value::as_u64);
        size.as_u64()
            .or_else(|| field("shortest_edge"))
            .or_else(|| field("height"))
    };
    for key in ["size", "crop_size"] {
        same_size(key, side(key), image_size)?;
    }
    with_normalisation(config, ["image_mean", "image_std"], image_size)
}

fn open_clip_pixels(config: &Value, image_size: usize) -> Result<Preprocess> {
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    if let Some(filter) = text("interpolation") {
        ensure!(
            filter == "bicubic",
            "interpolation is {filter}, but longclip has bicubic only"
        );
    }
    if let Some(mode) = text("resize_mode") {
        ensure!(
            mode == "shortest",
            "resize_mode is {mode}, but longclip resizes the shortest side and crops"
        );
    }
    let size = config
        .get("size")
        .and_then(|size| size.get(0).unwrap_or(size).as_u64());
    same_size("size", size, image_size)?;
    with_normalisation(config, ["mean", "std"], image_size)
}

fn same_size(key: &str, stated: Option<u64>, image_size: usize) -> Result<()> {
    match stated {
        Some(stated) if stated != image_size as u64 => {
            bail!("{key} is {stated}, but the image tower's positions are for {image_size} pixels")
        }
        _ => Ok(()),
    }
}

fn with_normalisation(config: &Value, keys: [&str; 2], image_size: usize) -> Result<Preprocess> {
    let mut pixels = Preprocess::clip(image_size);
    if let Some(mean) = config.get(keys[0]) {
        pixels.mean = three(mean).with_context(|| format!("{} must be three numbers", keys[0]))?;
    }
    if let Some(std) = config.get(keys[1]) {
        pixels.std = three(std)
            .filter(|std| std.iter().all(|value| *value > 0.0))
            .with_context(|| format!("{} must be three numbers above zero", keys[1]))?;
    }
    Ok(pixels)
}

fn three(value: &Value) -> Option<[f32; 3]> {
    let list: Vec<f32> = value
        .as_array()?
        .iter()
        .map(|number| Some(number.as_f64()? as f32))
        .collect::<Option<_>>()?;
    list.try_into().ok()
}
