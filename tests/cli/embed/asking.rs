//! Options of a search: a threshold, excluding the query itself, weighted sums.

use serde_json::Value;

use super::{embed, search};
use crate::room::Room;

fn hits(record: &Value) -> Vec<(&str, f64)> {
    let hits = record["hits"].as_array().unwrap().iter();
    hits.map(|hit| {
        (
            hit["image"].as_str().unwrap(),
            hit["cosine"].as_f64().unwrap(),
        )
    })
    .collect()
}

fn room() -> Room {
    let room = Room::with(&["p/a.png", "p/b.png", "p/c.png", "p/d.png"]);
    embed(&room, &["p", "-o", "o.npy"]).ends_with(0);
    room
}

#[test]
fn a_threshold_drops_lower_hits_in_every_format() {
    let room = room();
    let all = search(&room, &["o.npy", "a cat"]).ends_with(0).record();
    let all = hits(&all);
    // A score equal to the printed number reaches the threshold.
    for (kept, threshold) in [
        (2, all[1].1.to_string()),
        (0, "1".to_owned()),
        (4, "-1".to_owned()),
    ] {
        let run = |format: &str| {
            let arguments = ["o.npy", "a cat", "--threshold", &threshold, "-f", format];
            search(&room, &arguments).ends_with(0).out
        };
        let record: Value = serde_json::from_str(&run("jsonl")).unwrap();
        assert_eq!(hits(&record), all[..kept], "{threshold}");
        let array: Value = serde_json::from_str(&run("json")).unwrap();
        assert_eq!(array[0], record);
        let names: Vec<&str> = all[..kept].iter().map(|(name, _)| *name).collect();
        assert_eq!(run("paths").lines().collect::<Vec<_>>(), names);
        // A query without hits has a row of its own.
        for format in ["csv", "tsv"] {
            assert_eq!(run(format).lines().count(), 1 + kept.max(1), "{format}");
        }
        let table = run("table");
        let found = table.lines().filter(|line| line.ends_with(".png")).count();
        assert_eq!(
            (found, table.contains("no hits")),
            (kept, kept == 0),
            "{table}"
        );
    }
    for odd in ["30", "-1.5"] {
        search(&room, &["o.npy", "x", "--threshold", odd])
            .ends_with(2)
            .says(&["is out of range: cosines lie between -1 and 1"]);
    }
    search(&room, &["o.npy", "x", "--threshold", "nan"]).ends_with(2);
}

#[test]
fn a_number_of_hits_that_cuts_below_the_threshold_is_reported() {
    let room = Room::new();
    for index in 0..12 {
        room.image(format!("p/{index}.png"));
    }
    embed(&room, &["p", "-o", "o.npy"]).ends_with(0);
    let count = |more: &[&str]| {
        let ran = search(&room, &[&["o.npy", "a cat"], more].concat()).ends_with(0);
        (
            hits(&ran.record()).len(),
            ran.stderr().contains("pass -k to show more"),
        )
    };
    assert_eq!(count(&["--threshold", "-1"]), (10, true));
    assert_eq!(count(&["--threshold", "-1", "-k", "11"]), (11, false));
    assert_eq!(count(&[]), (10, false));
}

#[test]
fn the_query_itself_can_be_excluded() {
    let room = room();
    std::fs::copy(room.path("p/b.png"), room.path("copy.png")).unwrap();
    let without = |arguments: &[&str]| {
        let arguments = [&["o.npy", "--exclude-query", "-k", "3"], arguments].concat();
        let record = search(&room, &arguments).ends_with(0).record();
        let hits = hits(&record);
        assert_eq!(hits.len(), 3, "others take its place");
        hits.iter().all(|(name, _)| *name != "p/b.png")
    };
    let absolute = room.path("p/b.png");
    assert!(without(&["./p/b.png"]));
    assert!(without(&["--image", absolute.to_str().unwrap()]));
    assert!(without(&["a cat", "--add", "1", "p/b.png"]));
    // A copy in another file is another image.
    assert!(!without(&["./copy.png"]));
    // Without the flag nothing is excluded.
    let record = search(&room, &["o.npy", "p/b.png", "-k", "1"])
        .ends_with(0)
        .record();
    assert_eq!(hits(&record)[0].0, "p/b.png");
    search(&room, &["o.npy", "--image", "-", "--exclude-query"])
        .ends_with(2)
        .says(&["stdin"]);
}

#[test]
fn the_query_is_known_from_other_folders_too() {
    let room = room();
    let search_in = |folder: &str, index: &str, query: &str| {
        let mut command = room.command();
        let model = crate::small::model();
        command.current_dir(room.path(folder));
        command.args(["search", "-m", model, index, query, "--exclude-query"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    for (folder, index, query) in [
        ("p", "../o.npy", "./b.png"),
        ("p", "../o.npy", "../p/b.png"),
    ] {
        let record = search_in(folder, index, query);
        assert_eq!(hits(&record).len(), 3, "{folder} {query}");
    }
    // The index is elsewhere: name, size and modification time are the same.
    std::fs::create_dir(room.path("q")).unwrap();
    for name in ["o.npy", "o.paths.jsonl"] {
        std::fs::rename(room.path(name), room.path(format!("q/{name}"))).unwrap();
    }
    let record = search_in("p", "../q/o.npy", "./b.png");
    assert_eq!(hits(&record).len(), 3);
}

#[test]
fn texts_equal_to_the_query_can_be_excluded_too() {
    let room = Room::new();
    embed(&room, &["--text", "a cat", "a dog", "-o", "t.jsonl"]).ends_with(0);
    let record = search(&room, &["t.jsonl", "a cat", "--exclude-query"])
        .ends_with(0)
        .record();
    let hits = record["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 1);
    assert_eq!(hits[0]["text"], "a dog");
}

#[test]
fn weighted_sums_use_unit_embeddings() {
    let room = room();
    let embedding = |arguments: &[&str]| -> Vec<f64> {
        let row = embed(&room, arguments).ends_with(0).record();
        let values = row["embedding"].as_array().unwrap().iter();
        values.map(|value| value.as_f64().unwrap()).collect()
    };
    let (sun, heart) = (
        embedding(&["--text", "sun"]),
        embedding(&["--text", "heart"]),
    );
    let image = embedding(&["p/c.png"]);
    let sum: Vec<f64> = (0..sun.len())
        .map(|at| sun[at] + 0.5 * heart[at] - 2.0 * image[at])
        .collect();
    let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    let arguments = [
        "o.npy",
        "sun",
        "--add",
        "0.5",
        "heart",
        "--add",
        "-2",
        "./p/c.png",
    ];
    let record = search(&room, &arguments).ends_with(0).record();
    assert_eq!(record["query"], "\"sun\" + 0.5 \"heart\" - 2 \"./p/c.png\"");
    let found = hits(&record);
    assert_eq!(found.len(), 4);
    for (name, cosine) in found {
        let row = embedding(&[name]);
        let expected: f64 = row.iter().zip(&sum).map(|(a, b)| a * b / length).sum();
        assert!(
            (cosine - expected).abs() < 1e-5,
            "{name} {cosine} {expected}"
        );
    }
    // Each query gets the sum; a weight of 0 changes nothing.
    let ran = search(&room, &["o.npy", "sun", "snow", "--add", "0", "heart"]).ends_with(0);
    let plain = search(&room, &["o.npy", "sun", "snow"])
        .ends_with(0)
        .records();
    for (record, plain) in ran.records().iter().zip(&plain) {
        for (hit, expected) in hits(record).iter().zip(hits(plain)) {
            assert!(hit.0 == expected.0 && (hit.1 - expected.1).abs() < 1e-6);
        }
    }
}

#[test]
fn no_image_of_a_query_is_overwritten() {
    let room = room();
    let before = std::fs::read(room.path("p/a.png")).unwrap();
    for query in [
        &["./p/a.png"][..],
        &["--image", "p/a.png"],
        &["x", "--add", "1", "p/a.png"],
    ] {
        let more = ["-o", "p/a.png", "-f", "jsonl"];
        search(&room, &[&["o.npy"], query, &more].concat())
            .ends_with(2)
            .says(&["is also an input"]);
    }
    assert_eq!(std::fs::read(room.path("p/a.png")).unwrap(), before);
}

#[test]
fn impossible_sums_are_errors() {
    let room = room();
    for (arguments, code, message) in [
        (&["sun", "--add", "-1", "sun"][..], 2, "has no direction"),
        (
            &["sun", "--add", "1", "./gone.png"],
            2,
            "cannot add ./gone.png",
        ),
        (
            &["sun", "rain", "--add", "-1", "sun"],
            1,
            "has no direction",
        ),
        (
            &["sun", "--add", "heart", "1"],
            2,
            "\"heart\" is not a number",
        ),
        (&["sun", "--add", "nan", "heart"], 2, "is not a number"),
        (&["sun", "--add", "1"], 2, "2 values"),
        (&["--add", "1", "heart"], 2, "nothing to search for"),
    ] {
        let ran = search(&room, &[&["o.npy"], arguments].concat());
        ran.ends_with(code).says(&[message]);
    }
}
