//! Built-in label sets, tables of labels, and texts that stand for "none of the labels".

use serde_json::Value;

use crate::room::{Ran, Room, labels, number};

fn room() -> Room {
    Room::with(&["a.png"])
}

fn classify(room: &Room, arguments: &[&str]) -> Ran {
    room.classify(&[&["a.png"], arguments].concat())
        .ends_with(0)
}

fn logits(record: &Value, names: &[&str]) -> Vec<f64> {
    let logits = names.iter().map(|name| number(record, name, "logit"));
    logits.collect()
}

/// The total probability of the first `count` of `logits`.
fn share(logits: &[f64], count: usize) -> f64 {
    let weights: Vec<f64> = logits.iter().map(|logit| logit.exp()).collect();
    weights[..count].iter().sum::<f64>() / weights.iter().sum::<f64>()
}

#[test]
fn built_in_labels_go_by_name_and_a_path_reaches_a_file_of_that_name() {
    let room = room();
    let record = classify(&room, &["--labels-file", "cifar10"]).record();
    let mut found = labels(&record);
    found.sort_unstable();
    assert_eq!(found[..3], ["airplane", "automobile", "bird"]);
    assert_eq!(found.len(), 10);
    room.file("cifar10", "cat\ndog\n");
    let record = classify(&room, &["--labels-file", "./cifar10"]).record();
    assert_eq!(labels(&record).len(), 2);
    let ran = room.classify(&["a.png", "--labels-file", "cifar11"]);
    ran.ends_with(2).says(&[
        "neither a built-in set (imagenet, ",
        "cifar100",
        "nor a file",
    ]);
}

#[test]
fn imagenet_has_a_thousand_distinct_labels() {
    let room = room();
    let record = classify(&room, &["--labels-file", "imagenet", "--score", "cosine"]).record();
    let mut found = labels(&record);
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 1000);
    // Two classes are published with the same name: their labels differ, their scores do not.
    assert_eq!(
        number(&record, "missile", "cosine"),
        number(&record, "missile (projectile)", "cosine")
    );
}

#[test]
fn rows_of_one_label_are_one_class() {
    let room = room();
    room.file(
        "l.csv",
        "label,prompt\npet,a cat\ncar,a red car\npet,a dog\nsky,\n",
    );
    room.file("l.tsv", "pet\ta cat\ta dog\ncar\ta red car\nsky\n");
    room.file(
        "l.json",
        r#"{"pet": ["a cat", "a dog"], "car": "a red car", "sky": []}"#,
    );
    let expected = classify(&room, &["--labels-file", "l.json"]).out;
    for file in ["l.csv", "l.tsv"] {
        let found = classify(&room, &["--labels-file", file]).out;
        assert_eq!(found, expected, "{file}");
    }
}

#[test]
fn aliases_are_filled_into_the_templates_and_prompts_are_not() {
    let room = room();
    let with = |file: &str, content: &str| {
        room.file(file, content);
        classify(&room, &["--labels-file", file, "--templates", "photo"])
    };
    let aliases = with("a.csv", "label,alias\ncat,kitten\ndog,\n");
    let prompts = with(
        "p.csv",
        "cat,a photo of a cat.,a photo of a kitten.\ndog,a photo of a dog.\n",
    );
    assert_eq!(aliases.out, prompts.out);
    assert_eq!(aliases.stderr(), "");
    prompts.says(&["warning: the templates are ignored", "complete prompts"]);
}

#[test]
fn an_unused_column_is_named() {
    let room = room();
    room.file("l.csv", "label,count\ncat,1\ndog,2\n");
    let ran = classify(&room, &["--labels-file", "l.csv"]);
    assert_eq!(labels(&ran.record()).len(), 2);
    ran.says(&["warning: column \"count\" is not read"]);
}

#[test]
fn a_none_label_is_one_more_label_without_sigmoid() {
    let room = room();
    for score in ["softmax", "cosine", "logit"] {
        let more = &["--score", score, "--templates", "photo"];
        let none = ["-l", "cat", "dog", "--none-label", "something else"];
        let label = ["-l", "cat", "dog", "something else"];
        let [none, label] = [none.to_vec(), label.to_vec()]
            .map(|arguments| classify(&room, &[&arguments, &more[..]].concat()).out);
        assert_eq!(none, label, "{score}");
    }
    let one = classify(&room, &["-l", "cat", "--none-label", "no cat"]).record();
    assert_eq!(labels(&one).len(), 2);
    let twice = ["a.png", "-l", "cat", "dog", "--none-label", "dog"];
    room.classify(&twice)
        .ends_with(2)
        .says(&["\"dog\" is both a label and the none label"]);
}

#[test]
fn background_texts_compete_one_by_one_and_are_reported_together() {
    let room = room();
    let names = ["sky", "grass", "a wall", "cat", "dog"];
    let apart = classify(&room, &[&["-l"], &names[..]].concat()).record();
    let apart = logits(&apart, &names);
    let background = ["--background", "sky", "grass", "a wall"];
    let arguments = [&["-l", "cat", "dog"], &background[..]].concat();
    let together = classify(&room, &arguments).record();
    assert_eq!(labels(&together).len(), 3);
    let probability = |label| number(&together, label, "probability");
    assert!((probability("none of these") - share(&apart, 3)).abs() < 1e-5);
    let rest = share(&apart[3..], 1) * (1.0 - share(&apart, 3));
    assert!((probability("cat") - rest).abs() < 1e-5);
    let sum: f64 = apart[..3].iter().map(|logit| logit.exp()).sum();
    assert!((number(&together, "none of these", "logit") - sum.ln()).abs() < 1e-4);
    let named = classify(
        &room,
        &[&arguments[..], &["--none-label", "scenery"]].concat(),
    );
    assert!(labels(&named.record()).contains(&"scenery"));
    room.file("background.txt", "sky\ngrass\na wall\n");
    let file = ["-l", "cat", "dog", "--background-file", "background.txt"];
    assert_eq!(classify(&room, &file).record(), together);
}

#[test]
fn background_texts_join_what_a_sigmoid_compares_with() {
    let room = room();
    let names = ["a photo", "sky", "grass", "cat"];
    let apart = classify(&room, &[&["-l"], &names[..]].concat()).record();
    let apart = logits(&apart, &names);
    let arguments = ["-l", "cat", "--score", "sigmoid", "--background", "sky"];
    let record = classify(&room, &[&arguments[..], &["grass"]].concat()).record();
    assert_eq!(labels(&record), ["cat"]);
    let none: f64 = apart[..3].iter().map(|logit| logit.exp()).sum();
    let expected = 1.0 / (1.0 + none / apart[3].exp());
    assert!((number(&record, "cat", "probability") - expected).abs() < 1e-4);
}

#[test]
fn labels_may_come_from_stdin_if_nothing_else_does() {
    let room = room();
    let ran = room.classify_with_stdin(&["a.png", "--labels-file", "-"], b"cat\n# no\ndog\n");
    let expected = classify(&room, &["-l", "cat", "dog"]).out;
    assert_eq!(ran.ends_with(0).out, expected);
    for more in [
        &["-"][..],
        &["--files-from", "-"],
        &["a.png", "--templates", "-"],
    ] {
        let arguments = [more, &["--labels-file", "-"]].concat();
        room.classify(&arguments)
            .ends_with(2)
            .says(&["cannot both be read from stdin"]);
    }
}

#[test]
fn one_label_with_commas_gets_a_hint() {
    let room = room();
    let ran = room.classify(&["a.png", "-l", "cat, dog"]).ends_with(2);
    ran.says(&[
        "softmax over one label",
        "separate labels with spaces, not commas: --labels \"cat\" \"dog\"",
    ]);
}
