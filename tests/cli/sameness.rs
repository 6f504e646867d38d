//! The same input gives the same bytes, whatever the threads and batches.

use crate::room::{Room, records};
use crate::small;

const LABELS: [&str; 4] = ["-l", "a cat", "a dog", "a red bus on a bridge"];
const NAMES: [&str; 9] = [
    "a.png", "b.png", "c.png", "d.png", "e.png", "f.png", "g.png", "h.png", "i.png",
];

fn room() -> Room {
    let room = Room::with(&NAMES);
    // Sizes and formats of all sorts, and one failure among them.
    for name in ["base.jpg", "size-2x900.png", "alpha.webp", "rgb.bmp"] {
        room.fixture(name);
    }
    room.broken("z.png");
    room
}

fn run(room: &Room, arguments: &[&str]) -> String {
    room.classify(&[&["."], arguments, &LABELS].concat())
        .ends_with(1)
        .out
}

#[test]
fn threads_and_batches_do_not_change_a_byte() {
    let room = room();
    for precision in ["f32", "auto"] {
        let expected = run(&room, &["--precision", precision]);
        assert_eq!(records(&expected).len(), NAMES.len() + 5);
        for threads in ["1", "2", "3"] {
            let threads = ["--precision", precision, "--threads", threads];
            assert_eq!(run(&room, &threads), expected, "{threads:?}");
            for size in ["1", "2", "7"] {
                let arguments = [&threads[..], &["--batch-size", size]].concat();
                assert_eq!(run(&room, &arguments), expected, "{arguments:?}");
            }
        }
    }
}

#[test]
fn other_images_do_not_change_an_images_record() {
    let room = room();
    for precision in ["f32", "auto"] {
        let together = run(&room, &["--precision", precision]);
        for name in ["./a.png", "./f.png", "./size-2x900.png"] {
            let line = |text: &str| {
                let start = format!("{{\"image\":\"{name}\"");
                text.lines()
                    .find(|line| line.starts_with(&start))
                    .unwrap()
                    .to_owned()
            };
            for images in [&[name][..], &[name, "b.png"], &["c.png", name, "b.png"]] {
                for more in [&[][..], &["--batch-size", "3"]] {
                    let arguments = [images, more, &["--precision", precision], &LABELS].concat();
                    let ran = room.classify(&arguments).ends_with(0);
                    assert_eq!(line(&ran.out), line(&together), "{arguments:?}");
                }
            }
        }
    }
}

#[test]
fn threads_may_come_from_the_environment() {
    let room = room();
    let expected = run(&room, &[]);
    let arguments = [&["classify", "-m", small::model(), "-v", "."], &LABELS[..]].concat();
    let ran = room
        .longclip(&arguments, &[("LONGCLIP_THREADS", "3")])
        .ends_with(1);
    assert_eq!(ran.out, expected);
    ran.says(&[", 3 threads"]);
}

#[test]
fn precisions_differ_but_agree_about_the_image() {
    let room = Room::with(&["a.png"]);
    let cosine = |precision: &str| {
        let ran = room.classify(&[
            "a.png",
            "-l",
            "cat",
            "--score",
            "cosine",
            "--precision",
            precision,
        ]);
        crate::room::number(&ran.ends_with(0).record(), "cat", "cosine")
    };
    let exact = cosine("f32");
    for (precision, tolerance) in [("bf16", 0.02), ("int8", 0.05), ("int8-fast", 0.05)] {
        let found = cosine(precision);
        assert_ne!(found, exact, "{precision} is another arithmetic");
        assert!(
            (found - exact).abs() < tolerance,
            "{precision} {found} {exact}"
        );
    }
}

#[test]
fn an_image_that_repeats_is_encoded_once_and_gets_the_same_record() {
    let room = Room::with(&["a.png", "b.png"]);
    let content = std::fs::read(room.path("a.png")).unwrap();
    room.file("copies/1.png", &content);
    room.broken("copies/2.png");
    room.file("copies/3.png", &content);
    let pixels = image::load_from_memory(&content).unwrap();
    pixels.save(room.path("copies/4.bmp")).unwrap();
    let repeats = "3 images repeat earlier ones and were not encoded again";
    let record = |line: &str| {
        let rest = line.split_once(',').unwrap().1;
        rest.to_owned()
    };
    for more in [&[][..], &["--batch-size", "2"], &["--threads", "1"]] {
        let ran = room
            .classify(&[&["a.png", "b.png", "copies", "-v"], more, &LABELS].concat())
            .ends_with(1)
            .says(&[repeats]);
        let lines: Vec<String> = ran.out.lines().map(record).collect();
        assert_eq!(lines.len(), 6);
        for place in [2, 4, 5] {
            assert_eq!(lines[place], lines[0], "{place}");
        }
        assert_ne!(lines[1], lines[0]);
        assert!(lines[3].contains("error"), "{}", lines[3]);
    }
    // The cache keeps each file by its own content; five texts and images are computed.
    let cached = [&["copies", "b.png", "-v", "--cache", "cache"], &LABELS[..]].concat();
    let first = room
        .classify(&cached)
        .ends_with(1)
        .says(&["cache: 0 embeddings found, 5 computed", "2 images repeat"]);
    let second = room
        .classify(&cached)
        .ends_with(1)
        .says(&["cache: 7 embeddings found, 0 computed"]);
    assert_eq!(first.out, second.out);
    assert!(!second.stderr().contains("repeat"), "{}", second.stderr());
}
