//! The image processor of transformers: preprocessor_config.json, or `image_processor` in
//! processor_config.json, which transformers 5 writes instead and which wins.
//!
//! An absent key has the default of `CLIPImageProcessor`. `null` replaces that default: it turns a
//! step off, or leaves a step that is on without a value it needs.

use anyhow::Result;
use serde_json::{Value, json};

use super::keys::{Keys, Object, Place, Rule, is_on};
use crate::input::preprocess::{CropOffset, Preprocess, Resize};

pub(super) const LEGACY_FILE: &str = "preprocessor_config.json";
pub(super) const FILE: &str = "processor_config.json";

/// The key of processor_config.json that holds the image processor.
pub(super) const KEY: &str = "image_processor";

/// Keys that are read.
const READ: &[Keys] = &[
    Keys(
        &[
            "crop_size",
            "default_to_square",
            "do_center_crop",
            "do_normalize",
            "do_pad",
            "do_rescale",
            "do_resize",
            "image_mean",
            "image_std",
            "pad_size",
            "rescale_factor",
            "size",
        ],
        Rule::Read,
    ),
    Keys(
        &["resample"],
        Rule::Only(&["2", "3", "\"bicubic\"", "\"bilinear\""]),
    ),
    // Other processors have different defaults and steps.
    Keys(
        &["image_processor_type", "feature_extractor_type"],
        Rule::Only(TYPES),
    ),
    // A square of CLIPImageProcessor's default 224 pixels, whatever `size` says.
    Keys(&["use_square_size"], Rule::Off),
];

/// The names that CLIP's image processor has had.
const TYPES: &[&str] = &[
    "\"CLIPImageProcessor\"",
    "\"CLIPImageProcessorFast\"",
    "\"CLIPImageProcessorPil\"",
    "\"CLIPFeatureExtractor\"",
    "null",
];

/// Keys that change nothing.
const HARMLESS: &[Keys] = &[
    // Images are always converted to RGB first; without this, transformers fails on others.
    Keys(&["do_convert_rgb"], Rule::Harmless),
    // The form of the result, and of arrays passed instead of images.
    Keys(
        &["data_format", "input_data_format", "return_tensors"],
        Rule::Harmless,
    ),
    // The implementation and the device.
    Keys(
        &[
            "_processor_class",
            "auto_map",
            "backend",
            "device",
            "disable_grouping",
            "processor_class",
            "use_fast",
        ],
        Rule::Harmless,
    ),
    // Internal to transformers, and a count for models that mix images into text.
    Keys(
        &[
            "_valid_kwargs_names",
            "_valid_processor_keys",
            "image_seq_length",
        ],
        Rule::Harmless,
    ),
];

/// Keys of processor_config.json around the image processor.
const AROUND: &[Keys] = &[
    Keys(&[KEY], Rule::Read),
    // The implementation.
    Keys(&["auto_map", "processor_class"], Rule::Harmless),
    // For models that generate text.
    Keys(&["chat_template", "image_seq_length"], Rule::Harmless),
];

/// CLIPImageProcessor's default side, used if a file gives only one of `size` and `crop_size`.
const DEFAULT_SIDE: usize = 224;

/// An image processor's configuration.
#[derive(Clone, Debug)]
pub(super) struct Processor {
    config: Object,
    /// Whether it is nested in processor_config.json.
    nested: bool,
}

impl Processor {
    /// The image processor of processor_config.json, if it has one.
    ///
    /// # Errors
    /// When a value is not supported.
    pub(super) fn nested(around: &Object, warnings: &mut Vec<String>) -> Result<Option<Self>> {
        let place = Place {
            file: FILE,
            path: "",
            library: "transformers",
        };
        let Some(config) = around.get(KEY) else {
            return Ok(None);
        };
        let Value::Object(config) = config else {
            return place.refuse(KEY, config, "not an object");
        };
        warnings.extend(place.warning(&place.check(around, &[AROUND])?));
        Self::checked(config.clone(), true, warnings).map(Some)
    }

    /// The image processor of preprocessor_config.json.
    ///
    /// # Errors
    /// When a value is not supported.
    pub(super) fn legacy(config: Object, warnings: &mut Vec<String>) -> Result<Self> {
        Self::checked(config, false, warnings)
    }

    fn checked(config: Object, nested: bool, warnings: &mut Vec<String>) -> Result<Self> {
        let read = Self { config, nested };
        let unknown = read.place().check(&read.config, &[READ, HARMLESS])?;
        warnings.extend(read.place().warning(&unknown));
        Ok(read)
    }

    fn place(&self) -> Place<'static> {
        let (file, path) = if self.nested {
            (FILE, KEY)
        } else {
            (LEGACY_FILE, "")
        };
        Place {
            file,
            path,
            library: "transformers",
        }
    }

    /// The preprocessing for a tower with an input side of `image_size` pixels.
    ///
    /// # Errors
    /// When the file asks for something unsupported, or for another size.
    pub(super) fn preprocess(&self, image_size: usize) -> Result<Preprocess> {
        let place = self.place();
        let mut wanted = Preprocess::clip(image_size);
        wanted.offset = CropOffset::Floor;
        for step in ["do_resize", "do_rescale"] {
            if let Some(off) = self.config.get(step).filter(|value| !is_on(value)) {
                return place.refuse(step, off, "but longclip always performs that step");
            }
        }
        let factor = self.config.get("rescale_factor");
        if let Some(factor) = factor {
            let is_usual = |factor: f64| (factor * 255.0 - 1.0).abs() < 1e-4;
            if !factor.as_f64().is_some_and(is_usual) {
                return place.refuse(
                    "rescale_factor",
                    factor,
                    "but longclip scales by 1/255 only",
                );
            }
        }
        if let Some(filter) = self.config.get("resample").and_then(super::filter) {
            wanted.filter = filter;
        }
        self.sizes(&mut wanted)?;
        self.check_padding(image_size)?;
        if self.is_on("do_normalize") {
            super::normalisation(
                place,
                &self.config,
                ["image_mean", "image_std"],
                &mut wanted,
            )?;
        } else {
            (wanted.mean, wanted.std) = ([0.0; 3], [1.0; 3]);
        }
        Ok(wanted)
    }

    /// Whether a step that CLIPImageProcessor performs by default is on.
    fn is_on(&self, step: &str) -> bool {
        self.config.get(step).is_none_or(is_on)
    }

    /// Sets the resize step; resizing and cropping must result in the tower's input size.
    fn sizes(&self, wanted: &mut Preprocess) -> Result<()> {
        let side = wanted.image_size;
        let square = [side, side];
        let stated = |key: &str| self.config.contains_key(key);
        // A file without sizes means the tower's own, as with every 224-pixel tower.
        let default = if stated("size") || stated("crop_size") {
            DEFAULT_SIDE
        } else {
            side
        };
        wanted.resize = self.resize(default)?;
        let place = self.place();
        let size = self.config.get("size").cloned().unwrap_or(json!(default));
        if !self.is_on("do_center_crop") {
            let exact = Resize::Exact {
                width: side,
                height: side,
            };
            if wanted.resize == exact {
                return Ok(());
            }
            let why = format!(
                "and do_center_crop is off: images do not become the {side} x {side} pixels that the \
                 image tower reads"
            );
            return place.refuse("size", &size, &why);
        }
        let crop = self
            .config
            .get("crop_size")
            .cloned()
            .unwrap_or(json!(default));
        if rectangle(&crop) != Some(square) {
            let why = format!("but the image tower's positions are for {side} pixels");
            return place.refuse("crop_size", &crop, &why);
        }
        if wanted.resize.least() < side {
            let why = format!(
                "less than the {side} pixels that are cropped; use transformers for this model"
            );
            return place.refuse("size", &size, &why);
        }
        Ok(())
    }

    /// Interprets `size`.
    fn resize(&self, default: usize) -> Result<Resize> {
        let Some(size) = self.config.get("size") else {
            return Ok(Resize::ShortestEdge(default));
        };
        let is_square = self.config.get("default_to_square").is_some_and(is_on);
        match resize(size, is_square) {
            Some(resize) => Ok(resize),
            None => self.place().refuse(
                "size",
                size,
                "but longclip reads a number, {\"shortest_edge\": n} or {\"height\": n, \"width\": n}",
            ),
        }
    }

    /// Padding to the largest image of a batch adds nothing to squares of one size.
    fn check_padding(&self, side: usize) -> Result<()> {
        let is_padded = self.config.get("do_pad").is_some_and(is_on);
        let size = self.config.get("pad_size").filter(|size| !size.is_null());
        match size {
            Some(size) if is_padded && rectangle(size) != Some([side, side]) => self
                .place()
                .refuse("pad_size", size, "but longclip does not pad images"),
            _ => Ok(()),
        }
    }
}

/// Largest plausible side, in pixels.
const LARGEST_SIDE: u64 = 16_384;

fn pixels(value: &Value) -> Option<usize> {
    let side = value.as_u64()?;
    (1..=LARGEST_SIDE).contains(&side).then_some(side as usize)
}

/// Interprets a `size`: a single number is the shortest edge, unless a square is meant.
pub(super) fn resize(size: &Value, is_square: bool) -> Option<Resize> {
    let edge = match size {
        Value::Object(keys) if keys.len() == 1 => keys.get("shortest_edge").and_then(pixels),
        Value::Number(_) if !is_square => pixels(size),
        _ => None,
    };
    edge.map(Resize::ShortestEdge).or_else(|| {
        let [height, width] = rectangle(size)?;
        Some(Resize::Exact { width, height })
    })
}

/// Height and width from a number, a pair, or an object with these two keys.
fn rectangle(value: &Value) -> Option<[usize; 2]> {
    match value {
        Value::Number(_) => pixels(value).map(|side| [side, side]),
        Value::Array(pair) => match pair.as_slice() {
            [height, width] => Some([pixels(height)?, pixels(width)?]),
            _ => None,
        },
        Value::Object(keys) if keys.len() == 2 => {
            Some([pixels(keys.get("height")?)?, pixels(keys.get("width")?)?])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: &Value, image_size: usize) -> Result<Preprocess> {
        let config = config.as_object().unwrap().clone();
        Processor::legacy(config, &mut Vec::new())?.preprocess(image_size)
    }

    fn exact(width: usize, height: usize) -> Resize {
        Resize::Exact { width, height }
    }

    #[test]
    fn sizes_mean_what_transformers_takes_them_for() {
        let edge = Resize::ShortestEdge;
        let cases = [
            (json!({}), 336, edge(336)),
            (json!({"size": 64, "crop_size": 64}), 64, edge(64)),
            (
                json!({"size": 64, "crop_size": 64, "default_to_square": true}),
                64,
                exact(64, 64),
            ),
            (
                json!({"size": {"shortest_edge": 80}, "crop_size": 64}),
                64,
                edge(80),
            ),
            (
                json!({"size": [64, 70], "crop_size": 64}),
                64,
                exact(70, 64),
            ),
            (
                json!({"size": {"height": 64, "width": 70}, "crop_size": [64, 64]}),
                64,
                exact(70, 64),
            ),
            (
                json!({"size": {"height": 64, "width": 64}, "do_center_crop": false}),
                64,
                exact(64, 64),
            ),
            (
                json!({"size": {"height": 64, "width": 64}, "do_center_crop": null}),
                64,
                exact(64, 64),
            ),
            (
                json!({"crop_size": {"height": 64, "width": 64}}),
                64,
                edge(224),
            ),
            (json!({"size": {"shortest_edge": 224}}), 224, edge(224)),
            (json!({"do_pad": true}), 64, edge(64)),
        ];
        for (config, side, expected) in cases {
            let found = read(&config, side).unwrap();
            assert_eq!(found.resize, expected, "{config}");
            assert_eq!(found.offset, CropOffset::Floor);
        }
    }

    #[test]
    fn null_turns_a_step_off_or_leaves_it_without_its_value() {
        for off in [json!(null), json!(false), json!(0)] {
            let found = read(
                &json!({"do_normalize": off, "image_mean": [0.5, 0.5, 0.5]}),
                64,
            )
            .unwrap();
            assert_eq!((found.mean, found.std), ([0.0; 3], [1.0; 3]));
            for step in ["do_resize", "do_rescale", "do_center_crop"] {
                assert!(read(&json!({ step: off }), 64).is_err(), "{step} {off}");
            }
        }
        for key in [
            "size",
            "crop_size",
            "resample",
            "rescale_factor",
            "image_mean",
            "image_std",
        ] {
            let error = read(&json!({ key: null }), 64).unwrap_err().to_string();
            assert!(
                error.contains(&format!("preprocessor_config.json: {key} is null")),
                "{error}"
            );
        }
        // Without normalisation the mean is not needed.
        read(&json!({"do_normalize": false, "image_mean": null}), 64).unwrap();
    }

    #[test]
    fn what_is_not_computed_is_refused_by_name() {
        let cases = [
            ("resample", json!(0)),
            ("resample", json!("lanczos")),
            ("rescale_factor", json!(1)),
            ("image_processor_type", json!("ViTImageProcessor")),
            ("feature_extractor_type", json!("ViTFeatureExtractor")),
            ("use_square_size", json!(true)),
            ("size", json!({"longest_edge": 64})),
            ("size", json!({"shortest_edge": 64, "longest_edge": 80})),
            ("size", json!({"height": 64})),
            ("size", json!({"shortest_edge": 32})),
            ("size", json!(64.0)),
            ("size", json!("64")),
            ("size", json!(0)),
            ("size", json!(1_000_000)),
            ("crop_size", json!(224)),
            ("crop_size", json!({"height": 64, "width": 32})),
            ("crop_size", json!({"shortest_edge": 64})),
            ("image_mean", json!([0.5])),
            ("image_mean", json!("0.5")),
            ("image_std", json!([0.5, 0.5, 0])),
        ];
        for (key, value) in cases {
            let mut config = json!({"size": {"shortest_edge": 64}, "crop_size": 64});
            config[key] = value.clone();
            let error = read(&config, 64).unwrap_err().to_string();
            assert!(
                error.contains(&format!("preprocessor_config.json: {key} is ")),
                "{value}: {error}"
            );
        }
        let padded = json!({"do_pad": true, "pad_size": {"height": 80, "width": 80}});
        assert!(
            read(&padded, 64)
                .unwrap_err()
                .to_string()
                .contains("pad_size is")
        );
        assert!(read(&json!({"pad_size": 80}), 64).is_ok());
    }

    #[test]
    fn one_number_stands_for_three_channels() {
        let found = read(&json!({"image_mean": 0.5, "image_std": 0.25}), 64).unwrap();
        assert_eq!((found.mean, found.std), ([0.5; 3], [0.25; 3]));
    }

    #[test]
    fn the_nested_form_is_found_and_named() {
        let nested = |value: Value| {
            let mut warnings = Vec::new();
            let found = Processor::nested(value.as_object().unwrap(), &mut warnings);
            (found, warnings)
        };
        let (found, _) = nested(json!({"processor_class": "CLIPProcessor"}));
        assert!(found.unwrap().is_none());
        let (found, warnings) = nested(json!({"image_processor": {"new": 1}, "also": 2}));
        assert!(found.unwrap().is_some());
        assert!(
            warnings[0].contains("processor_config.json: also"),
            "{warnings:?}"
        );
        assert!(warnings[1].contains("image_processor.new"), "{warnings:?}");
        let (found, _) = nested(json!({"image_processor": {"resample": 0}}));
        let error = found.unwrap_err().to_string();
        assert!(
            error.contains("processor_config.json: image_processor.resample is 0"),
            "{error}"
        );
        assert!(nested(json!({"image_processor": 3})).0.is_err());
    }
}
