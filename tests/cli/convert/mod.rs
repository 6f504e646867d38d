//! `convert`, `stretch` and `inspect` on the checkpoints of tests/golden, which were written by the
//! real libraries. tests/golden/forms.py shows that those libraries load the output of `convert`.

mod conversions;
mod heads;
mod inspections;
mod stretches;

use std::path::Path;

use assert_cmd::Command;
use longclip::checkpoint::Checkpoint;
use longclip::checkpoint::architecture::Activation;
use longclip::checkpoint::hub::{Settings, Silent};
use longclip::checkpoint::source;
use longclip::model::device::{Compute, CpuPrecision};
use longclip::model::{self, DualEncoder as _};

use candle_core::{Device, Tensor};
use longclip::input::tokenizer::{LongText, fit};

use crate::unpack;

/// The program, without the models of the environment.
fn longclip(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("longclip").unwrap();
    command
        .args(arguments)
        .env_remove("LONGCLIP_MODEL")
        .env("HF_HUB_OFFLINE", "1");
    command
}

/// Runs it and returns its output; it must succeed.
#[track_caller]
fn run(arguments: &[&str]) -> String {
    let output = longclip(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs it and returns its stderr; it must fail with `code`.
#[track_caller]
fn fails(arguments: &[&str], code: i32) -> String {
    let output = longclip(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn checkpoint(path: &Path, activation: Option<Activation>) -> Checkpoint {
    let source = source::resolve(text(path), &Settings::from_env(), &Silent).unwrap();
    Checkpoint::load(&source, &activation.into()).unwrap()
}

/// The embeddings of one image and three texts, as f32 bytes.
fn embeddings(checkpoint: &Checkpoint) -> Vec<f32> {
    let clip = model::load(checkpoint, &Compute::Kernel(CpuPrecision::F32)).unwrap();
    let side = checkpoint.architecture.image.image_size();
    let values: Vec<f32> = (0..3 * side * side)
        .map(|i| (i % 97) as f32 / 50.0 - 1.0)
        .collect();
    let pixels = Tensor::from_vec(values, (1, 3, side, side), &Device::Cpu).unwrap();
    let texts: Vec<_> = ["a cat", "a dog in the rain", "two red apples on a table"]
        .iter()
        .map(|text| fit(text, 77, LongText::Error).unwrap().into_first())
        .collect();
    let all = [
        clip.encode_image(&pixels).unwrap(),
        clip.encode_text(&texts).unwrap(),
    ];
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    all.iter().flat_map(flat).collect()
}
