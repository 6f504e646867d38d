//! The formats of data, and bad data.

use serde_json::json;

use super::{caption, finetune, log, model, room, weights};
use crate::room::{Room, png};

/// A tar archive of these files.
fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        let size = format!("{:011o}\0", content.len());
        header[124..136].copy_from_slice(size.as_bytes());
        header[156] = b'0';
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend(header);
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend([0; 1024]);
    bytes
}

#[test]
fn each_form_of_the_same_data_trains_the_same_model() {
    let room = room(24);
    let mut csv = String::from("file,text\n");
    let mut list = Vec::new();
    let mut members = [Vec::new(), Vec::new()];
    for number in 0..24 {
        let name = format!("p/{number:03}.png");
        csv += &format!("{name},\"{}\"\n", caption(number));
        let turns = json!([{"value": "Describe it."}, {"value": caption(number)}]);
        list.push(json!({"id": number, "image": name, "conversations": turns}));
        room.file(format!("f/{number:03}.png"), png(&name));
        room.file(format!("f/{number:03}.txt"), caption(number));
        let shard = &mut members[number / 12];
        shard.push((format!("{number:03}.png"), png(&name)));
        shard.push((format!("{number:03}.txt"), caption(number).into_bytes()));
    }
    room.file("pairs.csv", csv);
    room.file("pairs.json", json!(list).to_string());
    for (number, members) in members.iter().enumerate() {
        room.file(format!("shards/s-{number}.tar"), tar(members));
    }
    let train = |data: &str, run: &str| {
        finetune(&room, &[data, "--out", run, "--epochs", "1"]).ends_with(0);
        weights(&room, run)
    };
    let expected = train("pairs.jsonl", "r");
    let forms = [
        "pairs.csv",
        "pairs.json",
        "f",
        "shards",
        "shards/s-{0..1}.tar",
    ];
    for (number, data) in forms.into_iter().enumerate() {
        assert!(train(data, &format!("r{number}")) == expected, "{data}");
    }
}

/// Files of a room, and messages of `finetune` about them.
struct Case {
    what: &'static str,
    rows: Vec<(String, String)>,
    arguments: &'static [&'static str],
    says: &'static [&'static str],
}

fn good(count: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|number| (format!("p/{:03}.png", number % 9), caption(number)))
        .collect()
}

fn with(more: &[(&str, &str)]) -> Vec<(String, String)> {
    let more = more
        .iter()
        .map(|(image, text)| ((*image).to_owned(), (*text).to_owned()));
    good(9).into_iter().chain(more).collect()
}

#[test]
fn bad_data_is_reported_before_anything_is_written() {
    let all_bad: Vec<_> = (0..12)
        .map(|n| (format!("no/{n}.png"), "x. y".to_owned()))
        .collect();
    let same: Vec<_> = (0..9)
        .map(|n| (format!("p/{n:03}.png"), "a. b".to_owned()))
        .collect();
    let single: Vec<_> = (0..9)
        .map(|n| (format!("p/{n:03}.png"), format!("cat {n}")))
        .collect();
    let one: Vec<_> = (0..9)
        .map(|n| ("p/000.png".to_owned(), caption(n)))
        .collect();
    let cases = [
        Case {
            what: "a missing image",
            rows: with(&[("no.png", "a. b")]),
            arguments: &[],
            says: &[
                "pairs.jsonl:10: the image no.png: cannot be read",
                "1 of 10 pairs cannot be used",
                "--skip-bad",
            ],
        },
        Case {
            what: "an empty caption",
            rows: with(&[("p/000.png", " \n ")]),
            arguments: &[],
            says: &["pairs.jsonl:10: the caption is empty"],
        },
        Case {
            what: "a file that is no image",
            rows: with(&[("pairs.jsonl", "a. b")]),
            arguments: &[],
            says: &["pairs.jsonl:10: the image pairs.jsonl: not an image"],
        },
        Case {
            what: "many",
            rows: all_bad,
            arguments: &[],
            says: &[
                "pairs.jsonl:10:",
                "2 more cannot be used",
                "none of the 12 pairs",
            ],
        },
        Case {
            what: "nothing but bad data",
            rows: vec![("no.png".to_owned(), "x".to_owned())],
            arguments: &["--skip-bad"],
            says: &["none of the 1 pairs in pairs.jsonl"],
        },
        Case {
            what: "one caption",
            rows: same,
            arguments: &[],
            says: &["all 9 captions are the same"],
        },
        Case {
            what: "one image",
            rows: one,
            arguments: &[],
            says: &["the same image"],
        },
        Case {
            what: "no short captions",
            rows: single,
            arguments: &[],
            says: &["there are no short captions", "--loss clip"],
        },
        Case {
            what: "fewer pairs than a batch",
            rows: good(5),
            arguments: &[],
            says: &["5 pairs do not fill a batch of 8", "--batch-size 5"],
        },
        Case {
            what: "a batch of the rank",
            rows: good(9),
            arguments: &["--pcm-rank", "8"],
            says: &["--pcm-rank 7 or less, --batch-size 9 or more"],
        },
        Case {
            what: "a rank of the embedding",
            rows: good(90),
            arguments: &["--pcm-rank", "64", "--batch-size", "80"],
            says: &["embeddings of 64 features", "--loss clip-short"],
        },
        Case {
            what: "long captions that must fit",
            rows: with(&[("p/000.png", &"word ".repeat(90))]),
            arguments: &["--long-text", "error"],
            says: &["pairs.jsonl:10: the caption: text", "has 92 tokens"],
        },
    ];
    for case in cases {
        let room = room(9);
        let rows = case.rows.iter();
        let rows = rows.map(|(image, text)| json!({"image": image, "caption": text}).to_string());
        room.file("pairs.jsonl", rows.collect::<Vec<_>>().join("\n"));
        let start = [
            "finetune",
            "pairs.jsonl",
            "--out",
            "run",
            "--model",
            model::path(),
        ];
        let small: &[&str] = match case.arguments.contains(&"--batch-size") {
            true => &[],
            false => &["--batch-size", "8"],
        };
        let rank: &[&str] = match case.arguments.contains(&"--pcm-rank") {
            true => &[],
            false => &["--pcm-rank", "4"],
        };
        let arguments = [&start[..], small, rank, case.arguments].concat();
        let ran = room.longclip(&arguments, &[]);
        ran.ends_with(2).says(case.says);
        assert_eq!(room.names(), ["p", "pairs.jsonl"], "{}", case.what);
    }
}

#[test]
fn unusable_data_is_named() {
    let room = Room::new();
    room.file("x.xyz", "");
    room.file("s.tar", "no tar");
    room.file("s.tar.gz", "x");
    for (data, part) in [
        ("missing", "the data missing does not exist"),
        ("x.xyz", "is not training data"),
        ("s.tar", "s.tar: this is not a tar archive"),
        ("s.tar.gz", "decompress it"),
        ("s-{0..x}.tar", "not a range"),
    ] {
        finetune(&room, &[data, "--out", "run"])
            .ends_with(2)
            .says(&[part]);
    }
}

#[test]
fn bad_pairs_can_be_skipped_and_are_listed() {
    let room = room(20);
    let mut rows = room.read("pairs.jsonl");
    rows +=
        "{\"image\":\"no.png\",\"caption\":\"a. b\"}\n{\"image\":\"p/000.png\",\"caption\":\"\"}\n";
    room.file("pairs.jsonl", rows);
    let ran = finetune(
        &room,
        &["pairs.jsonl", "--out", "run", "--skip-bad", "--steps", "2"],
    );
    let result = ran.ends_with(0).record();
    assert_eq!(
        (&result["pairs"], &result["skipped"]),
        (&json!(20), &json!(2))
    );
    let skipped = crate::room::records(&room.read("run/skipped.jsonl"));
    assert_eq!(skipped[0]["place"], "pairs.jsonl:21");
    assert_eq!(skipped[1]["cause"], "the caption is empty");
}

#[test]
fn images_that_do_not_decode_are_replaced() {
    let room = room(20);
    room.broken("p/003.png");
    room.broken("p/011.png");
    let train = |run: &str| finetune(&room, &["pairs.jsonl", "--out", run, "--epochs", "2"]);
    let ran = train("run").ends_with(1);
    let result = ran.record();
    assert_eq!(result["failed"], 2, "{}", ran.stderr());
    let ran = ran.says(&["p/003.png: ", "2 images could not be decoded"]);
    assert_eq!(ran.stderr().matches("p/003.png: ").count(), 1);
    let skipped = crate::room::records(&room.read("run/skipped.jsonl"));
    assert!(skipped.iter().all(|one| one["step"].is_u64()));
    assert_eq!(log(&room, "run").len(), 4);
    train("again").ends_with(1);
    assert!(weights(&room, "run") == weights(&room, "again"));
}

#[test]
fn an_image_without_a_replacement_is_named_and_listed() {
    let room = room(8);
    room.broken("p/003.png");
    let ran = finetune(&room, &["pairs.jsonl", "--out", "run", "--steps", "3"]);
    let ran = ran
        .ends_with(1)
        .says(&["p/003.png: ", "all 8 pairs are in the batch", "--resume"]);
    assert!(!ran.stderr().contains("--rate"), "{}", ran.stderr());
    let skipped = crate::room::records(&room.read("run/skipped.jsonl"));
    assert_eq!((skipped.len(), &skipped[0]["step"]), (1, &json!(1)));
    // One that is not in the batch is enough.
    let room = super::room(9);
    room.broken("p/003.png");
    let ran = finetune(&room, &["pairs.jsonl", "--out", "run", "--epochs", "9"]);
    ran.ends_with(1).says(&["were replaced by others"]);
}

#[test]
fn the_last_batch_is_kept_if_large_enough() {
    let room = room(21);
    let steps = |run: &str, more: &[&str]| {
        let arguments = [&["pairs.jsonl", "--out", run, "--epochs", "2"], more].concat();
        let ran = finetune(&room, &arguments).ends_with(0);
        (ran.record()["steps"].as_u64().unwrap(), ran)
    };
    let (count, ran) = steps("a", &[]);
    assert_eq!(count, 4);
    ran.says(&["5 pairs per epoch"]);
    assert_eq!(steps("b", &["--keep-last"]).0, 6);
    assert_eq!(steps("c", &["--keep-last", "--loss", "clip"]).0, 6);
}
