//! The README's commands, run in their order, and the output that it shows for them.
//!
//! They run in one room that has what they name: small images, lists, and small models under the
//! names of published ones in the hub's cache. What one command writes, later ones read, as for a
//! reader who types them all.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::room::{LIMIT, Room, png};
use crate::shards::packed;
use crate::unpack;

/// Commands that are not run here, and why.
const NOT_RUN: [(&str, &str); 5] = [
    ("cargo install --path .", "it compiles for minutes"),
    (
        "ffmpeg -v error -i clip.mp4 -f image2pipe -c:v ppm - | longclip classify --frames every:25 - --labels cat dog",
        "ffmpeg may not be there; tests/cli/frames.rs has streams of its own",
    ),
    (
        "aws s3 cp s3://bucket/shard.tar - | longclip classify --tar - --labels cat dog",
        "it needs an account",
    ),
    (
        "gcloud storage cat gs://bucket/shard.tar | longclip classify --tar - --labels cat dog",
        "it needs an account",
    ),
    (
        "curl -sSf https://example.org/shard.tar | longclip classify --tar - --labels cat dog",
        "it needs the network",
    ),
];

/// What a command that is run may begin with.
const RUN: [&str; 3] = ["longclip ", "find ", "cat "];

/// The published models that the README's commands name: as the hub's cache names their
/// repositories, the file of the weights, and the small checkpoint in its place.
const PUBLISHED: [(&str, &str, &str); 3] = [
    (
        "BeichenZhang--LongCLIP-B",
        "longclip-B.pt",
        "longclip-patch16.pt",
    ),
    (
        "BeichenZhang--LongCLIP-L",
        "longclip-L.pt",
        "longclip-patch16.pt",
    ),
    (
        "openai--clip-vit-base-patch16",
        "model.safetensors",
        "hf-patch16/model.safetensors",
    ),
];

/// A command of the README.
struct Example {
    /// Its line in the README, from 1.
    line: usize,
    command: String,
    /// What the comment behind it says that it ends with, else 0.
    status: i32,
    /// The lines that it is said to print; none where nothing is shown.
    shown: Vec<String>,
}

impl Example {
    fn new(line: usize, text: &str) -> Self {
        let (command, comment) = text.split_once("  #").unwrap_or((text, ""));
        let command = command
            .trim()
            .replace("cargo run --release -- ", "longclip ");
        let status = comment.split("status ").nth(1);
        let status = status.map_or(0, |rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap()
        });
        Self {
            line,
            command,
            status,
            shown: Vec::new(),
        }
    }

    fn is_run(&self) -> bool {
        let known = RUN.iter().any(|start| self.command.starts_with(start));
        let skipped = NOT_RUN.iter().any(|(command, _)| self.command == *command);
        assert!(
            known || skipped,
            "README.md:{}: this test does not know how to run {:?}",
            self.line,
            self.command
        );
        known
    }

    /// Runs it, and compares what it prints with what is shown; what is wrong, if something is.
    fn fault(&self, room: &Room) -> Option<String> {
        let mut command = self.command.clone();
        if !self.shown.is_empty() {
            // As on the terminal of the reader, and the same on every machine.
            command.push_str(" --precision f32");
            if !command.contains(" -f ") {
                command.push_str(" -f table");
            }
        }
        let (status, said, printed) = ran(room, &command);
        let found = format!("{said}{printed}");
        let place = format!("README.md:{}: {command}", self.line);
        if status != Some(self.status) {
            return Some(format!("{place}\nends with {status:?}:\n{found}"));
        }
        let found: Vec<&str> = found.lines().collect();
        let same = found.len() == self.shown.len()
            && found
                .iter()
                .zip(&self.shown)
                .all(|(found, shown)| is_alike(found, shown));
        (!self.shown.is_empty() && !same).then(|| format!("{place}\nprints {found:#?}"))
    }
}

/// Runs a command line: its status, stderr and stdout.
fn ran(room: &Room, line: &str) -> (Option<i32>, String, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_longclip"));
    let folder = program.parent().unwrap().to_owned();
    let outer = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([folder].into_iter().chain(env::split_paths(&outer))).unwrap();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", line])
        .current_dir(room.path(""))
        .env_clear();
    shell.env("PATH", path).env("HOME", room.path(""));
    shell.env("HF_HUB_OFFLINE", "1");
    if let Some(value) = env::var_os("LLVM_PROFILE_FILE") {
        shell.env("LLVM_PROFILE_FILE", value);
    }
    let output = assert_cmd::Command::from_std(shell).timeout(LIMIT).output();
    let output = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stderr),
        text(output.stdout),
    )
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The commands of the blocks `sh` (one per line) and `console` (after `$`, with their output).
fn examples(readme: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let mut block = None;
    for (line, text) in (1..).zip(readme.lines()) {
        match (text.strip_prefix("```"), block) {
            (Some(kind), None) => {
                assert!(
                    ["sh", "console"].contains(&kind),
                    "README.md:{line}: a block of {kind:?}"
                );
                block = Some(kind);
            }
            (Some(_), Some(_)) => block = None,
            (None, None) => assert!(
                !text.starts_with("    "),
                "README.md:{line}: a command outside of a fenced block is not tested"
            ),
            (None, Some("console")) => match text.strip_prefix("$ ") {
                Some(command) => found.push(Example::new(line, command)),
                None => found.last_mut().unwrap().shown.push(text.to_owned()),
            },
            (None, Some(_)) => found.push(Example::new(line, text)),
        }
    }
    found
}

/// Whether two lines are the same but for the last digits of their numbers, and for bars.
fn is_alike(found: &str, shown: &str) -> bool {
    let (words, numbers) = taken_apart(found);
    let (shown, expected) = taken_apart(shown);
    let near = |(&number, &expected): (&f64, &f64)| {
        (number - expected).abs() <= (expected.abs() * 0.01).max(0.01)
    };
    words == shown && numbers.len() == expected.len() && numbers.iter().zip(&expected).all(near)
}

/// A line with its numbers taken out, and these.
fn taken_apart(line: &str) -> (String, Vec<f64>) {
    let (mut words, mut numbers) = (String::new(), Vec::new());
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let is_number = |c: char| c.is_ascii_digit() || ".eE-".contains(c);
        let end = rest.find(|c| !is_number(c)).unwrap_or(rest.len());
        let digits = rest[..end].trim_end_matches(['.', 'e', 'E', '-']);
        match digits.parse() {
            Ok(number) if !words.ends_with(char::is_alphanumeric) => {
                numbers.push(number);
                words.push('#');
                rest = &rest[digits.len()..];
            }
            _ => {
                let is_bar = ('\u{2580}'..='\u{259f}').contains(&first);
                words.extend((!is_bar).then_some(first));
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    (words.trim_end().to_owned(), numbers)
}

/// What the README's commands name.
fn room() -> Room {
    let room = Room::with(&["img.jpg", "photos/a.jpg", "photos/c.png"]);
    for entry in fs::read_dir(root().join("assets/demo")).unwrap() {
        let path = entry.unwrap().path();
        let name = Path::new("assets/demo").join(path.file_name().unwrap());
        room.file(name, fs::read(path).unwrap());
    }
    for (part, count) in [("train", 8), ("test", 3)] {
        for class in ["cat", "dog", "other"] {
            for number in 0..count {
                room.image(format!("pets/{part}/{class}/{number}.png"));
            }
        }
    }
    let pairs: String = (0..64)
        .map(|number| {
            room.image(format!("pairs/{number}.png"));
            let caption = format!("A red bus number {number}. Two people wait in the rain.");
            format!("{{\"image\": \"pairs/{number}.png\", \"caption\": \"{caption}\"}}\n")
        })
        .collect();
    room.file("pairs.jsonl", pairs);
    room.file("labels.txt", "cat\ndog\n");
    room.file("list.jsonl", "{\"id\": 7, \"path\": \"img.jpg\"}\n");
    room.file("short.txt", "cat\ndog\nother\n");
    room.file("long.txt", "cat\ndog\nother\n");
    room.file("captions.txt", format!("a cat\n{}\n", "a dog ".repeat(200)));
    for name in ["shard.tar", "shard.tar.gz", "photos.zip"] {
        let images = [("a.png", png("cat")), ("b.png", png("dog"))];
        let labels = [("a.cls", b"cat".to_vec()), ("b.cls", b"dog".to_vec())];
        let files: Vec<_> = (images.into_iter().zip(labels))
            .flat_map(|(image, label)| [image, label])
            .collect();
        let ending = &name[name.find('.').unwrap()..];
        room.file(name, packed(ending, &files));
    }
    let table = crate::parquet_shards::table(&[
        ("image", "", &[png("cat"), png("dog")]),
        ("label", "(UTF8)", &[b"cat".to_vec(), b"dog".to_vec()]),
    ]);
    room.file("pets.parquet", table);
    // The same image under both labels: half of the answers are wrong, whatever the model.
    room.file("photos/b.jpg", png("photos/a.jpg"));
    let animation = root().join("tests/fixtures/frames/disposals.gif");
    for name in ["clip.gif", "clips/a.gif"] {
        room.file(name, fs::read(&animation).unwrap());
    }
    room.file(
        "photos.csv",
        "path,label\nphotos/a.jpg,cat\nphotos/b.jpg,dog\n",
    );
    room.file(
        "captions.json",
        r#"{"a.jpg": ["a cat"], "b.jpg": ["a dog"], "c.png": ["a bus"]}"#,
    );
    // Where a user has this folder already.
    room.file(".local/share/bash-completion/completions/other", "");
    models(&room);
    room
}

/// The small models, in a folder and in the hub's cache.
fn models(room: &Room) {
    let unpacked = tempfile::tempdir().unwrap();
    for prefix in ["longclip-patch16.pt", "hf-patch16/"] {
        unpack::unpack(prefix, unpacked.path());
    }
    let small = |name: &str| fs::read(unpacked.path().join(name)).unwrap();
    room.file("longclip-B.pt", small("longclip-patch16.pt"));
    let cache = PathBuf::from(".cache/huggingface/hub");
    for (repository, weights, checkpoint) in PUBLISHED {
        let folder = cache.join(format!("models--{repository}"));
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let snapshot = folder.join("snapshots").join(commit);
        room.file(folder.join("refs/main"), commit);
        room.file(snapshot.join(weights), small(checkpoint));
        if checkpoint.starts_with("hf-") {
            room.file(
                snapshot.join("config.json"),
                small("hf-patch16/config.json"),
            );
        }
    }
}

#[test]
fn the_readmes_commands_run_and_print_what_it_shows() {
    let room = room();
    let examples = examples(&readme());
    for (command, _) in NOT_RUN {
        let is_there = examples.iter().any(|example| example.command == command);
        assert!(is_there, "the README has no {command:?} to leave out");
    }
    let shown = examples.iter().filter(|example| !example.shown.is_empty());
    assert!(shown.count() >= 2, "the README shows what commands print");
    let run = examples.iter().filter(|example| example.is_run());
    let faults: Vec<String> = run.filter_map(|example| example.fault(&room)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

#[test]
fn the_readmes_first_answer_is_right_with_room_to_spare() {
    let examples = examples(&readme());
    let (command, shown) = (&examples[0].command, &examples[0].shown);
    let (label, percent) = shown[2].trim().split_once("  ").unwrap();
    let percent: f64 = percent.trim().split('%').next().unwrap().parse().unwrap();
    let image = command.split_whitespace().nth(2).unwrap();
    assert!(image.contains(label.split(' ').next_back().unwrap()));
    assert!(percent >= 90.0, "{percent}");
}

#[test]
fn the_help_pages_that_the_readme_names_are_there() {
    let room = Room::new();
    let readme = readme();
    let named: Vec<&str> = readme
        .split('`')
        .filter_map(|code| code.strip_prefix("longclip help "))
        .collect();
    assert!(named.len() >= 8, "{named:?}");
    for command in named {
        let ran = room.longclip(&["help", command], &[]).ends_with(0);
        assert!(ran.out.contains("\nExamples:\n"), "{command}");
    }
}

#[test]
fn the_help_of_tokens_shows_what_it_prints() {
    let room = Room::new();
    let help = room.longclip(&["help", "tokens"], &[]).ends_with(0).out;
    let text = "It’s a CAT &amp; a dog";
    let ran = room.longclip(&["tokens", text, "-f", "table"], &[]);
    for line in ran.ends_with(0).out.lines() {
        assert!(help.contains(line), "{line}\n{help}");
    }
}

#[test]
fn the_files_that_the_readmes_name_are_there() {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    for readme in ["README.md", "tests/README.md"] {
        let text = fs::read_to_string(root().join(readme)).unwrap();
        let words = text.split(|c| !is_path(c));
        let words = words.map(|word| word.trim_end_matches('.'));
        let named: Vec<&str> = words
            .filter(|word| {
                ["tests/", "src/", "assets/"]
                    .iter()
                    .any(|top| word.starts_with(top))
            })
            .filter(|word| {
                [".py", ".md", ".rs", ".mjs"]
                    .iter()
                    .any(|end| word.ends_with(end))
            })
            .collect();
        assert!(named.len() >= 10, "{readme}: {named:?}");
        for path in named {
            assert!(root().join(path).is_file(), "{readme} names {path}");
        }
    }
}

#[test]
fn lines_are_alike_but_for_the_last_digits_of_numbers_and_bars() {
    for (found, shown, expected) in [
        ("  a cat  99.80%  ███▌", "  a cat  99.95%  ████", true),
        ("  a cat  97.80%  ███▌", "  a cat  99.95%  ████", false),
        ("  a dog  99.95%", "  a cat  99.95%", false),
        ("{\"logit\":-7.01}", "{\"logit\":-7.04}", true),
        ("{\"logit\":7.01}", "{\"logit\":-7.01}", false),
        ("{\"p\":2.1e-05}", "{\"p\":0.0}", true),
        ("vit-b-16 has 1", "vit-b-32 has 1", false),
        ("1 and 2", "1 and", false),
    ] {
        assert_eq!(is_alike(found, shown), expected, "{found} {shown}");
    }
}
