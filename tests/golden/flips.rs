//! Every field of the configuration files, flipped one at a time: either the embeddings match those
//! of the library that owns the file, or loading fails and names the file and the key. `flips.py`
//! generates the list and the libraries' answers.

use std::path::Path;

use longclip::checkpoint::Checkpoint;
use longclip::checkpoint::hub;
use longclip::checkpoint::sizes::Stated;
use longclip::checkpoint::source;
use longclip::input::image::{self, DecodeOptions};
use longclip::input::tokenizer::{self, LongText};
use longclip::model::device::CpuPrecision;
use longclip::model::{self, Compute, DualEncoder as _};
use serde_json::{Value, json};

use candle_core::{Device, Tensor};

use super::{flat, json as read_json, unpack};

/// `document` with the flip applied.
fn flipped(mut document: Value, flip: &Value) -> Value {
    let mut place = &mut document;
    let path = flip["object"].as_str().unwrap().split('/');
    for part in path.filter(|part| !part.is_empty()) {
        if place.get(part).is_none() {
            place[part] = json!({});
        }
        place = &mut place[part];
    }
    place[flip["key"].as_str().unwrap()] = flip["value"].clone();
    document
}

fn load(folder: &Path) -> Result<Checkpoint, String> {
    let settings = hub::Settings::from_env();
    let source = source::resolve(folder.to_str().unwrap(), &settings, &hub::Silent).unwrap();
    Checkpoint::load(&source, &Stated::default()).map_err(|error| format!("{error:#}"))
}

/// Normalised embeddings of the list's image and text.
fn embeddings(checkpoint: &Checkpoint, list: &Value) -> [Vec<f32>; 2] {
    let clip = model::load(checkpoint, &Compute::Kernel(CpuPrecision::F32)).unwrap();
    let path = unpack::data_folder().join("pictures");
    let path = path.join(list["picture"].as_str().unwrap());
    let decoded = image::read(&path, &DecodeOptions::default()).unwrap();
    let pixels = checkpoint.preprocess.run(&decoded.image);
    let side = checkpoint.preprocess.image_size;
    let pixels = Tensor::from_vec(pixels, (1, 3, side, side), &Device::Cpu).unwrap();
    let context = checkpoint.architecture.context_length;
    let text = list["text"].as_str().unwrap();
    let text = tokenizer::fit(text, context, LongText::Error).unwrap();
    [
        flat(&clip.encode_image(&pixels).unwrap()),
        flat(&clip.encode_text(&[text.into_first()]).unwrap()),
    ]
}

fn cosine(found: &[f32], expected: &Value) -> f64 {
    let expected = expected.as_array().unwrap().iter();
    let expected: Vec<f64> = expected.map(|value| value.as_f64().unwrap()).collect();
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(&expected);
    let product: f64 = pairs.map(|(a, b)| f64::from(*a) * b).sum();
    let length = expected.iter().map(|b| b * b).sum::<f64>().sqrt();
    product / length
}

/// Fails unless the embeddings are the library's.
fn same(checkpoint: &Checkpoint, list: &Value, place: usize, flip: &Value) {
    let expected = &list["embeddings"][place];
    for (side, found) in embeddings(checkpoint, list).iter().enumerate() {
        let cosine = cosine(found, &expected[side]);
        assert!(cosine >= 0.999_99, "{flip}: {cosine} of side {side}");
    }
}

#[test]
fn every_configuration_flip_matches_its_library_or_is_refused_by_name() {
    let list = read_json(&unpack::data_folder().join("expected/flips.json"));
    let folder = tempfile::tempdir().unwrap();
    unpack::unpack("hf-gelu-patch32", folder.path());
    unpack::unpack("open-clip", folder.path());
    let flips = list["flips"].as_array().unwrap();
    assert!(flips.len() > 150);
    for flip in flips {
        let model = folder.path().join(flip["folder"].as_str().unwrap());
        let (file, key) = (flip["file"].as_str().unwrap(), &flip["key"]);
        let path = model.join(file);
        let before = path.exists().then(|| read_json(&path));
        let plain = match flip["object"].as_str().unwrap() {
            "" => list["processor"].clone(),
            object => json!({ object: list["processor"] }),
        };
        let config = flipped(before.clone().unwrap_or(plain), flip);
        std::fs::write(&path, config.to_string()).unwrap();
        // transformers has its own crop rounding, which only this file implies.
        let processor = model.join("preprocessor_config.json");
        if file == "config.json" {
            std::fs::write(&processor, list["processor"].to_string()).unwrap();
        }
        let found = load(&model);
        match (found, flip["outcome"].as_str().unwrap()) {
            (Err(error), "refused") => {
                let key = key.as_str().unwrap();
                assert!(
                    error.contains(file) && error.contains(key),
                    "{flip}: {error}"
                );
            }
            (Ok(checkpoint), "computed") => {
                let warns = checkpoint
                    .warnings
                    .iter()
                    .any(|said| said.contains("unheard_of"));
                assert_eq!(
                    json!(warns),
                    flip["warns"],
                    "{flip}: {:?}",
                    checkpoint.warnings
                );
                // If the library itself fails, a warning is enough.
                match flip["expected"].as_u64() {
                    None => assert!(!checkpoint.warnings.is_empty(), "{flip}"),
                    Some(place) => same(&checkpoint, &list, place as usize, flip),
                }
            }
            (found, _) => panic!("{flip}: {:?}", found.err()),
        }
        match before {
            Some(before) => std::fs::write(&path, before.to_string()).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        std::fs::remove_file(&processor).ok();
    }
}
