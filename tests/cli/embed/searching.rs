//! `search` finds what `embed` wrote, with a threshold, without the query itself, and by weighted
//! sums.

use serde_json::Value;

use super::{OUTPUTS, embed, search, small};
use crate::room::{Room, records};
#[cfg(target_os = "linux")]
use crate::running::Running;

fn dot(a: &Value, b: &Value) -> f64 {
    let pairs = a.as_array().unwrap().iter().zip(b.as_array().unwrap());
    pairs
        .map(|(a, b)| a.as_f64().unwrap() * b.as_f64().unwrap())
        .sum()
}

fn names(record: &Value) -> Vec<&str> {
    let hits = record["hits"].as_array().unwrap();
    hits.iter()
        .map(|hit| hit["image"].as_str().unwrap())
        .collect()
}

#[test]
fn the_best_rows_come_first_in_every_format() {
    let room = Room::new();
    for index in 0..40 {
        room.image(format!("p/{index}.png"));
    }
    let rows = embed(&room, &["p"]).ends_with(0).records();
    let query = &embed(&room, &["--text", "a cat"]).ends_with(0).records()[0];
    let mut expected: Vec<(f64, &str)> = rows
        .iter()
        .map(|row| {
            (
                dot(&row["embedding"], &query["embedding"]),
                row["image"].as_str().unwrap(),
            )
        })
        .collect();
    expected.sort_by(|a, b| b.0.total_cmp(&a.0));
    for output in OUTPUTS {
        embed(&room, &["p", "-o", output]).ends_with(0);
        let record = search(&room, &[output, "a cat", "-k", "7"])
            .ends_with(0)
            .record();
        assert_eq!(record["query"], "a cat");
        let hits = record["hits"].as_array().unwrap();
        assert_eq!(hits.len(), 7);
        for ((rank, hit), (cosine, name)) in (1..).zip(hits).zip(&expected) {
            assert_eq!(
                (&hit["image"], &hit["rank"]),
                (&(*name).into(), &rank.into())
            );
            assert!(
                (hit["cosine"].as_f64().unwrap() - cosine).abs() < 1e-5,
                "{hit} {cosine}"
            );
        }
        let all = search(&room, &[output, "a cat", "-k", "1000"])
            .ends_with(0)
            .record();
        assert_eq!(names(&all).len(), 40);
    }
    embed(&room, &["p", "-o", "h.npy", "--dtype", "f16"]).ends_with(0);
    let record = search(&room, &["h.npy", "a cat", "-k", "1"])
        .ends_with(0)
        .record();
    assert!((record["hits"][0]["cosine"].as_f64().unwrap() - expected[0].0).abs() < 1e-3);
}

#[test]
fn an_image_finds_itself() {
    let room = Room::with(&["p/a.png", "p/b.png", "p/c.png", "odd"]);
    embed(&room, &["p", "odd", "-o", "o.npy"]).ends_with(0);
    let ran = search(&room, &["o.npy", "p/b.png", "./odd", "b.png", "-k", "1"]).ends_with(0);
    let found = ran.records();
    assert_eq!(names(&found[0]), ["p/b.png"]);
    assert_eq!(names(&found[1]), ["odd"]);
    // There is no such file, so it is a text.
    assert!(found[2]["hits"][0]["cosine"].as_f64().unwrap() < 0.9);
    let ran = search(&room, &["o.npy", "--image", "odd", "none.png", "-k", "1"]).ends_with(1);
    let found = ran.records();
    assert_eq!(names(&found[0]), ["odd"]);
    assert!(found[1]["error"].is_string());
    search(&room, &["o.npy", "--image", "none.png"]).ends_with(2);
}

#[test]
fn paths_are_for_other_programs() {
    let room = Room::with(&["p/a.png", "p/b.png"]);
    embed(&room, &["p", "-o", "o.npy"]).ends_with(0);
    let ran = search(&room, &["o.npy", "p/a.png", "-f", "paths"]).ends_with(0);
    assert_eq!(ran.out, "p/a.png\np/b.png\n");
    let ran = search(&room, &["o.npy", "p/a.png", "-f", "paths", "-0", "-k", "1"]).ends_with(0);
    assert_eq!(ran.out, "p/a.png\0");
    search(&room, &["o.npy", "x", "-0"])
        .ends_with(2)
        .says(&["--format paths"]);
    let ran = search(&room, &["o.npy", "x", "-f", "csv", "-o", "hits.csv"]).ends_with(0);
    assert_eq!(ran.out, "");
    assert_eq!(room.read("hits.csv").lines().count(), 3);
}

#[test]
fn a_preview_shows_the_image() {
    let room = Room::with(&["p/a.png", "p/b.png"]);
    embed(&room, &["p", "-o", "o.npy"]).ends_with(0);
    std::fs::remove_file(room.path("p/b.png")).unwrap();
    let ran = search(&room, &["o.npy", "./p/a.png", "--preview"]).ends_with(0);
    // 24 x 16 pixels are 8 lines of 24 cells.
    let lines: Vec<&str> = ran.out.lines().filter(|line| line.contains('▀')).collect();
    assert_eq!(lines.len(), 8);
    assert!(lines.iter().all(|line| line.matches('▀').count() == 24));
    assert!(
        ran.stderr().contains("p/b.png: no preview"),
        "{}",
        ran.stderr()
    );
}

#[test]
fn texts_can_be_searched() {
    let room = Room::with(&["a.png"]);
    embed(&room, &["--text", "a cat", "a dog", "-o", "o.parquet"]).ends_with(0);
    let record = search(&room, &["o.parquet", "a dog", "-k", "1"])
        .ends_with(0)
        .record();
    assert_eq!(record["hits"][0]["text"], "a dog");
    search(&room, &["o.parquet", "a.png"]).ends_with(0);
}

#[test]
fn the_best_chunk_of_a_long_query_counts() {
    let room = Room::with(&["a.png"]);
    let filler = "word ".repeat(200);
    let long = format!("{filler}{}", "sofa ".repeat(100));
    embed(&room, &["--text", "a cat", &filler, "-o", "o.npy"]).ends_with(0);
    search(&room, &["o.npy", &long])
        .ends_with(2)
        .says(&["query 1", "--long-text"]);
    let ran = search(
        &room,
        &["o.npy", &long, "a cat", "--long-text", "best-chunk"],
    )
    .ends_with(0);
    let found = ran.says(&["2 chunks"]).records();
    let hits = found[0]["hits"].as_array().unwrap();
    // The filler is nearly one of its chunks; each row comes once.
    assert_eq!(hits.len(), 2);
    assert!(hits[0]["cosine"].as_f64() > hits[1]["cosine"].as_f64());
    assert_eq!(found[1]["hits"][0]["text"], "a cat");
}

#[test]
fn files_that_are_not_an_index_are_refused() {
    let room = Room::with(&["a.png"]);
    embed(&room, &["a.png", "-o", "o.jsonl"]).ends_with(0);
    let rows = room.read("o.jsonl");
    let model = records(&rows)[0]["model"].as_str().unwrap().to_owned();
    let other = format!("longclip-l@{}", "0".repeat(64));
    room.file("other.jsonl", rows.replace(&model, &other));
    search(&room, &["other.jsonl", "x"]).ends_with(2).says(&[
        "longclip-l",
        small::model(),
        "pass --model longclip-l",
    ]);
    let (ours, theirs) = match rows.contains("activation=gelu") {
        true => ("activation=gelu", "activation=quick_gelu"),
        false => ("activation=quick_gelu", "activation=gelu"),
    };
    assert!(rows.contains(ours));
    room.file("activation.jsonl", rows.replace(ours, theirs));
    search(&room, &["activation.jsonl", "x"])
        .ends_with(2)
        .says(&["activation gelu", "uses quick_gelu", "--activation"]);
    let mut long = records(&rows)[0].clone();
    long["embedding"][0] = 3.into();
    room.file("changed.jsonl", long.to_string());
    search(&room, &["changed.jsonl", "x"])
        .ends_with(2)
        .says(&["changed or damaged", "remove crc32"]);
    long.as_object_mut().unwrap().remove("crc32").unwrap();
    room.file("long.jsonl", long.to_string());
    search(&room, &["long.jsonl", "x"])
        .ends_with(2)
        .says(&["row 0 of long.jsonl", "embed again"]);
    long["embedding"] = vec![1.0].into();
    room.file("narrow.jsonl", long.to_string());
    search(&room, &["narrow.jsonl", "x"])
        .ends_with(2)
        .says(&["(1 features)", "(64 features)"]);
    room.file("numbers.npy", "x");
    for (index, message) in [
        ("none.npy", "none.npy"),
        ("numbers.npy", "not a NumPy file"),
        ("a.png", "must end in .npy"),
    ] {
        room.longclip(&["search", "-m", "no-such-model", index, "x"], &[])
            .ends_with(2)
            .says(&[message]);
    }
    search(&room, &["o.jsonl"])
        .ends_with(2)
        .says(&["nothing to search for"]);
}

/// Whether the process catches SIGTERM.
#[cfg(target_os = "linux")]
fn listens(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let mut lines = status.lines();
    let caught = lines.find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << 14) != 0
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_stops_a_search_that_waits_for_its_image() {
    let room = Room::with(&["a.png"]);
    embed(&room, &["a.png", "-o", "o.npy"]).ends_with(0);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = room.command();
        command.args(["search", "-m", small::model(), "o.npy", "--image", "-"]);
        let mut running = Running::start(command);
        while !listens(running.id()) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        running.signal(signal);
        let (found, said) = running.end();
        assert_eq!(found, Some(code), "{said}");
        assert!(said.contains("stopped before all queries"), "{said}");
    }
}

#[test]
fn ambiguous_arguments_are_not_misread() {
    let room = Room::with(&["p/a.png"]);
    embed(&room, &["p", "-o", "o.npy"]).ends_with(0);
    // An image that does not exist is not read as a text.
    search(&room, &["o.npy", "./p/gone.png"])
        .ends_with(2)
        .says(&["gone.png", "cannot be read"]);
    // The suffix names the format.
    search(&room, &["o.npy", "a cat", "-o", "found.csv"]).ends_with(0);
    assert!(room.read("found.csv").starts_with("query,"));
    // The index names its model, which is used if it is available everywhere.
    let tiny = ["embed", "-m", "tiny", "p", "-o", "tiny.npy"];
    room.longclip(&tiny, &[]).ends_with(0);
    let offline = [("HF_HUB_OFFLINE", "1")];
    let ran = room.longclip(&["search", "tiny.npy", "a cat"], &offline);
    ran.ends_with(0)
        .says(&["using model tiny, which tiny.npy was made with"]);
    let ran = room.longclip(
        &["search", "tiny.npy", "a cat", "-m", "longclip-b"],
        &offline,
    );
    ran.ends_with(2)
        .says(&["made with model tiny", "pass --model tiny"]);
    let ran = room.longclip(&["search", "o.npy", "a cat"], &offline);
    ran.ends_with(2)
        .says(&["o.npy was made with model", "pass --model"]);
}

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
