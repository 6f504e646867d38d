//! Our numbers compared with those of the reference implementations, on tiny checkpoints in every
//! layout.
//!
//! `README.md` in this folder describes the expected files and the scripts that generate them.

mod built_in;
mod flips;
mod hidden;
mod long_texts;
mod metrics;
mod resnet;
mod training;
pub(crate) mod unpack;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use longclip::checkpoint::Checkpoint;
use longclip::checkpoint::architecture::{Activation, ImageTower};
use longclip::checkpoint::container::{Archive, open};
use longclip::checkpoint::hub::{self, Silent};
use longclip::checkpoint::source;
use longclip::input::image::{self, DecodeOptions};
use longclip::input::preprocess::Preprocess;
use longclip::input::tokenizer::{self, LongText, TokenIds};
use longclip::model::device::CpuPrecision;
use longclip::model::{self, Clip, Compute, DualEncoder, Sharing};
use serde_json::Value;

/// The reference results for one case.
struct Expected {
    index: Value,
    texts: Vec<String>,
    archive: Archive,
}

impl Expected {
    fn read(case: &str) -> Self {
        Self::read_file(&format!("expected/{case}.safetensors"))
    }

    fn read_file(path: &str) -> Self {
        let archive = open(&unpack::data_folder().join(path)).unwrap();
        let folder = unpack::data_folder().join("expected");
        let index = json(&folder.join("index.json"));
        let texts = json(&folder.join("texts.json"));
        let all = texts.as_array().unwrap();
        let mut expected = Self {
            index,
            texts: Vec::new(),
            archive,
        };
        expected.texts = expected
            .values("text_index")
            .iter()
            .map(|place| all[*place as usize]["text"].as_str().unwrap().to_owned())
            .collect();
        expected
    }

    fn values(&self, name: &str) -> Vec<f32> {
        self.archive.tensors[name].to_f32().unwrap()
    }

    fn tensor(&self, name: &str) -> Tensor {
        let shape = self.archive.tensors[name].shape();
        Tensor::from_vec(self.values(name), shape, &Device::Cpu).unwrap()
    }

    /// The token ids of each text.
    fn token_ids(&self) -> Vec<Vec<u32>> {
        let ids = self.values("token_ids");
        self.values("token_offsets")
            .windows(2)
            .map(|ends| {
                let ids = &ids[ends[0] as usize..ends[1] as usize];
                ids.iter().map(|id| *id as u32).collect()
            })
            .collect()
    }

    fn token_lists(&self) -> Vec<TokenIds> {
        let lists = self.token_ids().into_iter();
        lists.map(|ids| TokenIds::new(ids).unwrap()).collect()
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Loads an unpacked checkpoint as `--model PATH` does.
fn load(path: &Path, activation: Activation, compute: &Compute) -> (Checkpoint, Clip) {
    let settings = hub::Settings::from_env();
    let source = source::resolve(path.to_str().unwrap(), &settings, &Silent).unwrap();
    let checkpoint = Checkpoint::load(&source, &Some(activation).into()).unwrap();
    let clip = model::load(&checkpoint, compute).unwrap();
    (checkpoint, clip)
}

fn computes() -> [Compute; 2] {
    [
        Compute::Kernel(CpuPrecision::F32),
        Compute::Candle(Device::Cpu, DType::F32),
    ]
}

#[track_caller]
fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let worst =
        found
            .iter()
            .zip(expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, |worst: f32, d| {
                if d.is_nan() {
                    f32::INFINITY
                } else {
                    worst.max(d)
                }
            });
    assert!(
        worst <= tolerance,
        "{what}: off by {worst}, at most {tolerance} expected"
    );
}

#[track_caller]
fn assert_same_direction(what: &str, found: &[f32], expected: &[f32], dim: usize) {
    assert_close(what, found, expected, 2e-5);
    for (a, b) in found.chunks_exact(dim).zip(expected.chunks_exact(dim)) {
        let cosine: f64 = a
            .iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum();
        assert!(cosine >= 0.999_999, "{what}: cosine {cosine}");
    }
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn every_layout_matches_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    unpack::unpack("", folder.path());
    let index = json(&unpack::data_folder().join("expected/index.json"));
    for entry in index["checkpoints"].as_array().unwrap() {
        let (path, case) = (
            entry["path"].as_str().unwrap(),
            entry["expected"].as_str().unwrap(),
        );
        let expected = Expected::read(case);
        for compute in computes() {
            let what = format!("{path} on {compute:?}");
            let activation = activation_of(&expected.index["cases"][case]);
            let (checkpoint, clip) = load(&folder.path().join(path), activation, &compute);
            sizes_are(&checkpoint, &expected.index["cases"][case], &what);
            numbers_are(&clip, &expected.tensor("pixels"), &expected, &what);
        }
    }
}

fn activation_of(case: &Value) -> Activation {
    match case["activation"].as_str().unwrap() {
        "gelu" => Activation::Gelu,
        "quick_gelu" => Activation::QuickGelu,
        other => panic!("{other}"),
    }
}

fn sizes_are(checkpoint: &Checkpoint, case: &Value, what: &str) {
    let a = &checkpoint.architecture;
    let stated = |key: &str| case[key].as_u64().unwrap() as usize;
    let tower = |key: &str, part: &str| case[key][part].as_u64().unwrap() as usize;
    assert_eq!(a.context_length, stated("context_length"), "{what}");
    let ImageTower::VisionTransformer(vision) = &a.image else {
        panic!("{what}: not a vision transformer");
    };
    assert_eq!(vision.image_size, stated("image_size"), "{what}");
    assert_eq!(vision.patch_size, stated("patch_size"), "{what}");
    assert_eq!(a.embed_dim, stated("embed_dim"), "{what}");
    for (name, found) in [("image_tower", &vision.tower), ("text_tower", &a.text)] {
        assert_eq!(found.width, tower(name, "width"), "{what}");
        assert_eq!(found.layers, tower(name, "layers"), "{what}");
        assert_eq!(found.heads, tower(name, "heads"), "{what}");
    }
}

fn numbers_are(clip: &Clip, pixels: &Tensor, expected: &Expected, what: &str) {
    let dim = clip.architecture().embed_dim;
    let images = clip.encode_image(pixels).unwrap();
    let texts = clip.encode_text(&expected.token_lists()).unwrap();
    let (image_values, text_values) = (flat(&images), flat(&texts));
    assert_same_direction(
        what,
        &image_values,
        &expected.values("image_embeddings"),
        dim,
    );
    assert_same_direction(what, &text_values, &expected.values("text_embeddings"), dim);
    let stored = expected.values("logit_scale")[0].exp();
    assert_close(what, &[clip.logit_scale() / stored], &[1.0], 1e-6);
    let logits =
        (images.matmul(&texts.t().unwrap()).unwrap() * f64::from(clip.logit_scale())).unwrap();
    let probabilities = candle_nn::ops::softmax_last_dim(&logits).unwrap();
    assert_close(
        what,
        &flat(&probabilities),
        &expected.values("probabilities"),
        1e-5,
    );
}

#[test]
fn token_ids_match_the_reference() {
    for case in ["hf-patch16", "longclip-patch16"] {
        let expected = Expected::read(case);
        let context = expected.index["cases"][case]["context_length"]
            .as_u64()
            .unwrap() as usize;
        assert!(expected.texts.len() > 3);
        for (text, ids) in expected.texts.iter().zip(expected.token_ids()) {
            let fitted = tokenizer::fit(text, context, LongText::Error).unwrap();
            assert_eq!(fitted.into_first().as_slice(), ids, "{text:?}");
        }
    }
}

#[test]
fn pixels_match_the_reference() {
    for case in [
        "hf-patch16",
        "hf-gelu-patch32",
        "hf-248-patch8",
        "openai-patch14",
    ] {
        let expected = Expected::read(case);
        let size = expected.index["cases"][case]["image_size"]
            .as_u64()
            .unwrap() as usize;
        let preprocess = Preprocess::clip(size);
        let values = expected.values("pixels");
        let images = expected.index["pictures"].as_array().unwrap();
        // Two noise images come before the photographs.
        for (image, expected) in images
            .iter()
            .zip(values.chunks_exact(3 * size * size).skip(2))
        {
            let name = image.as_str().unwrap();
            let path = unpack::data_folder().join("pictures").join(name);
            let decoded = image::read(&path, &DecodeOptions::default()).unwrap();
            let pixels = preprocess.run(&decoded.image);
            // JPEG decoders differ in chroma; 4 of 255, divided by the smallest standard deviation.
            let tolerance = if name.ends_with(".png") {
                0.0
            } else {
                4.0 / 255.0 / 0.261
            };
            assert_close(&format!("{name} at {size}"), &pixels, expected, tolerance);
        }
    }
}

#[test]
fn shared_prefixes_do_not_change_the_result() {
    let folder = tempfile::tempdir().unwrap();
    unpack::unpack("longclip-patch16.pt", folder.path());
    let path = folder.path().join("longclip-patch16.pt");
    let texts: Vec<String> = (0..60)
        .map(|i| {
            format!(
                "a photo of a {} {}",
                ["red", "green", "old"][i % 3],
                ["cat", "dog", "cart", "catalogue"][i % 4]
            )
        })
        .chain(Expected::read("longclip-patch16").texts)
        .collect();
    let tokens: Vec<_> = texts
        .iter()
        .map(|text| {
            tokenizer::fit(text, 248, LongText::Error)
                .unwrap()
                .into_first()
        })
        .collect();
    let (_, clip) = load(
        &path,
        Activation::QuickGelu,
        &Compute::Kernel(CpuPrecision::F32),
    );
    let (_, plain) = load(
        &path,
        Activation::QuickGelu,
        &Compute::Candle(Device::Cpu, DType::F32),
    );
    let alone = flat(&plain.encode_text_with(&tokens, Sharing::Nothing).unwrap());
    for sharing in [Sharing::Nothing, Sharing::Prefixes] {
        let together = flat(&clip.encode_text_with(&tokens, sharing).unwrap());
        assert_close(&format!("{sharing:?}"), &together, &alone, 5e-6);
        for (a, b) in together.chunks_exact(64).zip(alone.chunks_exact(64)) {
            let product = |a: &[f32], b: &[f32]| -> f64 {
                a.iter()
                    .zip(b)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum()
            };
            let cosine = product(a, b) / (product(a, a) * product(b, b)).sqrt();
            assert!(cosine >= 0.999_999_9, "{sharing:?}: {cosine}");
        }
    }
}

#[test]
fn a_batch_is_bit_identical_to_its_single_items() {
    let folder = tempfile::tempdir().unwrap();
    unpack::unpack("hf-gelu-patch32", folder.path());
    let path = folder.path().join("hf-gelu-patch32");
    let (_, clip) = load(&path, Activation::Gelu, &Compute::Kernel(CpuPrecision::F32));
    let expected = Expected::read("hf-gelu-patch32");
    let pixels = expected.tensor("pixels");
    let batch = flat(&clip.encode_image(&pixels).unwrap());
    let texts = expected.token_lists();
    let text_batch = flat(&clip.encode_text(&texts).unwrap());
    let dim = clip.architecture().embed_dim;
    for (row, together) in batch.chunks_exact(dim).enumerate() {
        let single = clip
            .encode_image(&pixels.narrow(0, row, 1).unwrap())
            .unwrap();
        assert_eq!(flat(&single), together, "image {row}");
    }
    for (text, together) in texts.iter().zip(text_batch.chunks_exact(dim)) {
        let single = clip.encode_text(std::slice::from_ref(text)).unwrap();
        assert_eq!(flat(&single), together, "{text:?}");
    }
}
