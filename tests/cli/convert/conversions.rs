//! Conversion from every layout to every layout.

use std::fs;
use std::path::Path;

use longclip::checkpoint::architecture::Activation;

use super::{checkpoint, embeddings, fails, longclip, run, text, unpack};

/// Golden checkpoints of each kind, with the activation if the file does not specify it.
const INPUTS: [(&str, &[&str]); 5] = [
    ("hf-gelu-patch32", &[]),
    ("openai-patch14.pt", &[]),
    ("longclip-patch16.pt", &[]),
    ("training-patch14.pt", &[]),
    ("open-clip", &[]),
];

#[test]
fn every_conversion_gives_bit_identical_embeddings() {
    let folder = tempfile::tempdir().unwrap();
    for (name, arguments) in INPUTS {
        unpack::unpack(name, folder.path());
        let input = folder.path().join(name);
        let before = checkpoint(&input, None);
        let expected = embeddings(&before);
        let quick = before.activation == Activation::QuickGelu;
        let long = before.architecture.context_length == 248;
        for (layout, possible) in [
            ("hf", true),
            ("open_clip", true),
            ("openai", quick),
            ("longclip", quick && long),
        ] {
            for output in ["out.safetensors", "out.pt", "out"] {
                let what = format!("{name} to {layout} as {output}");
                let output = folder.path().join(output);
                let mut all = vec!["convert", text(&input), text(&output), "--layout", layout];
                all.extend(arguments);
                if !possible {
                    let said = fails(&all, 2);
                    assert!(
                        said.contains("pass --layout") || said.contains("stretch"),
                        "{what}: {said}"
                    );
                    assert!(!output.exists(), "{what}");
                    continue;
                }
                run(&all);
                // A bare .pt cannot store the activation.
                let told = (!quick && output.extension().is_some_and(|e| e == "pt"))
                    .then_some(Activation::Gelu);
                let told = told.or((layout == "hf"
                    && output.extension().is_some_and(|e| e == "pt"))
                .then_some(before.activation));
                let after = checkpoint(&output, told);
                assert_eq!(after.architecture, before.architecture, "{what}");
                assert_eq!(after.activation, before.activation, "{what}");
                assert_eq!(after.preprocess, before.preprocess, "{what}");
                assert!(
                    embeddings(&after) == expected,
                    "{what}: the embeddings differ"
                );
                match output.is_dir() {
                    true => fs::remove_dir_all(&output).unwrap(),
                    false => fs::remove_file(&output).unwrap(),
                }
            }
        }
    }
}

#[test]
fn the_layout_of_diffusers_is_the_text_tower_and_its_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let (parts, whole) = (folder.path().join("parts"), folder.path().join("whole"));
    for (output, layout) in [(&parts, "diffusers"), (&whole, "hf")] {
        run(&["convert", "tiny", text(output), "--layout", layout]);
    }
    let read = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let (config, expected) = (
        read(&parts.join("text_encoder/config.json")),
        read(&whole.join("config.json")),
    );
    let expected = expected["text_config"].as_object().unwrap();
    for (key, value) in expected {
        assert_eq!(&config[key], value, "{key}");
    }
    assert_eq!(config["max_position_embeddings"], 248);
    for name in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        let written = fs::read(parts.join("tokenizer").join(name)).unwrap();
        assert!(written == fs::read(whole.join(name)).unwrap(), "{name}");
    }
    let (tower, whole) = (
        fs::read(parts.join("text_encoder/model.safetensors")).unwrap(),
        fs::read(whole.join("model.safetensors")).unwrap(),
    );
    let tower = safetensors::SafeTensors::deserialize(&tower).unwrap();
    let whole = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let names: Vec<_> = tower.names();
    let texts = whole
        .names()
        .iter()
        .filter(|n| n.starts_with("text_"))
        .count();
    assert_eq!((names.len(), texts), (texts, texts));
    assert!(names.contains(&"text_projection.weight"));
    for name in names {
        let (found, expected) = (tower.tensor(name).unwrap(), whole.tensor(name).unwrap());
        assert!(found.data() == expected.data(), "{name}");
    }
    // Replacing keeps what else is in the folder; a single file is refused.
    fs::write(parts.join("model_index.json"), "{}").unwrap();
    let forced = ["convert", "tiny", text(&parts), "--layout", "diffusers"];
    fails(&forced, 2);
    run(&[&forced[..], &["--force"]].concat());
    assert!(parts.join("model_index.json").exists());
    let file = folder.path().join("text.safetensors");
    let said = fails(
        &["convert", "tiny", text(&file), "--layout", "diffusers"],
        2,
    );
    assert!(said.contains("give a folder"), "{said}");
}

#[test]
fn a_canonical_file_records_its_origin() {
    let folder = tempfile::tempdir().unwrap();
    unpack::unpack("longclip-patch16.pt", folder.path());
    let (input, output) = (
        folder.path().join("longclip-patch16.pt"),
        folder.path().join("out.safetensors"),
    );
    run(&["convert", text(&input), text(&output)]);
    let found: serde_json::Value =
        serde_json::from_str(&run(&["inspect", text(&output), "--format", "json"])).unwrap();
    let source: serde_json::Value =
        serde_json::from_str(&run(&["inspect", text(&input), "--format", "json"])).unwrap();
    let header = &found["metadata"];
    assert_eq!(header["longclip.activation"], "quick_gelu");
    assert_eq!(header["longclip.context_length"], "248");
    assert_eq!(header["longclip.source_sha256"], source["sha256"]);
    assert_eq!(header["format"], "pt");
    let converter = header["longclip.converter"].as_str().unwrap();
    assert!(converter.starts_with("longclip "), "{converter}");
    assert_eq!(found["activation_source"], "the file's own header");
    assert_eq!(found["positions"], "trained");
}

#[test]
fn types_round_to_nearest_and_refuse_values_out_of_range() {
    let folder = tempfile::tempdir().unwrap();
    unpack::unpack("hf-patch16", folder.path());
    let input = folder.path().join("hf-patch16");
    let exact = embeddings(&checkpoint(&input, None));
    for (dtype, tolerance) in [("f32", 0.0), ("f16", 2e-3), ("bf16", 2e-2)] {
        let output = folder.path().join(format!("{dtype}.safetensors"));
        run(&["convert", text(&input), text(&output), "--dtype", dtype]);
        let after = checkpoint(&output, None);
        let worst = embeddings(&after)
            .iter()
            .zip(&exact)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst <= tolerance, "{dtype}: {worst}");
        assert!(dtype == "f32" || worst > 0.0, "{dtype} rounds nothing");
        let all = after
            .tensors
            .values()
            .all(|t| t.dtype().to_string() == dtype);
        assert!(all, "{dtype}");
    }
    // A number above 65504.
    let large = folder.path().join("large.safetensors");
    let mut bytes = fs::read(folder.path().join("f32.safetensors")).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&1e6f32.to_le_bytes());
    fs::write(&large, bytes).unwrap();
    let output = folder.path().join("half.safetensors");
    let said = fails(
        &["convert", text(&large), text(&output), "--dtype", "f16"],
        2,
    );
    assert!(
        said.contains("out of range for f16") && said.contains("bf16"),
        "{said}"
    );
    assert!(!output.exists());
    let output = folder.path().join("half");
    fails(
        &["convert", text(&large), text(&output), "--dtype", "f16"],
        2,
    );
    assert!(!output.exists(), "a folder is complete or absent");
    // Damaged values are not passed on.
    let damaged = folder.path().join("damaged.safetensors");
    let mut bytes = fs::read(&large).unwrap();
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&damaged, bytes).unwrap();
    let said = fails(&["convert", text(&damaged), text(&output)], 2);
    assert!(said.contains("not finite"), "{said}");
    assert!(!output.exists());
}

#[test]
fn nothing_is_overwritten_without_force_and_a_failure_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("tiny.safetensors");
    fs::write(&output, "precious").unwrap();
    let said = fails(&["convert", "tiny", text(&output)], 2);
    assert!(
        said.contains("exists") && said.contains("--force"),
        "{said}"
    );
    assert_eq!(fs::read(&output).unwrap(), b"precious");
    run(&["convert", "tiny", text(&output), "--force"]);
    assert!(fs::metadata(&output).unwrap().len() > 1_000_000);
    // Onto itself: the input is fully read before it is replaced.
    run(&[
        "convert",
        text(&output),
        text(&output),
        "--force",
        "--dtype",
        "bf16",
    ]);
    assert_eq!(checkpoint(&output, None).architecture.context_length, 248);
    let nowhere = folder.path().join("no/such/folder/out.safetensors");
    fails(&["convert", "tiny", text(&nowhere)], 2);
    let made: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(made.len(), 1, "{made:?}");
    longclip(&["convert", "tiny"]).assert().code(2);
    let other = folder.path().join("model.bin");
    let said = fails(&["convert", "tiny", text(&other)], 2);
    assert!(said.contains("name it .safetensors or .pt"), "{said}");
    let into = folder.path().join("folder");
    run(&["convert", "tiny", text(&into)]);
    fails(&["convert", "tiny", text(&into)], 2);
    run(&["convert", "tiny", text(&into), "--force", "--dtype", "f16"]);
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        2,
        "nothing else is left"
    );
}

#[test]
fn resnets_convert_to_layouts_that_support_them() {
    let folder = tempfile::tempdir().unwrap();
    unpack::unpack_from("resnet", "resnet.pt", folder.path());
    let input = folder.path().join("resnet.pt");
    let before = checkpoint(&input, None);
    let expected = embeddings(&before);
    for (layout, output) in [
        ("hf", "out.safetensors"),
        ("openai", "out.pt"),
        ("open_clip", "out"),
    ] {
        let output = folder.path().join(output);
        run(&["convert", text(&input), text(&output), "--layout", layout]);
        let after = checkpoint(&output, None);
        assert_eq!(after.architecture, before.architecture, "{layout}");
        assert!(
            embeddings(&after) == expected,
            "{layout}: the embeddings differ"
        );
    }
    let output = folder.path().join("hf");
    let said = fails(&["convert", text(&input), text(&output)], 2);
    assert!(said.contains("transformers has no RN"), "{said}");
    let found = run(&["inspect", text(&input), "--format", "json"]);
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["patch_size"], serde_json::Value::Null);
    assert_eq!(found["image_size"], 64);
}
