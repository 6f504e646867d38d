//! Lists of objects with keys that come back; failures by kind, how many a run may have, and summaries.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::room::{Room, png, records};
use crate::running::Running;
use crate::schema::assert_fits;
use crate::small;

const LABELS: [&str; 3] = ["-l", "cat", "dog"];

/// Classifies a list that comes on stdin.
fn listed(room: &Room, list: &str, more: &[&str], code: i32) -> String {
    let arguments = [&["--files-from", "-"], &LABELS[..], more].concat();
    let ran = room.classify_with_stdin(&arguments, list.as_bytes());
    ran.ends_with(code).out
}

#[test]
fn keys_of_an_object_come_back_as_they_were_written() {
    let room = Room::with(&["a.png", "b c.png"]);
    let list = "{\"id\":123456789012345678901234567890,\"path\":\"a.png\",\"x\":[1.10,\t{\"é\":null}]}\n\
                a.png\n{\"image\":\"b c.png\",\"n\":\"\\u202e\"}\n";
    let out = listed(&room, list, &[], 0);
    let lines: Vec<&str> = out.lines().collect();
    let start = "{\"id\":123456789012345678901234567890,\"path\":\"a.png\",\"x\":[1.10, {\"é\":null}],\
                 \"image\":\"a.png\",\"predictions\":[";
    assert!(lines[0].starts_with(start), "{}", lines[0]);
    assert!(lines[1].starts_with("{\"image\":\"a.png\",\"predictions\":["));
    assert!(lines[2].starts_with("{\"n\":\"\\u202e\",\"image\":\"b c.png\",\"predictions\":["));
    assert_eq!(
        lines[0].split_once("\"image\""),
        lines[1]
            .split_once("\"image\"")
            .map(|(_, rest)| { (lines[0].split_once("\"image\"").unwrap().0, rest) })
    );
    assert_fits(&records(&out), "record");
    let array: Vec<Value> = serde_json::from_str(&listed(&room, list, &["-f", "json"], 0)).unwrap();
    assert_eq!(array[0]["x"][0], 1.1);
    // A file whose name is such a line is that file.
    room.image("{odd}.png");
    assert_eq!(
        records(&listed(&room, "{odd}.png\n", &[], 0))[0]["image"],
        "{odd}.png"
    );
}

#[test]
fn a_bad_line_is_answered_and_costs_itself_only() {
    let room = Room::with(&["a.png"]);
    let good = "{\"id\":1,\"path\":\"a.png\"}\n";
    let long = format!("{{\"path\":\"a.png\",\"x\":\"{}\"}}\n", "y".repeat(1 << 20));
    let wide = format!("{}.png\n", "y".repeat(100_000));
    let list = [
        good,
        "{\"id\":2,\"path\":\"a.png\"\n",
        "{\"id\":3}\n",
        "{\"id\":4,\"path\":\"a.png\",\"error\":\"x\"}\n",
        &long,
        &wide,
        "{\"id\":5,\"path\":\"b.png\"}\n",
        good,
    ]
    .concat();
    let records = records(&listed(&room, &list, &[], 1));
    let shown: Vec<_> = records
        .iter()
        .map(|record| (&record["id"], &record["image"], record.get("error_kind")))
        .collect();
    let (line, missing) = (json!("line"), json!("missing"));
    let (none, name) = (Value::Null, |number: u8| json!(format!("stdin:{number}")));
    let expected = [
        (json!(1), json!("a.png"), None),
        (none.clone(), name(2), Some(&line)),
        (json!(3), name(3), Some(&line)),
        (json!(4), name(4), Some(&line)),
        (none.clone(), name(5), Some(&line)),
        (none, name(6), Some(&line)),
        (json!(5), json!("b.png"), Some(&missing)),
        (json!(1), json!("a.png"), None),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(id, image, kind)| (id, image, *kind))
        .collect();
    assert_eq!(shown, expected);
    let said = records[1]["error"].as_str().unwrap();
    assert!(said.starts_with("line 2 is not a JSON object: "), "{said}");
    assert_fits(&records, "record");
}

#[test]
fn an_object_may_name_an_image_in_an_archive() {
    let room = Room::new();
    let mut archive = tar::Builder::new(Vec::new());
    for name in ["d/0001.png", "d/0002.png", "e/0001.png"] {
        let content = png(name);
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        archive
            .append_data(&mut header, name, &content[..])
            .unwrap();
        room.file(Path::new("x.tar.d").join(name), content);
    }
    room.file("x.tar", archive.into_inner().unwrap());
    let line =
        |id: u8, key: &str| format!("{{\"id\":{id},\"shard\":\"x.tar\",\"key\":\"{key}\"}}\n");
    let list = [
        line(1, "d/0002"),
        line(2, "e/0001.png"),
        line(3, "d/0001"),
        line(4, "f"),
    ]
    .concat();
    let found = records(&listed(&room, &list, &[], 1));
    let images: Vec<_> = found
        .iter()
        .map(|record| record["image"].as_str().unwrap())
        .collect();
    assert_eq!(
        images,
        [
            "x.tar/d/0002.png",
            "x.tar/e/0001.png",
            "x.tar/d/0001.png",
            "x.tar/f"
        ]
    );
    assert_eq!(
        (&found[0]["shard"], &found[0]["key"]),
        (&json!("x.tar"), &json!("d/0002"))
    );
    assert_eq!(found[3]["error_kind"], "missing");
    let alone = room
        .classify(&[&["x.tar.d/d/0002.png"], &LABELS[..]].concat())
        .record();
    assert_eq!(found[0]["predictions"], alone["predictions"]);
    // Its images are not files.
    let copied = listed(&room, &line(1, "d/0002"), &["--copy", "sorted"], 2);
    assert!(copied.contains("its images are not files"), "{copied}");
    // All images of an archive have the keys of its line.
    let all = records(&listed(&room, "{\"path\":\"x.tar\",\"n\":7}\n", &[], 0));
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|record| record["n"] == 7));
}

#[test]
fn records_come_while_the_list_pauses() {
    let room = Room::with(&["a.png", "b.png"]);
    for command in ["classify", "embed"] {
        let mut started = room.command();
        started.args([command, "-m", small::model(), "--files-from", "-"]);
        if command == "classify" {
            started.args(LABELS);
        }
        let mut running = Running::start(started);
        for (id, name) in ["a.png", "b.png", "no.png", "a.png"].iter().enumerate() {
            running.write(format!("{{\"id\":{id},\"path\":\"{name}\"}}\n").as_bytes());
            let record: Value = serde_json::from_str(&running.line()).unwrap();
            let keys = if command == "embed" {
                &record["given"]
            } else {
                &record
            };
            assert_eq!((&keys["id"], &record["image"]), (&json!(id), &json!(name)));
        }
        running.close_stdin();
        assert_eq!(running.rest(), Vec::<String>::new());
        assert_eq!(running.end().0, Some(1));
    }
}

#[test]
fn formats_without_a_place_for_keys_say_so() {
    let room = Room::with(&["a.png"]);
    room.file(
        "list",
        "{\"id\":1,\"path\":\"a.png\"}\n{\"id\":2,\"path\":\"a.png\"}\n",
    );
    room.file("paths", "{\"path\":\"a.png\"}\n");
    for (list, says) in [("list", true), ("paths", false)] {
        let arguments = [&["--files-from", list, "-f", "csv"], &LABELS[..]].concat();
        let ran = room.classify(&arguments).ends_with(0);
        let found = ran.stderr().matches("--format csv has no place").count();
        assert_eq!(found, usize::from(says), "{}", ran.stderr());
        let ran = room.longclip(
            &[
                "embed",
                "-m",
                small::model(),
                "--files-from",
                list,
                "-o",
                "a.parquet",
            ],
            &[],
        );
        assert_eq!(
            ran.ends_with(0).stderr().contains("Parquet has no place"),
            says
        );
    }
}

#[test]
fn embed_keeps_keys_next_to_its_rows_and_resumes_with_them() {
    let room = Room::with(&["a.png", "b.png"]);
    room.broken("c.png");
    let mut list = String::new();
    for (id, name) in ["a", "b", "c"].iter().enumerate() {
        writeln!(list, "{{\"id\":{id},\"path\":\"{name}.png\"}}").unwrap();
    }
    room.file("list", &list);
    let embed = |output: &str, more: &[&str]| {
        let start = [
            "embed",
            "-m",
            small::model(),
            "--files-from",
            "list",
            "-o",
            output,
        ];
        room.longclip(&[&start, more].concat(), &[]).ends_with(1)
    };
    embed("a.npy", &[]);
    let rows = records(&room.read("a.paths.jsonl"));
    assert_eq!(rows[1]["given"], json!({"id": 1, "path": "b.png"}));
    let failed = records(&room.read("a.npy.errors.jsonl"));
    assert_eq!(failed[0]["given"]["id"], 2);
    assert_eq!(failed[0]["error_kind"], "decode");
    let before = (
        std::fs::read(room.path("a.npy")).unwrap(),
        room.read("a.paths.jsonl"),
    );
    embed("a.npy", &["--resume"]);
    let after = (
        std::fs::read(room.path("a.npy")).unwrap(),
        room.read("a.paths.jsonl"),
    );
    assert!(before == after);
    // Other keys are other rows; the numbers are the same.
    room.file("list", list.replace("\"id\":1", "\"id\":7"));
    embed("a.npy", &["--resume"]);
    assert_eq!(records(&room.read("a.paths.jsonl"))[1]["given"]["id"], 7);
    assert!(std::fs::read(room.path("a.npy")).unwrap() == before.0);
    embed("a.jsonl", &[]);
    assert_fits(&records(&room.read("a.jsonl")), "embedding");
}

#[test]
fn failures_have_a_kind() {
    let room = Room::with(&["good.png", "large.png"]);
    room.broken("broken.png");
    room.file("text.png", "not an image");
    room.file("empty.png", "");
    room.file("folder/x", "");
    let names = [
        "broken.png",
        "text.png",
        "empty.png",
        "no.png",
        "folder",
        "large.png",
    ];
    let list = names.join("\n");
    let kinds = |more: &[&str], list: &str| -> Vec<String> {
        let found = records(&listed(&room, list, more, 2));
        assert_fits(&found, "record");
        let kind = |record: &Value| record["error_kind"].as_str().unwrap().to_owned();
        found.iter().map(kind).collect()
    };
    let found = kinds(&["--max-pixels", "100"], &list);
    assert_eq!(
        found,
        ["limit", "format", "format", "missing", "read", "limit"]
    );
    assert_eq!(kinds(&["--max-pixels", "10000"], "broken.png"), ["decode"]);
    assert_eq!(kinds(&["--max-memory", "1"], "large.png"), ["limit"]);
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read_is_denied() {
    use std::os::unix::fs::PermissionsExt as _;
    let room = Room::with(&["a.png"]);
    let locked = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(room.path("a.png"), locked).unwrap();
    if std::fs::read(room.path("a.png")).is_ok() {
        // Root may read everything.
        return;
    }
    let record = &records(&listed(&room, "a.png", &[], 2))[0];
    assert_eq!(record["error_kind"], "denied");
}

#[test]
fn failures_within_the_allowance_are_status_0() {
    let room = Room::with(&["a.png", "b.png", "c.png"]);
    room.broken("d.png");
    let all = "a.png\nb.png\nc.png\nd.png\n";
    for (most, list, code) in [
        (None, all, 1),
        (None, "d.png\n", 2),
        (Some("0"), all, 1),
        (Some("1"), all, 0),
        (Some("24%"), all, 1),
        (Some("25%"), all, 0),
        (Some("0"), "d.png\nd.png\n", 1),
        (Some("100%"), "d.png\nd.png\n", 0),
    ] {
        let more: Vec<&str> = most
            .iter()
            .flat_map(|most| ["--max-errors", most])
            .collect();
        listed(&room, list, &more, code);
        let arguments = ["embed", "-m", small::model(), "--files-from", "-"];
        let ran = room.longclip_with_stdin(&[&arguments[..], &more].concat(), list.as_bytes());
        assert_eq!(ran.code, Some(code), "{most:?} {list} {}", ran.stderr());
    }
    for wrong in ["-1", "5.5", "101%", "many"] {
        let flag = format!("--max-errors={wrong}");
        room.classify(&[&["a.png", &flag], &LABELS[..]].concat())
            .ends_with(2);
    }
}

#[test]
fn an_evaluation_has_an_allowance_too_and_a_gate() {
    let room = Room::new();
    for class in ["cat", "dog"] {
        for number in 0..3 {
            room.image(format!("data/{class}/{number}.png"));
        }
    }
    room.broken("data/cat/broken.png");
    let run = |more: &[&str], code: i32| {
        let fixed = ["evaluate", "data", "-m", small::model(), "-f", "json"];
        let arguments = [&fixed[..], more, &["--summary", "s.json"]].concat();
        room.longclip(&arguments, &[]).ends_with(code);
        let found: Value = serde_json::from_str(&room.read("s.json")).unwrap();
        assert_fits(std::slice::from_ref(&found), "summary");
        assert_eq!(found["command"], "evaluate");
        assert_eq!(
            (&found["answered"], &found["failed"]),
            (&6.into(), &1.into())
        );
        assert_eq!(found["status"], code, "{more:?}");
        found
    };
    run(&[], 1);
    let found = run(&["--max-errors", "1"], 0);
    assert!(found["labels_sha256"].is_string());
    // The random model is not always right; the gate is not within the allowance.
    run(&["--max-errors", "1", "--min-acc", "1"], 1);
    run(&["--max-errors", "1", "--min-acc", "0"], 0);
    let fixed = ["evaluate", "data", "-m", small::model(), "--summary", "-"];
    room.longclip(&fixed, &[]).ends_with(2).says(&["stdout"]);
}

#[test]
fn what_cannot_be_placed_is_a_failure_too() {
    let room = Room::with(&["a.png", "b.png"]);
    // A file lies where the folder of the label would be.
    room.file("sorted/cat", "");
    room.file("sorted/dog", "");
    let ran = |more: &[&str], code: i32| -> Value {
        let arguments = [&["a.png", "b.png", "--copy", "sorted"], &LABELS[..], more].concat();
        let ran = room.classify(&[&arguments[..], &["--summary", "s.json"]].concat());
        for record in ran.ends_with(code).records() {
            assert_eq!(record["error_kind"], "place", "{record}");
        }
        serde_json::from_str(&room.read("s.json")).unwrap()
    };
    let summary = ran(&["--max-errors", "0"], 1);
    assert_eq!(summary["failed_by_kind"], json!({"place": 2}));
    assert_eq!(
        (&summary["answered"], &summary["failed"]),
        (&json!(0), &json!(2))
    );
    ran(&["--max-errors", "2"], 0);
}

#[test]
fn a_list_of_objects_in_another_encoding_is_said() {
    let room = Room::with(&["a.png"]);
    let text = "{\"id\":1,\"path\":\"a.png\"}\n";
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    // Without a byte order mark.
    room.file("list", wide);
    let ran = room.classify(&[&["--files-from", "list"], &LABELS[..]].concat());
    assert_eq!(ran.record()["id"], 1);
    ran.ends_with(0).says(&["list: ", "UTF-16"]);
}

#[test]
fn a_summary_says_how_the_run_ended() {
    let room = Room::with(&["a.png", "b.png"]);
    room.broken("d.png");
    let list = "a.png\nb.png\nd.png\nno.png\n";
    let more = ["--summary", "s.json", "--max-errors", "50%"];
    listed(&room, list, &more, 0);
    let summary: Value = serde_json::from_str(&room.read("s.json")).unwrap();
    assert_fits(std::slice::from_ref(&summary), "summary");
    assert_eq!(summary["command"], "classify");
    assert_eq!(
        (&summary["images"], &summary["answered"]),
        (&json!(4), &json!(2))
    );
    assert_eq!(
        summary["failed_by_kind"],
        json!({"missing": 1, "decode": 1})
    );
    assert_eq!(summary["status"], 0);
    // Other labels, other hash; the same, the same.
    let hash = |labels: &[&str]| {
        let arguments = [&["a.png", "-o", "o.jsonl", "--summary", "-", "-l"], labels].concat();
        let ran = room.classify(&arguments).ends_with(0);
        let summary: Value = serde_json::from_str(&ran.out).unwrap();
        (
            summary["labels_sha256"].clone(),
            summary["model_sha256"].clone(),
        )
    };
    let (cats, birds) = (hash(&["cat", "dog"]), hash(&["cat", "bird"]));
    assert_eq!(
        cats,
        (
            summary["labels_sha256"].clone(),
            summary["model_sha256"].clone()
        )
    );
    assert!(cats.0 != birds.0 && cats.1 == birds.1);
    let embed = [
        "embed",
        "-m",
        small::model(),
        "d.png",
        "--summary",
        "e.json",
    ];
    room.longclip(&embed, &[]).ends_with(2);
    let summary: Value = serde_json::from_str(&room.read("e.json")).unwrap();
    assert_fits(std::slice::from_ref(&summary), "summary");
    assert_eq!(
        (&summary["status"], &summary["answered"]),
        (&json!(2), &json!(0))
    );
    for (arguments, says) in [
        (&["a.png", "--summary", "-"][..], "--summary - is stdout"),
        (&["a.png", "--summary", "a.png"], "a.png"),
        (&["a.png", "--summary", "s.csv"], "s.csv would contain JSON"),
    ] {
        let ran = room.classify(&[arguments, &LABELS[..]].concat());
        ran.ends_with(2).says(&[says]);
    }
}

#[cfg(unix)]
#[test]
fn a_run_that_is_stopped_leaves_its_summary() {
    let room = Room::with(&["a.png"]);
    let mut command = room.command();
    command.args([
        "classify",
        "-m",
        small::model(),
        "--files-from",
        "-",
        "--summary",
        "s.json",
    ]);
    command.args(LABELS);
    let mut running = Running::start(command);
    running.write(b"a.png\n");
    running.line();
    running.signal("TERM");
    assert_eq!(running.end().0, Some(143));
    let summary: Value = serde_json::from_str(&room.read("s.json")).unwrap();
    assert_fits(std::slice::from_ref(&summary), "summary");
    assert_eq!(
        (&summary["signal"], &summary["status"]),
        (&json!(15), &json!(143))
    );
    assert_eq!(summary["answered"], 1);
}
