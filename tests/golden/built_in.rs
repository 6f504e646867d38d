//! The built-in model compared with `model-check.json`, which the packing program computed with
//! PyTorch and an independent reader.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use longclip::checkpoint::tiny;
use longclip::input::image::{self, DecodeOptions};
use longclip::input::tokenizer::{LongText, TokenIds, fit};
use longclip::model::{self, DualEncoder as _};
use serde_json::Value;

use super::{assert_same_direction, computes, flat, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny")
}

fn numbers(list: &Value) -> Vec<f64> {
    let list = list.as_array().unwrap();
    list.iter().map(|one| one.as_f64().unwrap()).collect()
}

/// Listed embeddings, normalised.
fn units<'a>(lists: impl IntoIterator<Item = &'a Value>) -> Vec<f32> {
    let unit = |list: &Value| {
        let values = numbers(&list["embedding"]);
        let length = values.iter().map(|v| v * v).sum::<f64>().sqrt();
        values.into_iter().map(move |v| (v / length) as f32)
    };
    lists.into_iter().flat_map(unit).collect()
}

#[test]
fn its_tensors_match_the_packed_ones() {
    let check = json(&folder().join("model-check.json"));
    let expected = check["tensors"].as_object().unwrap();
    let found = tiny::checkpoint(&None.into()).unwrap().tensors;
    let names: Vec<_> = found.keys().collect();
    assert!(names.into_iter().eq(expected.keys()));
    for (name, expected) in expected {
        let tensor = &found[name];
        assert_eq!(serde_json::json!(tensor.shape()), expected["shape"]);
        let values = tensor.to_f32().unwrap();
        // An f32 with all digits, so bit-identical.
        for (value, first) in values.iter().zip(numbers(&expected["first"])) {
            assert_eq!(*value, first as f32, "{name}");
        }
        let sum = |size: fn(f64) -> f64| -> f64 {
            values.iter().map(|value| size(f64::from(*value))).sum()
        };
        let absolute = expected["absolute_sum"].as_f64().unwrap();
        for (found, key) in [(sum(|v| v), "sum"), (sum(f64::abs), "absolute_sum")] {
            let expected = expected[key].as_f64().unwrap();
            // Only the order of summation differs.
            let off = (found - expected).abs();
            assert!(off <= 1e-10 * absolute, "{name}: {found} {expected}");
        }
    }
}

#[test]
fn its_embeddings_match_the_reference() {
    let check = json(&folder().join("model-check.json"));
    let checkpoint = tiny::checkpoint(&None.into()).unwrap();
    let name = check["image"]["file"].as_str().unwrap();
    let image = image::read(&folder().join(name), &DecodeOptions::default()).unwrap();
    let pixels = checkpoint.preprocess.run(&image.image);
    let side = checkpoint.preprocess.image_size;
    let pixels = Tensor::from_vec(pixels, (1, 3, side, side), &Device::Cpu).unwrap();
    let texts = check["texts"].as_array().unwrap();
    let context = checkpoint.architecture.context_length;
    let tokens: Vec<TokenIds> = texts
        .iter()
        .map(|one| {
            let text = one["text"].as_str().unwrap();
            let fitted = fit(text, context, LongText::Error).unwrap().into_first();
            assert_eq!(serde_json::json!(fitted.as_slice()), one["token_ids"]);
            fitted
        })
        .collect();
    for compute in computes() {
        let clip = model::load(&checkpoint, &compute).unwrap();
        let dim = clip.architecture().embed_dim;
        let found = flat(&clip.encode_image(&pixels).unwrap());
        assert_same_direction(name, &found, &units([&check["image"]]), dim);
        let found = flat(&clip.encode_text(&tokens).unwrap());
        assert_same_direction("texts", &found, &units(texts), dim);
    }
}
