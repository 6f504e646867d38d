//! Archives of images as arguments, in lists and on stdin.

use std::fs;
use std::io::{Cursor, Write as _};

use crate::room::{Ran, Room, png};
use crate::running::Running;
use crate::small;

const LABELS: [&str; 3] = ["-l", "cat", "dog"];

/// The kinds of archives, by their endings.
const ENDINGS: [&str; 5] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".zip"];

/// Names and contents.
pub(crate) type Files<'a> = &'a [(&'a str, Vec<u8>)];

fn tar(files: Files<'_>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, &content[..])
            .unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn zip(files: Files<'_>) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (index, (name, content)) in files.iter().enumerate() {
        let method = match index % 2 {
            0 => zip::CompressionMethod::Deflated,
            _ => zip::CompressionMethod::Stored,
        };
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// An archive of files, of the kind with this ending.
pub(crate) fn packed(ending: &str, files: Files<'_>) -> Vec<u8> {
    match ending {
        ".tar" => tar(files),
        // Of several members, as parallel compressors write.
        ".tar.gz" => {
            let bytes = tar(files);
            let (first, second) = bytes.split_at(700);
            [gzip(first), gzip(second)].concat()
        }
        ".tgz" => gzip(&tar(files)),
        ".tar.zst" => zstd(&tar(files)),
        _ => zip(files),
    }
}

/// In the order of a walk.
fn mixed() -> Vec<(&'static str, Vec<u8>)> {
    let fixture = |name: &str| fs::read(format!("tests/fixtures/{name}")).unwrap();
    let long = "sub/a folder with a name that is far longer than the hundred bytes that the oldest \
                headers of tar archives have for it/7.png";
    vec![
        (".hidden.png", png("hidden")),
        ("__MACOSX/1.png", png("system")),
        ("a/1.png", png("1")),
        ("a/caf\u{e9}.png", png("2")),
        ("a/no-extension", png("3")),
        ("broken.jpg", png("4")[..40].to_vec()),
        ("empty.png", Vec::new()),
        ("frames.gif", fixture("frames/disposals.gif")),
        ("notes.txt", b"no image".to_vec()),
        (long, png("7")),
        ("z.png", png("a/1.png")),
    ]
}

/// The same run over the files in a folder, and in an archive of the same name.
fn both(name: &str, arguments: &[&str]) -> (Ran, Ran) {
    let files = mixed();
    let [folder, archive] = [Room::new(), Room::new()];
    for (file, content) in &files {
        folder.file(format!("{name}/{file}"), content);
    }
    archive.file(name, packed(&name[1..], &files));
    let run = |room: &Room| room.longclip(arguments, &[("LONGCLIP_MODEL", small::model())]);
    (run(&folder), run(&archive))
}

#[test]
fn records_are_those_of_a_folder_of_that_name() {
    for ending in ENDINGS {
        let name = &format!("x{ending}");
        for arguments in [
            &["classify", name, "-l", "cat", "dog"][..],
            &["classify", name, "-l", "cat", "dog", "-f", "csv"],
            &["classify", name, "-l", "cat", "dog", "--frames", "2"],
            &["classify", name, "-l", "cat", "dog", "--batch-size", "3"],
            &["classify", name, "-l", "cat", "dog", "--cache", "cache"],
            &["embed", name],
        ] {
            let (folder, archive) = both(name, arguments);
            let folder = folder.ends_with(1);
            assert!(
                folder.out.contains(&format!("{name}/a/1.png")),
                "{}",
                folder.out
            );
            let archive = archive.ends_with(1);
            if arguments[0] == "classify" {
                assert_eq!(archive.out, folder.out, "{arguments:?}");
                continue;
            }
            // Of files, embed says when they changed.
            let mut rows = folder.records();
            for row in &mut rows {
                let row = row.as_object_mut().unwrap();
                row.retain(|key, _| key != "bytes" && key != "mtime_ns");
            }
            assert_eq!(archive.records(), rows);
        }
    }
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf8_are_exact() {
    use std::os::unix::ffi::OsStrExt as _;
    let name = b"caf\xe9.png";
    let [folder, archive] = [Room::new(), Room::new()];
    let path = std::path::Path::new("x.tar").join(std::ffi::OsStr::from_bytes(name));
    folder.file(path, png("1"));
    let mut bytes = tar(&[("caf-.png", png("1"))]);
    bytes[3] = 0xe9;
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&bytes[..512]);
    header.set_cksum();
    bytes[..512].copy_from_slice(header.as_bytes());
    archive.file("x.tar", bytes);
    for format in ["jsonl", "csv"] {
        let arguments = [&["x.tar", "-f", format], &LABELS[..]].concat();
        let out = archive.classify(&arguments).ends_with(0).out;
        assert!(out.contains("eC50YXIvY2Fm6S5wbmc="), "{out}");
        assert_eq!(out, folder.classify(&arguments).ends_with(0).out);
    }
}

#[test]
fn a_report_shows_the_images_of_an_archive() {
    let room = Room::new();
    room.file("x.zip", zip(&[("1.png", png("1"))]));
    let ran = room.classify(&[&["x.zip", "--report", "x.html"], &LABELS[..]].concat());
    ran.ends_with(0);
    let page = room.read("x.html");
    assert!(page.contains("x.zip/1.png") && page.contains("data:image/jpeg"));
}

#[test]
fn archives_in_a_list_stand_where_they_are_named() {
    let room = Room::with(&["a.png"]);
    room.file("x.tar", tar(&[("1.png", png("1")), ("2.png", png("2"))]));
    room.file("y.zip", zip(&[("1.png", png("3"))]));
    let ran = room.classify_with_stdin(
        &[&["--files-from", "-"], &LABELS[..]].concat(),
        b"y.zip\na.png\nx.tar\nno.tar\n",
    );
    let expected = [
        "y.zip/1.png",
        "a.png",
        "x.tar/1.png",
        "x.tar/2.png",
        "no.tar",
    ];
    assert_eq!(ran.ends_with(1).images(), expected);
}

#[test]
fn a_folder_is_walked_past_its_archives_which_are_counted() {
    let room = Room::with(&["d/a.png"]);
    room.file("d/x.tar", tar(&[("1.png", png("1"))]));
    room.file("d/y.zip", zip(&[("1.png", png("1"))]));
    let ran = room.classify(&[&["d"], &LABELS[..]].concat()).ends_with(0);
    assert_eq!(ran.images(), ["d/a.png"]);
    ran.says(&["passed over 2 archives", "such as d/x.tar"]);
}

#[test]
fn names_lead_nowhere_and_links_are_refused() {
    let room = Room::new();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    for (kind, name, content) in [
        (tar::EntryType::Regular, "../../up.png", &png("1")[..]),
        (tar::EntryType::Regular, "/etc/rooted.png", &png("2")),
        (tar::EntryType::Link, "hard.png", b""),
        (tar::EntryType::Symlink, "soft.png", b""),
        (tar::EntryType::Symlink, "soft", b""),
        (tar::EntryType::Fifo, "pipe.png", b""),
        (tar::EntryType::Regular, "./here.png", &png("3")),
    ] {
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        let field = &mut header.as_old_mut().name;
        field.fill(0);
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_link_name("up.png").unwrap();
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    room.file("x.tar", builder.into_inner().unwrap());
    let ran = room.classify(&[&["x.tar"], &LABELS[..]].concat());
    let ran = ran.ends_with(1);
    let expected =
        ["up", "etc/rooted", "hard", "soft", "here"].map(|name| format!("x.tar/{name}.png"));
    assert_eq!(ran.images(), expected);
    for record in &ran.records()[2..4] {
        let error = record["error"].as_str().unwrap();
        assert!(error.contains("is a link to \"up.png\""), "{error}");
    }
}

fn three() -> [(&'static str, Vec<u8>); 3] {
    [("1.png", "1"), ("2.png", "2"), ("3.png", "3")].map(|(name, seed)| (name, png(seed)))
}

/// The images that are answered, and the error of the last record.
fn answered(ran: &Ran) -> (Vec<String>, String) {
    let records = ran.records();
    let is_answered = |record: &&serde_json::Value| record.get("error").is_none();
    let answered = records.iter().filter(is_answered);
    let names = answered.map(|record| record["image"].as_str().unwrap().to_owned());
    let last = records.last().unwrap();
    assert_eq!(
        last["image"].as_str().unwrap().matches('/').count(),
        0,
        "{last}"
    );
    (names.collect(), last["error"].as_str().unwrap().to_owned())
}

#[test]
fn a_damaged_archive_is_answered_up_to_there_and_is_one_error() {
    let files = three();
    let whole = tar(&files);
    let room = Room::new();
    let mut flipped = gzip(&whole);
    let at = flipped.len() - 6;
    flipped[at] ^= 1;
    let second = [&whole[..], &whole].concat();
    let end = whole.len() - 1024;
    #[rustfmt::skip]
    let cases: Vec<(&str, Vec<u8>, usize, &str)> = vec![
        ("cut.tar", whole[..end - 600].to_vec(), 2, "cut short"),
        ("markless.tar", whole[..end].to_vec(), 3, "no end mark"),
        ("cut.tgz", { let packed = gzip(&whole); packed[..packed.len() - 4].to_vec() }, 3, "damaged"),
        ("flipped.tgz", flipped, 3, "damaged"),
        ("cut.tar.zst", { let packed = zstd(&whole); packed[..packed.len() - 1].to_vec() }, 0, "damaged"),
        ("two.tar", second, 3, "something follows"),
        ("cut.zip", { let packed = zip(&files); packed[..packed.len() - 9].to_vec() }, 0, "zip archive"),
        ("empty.tar", Vec::new(), 0, "is empty"),
        ("empty.zip", Vec::new(), 0, "is empty"),
        ("noise.tar", vec![7; 3000], 0, "not a tar archive"),
        ("noise.tgz", gzip(&[7; 3000]), 0, "not a tar archive"),
        ("noise.zip", vec![7; 3000], 0, "zip archive"),
    ];
    for (name, bytes, count, part) in cases {
        room.file(name, bytes);
        let ran = room.classify(&[&[name], &LABELS[..]].concat());
        let ran = ran.ends_with(if count == 0 { 2 } else { 1 });
        let (names, error) = answered(&ran);
        assert_eq!(names.len(), count, "{name}: {names:?}");
        assert!(error.contains(part), "{name}: {error}");
    }
}

#[test]
fn a_member_that_cannot_be_read_is_that_images_error() {
    let room = Room::new();
    // Longer than an image can be, of which the file has no blocks.
    let large: u64 = 300 << 20;
    let small_ones = tar(&[("1.png", png("1"))]);
    let mut header = tar::Header::new_gnu();
    header.set_path("large.png").unwrap();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(large);
    header.set_cksum();
    let begin = [&small_ones[..small_ones.len() - 1024], header.as_bytes()].concat();
    let rest = tar(&[("2.png", png("2"))]);
    let path = room.path("x.tar");
    fs::write(&path, &begin).unwrap();
    let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.set_len(begin.len() as u64 + large).unwrap();
    (&file).write_all(&rest).unwrap();
    let ran = room.classify(&[&["x.tar", "--max-pixels", "1000"], &LABELS[..]].concat());
    let records = ran.ends_with(1).records();
    assert_eq!(records.len(), 3);
    assert!(
        records[1]["error"]
            .as_str()
            .unwrap()
            .contains("--max-pixels")
    );
    // The checksum of a zip's member.
    let mut bytes = zip(&[
        ("1.png", png("1")),
        ("2.png", png("2")),
        ("3.png", png("3")),
    ]);
    let content = png("2");
    let at = bytes
        .windows(content.len())
        .position(|part| part == content)
        .unwrap();
    bytes[at + content.len() - 20] ^= 1;
    room.file("x.zip", bytes);
    let ran = room.classify(&[&["x.zip"], &LABELS[..]].concat());
    let records = ran.ends_with(1).records();
    let failed: Vec<bool> = records
        .iter()
        .map(|record| record.get("error").is_some())
        .collect();
    assert_eq!(failed, [false, true, false]);
}

/// Changes two bytes of the second file in its local and its central header, at these offsets.
fn with_field(mut zip: Vec<u8>, local: usize, central: usize, value: [u8; 2]) -> Vec<u8> {
    for (signature, offset) in [(b"PK\x03\x04", local), (b"PK\x01\x02", central)] {
        let is_header = |at: &usize| zip[*at..].starts_with(signature);
        let at = (0..zip.len()).filter(is_header).nth(1).unwrap() + offset;
        zip[at..at + 2].copy_from_slice(&value);
    }
    zip
}

#[test]
fn files_in_a_zip_that_are_not_understood_are_named() {
    let files = three();
    let room = Room::new();
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().large_file(true);
    writer.start_file("sub\\4.png", options).unwrap();
    writer.write_all(&png("4")).unwrap();
    room.file("x.zip", writer.finish().unwrap().into_inner());
    let ran = room.classify(&[&["x.zip"], &LABELS[..]].concat());
    assert_eq!(
        ran.ends_with(0).images(),
        ["x.zip/sub/4.png"],
        "zip64, from Windows"
    );
    for (bytes, part) in [
        (with_field(zip(&files), 6, 8, [1, 0]), "is encrypted"),
        (
            with_field(zip(&files), 8, 10, [12, 0]),
            "compression method not supported",
        ),
    ] {
        room.file("x.zip", bytes);
        let records = room.classify(&[&["x.zip"], &LABELS[..]].concat());
        let records = records.ends_with(1).records();
        let errors: Vec<_> = records
            .iter()
            .map(|record| record["error"].as_str())
            .collect();
        assert!(
            matches!(errors[..], [None, Some(error), None] if error.contains(part)),
            "{errors:?}"
        );
    }
    let names = zip(&files[..2]);
    let mut twice = names.clone();
    for at in 0..names.len() {
        if names[at..].starts_with(b"2.png") {
            twice[at] = b'1';
        }
    }
    room.file("x.zip", twice);
    let (names, error) = answered(
        &room
            .classify(&[&["x.zip"], &LABELS[..]].concat())
            .ends_with(1),
    );
    assert!(
        names.len() == 1 && error.contains("several files of one name"),
        "{error}"
    );
}

#[test]
fn what_needs_files_refuses_archives() {
    let room = Room::new();
    room.file("x.tar", tar(&[("1.png", png("1"))]));
    for more in [&["--copy", "out"][..], &["--xmp"], &["-f", "label-studio"]] {
        let ran = room.classify(&[&["x.tar"], &LABELS[..], more].concat());
        ran.ends_with(2).says(&["x.tar: its images are not files"]);
        let listed = [&["--files-from", "-"], &LABELS[..], more].concat();
        let ran = room.classify_with_stdin(&listed, b"x.tar\n");
        assert!(
            ran.stderr().contains("x.tar: its images are not files"),
            "{more:?}"
        );
    }
    assert_eq!(room.names(), ["x.tar"]);
}

#[test]
fn a_tar_on_stdin_is_read_as_it_streams() {
    let files = [("d/1.png", png("1")), ("d/2.png", png("2"))];
    let whole = tar(&files);
    let room = Room::new();
    for packed in [whole.clone(), gzip(&whole), zstd(&whole)] {
        let ran = room.classify_with_stdin(&[&["--tar", "-"], &LABELS[..]].concat(), &packed);
        assert_eq!(ran.ends_with(0).images(), ["-/d/1.png", "-/d/2.png"]);
        let embed = ["embed", "-m", small::model(), "--tar", "-"];
        let ran = room.longclip_with_stdin(&embed, &packed);
        assert_eq!(ran.ends_with(0).images(), ["-/d/1.png", "-/d/2.png"]);
    }
    let first = 512 + files[0].1.len();
    let plain = |bytes: &[u8]| bytes.to_vec();
    for pack in [&plain as &dyn Fn(&[u8]) -> Vec<u8>, &gzip, &zstd] {
        let mut command = room.command();
        command
            .args(["classify", "-m", small::model(), "--tar", "-"])
            .args(LABELS);
        let mut running = Running::start(command);
        running.write(&pack(&whole[..first]));
        assert!(running.line().contains("-/d/1.png"), "the stream pauses");
        running.write(&pack(&whole[first..]));
        assert!(running.line().contains("-/d/2.png"));
        running.close_stdin();
        assert_eq!(running.end().0, Some(0));
    }
    let ran = room.classify_with_stdin(&[&["-"], &LABELS[..]].concat(), &whole);
    ran.ends_with(2).says(&["pass --tar on stdin"]);
    let ran = room.classify(&[&["--tar", "a.tar"], &LABELS[..]].concat());
    ran.ends_with(2).says(&["stdin is not read"]);
}

/// `longclip evaluate …` of these files in an archive; the summary.
fn evaluated(room: &Room, name: &str, files: Files<'_>, code: i32) -> Ran {
    room.file(name, packed(&name[name.find('.').unwrap()..], files));
    let model = small::model();
    let arguments = [
        "evaluate", name, "-m", model, "-f", "json", "-l", "cat", "dog", "--out", "out",
    ];
    room.longclip(&arguments, &[]).ends_with(code)
}

#[test]
fn labels_are_next_to_the_images_or_are_their_folders() {
    let text = |text: &str| text.as_bytes().to_vec();
    let images = ["1", "2", "3", "4"].map(png);
    let [one, two, three, four] = images;
    let labelled = [
        ("d/1.png", one.clone()),
        ("d/2.png", two.clone()),
        ("d/2.json", text("{\"label\": \"cat\", \"url\": \"x\"}")),
        ("d/3.json", text("{\"caption\": \"x\", \"class\": 0}")),
        ("d/3.left.png", three.clone()),
        ("d/3.right.png", four.clone()),
        // Tar keeps the order of the file system.
        ("d/1.cls", text("1\n")),
    ];
    let folders = [
        ("set/dog/1.png", one.clone()),
        ("set/cat/2.png", two.clone()),
        ("set/cat/a/3.png", three),
        ("set/dog/notes.txt", text("no image")),
        ("set/cat/4.png", four),
    ];
    let room = Room::new();
    let mut found = Vec::new();
    for ending in [".tar", ".tgz", ".zip"] {
        let name = format!("labelled{ending}");
        // Class numbers and names do not mix.
        let files = labelled.iter().map(|(name, content)| match *name {
            "d/2.json" => (*name, text("{\"label\": 0}")),
            _ => (*name, content.clone()),
        });
        evaluated(&room, &name, &files.collect::<Vec<_>>(), 0);
        let records = crate::room::records(&room.read("out/predictions.jsonl"));
        let targets: Vec<_> = records
            .iter()
            .map(|record| record["target"].clone())
            .collect();
        assert_eq!(targets, ["dog", "cat", "cat", "cat"]);
        assert_eq!(records[2]["image"], format!("{name}/d/3.left.png"));
        found.push(
            records
                .iter()
                .map(|record| record["predictions"].clone())
                .collect::<Vec<_>>(),
        );
        let name = format!("folders{ending}");
        evaluated(&room, &name, &folders, 0);
        let records = crate::room::records(&room.read("out/predictions.jsonl"));
        let targets: Vec<_> = records
            .iter()
            .map(|record| record["target"].clone())
            .collect();
        assert_eq!(targets, ["dog", "cat", "cat", "cat"]);
        found.push(
            records
                .iter()
                .map(|record| record["predictions"].clone())
                .collect(),
        );
    }
    assert!(found.iter().all(|predictions| *predictions == found[0]));
    for (files, part) in [
        (vec![("1.png", one.clone())], "have no labels"),
        (
            vec![
                ("1.png", one.clone()),
                ("2.png", two.clone()),
                ("2.cls", text("cat")),
            ],
            "such as x.tar/1.png",
        ),
        (vec![("1.png", one), ("1.json", text("[]"))], "1.json"),
        (
            vec![
                ("1.cls", text("0")),
                ("1.png", two.clone()),
                ("1.cls", text("1")),
            ],
            "occurs twice",
        ),
        (
            vec![("test/cat/1.png", two.clone()), ("train/cat/1.png", two)],
            "parts of a dataset",
        ),
    ] {
        evaluated(&room, "x.tar", &files, 2).says(&[part]);
    }
    let whole = room.path("folders.tar");
    let bytes = fs::read(&whole).unwrap();
    fs::write(&whole, &bytes[..bytes.len() - 2000]).unwrap();
    let ran = room.longclip(
        &[
            "evaluate",
            "folders.tar",
            "-m",
            small::model(),
            "-l",
            "cat",
            "dog",
        ],
        &[],
    );
    ran.ends_with(2).says(&["cut short"]);
}
