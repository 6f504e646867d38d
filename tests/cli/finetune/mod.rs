//! `finetune` as a user meets it: the built program, offline, with a small random model.

mod data;
mod ending;
mod model;
mod outputs;
mod resuming;
mod settings;

use std::process::Command;

use serde_json::{Value, json};

use crate::room::{self, Ran, Room, png};

/// Small enough for tests, and more than the rank.
const SMALL: [&str; 6] = ["--batch-size", "8", "--pcm-rank", "4", "--rate", "0.001"];

/// A long caption with a distinctive first sentence.
fn caption(number: usize) -> String {
    format!(
        "Image number {number} of all. It shows {} things\nand more.",
        number * 7
    )
}

/// A room with this many images and `pairs.jsonl`.
fn room(pairs: usize) -> Room {
    let room = Room::new();
    let mut rows = String::new();
    for number in 0..pairs {
        let name = format!("p/{number:03}.png");
        room.file(&name, png(&name));
        rows += &(json!({"image": name, "caption": caption(number)}).to_string() + "\n");
    }
    room.file("pairs.jsonl", rows);
    room
}

/// `longclip finetune --model … ` with small batches.
fn command(room: &Room, arguments: &[&str]) -> Command {
    let mut command = room.command();
    command.args(["finetune", "--model", model::path()]);
    command.args(small(arguments)).args(arguments);
    command
}

/// The same, to its end.
fn finetune(room: &Room, arguments: &[&str]) -> Ran {
    let start = ["finetune", "--model", model::path()];
    room.longclip(&[&start[..], &small(arguments), arguments].concat(), &[])
}

/// The part of [`SMALL`] that is compatible with `arguments`.
fn small<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let has_rank = !arguments.iter().any(|one| one.starts_with("clip"));
    let pairs = SMALL
        .chunks(2)
        .filter(|pair| !arguments.contains(&pair[0]) && (pair[0] != "--pcm-rank" || has_rank));
    pairs.flatten().copied().collect()
}

/// The lines of a run's log.
fn log(room: &Room, run: &str) -> Vec<Value> {
    let lines = room::records(&room.read(&format!("{run}/log.jsonl")));
    if !lines.is_empty() {
        crate::schema::assert_fits(&lines, "training-log");
    }
    lines
}

/// The log without times.
fn timeless(room: &Room, run: &str) -> Vec<Value> {
    let mut lines = log(room, run);
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        line.remove("seconds");
        line.remove("images_per_second");
    }
    lines
}

/// A run's weights.
fn weights(room: &Room, run: &str) -> Vec<u8> {
    std::fs::read(room.path(format!("{run}/model.safetensors"))).unwrap()
}
