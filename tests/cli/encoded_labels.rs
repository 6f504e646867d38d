//! `longclip labels`, and its files as `--probe`.

use serde_json::Value;

use crate::room::{Ran, Room};
use crate::schema::assert_fits;
use crate::small;

fn room() -> Room {
    let room = Room::with(&["d/cat/a.png", "d/cat/b.png", "d/dog/c.png", "d/dog/e.png"]);
    room.broken("d/dog/x.png");
    room.file(
        "labels.csv",
        "label,alias,key\ncat,kitten,n1\ndog,,n2\na bird,,n3\n",
    );
    room
}

fn labels(room: &Room, more: &[&str]) -> Ran {
    let output = match more.contains(&"-o") {
        true => &[][..],
        false => &["-o", "l.safetensors"],
    };
    let start = ["labels", "-m", small::model()];
    room.longclip(&[&start, output, more].concat(), &[])
}

#[test]
fn records_are_the_bytes_of_the_same_texts() {
    let room = room();
    let file = ["--labels-file", "labels.csv"];
    let none = ["--none-label", "none", "--background", "a street", "a wall"];
    let long = [
        "--labels",
        "cat",
        &"a very long dog ".repeat(40),
        "--long-text",
        "chunk-mean",
    ];
    let score = |name| ["--score", name];
    // What shapes the texts, what only classify takes, and what labels takes for that.
    let cases: [(&[&str], &[&str], &[&str]); 8] = [
        (&file, &[], &[]),
        (&file, &score("cosine"), &[]),
        (&file, &score("logit"), &[]),
        (&file, &["-k", "2", "--threshold", "0.2"], &[]),
        (&[&file[..], &["--templates", "openai7"]].concat(), &[], &[]),
        (&[&file[..], &none].concat(), &["-f", "json"], &[]),
        (&file, &score("sigmoid"), &score("sigmoid")),
        (&long, &[], &[]),
    ];
    for (texts, more, score) in cases {
        labels(&room, &[texts, score].concat()).ends_with(0);
        let written = room.classify(&[&["d"], texts, more].concat()).ends_with(1);
        let encoded = room.classify(&[&["d", "--probe", "l.safetensors"], more].concat());
        assert_eq!(encoded.ends_with(1).out, written.out, "{texts:?} {more:?}");
    }
}

#[test]
fn figures_and_digests_are_those_of_the_same_texts() {
    let room = room();
    let evaluated = |more: &[&str]| -> Value {
        let start = ["evaluate", "d", "-m", small::model(), "-f", "json"];
        let ran = room.longclip(&[&start, more].concat(), &[]).ends_with(1);
        serde_json::from_str(&ran.out).unwrap()
    };
    let keys = ["acc1", "nll", "ece", "n"];
    room.file("named.txt", "cat\ndog\n");
    labels(&room, &["--labels-file", "named.txt"]).ends_with(0);
    let (written, encoded) = (
        evaluated(&["--labels-file", "named.txt"]),
        evaluated(&["--probe", "l.safetensors"]),
    );
    for key in keys {
        assert!(written[key].is_number(), "{written}");
        assert_eq!(written[key], encoded[key], "{key}");
    }
    let summary = |more: &[&str]| -> Value {
        room.classify(&[&["d", "-o", "o.jsonl", "--summary", "s.json"], more].concat())
            .ends_with(1);
        let summary = serde_json::from_str(&room.read("s.json")).unwrap();
        assert_fits(std::slice::from_ref(&summary), "summary");
        summary
    };
    let (written, encoded) = (
        summary(&["--labels-file", "named.txt"]),
        summary(&["--probe", "l.safetensors"]),
    );
    assert_eq!(written["labels_sha256"], encoded["labels_sha256"]);
    assert!(encoded["probe_sha256"].is_string() && written.get("probe_sha256").is_none());
    // The same file from the same texts.
    let first = std::fs::read(room.path("l.safetensors")).unwrap();
    labels(&room, &["--labels-file", "named.txt"]).ends_with(0);
    assert!(std::fs::read(room.path("l.safetensors")).unwrap() == first);
}

#[test]
fn a_file_for_something_else_is_refused() {
    let room = room();
    let texts = ["--labels", "cat", "dog"];
    labels(&room, &texts).ends_with(0);
    let probe = ["d/cat/a.png", "--probe", "l.safetensors"];
    let refused = |more: &[&str], says: &[&str]| {
        room.classify(&[&probe, more].concat())
            .ends_with(2)
            .says(says);
    };
    refused(
        &["--score", "sigmoid"],
        &["was made for --score softmax, cosine and logit"],
    );
    refused(
        &["--precision", "int8"],
        &["was made with --precision", "this run uses int8"],
    );
    refused(&["-l", "cat"], &["--probe"]);
    let other = [
        "classify",
        "d/cat/a.png",
        "--probe",
        "l.safetensors",
        "-m",
        "tiny",
    ];
    room.longclip(&other, &[])
        .ends_with(2)
        .says(&["pass --model"]);
    labels(&room, &[&texts[..], &["--score", "sigmoid"]].concat()).ends_with(0);
    refused(&[], &["was made for --score sigmoid"]);
    labels(&room, &["--labels", "cat"]).ends_with(0);
    refused(&[], &["softmax over one label"]);
    room.classify(&[&probe[..], &["--score", "cosine"]].concat())
        .ends_with(0);
    labels(&room, &[&texts[..], &["--none-label", "none"]].concat()).ends_with(0);
    let evaluate = [
        "evaluate",
        "d",
        "-m",
        small::model(),
        "--probe",
        "l.safetensors",
    ];
    room.longclip(&evaluate, &[])
        .ends_with(2)
        .says(&["has a none label"]);
    std::fs::remove_file(room.path("l.safetensors")).unwrap();
    for (more, says) in [
        (
            &["--long-text", "best-chunk"][..],
            "another embedding for each image",
        ),
        (&["-o", "l.json"], "ends in .safetensors"),
        (&["--score", "cosine"], "cosine"),
    ] {
        labels(&room, &[&texts[..], more].concat())
            .ends_with(2)
            .says(&[says]);
    }
    assert!(!room.path("l.safetensors").exists());
}
