//! A folder of thousands of images.

use crate::room::{Room, png, records};
use crate::running::Running;
use crate::small;

#[test]
fn broken_images_among_many_affect_only_themselves() {
    let room = Room::new();
    let good = png("a");
    for index in 0..2000 {
        let is_broken = index % 100 == 42;
        let content = if is_broken { &good[..50] } else { &good };
        room.file(format!("p/{index:04}.png"), content);
    }
    let ran = room.classify(&["p", "-l", "cat", "dog"]).ends_with(1);
    let records = ran.records();
    assert_eq!(records.len(), 2000);
    assert!(crate::room::images(&records).is_sorted());
    for (index, record) in records.iter().enumerate() {
        let key = if index % 100 == 42 {
            "error"
        } else {
            "predictions"
        };
        assert!(record.get(key).is_some(), "{record}");
    }
    assert_eq!(ran.stderr().lines().count(), 20);
}

/// The peak memory of the process, in kB.
#[cfg(target_os = "linux")]
fn peak_kb(running: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_number_of_images() {
    let room = Room::new();
    // 1.2 MB when decoded: two thousand of them would be 2.4 GB.
    let image = image::RgbImage::from_pixel(640, 640, image::Rgb([90, 120, 30]));
    image.save(room.path("a.png")).unwrap();
    let mut command = room.command();
    command.args([
        "classify",
        "-m",
        small::model(),
        "-l",
        "x",
        "y",
        "--files-from",
        "-",
    ]);
    let mut running = Running::start(command);
    let mut answer = |count: usize| {
        for _ in 0..count / 50 {
            running.write("a.png\n".repeat(50).as_bytes());
            for _ in 0..50 {
                assert_eq!(records(&running.line()).len(), 1);
            }
        }
        peak_kb(&running)
    };
    let (few, many) = (answer(100), answer(900));
    assert!(
        many < few + 32 * 1024,
        "{few} kB after 100, {many} kB after 1000"
    );
    running.close_stdin();
    assert_eq!(running.end().0, Some(0));
}
