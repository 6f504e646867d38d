//! The open_clip_config.json of open_clip: the model (`model_cfg`), with the keys of closed
//! dataclasses, and the preprocessing (`preprocess_cfg`), of which open_clip uses the keys that it
//! knows.

mod tables;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::TowerSettings;
use super::keys::{Keys, Object, Place, Rule, is_on};
use crate::checkpoint::architecture::{Activation, Architecture, ImageTower, Tower};
use crate::input::preprocess::{Preprocess, Resize};
use tables::{MODEL, PREPROCESS, TEXT, TOKENIZER, TOWER, VISION};

pub(super) const FILE: &str = "open_clip_config.json";

/// The contents of an open_clip_config.json.
#[derive(Clone, Debug)]
pub(super) struct OpenClip {
    model: Object,
    vision: Object,
    text: Object,
}

/// The preprocessing that the file describes.
#[derive(Clone, Debug)]
pub(super) struct Pixels(Object);

impl OpenClip {
    /// Reads an open_clip_config.json.
    ///
    /// # Errors
    /// When a value is not supported, or open_clip does not have a key.
    pub(super) fn read(config: &Object, warnings: &mut Vec<String>) -> Result<Self> {
        let model = match config.get("model_cfg") {
            Some(Value::Object(model)) => model,
            Some(other) => return place("").refuse("model_cfg", other, "not an object"),
            None => bail!(
                "{FILE}: no model_cfg, the key under which open_clip stores the model's dimensions"
            ),
        };
        let read = Self {
            model: model.clone(),
            vision: place("model_cfg").object(model, "vision_cfg")?,
            text: place("model_cfg").object(model, "text_cfg")?,
        };
        closed(place("model_cfg"), &read.model, &[MODEL])?;
        closed(place(VISION_PATH), &read.vision, &[VISION, TOWER])?;
        closed(place(TEXT_PATH), &read.text, &[TEXT, TOWER])?;
        read.check_pooling()?;
        let tokenizer = place(TEXT_PATH).object(&read.text, "tokenizer_kwargs")?;
        closed(place(TOKENIZER_PATH), &tokenizer, &[TOKENIZER])?;
        let known = [Keys(&["model_cfg", "preprocess_cfg"], Rule::Read)];
        warnings.extend(place("").warning(&place("").check(config, &[&known])?));
        Ok(read)
    }

    /// The end token has the largest id (`argmax`); `eos` looks for the id in `eos_id`.
    fn check_pooling(&self) -> Result<()> {
        let (pool, end) = (self.text.get("pool_type"), self.text.get("eos_id"));
        match pool.map(Value::as_str) {
            None | Some(Some("argmax")) => Ok(()),
            Some(Some("eos")) if end.and_then(Value::as_u64) == Some(49407) => Ok(()),
            Some(Some("eos")) => {
                let end = end.cloned().unwrap_or(json!(2));
                place(TEXT_PATH).refuse(
                    "eos_id",
                    &end,
                    "but with pool_type \"eos\" longclip supports only 49407; use open_clip for this model",
                )
            }
            Some(_) => place(TEXT_PATH).refuse(
                "pool_type",
                pool.unwrap_or(&Value::Null),
                "but longclip supports only \"argmax\"; use open_clip for this model",
            ),
        }
    }

    /// Head counts and LayerNorm epsilons.
    ///
    /// # Errors
    /// When one is not a number.
    pub(super) fn stated(&self) -> Result<TowerSettings> {
        let epsilon = |path, tower: &Object| -> Result<f32> {
            let norm = place(path).object(tower, "norm_kwargs")?;
            let path = format!("{path}.norm_kwargs");
            let only = [Keys(&["eps"], Rule::Read)];
            closed(place(&path), &norm, &[&only])?;
            Ok(place(&path).epsilon(&norm, "eps")?.unwrap_or(1e-5))
        };
        let head_width = place(VISION_PATH).whole(&self.vision, "head_width")?;
        Ok(TowerSettings {
            vision_heads: None,
            vision_head_width: Some(head_width.unwrap_or(64)),
            text_heads: place(TEXT_PATH).whole(&self.text, "heads")?.unwrap_or(8),
            vision_epsilon: epsilon(VISION_PATH, &self.vision)?,
            text_epsilon: epsilon(TEXT_PATH, &self.text)?,
        })
    }

    /// The activation of both towers, and where it is given.
    ///
    /// # Errors
    /// When `quick_gelu` is neither true nor false.
    pub(super) fn activation(&self) -> Result<(Activation, String)> {
        let activation = match self.model.get("quick_gelu") {
            Some(Value::Bool(true)) => Activation::QuickGelu,
            None | Some(Value::Bool(false) | Value::Null) => Activation::Gelu,
            Some(other) => {
                return place("model_cfg").refuse("quick_gelu", other, "not true or false");
            }
        };
        Ok((activation, "quick_gelu in open_clip_config.json".to_owned()))
    }

    /// Compares the dimensions with those of the tensors.
    ///
    /// # Errors
    /// When the two contradict each other (open_clip would stretch a table of another length).
    pub(super) fn check(&self, a: &Architecture) -> Result<()> {
        let side = json!(a.image.image_size());
        agree("model_cfg", &self.model, "embed_dim", &json!(a.embed_dim))?;
        agree_side(&self.vision, "image_size", &side)?;
        match &a.image {
            ImageTower::VisionTransformer(sizes) => {
                agree_tower(VISION_PATH, &self.vision, &sizes.tower)?;
                agree_side(&self.vision, "patch_size", &json!(sizes.patch_size))?;
            }
            // A ResNet has no patches and no MLP, whatever the file says.
            ImageTower::ResNet(sizes) => {
                agree(VISION_PATH, &self.vision, "width", &json!(sizes.width))?;
                agree(VISION_PATH, &self.vision, "layers", &json!(sizes.blocks))?;
            }
        }
        agree_tower(TEXT_PATH, &self.text, &a.text)?;
        agree(TEXT_PATH, &self.text, "vocab_size", &json!(a.vocabulary))?;
        agree(
            TEXT_PATH,
            &self.text,
            "context_length",
            &json!(a.context_length),
        )
    }
}

impl Pixels {
    /// Reads `preprocess_cfg`, if present.
    ///
    /// # Errors
    /// When a value is not supported.
    pub(super) fn read(config: &Object, warnings: &mut Vec<String>) -> Result<Option<Self>> {
        if !config.contains_key("preprocess_cfg") {
            return Ok(None);
        }
        let pixels = place("").object(config, "preprocess_cfg")?;
        let place = place("preprocess_cfg");
        warnings.extend(place.warning(&place.check(&pixels, &[PREPROCESS])?));
        Ok(Some(Self(pixels)))
    }

    /// The preprocessing for a tower with an input side of `image_size` pixels.
    ///
    /// # Errors
    /// When it is not supported, or its size is not the tower's.
    pub(super) fn preprocess(&self, image_size: usize) -> Result<Preprocess> {
        let (place, pixels) = (place("preprocess_cfg"), &self.0);
        let mut wanted = Preprocess::clip(image_size);
        match pixels.get("resize_mode") {
            None | Some(Value::Null) => {}
            Some(Value::String(mode)) if mode == "shortest" => {}
            Some(Value::String(mode)) if mode == "squash" => {
                wanted.resize = Resize::Exact {
                    width: image_size,
                    height: image_size,
                };
            }
            Some(other) => {
                let why = "but longclip supports only \"shortest\" or \"squash\"; use open_clip for this model";
                return place.refuse("resize_mode", other, why);
            }
        }
        if let Some(filter) = pixels.get("interpolation").and_then(super::filter) {
            wanted.filter = filter;
        }
        // open_clip itself uses the tower's size; a different one belongs to another model.
        if let Some(size) = pixels.get("size").filter(|size| !size.is_null()) {
            let side = json!(image_size);
            super::agree(place, "size", one_of_two(size), &side)?;
        }
        // What Python treats as false means the default.
        let mut stated = pixels.clone();
        stated.retain(|_, value| is_on(value));
        super::normalisation(place, &stated, ["mean", "std"], &mut wanted)?;
        Ok(wanted)
    }
}

const VISION_PATH: &str = "model_cfg.vision_cfg";
const TEXT_PATH: &str = "model_cfg.text_cfg";
const TOKENIZER_PATH: &str = "model_cfg.text_cfg.tokenizer_kwargs";

fn place(path: &str) -> Place<'_> {
    Place {
        file: FILE,
        path,
        library: "open_clip",
    }
}

/// Checks an object in which open_clip itself rejects unknown keys.
fn closed(place: Place<'_>, object: &Object, tables: &[&[Keys]]) -> Result<()> {
    let unknown = place.check(object, tables)?;
    let first = unknown
        .first()
        .and_then(|key| Some((key, object.get(*key)?)));
    match first {
        None => Ok(()),
        Some((key, value)) => place.refuse(
            key,
            value,
            "but open_clip does not have this key; correct its name or remove it",
        ),
    }
}

/// The side of a square, which may be written as a pair.
fn one_of_two(value: &Value) -> &Value {
    match value.as_array().map(Vec::as_slice) {
        Some([height, width]) if height == width => height,
        _ => value,
    }
}

fn agree_side(tower: &Object, key: &str, found: &Value) -> Result<()> {
    let stated = tower.get(key).map(one_of_two);
    stated.map_or(Ok(()), |stated| {
        super::agree(place(VISION_PATH), key, stated, found)
    })
}

fn agree(path: &str, object: &Object, key: &str, found: &Value) -> Result<()> {
    let stated = object.get(key);
    stated.map_or(Ok(()), |stated| {
        super::agree(place(path), key, stated, found)
    })
}

fn agree_tower(path: &str, object: &Object, tower: &Tower) -> Result<()> {
    agree(path, object, "width", &json!(tower.width))?;
    agree(path, object, "layers", &json!(tower.layers))?;
    let Some(ratio) = object.get("mlp_ratio") else {
        return Ok(());
    };
    // As Python's int() rounds.
    let width = ratio
        .as_f64()
        .map(|ratio| (tower.width as f64 * ratio) as usize);
    ensure!(
        width == Some(tower.mlp_width),
        "{} is {ratio}, but the tensors' MLPs are {} wide in a tower of {}; the two files do not \
         belong together",
        place(path).name("mlp_ratio"),
        tower.mlp_width,
        tower.width
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: &Value) -> Result<(OpenClip, Preprocess, Vec<String>)> {
        let mut warnings = Vec::new();
        let read = OpenClip::read(config.as_object().unwrap(), &mut warnings)?;
        read.stated()?;
        read.activation()?;
        let pixels = Pixels::read(config.as_object().unwrap(), &mut warnings)?;
        let pixels = pixels.unwrap().preprocess(224)?;
        Ok((read, pixels, warnings))
    }

    fn with(path: &str, key: &str, value: Value) -> Value {
        let mut config = json!({
            "model_cfg": {
                "embed_dim": 512,
                "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
                "text_cfg": {"context_length": 77, "width": 512, "heads": 8, "layers": 12},
            },
            "preprocess_cfg": {},
        });
        let object = config.pointer_mut(path).unwrap().as_object_mut().unwrap();
        object.insert(key.to_owned(), value);
        config
    }

    #[test]
    fn values_that_are_not_computed_are_refused_by_name() {
        let (model, vision, text, pixels) = (
            "/model_cfg",
            "/model_cfg/vision_cfg",
            "/model_cfg/text_cfg",
            "/preprocess_cfg",
        );
        let cases = [
            (model, "multimodal_cfg", json!({"width": 1})),
            (model, "quick_gelu", json!("yes")),
            (model, "qick_gelu", json!(true)),
            (vision, "pool_type", json!("avg")),
            (vision, "pool_type", Value::Null),
            (vision, "attentional_pool", json!("parallel")),
            (vision, "act_kwargs", json!({"approximate": "tanh"})),
            (vision, "ls_init_value", json!(0.0)),
            (vision, "timm_model_name", json!("vit_base")),
            (vision, "norm_kwargs", json!({"eps": -1.0})),
            (vision, "norm_kwargs", json!({"bias": false})),
            (vision, "block_type", json!("custom")),
            (vision, "width_", json!(3)),
            (text, "no_causal_mask", json!(true)),
            (text, "pool_type", json!("last")),
            (text, "embed_cls", json!(true)),
            (text, "proj_type", json!("none")),
            (text, "hf_tokenizer_name", json!("bert-base-uncased")),
            (text, "tokenizer_kwargs", json!({"clean": "canonicalize"})),
            (text, "tokenizer_kwargs", json!({"strip_sep_token": true})),
            (pixels, "interpolation", json!("nearest")),
            (pixels, "resize_mode", json!("longest")),
            (pixels, "mode", json!("L")),
            (pixels, "size", json!(336)),
            (pixels, "size", json!([224, 336])),
            (pixels, "mean", json!([0.5, 0.5])),
            (pixels, "std", json!([0.5, 0.5, 0])),
        ];
        for (path, key, value) in cases {
            let error = read(&with(path, key, value.clone()))
                .unwrap_err()
                .to_string();
            let named = error.contains("open_clip_config.json: ") && error.contains(key);
            assert!(named, "{path} {key} {value}: {error}");
        }
        let error = read(&json!({"embed_dim": 512})).unwrap_err().to_string();
        assert!(error.contains("no model_cfg"), "{error}");
    }

    #[test]
    fn values_that_change_nothing_are_taken_in_silence() {
        let cases = [
            ("/model_cfg", "custom_text", json!(true)),
            ("/model_cfg", "init_logit_bias", json!(-10)),
            ("/model_cfg/vision_cfg", "patch_dropout", json!(0.5)),
            ("/model_cfg/vision_cfg", "final_ln_after_pool", json!(true)),
            ("/model_cfg/vision_cfg", "attn_pooler_heads", json!(4)),
            ("/model_cfg/vision_cfg", "timm_pool", json!("avg")),
            ("/model_cfg/vision_cfg", "image_size", json!([224, 224])),
            ("/model_cfg/text_cfg", "norm_kwargs", Value::Null),
            ("/model_cfg/text_cfg", "pad_id", json!(1)),
            (
                "/model_cfg/text_cfg",
                "tokenizer_kwargs",
                json!({"clean": "lower"}),
            ),
            ("/model_cfg/text_cfg", "eos_id", json!(5)),
            ("/preprocess_cfg", "interpolation", json!("random")),
            ("/preprocess_cfg", "size", json!([224, 224])),
            ("/preprocess_cfg", "mean", Value::Null),
            ("/preprocess_cfg", "std", json!(0)),
            ("/preprocess_cfg", "fill_color", json!(128)),
        ];
        for (path, key, value) in cases {
            let (_, _, warnings) = read(&with(path, key, value)).unwrap();
            assert_eq!(warnings, [""; 0], "{key}");
        }
        let (_, _, warnings) = read(&with("/preprocess_cfg", "crop", json!(1))).unwrap();
        assert!(warnings[0].contains("preprocess_cfg.crop"), "{warnings:?}");
    }

    #[test]
    fn numbers_are_taken_and_absent_ones_are_the_classes_own() {
        let path = "/model_cfg/vision_cfg";
        let (config, _, _) = read(&with(path, "norm_kwargs", json!({"eps": 1e-2}))).unwrap();
        let stated = config.stated().unwrap();
        assert_eq!((stated.vision_epsilon, stated.text_epsilon), (1e-2, 1e-5));
        assert_eq!((stated.vision_head_width, stated.text_heads), (Some(64), 8));
        let mut eos = with("/model_cfg/text_cfg", "pool_type", json!("eos"));
        assert!(read(&eos).is_err());
        eos["model_cfg"]["text_cfg"]["eos_id"] = json!(49407);
        read(&eos).unwrap();
        let squash = with("/preprocess_cfg", "resize_mode", json!("squash"));
        let (_, pixels, _) = read(&squash).unwrap();
        assert_eq!(
            pixels.resize,
            Resize::Exact {
                width: 224,
                height: 224
            }
        );
    }
}
