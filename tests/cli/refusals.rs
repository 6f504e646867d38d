//! Commands that cannot run: exit code 2, nothing on stdout, and a helpful error.

use crate::room::Room;
use crate::small;

/// A command line, and parts of its error.
const MISTAKES: [(&str, &[&str]); 23] = [
    ("", &["Usage: longclip", "classify"]),
    (
        "clasify a.png -l x y",
        &["unrecognized subcommand 'clasify'", "'classify'"],
    ),
    (
        "classify",
        &["no image given; pass image files or folders, - for stdin"],
    ),
    (
        "classify a.png",
        &["no labels given; add --labels TEXT TEXT… or --labels-file FILE"],
    ),
    (
        "classify -l x a.png y",
        &["put images first: longclip classify a.png --labels"],
    ),
    (
        "classify a.png --label x y",
        &["unexpected argument '--label'", "'--labels'"],
    ),
    (
        "classify a.png -l x",
        &["softmax over one label", "--score cosine"],
    ),
    ("classify a.png -l x x", &["label \"x\" occurs twice"]),
    (
        "classify a.png -l x y -m longclip-bb",
        &["\"longclip-bb\" is not a model", "longclip-b?"],
    ),
    (
        "classify a.png -l x y -m ./gone.pt",
        &["there is no file or folder \"./gone.pt\""],
    ),
    (
        "classify a.png -l x y -m a.png",
        &["a.png", "not a weight file: it is a PNG image"],
    ),
    (
        "classify a.png -l x y -f xml",
        &["invalid value 'xml'", "table, json, jsonl, csv, tsv"],
    ),
    (
        "classify a.png -l x y -k 0",
        &["invalid value '0'", "--top-k", "1..="],
    ),
    (
        "classify a.png -l x y --threshold high",
        &["'high'", "--threshold", "a number"],
    ),
    (
        "classify a.png -l x y --threshold nan",
        &["'nan'", "a number"],
    ),
    (
        "classify a.png -l x y --score soft",
        &["'soft'", "softmax, cosine, logit, sigmoid"],
    ),
    (
        "classify a.png -l x y --device gpu",
        &["'gpu'", "auto, cpu, cuda, cuda:N or metal"],
    ),
    ("classify a.png -l x y --precision f64", &["'f64'", "bf16"]),
    (
        "classify a.png -l x y --max-pixels many",
        &["'many'", "--max-pixels"],
    ),
    ("classify a.png -l x y -0", &["--files-from"]),
    ("classify - - -l x y", &["- can be given only once"]),
    (
        "classify - --files-from - -l x y",
        &["stdin cannot be both an image (-) and a list"],
    ),
    (
        "classify a.png --nonsense",
        &["Usage: longclip classify [OPTIONS] <IMAGE>... --labels <TEXT>..."],
    ),
];

#[test]
fn mistyped_commands_get_a_hint() {
    let room = Room::with(&["a.png", "b.png"]);
    for (line, words) in MISTAKES {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let model = [("LONGCLIP_MODEL", small::model())];
        let ran = room.longclip(&arguments, &model).ends_with(2).says(words);
        assert_eq!(ran.out, "", "{line}");
    }
}

#[test]
fn an_unavailable_device_or_precision_is_never_replaced() {
    let room = Room::with(&["a.png"]);
    let run = |more: &[&str]| room.classify(&[more, &["a.png", "-l", "x", "y"]].concat());
    run(&["--precision", "f16", "--device", "cpu"])
        .ends_with(2)
        .says(&[
            "the CPU does not support f16",
            "--precision f32, bf16, int8 or int8-fast",
        ]);
    if !cfg!(feature = "cuda") {
        run(&["--device", "cuda"])
            .ends_with(2)
            .says(&["built without CUDA", "--device cpu"]);
        run(&["--device", "cuda:1"]).ends_with(2);
    }
    if !cfg!(feature = "metal") {
        run(&["--device", "metal"])
            .ends_with(2)
            .says(&["built without Metal"]);
    }
}

#[test]
fn mistakes_are_found_before_the_model_is_resolved() {
    let room = Room::with(&["a.png"]);
    // This model does not exist; other mistakes must be reported first.
    let offline = [("HF_HUB_OFFLINE", "1")];
    let cases: [(&str, &str); 5] = [
        ("classify a.png -l x y -o gone/out", "the folder gone"),
        ("classify a.png -l x y -o .", "is a folder"),
        (
            "classify --files-from gone -l x y",
            "cannot open the list gone",
        ),
        ("classify - - -l x y", "- can be given only once"),
        ("classify a.png --labels-file gone", "nor a file"),
    ];
    for (line, words) in cases {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let ran = room
            .longclip(&arguments, &offline)
            .ends_with(2)
            .says(&[words]);
        assert!(!ran.stderr().contains("HF_HUB_OFFLINE"), "{}", ran.stderr());
    }
}

#[test]
fn huge_counts_are_refused() {
    let room = Room::with(&["a.png"]);
    for flag in ["--threads", "--batch-size"] {
        for count in ["0", "-1", "65537", "two"] {
            let ran = room.classify(&["a.png", "-l", "x", "y", &format!("{flag}={count}")]);
            ran.ends_with(2).says(&[flag, count]);
        }
    }
    // This many threads would abort, or paralyse the machine.
    let ran = room
        .classify(&["a.png", "-l", "x", "y", "--threads", "20000"])
        .ends_with(2);
    ran.says(&["20000 is not in 1..=1024"]);
    // The maximum works, if slowly.
    room.classify(&["a.png", "-l", "x", "y", "--threads", "1024"])
        .ends_with(0);
    room.classify(&["a.png", "-l", "x", "y", "--batch-size", "1024"])
        .ends_with(0);
}

#[test]
fn an_output_that_is_also_an_input_is_refused() {
    let room = Room::with(&["a.png", "folder/b.png"]);
    room.file("labels.txt", "x\ny\n");
    room.file("list.txt", "a.png\n");
    let before = std::fs::read(room.path("a.png")).unwrap();
    for arguments in [
        vec!["a.png", "-l", "x", "y", "-o", "./a.png"],
        vec!["folder", "-l", "x", "y", "-o", "folder/b.png"],
        vec!["a.png", "--labels-file", "labels.txt", "-o", "labels.txt"],
        vec!["--files-from", "list.txt", "-l", "x", "y", "-o", "list.txt"],
    ] {
        let ran = room.classify(&arguments).ends_with(2);
        ran.says(&["is also an input", "is not overwritten"]);
    }
    assert_eq!(std::fs::read(room.path("a.png")).unwrap(), before);
    assert_eq!(room.read("labels.txt"), "x\ny\n");
    // A result next to the images is not an input.
    room.classify(&["folder", "-l", "x", "y", "-o", "folder/out.jsonl"])
        .ends_with(0);
    room.classify(&["folder", "-l", "x", "y", "-o", "folder/out.jsonl"])
        .ends_with(0);
}

#[test]
fn a_threshold_out_of_range_is_refused() {
    let room = Room::with(&["a.png"]);
    for (score, threshold, words) in [
        ("softmax", "50", "between 0 and 1"),
        ("sigmoid", "-0.1", "between 0 and 1"),
        ("cosine", "1.5", "between -1 and 1"),
    ] {
        let threshold = format!("--threshold={threshold}");
        let arguments = ["a.png", "-l", "x", "y", "--score", score, &threshold];
        room.classify(&arguments).ends_with(2).says(&[words]);
    }
    room.classify(&[
        "a.png",
        "-l",
        "x",
        "y",
        "--score",
        "logit",
        "--threshold=50",
    ])
    .ends_with(0);
}
