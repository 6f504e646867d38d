//! Training, validation and test parts of `longclip probe`, and the models of their files.

use crate::probe::{clusters, dataset, embedded, longclip, probe};
use crate::room::Room;

#[test]
fn a_test_image_that_was_trained_on_is_an_error() {
    let room = Room::new();
    dataset(&room, "train", 4);
    dataset(&room, "val", 2);
    room.file("more/green/a.png", crate::room::png("a"));
    room.file("more/pale-blue/b.png", crate::room::png("b"));
    let list = "path,label\ntrain/green/1.png,green\nmore/green/a.png,green\nmore/pale-blue/b.png,pale-blue\n";
    room.file("list.csv", list);
    let refused = |arguments: &[&str], parts: &[&str]| {
        let all = [arguments, &["--out", "p.safetensors"]].concat();
        probe(&room, &all).ends_with(2).says(parts);
        assert!(!room.path("p.safetensors").exists(), "{arguments:?}");
    };
    refused(
        &["train", "--test", "val", "--val", "./val"],
        &["val is both --test and --val"],
    );
    refused(
        &["train", "--test", "list.csv"],
        &[
            "1 of 3 test images are also training images, such as",
            "train/green/1.png",
        ],
    );
    // Validation on training images is a warning, and so are duplicates.
    let arguments = ["train", "--test", "val", "--val", "list.csv", "--l2", "1"];
    let ran = probe(&room, &arguments).ends_with(0);
    ran.says(&[
        "1 of 3 validation images are also training images",
        "6 test images have the same embedding as a training image",
    ]);
    let rows = clusters("a", 3, 6, 4);
    room.file("one.jsonl", embedded(&rows, "m"));
    room.file("copy.jsonl", embedded(&rows[5..12], "m"));
    refused(
        &["one.jsonl", "--test", "copy.jsonl"],
        &["7 of 7 test images are also training images"],
    );
}

#[test]
fn row_names_of_embeddings_are_inputs_too() {
    let room = Room::new();
    dataset(&room, "train", 3);
    longclip(&room, "embed", &["train", "-o", "e.npy"]).ends_with(0);
    let names = room.read("e.paths.jsonl");
    let lost = "the output e.paths.jsonl holds the row names of e.npy";
    for flag in ["--out", "--report"] {
        let ran = probe(&room, &["e.npy", "--l2", "1", flag, "e.paths.jsonl"]);
        ran.ends_with(2).says(&[lost]);
    }
    let ran = longclip(&room, "search", &["e.npy", "red", "-o", "e.paths.jsonl"]);
    ran.ends_with(2).says(&[lost]);
    assert_eq!(room.read("e.paths.jsonl"), names);
}

#[test]
fn embeddings_with_other_settings_are_reported() {
    let room = Room::new();
    dataset(&room, "train", 3);
    dataset(&room, "test", 2);
    longclip(&room, "embed", &["train", "-o", "a.npy"]).ends_with(0);
    let half = ["train", "-o", "half.npy", "--dtype", "f16"];
    longclip(&room, "embed", &half).ends_with(0);
    let black = ["test", "-o", "black.npy", "--alpha", "black"];
    longclip(&room, "embed", &black).ends_with(0);
    let asked = |data: [&str; 2]| {
        let arguments = [data[0], "--test", data[1], "--l2", "1"];
        probe(&room, &arguments).ends_with(0)
    };
    asked(["a.npy", "black.npy"]).says(&[
        "a.npy and black.npy were made with different settings",
        "settings: alpha=white",
        "and alpha=black",
    ]);
    asked(["train", "black.npy"])
        .says(&["black.npy and the images of this run were made with different settings"]);
    longclip(&room, "embed", &["test", "-o", "b.npy"]).ends_with(0);
    for data in [["half.npy", "b.npy"], ["train", "b.npy"]] {
        let ran = asked(data);
        assert!(!ran.stderr().contains("different settings"), "{data:?}");
    }
}

#[test]
fn classes_without_a_name_are_not_written() {
    let room = Room::new();
    let mut rows = clusters("x", 2, 6, 3);
    for (path, _) in &mut rows {
        *path = path.replace("class1", " ");
    }
    room.file("all.jsonl", embedded(&rows, "m"));
    let arguments = ["all.jsonl", "--l2", "1"];
    probe(&room, &arguments).ends_with(0);
    let ran = probe(
        &room,
        &[&arguments[..], &["--out", "p.safetensors"]].concat(),
    );
    ran.ends_with(2).says(&[
        "cannot use the class names of all.jsonl",
        "one of the classes has no name",
    ]);
    assert!(!room.path("p.safetensors").exists());
}

#[test]
fn an_existing_probe_is_kept_unless_forced() {
    let room = Room::new();
    room.file("e.jsonl", embedded(&clusters("x", 2, 6, 3), "m"));
    room.file("p.safetensors", "mine");
    let arguments = ["e.jsonl", "--l2", "1", "--out", "p.safetensors"];
    let ran = probe(&room, &arguments).ends_with(2);
    ran.says(&["p.safetensors exists; pass --force to overwrite it"]);
    assert_eq!(room.read("p.safetensors"), "mine");
    probe(&room, &[&arguments[..], &["--force"]].concat()).ends_with(0);
    assert!(std::fs::metadata(room.path("p.safetensors")).unwrap().len() > 100);
}

#[test]
fn a_file_names_the_model_that_it_was_made_with() {
    let room = Room::new();
    dataset(&room, "train", 3);
    let run = |arguments: &[&str]| room.longclip(arguments, &[]);
    run(&["embed", "train", "-o", "e.npy", "--model", "tiny"]).ends_with(0);
    let made = "e.npy was made with model tiny, but this run uses";
    for more in [&[][..], &["--model", "clip-vit-b-32"]] {
        let blend = ["probe", "e.npy", "--blend", "0.5"];
        let ran = run(&[&blend[..], more].concat()).ends_with(2);
        let ran = ran.says(&[made, "pass --model tiny"]);
        assert!(!ran.stderr().contains("download"), "{}", ran.stderr());
    }
    let arguments = [
        "probe",
        "e.npy",
        "--l2",
        "1",
        "--out",
        "p.safetensors",
        "--model",
        "tiny",
    ];
    run(&arguments).ends_with(0).says(&["--model is not used"]);
    let note = "using model tiny, which p.safetensors was made with";
    for command in ["classify", "evaluate"] {
        let asked = [command, "train", "--probe", "p.safetensors"];
        run(&asked).ends_with(0).says(&[note]);
        let other = run(&[&asked[..], &["--model", "clip-vit-b-32"]].concat()).ends_with(2);
        other.says(&["p.safetensors was made with model tiny"]);
    }
    room.file("own.jsonl", embedded(&clusters("x", 2, 6, 3), "./own.pt"));
    run(&["probe", "own.jsonl", "--out", "own.safetensors"]).ends_with(0);
    let ran = run(&["classify", "train", "--probe", "own.safetensors"]).ends_with(2);
    ran.says(&[
        "own.safetensors was made with model ./own.pt",
        "pass --model ./own.pt",
    ]);
}

#[test]
fn the_help_says_what_labels_mean_for_a_probe() {
    let room = Room::new();
    dataset(&room, "train", 2);
    let help = room.longclip(&["probe", "--help"], &[]).ends_with(0).out;
    assert!(!help.contains("IMAGE or DATASET before them"), "{help}");
    assert!(help.contains("Texts that stand for the classes"), "{help}");
    let ran = room.longclip(&["probe", "--labels", "cat", "dog", "train"], &[]);
    ran.ends_with(2)
        .says(&["longclip probe <DATA> --labels <TEXT>..."]);
    let named = ["train", "--l2", "1", "--labels", "cat", "dog", "ox"];
    let ran = probe(&room, &named).ends_with(2);
    ran.says(&[
        "no label matches the class \"dark_red\"",
        "evaluate and calibrate also take --class-map",
    ]);
}
