//! `--frames`: animations frame by frame, and video through a pipe.

use std::fs;
use std::path::Path;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use serde_json::Value;

use crate::room::{Room, records};
use crate::running::Running;
use crate::small;

const LABELS: [&str; 3] = ["-l", "cat", "dog"];

/// Copies animations of tests/fixtures/frames.
fn with_fixtures(names: &[&str]) -> Room {
    let room = Room::new();
    for name in names {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/frames");
        room.file(name, fs::read(folder.join(name)).unwrap());
    }
    room
}

/// The record without what names its frame.
fn answer(record: &Value) -> Value {
    let mut answer = record.clone();
    let keys = answer.as_object_mut().unwrap();
    for key in ["image", "frame", "time", "warnings"] {
        keys.remove(key);
    }
    answer
}

fn frame_of(record: &Value) -> (&str, Option<u64>, Option<f64>) {
    let image = record["image"].as_str().unwrap();
    (image, record["frame"].as_u64(), record["time"].as_f64())
}

#[test]
fn each_frame_is_answered_like_its_png() {
    let room = with_fixtures(&["disposals.gif", "blends.png", "blends.webp"]);
    room.image("a.png");
    let names = ["disposals.gif", "a.png", "blends.png", "blends.webp"];
    let ran = room.classify(&[&names, &LABELS[..], &["--frames", "all"]].concat());
    let records = ran.ends_with(0).records();
    assert_eq!(records.len(), 22);
    assert_eq!(
        frame_of(&records[3]),
        ("disposals.gif", Some(3), Some(0.17))
    );
    assert_eq!(frame_of(&records[7]), ("a.png", None, None));
    assert_eq!(frame_of(&records[21]), ("blends.webp", Some(6), Some(0.36)));
    // As Pillow composes them; WebP differs by 1 of 255 where transparent pixels meet.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/frames");
    let mut frames = records.iter().filter(|record| record["frame"].is_u64());
    for name in ["disposals.gif", "blends.png"] {
        let strip = image::open(folder.join(format!("{name}.frames.png"))).unwrap();
        for index in 0..7 {
            let png = format!("{index}.png");
            strip
                .crop_imm(0, 14 * index, 20, 14)
                .save(room.path(&png))
                .unwrap();
            let still = room.classify(&[&[png.as_str()], &LABELS[..]].concat());
            let frame = frames.next().unwrap();
            assert_eq!(answer(frame), answer(&still.record()), "{name} {index}");
        }
    }
}

#[test]
fn frames_are_chosen_and_named_in_every_format() {
    let room = with_fixtures(&["disposals.gif"]);
    let run = |more: &[&str]| {
        let ran = room.classify(&[&["disposals.gif"], &LABELS[..], &["-k", "1"], more].concat());
        ran.ends_with(0).out
    };
    let indices = |which: &str| {
        let records = records(&run(&["--frames", which]));
        records
            .iter()
            .map(|one| one["frame"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(indices("every:4"), [0, 4]);
    assert_eq!(indices("2"), [1, 5]);
    assert_eq!(indices("9"), [0, 1, 2, 3, 4, 5, 6]);
    let table = run(&["--frames", "2", "-f", "table"]);
    assert!(
        table.contains("disposals.gif#1\n") && table.contains("disposals.gif#5\n"),
        "{table}"
    );
    let csv = run(&["--frames", "2", "-f", "csv"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        lines[0],
        "image,label,probability,logit,cosine,rank,error,frame,time"
    );
    assert!(
        lines[2].starts_with("disposals.gif,") && lines[2].ends_with(",,5,1.21"),
        "{csv}"
    );
    // Without the flag, nothing changes.
    let plain = run(&["-f", "csv"]);
    assert!(
        plain.starts_with("image,label,probability,logit,cosine,rank,error\n"),
        "{plain}"
    );
    assert_eq!(plain.lines().count(), 2);
}

#[test]
fn a_cache_keeps_frames_apart_from_their_file() {
    let room = with_fixtures(&["disposals.gif", "blends.webp"]);
    let run = |more: &[&str]| {
        let files = ["disposals.gif", "blends.webp"];
        let ran = room.classify(&[&files, &LABELS[..], more].concat());
        ran.ends_with(0).out
    };
    let cases: [&[&str]; 4] = [
        &[],
        &["--frames", "all"],
        &["--frames", "2"],
        &["--frames", "all", "--frames-mean"],
    ];
    let plain = cases.map(run);
    for _ in 0..2 {
        for (case, plain) in cases.iter().zip(&plain) {
            assert_eq!(
                run(&[case, &["--cache", "kept"][..]].concat()),
                *plain,
                "{case:?}"
            );
        }
    }
}

#[test]
fn rows_and_means_are_embedded_and_found() {
    let room = with_fixtures(&["disposals.gif"]);
    room.image("a.png");
    let embed = |more: &[&str], code| {
        let start = ["embed", "-m", small::model(), "disposals.gif", "a.png"];
        room.longclip(&[&start, more].concat(), &[]).ends_with(code)
    };
    let vector = |record: &Value| -> Vec<f64> {
        let values = record["embedding"].as_array().unwrap();
        values.iter().map(|value| value.as_f64().unwrap()).collect()
    };
    let each = embed(&["--frames", "all"], 0);
    assert_eq!(each.images()[6..], ["disposals.gif#6", "a.png"]);
    let mean = embed(&["--frames", "all", "--frames-mean"], 0).records();
    assert_eq!(mean[0]["image"], "disposals.gif");
    let rows: Vec<_> = each.records().iter().map(vector).collect();
    assert_eq!(rows[7], vector(&mean[1]));
    let mut sum = vec![0.0; rows[0].len()];
    for row in &rows[..7] {
        sum.iter_mut()
            .zip(row)
            .for_each(|(sum, value)| *sum += value);
    }
    let norm = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    for (found, sum) in vector(&mean[0]).iter().zip(&sum) {
        assert!((found - sum / norm).abs() < 1e-6);
    }
    for file in ["o.npy", "o.parquet"] {
        embed(&["--frames", "all", "-o", file], 0);
        let whole = fs::read(room.path(file)).unwrap();
        embed(&["--frames", "all", "-o", file, "--resume"], 0);
        assert_eq!(fs::read(room.path(file)).unwrap(), whole, "{file}");
        embed(&["-o", file, "--resume"], 2).says(&["frames=all"]);
        let search = [
            "search",
            "-m",
            small::model(),
            file,
            "./a.png",
            "-f",
            "paths",
        ];
        let found = room.longclip(&search, &[]).ends_with(0).out;
        assert!(found.contains("disposals.gif#6\n"), "{found}");
    }
}

/// Small drawings that differ.
fn drawn(number: u8) -> RgbImage {
    let shade = |x: u32| number * 40 + x as u8 * 9;
    RgbImage::from_fn(6, 4, |x, y| Rgb([shade(x), shade(y), 200]))
}

fn ppm(image: &RgbImage) -> Vec<u8> {
    let (width, height) = image.dimensions();
    let header = format!("P6\n{width} {height}\n255\n");
    [header.as_bytes(), image.as_raw()].concat()
}

/// A frame in grey.
fn y4m(number: u8) -> Vec<u8> {
    let luma: Vec<u8> = (0..24).map(|at| number * 40 + at * 3).collect();
    [b"FRAME\n", luma.as_slice(), &[128; 12]].concat()
}

fn stream(room: &Room, more: &[&str]) -> Running {
    let mut command = room.command();
    command.args(["classify", "-m", small::model(), "-"]);
    command.args(LABELS).args(["--frames", "all"]).args(more);
    Running::start(command)
}

#[test]
fn images_in_a_stream_are_answered_like_their_pngs_while_it_goes_on() {
    let room = Room::new();
    let mut running = stream(&room, &[]);
    for number in 0..4 {
        let image = drawn(number);
        // Nothing more comes before the answer.
        running.write(&ppm(&image));
        let found: Value = serde_json::from_str(&running.line()).unwrap();
        assert_eq!(frame_of(&found), ("-", Some(number.into()), None));
        let image = DynamicImage::from(image);
        image
            .save_with_format(room.path("a.png"), ImageFormat::Png)
            .unwrap();
        let still = room.classify(&[&["a.png"], &LABELS[..]].concat());
        assert_eq!(answer(&found), answer(&still.record()), "{number}");
    }
    running.close_stdin();
    assert_eq!(running.end().0, Some(0));
    assert!(running.rest().is_empty());
}

#[test]
fn a_video_is_answered_while_it_goes_on_and_up_to_its_break() {
    let room = Room::new();
    let mut running = stream(&room, &[]);
    running.write(b"YUV4MPEG2 W6 H4 F30000:1001 Ip A1:1 C420jpeg\n");
    for number in 0..3 {
        running.write(&y4m(number));
        let found: Value = serde_json::from_str(&running.line()).unwrap();
        let time = [0.0, 0.033_367, 0.066_733][usize::from(number)];
        assert_eq!(frame_of(&found), ("-", Some(number.into()), Some(time)));
        assert_eq!(crate::room::labels(&found).len(), 2);
    }
    running.write(&y4m(3)[..20]);
    running.close_stdin();
    let rest: Vec<Value> = records(&running.rest().join("\n"));
    assert_eq!(rest.len(), 1);
    assert_eq!(frame_of(&rest[0]), ("-", Some(3), None));
    assert_eq!(
        rest[0]["error"],
        "the stream ends before the frame is complete"
    );
    let (code, said) = running.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("-#3: the stream ends"), "{said}");
}

#[test]
fn an_endless_stream_is_stopped_after_what_was_complete() {
    let room = Room::new();
    let mut running = stream(&room, &["--batch-size", "3"]);
    let frames: Vec<u8> = (0..5).flat_map(|number| ppm(&drawn(number))).collect();
    running.write(&frames);
    (0..5).for_each(|_| drop(running.line()));
    running.signal("INT");
    assert_eq!(running.end().0, Some(130));
    assert!(running.rest().is_empty());
}

#[test]
fn a_video_in_a_file_has_the_same_frames() {
    let room = Room::new();
    let header = b"YUV4MPEG2 W6 H4 F25:1 C420jpeg\n";
    let video = [header.to_vec(), y4m(1), y4m(2), y4m(3)].concat();
    room.file("a.y4m", &video);
    let run = |image: &str, stdin: &[u8], which: &str| {
        let arguments = [&[image], &LABELS[..], &["--frames", which]].concat();
        room.classify_with_stdin(&arguments, stdin)
    };
    let file = run("a.y4m", b"", "every:2").ends_with(0).out;
    let piped = run("-", &video, "every:2").ends_with(0).out;
    assert_eq!(file.replace("a.y4m", "-"), piped);
    assert_eq!(records(&file).len(), 2);
    run("a.y4m", b"", "2")
        .ends_with(2)
        .says(&["a video does not say how many frames"]);
    run("-", b"", "all").ends_with(2).says(&["an empty file"]);
    run("-", header, "all")
        .ends_with(2)
        .says(&["there are no frames"]);
    let plain = room.classify(&[&["a.y4m"], &LABELS[..]].concat());
    plain.ends_with(2).says(&["a Y4M video; pass --frames all"]);
    let png = crate::room::png("a");
    let still = run("-", &png, "all").ends_with(0).record();
    assert_eq!(frame_of(&still), ("-", None, None));
}

#[test]
fn what_cannot_be_done_with_frames_is_refused() {
    let room = with_fixtures(&["disposals.gif"]);
    let run = |more: &[&str]| room.classify(&[&["disposals.gif"], &LABELS[..], more].concat());
    for which in ["0", "-1", "every:0", "every:", "each", "1.5"] {
        let flag = format!("--frames={which}");
        run(&[&flag])
            .ends_with(2)
            .says(&["expected all, every:K or a number"]);
    }
    run(&["--frames-mean"]).ends_with(2).says(&["--frames"]);
    run(&["--frames", "all", "--move", "sorted"])
        .ends_with(2)
        .says(&["single frames cannot"]);
    assert_eq!(room.names(), ["disposals.gif"]);
    run(&["--frames", "all", "--frames-mean", "--copy", "sorted"]).ends_with(0);
    assert!(room.names().contains(&"sorted".to_owned()));
}

#[test]
fn a_damaged_animation_is_answered_up_to_the_damage() {
    let room = with_fixtures(&["disposals.gif"]);
    let whole = fs::read(room.path("disposals.gif")).unwrap();
    room.file("cut.gif", &whole[..500]);
    room.image("a.png");
    let run = |more: &[&str]| {
        let ran = room.classify(&[&["cut.gif", "a.png"], &LABELS[..], more].concat());
        ran.ends_with(1).records()
    };
    let records = run(&["--frames", "all"]);
    let last = records.len() - 2;
    assert!(
        last > 1
            && records[..last]
                .iter()
                .all(|one| one["predictions"].is_array())
    );
    assert_eq!(frame_of(&records[last]).1, Some(last as u64));
    let error = records[last]["error"].as_str().unwrap();
    assert!(error.contains("the GIF file ends before"), "{error}");
    // Frames that are not chosen are read all the same, and a mean of some would be another one.
    let spread = run(&["--frames", "1"]);
    assert!(spread[spread.len() - 2]["error"].is_string());
    let mean = run(&["--frames", "all", "--frames-mean"]);
    assert_eq!(
        (mean.len(), mean[0]["frame"].as_u64()),
        (2, Some(last as u64))
    );
    assert!(mean[0]["error"].is_string() && mean[1]["predictions"].is_array());
}

#[test]
fn a_stream_of_compressed_images_is_refused_while_it_goes_on() {
    let room = Room::new();
    let mut running = stream(&room, &[]);
    drawn(1).save(room.path("a.jpg")).unwrap();
    let jpeg = fs::read(room.path("a.jpg")).unwrap();
    assert!(jpeg.starts_with(b"\xff\xd8"));
    running.write(&[&jpeg[..], &jpeg].concat());
    // Its end never comes.
    let found: Value = serde_json::from_str(&running.line()).unwrap();
    let error = "the stream has more than one JPEG; pass -c:v ppm to ffmpeg";
    assert_eq!(found["error"], error);
    assert_eq!(running.end().0, Some(2));
}

#[test]
fn several_ppm_in_a_file_are_its_frames() {
    let room = Room::new();
    let images: Vec<u8> = (0..3).flat_map(|number| ppm(&drawn(number))).collect();
    room.file("a.ppm", &images);
    room.file("b.ppm", ppm(&drawn(1)));
    let run = |image: &str, stdin: &[u8]| {
        let arguments = [&[image], &LABELS[..], &["--frames", "all"]].concat();
        room.classify_with_stdin(&arguments, stdin).ends_with(0).out
    };
    let file = run("a.ppm", b"");
    assert_eq!(file.replace("a.ppm", "-"), run("-", &images));
    let still = records(&run("b.ppm", b""));
    assert_eq!(frame_of(&still[0]), ("b.ppm", None, None));
    assert_eq!(answer(&still[0]), answer(&records(&file)[1]));
}

#[test]
fn a_warning_about_what_is_not_read_is_in_the_record_with_a_cache_too() {
    let room = Room::new();
    drawn(1).save(room.path("a.jpg")).unwrap();
    let jpeg = fs::read(room.path("a.jpg")).unwrap();
    room.file("two.jpg", [&jpeg[..], &jpeg].concat());
    let warnings = |more: &[&str]| {
        let ran = room.classify(&[&["two.jpg"], &LABELS[..], more].concat());
        ran.ends_with(0).record()["warnings"].clone()
    };
    for more in [&[][..], &["--cache", "kept"], &["--cache", "kept"]] {
        assert!(warnings(more).is_null());
        let said = warnings(&[more, &["--frames", "all"]].concat());
        let said = said[0].as_str().unwrap();
        assert!(
            said.starts_with("jpeg: only the first image was read"),
            "{said}"
        );
    }
}

#[test]
fn a_stream_that_pauses_holds_nothing_that_others_need() {
    let room = Room::new();
    // Decoded as a whole.
    let large = RgbImage::from_fn(1000, 1000, |x, y| Rgb([x as u8, y as u8, 9]));
    room.file("a.ppm", ppm(&large));
    room.file("b.ppm", ppm(&large));
    let luma = [
        b"YUV4MPEG2 W2400 H1600 F25:1 C420jpeg\nFRAME\n",
        &[0; 1000][..],
    ]
    .concat();
    for start in [luma, b"P6\n1600 1200\n255\n..".to_vec()] {
        let mut command = room.command();
        command.args(["classify", "-m", small::model(), "a.ppm", "b.ppm", "-"]);
        command
            .args(LABELS)
            .args(["--frames", "all", "--threads", "1"]);
        command.args(["--max-memory", "8M"]);
        let mut running = Running::start(command);
        running.write(&start);
        for name in ["a.ppm", "b.ppm"] {
            let found: Value = serde_json::from_str(&running.line()).unwrap();
            assert_eq!(found["image"], name);
            assert!(found["predictions"].is_array(), "{found}");
        }
        running.signal("INT");
        assert_eq!(running.end().0, Some(130));
    }
}

#[test]
fn a_mean_is_answered_before_the_next_source_is_named() {
    let room = with_fixtures(&["disposals.gif", "blends.webp"]);
    let mut command = room.command();
    command.args(["classify", "-m", small::model(), "--files-from", "-"]);
    command
        .args(LABELS)
        .args(["--frames", "all", "--frames-mean"]);
    let mut running = Running::start(command);
    for name in ["disposals.gif", "blends.webp"] {
        running.write(format!("{name}\n").as_bytes());
        let found: Value = serde_json::from_str(&running.line()).unwrap();
        assert_eq!(frame_of(&found), (name, None, None));
    }
    running.close_stdin();
    assert_eq!(running.end().0, Some(0));
}
