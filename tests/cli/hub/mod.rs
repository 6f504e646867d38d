//! Model names resolved against a local test hub, with every fault that a real hub, a proxy or a
//! mirror could show. No other network is used.

mod caching;
mod faults;
mod folders;
mod hostile;
mod models;
mod refusals;
mod stand_in;
mod transfers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use longclip::checkpoint::hub::{Progress, Settings, is_worth_retrying};
use longclip::checkpoint::source::{ModelFiles, ModelSource, resolve};
use stand_in::{StandIn, etag};

/// The one large file of [`lone_file`], requested by name.
const LONE: &str = "owner/model:long@336px.pt";

/// A hub, an empty cache, and the messages to the user.
struct Room {
    hub: StandIn,
    folder: tempfile::TempDir,
    settings: Settings,
    notes: Notes,
}

impl Room {
    fn new(hub: StandIn) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(&hub.endpoint(), Some(folder.path().join("cache")));
        settings.tries = 4;
        settings.backoff = Duration::from_millis(1);
        settings.longest_wait = Duration::from_millis(20);
        settings.idle_timeout = Duration::from_secs(5);
        Self {
            hub,
            folder,
            settings,
            notes: Notes::default(),
        }
    }

    /// The same cache with another hub.
    fn move_to(self, hub: StandIn) -> Self {
        let settings = Settings {
            endpoint: hub.endpoint(),
            ..self.settings
        };
        Self {
            hub,
            settings,
            ..self
        }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// The repository's folder in the cache.
    fn repository(&self) -> PathBuf {
        self.cache().join("models--owner--model")
    }

    fn resolve(&self, model: &str) -> anyhow::Result<ModelFiles> {
        let source = resolve(model, &self.settings, &self.notes);
        self.check_soundness();
        match source? {
            ModelSource::Files(files) => Ok(files),
            ModelSource::BuiltIn => panic!("{model} is not built in"),
        }
    }

    /// The error, and whether it is temporary.
    fn failure(&self, model: &str) -> (String, bool) {
        let error = self.resolve(model).unwrap_err();
        (format!("{error:#}"), is_worth_retrying(&error))
    }

    /// Nothing is written outside the cache, and each blob has the hash in its name.
    fn check_soundness(&self) {
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            assert_eq!(
                entry.unwrap().file_name(),
                "cache",
                "a file outside the cache"
            );
        }
        for (path, content) in files_below(&self.repository().join("blobs")) {
            let name = path.file_name().unwrap().to_str().unwrap();
            if !name.ends_with(".incomplete") {
                let kind = if name.len() == 64 { "x.pt" } else { "x.json" };
                assert_eq!(etag(kind, &content), name, "a poisoned blob");
            }
        }
    }
}

/// The files below a folder with their content, links not followed.
fn files_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = walkdir::WalkDir::new(folder).into_iter().flatten();
    entries
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            (
                entry.path().to_owned(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

/// Records the messages to the user.
#[derive(Default)]
struct Notes {
    lines: Mutex<Vec<String>>,
}

impl Notes {
    fn add(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}

impl Progress for Notes {
    fn start(&self, file: &str, bytes: u64, have: u64) {
        self.add(format!("start {file} {have} of {bytes}"));
    }

    fn advance(&self, bytes: u64) {
        self.add(format!("advance {bytes}"));
    }

    fn finish(&self) {
        self.add("finish".to_owned());
    }

    fn note(&self, message: &str) {
        self.add(format!("note {message}"));
    }
}

/// Bytes without a pattern, so that wrong offsets are noticed.
fn weights() -> Vec<u8> {
    let mut state = 1_u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..600_000).map(|_| byte()).collect()
}

/// A model as `transformers` publishes it.
fn model() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("README.md", b"# A model".to_vec()),
        ("config.json", b"{\"a\": 1}".to_vec()),
        ("merges.txt", b"#version\n".to_vec()),
        ("model.safetensors", weights()),
        ("preprocessor_config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{\"b\": 2}".to_vec()),
        ("vocab.json", Vec::new()),
    ]
}

/// A model as Long-CLIP publishes it.
fn lone_file() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("long@336px.pt", weights()),
        ("config.json", b"{}".to_vec()),
    ]
}

fn assert_is_weights(room: &Room, model: &str) {
    let files = room.resolve(model).unwrap();
    assert_eq!(files.weights.len(), 1);
    assert!(
        std::fs::read(&files.weights[0]).unwrap() == weights(),
        "wrong content"
    );
}
