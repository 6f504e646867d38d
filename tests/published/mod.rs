//! Published numbers for the real checkpoints, compared with ours.
//!
//! The real weights come from the hub cache and are not in the repository: `cargo test --release --
//! --ignored published` compares what is cached and names what is not. What `published.json` holds
//! is described in `README.md` beside it.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use longclip::checkpoint::architecture::Activation;
use longclip::checkpoint::container::{self, Archive};
use longclip::checkpoint::source::{self, ModelFiles, ModelSource};
use longclip::checkpoint::{Checkpoint, hub};
use longclip::input::image::{self, DecodeOptions};
use longclip::input::tokenizer::{self, LongText, TokenIds};
use longclip::model::device::CpuPrecision;
use longclip::model::{self, Clip, Compute, DualEncoder};
use serde_json::{Value, json};

use crate::golden::unpack;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/published")
}

#[test]
#[ignore = "needs the published checkpoints in the hub cache (see hf download); run with cargo test --release -- --ignored published --nocapture"]
#[allow(clippy::print_stderr, reason = "prints which entries were skipped")]
fn published_outputs_are_reproduced() {
    let text = std::fs::read_to_string(folder().join("published.json")).unwrap();
    let published: Value = serde_json::from_str(&text).unwrap();
    let settings = hub::Settings::from_env();
    let mut wrong = Vec::new();
    for entry in published["entries"].as_array().unwrap() {
        let (id, name) = (string(&entry["id"]), string(&entry["model"]));
        let Some(files) = source::cached(name, &settings).unwrap() else {
            eprintln!("skipped {id}: {name} is not in the hub cache");
            continue;
        };
        let before = wrong.len();
        compare(entry, &files, None, &mut wrong);
        eprintln!("compared {id}: {} numbers differ", wrong.len() - before);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_comparison_accepts_right_numbers_and_names_wrong_ones() {
    let made = tempfile::tempdir().unwrap();
    unpack::unpack("longclip-patch16.pt", made.path());
    let path = made.path().join("longclip-patch16.pt");
    let source = source::resolve(
        path.to_str().unwrap(),
        &hub::Settings::from_env(),
        &hub::Silent,
    );
    let ModelSource::Files(files) = source.unwrap() else {
        panic!("a path is not a built-in model");
    };
    let entry = made_entry();
    let mut wrong = Vec::new();
    compare(&entry, &files, None, &mut wrong);
    assert_eq!(wrong, [""; 0]);
    for (pointer, value) in [
        ("/expected/logits/0/0", json!(1000.0)),
        ("/expected/probabilities/0/1", json!(0.5)),
        ("/expected/text_features/1/3", json!(0.9)),
        ("/expected/text_embedding_sums/0", json!(3.0)),
        ("/expected/tensors/0/first/0", json!(9.0)),
        ("/expected/row_norms/norms/3", json!(9.0)),
        ("/inputs/token_ids/0/1", json!(5)),
    ] {
        let mut changed = entry.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        compare(&changed, &files, None, &mut wrong);
        assert!(!wrong.is_empty(), "{pointer} was not seen");
        wrong.clear();
    }
}

/// An entry with the reference results for a synthetic checkpoint.
fn made_entry() -> Value {
    let golden = unpack::data_folder().join("expected");
    let expected = container::open(&golden.join("longclip-patch16.safetensors")).unwrap();
    let texts: Value =
        serde_json::from_slice(&std::fs::read(golden.join("texts.json")).unwrap()).unwrap();
    let texts = &texts.as_array().unwrap()[..2];
    let list = |name: &str, width: usize, rows: usize| -> Vec<Vec<f32>> {
        let values = expected.tensors[name].to_f32().unwrap();
        values
            .chunks_exact(width)
            .take(rows)
            .map(<[f32]>::to_vec)
            .collect()
    };
    let count = expected.tensors["logits"].shape()[1];
    // Two of the texts: their probabilities among themselves.
    let logits: Vec<f32> = list("logits", count, 3)[2][..2].to_vec();
    let ratio = 1.0 / (1.0 + (logits[1] - logits[0]).exp());
    let embeddings = list("text_embeddings", 64, 2);
    let sums: Vec<f32> = embeddings.iter().map(|row| row.iter().sum()).collect();
    let checkpoint = tempfile::tempdir().unwrap();
    unpack::unpack("longclip-patch16.pt", checkpoint.path());
    let stored = container::open(&checkpoint.path().join("longclip-patch16.pt")).unwrap();
    let table = stored.tensors["positional_embedding"].to_f32().unwrap();
    let norm = table[3 * 64..4 * 64]
        .iter()
        .map(|v| v * v)
        .sum::<f32>()
        .sqrt();
    json!({
        "id": "made", "model": "made", "kind": "picture",
        "inputs": {
            "pictures": ["../golden/pictures/chelsea.png"],
            "texts": texts.iter().map(|text| text["text"].clone()).collect::<Vec<_>>(),
            "token_ids": texts.iter().map(|text| text["token_ids"].clone()).collect::<Vec<_>>(),
        },
        "expected": {
            "logits": [logits],
            "probabilities": [[ratio, 1.0 - ratio]],
            "text_features": embeddings.iter().map(|row| row.iter().map(|v| v * 7.0).collect::<Vec<_>>()).collect::<Vec<_>>(),
            "text_embedding_sums": sums,
            "tensors": [{"name": "positional_embedding", "shape": [248, 64], "row": 0, "first": table[..8]}],
            "row_norms": {"name": "positional_embedding", "norms": {"3": norm}},
        },
        "tolerance": {"feature": 1e-3, "logit": 1e-3, "probability": 1e-5, "sum": 1e-4, "value": 0.0, "norm": 1e-6},
    })
}

/// Compares one entry; differences are added to `wrong`, one line per number.
fn compare(
    entry: &Value,
    files: &ModelFiles,
    activation: Option<Activation>,
    wrong: &mut Vec<String>,
) {
    let expected = &entry["expected"];
    let stored: Vec<Archive> = files
        .weights
        .iter()
        .map(|path| container::open(path).unwrap())
        .collect();
    let mut check = Check { entry, wrong };
    check.stored(expected, &stored);
    if entry["kind"] == "tensor" {
        return;
    }
    let source = ModelSource::Files(files.clone());
    let checkpoint = Checkpoint::load(&source, &activation.into()).unwrap();
    let clip = model::load(&checkpoint, &Compute::Kernel(CpuPrecision::F32)).unwrap();
    let texts = check.texts(&clip);
    let images = images(&entry["inputs"], &checkpoint, &clip);
    check.embeddings(expected, "image_features", &images);
    check.embeddings(expected, "text_features", &texts);
    check.text_numbers(expected, &texts);
    check.scores(expected, &images, &texts, clip.logit_scale());
}

fn images(inputs: &Value, checkpoint: &Checkpoint, clip: &Clip) -> Vec<Vec<f32>> {
    let pixels = &checkpoint.preprocess;
    let area = pixels.image_size * pixels.image_size;
    let constant = |channel: &dyn Fn(usize) -> f32| -> Vec<f32> {
        (0..3).flat_map(|c| vec![channel(c); area]).collect()
    };
    let mut all: Vec<Vec<f32>> = Vec::new();
    for rgb in list(&inputs["rgb"]) {
        let value = |c: usize| (number(&rgb[c]) / 255.0 - pixels.mean[c]) / pixels.std[c];
        all.push(constant(&value));
    }
    for values in list(&inputs["pixels"]) {
        all.push(constant(&|c| number(&values[c])));
    }
    for image in list(&inputs["pictures"]) {
        let path = folder().join("pictures").join(string(image));
        let path = if path.exists() {
            path
        } else {
            folder().join(string(image))
        };
        let decoded = image::read(&path, &DecodeOptions::default()).unwrap();
        all.push(pixels.run(&decoded.image));
    }
    let side = pixels.image_size;
    all.into_iter()
        .map(|values| {
            let pixels = Tensor::from_vec(values, (1, 3, side, side), &Device::Cpu).unwrap();
            clip.encode_image(&pixels)
                .unwrap()
                .to_vec2()
                .unwrap()
                .remove(0)
        })
        .collect()
}

struct Check<'a> {
    entry: &'a Value,
    wrong: &'a mut Vec<String>,
}

impl Check<'_> {
    fn tolerance(&self, key: &str) -> f32 {
        number(&self.entry["tolerance"][key])
    }

    fn number(&mut self, what: &str, found: f32, expected: &Value, tolerance: f32) {
        if expected.is_null() {
            return;
        }
        let expected = number(expected);
        if (found - expected).abs() <= tolerance {
            return;
        }
        let id = string(&self.entry["id"]);
        self.wrong.push(format!(
            "{id}: {what} is {found}, published {expected} (within {tolerance})"
        ));
    }

    fn texts(&mut self, clip: &Clip) -> Vec<Vec<f32>> {
        let texts = list(&self.entry["inputs"]["texts"]);
        let context = clip.architecture().context_length;
        let tokens: Vec<TokenIds> = texts
            .iter()
            .map(|text| {
                tokenizer::fit(string(text), context, LongText::Error)
                    .unwrap()
                    .into_first()
            })
            .collect();
        for (place, ids) in list(&self.entry["inputs"]["token_ids"]).iter().enumerate() {
            let expected: Vec<u32> = list(ids).iter().map(|id| number(id) as u32).collect();
            if tokens[place].as_slice() != expected {
                self.wrong
                    .push(format!("token ids of {} differ", texts[place]));
            }
        }
        if tokens.is_empty() {
            return Vec::new();
        }
        clip.encode_text(&tokens).unwrap().to_vec2().unwrap()
    }

    /// Features are published unnormalised, so directions are compared.
    fn embeddings(&mut self, expected: &Value, key: &str, found: &[Vec<f32>]) {
        for (row, (features, found)) in list(&expected[key]).iter().zip(found).enumerate() {
            let features: Vec<f32> = list(features).iter().map(number).collect();
            let norm = features.iter().map(|v| v * v).sum::<f32>().sqrt();
            let tolerance = self.tolerance("feature") / norm;
            for (column, (published, found)) in features.iter().zip(found).enumerate() {
                let what = format!("{key}[{row}][{column}], at unit length,");
                self.number(&what, *found, &json!(published / norm), tolerance);
            }
        }
    }

    fn text_numbers(&mut self, expected: &Value, texts: &[Vec<f32>]) {
        for (row, first) in list(&expected["text_embedding_first"]).iter().enumerate() {
            for (column, value) in list(first).iter().enumerate() {
                let what = format!("text embedding [{row}][{column}]");
                self.number(
                    &what,
                    texts[row][column],
                    value,
                    self.tolerance("embedding"),
                );
            }
        }
        for (row, sum) in list(&expected["text_embedding_sums"]).iter().enumerate() {
            let found = texts[row].iter().sum();
            self.number(
                &format!("sum of text embedding {row}"),
                found,
                sum,
                self.tolerance("sum"),
            );
        }
    }

    fn scores(&mut self, expected: &Value, images: &[Vec<f32>], texts: &[Vec<f32>], scale: f32) {
        for (row, image) in images.iter().enumerate() {
            let cosines: Vec<f32> = texts.iter().map(|text| dot(image, text)).collect();
            let total: f32 = cosines
                .iter()
                .map(|c| (scale * (c - cosines[0])).exp())
                .sum();
            for (column, cosine) in cosines.iter().enumerate() {
                let probability = (scale * (cosine - cosines[0])).exp() / total;
                for (key, unit, found) in [
                    ("cosines", "cosine", *cosine),
                    ("logits", "logit", scale * cosine),
                    ("probabilities", "probability", probability),
                ] {
                    let Some(value) = expected[key].get(row).and_then(|row| row.get(column)) else {
                        continue;
                    };
                    self.number(
                        &format!("{key}[{row}][{column}]"),
                        found,
                        value,
                        self.tolerance(unit),
                    );
                }
            }
        }
        for (place, value) in list(&expected["image_cosines"]["to"]).iter().enumerate() {
            let from = list(&self.entry["inputs"]["pictures"])
                .iter()
                .position(|name| *name == expected["image_cosines"]["from"])
                .unwrap();
            let found = dot(&images[from], &images[place]);
            self.number(
                &format!("cosine of images {from} and {place}"),
                found,
                value,
                self.tolerance("cosine"),
            );
        }
    }

    fn stored(&mut self, expected: &Value, archives: &[Archive]) {
        let tensor = |name: &str| {
            archives
                .iter()
                .find_map(|archive| archive.tensors.get(name))
                .unwrap_or_else(|| panic!("no tensor {name}"))
        };
        for published in list(&expected["tensors"]) {
            let name = string(&published["name"]);
            let values = tensor(name).to_f32().unwrap();
            let width = tensor(name).shape().last().copied().unwrap();
            let start = published["row"].as_u64().unwrap_or(0) as usize * width;
            for (column, value) in list(&published["first"]).iter().enumerate() {
                let what = format!("{name}[{}]", start + column);
                self.number(
                    &what,
                    values[start + column],
                    value,
                    self.tolerance("value"),
                );
            }
        }
        let norms = &expected["row_norms"];
        if let Some(rows) = norms["norms"].as_object() {
            let table = tensor(string(&norms["name"]));
            for (row, value) in rows {
                let mut values = vec![0.0; table.shape()[1]];
                table
                    .copy_row_f32(row.parse().unwrap(), &mut values)
                    .unwrap();
                let found = values.iter().map(|v| v * v).sum::<f32>().sqrt();
                self.number(
                    &format!("norm of row {row}"),
                    found,
                    value,
                    self.tolerance("norm"),
                );
            }
        }
        if let Some(differences) = expected["table_difference"].as_object() {
            let first = tensor("positional_embedding").to_f32().unwrap();
            let second = tensor("positional_embedding_res").to_f32().unwrap();
            let width = tensor("positional_embedding").shape()[1];
            for (key, rows) in [("rows_0_to_19", 0..20), ("rows_20_to_247", 20..248)] {
                let range = rows.start * width..rows.end * width;
                let found = first[range.clone()]
                    .iter()
                    .zip(&second[range])
                    .map(|(a, b)| (a - b).abs())
                    .fold(0.0, f32::max);
                self.number(key, found, &differences[key], self.tolerance("difference"));
            }
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> f32 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is not a number")) as f32
}

fn string(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is not a string"))
}
