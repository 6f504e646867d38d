//! What a terminal gets from names, labels and files that are not ours: nothing that it would act
//! on. A pseudo-terminal comes from `script` (util-linux).

use std::process::Command;

use crate::room::Room;
use crate::small;

/// Commands of a terminal in seven and eight bits, a turn of direction, an invisible character.
const HOSTILE: &str = "x\u{1b}[5m\u{1b}]0;t\u{7}\r\u{9b}5m\u{202e}gpj\u{200b}";

/// Everything that `longclip …` shows on a terminal, stderr too.
fn shown(room: &Room, arguments: &[&str]) -> String {
    let quoted = |word: &str| format!("'{}'", word.replace('\'', "'\\''"));
    let words = [env!("CARGO_BIN_EXE_longclip")].iter().chain(arguments);
    let line: Vec<String> = words.map(|word| quoted(word)).collect();
    let outer = room.command();
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &line.join(" "), "/dev/null"]);
    command.current_dir(outer.get_current_dir().unwrap());
    command.env_clear().env("TERM", "xterm-256color");
    let variables = outer.get_envs();
    command.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().expect("needs script, of util-linux");
    String::from_utf8(output.stdout).unwrap()
}

/// Checks that only our own colours and ends of lines control the terminal.
#[track_caller]
fn assert_harmless(out: &str, arguments: &[&str]) {
    let mut rest = out.replace("\r\n", "\n");
    assert!(!rest.contains("\u{1b}[5m"), "{arguments:?}: {rest:?}");
    while let Some(at) = rest.find("\u{1b}[") {
        let code = rest[at + 2..].find(|c: char| !c.is_ascii_digit() && c != ';');
        let end = at + 2 + code.unwrap_or(0);
        assert_eq!(
            rest[end..].chars().next(),
            Some('m'),
            "{arguments:?}: {rest:?}"
        );
        rest.replace_range(at..=end, "");
    }
    let acts = |c: char| c.is_control() && c != '\n' && c != '\t';
    let is_ours = |c: char| !acts(c) && !"\u{202e}\u{200b}".contains(c);
    assert!(rest.chars().all(is_ours), "{arguments:?}: {rest:?}");
    assert!(
        rest.contains("gpj"),
        "{arguments:?} shows nothing of it: {rest:?}"
    );
}

#[test]
fn no_command_lets_a_name_or_a_text_control_the_terminal() {
    let room = Room::new();
    let (image, bad) = (&*format!("{HOSTILE}.png"), &*format!("{HOSTILE}-bad.png"));
    room.image(image);
    room.broken(bad);
    room.file("labels.txt", format!("{HOSTILE}\ncat\n").replace('\r', ""));
    let labels = ["-m", small::model(), "--labels-file", "labels.txt"];
    let formats = ["table", "json", "jsonl", "csv", "tsv"];
    for format in formats.into_iter().chain(["paths", "label-studio"]) {
        let arguments = [&["classify", "-q", image, bad, "-f", format], &labels[..]].concat();
        assert_harmless(&shown(&room, &arguments), &arguments);
        let arguments = ["tokens", "-f", format, HOSTILE];
        if ["table", "json", "jsonl"].contains(&format) {
            assert_harmless(&shown(&room, &arguments), &arguments);
        }
    }
    let of_class = format!("data/{HOSTILE}");
    room.image(format!("{of_class}/a.png"));
    room.broken(&format!("{of_class}/b.png"));
    room.image("data/cat/c.png");
    let evaluate = ["evaluate", "-q", "-m", small::model(), "data"];
    for format in ["table", "json", "github"] {
        let arguments = [&evaluate[..], &["-f", format]].concat();
        assert_harmless(&shown(&room, &arguments), &arguments);
    }
    let embed = ["embed", "-q", "-m", small::model(), image, bad];
    assert_harmless(&shown(&room, &embed), &embed);
    let written = [&embed[..], &["-o", "rows.npy"]].concat();
    assert_harmless(&shown(&room, &written), &written);
    let texts = [
        "embed",
        "-q",
        "-m",
        small::model(),
        "--texts",
        "labels.txt",
        "-o",
        "texts.npy",
    ];
    room.longclip(&texts, &[]).ends_with(0);
    for format in ["table", "json", "jsonl", "csv", "tsv", "paths"] {
        for index in ["rows.npy", "texts.npy"] {
            let arguments = [
                "search",
                "-q",
                index,
                "gpj",
                "-m",
                small::model(),
                "-f",
                format,
            ];
            assert_harmless(&shown(&room, &arguments), &arguments);
        }
    }
}

#[test]
fn neither_damaged_models_nor_mistyped_arguments_control_the_terminal() {
    let room = Room::new();
    let header = serde_json::json!({
        "__metadata__": { HOSTILE: HOSTILE },
        HOSTILE: { "dtype": "F32", "shape": [1], "data_offsets": [0, 4] },
    });
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    let file = &*format!("{HOSTILE}.safetensors");
    room.file(file, [&length, header.as_bytes(), &[0; 4]].concat());
    for arguments in [
        &["inspect", file, "-f", "table"][..],
        &["inspect", file, "-f", "json"],
        &["models", "path", file],
        &["models", "path", "gpj/\u{9b}5m\u{202e}"],
        &["classify", "-m", file, "-l", "a", "b", "--", file],
        &["convert", file, "out.safetensors"],
        &["undo", file],
        &[HOSTILE],
        &["classify", &format!("--{HOSTILE}")],
        &["classify", "--batch-size", HOSTILE],
    ] {
        assert_harmless(&shown(&room, arguments), arguments);
    }
}

#[test]
fn a_pipe_gets_every_byte() {
    let room = Room::new();
    let image = &*format!("{HOSTILE}.png");
    room.image(image);
    let embed = ["embed", "-q", "-m", small::model(), image, "-o", "rows.npy"];
    room.longclip(&embed, &[]).ends_with(0);
    let search = [
        "search",
        "-q",
        "rows.npy",
        "a",
        "-m",
        small::model(),
        "-f",
        "paths",
    ];
    let ran = room.longclip(&search, &[]).ends_with(0);
    assert_eq!(ran.out, format!("{image}\n"));
}

#[test]
fn a_run_of_several_images_ends_with_a_line_for_people() {
    let room = Room::with(&["p/a.png", "p/b.png"]);
    room.broken("p/c.png");
    let run = |more: &[&str]| {
        let arguments = [
            &["classify", "-m", small::model(), "-l", "x", "y"][..],
            more,
        ]
        .concat();
        let on_terminal = shown(&room, &arguments);
        let piped = room.longclip(&arguments, &[]);
        assert!(!piped.stderr().contains(" images"), "{}", piped.stderr());
        on_terminal
    };
    let several = run(&["--", "p"]);
    let last = several.trim_end().lines().last().unwrap();
    assert!(
        last.contains("3 images, 1 failed, ") && last.ends_with(" s"),
        "{several:?}"
    );
    assert!(!run(&["-q", "--", "p"]).contains("3 images"));
    assert!(!run(&["--", "p/a.png"]).contains("1 image,"));
}
