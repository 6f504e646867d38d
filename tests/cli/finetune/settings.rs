//! Flags and their effect.

use serde_json::{Value, json};

use super::{finetune, model, room, weights};

#[test]
fn the_defaults_are_long_clips() {
    let room = room(40);
    let start = [
        "finetune",
        "pairs.jsonl",
        "--model",
        model::path(),
        "--stretch",
    ];
    let steps = ["--batch-size", "40", "--steps", "1", "--out", "run"];
    room.longclip(&[&start[..], &steps].concat(), &[])
        .ends_with(0);
    let settings: Value = serde_json::from_str(&room.read("run/settings.json")).unwrap();
    let settings = &settings["settings"];
    for (name, value) in [
        ("train", json!("full")),
        ("loss", json!("pcm")),
        ("pcm-rank", json!(32)),
        ("pcm-weight", json!(1.0)),
        ("label-smoothing", json!(0.1)),
        ("rate", json!(1e-6)),
        ("weight-decay", json!(1e-2)),
        ("betas", json!([0.9, 0.999])),
        ("schedule", json!("cosine")),
        ("clip-norm", json!(null)),
        ("max-logit-scale", json!(100.0)),
        ("freeze-positions", json!(20)),
        ("crop", json!(false)),
        ("flip", json!(false)),
        ("seed", json!(0)),
    ] {
        assert_eq!(settings[name], value, "{name}");
    }
    let config: Value = serde_json::from_str(&room.read("run/config.json")).unwrap();
    assert_eq!(config["text_config"]["max_position_embeddings"], 248);
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    let room = room(9);
    for (arguments, part) in [
        (&["--lora-rank", "4"][..], "require --train lora"),
        (&["--merge"], "require --train lora"),
        (
            &["--train", "lora", "--merge", "--adapter-only"],
            "cannot be used with",
        ),
        (
            &["--train", "lora", "--stretch", "--adapter-only"],
            "would lose the stretched text positions",
        ),
        (
            &["--loss", "clip-short", "--pcm-rank", "3"],
            "--pcm-rank requires",
        ),
        (
            &["--loss", "clip", "--pcm-weight", "2"],
            "--pcm-weight does not apply",
        ),
        (&["--freeze-positions", "78"], "exceeds the model's 77"),
        (&["--betas", "0.9"], "--betas takes two numbers"),
        (&["--betas", "0.9,1"], "at least 0 and below 1"),
        (&["--weight-decay", "nan"], "a number of at least 0"),
        (&["--max-logit-scale", "x"], "or none"),
        (&["--precision", "bf16"], "training on a CPU is f32 only"),
        (&["--layout", "longclip"], "only 248 positions"),
        (&["--report", "no/such/page.html"], "does not exist"),
        (&["--report", "run/log.jsonl"], "ends in .html"),
        (&["--eval", "pairs.jsonl.no"], "does not exist"),
    ] {
        let arguments = [&["pairs.jsonl", "--out", "run"], arguments].concat();
        finetune(&room, &arguments).ends_with(2).says(&[part]);
        assert_eq!(room.names(), ["p", "pairs.jsonl"], "{arguments:?}");
    }
    let ran = finetune(
        &room,
        &[
            "pairs.jsonl",
            "--out",
            "run",
            "--warm-up",
            "9",
            "--steps",
            "2",
        ],
    );
    ran.ends_with(0).says(&["the full rate is never used"]);
}

#[test]
fn only_seeds_and_augmentation_change_the_model() {
    let room = room(24);
    let train = |run: &str, more: &[&str]| {
        let arguments = [&["pairs.jsonl", "--out", run, "--epochs", "1"], more].concat();
        finetune(&room, &arguments).ends_with(0);
        weights(&room, run)
    };
    let expected = train("a", &[]);
    assert!(train("b", &["-j", "1", "--save-every", "1"]) == expected);
    let others = [
        train("c", &["--seed", "1"]),
        train("d", &["--augment", "flip"]),
        train("e", &["--augment", "crop,flip"]),
    ];
    assert!(others.iter().all(|other| *other != expected));
    assert!(train("f", &["--augment", "flip,crop"]) == others[2]);
}
