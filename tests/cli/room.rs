//! A temporary folder per test, in which the program is run.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::small;

/// Longer than any test takes, so that an endless wait fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A folder, also the child's working folder and home.
pub(crate) struct Room(tempfile::TempDir);

/// The program, with the usual effects of signals: a script's background processes ignore some, and
/// so would a child.
fn program() -> Command {
    let path = env!("CARGO_BIN_EXE_longclip");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP, SIGINT and SIGTERM.
    if ignored.unwrap_or_default() & 0x4003 == 0 {
        return Command::new(path);
    }
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP,INT,TERM", path]);
    command
}

impl Room {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A room with the images of these names.
    pub(crate) fn with(images: &[&str]) -> Self {
        let room = Self::new();
        for name in images {
            room.image(name);
        }
        room
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file and creates its parent folders.
    pub(crate) fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Writes a small PNG whose colours come from its name, whatever its extension.
    pub(crate) fn image(&self, name: impl AsRef<Path>) {
        let name = name.as_ref();
        self.file(name, png(&name.to_string_lossy()));
    }

    /// Writes a PNG that ends too early.
    pub(crate) fn broken(&self, name: &str) {
        self.file(name, &png(name)[..40]);
    }

    /// Copies an image of tests/fixtures/image.
    pub(crate) fn fixture(&self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image");
        self.file(name, fs::read(folder.join(name)).unwrap());
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The names in the room, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// `longclip` in this room, without environment variables that it would read.
    pub(crate) fn command(&self) -> Command {
        let mut command = program();
        command.current_dir(self.0.path()).env_clear();
        for kept in ["PATH", "SystemRoot", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command.env("HOME", self.0.path());
        command
    }

    /// `longclip classify …` with a small model.
    pub(crate) fn classify<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Ran {
        self.classify_with_stdin(arguments, b"")
    }

    /// The same, with this on stdin.
    pub(crate) fn classify_with_stdin<A: AsRef<OsStr>>(
        &self,
        arguments: &[A],
        stdin: &[u8],
    ) -> Ran {
        let mut command = self.command();
        command
            .args(["classify", "--model", small::model()])
            .args(arguments);
        ran(command, stdin)
    }

    /// `longclip …` with these variables set.
    pub(crate) fn longclip(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = self.command();
        command.args(arguments).envs(variables.iter().copied());
        ran(command, b"")
    }

    /// `longclip …` with this on stdin.
    pub(crate) fn longclip_with_stdin(&self, arguments: &[&str], stdin: &[u8]) -> Ran {
        let mut command = self.command();
        command.args(arguments);
        ran(command, stdin)
    }
}

fn ran(command: Command, stdin: &[u8]) -> Ran {
    let shown = format!("{command:?}");
    let output = assert_cmd::Command::from_std(command)
        .write_stdin(stdin)
        .timeout(LIMIT)
        .output()
        .unwrap();
    Ran {
        command: shown,
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A PNG of 24 x 16 pixels in colours that the seed gives.
pub(crate) fn png(seed: &str) -> Vec<u8> {
    let sum = |factor: u32| {
        let bytes = seed.bytes().map(u32::from);
        bytes.fold(7, |sum, byte| (sum * factor + byte) % 251)
    };
    let (red, green, blue) = (sum(31), sum(17), sum(5));
    let image = image::RgbImage::from_fn(24, 16, |x, y| {
        image::Rgb([red + x * 3, green + y * 11, blue + x * y].map(|sample| sample as u8))
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// The results of a run.
pub(crate) struct Ran {
    command: String,
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    err: String,
}

impl Ran {
    /// Checks the exit code.
    #[track_caller]
    pub(crate) fn ends_with(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "{}\n{}\n{}",
            self.command,
            self.out,
            self.err
        );
        self
    }

    /// The records on stdout, one JSON object per line.
    #[track_caller]
    pub(crate) fn records(&self) -> Vec<Value> {
        records(&self.out)
    }

    /// The only record.
    #[track_caller]
    pub(crate) fn record(&self) -> Value {
        let mut records = self.records();
        assert_eq!(records.len(), 1, "{}\n{}", self.out, self.err);
        records.remove(0)
    }

    /// The images of the records, in their order.
    #[track_caller]
    pub(crate) fn images(&self) -> Vec<String> {
        images(&self.records())
    }

    /// Everything on stderr.
    pub(crate) fn stderr(&self) -> &str {
        &self.err
    }

    /// Checks that stderr has each of these.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(
                self.err.contains(part),
                "no {part:?} from {}\n{}",
                self.command,
                self.err
            );
        }
        self
    }
}

#[track_caller]
pub(crate) fn records(jsonl: &str) -> Vec<Value> {
    let record = |line: &str| serde_json::from_str(line).unwrap();
    jsonl.lines().map(record).collect()
}

pub(crate) fn images(records: &[Value]) -> Vec<String> {
    let image = |record: &Value| record["image"].as_str().unwrap().to_owned();
    records.iter().map(image).collect()
}

/// The labels of a record's predictions, in their order.
#[track_caller]
pub(crate) fn labels(record: &Value) -> Vec<&str> {
    let predictions = record["predictions"].as_array().unwrap();
    predictions
        .iter()
        .map(|prediction| prediction["label"].as_str().unwrap())
        .collect()
}

/// One number of a record's prediction of a label.
#[track_caller]
pub(crate) fn number(record: &Value, label: &str, key: &str) -> f64 {
    let predictions = record["predictions"].as_array().unwrap();
    let prediction = predictions.iter().find(|one| one["label"] == label);
    prediction.unwrap()[key].as_f64().unwrap()
}
