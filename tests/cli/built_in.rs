//! The built-in model: its notice, and what it recognises.

use serde_json::{Value, json};

use crate::room::Room;
use crate::small;

const ARGUMENTS: [&str; 7] = ["classify", "--model", "tiny", "a.png", "-l", "cat", "dog"];

#[test]
fn the_built_in_model_says_once_what_it_knows() {
    let room = Room::with(&["a.png", "b.png"]);
    let two = [&ARGUMENTS[..4], &["b.png"], &ARGUMENTS[4..]].concat();
    let ran = room.longclip(&two, &[]).ends_with(0);
    let lines: Vec<&str> = ran.stderr().lines().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in [
        "note: the built-in model tiny",
        "only drawings of everyday things",
        "for photographs, choose another model",
        "--model",
    ] {
        assert!(lines[0].contains(part), "{part}: {lines:?}");
    }
    let quiet = [&two[..], &["-q"]].concat();
    assert_eq!(room.longclip(&quiet, &[]).ends_with(0).stderr(), "");
}

#[test]
fn its_numbers_never_come_without_the_notice() {
    let room = Room::with(&["data/cat/a.png", "data/dog/b.png"]);
    let report = ["--report", "page.html"];
    let run = |arguments: &[&str]| {
        let all = [arguments, &["--model", "tiny"]].concat();
        room.longclip(&all, &[])
            .ends_with(0)
            .says(&["only drawings of everyday things"]);
        let page = room.read("page.html");
        assert!(
            page.contains("only drawings of everyday things"),
            "{arguments:?}"
        );
    };
    run(&[&["evaluate", "data"], &report[..]].concat());
    run(&[&["classify", "data", "-l", "cat", "dog"], &report[..]].concat());
    let embed = ["embed", "data", "-o", "data.npy", "--model", "tiny"];
    room.longclip(&embed, &[]).ends_with(0);
    for data in ["data", "data.npy"] {
        run(&[&["probe", data, "--l2", "1"], &report[..]].concat());
    }
}

#[test]
fn verbose_names_it_and_its_activation() {
    let room = Room::with(&["a.png"]);
    let verbose = [&ARGUMENTS[..], &["-v"]].concat();
    room.longclip(&verbose, &[]).ends_with(0).says(&[
        "model: tiny, ViT-",
        "248 tokens of context",
        "activation: quick_gelu (the built-in model's)",
    ]);
}

#[test]
fn the_list_and_inspect_say_what_it_knows() {
    let room = Room::new();
    let list = room.longclip(&["models", "list", "-f", "json"], &[]);
    let rows: Value = serde_json::from_str(&list.ends_with(0).out).unwrap();
    let tiny = &rows[0];
    assert_eq!(tiny["name"], "tiny");
    assert_eq!(tiny["cached"], "built in");
    let good_for = tiny["good_for"].as_str().unwrap();
    assert!(good_for.contains("only drawings"), "{good_for}");
    let inspect = room.longclip(&["inspect", "tiny", "-f", "json"], &[]);
    let found: Value = serde_json::from_str(&inspect.ends_with(0).out).unwrap();
    for key in ["architecture", "context_length"] {
        assert_eq!(found[key], tiny[key], "{key}");
    }
    assert_eq!(found["loads"], true);
    assert_eq!(found["non_finite"], 0);
    assert_eq!(found["missing"], json!([]));
    assert_eq!(found["positions"], "trained");
    assert_eq!(found["sha256"].as_str().unwrap().len(), 64);
    let told = found["warnings"].to_string();
    assert!(told.contains("only drawings of everyday things"), "{told}");
    // Learned, so that probabilities are calibrated; CLIP's is 100.
    let scale = found["logit_scale"].as_f64().unwrap();
    assert!(scale > 1.0 && scale < 100.0, "{scale}");
}

/// Whether each demo image has a warning that it is a photograph, with these further arguments.
fn warned(room: &Room, more: &[&str]) -> Vec<bool> {
    let words = [
        "classify",
        "coffee.jpg",
        "chelsea.png",
        "drawn-penguin.png",
        "drawn-scene.png",
    ];
    let words = [
        &words[..],
        &["-l", "a rocket", "a cup", "-f", "jsonl"],
        more,
    ]
    .concat();
    let ran = room.longclip(&words, &[]).ends_with(0);
    let warned = ran.records().into_iter().map(|record| {
        let warnings = record["warnings"].as_array().cloned().unwrap_or_default();
        let is_warned = warnings
            .iter()
            .any(|text| text.as_str().unwrap().contains("photograph"));
        let line = format!(
            "{}: looks like a photograph",
            record["image"].as_str().unwrap()
        );
        assert_eq!(
            ran.stderr().matches(&line).count(),
            usize::from(is_warned),
            "{line}"
        );
        is_warned
    });
    warned.collect()
}

#[test]
fn a_photograph_is_warned_about_in_its_record_and_on_stderr() {
    let room = Room::new();
    let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    for name in [
        "coffee.jpg",
        "chelsea.png",
        "drawn-penguin.png",
        "drawn-scene.png",
    ] {
        room.file(name, std::fs::read(demo.join(name)).unwrap());
    }
    let expected = [true, true, false, false];
    for precision in ["f32", "bf16", "int8", "int8-fast"] {
        assert_eq!(
            warned(&room, &["-m", "tiny", "--precision", precision]),
            expected
        );
    }
    let cached = ["-m", "tiny", "--cache", "kept"];
    for _ in 0..2 {
        assert_eq!(warned(&room, &cached), expected);
    }
    assert_eq!(warned(&room, &["-m", small::model()]), [false; 4]);
    // An embedding is not an answer that could be a guess.
    let embed = ["embed", "coffee.jpg", "-m", "tiny", "--cache", "kept"];
    let ran = room.longclip(&embed, &[]).ends_with(0);
    assert!(ran.record()["warnings"].is_null() && !ran.stderr().contains("looks like"));
}
