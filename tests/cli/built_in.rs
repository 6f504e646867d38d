//! What `--model tiny` says of itself, and what it knows.

use crate::room::Room;

const ARGUMENTS: [&str; 7] = ["classify", "--model", "tiny", "a.png", "-l", "cat", "dog"];

#[test]
fn the_built_in_model_says_once_that_it_means_nothing() {
    let room = Room::with(&["a.png"]);
    let ran = room.longclip(&ARGUMENTS, &[]).ends_with(0);
    let lines: Vec<&str> = ran.stderr().lines().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("note: model tiny is built in"),
        "{lines:?}"
    );
    assert!(lines[0].contains("the answers mean nothing"), "{lines:?}");
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
