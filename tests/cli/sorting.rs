//! Sorting images into one folder per label, and undoing it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::room::{Ran, Room, labels};

const LABELS: [&str; 4] = ["-l", "cat / kitten", "dog", "bus."];

/// The folder of a label.
fn folder(label: &str) -> String {
    label.replace('/', "_").trim_end_matches('.').to_owned()
}

fn sort(room: &Room, more: &[&str]) -> Ran {
    room.classify(&[more, &LABELS[..]].concat())
}

/// All files below a folder of the room, each with its content (of a link: what it leads to).
fn files(room: &Room, folder: &str) -> BTreeMap<String, Vec<u8>> {
    fn walk(folder: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let name = format!("{prefix}{name}");
            if path.is_dir() {
                walk(&path, &format!("{name}/"), found);
            } else {
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&room.path(folder), "", &mut found);
    found
}

/// The only list for undoing in a folder.
fn list(room: &Room, folder: &str) -> String {
    let names: Vec<String> = files(room, folder).into_keys().collect();
    let mut lists = names.iter().filter(|name| name.ends_with(".jsonl"));
    let list = format!("{folder}/{}", lists.next().unwrap());
    assert_eq!(lists.next(), None);
    list
}

/// The best label of each image of a run.
fn best(ran: &Ran) -> Vec<(String, String)> {
    let records = ran.records();
    let best = records.iter().map(|record| {
        let image = record["image"].as_str().unwrap().to_owned();
        (image, labels(record)[0].to_owned())
    });
    best.collect()
}

fn sorted_files(room: &Room) -> BTreeMap<String, Vec<u8>> {
    let mut found = files(room, "sorted");
    found.retain(|name, _| !name.ends_with(".jsonl"));
    found
}

#[test]
fn each_image_goes_to_its_best_label_and_back() {
    for way in ["--link", "--copy", "--move"] {
        let room = Room::with(&["in/a.png", "in/b.png", "in/c/d.png"]);
        let before = files(&room, "in");
        let ran = sort(&room, &["in", way, "sorted"]).ends_with(0);
        let expected: BTreeMap<String, Vec<u8>> = best(&ran)
            .into_iter()
            .map(|(image, label)| {
                let name = image.rsplit('/').next().unwrap();
                let content = before[image.strip_prefix("in/").unwrap()].clone();
                (format!("{}/{name}", folder(&label)), content)
            })
            .collect();
        assert_eq!(sorted_files(&room), expected, "{way}");
        let left = files(&room, "in").len();
        assert_eq!(left, if way == "--move" { 0 } else { 3 }, "{way}");
        let list = list(&room, "sorted");
        let ran = ran.says(&["3 images into sorted; to undo: longclip undo"]);
        assert!(ran.stderr().contains(&list), "{list}");
        let dry = room
            .longclip(&["undo", "--dry-run", &list], &[])
            .ends_with(0);
        dry.says(&["would undo", "would undo 3 images"]);
        assert_eq!(sorted_files(&room), expected, "{way}");
        let undone = room.longclip(&["undo", &list], &[]).ends_with(0);
        assert_eq!(undone.out, "");
        undone.says(&["undid 3 images; everything is back in place"]);
        assert_eq!(files(&room, "in"), before, "{way}");
        assert!(!room.path("sorted").exists(), "{way}");
    }
}

#[test]
fn the_records_are_those_of_a_run_that_sorts_nothing() {
    let room = Room::with(&["in/a.png", "in/b.png"]);
    let plain = sort(&room, &["in"]).ends_with(0).out;
    for more in [&["--copy", "sorted"][..], &["--move", "sorted"]] {
        let found = sort(&room, &[&["in"], more].concat()).ends_with(0).out;
        assert_eq!(found, plain, "{more:?}");
    }
}

#[test]
fn taken_names_get_numbers_and_existing_files_stay() {
    let room = Room::new();
    for folder in ["x", "y"] {
        // One content, so that both get one label.
        room.file(format!("{folder}/a.png"), crate::room::png("same"));
    }
    let ran = sort(&room, &["x", "y", "--link", "sorted"]).ends_with(0);
    let label = folder(&best(&ran)[0].1);
    let names: Vec<_> = sorted_files(&room).into_keys().collect();
    assert_eq!(
        names,
        [format!("{label}/a (2).png"), format!("{label}/a.png")]
    );
    let again = sort(&room, &["x", "y", "--link", "sorted"]).ends_with(0);
    again.says(&["linked 0 images into sorted, 2 already there\n"]);
    assert_eq!(sorted_files(&room).len(), 2);
}

#[test]
fn a_dry_run_says_where_and_touches_nothing() {
    let room = Room::with(&["in/a.png", "in/b.png"]);
    let ran = sort(&room, &["in", "--move", "sorted", "--dry-run"]).ends_with(0);
    let label = folder(&best(&ran)[0].1);
    let ran = ran.says(&["would move 2 images into sorted"]);
    assert!(
        ran.stderr()
            .contains(&format!("would move in/a.png to sorted/{label}/a.png"))
    );
    assert_eq!(room.names(), ["in"]);
    assert_eq!(files(&room, "in").len(), 2);
}

#[test]
fn an_image_that_no_label_fits_stays_in_place() {
    let room = Room::with(&["a.png"]);
    let ran = sort(&room, &["a.png", "--move", "sorted", "--threshold", "1"]).ends_with(0);
    ran.says(&["moved 0 images into sorted, 1 left in place\n"]);
    assert_eq!(room.names(), ["a.png"]);
    // One of the two is best; with the other as the none label it is a label, else it is none.
    let one = room.classify(&["a.png", "-l", "cat", "dog"]).record();
    let (first, second) = (labels(&one)[0], labels(&one)[1]);
    for (label, none, names) in [
        (second, first, &["a.png"][..]),
        (first, second, &[".local", "a.png", "sorted"]),
    ] {
        let more = [
            "a.png",
            "-l",
            label,
            "--none-label",
            none,
            "--copy",
            "sorted",
        ];
        room.classify(&more).ends_with(0);
        assert_eq!(room.names(), names);
    }
}

#[test]
fn a_folder_inside_the_images_is_not_read() {
    let room = Room::with(&["a.png", "b.png", "z/c.png"]);
    let ran = sort(&room, &[".", "--move", "m/sorted"]).ends_with(0);
    assert_eq!(ran.records().len(), 3);
    let again = sort(&room, &[".", "--move", "m/sorted"]).ends_with(0);
    assert_eq!(again.out, "");
    again.says(&["no images"]);
}

#[test]
fn what_cannot_be_sorted_is_refused_before_anything_is_done() {
    let room = Room::with(&["in/a.png", "in/x/b.png"]);
    room.file("file", "");
    let png = crate::room::png("a");
    let stdin = ["-", "-l", "cat", "dog", "--move", "sorted"];
    room.classify_with_stdin(&stdin, &png)
        .ends_with(2)
        .says(&["an image from stdin cannot be sorted"]);
    for (input, target) in [("in", "in"), ("in/x", "in")] {
        sort(&room, &[input, "--move", target])
            .ends_with(2)
            .says(&["because they are read from there; choose another folder"]);
    }
    sort(&room, &["in", "--move", "file"])
        .ends_with(2)
        .says(&["cannot sort into file: it is not a folder"]);
    sort(&room, &["in", "--move", "x", "--copy", "y"]).ends_with(2);
    sort(&room, &["in", "--dry-run"]).ends_with(2);
    assert_eq!(room.names(), ["file", "in"]);
    assert_eq!(files(&room, "in").len(), 2);
}

#[test]
fn an_image_that_cannot_be_sorted_is_its_own_error() {
    let room = Room::with(&["a.png", "b.png"]);
    let found = best(&sort(&room, &["a.png", "b.png"]).ends_with(0));
    // A file where the first one's folder should be.
    room.file(format!("sorted/{}", folder(&found[0].1)), "");
    let same = found[0].1 == found[1].1;
    let ran = sort(&room, &["a.png", "b.png", "--move", "sorted"]).ends_with(1);
    let records = ran.records();
    let error = records[0]["error"].as_str().unwrap();
    assert!(error.starts_with("cannot be sorted: "), "{error}");
    assert!(records[0].get("predictions").is_none());
    assert_eq!(records[1].get("error").is_some(), same);
    assert!(room.path("a.png").exists());
    ran.says(&["a.png: cannot be sorted"]);
}

#[test]
fn a_broken_image_is_not_sorted() {
    let room = Room::with(&["in/a.png"]);
    room.broken("in/b.png");
    let ran = sort(&room, &["in", "--move", "sorted"]).ends_with(1);
    ran.says(&["moved 1 image into sorted"]);
    assert_eq!(
        files(&room, "in").into_keys().collect::<Vec<_>>(),
        ["b.png"]
    );
}

#[test]
fn only_a_list_of_sorted_images_can_be_undone() {
    let room = Room::with(&["a.png"]);
    for (file, content) in [("l.jsonl", "{}\n"), ("empty", "")] {
        room.file(file, content);
        let ran = room.longclip(&["undo", file], &[]).ends_with(2);
        ran.says(&[
            "cannot undo the journal",
            "it is not an undo journal of longclip",
        ]);
    }
    room.longclip(&["undo", "gone"], &[]).ends_with(2);
    // An image that was changed since stays, and so does the list.
    sort(&room, &["a.png", "--move", "sorted"]).ends_with(0);
    let list = list(&room, "sorted");
    let name = sorted_files(&room).into_keys().next().unwrap();
    room.file(format!("sorted/{name}"), "painted over");
    let ran = room.longclip(&["undo", &list], &[]).ends_with(1);
    ran.says(&["changed since", "keeps the others"]);
    assert_eq!(room.read(&format!("sorted/{name}")), "painted over");
}

#[test]
fn a_list_of_another_user_or_machine_moves_nothing_out_of_its_folder() {
    let room = Room::with(&["in/a.png", "in/b.png"]);
    let before = files(&room, "in");
    sort(&room, &["in", "--move", "sorted"]).ends_with(0);
    let list = list(&room, "sorted");
    // On another machine the key is another one, or there is none.
    let other = [("XDG_STATE_HOME", room.path("other"))];
    let other = other.map(|(name, path)| (name, path.to_str().unwrap().to_owned()));
    let other = [(other[0].0, other[0].1.as_str())];
    let ran = room.longclip(&["undo", &list], &other).ends_with(2);
    ran.says(&[
        "was not written by you on this machine",
        "2 files",
        "a.png",
        "--yes",
    ]);
    assert!(files(&room, "in").is_empty());
    let dry = room.longclip(&["undo", "--dry-run", &list], &other);
    dry.ends_with(0).says(&["would undo 2 images"]);
    // A list that was changed is not the one that was written.
    let text = room.read(&list);
    room.file(&list, text.replace("in/a.png", "in/z.png"));
    room.longclip(&["undo", &list], &[]).ends_with(2);
    assert!(files(&room, "in").is_empty());
    room.file(&list, text);
    room.longclip(&["undo", &list, "--yes"], &other)
        .ends_with(0);
    assert_eq!(files(&room, "in"), before);
}

#[cfg(unix)]
#[test]
fn the_list_of_another_user_leads_nowhere_through_a_link_in_its_folder() {
    let room = Room::with(&["in/a.png", "home/kept"]);
    sort(&room, &["in/a.png", "--move", "sorted"]).ends_with(0);
    let list = list(&room, "sorted");
    std::os::unix::fs::symlink(room.path("home"), room.path("sorted/back")).unwrap();
    let text = room.read(&list);
    room.file(&list, text.replace("/in/a.png", "/sorted/back/a.png"));
    let ran = room.longclip(&["undo", &list], &[]).ends_with(2);
    ran.says(&["was not written by you", "sorted/back/a.png", "--yes"]);
    assert_eq!(files(&room, "home").len(), 1);
}

#[cfg(unix)]
#[test]
fn an_undo_list_that_is_a_pipe_is_refused() {
    let room = Room::new();
    let made = std::process::Command::new("mkfifo")
        .arg(room.path("pipe"))
        .status();
    assert!(made.unwrap().success());
    let ran = room.longclip(&["undo", "pipe"], &[]).ends_with(2);
    ran.says(&["a regular file is needed"]);
}
