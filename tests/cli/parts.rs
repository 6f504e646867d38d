//! `--shard`, `-o DIR/` and `longclip merge`: many processes, one result.

use std::fs;

use serde_json::Value;

use crate::room::{Room, records};
use crate::running::Running;
use crate::schema::assert_fits;
use crate::small;

pub(crate) const LABELS: [&str; 3] = ["-l", "cat", "dog"];

/// Eleven images, two of them unreadable; a name with a comma and a line end.
pub(crate) fn room() -> Room {
    let room = Room::with(&[
        "p/a.png",
        "p/b.png",
        "p/c.png",
        "p/d, \"e\".png",
        "p/f.png",
        "p/g.png",
        "p/h.png",
        "p/i.png",
        "p/j\nk.png",
    ]);
    room.broken("p/bad.png");
    room.broken("p/c-bad.png");
    room
}

/// The part files and whatever else is in a folder.
pub(crate) fn names(room: &Room, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(room.path(folder)).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(crate) fn bytes(room: &Room, name: &str) -> Vec<u8> {
    fs::read(room.path(name)).unwrap()
}

/// `longclip COMMAND --model SMALL …`.
fn run(room: &Room, command: &str, arguments: &[&str], code: i32) -> crate::room::Ran {
    let all = [&[command, "--model", small::model()], arguments].concat();
    room.longclip(&all, &[]).ends_with(code)
}

pub(crate) fn merge(room: &Room, arguments: &[&str], code: i32) -> crate::room::Ran {
    let all = [&["merge"], arguments].concat();
    room.longclip(&all, &[]).ends_with(code)
}

/// The two statuses that a share with some bad images may have.
fn share(room: &Room, command: &str, arguments: &[&str]) {
    let all = [&[command, "--model", small::model()], arguments].concat();
    let code = room.longclip(&all, &[]).code;
    assert!(matches!(code, Some(0..=2)), "{code:?}");
}

#[test]
fn joined_records_are_the_bytes_of_one_process() {
    let room = room();
    for (format, more) in [
        ("jsonl", &[][..]),
        ("csv", &["--bom"]),
        ("csv", &["--image-bytes", "-k", "1"]),
        ("tsv", &["--threshold", "0.9"]),
    ] {
        let common = [&["p"], &LABELS[..], &["-f", format], more].concat();
        run(
            &room,
            "classify",
            &[&common[..], &["-o", "whole"]].concat(),
            1,
        );
        let whole = bytes(&room, "whole");
        for (count, size) in [(1, "3"), (2, "1"), (3, "4"), (4, "100")] {
            let folder = format!("parts-{format}-{}-{count}/", more.len());
            // The last one first, and with other numbers of threads.
            for index in (0..count).rev() {
                let of = format!("{index}/{count}");
                let threads = if index == 0 { "1" } else { "2" };
                let how = [
                    "-o",
                    &folder,
                    "--shard",
                    &of,
                    "--part-size",
                    size,
                    "-j",
                    threads,
                ];
                share(&room, "classify", &[&common[..], &how].concat());
            }
            let output = format!("joined.{format}");
            merge(&room, &[&folder, "-o", &output], 0);
            assert_eq!(bytes(&room, &output), whole, "{format} {count} {size}");
            assert_eq!(merge(&room, &[&folder], 0).out.as_bytes(), whole);
        }
    }
}

#[test]
fn joined_embeddings_are_the_bytes_of_one_process() {
    let room = room();
    for (format, more) in [
        ("npy", &[][..]),
        ("npy", &["--dtype", "f16"]),
        ("safetensors", &[]),
        ("parquet", &[]),
        ("jsonl", &[]),
    ] {
        let whole = format!("whole.{format}");
        let common = [&["p"][..], more].concat();
        run(&room, "embed", &[&common[..], &["-o", &whole]].concat(), 1);
        let folder = format!("parts-{format}-{}", more.len());
        // With one image in a part, some parts have no rows.
        for of in ["1/2", "0/2"] {
            let folder = folder.clone() + "/";
            let how = [
                "-f",
                format,
                "-o",
                &folder,
                "--shard",
                of,
                "--part-size",
                "1",
            ];
            run(&room, "embed", &[&common[..], &how].concat(), 1);
        }
        let joined = format!("joined.{format}");
        merge(&room, &[&folder, "-o", &joined], 0);
        assert_eq!(bytes(&room, &joined), bytes(&room, &whole), "{format}");
        for next_to in [".paths.jsonl", ".errors.jsonl"] {
            let [whole, joined] = [&whole, &joined].map(|name| match next_to {
                ".paths.jsonl" => name.replace(".npy", next_to),
                _ => name.clone() + next_to,
            });
            let there = room.path(&whole).exists() && whole != joined;
            assert_eq!(there, room.path(&joined).exists(), "{format} {next_to}");
            if there {
                assert_eq!(bytes(&room, &joined), bytes(&room, &whole), "{format}");
            }
        }
        let left: Vec<String> = room.names();
        assert!(
            left.iter().all(|name| !name.ends_with(".partial")),
            "{left:?}"
        );
    }
    merge(&room, &["parts-npy-0"], 2).says(&["npy is not text; name a file with --output"]);
}

#[test]
fn joined_tables_of_parquet_have_all_rows() {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    let room = room();
    let rows = |name: &str| -> Vec<String> {
        let file = fs::File::open(room.path(name)).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let rows = reader.get_row_iter(None).unwrap();
        rows.map(|row| row.unwrap().to_string()).collect()
    };
    let common = [&["p"], &LABELS[..]].concat();
    run(
        &room,
        "classify",
        &[&common[..], &["-o", "whole.parquet"]].concat(),
        1,
    );
    let how = ["-f", "parquet", "-o", "parts/", "--part-size", "4"];
    run(&room, "classify", &[&common[..], &how].concat(), 1);
    merge(&room, &["parts", "-o", "joined.parquet"], 0);
    assert_eq!(rows("whole.parquet").len(), 20);
    assert_eq!(rows("joined.parquet"), rows("whole.parquet"));
    merge(&room, &["parts", "-o", "joined.csv"], 2).says(&["the parts are parquet"]);
}

#[test]
fn an_archive_is_one_part_and_its_failures_count() {
    let room = Room::with(&["x/a.png", "x/b.png", "y.png", "z.png"]);
    room.broken("x/c.png");
    let made = std::process::Command::new("tar")
        .args(["cf", "x.tar", "-C", "x", "a.png", "b.png", "c.png"])
        .current_dir(room.path(""))
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return;
    }
    let list = "y.png\n{\"path\":\"x.tar\",\"id\":7}\nz.png\n{\"shard\":\"x.tar\",\"key\":\"b\"}\n";
    room.file("list", list);
    let common = [&["--files-from", "list"], &LABELS[..]].concat();
    let whole = run(&room, "classify", &common, 1).out;
    assert_eq!(records(&whole).len(), 6);
    for of in ["0/2", "1/2"] {
        let how = ["-o", "parts/", "--shard", of];
        share(&room, "classify", &[&common[..], &how].concat());
    }
    assert_eq!(merge(&room, &["parts"], 0).out, whole);
    let units: Vec<usize> = (0..3)
        .map(|unit| records(&room.read(&format!("parts/part-00000{unit}.jsonl"))).len())
        .collect();
    assert_eq!(units, [1, 3, 2]);
    // On stdout, each share has its units alone.
    let half = |of| {
        let all = [
            &["classify", "-m", small::model()],
            &common[..],
            &["--shard", of],
        ]
        .concat();
        room.longclip(&all, &[]).out
    };
    let [even, odd] = ["0/2", "1/2"].map(half);
    assert_eq!((records(&even).len(), records(&odd).len()), (3, 3));
}

#[test]
fn what_is_there_is_kept_and_its_failures_count() {
    let room = room();
    let common = [
        &["p"],
        &LABELS[..],
        &["-o", "parts/", "--part-size", "5", "-v"],
    ]
    .concat();
    let first = run(&room, "classify", &common, 1);
    assert!(first.stderr().contains("model ready"));
    let part: Value = serde_json::from_str(&room.read("parts/part-000000.json")).unwrap();
    let before = names(&room, "parts");
    assert_eq!(before.len(), 8, "{before:?}");
    let again = run(&room, "classify", &common, 1).says(&["kept 3 parts"]);
    assert!(!again.stderr().contains("model ready"));
    assert!(!again.stderr().contains("p/bad.png"), "not read again");
    let within = [&common[..], &["--max-errors", "2", "--summary", "s.json"]].concat();
    run(&room, "classify", &within, 0);
    let summary: Value = serde_json::from_str(&room.read("s.json")).unwrap();
    assert_eq!(summary["failed_by_kind"]["decode"], 2, "{summary}");
    // A part is made again if its record or its file is gone, or the file is shorter.
    let whole = merge(&room, &["parts"], 0).out;
    fs::remove_file(room.path("parts/part-000000.json")).unwrap();
    room.file("parts/part-000001.jsonl", "{}\n");
    fs::remove_file(room.path("parts/part-000002.jsonl")).unwrap();
    merge(&room, &["parts"], 1);
    run(&room, "classify", &common, 1);
    assert_eq!(names(&room, "parts"), before);
    assert_eq!(merge(&room, &["parts"], 0).out, whole);
    assert_fits(&[part], "part");
    let run: Value = serde_json::from_str(&room.read("parts/run.json")).unwrap();
    assert_fits(&[run], "parts-run");
    let units: Value = serde_json::from_str(&room.read("parts/units.json")).unwrap();
    assert_fits(&[units], "units");
}

#[test]
fn other_settings_or_another_list_are_refused_by_name() {
    let room = room();
    let common = [&["p"], &LABELS[..], &["-o", "parts/", "--part-size", "4"]].concat();
    run(&room, "classify", &common, 1);
    let before = names(&room, "parts");
    for (more, name) in [
        (&["-k", "1"][..], "top_k"),
        (&["--threshold", "0.5"], "threshold"),
        (&["--score", "cosine"], "score"),
        (&["-l", "cat", "cow"], "labels"),
        (&["--template", "a {}"], "labels"),
        (&["--none-label", "other"], "none_label"),
        (&["-f", "csv"], "format"),
        (&["--part-size", "5"], "part_size"),
        (&["--precision", "int8-fast"], "precision"),
        (&["--alpha", "black"], "embeddings"),
        (&["--strict"], "limits"),
        (&["--max-pixels", "9"], "limits"),
        (&["--frames", "all"], "embeddings"),
        (&["--model", "tiny"], "model"),
    ] {
        // A flag that is given twice is refused, so the new one replaces the old one.
        let kept = common.chunks(1).map(|one| one[0]).collect::<Vec<_>>();
        let arguments: Vec<&str> = match more[0] {
            "-l" => [&["p"], more, &["-o", "parts/", "--part-size", "4"]].concat(),
            "--part-size" => [&["p"], &LABELS[..], &["-o", "parts/"], more].concat(),
            _ => [&kept[..], more].concat(),
        };
        let model = ["--model", small::model()];
        let model = if more[0] == "--model" {
            &[][..]
        } else {
            &model
        };
        let all = [&["classify"], model, &arguments[..]].concat();
        let ran = room.longclip(&all, &[]).ends_with(2);
        ran.says(&["the parts in parts/ were made with other settings", name]);
    }
    room.image("p/b2.png");
    run(&room, "classify", &common, 2).says(&["is about other images than this run"]);
    fs::remove_file(room.path("p/b2.png")).unwrap();
    // A unit more, which no part has: units.json knows.
    for name in ["p/x.png", "p/y.png"] {
        room.image(name);
    }
    fs::remove_file(room.path("parts/part-000002.json")).unwrap();
    run(&room, "classify", &common, 2).says(&["units.json is about other images"]);
    // What was made of it meanwhile is not joined.
    merge(&room, &["parts"], 2).says(&["begin again in another folder"]);
    assert!(names(&room, "parts").len() >= before.len());
}

#[test]
fn a_folder_of_other_things_is_no_folder_for_parts() {
    let room = room();
    run(
        &room,
        "classify",
        &[&["p/a.png"], &LABELS[..], &["-o", "p"]].concat(),
        2,
    )
    .says(&["the output p is a folder", "and no run.json"]);
    run(&room, "embed", &["p/a.png", "-o", "p"], 2).says(&["the output p is a folder"]);
    run(
        &room,
        "classify",
        &[&["p/a.png"], &LABELS[..], &["-o", "gone/p/"]].concat(),
        2,
    )
    .says(&["the folder gone of the output gone/p/ does not exist"]);
    merge(&room, &["p"], 2).says(&["p has no run.json"]);
    merge(&room, &["gone"], 2).says(&["gone has no run.json"]);
    let parts = ["-o", "parts/"];
    for (more, what) in [
        (&["--report", "r.html"][..], "--report is done once"),
        (&["--move", "sorted"], "--link, --copy or --move"),
        (&["--xmp"], "--xmp is done once"),
        (&["-f", "json"], "parts can be jsonl, csv, tsv or parquet"),
    ] {
        let arguments = [&["p"], &LABELS[..], &parts, more].concat();
        run(&room, "classify", &arguments, 2).says(&[what]);
    }
    run(
        &room,
        "classify",
        &[&["-"], &LABELS[..], &parts].concat(),
        2,
    )
    .says(&["stdin (-) cannot be read again"]);
    for (arguments, what) in [
        (&["--text", "a cat", "-o", "parts/"][..], "divide images"),
        (&["--text", "a cat", "--shard", "0/2"], "divide images"),
        (
            &["p", "-o", "parts/", "--resume"],
            "parts that are there are always kept",
        ),
        (&["p", "-f", "npy"], "--format is about the parts"),
        (
            &["p", "-f", "parquet", "--dtype", "f16", "-o", "parts/"],
            "no 16-bit",
        ),
    ] {
        run(&room, "embed", arguments, 2).says(&[what]);
    }
    run(
        &room,
        "classify",
        &[&["p", "--part-size", "3"], &LABELS[..]].concat(),
        2,
    )
    .says(&["--part-size is about --shard"]);
    run(
        &room,
        "classify",
        &[&["p", "--shard", "2/2"], &LABELS[..]].concat(),
        2,
    )
    .says(&["the last one of 2 is 1/2"]);
}

#[test]
fn missing_and_changed_parts_are_named() {
    let room = room();
    let common = [&["p"], &LABELS[..], &["-o", "parts/", "--part-size", "2"]].concat();
    for of in ["0/4", "2/4"] {
        share(&room, "classify", &[&common[..], &["--shard", of]].concat());
    }
    let ran = merge(&room, &["parts", "-o", "joined.jsonl"], 1);
    ran.says(&[
        "part-000001 is missing; share 1/4 makes it",
        "part-000003 is missing; share 3/4 makes it",
        "part-000005 is missing; share 1/4 makes it",
    ]);
    assert!(!room.path("joined.jsonl").exists());
    run(&room, "classify", &common, 1);
    let whole = merge(&room, &["parts"], 0).out;
    // As long as it was.
    let part = room.read("parts/part-000003.jsonl");
    room.file("parts/part-000003.jsonl", part.replace("cat", "car"));
    let ran = merge(&room, &["parts", "-o", "joined.jsonl"], 2);
    ran.says(&["part-000003.jsonl is not what was written; delete part-000003.json"]);
    assert!(!room.path("joined.jsonl").exists());
    fs::remove_file(room.path("parts/part-000003.json")).unwrap();
    run(&room, "classify", &common, 1);
    assert_eq!(merge(&room, &["parts"], 0).out, whole);
    merge(&room, &["parts", "-o", "parts/part-000000.jsonl"], 2).says(&["one of the parts"]);
}

#[test]
fn shares_are_those_of_the_scheduler_and_read_lists_from_stdin() {
    let room = room();
    let list = "p/a.png\np/b.png\np/c.png\np/f.png\np/g.png\n";
    let common = [
        &["classify", "-m", small::model(), "--files-from", "-"][..],
        &LABELS,
        &["--part-size", "2", "--shard"],
    ]
    .concat();
    let whole = room.longclip_with_stdin(&common[..common.len() - 3], list.as_bytes());
    let whole: Vec<&str> = whole.out.lines().collect();
    let mine = |of: &str, variables: &[(&str, &str)]| {
        let mut command = room.command();
        command
            .args(&common)
            .arg(of)
            .envs(variables.iter().copied());
        let mut running = Running::start(command);
        running.write(list.as_bytes());
        running.close_stdin();
        let lines = running.rest();
        (lines, running.end())
    };
    let slurm = [
        ("SLURM_ARRAY_TASK_ID", "2"),
        ("SLURM_ARRAY_TASK_MIN", "1"),
        ("SLURM_ARRAY_TASK_MAX", "2"),
        ("SLURM_ARRAY_TASK_COUNT", "2"),
    ];
    for (of, variables) in [
        ("1/2", &[][..]),
        ("auto", &slurm),
        ("auto/2", &[("JOB_COMPLETION_INDEX", "1")]),
    ] {
        let (lines, end) = mine(of, variables);
        assert_eq!(lines, whole[2..4], "{of}");
        assert_eq!(end.0, Some(0), "{end:?}");
    }
    assert_eq!(mine("0/2", &[]).0, [&whole[..2], &whole[4..]].concat());
    let (lines, end) = mine("3/4", &[]);
    assert_eq!((lines.len(), end.0), (0, Some(0)));
    assert!(end.1.contains("no images are in this share"), "{end:?}");
    // It ends before it reads the list.
    room.longclip(&[&common[..], &["auto"]].concat(), &[])
        .ends_with(2)
        .says(&["none of SLURM_ARRAY_TASK_ID"]);
}

#[test]
fn an_empty_list_has_no_parts() {
    let room = Room::new();
    room.file("list", "");
    let arguments = [&["--files-from", "list"], &LABELS[..], &["-o", "parts/"]].concat();
    run(&room, "classify", &arguments, 0);
    merge(&room, &["parts"], 0).says(&["there is nothing to join"]);
    assert_eq!(names(&room, "parts"), ["run.json", "units.json"]);
}
