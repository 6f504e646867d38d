//! `embed` and `search` as a user sees them: the built program, offline, with a small model.

mod files;
mod foreign;
mod hidden;
mod resuming;
mod searching;

use crate::room::{Ran, Room};
use crate::small;

/// One file of each format.
const OUTPUTS: [&str; 4] = ["o.npy", "o.safetensors", "o.parquet", "o.jsonl"];

/// `longclip embed …` with a small model.
fn embed(room: &Room, arguments: &[&str]) -> Ran {
    room.longclip(
        &[&["embed", "--model", small::model()], arguments].concat(),
        &[],
    )
}

/// `longclip search …` with a small model.
fn search(room: &Room, arguments: &[&str]) -> Ran {
    room.longclip(
        &[&["search", "--model", small::model()], arguments].concat(),
        &[],
    )
}

/// All files in the room with this name prefix, with their contents.
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
