//! The built-in model: its notice, and what it recognises.

use serde_json::{Value, json};

use crate::room::Room;

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
