//! Which texts: labels, templates, and texts that are too long.

use serde_json::Value;

use crate::room::{Ran, Room, labels, number};

fn sorted(record: &Value) -> Vec<&str> {
    let mut found = labels(record);
    found.sort_unstable();
    found
}

fn room() -> Room {
    Room::with(&["a.png"])
}

fn classify(room: &Room, arguments: &[&str]) -> Ran {
    room.classify(&[&["a.png"], arguments].concat())
        .ends_with(0)
}

/// The cosine of a label, which does not depend on the other labels.
fn cosine(room: &Room, label: &str, arguments: &[&str]) -> f64 {
    let arguments = [&["a.png", "--score", "cosine"], arguments].concat();
    let record = room.classify(&arguments).ends_with(0).record();
    number(&record, label, "cosine")
}

#[test]
fn labels_may_be_given_in_several_ways() {
    let room = room();
    let expected = classify(&room, &["--labels", "cat", "dog"]).out;
    for arguments in [
        &["-l", "cat", "dog"][..],
        &["-l", "cat", "-l", "dog"],
        &["--labels=cat", "--labels=dog"],
    ] {
        assert_eq!(classify(&room, arguments).out, expected, "{arguments:?}");
    }
    let after = room
        .classify(&["--labels", "cat", "dog", "--", "a.png"])
        .ends_with(0);
    assert_eq!(after.out, expected);
}

#[test]
fn a_labels_file_has_one_label_per_line() {
    let room = room();
    let expected = classify(&room, &["-l", "a cat", "dog # 2"]).out;
    let files: [&[u8]; 3] = [
        b"a cat\ndog # 2\n",
        b"# which\n\na cat\n  \n   # more\n dog # 2 ",
        b"\xef\xbb\xbfa cat\r\n\r\n# which\r\ndog # 2\r\n",
    ];
    for file in files {
        room.file("labels.txt", file);
        let ran = classify(&room, &["--labels-file", "labels.txt"]);
        assert_eq!(ran.out, expected, "{:?}", String::from_utf8_lossy(file));
    }
}

#[test]
fn a_json_file_maps_each_class_to_its_prompts() {
    let room = room();
    room.file(
        "l.json",
        r#"{"pet": ["a cat", "a dog"], "car": "a red car", "sky": []}"#,
    );
    let record = classify(&room, &["--labels-file", "l.json"]).record();
    assert_eq!(sorted(&record), ["car", "pet", "sky"]);
    // The prompts count, not the name of the class.
    assert_eq!(
        number(&record, "car", "cosine"),
        cosine(&room, "a red car", &["-l", "a red car"])
    );
    assert_eq!(
        number(&record, "sky", "cosine"),
        cosine(&room, "sky", &["-l", "sky"])
    );
    let singles = ["a cat", "a dog"].map(|label| cosine(&room, label, &["-l", label]));
    // The mean of unit vectors is shorter than 1, so at unit length it is nearer than their mean.
    let mean = (singles[0] + singles[1]) / 2.0;
    let pet = number(&record, "pet", "cosine");
    assert!(pet > mean, "{pet} {singles:?}");
}

#[test]
fn a_template_is_filled_with_the_label() {
    let room = room();
    let filled = cosine(&room, "a photo of a cat.", &["-l", "a photo of a cat."]);
    room.file("t.txt", "# one\na photo of a {}.\n");
    for arguments in [
        &["--templates", "photo"][..],
        &["--templates", "t.txt"],
        &["--template", "a photo of a {}."],
        &["--template", "a photo of a {label}."],
    ] {
        let arguments = [&["-l", "cat"], arguments].concat();
        assert_eq!(cosine(&room, "cat", &arguments), filled, "{arguments:?}");
    }
    let bare = cosine(&room, "cat", &["-l", "cat"]);
    assert_eq!(
        cosine(&room, "cat", &["-l", "cat", "--templates", "none"]),
        bare
    );
    assert_ne!(bare, filled);
}

#[test]
fn several_templates_are_averaged_whatever_their_order() {
    let room = room();
    let with = |templates: &[&str]| cosine(&room, "cat", &[&["-l", "cat"], templates].concat());
    let both = with(&["--template", "a {}", "the {}!"]);
    assert!((both - with(&["--template", "the {}!", "a {}"])).abs() < 1e-6);
    let singles = [
        with(&["--template", "a {}"]),
        with(&["--template", "the {}!"]),
    ];
    assert!(both != singles[0] && both != singles[1]);
    assert!(both > (singles[0] + singles[1]) / 2.0);
    assert_ne!(
        with(&["--templates", "openai7"]),
        with(&["--templates", "openai80"])
    );
}

#[test]
fn templates_do_not_apply_to_classes_with_prompts() {
    let room = room();
    room.file("l.json", r#"{"pet": ["a cat"], "dog": []}"#);
    let with = |label| {
        cosine(
            &room,
            label,
            &["--labels-file", "l.json", "--templates", "photo"],
        )
    };
    assert_eq!(with("pet"), cosine(&room, "a cat", &["-l", "a cat"]));
    assert_eq!(
        with("dog"),
        cosine(&room, "a photo of a dog.", &["-l", "a photo of a dog."])
    );
}

#[test]
fn the_order_of_the_labels_does_not_change_the_scores() {
    let room = room();
    let one = classify(&room, &["-l", "cat", "dog", "bus"]).out;
    assert_eq!(one, classify(&room, &["-l", "bus", "dog", "cat"]).out);
}

#[test]
fn labels_that_cannot_be_used_are_refused() {
    let room = room();
    room.file("twice.txt", "cat\n# x\ndog\ncat\n");
    room.file("empty.txt", "# nothing\n");
    room.file("bad.json", "{\"cat\": 1}");
    room.file("latin.txt", b"cat\ncaf\xe9\n");
    let cases: [(&[&str], &[&str]); 11] = [
        (
            &["-l", "cat", "dog", "cat"],
            &["label \"cat\" occurs twice (labels 1 and 3)"],
        ),
        (&["-l", "cat", " "], &["label 2 is empty"]),
        (
            &["--labels-file", "twice.txt"],
            &["twice.txt", "lines 1 and 4"],
        ),
        (
            &["--labels-file", "empty.txt"],
            &["empty.txt", "there are no labels"],
        ),
        (
            &["--labels-file", "bad.json"],
            &["bad.json", "entry 1, class \"cat\"", "found a number"],
        ),
        (
            &["--labels-file", "latin.txt"],
            &["latin.txt", "line 2 is not UTF-8"],
        ),
        (&["--labels-file", "gone.txt"], &["cannot read gone.txt"]),
        (&[], &["no labels given; add --labels"]),
        (
            &["-l", "x", "y", "--template", "a photo"],
            &["\"a photo\" has no placeholder for the label"],
        ),
        (
            &["-l", "x", "y", "--templates", "openai79"],
            &["none, imagenet, photo, openai80, openai7"],
        ),
        (
            &["-l", "x", "y", "--labels-file", "twice.txt"],
            &["cannot be used with"],
        ),
    ];
    for (arguments, words) in cases {
        let ran = room
            .classify(&[&["a.png"], arguments].concat())
            .ends_with(2)
            .says(words);
        assert_eq!(ran.out, "");
    }
}

#[test]
fn one_label_needs_a_score_other_than_softmax() {
    let room = room();
    let ran = room.classify(&["a.png", "-l", "cat"]).ends_with(2);
    ran.says(&[
        "softmax over one label is always 1",
        "--score cosine",
        "--score sigmoid",
    ]);
    for score in ["cosine", "sigmoid", "logit"] {
        let record = classify(&room, &["-l", "cat", "--score", score]).record();
        assert_eq!(labels(&record), ["cat"]);
    }
}

#[test]
fn labels_before_images_get_a_hint() {
    let room = room();
    let ran = room.classify(&["-l", "cat", "dog", "a.png"]).ends_with(2);
    ran.says(&[
        "no image given, but the label \"a.png\" is an image",
        "longclip classify a.png --labels \"cat\" \"dog\"",
    ]);
    room.image("b c.jpg");
    let ran = room
        .classify(&["-l", "a.png", "b c.jpg", "cat", "dog"])
        .ends_with(2);
    ran.says(&["longclip classify a.png \"b c.jpg\" --labels \"cat\" \"dog\""]);
    let ran = room.classify(&["-l", "cat", "dog"]).ends_with(2);
    ran.says(&["no image given; pass image files or folders, - for stdin, or --files-from"]);
}

#[test]
fn a_folder_named_like_a_label_is_not_taken_for_an_image() {
    let room = Room::with(&["cat/a.png", "photos/b.png"]);
    let ran = room.classify(&["-l", "cat", "dog"]).ends_with(2);
    ran.says(&["error: no image given; pass image files"]);
    let ran = room.classify(&["-l", "cat", "dog", "photos/"]).ends_with(2);
    ran.says(&[
        "\"photos/\" is a folder",
        "longclip classify photos/ --labels \"cat\" \"dog\"",
    ]);
}

/// 310 words are 312 tokens with the start and the end.
fn long_label() -> String {
    ["word"; 310].join(" ")
}

#[test]
fn a_label_that_is_too_long_is_an_error_with_remedies() {
    let room = room();
    let label = long_label();
    let ran = room.classify(&["a.png", "-l", &label, "cat"]).ends_with(2);
    assert_eq!(ran.out, "");
    ran.says(&[
        "text \"word word",
        "312 tokens",
        "reads 248",
        "shorten it",
        "--long-text truncate",
    ]);
    let explicit = room.classify(&["a.png", "-l", &label, "cat", "--long-text", "error"]);
    explicit.ends_with(2);
}

#[test]
fn truncation_warns_and_reads_the_beginning() {
    let room = room();
    let label = long_label();
    let ran = classify(&room, &["-l", &label, "cat", "--long-text", "truncate"]);
    let record = ran.record();
    assert!(
        labels(&record).contains(&label.as_str()),
        "the label appears as typed"
    );
    ran.says(&[
        "warning: label 1: \"word",
        "cut 64 tokens beyond the model's 248",
    ]);
    let fitting = ["word"; 246].join(" ");
    let short = classify(&room, &["-l", &fitting, "cat"]).record();
    assert_eq!(
        number(&record, &label, "cosine"),
        number(&short, &fitting, "cosine")
    );
}

#[test]
fn a_text_that_just_fits_is_read_whole() {
    let room = room();
    let fitting = ["word"; 246].join(" ");
    let other = format!("{} dog", ["word"; 245].join(" "));
    let record = classify(&room, &["-l", &fitting, &other]).record();
    assert_ne!(
        number(&record, &fitting, "cosine"),
        number(&record, &other, "cosine")
    );
}
