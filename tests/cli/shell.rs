//! What a shell sees: completion of names and files, short help, and environment variables in place
//! of flags.

use std::process::{Command, Stdio};

use crate::room::Room;
use crate::small;

/// What a shell writes when it runs this in the room; `None`, and a note, if it is not installed.
#[allow(clippy::print_stderr, reason = "a test that was skipped is said")]
fn shell(room: &Room, name: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(name);
    command.args(arguments).current_dir(room.path(""));
    command.env("HOME", room.path("")).stdin(Stdio::null());
    let Ok(output) = command.output() else {
        eprintln!("skipped: {name} is not installed");
        return None;
    };
    Some(String::from_utf8(output.stdout).unwrap())
}

/// A room with the completion script of a shell, and files and a folder to complete.
fn completing(name: &str) -> Room {
    let room = Room::with(&["tidy photo.png", "open.png"]);
    room.file("cifar/labels.txt", "cat\ndog\n");
    let script = room.longclip(&["completions", name], &[]).ends_with(0).out;
    room.file("script", script);
    room
}

/// A flag, what is typed of its value, and what is offered.
const OFFERED: [(&str, &str, &[&str]); 5] = [
    ("--model", "ti", &["tidy photo.png", "tiny"]),
    ("-m", "longclip-b", &["longclip-b", "longclip-b-32"]),
    ("--labels-file", "cifar", &["cifar", "cifar10", "cifar100"]),
    ("--templates", "open", &["open.png", "openai7", "openai80"]),
    ("--background-file", "pet", &["pets"]),
];

#[test]
fn bash_completes_names_and_files() {
    let room = completing("bash");
    for (flag, typed, expected) in OFFERED {
        let Some(found) = by_bash(&room, flag, typed) else {
            return;
        };
        assert_eq!(found, expected, "{flag} {typed}");
    }
}

/// What bash offers for the value of a flag, in order.
fn by_bash(room: &Room, flag: &str, typed: &str) -> Option<Vec<String>> {
    let run = format!(
        "source ./script; COMP_WORDS=(longclip classify a.png {flag} '{typed}'); COMP_CWORD=4
        _longclip longclip '{typed}' {flag}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let found = shell(room, "bash", &["--norc", "-c", &run])?;
    let mut found: Vec<String> = found.lines().map(str::to_owned).collect();
    found.sort_unstable();
    Some(found)
}

#[test]
fn bash_takes_no_name_of_a_file_for_a_pattern() {
    let room = completing("bash");
    for name in ["[ab] x", "a x", "what?", "whats", "*"] {
        room.file(name, "");
    }
    // With names of ours, and files alone.
    for flag in ["--labels-file", "--probe"] {
        for (typed, expected) in [("[", "[ab] x"), ("what?", "what?"), ("*", "*")] {
            let Some(found) = by_bash(&room, flag, typed) else {
                return;
            };
            assert_eq!(found, [expected], "{flag} {typed}");
        }
    }
}

#[test]
fn fish_completes_names_and_files() {
    let room = completing("fish");
    for (flag, typed, expected) in OFFERED {
        let run = format!("source ./script; complete -C 'longclip classify a.png {flag} {typed}'");
        let Some(found) = shell(&room, "fish", &["--no-config", "-c", &run]) else {
            return;
        };
        // A folder has a slash, and a description may follow.
        let mut found: Vec<&str> = found
            .lines()
            .filter_map(|line| line.split('\t').next())
            .map(|word| word.trim_end_matches('/'))
            .collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{flag} {typed}");
    }
}

#[test]
fn short_help_fits_a_screen_and_long_help_has_the_rest() {
    let room = Room::new();
    let help = |flag| {
        let columns = [("COLUMNS", "100")];
        room.longclip(&["classify", flag], &columns)
            .ends_with(0)
            .out
    };
    let (short, long) = (help("-h"), help("--help"));
    assert!(short.lines().count() <= 45, "{short}");
    assert!(short.contains("see more with '--help'"), "{short}");
    for flag in ["--max-memory", "--stride", "--calibration", "Exit status"] {
        assert!(!short.contains(flag) && long.contains(flag), "{flag}");
    }
    for variable in ["DEVICE", "PRECISION", "BATCH_SIZE", "OFFLINE"] {
        assert!(long.contains(&format!("LONGCLIP_{variable}")), "{variable}");
    }
}

#[test]
fn a_variable_that_is_not_understood_is_refused_by_name() {
    let room = Room::with(&["a.png"]);
    let words = small::question();
    for (variable, value, flag, right) in [
        ("LONGCLIP_DEVICE", "warp", "--device", Some("cpu")),
        ("LONGCLIP_PRECISION", "int9", "--precision", Some("f32")),
        ("LONGCLIP_BATCH_SIZE", "0", "--batch-size", Some("2")),
        ("LONGCLIP_THREADS", "many", "--threads", Some("1")),
        ("LONGCLIP_OFFLINE", "perhaps", "--offline", None),
    ] {
        let tip = format!("the value is that of the environment variable {variable}");
        let ran = room.longclip(&words, &[(variable, value)]).ends_with(2);
        ran.says(&[&format!("'{value}' for '{flag}"), &tip]);
        // The flag wins.
        let flags: Vec<&str> = [flag].into_iter().chain(right).collect();
        let given = [&words[..3], &flags, &words[3..]].concat();
        room.longclip(&given, &[(variable, value)]).ends_with(0);
        if right.is_some() {
            let wrong = [&words[..3], &[flag, value], &words[3..]].concat();
            let ran = room.longclip(&wrong, &[(variable, value)]).ends_with(2);
            assert!(!ran.stderr().contains("environment"), "{}", ran.stderr());
        }
    }
}

#[test]
fn variables_stand_in_for_flags() {
    let room = Room::with(&["a.png"]);
    let words = [&small::question()[..], &["-v"]].concat();
    for precision in ["f32", "int8"] {
        let variables = [
            ("LONGCLIP_PRECISION", precision),
            ("LONGCLIP_DEVICE", "cpu"),
            ("LONGCLIP_BATCH_SIZE", "3"),
        ];
        let flags = [
            "--precision",
            precision,
            "--device",
            "cpu",
            "--batch-size",
            "3",
        ];
        let by_variable = room.longclip(&words, &variables).ends_with(0);
        let by_flag = room
            .longclip(&[&words[..], &flags].concat(), &[])
            .ends_with(0);
        assert_eq!(by_variable.out, by_flag.out);
        by_variable.says(&[&format!("device: cpu in {precision} (as requested")]);
    }
}

#[test]
fn offline_commands_send_no_request() {
    let room = Room::with(&["data/cat/a.png", "data/dog/b.png"]);
    room.file(
        "pairs.jsonl",
        r#"{"image":"data/cat/a.png","caption":"a cat"}"#,
    );
    // Nothing listens there: a request would end with 75.
    let nobody = ("HF_ENDPOINT", "http://127.0.0.1:1");
    let commands: [&[&str]; 12] = [
        &["classify", "data", "-l", "cat", "dog"],
        &["embed", "data"],
        &["probe", "data"],
        &["evaluate", "data"],
        &["calibrate", "data", "-o", "c.json"],
        &["finetune", "pairs.jsonl", "--out", "run"],
        &["inspect", "longclip-b"],
        &["convert", "longclip-b", "x.safetensors"],
        &["stretch", "clip-vit-b-16", "x.safetensors"],
        &["bench", "--images", "data"],
        &["models", "pull", "longclip-b"],
        &["models", "pull", "longclip-b", "--dry-run"],
    ];
    for words in commands {
        let flag = [words, &["--offline"]].concat();
        let ran = room.longclip(&flag, &[nobody]).ends_with(2);
        ran.says(&["is not cached, and --offline"]);
        for value in ["1", "true", "yes"] {
            let ran = room.longclip(words, &[nobody, ("LONGCLIP_OFFLINE", value)]);
            ran.ends_with(2).says(&["LONGCLIP_OFFLINE"]);
        }
    }
    // What is here is used.
    let here = [
        "classify",
        "data",
        "-l",
        "cat",
        "dog",
        "--offline",
        "-m",
        small::model(),
    ];
    room.longclip(&here, &[nobody]).ends_with(0);
}
