//! Which format an output gets, and CSV for spreadsheets: one rule for all commands.

use crate::room::Room;
use crate::small;

fn run(room: &Room, command: &str, arguments: &[&str]) -> crate::room::Ran {
    room.longclip(&[&[command, "-m", small::model()], arguments].concat(), &[])
}

#[test]
fn a_suffix_that_promises_another_format_is_refused_by_every_command() {
    let room = Room::with(&["p/cat/a.png", "p/dog/b.png"]);
    run(&room, "embed", &["p", "-o", "o.npy"]).ends_with(0);
    let before = room.names();
    let hits = ".json, .jsonl, .ndjson, .csv or .tsv";
    let records = ".json, .jsonl, .ndjson, .csv, .tsv or .parquet";
    let cases: [(&str, &[&str], &[&str]); 11] = [
        (
            "classify",
            &["p", "-l", "a", "b", "-o", "x.feather"],
            &["x.feather", records, "--format"],
        ),
        (
            "classify",
            &["p", "-l", "a", "b", "-o", "x.html"],
            &["x.html", records],
        ),
        (
            "classify",
            &["p", "-l", "a", "b", "-o", "x.XLSX"],
            &["x.XLSX", records, "--bom"],
        ),
        (
            "classify",
            &["p", "-l", "a", "b", "-o", "x.csv.gz"],
            &["x.csv.gz", records],
        ),
        (
            "classify",
            &["p", "-l", "a", "b", "--report", "x.csv"],
            &["x.csv", ".html or .htm"],
        ),
        (
            "search",
            &["o.npy", "cat", "-o", "x.parquet"],
            &["x.parquet", hits],
        ),
        (
            "embed",
            &["p", "-o", "x.csv"],
            &["must end in .npy, .safetensors, .parquet or .jsonl"],
        ),
        (
            "evaluate",
            &["p", "--report", "x.json"],
            &["x.json", ".html or .htm"],
        ),
        ("calibrate", &["p", "-o", "x.csv"], &["x.csv", ".json"]),
        ("probe", &["p", "-o", "x.pt"], &["x.pt", ".safetensors"]),
        (
            "probe",
            &["p", "--report", "x.pdf"],
            &["x.pdf", ".html or .htm"],
        ),
    ];
    for (command, arguments, messages) in cases {
        run(&room, command, arguments).ends_with(2).says(messages);
        assert_eq!(room.names(), before, "{command} {arguments:?}");
    }
}

#[test]
fn a_flag_wins_over_a_suffix_and_says_so() {
    let room = Room::with(&["a.png"]);
    run(&room, "embed", &["a.png", "-o", "o.npy"]).ends_with(0);
    for (command, arguments) in [
        ("classify", &["a.png", "-l", "x", "y"][..]),
        ("search", &["o.npy", "cat"]),
    ] {
        let plain = run(&room, command, arguments).ends_with(0).out;
        for (file, is_said) in [
            ("x.csv", true),
            ("x.parquet", true),
            ("x.jsonl", false),
            ("x.ndjson", false),
            ("x.txt", false),
            ("x.2026-11-30", false),
            ("x", false),
        ] {
            let more = ["-f", "jsonl", "-o", file];
            let ran = run(&room, command, &[arguments, &more].concat()).ends_with(0);
            assert_eq!(room.read(file), plain, "{command} {file}");
            assert_eq!(ran.stderr().contains(file), is_said, "{}", ran.stderr());
        }
    }
}

#[test]
fn a_dash_is_stdout_for_every_command() {
    let room = Room::with(&["a.png"]);
    run(&room, "embed", &["a.png", "-o", "o.npy"]).ends_with(0);
    let before = room.names();
    for (command, arguments) in [
        ("classify", &["a.png", "-l", "x", "y"][..]),
        ("search", &["o.npy", "cat"]),
        ("embed", &["a.png"]),
    ] {
        let plain = run(&room, command, arguments).ends_with(0).out;
        let dashed = [arguments, &["-o", "-"]].concat();
        assert_eq!(
            run(&room, command, &dashed).ends_with(0).out,
            plain,
            "{command}"
        );
    }
    assert_eq!(room.names(), before);
    run(&room, "embed", &["a.png", "-o", "-", "--resume"])
        .ends_with(2)
        .says(&["--resume"]);
}

#[test]
fn csv_for_excel_begins_with_a_mark() {
    let room = Room::with(&["p/é/a.png", "p/dog/b.png", "p/é/c.png", "p/dog/d.png"]);
    run(&room, "embed", &["p", "-o", "o.npy"]).ends_with(0);
    for (command, arguments) in [
        ("classify", &["p", "-l", "é", "x"][..]),
        ("search", &["o.npy", "é"]),
    ] {
        for format in ["csv", "tsv"] {
            let arguments = [arguments, &["-f", format]].concat();
            let plain = run(&room, command, &arguments).ends_with(0).out;
            let marked = [&arguments[..], &["--bom"]].concat();
            let marked = run(&room, command, &marked).ends_with(0).out;
            assert_eq!(marked, format!("\u{feff}{plain}"), "{command} {format}");
        }
        // The suffix counts as well.
        let file = [arguments, &["-o", "x.csv", "--bom"]].concat();
        run(&room, command, &file).ends_with(0);
        assert!(room.read("x.csv").starts_with('\u{feff}'));
        for more in [&["--bom"][..], &["--bom", "-f", "json"], &["--image-bytes"]] {
            run(&room, command, &[arguments, more].concat())
                .ends_with(2)
                .says(&["applies only to csv and tsv"]);
        }
    }
    run(&room, "evaluate", &["p", "--out", "e", "--bom"]).ends_with(0);
    assert!(room.read("e/confusion.csv").starts_with('\u{feff}'));
    assert!(!room.read("e/results.json").starts_with('\u{feff}'));
    run(&room, "evaluate", &["p", "--bom"]).ends_with(2);
    let probe = ["o.npy", "--l2", "0.1", "--val-split", "0.5", "--bom"];
    let csv = run(&room, "probe", &[&probe[..], &["-f", "csv"]].concat())
        .ends_with(0)
        .out;
    assert!(csv.starts_with("\u{feff}classifier,"), "{csv}");
    run(&room, "probe", &probe)
        .ends_with(2)
        .says(&["--bom applies only to csv"]);
}

#[cfg(target_os = "linux")]
#[test]
fn csv_has_the_exact_bytes_of_odd_names() {
    use std::os::unix::ffi::OsStrExt as _;
    let room = Room::with(&["p/b.png", "q/b.png"]);
    let odd = std::ffi::OsStr::from_bytes(b"p/a\xff.png");
    room.image(std::path::Path::new(odd));
    run(&room, "embed", &["p", "-o", "o.npy"]).ends_with(0);
    run(&room, "embed", &["q", "-o", "q.npy"]).ends_with(0);
    let cells = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
    let check = |csv: &str| {
        let rows: Vec<Vec<String>> = csv.lines().map(cells).collect();
        assert_eq!(rows[0].last().unwrap(), "image_bytes", "{csv}");
        for row in &rows[1..] {
            let is_odd = row.iter().any(|cell| cell == "p/a\u{fffd}.png");
            let expected = if is_odd { "cC9h/y5wbmc=" } else { "" };
            assert_eq!(row.last().unwrap(), expected, "{csv}");
        }
        assert!(csv.contains("cC9h/y5wbmc="), "{csv}");
    };
    check(
        &run(&room, "classify", &["p", "-l", "x", "y", "-f", "csv"])
            .ends_with(0)
            .out,
    );
    check(
        &run(&room, "search", &["o.npy", "cat", "-f", "csv"])
            .ends_with(0)
            .out,
    );
    // Where all paths are ordinary, the header is the contract's.
    for (command, arguments) in [
        ("classify", &["q", "-l", "x", "y", "-f", "csv"][..]),
        ("search", &["q.npy", "cat", "-f", "csv"]),
    ] {
        let csv = run(&room, command, arguments).ends_with(0).out;
        assert!(csv.lines().next().unwrap().ends_with(",error"), "{csv}");
        let always = [arguments, &["--image-bytes"]].concat();
        let csv = run(&room, command, &always).ends_with(0).out;
        assert!(
            csv.lines().next().unwrap().ends_with(",image_bytes"),
            "{csv}"
        );
    }
    // What a list names is not known when the header is written.
    room.file("list", b"q/b.png\np/a\xff.png\n");
    let arguments = ["--files-from", "list", "-l", "x", "y", "-f", "csv"];
    let ran = run(&room, "classify", &arguments).ends_with(0);
    assert!(!ran.out.contains("image_bytes"));
    ran.says(&["a\u{fffd}.png is not UTF-8", "--image-bytes"]);
    let exact = [&arguments[..], &["--image-bytes"]].concat();
    let ran = run(&room, "classify", &exact).ends_with(0);
    assert!(!ran.stderr().contains("UTF-8"), "{}", ran.stderr());
    check(&ran.out);
}

#[test]
fn lines_of_embed_name_an_image_as_other_records_do_and_as_parquet_does() {
    let room = Room::with(&["a.png"]);
    room.broken("b.png");
    let lines = run(&room, "embed", &["a.png", "b.png"])
        .ends_with(1)
        .records();
    let records = room.classify(&["a.png", "b.png", "-l", "x", "y"]).records();
    for (line, record) in lines.iter().zip(&records) {
        assert_eq!(line["image"], record["image"]);
        assert_eq!(line["path"], record["image"]);
    }
    // A file with either name alone is searched.
    for dropped in ["image", "path"] {
        let mut line = lines[0].clone();
        line.as_object_mut().unwrap().remove(dropped);
        room.file("o.jsonl", format!("{line}\n"));
        let found = run(&room, "search", &["o.jsonl", "cat"])
            .ends_with(0)
            .record();
        assert_eq!(found["hits"][0]["image"], "a.png", "{dropped}");
    }
    let mut line = lines[0].clone();
    line["path"] = "c.png".into();
    room.file("o.jsonl", format!("{line}\n"));
    run(&room, "search", &["o.jsonl", "cat"])
        .ends_with(2)
        .says(&["\"image\" and \"path\" name different images"]);
}
