//! Attention heads, from the user's flag to the output of `inspect` and `convert`.

use std::fs;

use serde_json::Value;

use super::{fails, run, text, unpack};

#[test]
fn given_heads_are_printed_and_written() {
    let folder = tempfile::tempdir().unwrap();
    unpack::unpack("open-clip", folder.path());
    let model = folder.path().join("open-clip");
    let lone = folder.path().join("lone.safetensors");
    let mut files = fs::read_dir(&model).unwrap().flatten();
    let weights = files.find(|file| file.path().extension().is_some_and(|e| e == "safetensors"));
    fs::copy(weights.unwrap().path(), &lone).unwrap();
    let lone = text(&lone);
    let inspected = |path: &str, more: &[&str]| -> Value {
        let arguments = [
            &["inspect", path, "--format", "json", "--activation", "gelu"],
            more,
        ];
        serde_json::from_str(&run(&arguments.concat())).unwrap()
    };
    let beside = inspected(text(&model), &[]);
    assert_eq!(beside["heads"]["source"], "the configuration");
    assert!(
        inspected(lone, &[])["heads"]["source"]
            .as_str()
            .unwrap()
            .contains("a guess")
    );
    let stated = inspected(lone, &["--heads", "8,1"]);
    assert_eq!(stated["heads"]["image"], 8);
    assert_eq!(stated["heads"]["text"], 1);
    assert_eq!(stated["heads"]["source"], "--heads");
    let table = run(&[
        "inspect",
        lone,
        "--format",
        "table",
        "--activation",
        "gelu",
        "--heads",
        "4",
    ]);
    assert!(table.contains("heads         4 image, "), "{table}");
    let out = folder.path().join("out");
    let stated = ["--activation", "gelu", "--heads", "8,1"];
    run(&[
        &["convert", lone, text(&out), "--layout", "hf"][..],
        &stated,
    ]
    .concat());
    let config: Value =
        serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["vision_config"]["num_attention_heads"], 8);
    assert_eq!(config["text_config"]["num_attention_heads"], 1);
    let said = fails(&["inspect", lone, "--heads", "0"], 2);
    assert!(said.contains("expected IMAGE or IMAGE,TEXT"), "{said}");
    // Commands that do not compute with heads do not require them.
    run(&["tokens", "a cat", "--model", lone]);
}
