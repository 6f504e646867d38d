//! Output of `inspect` for files that load and files that do not.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{longclip, run, text, unpack};

/// The JSON output and the exit status.
fn inspect(path: &Path) -> (Value, i32) {
    let output = longclip(&["inspect", text(path), "--format", "json"])
        .output()
        .unwrap();
    let answer = serde_json::from_slice(&output.stdout).unwrap();
    (answer, output.status.code().unwrap())
}

#[test]
fn every_layout_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("hf-patch16", "safetensors", "hugging-face", 77, "original"),
        ("hf-sharded", "safetensors", "hugging-face", 77, "original"),
        ("open-clip", "safetensors", "openai", 77, "original"),
        ("openai-patch14.pt", "torchscript", "openai", 77, "original"),
        ("longclip-patch16.pt", "pytorch", "longclip", 248, "trained"),
        (
            "longclip-hf-names",
            "safetensors",
            "longclip-hugging-face",
            248,
            "trained",
        ),
        ("training-patch14.pt", "pytorch", "longclip", 248, "trained"),
    ];
    for (name, container, layout, context, positions) in cases {
        unpack::unpack(name, folder.path());
        let (found, code) = inspect(&folder.path().join(name));
        assert_eq!(code, 0, "{name}: {found}");
        assert_eq!(found["container"], container, "{name}");
        assert_eq!(found["layout"], layout, "{name}");
        assert_eq!(found["context_length"], context, "{name}");
        assert_eq!(found["positions"], positions, "{name}");
        assert_eq!(found["loads"], true, "{name}");
        assert_eq!(found["error"], Value::Null, "{name}");
        assert_eq!(found["non_finite"], 0, "{name}");
        for list in ["missing", "unexpected", "misshapen"] {
            assert_eq!(found[list], Value::Array(Vec::new()), "{name}: {list}");
        }
        for key in ["image_size", "patch_size", "embed_dim", "logit_scale"] {
            assert!(found[key].as_f64().unwrap() > 0.0, "{name}: {key}");
        }
        for tower in ["image", "text"] {
            assert!(
                found["parameters"][tower].as_u64().unwrap() > 1000,
                "{name}"
            );
        }
        assert!(found["architecture"].as_str().unwrap().starts_with("ViT-"));
        assert!(found["activation_source"].is_string(), "{name}");
        let hash = found["sha256"].as_str().unwrap();
        assert!(
            hash.split(' ').all(|hash| hash.len() == 64),
            "{name}: {hash}"
        );
        let tensors: u64 = found["dtypes"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(Value::as_u64)
            .sum();
        assert!(tensors > 50, "{name}: {tensors}");
    }
}

#[test]
fn untrained_and_trained_stretches_are_distinguished() {
    let folder = tempfile::tempdir().unwrap();
    unpack::unpack("hf-patch16", folder.path());
    let (input, long) = (
        folder.path().join("hf-patch16"),
        folder.path().join("long.safetensors"),
    );
    for dtype in ["f32", "f16", "bf16"] {
        run(&[
            "stretch",
            text(&input),
            text(&long),
            "--force",
            "--dtype",
            dtype,
        ]);
        let (found, code) = inspect(&long);
        assert_eq!(
            (found["positions"].as_str(), code),
            (Some("untrained-stretch"), 0),
            "{dtype}"
        );
        let warnings = found["warnings"].to_string();
        assert!(warnings.contains("never trained"), "{warnings}");
    }
}

#[test]
fn files_that_do_not_load_are_still_inspected() {
    let folder = tempfile::tempdir().unwrap();
    unpack::unpack("hf-patch16", folder.path());
    let whole = fs::read(folder.path().join("hf-patch16/model.safetensors")).unwrap();
    let path = |name: &str| folder.path().join(name);

    // Not a weight file.
    fs::write(path("text.pt"), "hello").unwrap();
    // Cut short.
    fs::write(path("cut.safetensors"), &whole[..whole.len() / 2]).unwrap();
    // A NaN.
    let mut damaged = whole.clone();
    let last = damaged.len() - 4;
    damaged[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(path("nan.safetensors"), damaged).unwrap();
    // A renamed tensor: one missing, one unexpected.
    let at = whole
        .windows(20)
        .position(|bytes| bytes == b"final_layer_norm.bia")
        .unwrap();
    let mut renamed = whole;
    renamed[at] = b'x';
    fs::write(path("renamed.safetensors"), renamed).unwrap();

    for (name, expected) in [
        ("text.pt", "not a weight file"),
        ("cut.safetensors", "cut short"),
        ("nan.safetensors", "--activation"),
        ("renamed.safetensors", "missing"),
    ] {
        let (found, code) = inspect(&path(name));
        assert_eq!(code, 1, "{name}: {found}");
        assert_eq!(found["loads"], false, "{name}");
        let error = found["error"].as_str().unwrap();
        assert!(error.contains(expected), "{name}: {error}");
        assert!(found["sha256"].is_string(), "{name}");
    }
    let (found, _) = inspect(&path("nan.safetensors"));
    assert_eq!(found["non_finite"], 1);
    assert_eq!(found["architecture"].as_str().unwrap(), "ViT-128x2/16@48px");
    let (found, _) = inspect(&path("renamed.safetensors"));
    assert_eq!(
        found["missing"],
        serde_json::json!(["text_model.final_layer_norm.bias"])
    );
    assert_eq!(
        found["unexpected"],
        serde_json::json!(["text_model.xinal_layer_norm.bias"])
    );

    // Once the activation is given, the damaged number is the error.
    let all = [
        "inspect",
        text(&path("nan.safetensors")).to_owned().leak(),
        "--activation",
        "quick_gelu",
        "-f",
        "table",
    ];
    let output = longclip(&all).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        table.contains("not finite") && table.contains("NaN, infinite"),
        "{table}"
    );
    longclip(&["inspect", "./nowhere.pt"]).assert().code(2);
    longclip(&["inspect", "tiny"]).assert().code(0);
}
