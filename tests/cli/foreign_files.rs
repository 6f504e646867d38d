//! Labels, templates, texts and lists of paths in files as other programs write them.

use serde_json::Value;

use crate::room::{Ran, Room, labels};

fn room() -> Room {
    Room::with(&["a.png", "b.png"])
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// The labels of a file, in alphabetical order, and the run.
fn labels_of(room: &Room, file: &str) -> (Vec<String>, Ran) {
    let ran = room
        .classify(&["a.png", "--labels-file", file])
        .ends_with(0);
    let mut found: Vec<String> = labels(&ran.record())
        .into_iter()
        .map(str::to_owned)
        .collect();
    found.sort_unstable();
    (found, ran)
}

#[test]
fn a_labels_file_of_another_program_is_read_for_what_it_is() {
    let room = room();
    let files: [(&str, &str); 22] = [
        ("id2label.json", r#"{"0": "penguin", "1": "owl"}"#),
        (
            "config.json",
            r#"{"model_type": "vit", "id2label": {"0": "penguin", "1": "owl"}, "label2id": {"owl": 1, "penguin": 0}}"#,
        ),
        (
            "index.json",
            r#"{"0": ["n02056570", "penguin"], "1": ["n01622779", "owl"]}"#,
        ),
        (
            "objects.json",
            r#"[{"id": 0, "name": "penguin"}, {"id": 1, "name": "owl"}]"#,
        ),
        (
            "labels.jsonl",
            "{\"label\":\"penguin\"}\n{\"label\":\"owl\"}\n",
        ),
        (
            "jsonl.txt",
            "{\"label\":\"penguin\"}\n{\"label\":\"owl\"}\n",
        ),
        (
            "semicolon.csv",
            "\u{feff}label;key\r\npenguin;1\r\nowl;2\r\n",
        ),
        ("sep.csv", "sep=;\r\nlabel;key\r\npenguin;1\r\nowl;2\r\n"),
        ("tab.csv", "label\tkey\r\npenguin\t1\r\nowl\t2\r\n"),
        ("pipe.csv", "label|key\npenguin|1\nowl|2\n"),
        ("commas.tsv", "label,key\npenguin,1\nowl,2\n"),
        ("class_name.csv", "class_name\npenguin\nowl\n"),
        ("category.csv", "category\npenguin\n,\nowl\n"),
        ("headless.csv", "0,penguin\n1,owl\n"),
        ("colon.txt", "0:penguin\n1:owl\n"),
        ("blank.txt", "0 penguin\n1 owl\n"),
        ("synsets.txt", "n02056570 penguin\nn01622779 owl\n"),
        ("python.txt", "{0: 'penguin',\n 1: 'owl'}\n"),
        ("quoted.txt", "'penguin',\n'owl',\n"),
        ("data.yaml", "nc: 2\nnames:\n  0: penguin\n  1: owl\n"),
        ("yaml.txt", "names:\n- penguin\n- owl\n"),
        ("header.txt", "class_name\npenguin\nowl\n"),
    ];
    let expected = room
        .classify(&["a.png", "-l", "penguin", "owl"])
        .ends_with(0);
    for (name, content) in files {
        for (kind, bytes) in [
            ("utf8", content.as_bytes().to_vec()),
            ("utf16", utf16(content)),
        ] {
            let file = format!("{kind}/{name}");
            room.file(&file, bytes);
            let (found, ran) = labels_of(&room, &file);
            assert_eq!(found, ["owl", "penguin"], "{file}");
            assert_eq!(ran.record(), expected.record(), "{file}");
            let notes = ran.stderr().lines().count();
            assert!(notes <= 1, "{file}: {}", ran.stderr());
        }
    }
}

#[test]
fn labels_that_only_look_numbered_are_kept() {
    let room = room();
    for (content, expected) in [
        ("7 up\n3d printer\n", ["3d printer", "7 up"]),
        ("1 cat\n2 cats\n", ["1 cat", "2 cats"]),
        ("10:30\n11:30\n", ["10:30", "11:30"]),
        ("name\ntitle\n", ["name", "title"]),
    ] {
        room.file("l.txt", content);
        assert_eq!(labels_of(&room, "l.txt").0, expected);
    }
    room.file("l.json", r#"["0:cat", "1:dog"]"#);
    assert_eq!(labels_of(&room, "l.json").0, ["0:cat", "1:dog"]);
}

#[test]
fn a_file_that_is_not_labels_is_refused_by_name() {
    let room = room();
    for (name, content, word) in [
        (
            "clip.json",
            r#"{"model_type": "clip", "projection_dim": 512}"#,
            "no id2label",
        ),
        (
            "plain.json",
            r#"{"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}"#,
            "only numbered",
        ),
        (
            "code.txt",
            "item {\n  name: 'cat'\n}\n",
            "line 1, \"item {\", is not a label",
        ),
        ("open.txt", "{0: 'cat',\n 1: 'dog'\n", "neither"),
        (
            "anchor.yaml",
            "names: &x\n",
            "line 1 is YAML that is not supported",
        ),
        ("nul.txt", "cat\nd\0g\n", "line 2 contains a NUL"),
    ] {
        room.file(name, content);
        let ran = room
            .classify(&["a.png", "--labels-file", name])
            .ends_with(2);
        ran.says(&[name, word]);
    }
}

#[test]
fn a_delimiter_overrides_detection() {
    let room = room();
    room.file("l.csv", "label,x;key\npenguin,a;1\nowl,b;2\n");
    let read = |more: &[&str]| {
        let arguments = [&["a.png", "--labels-file", "l.csv"], more].concat();
        let ran = room.classify(&arguments).ends_with(0);
        let mut found: Vec<String> = labels(&ran.record())
            .into_iter()
            .map(str::to_owned)
            .collect();
        found.sort_unstable();
        found
    };
    assert_eq!(read(&[]), ["owl", "penguin"]);
    assert_eq!(read(&["--delimiter", ";"]), ["owl,b", "penguin,a"]);
    room.classify(&["a.png", "--labels-file", "l.csv", "--delimiter", ";;"])
        .ends_with(2)
        .says(&["expected one character"]);
}

#[test]
fn templates_of_other_programs_are_filled() {
    let room = room();
    let arguments = ["a.png", "-l", "penguin", "owl"];
    let given = [
        &arguments[..],
        &["--template", "a photo of a {}.", "the {}, blurred"],
    ]
    .concat();
    let expected = room.classify(&given).ends_with(0).record();
    for (name, content) in [
        ("list.json", r#"["a photo of a {}.", "the {}, blurred"]"#),
        ("list.txt", r#"["a photo of a {}.", "the {}, blurred"]"#),
        (
            "one.json",
            r#"{"birds": ["a photo of a {c}.", "the {c}, blurred"]}"#,
        ),
        ("quoted.txt", "'a photo of a {}.',\n'the {}, blurred',\n"),
        (
            "lambda.txt",
            "lambda c: f'a photo of a {c}.',\nlambda c: f'the {c}, blurred',\n",
        ),
        (
            "crlf.txt",
            "\u{feff}a photo of a {c}.\r\nthe {}, blurred\r\n",
        ),
    ] {
        room.file(name, content);
        let ran = room.classify(&[&arguments[..], &["--templates", name]].concat());
        assert_eq!(ran.ends_with(0).record(), expected, "{name}");
    }
    room.file(
        "several.json",
        r#"{"birds": ["a {c}."], "cars": ["a photo of a {c}.", "the {c}, blurred"]}"#,
    );
    let ran = room.classify(&[&arguments[..], &["--templates", "several.json"]].concat());
    ran.ends_with(2).says(&[
        "several lists, birds, cars",
        "--templates several.json:birds",
    ]);
    let ran = room.classify(&[&arguments[..], &["--templates", "several.json:cars"]].concat());
    assert_eq!(ran.ends_with(0).record(), expected);
}

#[test]
fn a_list_of_paths_from_windows_is_read() {
    let room = room();
    let lists: [(&str, Vec<u8>); 4] = [
        ("crlf", b"a.png\r\nb.png\r\n".to_vec()),
        ("mark", b"\xef\xbb\xbfa.png\nb.png\n".to_vec()),
        ("utf16", utf16("\u{feff}a.png\r\nb.png\r\n")),
        ("unmarked", utf16("a.png\nb.png\n")),
    ];
    for (name, content) in lists {
        room.file(name, &content);
        let ran = room
            .classify(&["--files-from", name, "-l", "x", "y"])
            .ends_with(0);
        assert_eq!(ran.images(), ["a.png", "b.png"], "{name}");
        let ran = room.classify_with_stdin(&["--files-from", "-", "-l", "x", "y"], &content);
        assert_eq!(ran.ends_with(0).images(), ["a.png", "b.png"], "{name}");
    }
    room.file("backslash", ".\\a.png\nb.png\n");
    let ran = room
        .classify(&["--files-from", "backslash", "-l", "x", "y"])
        .ends_with(1);
    assert_eq!(ran.images(), [".\\a.png", "b.png"]);
    ran.says(&["but there is ./a.png; write / instead of \\"]);
}

#[test]
fn a_bad_line_of_a_list_affects_only_itself() {
    let room = room();
    let list = format!("a.png\n{}\n\nx\0y\nb.png\n", "x".repeat(100_000));
    let ran = room
        .classify_with_stdin(&["--files-from", "-", "-l", "x", "y"], list.as_bytes())
        .ends_with(1);
    assert_eq!(
        ran.images(),
        ["a.png", "stdin:2", "stdin:3", "stdin:4", "b.png"]
    );
    ran.says(&[
        "line 2 is longer than 65536 bytes",
        "line 3 is empty",
        "line 4 contains a NUL byte",
    ]);
}

#[test]
fn texts_may_be_utf16() {
    let room = room();
    let texts = |content: &[u8]| -> Vec<String> {
        room.file("texts", content);
        let arguments = ["tokens", "--file", "texts", "-f", "jsonl"];
        let ran = room.longclip(&arguments, &[]).ends_with(0);
        let lines = ran
            .out
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .map(|line| line["text"].as_str().unwrap().to_owned())
            .collect()
    };
    for content in [
        utf16("\u{feff}a cat\r\na möwe\r\n"),
        utf16("a cat\na möwe\n"),
        "\u{feff}a cat\r\na möwe".as_bytes().to_vec(),
        "a cat\ra möwe\r".as_bytes().to_vec(),
    ] {
        assert_eq!(texts(&content), ["a cat", "a möwe"]);
    }
}

#[test]
fn several_labels_in_one_argument_get_a_hint() {
    let room = room();
    let ran = room
        .classify(&["a.png", "-l", "cat, dog", "sun"])
        .ends_with(0);
    assert_eq!(labels(&ran.record()).len(), 2);
    ran.says(&[
        "note: \"cat, dog\" is taken as one label",
        "--labels \"cat\" \"dog\"",
    ]);
    let ran = room.classify(&["a.png", "-l", "a cat that sleeps, on a sofa", "sun"]);
    assert_eq!(ran.ends_with(0).stderr(), "");
}

#[test]
fn texts_are_not_taken_from_the_lines_of_tables_and_json() {
    let room = room();
    for (name, content) in [
        ("texts.csv", "text\na cat\n"),
        ("texts.json", "[\"a cat\"]"),
        ("texts.JSONL", "{\"text\": \"a cat\"}\n"),
    ] {
        room.file(name, content);
        for command in [
            &["tokens", "--file", name][..],
            &["embed", "--model", "tiny", "--texts", name],
        ] {
            room.longclip(command, &[])
                .ends_with(2)
                .says(&[name, "one per line"]);
        }
    }
    let ran = room.longclip_with_stdin(&["tokens", "--file", "-", "-f", "jsonl"], b"a cat\n");
    assert_eq!(ran.ends_with(0).record()["text"], "a cat");
}
