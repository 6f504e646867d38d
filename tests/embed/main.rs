//! `embed` and `search` as a user meets them: the built program, offline, with the built-in model.

#![allow(
    clippy::unwrap_used,
    reason = "a test should stop at the first surprise"
)]

mod files;
mod kills;
mod resuming;
#[path = "../cli/room.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of the command line, which use all of it"
)]
mod room;
#[path = "../cli/running.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of the command line, which use all of it"
)]
mod running;
mod searching;

use room::{Ran, Room};

/// One file of each format.
const OUTPUTS: [&str; 4] = ["o.npy", "o.safetensors", "o.parquet", "o.jsonl"];

/// `longclip embed --model tiny …`.
fn embed(room: &Room, arguments: &[&str]) -> Ran {
    room.longclip(&[&["embed", "--model", "tiny"], arguments].concat(), &[])
}

/// `longclip search --model tiny …`.
fn search(room: &Room, arguments: &[&str]) -> Ran {
    room.longclip(&[&["search", "--model", "tiny"], arguments].concat(), &[])
}

/// All files in the room whose names begin so, with their content.
fn contents(room: &Room, stem: &str) -> Vec<(String, Vec<u8>)> {
    let names = room.names().into_iter();
    let names = names.filter(|name| name.starts_with(stem));
    names
        .map(|name| {
            let content = std::fs::read(room.path(&name)).unwrap();
            (name.replacen(stem, "", 1), content)
        })
        .collect()
}
