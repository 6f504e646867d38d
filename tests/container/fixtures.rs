//! Files written by PyTorch have the contents listed in `expected.json`.

use std::path::PathBuf;

use longclip::checkpoint::container::{self, Archive, Container, Dtype};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Expected {
    container: String,
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<usize>,
    values: Vec<f64>,
}

pub(crate) fn folder() -> PathBuf {
    PathBuf::from("tests/fixtures/container")
}

/// Every fixture's name and bytes.
pub(crate) fn all() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|e| e == "pt" || e == "safetensors")
        })
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn open(name: &str) -> Archive {
    container::open(&folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error:#}"))
}

fn expectations() -> BTreeMap<String, Expected> {
    let text = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn fixtures_and_descriptions_match_one_to_one() {
    let files: Vec<String> = all().into_iter().map(|(name, _)| name).collect();
    let described: Vec<String> = expectations().into_keys().collect();
    assert_eq!(files, described);
    assert!(files.len() >= 23);
}

#[test]
fn files_hold_the_tensors_that_pytorch_saved() {
    for (name, expected) in expectations() {
        let mut archive = open(&name);
        archive
            .tensors
            .retain(|_, tensor| !matches!(tensor.dtype(), Dtype::Unsupported(_)));
        let kind = match archive.container {
            Container::Safetensors => "safetensors",
            Container::TorchZip => "zip",
            Container::TorchScript => "torchscript",
            Container::TorchLegacy => "legacy",
        };
        assert_eq!(kind, expected.container, "{name}");
        let names: Vec<_> = archive.tensors.keys().collect();
        assert_eq!(names, expected.tensors.keys().collect::<Vec<_>>(), "{name}");
        for (key, expected) in &expected.tensors {
            let tensor = &archive.tensors[key];
            assert_eq!(tensor.dtype().to_string(), expected.dtype, "{name} {key}");
            assert_eq!(tensor.shape(), expected.shape, "{name} {key}");
            let values: Vec<f32> = expected.values.iter().map(|&v| v as f32).collect();
            assert_eq!(tensor.to_f32().unwrap(), values, "{name} {key}");
            assert_eq!(tensor.elements(), values.len(), "{name} {key}");
        }
        archive.unchanged().unwrap();
    }
}

#[test]
fn rows_views_and_bytes_agree_with_the_full_tensor() {
    for (name, _) in all() {
        for (key, tensor) in open(&name).tensors {
            let Ok(whole) = tensor.to_f32() else { continue };
            let rows = tensor.shape().first().copied().unwrap_or(1);
            let length = whole.len().checked_div(rows).unwrap_or(0);
            for row in 0..rows {
                let mut out = vec![0.0; length];
                tensor.copy_row_f32(row, &mut out).unwrap();
                assert_eq!(
                    out,
                    whole[row * length..][..length],
                    "{name} {key} row {row}"
                );
            }
            let flat = tensor.reshape(&[whole.len()]).unwrap();
            assert_eq!(flat.to_f32().unwrap(), whole, "{name} {key}");
            let bytes = flat.contiguous_bytes().unwrap();
            assert_eq!(bytes.len(), whole.len() * tensor.dtype().size().unwrap());
            if tensor.shape().len() == 2 {
                let turned = tensor.transpose().unwrap();
                assert_eq!(turned.transpose().unwrap().to_f32().unwrap(), whole);
                if rows > 1 && length > 1 {
                    let mut column = vec![0.0; rows];
                    turned.copy_row_f32(1, &mut column).unwrap();
                    let expected: Vec<f32> =
                        whole.iter().copied().skip(1).step_by(length).collect();
                    assert_eq!(column, expected, "{name} {key}");
                }
            }
            if rows > 2 && !tensor.shape().is_empty() {
                let part = tensor.narrow(1, rows - 2).unwrap();
                assert_eq!(part.to_f32().unwrap(), whole[length..(rows - 1) * length]);
            }
            assert_eq!(tensor.first_non_finite(), None, "{name} {key}");
        }
    }
}

#[test]
fn unread_contents_are_noted() {
    let cases: &[(&str, &[&str])] = &[
        ("protocol2.pt", &[]),
        ("scripted.pt", &["sizes"]),
        // The epoch, settings and the optimizer's state are not further weights.
        ("state_dict.pt", &[]),
        (
            "both.pt",
            &[
                "next to \"state_dict\"",
                "model (a dict of 1)",
                "ema (a dict of 3)",
            ],
        ),
        (
            "unsupported.pt",
            &[
                "\"spectrum\"",
                "complex64",
                "float8_e4m3fn",
                "u16",
                "quantised",
                "sparse",
            ],
        ),
    ];
    for (name, expected) in cases {
        let notes = open(name).notes;
        let all = notes.join("\n");
        for part in *expected {
            assert!(all.contains(part), "{name}: {part} not in {notes:?}");
        }
        assert_eq!(notes.is_empty(), expected.is_empty(), "{name}: {notes:?}");
    }
}

#[test]
fn an_unsupported_tensor_is_listed_and_fails_when_read() {
    let archive = open("unsupported.pt");
    for (name, kind) in [
        ("f8", "float8_e4m3fn"),
        ("quantised", "quantised"),
        ("sparse", "sparse"),
    ] {
        let error = archive.tensors[name].to_f32().unwrap_err().to_string();
        assert!(
            error.contains(kind) && error.contains("save it again"),
            "{error}"
        );
    }
}

#[test]
fn a_shared_weight_has_both_names() {
    let tensors = open("state_of_module.pt").tensors;
    assert_eq!(
        tensors["a.weight"].contiguous_bytes().unwrap().as_ptr(),
        tensors["b.weight"].contiguous_bytes().unwrap().as_ptr()
    );
}

#[test]
fn safetensors_metadata_is_kept() {
    assert_eq!(open("dtypes.safetensors").metadata["format"], "pt");
}
