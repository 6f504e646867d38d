//! `longclip models` as a real process, with its own hub and cache.

mod list;
mod pull;
mod rm;
mod verify;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::hub::stand_in::{COMMIT, StandIn};
use crate::hub::{Room, model};

/// The result of a run.
pub(super) struct Ran {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl Ran {
    #[track_caller]
    pub(super) fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub(super) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.err.contains(part), "no {part:?} in: {}", self.err);
        }
        self
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

/// `longclip models …` with the room's hub and cache, and an otherwise empty environment.
pub(super) fn command(room: &Room, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longclip"));
    command.arg("models").args(arguments).env_clear();
    for kept in ["PATH", "SystemRoot", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
        .env("HOME", room.folder.path())
        .env("HF_ENDPOINT", &room.settings.endpoint)
        .env("HF_HUB_CACHE", room.cache())
        .stdin(Stdio::null());
    command
}

pub(super) fn end(mut command: Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(super) fn models(room: &Room, arguments: &[&str]) -> Ran {
    let ran = end(command(room, arguments));
    room.check_soundness();
    ran
}

/// The published files with a CLIP configuration.
pub(super) fn clip() -> Vec<(&'static str, Vec<u8>)> {
    let mut files = model();
    files.retain(|(name, _)| *name != "config.json");
    files.push(("config.json", b"{\"model_type\": \"clip\"}".to_vec()));
    files
}

/// A test room with `owner/model` in its cache.
pub(super) fn pulled() -> Room {
    let room = Room::new(StandIn::honest(&clip()));
    models(&room, &["pull", "-q", "owner/model"]).ends_with(0);
    room
}

pub(super) fn snapshot(room: &Room) -> PathBuf {
    room.repository().join("snapshots").join(COMMIT)
}

pub(super) fn weights_line(room: &Room) -> String {
    let path = snapshot(room).join("model.safetensors");
    format!("{}\n", path.display())
}

/// The result of a run with a given stdout.
pub(super) fn end_of(mut command: Command) -> Ran {
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        out: String::new(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
