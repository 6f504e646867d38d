//! Labels in XMP sidecars, and taking them back. `tests/answers/read_back.py` reads them with
//! exiftool.

use std::path::Path;

use crate::room::{Ran, Room, labels};

/// As darktable writes it, with a rating and other tags.
const DARKTABLE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:darktable="http://darktable.sf.net/"
   xmp:Rating="4"
   darktable:xmp_version="5">
   <dc:subject>
    <rdf:Bag>
     <rdf:li>holiday &amp; sea</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <darktable:history><rdf:Seq/></darktable:history>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"#;

/// As Lightroom writes it for a raw file, without keywords.
const LIGHTROOM: &str = "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\n <rdf:RDF \
    xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\n  <rdf:Description rdf:about=\"\"\n    \
    xmlns:crs=\"http://ns.adobe.com/camera-raw-settings/1.0/\"\n   crs:Exposure2012=\"+0.50\"/>\n \
    </rdf:RDF>\n</x:xmpmeta>";

fn tag(room: &Room, more: &[&str]) -> Ran {
    room.classify(&[more, &["-l", "a cat", "a <dog> & co"]].concat())
}

/// The labels in a sidecar, in their order.
fn subjects(text: &str) -> Vec<String> {
    let items = text.split("<rdf:li>").skip(1);
    items
        .map(|item| item.split("</rdf:li>").next().unwrap())
        .map(|item| {
            item.replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&amp;", "&")
        })
        .collect()
}

/// The only list for undoing in the room.
fn list(room: &Room) -> String {
    let names = room.names();
    let mut lists = names.iter().filter(|name| name.ends_with(".jsonl"));
    let list = lists.next().unwrap().clone();
    assert_eq!(lists.next(), None);
    list
}

#[test]
fn the_best_label_goes_into_a_new_sidecar_and_back() {
    for (flag, name) in [("--xmp", "p/a.png.xmp"), ("--xmp=stem", "p/a.xmp")] {
        let room = Room::with(&["p/a.png"]);
        let image = std::fs::read(room.path("p/a.png")).unwrap();
        let plain = tag(&room, &["p"]).ends_with(0).out;
        let ran = tag(&room, &["p", flag]).ends_with(0);
        assert_eq!(ran.out, plain);
        let best = labels(&ran.record())[0].to_owned();
        assert_eq!(subjects(&room.read(name)), [best]);
        assert_eq!(std::fs::read(room.path("p/a.png")).unwrap(), image);
        let list = list(&room);
        ran.says(&["wrote labels of 1 image; to undo: longclip undo", &list]);
        // Twice is once.
        let before = room.read(name);
        let again = tag(&room, &["p", flag]).ends_with(0);
        again.says(&["wrote labels of 0 images, 1 had them already\n"]);
        assert_eq!(room.read(name), before);
        let dry = room
            .longclip(&["undo", "--dry-run", &list], &[])
            .ends_with(0);
        dry.says(&["would undo", "labelled a"]);
        assert_eq!(room.read(name), before);
        room.longclip(&["undo", &list], &[]).ends_with(0);
        assert!(!room.path(name).exists() && !room.path(&list).exists());
    }
}

#[test]
fn a_threshold_chooses_all_labels_that_reach_it() {
    let room = Room::with(&["a.png"]);
    let found = tag(&room, &["a.png", "--xmp", "--threshold", "0"]).ends_with(0);
    let record = found.record();
    assert_eq!(subjects(&room.read("a.png.xmp")), labels(&record));
    assert_eq!(labels(&record).len(), 2);
    let none = tag(&room, &["a.png", "--xmp", "--threshold", "1"]).ends_with(0);
    none.says(&["wrote labels of 0 images, 1 without a label that fits\n"]);
    // The best label as the none label describes nothing.
    let (best, other) = (labels(&record)[0], labels(&record)[1]);
    let room = Room::with(&["a.png"]);
    let more = ["a.png", "-l", other, "--none-label", best, "--xmp"];
    room.classify(&more).ends_with(0);
    assert_eq!(room.names(), ["a.png"]);
}

#[test]
fn an_existing_sidecar_keeps_every_other_byte_and_comes_back() {
    for (name, old) in [
        ("p/a.png.xmp", DARKTABLE),
        ("p/a.xmp", DARKTABLE),
        ("p/a.png.xmp", LIGHTROOM),
        ("p/a.xmp", LIGHTROOM),
    ] {
        let room = Room::with(&["p/a.png"]);
        room.file(name, old);
        let ran = tag(&room, &["p/a.png", "--xmp"]).ends_with(0);
        let best = labels(&ran.record())[0].to_owned();
        let text = room.read(name);
        let known = subjects(old);
        assert_eq!(subjects(&text), [&known[..], &[best]].concat(), "{text}");
        // What was there is there, around one piece that is new.
        let same = old
            .bytes()
            .zip(text.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        let rest = &old[same..];
        assert!(text.ends_with(rest) && text.len() > old.len(), "{text}");
        room.longclip(&["undo", &list(&room)], &[]).ends_with(0);
        assert_eq!(room.read(name), old);
    }
}

#[test]
fn the_sidecar_of_a_raw_file_is_left_to_it() {
    let room = Room::with(&["a.png"]);
    room.file("a.cr2", "raw");
    room.file("a.xmp", LIGHTROOM);
    tag(&room, &["a.png", "--xmp"]).ends_with(0);
    assert_eq!(room.read("a.xmp"), LIGHTROOM);
    assert!(room.path("a.png.xmp").exists());
}

#[test]
fn what_is_not_understood_stays_and_is_said() {
    let cases: [(&[u8], &str); 4] = [
        (b"<html>not xmp</html>", "a <html> outside of it"),
        (
            DARKTABLE.split("<rdf:li>").next().unwrap().as_bytes(),
            "ends within an element",
        ),
        (b"\xff\xfe<\0x\0", "not UTF-8"),
        (
            b"<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>",
            "document type",
        ),
    ];
    for (content, cause) in cases {
        let room = Room::with(&["a.png", "b.png"]);
        room.file("a.png.xmp", content);
        let ran = tag(&room, &["a.png", "b.png", "--xmp"]).ends_with(1);
        let records = ran.records();
        let warning = records[0]["warnings"][0].as_str().unwrap();
        assert!(
            warning.contains("a.png.xmp") && warning.contains(cause),
            "{warning}"
        );
        assert!(!labels(&records[0]).is_empty() && records[1].get("warnings").is_none());
        assert_eq!(std::fs::read(room.path("a.png.xmp")).unwrap(), content);
        assert!(room.path("b.png.xmp").exists());
        ran.says(&["a.png: xmp: ", "wrote labels of 1 image, 1 failed"]);
    }
}

#[test]
fn a_dry_run_writes_nothing_and_mistakes_are_said_first() {
    let room = Room::with(&["a.png"]);
    let ran = tag(&room, &["a.png", "--xmp", "--dry-run"]).ends_with(0);
    ran.says(&[
        "would write a ",
        "a.png.xmp",
        "would write labels of 1 image",
    ]);
    let png = crate::room::png("a");
    room.classify_with_stdin(&["-", "-l", "a", "b", "--xmp"], &png)
        .ends_with(2)
        .says(&["an image from stdin has no sidecar"]);
    room.classify(&["a.png", "-l", "a\u{1}", "b", "--xmp"])
        .ends_with(2)
        .says(&["XMP cannot hold the label"]);
    tag(&room, &["a.png", "--xmp", "--move", "sorted"]).ends_with(2);
    assert_eq!(room.names(), ["a.png"]);
}

#[test]
fn a_sidecar_that_a_raw_file_may_have_is_refused_by_name() {
    let room = Room::with(&["a.png"]);
    room.file("a.cr2", "raw");
    room.file("a.xmp", LIGHTROOM);
    let ran = tag(&room, &["a.png", "--xmp=stem"]).ends_with(1);
    ran.says(&["a.xmp may belong to a.cr2 as well; use --xmp=full"]);
    assert_eq!(room.read("a.xmp"), LIGHTROOM);
}

#[test]
fn what_cannot_be_put_back_is_said() {
    let room = Room::with(&["a.png", "b.png"]);
    tag(&room, &["a.png", "b.png", "--xmp"]).ends_with(0);
    std::fs::remove_file(room.path("b.png.xmp")).unwrap();
    let ran = room.longclip(&["undo", &list(&room)], &[]).ends_with(0);
    assert!(!ran.stderr().contains("everything"), "{}", ran.stderr());
    ran.says(&["undid 1 image; 1 sidecar is gone\n"]);
}

/// Not even root writes there.
#[cfg(target_os = "linux")]
#[test]
fn a_working_folder_without_room_for_the_list_is_refused_before_a_model_is_sought() {
    let room = Room::with(&["a.png"]);
    let image = room.path("a.png");
    let run = |more: &[&str]| {
        let mut command = room.command();
        command.current_dir("/proc").arg("classify").arg(&image);
        command.args(["--model", "nobody/nothing", "--offline", "-l", "a", "b"]);
        let output = command.args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = run(&["--xmp"]);
    assert!(
        said.contains("cannot write the list for longclip undo"),
        "{said}"
    );
    for more in [&[][..], &["--xmp", "--dry-run"]] {
        let said = run(more);
        assert!(said.contains("--offline"), "{said}");
    }
}

#[test]
fn a_list_that_someone_else_wrote_changes_nothing_elsewhere() {
    let room = Room::with(&["p/a.png"]);
    tag(&room, &["p/a.png", "--xmp"]).ends_with(0);
    let text = room.read(&list(&room));
    std::fs::remove_file(room.path(list(&room))).unwrap();
    // One line left out is enough to break the seals.
    let unsealed: Vec<&str> = text
        .lines()
        .map(|line| line.split(",\"seal\"").next().unwrap())
        .collect();
    room.file("q/list.jsonl", unsealed.join("}\n") + "}\n");
    let ran = room.longclip(&["undo", "q/list.jsonl"], &[]).ends_with(2);
    ran.says(&["was not written by you", "p/a.png.xmp", "--yes"]);
    assert!(room.path("p/a.png.xmp").exists());
    room.longclip(&["undo", "--yes", "q/list.jsonl"], &[])
        .ends_with(0);
    assert!(!room.path(Path::new("p/a.png.xmp")).exists());
}
