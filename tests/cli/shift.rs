//! `longclip shift`: two sets of images or embeddings, with and without labels.

use serde_json::{Value, json};

use crate::probe::{Rows, clusters, dataset, embedded, longclip, results};
use crate::room::{Ran, Room, labels};
use crate::schema::assert_fits;
use crate::small;

/// The labels of the folders that `dataset` writes.
const LABELS: [&str; 4] = ["--labels", "dark red", "green", "pale blue"];

/// Two files of embeddings from one distribution, and one from another.
fn room() -> Room {
    let room = Room::new();
    let write = |name: &str, rows: &Rows| room.file(name, embedded(rows, "some/model"));
    write("a.jsonl", &clusters("a", 3, 30, 1));
    write("b.jsonl", &clusters("b", 3, 40, 2));
    // Only the third kind of image.
    let other = clusters("c", 3, 60, 3).into_iter();
    let other: Rows = other.filter(|(path, _)| path.contains("class2")).collect();
    write("c.jsonl", &other);
    room
}

fn shift(room: &Room, arguments: &[&str]) -> Ran {
    room.longclip(&[&["shift", "-f", "json"], arguments].concat(), &[])
}

fn number(found: &Value, place: &str) -> f64 {
    found.pointer(place).unwrap().as_f64().unwrap()
}

#[test]
fn embeddings_of_one_distribution_are_alike_and_others_are_not() {
    let room = room();
    let same = results(&shift(&room, &["a.jsonl", "b.jsonl", "--max-p", "0.01"]).ends_with(0));
    assert_fits(std::slice::from_ref(&same), "shift");
    assert!(number(&same, "/mmd/p") > 0.05, "{same}");
    assert!(
        same["summary"]
            .as_str()
            .unwrap()
            .starts_with("no difference"),
        "{same}"
    );
    assert_eq!(
        (&same["a"]["images"], &same["b"]["images"]),
        (&90.into(), &120.into())
    );
    assert!(same["answers"].is_null() && same["accuracy"].is_null());
    assert_eq!(same["model"]["name"], "some/model");
    let ran = shift(&room, &["a.jsonl", "c.jsonl", "--max-p", "0.01"]).ends_with(1);
    let other = results(&ran.says(&["--max-p: the sets differ with p = 0.0010"]));
    assert_fits(std::slice::from_ref(&other), "shift");
    assert_eq!(number(&other, "/mmd/p"), 1.0 / 1001.0);
    assert_eq!(other["summary"], "B differs from A (p = 0.001)");
    for place in ["/mmd/squared", "/cmmd/value", "/frechet/value", "/c2st/auc"] {
        assert!(number(&other, place) > number(&same, place), "{place}");
    }
    // The same bytes again; another seed draws others.
    let again = shift(
        &room,
        &["a.jsonl", "c.jsonl", "--seed", "0", "--max-p", "0.01"],
    );
    let mut again = results(&again.ends_with(1));
    again["arguments"] = other["arguments"].clone();
    assert_eq!(again, other);
    let seeds = ["a.jsonl", "b.jsonl", "--seed", "1"];
    let seeded = results(&shift(&room, &seeds).ends_with(0));
    assert_ne!(seeded["mmd"]["p"], same["mmd"]["p"]);
    // Of large sets some images are drawn, which is said.
    let ran = shift(&room, &["a.jsonl", "b.jsonl", "--most", "50"]).ends_with(0);
    let few = results(&ran.says(&["50 of the 120 images of B"]));
    assert_eq!(
        (&few["b"]["used"], &few["b"]["images"]),
        (&50.into(), &120.into())
    );
}

#[test]
fn labels_add_answers_accuracy_and_label_shares() {
    let room = Room::new();
    dataset(&room, "a", 18);
    dataset(&room, "b", 17);
    let run = |more: &[&str]| {
        let arguments = [&["a", "b", "-f", "json"], &LABELS[..], more].concat();
        results(&longclip(&room, "shift", &arguments).ends_with(0))
    };
    let both = run(&[]);
    assert_fits(std::slice::from_ref(&both), "shift");
    assert_eq!(both["a"]["labelled"], true);
    let [a, b] = ["/accuracy/a", "/accuracy/b"].map(|place| number(&both, place));
    assert!((number(&both, "/accuracy/measured/drop") - (a - b)).abs() < 1e-12);
    // As evaluate measures it.
    let arguments = [&["a", "-f", "json"], &LABELS[..]].concat();
    let evaluated = results(&longclip(&room, "evaluate", &arguments).ends_with(0));
    assert_eq!(evaluated["acc1"].as_f64().unwrap(), a);
    let rows = both["answers"]["per_label"].as_array().unwrap();
    let counted: u64 = rows
        .iter()
        .map(|row| row["counts"][1].as_u64().unwrap())
        .sum();
    assert_eq!((rows.len(), counted), (3, 51));
    let shares = both["label_shares"]["per_label"].as_array().unwrap();
    let sum: f64 = shares.iter().map(|row| row["em"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-6);
    assert_eq!(shares[0]["a"], shares[0]["b"]);
    // Sets of pictures of one size; the files are measured, embeddings are not.
    let pictures = &both["pictures"];
    assert_eq!(pictures["images"], json!([54, 51]));
    let rows = pictures["per_statistic"].as_array().unwrap();
    let names: Vec<&str> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["width", "height", "brightness", "contrast", "sharpness"]
    );
    assert_eq!(rows[0]["medians"], json!([32.0, 32.0]));

    // Embeddings carry the folders in their paths.
    for set in ["a", "b"] {
        let out = format!("{set}.npy");
        longclip(&room, "embed", &[set, "-o", &out]).ends_with(0);
    }
    let arguments = [&["a.npy", "b.npy", "-f", "json"], &LABELS[..]].concat();
    let mut files = results(&longclip(&room, "shift", &arguments).ends_with(0));
    for key in ["arguments", "a", "b", "pictures"] {
        files[key] = both[key].clone();
    }
    assert_eq!(files, both);

    // Without labels of B, the accuracy is expected only.
    for number in 0..9 {
        room.image(format!("plain/{number}.png"));
    }
    let arguments = [&["a", "plain", "-f", "table"], &LABELS[..]].concat();
    let ran = longclip(&room, "shift", &arguments).ends_with(0);
    let out = ran.says(&["B has 9 images; with fewer than 50"]).out;
    for part in [
        "; expected accuracy ",
        "expected on B (ATC)",
        "true label ",
        "plain (9 images)",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    // Folders that are not labels are not taken for them, which is said.
    let arguments = ["a", "b", "--labels", "ox", "emu"];
    let ran = longclip(&room, "shift", &arguments).ends_with(0);
    let found = ran.says(&["a counts as images without true labels"]);
    assert!(found.out.contains("\"accuracy\": null"), "{}", found.out);

    room.file("others.csv", "model,a,b\nx,0.5,0.4\ny,0.7,0.5\n");
    let page = ["--report", "page.html"];
    let limits = ["--baseline", "others.csv", "--max-drop", "1"];
    let robust = run(&[&limits[..], &page].concat());
    let page = room.read("page.html");
    for part in [
        robust["summary"].as_str().unwrap(),
        "Two sets",
        "How often each label is the answer",
        "Shares of the true labels",
        "Recall of each label",
        "Medians of the pictures",
        "Effective robustness",
    ] {
        assert!(
            page.contains(&part.replace('>', "&gt;").replace('"', "&quot;")),
            "{part}"
        );
    }
    assert_fits(std::slice::from_ref(&robust), "shift");
    let found = &robust["accuracy"]["effective_robustness"];
    assert_eq!(found["models"], 2);
    let value = found["value"].as_f64().unwrap() + found["expected"].as_f64().unwrap();
    assert!((value - b).abs() < 1e-12, "{found}");
}

#[test]
fn an_accuracy_that_falls_misses_the_limit() {
    let names: Vec<String> = (0..4).map(|number| format!("{number}.png")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let room = Room::with(&names);
    // The same pictures under the label that is answered, and under the other one.
    for name in names {
        let arguments = [name, "--labels", "cat", "dog"];
        let answer = longclip(&room, "classify", &arguments)
            .ends_with(0)
            .record();
        let answer = labels(&answer)[0].to_owned();
        let other = if answer == "cat" { "dog" } else { "cat" };
        let image = std::fs::read(room.path(name)).unwrap();
        room.file(format!("a/{answer}/{name}"), &image);
        room.file(format!("b/{other}/{name}"), &image);
    }
    let arguments = ["a", "b", "-f", "json", "--labels", "cat", "dog"];
    let ran = longclip(&room, "shift", &arguments).ends_with(0);
    let ran = ran.says(&["every image of B is also in A: this is the same set twice"]);
    let found = results(&ran);
    assert_eq!(number(&found, "/accuracy/measured/drop"), 1.0);
    assert!(
        found["summary"]
            .as_str()
            .unwrap()
            .contains("; accuracy 0.00, was 1.00"),
        "{found}"
    );
    let limit = |limit, code| {
        let arguments = [&arguments[..], &["--max-drop", limit]].concat();
        longclip(&room, "shift", &arguments).ends_with(code)
    };
    limit("1", 0);
    limit("0.9", 1).says(&["--max-drop: the measured accuracy drops by 1.0000, more than 0.9"]);
}

#[test]
fn what_cannot_be_compared_is_refused_with_a_reason() {
    let room = room();
    room.image("one/1.png");
    room.image("two/1.png");
    room.image("two/2.png");
    room.file(
        "other.jsonl",
        embedded(&clusters("a", 3, 30, 1), "another/model").replace("abab", "cdcd"),
    );
    room.file("texts.txt", "a\nb\n");
    longclip(&room, "embed", &["--texts", "texts.txt", "-o", "texts.npy"]).ends_with(0);
    room.file("bad.csv", "a,b\n1.5,0.2\n");
    let model = ["--model", small::model()];
    let cases: [(&[&str], &[&str]); 12] = [
        (
            &["a.jsonl", "other.jsonl"],
            &["embed both with the same model"],
        ),
        (&["a.jsonl", "texts.npy"], &["holds embeddings of texts"]),
        (&["one", "two"], &["one has one image", "at least two"]),
        (&["two", "missing"], &["missing"]),
        (&["two", "missing.npy"], &["missing.npy"]),
        (&["two", "one", "--labels", "cat"], &["a single label"]),
        (
            &["two", "two", "--max-p", "0.0001"],
            &["--max-p 0.0001 is never reached"],
        ),
        (&["two", "two", "--max-drop", "0.1"], &["need labels"]),
        (
            &["two", "two", "--labels", "x", "y", "--max-drop", "0.1"],
            &["two has no true labels"],
        ),
        (&["two", "two", "--templates", "photo"], &["need labels"]),
        (
            &["two", "two", "--labels", "x", "y", "--baseline", "bad.csv"],
            &["1.5 has no logit"],
        ),
        (
            &["two", "two", "--labels", "x", "y", "--baseline", "a.jsonl"],
            &["columns a and b"],
        ),
    ];
    for (arguments, said) in cases {
        let all = [&["shift"], arguments, &model].concat();
        // The file of embeddings names a model of its own.
        let all = match arguments[0] {
            "a.jsonl" => &all[..all.len() - 2],
            _ => &all[..],
        };
        room.longclip(all, &[]).ends_with(2).says(said);
    }
    // Small sets, and a set with itself, are compared, and what it means is said.
    let ran = shift(&room, &["a.jsonl", "a.jsonl"]).ends_with(0);
    let found = results(&ran.says(&["the same set twice"]));
    assert_eq!(found["duplicates"]["of_b"], 90);
    assert_eq!(number(&found, "/cmmd/value"), 0.0);
    assert!(number(&found, "/mmd/p") > 0.9 && number(&found, "/frechet/value").abs() < 1e-6);
    longclip(&room, "shift", &["two", "two"])
        .ends_with(0)
        .says(&["A has 2 images; with fewer than 50", "the same set twice"]);
}
