//! Parquet tables with a column of images, as archives of images.

use std::fs;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::room::{Ran, Room, png, records};
use crate::small;

const LABELS: [&str; 4] = ["-l", "cat", "dog", "bird"];

/// Tables of the same seven rows (`make.py` next to them), and what the names of their rows end in;
/// one has no names.
const TABLES: [(&str, Option<&str>); 4] = [
    ("hub-snappy.parquet", Some(".png")),
    ("flat-gzip.parquet", Some(".png")),
    ("delta-zstd.parquet", Some("")),
    ("lengths-plain.parquet", None),
];

fn fixture(name: &str) -> Vec<u8> {
    fs::read(format!("tests/fixtures/shard/{name}")).unwrap()
}

fn names(suffix: Option<&str>) -> Vec<String> {
    let class = |row: usize| ["cat", "dog", "bird"][row % 3];
    let name = |row: usize| match suffix {
        Some(suffix) => format!("{row}/{}{suffix}", class(row)),
        None => row.to_string(),
    };
    (0..7).map(name).collect()
}

/// A table of bytes and texts: name, type and values of each column.
pub(crate) fn table(columns: &[(&str, &str, &[Vec<u8>])]) -> Vec<u8> {
    let fields = columns
        .iter()
        .map(|(name, kind, _)| format!("REQUIRED BYTE_ARRAY {name} {kind};"));
    let message = format!("message m {{ {} }}", fields.collect::<String>());
    let schema = Arc::new(parse_message_type(&message).unwrap());
    let plain = WriterProperties::builder().set_dictionary_enabled(false);
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, plain.build().into()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (_, _, values) in columns {
        let values: Vec<ByteArray> = values.iter().map(|value| value.clone().into()).collect();
        let mut column = group.next_column().unwrap().unwrap();
        let typed = column.typed::<ByteArrayType>();
        typed.write_batch(&values, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

fn longclip(room: &Room, arguments: &[&str]) -> Ran {
    room.longclip(arguments, &[("LONGCLIP_MODEL", small::model())])
}

fn errors(ran: &Ran) -> Vec<Option<String>> {
    let error = |record: &serde_json::Value| record["error"].as_str().map(str::to_owned);
    ran.records().iter().map(error).collect()
}

#[test]
fn records_are_those_of_a_folder_of_that_name() {
    for (name, suffix) in TABLES {
        let [folder, whole] = [Room::new(), Room::new()];
        for (row, file) in names(suffix).iter().enumerate() {
            let image = ["3x5", "10x7", "1x1"][row % 3];
            let image = fs::read(format!("tests/fixtures/image/size-{image}.png")).unwrap();
            folder.file(format!("{name}/{file}"), image);
        }
        whole.file(name, fixture(name));
        for format in ["jsonl", "csv"] {
            let arguments = [&["classify", name, "-f", format], &LABELS[..]].concat();
            let expected = longclip(&folder, &arguments).ends_with(0).out;
            assert!(expected.contains(&format!("{name}/6")));
            assert_eq!(longclip(&whole, &arguments).ends_with(0).out, expected);
        }
        // Of files, embed says when they changed.
        let mut rows = longclip(&folder, &["embed", name]).ends_with(0).records();
        for row in &mut rows {
            let row = row.as_object_mut().unwrap();
            row.retain(|key, _| key != "bytes" && key != "mtime_ns");
        }
        let embedded = longclip(&whole, &["embed", name]).ends_with(0);
        assert_eq!(embedded.records(), rows);
    }
}

#[test]
fn a_row_without_an_image_is_an_error_and_one_without_a_name_has_its_number() {
    let room = Room::new();
    room.file("x.parquet", fixture("hub-nulls.parquet"));
    let ran = longclip(&room, &[&["classify", "x.parquet"], &LABELS[..]].concat()).ends_with(1);
    let images = ran.images();
    assert_eq!(
        images[..3],
        ["x.parquet/0/cat.png", "x.parquet/1", "x.parquet/2/bird.png"]
    );
    let errors = errors(&ran);
    assert!(
        errors[0].as_ref().unwrap().contains("photo.bytes is null"),
        "{errors:?}"
    );
    assert!(
        errors[1..].iter().all(Option::is_none) && errors.len() == 7,
        "{errors:?}"
    );
}

#[test]
fn rows_are_found_by_their_keys() {
    let room = Room::new();
    for (name, _) in TABLES {
        room.file(name, fixture(name));
    }
    let list = [
        ("hub-snappy.parquet", "5/bird.png"),
        ("hub-snappy.parquet", "1/dog"),
        ("lengths-plain.parquet", "6"),
        ("delta-zstd.parquet", "4/dog"),
        ("lengths-plain.parquet", "0"),
    ];
    let line = |(shard, key): &(&str, &str)| format!("{{\"shard\":{shard:?},\"key\":{key:?}}}\n");
    let lines: String = list.iter().map(line).collect();
    let arguments = [&["--files-from", "-"], &LABELS[..]].concat();
    let ran = room
        .classify_with_stdin(&arguments, lines.as_bytes())
        .ends_with(0);
    let found = ran.records();
    for (record, (shard, key)) in found.iter().zip(list) {
        assert!(
            record["image"]
                .as_str()
                .unwrap()
                .starts_with(&format!("{shard}/{key}"))
        );
        let row: usize = key[..1].parse().unwrap();
        let whole = longclip(&room, &[&["classify", shard], &LABELS[..]].concat()).records();
        assert_eq!(
            record["predictions"], whole[row]["predictions"],
            "{shard} {key}"
        );
    }
    let text = |name: &str| name.as_bytes().to_vec();
    let twice = [text("a.png"), text("b.png"), text("a.png")];
    let images = [png("1"), png("2"), png("3")];
    room.file(
        "x.parquet",
        table(&[("image", "", &images), ("path", "(UTF8)", &twice)]),
    );
    let ran = room.classify_with_stdin(&arguments, line(&("x.parquet", "a.png")).as_bytes());
    let error = errors(&ran.ends_with(2)).remove(0).unwrap();
    assert!(
        error.contains("several images of the archive have this name"),
        "{error}"
    );
}

#[test]
fn labels_are_texts_names_of_the_hub_or_class_numbers() {
    let room = Room::new();
    let evaluate = |name: &str, labels: &[&str], code: i32| {
        room.file(name, fixture(name));
        let arguments = [
            &["evaluate", name, "-f", "json", "--out", "out", "-l"],
            labels,
        ]
        .concat();
        longclip(&room, &arguments).ends_with(code)
    };
    let targets = || -> Vec<String> {
        let records = records(&room.read("out/predictions.jsonl"));
        let target = |record: &serde_json::Value| record["target"].as_str().unwrap().to_owned();
        records.iter().map(target).collect()
    };
    let names = ["cat", "dog", "bird", "cat", "dog", "bird", "cat"];
    let turned = ["bird", "cat", "dog", "bird", "cat", "dog", "bird"];
    for (name, suffix) in TABLES {
        let are_numbers = suffix != Some(".png");
        evaluate(name, &LABELS[1..], 0);
        assert_eq!(targets(), names, "{name}");
        evaluate(name, &["bird", "cat", "dog"], 0);
        assert_eq!(
            targets(),
            if are_numbers { turned } else { names },
            "{name}"
        );
    }
    evaluate("hub-nulls.parquet", &LABELS[1..], 2).says(&[
        "1 images of hub-nulls.parquet have no label, such as hub-nulls.parquet/1",
        "add a column \"label\"",
    ]);
    let images = [png("1"), png("2")];
    for (kind, values, part) in [
        (
            "label (UTF8)",
            [b"cat".to_vec(), b" ".to_vec()],
            "it is empty",
        ),
        ("class", [b"cat".to_vec(), vec![0xff]], "it is not UTF-8"),
        (
            "note (UTF8)",
            [b"cat".to_vec(), b"dog".to_vec()],
            "have no labels; add a column \"label\"",
        ),
    ] {
        let (name, kind) = kind.split_once(' ').unwrap_or((kind, ""));
        room.file(
            "x.parquet",
            table(&[("image", "", &images), (name, kind, &values)]),
        );
        let arguments = [&["evaluate", "x.parquet"], &LABELS[..]].concat();
        longclip(&room, &arguments).ends_with(2).says(&[part]);
    }
}

#[test]
fn a_table_that_is_not_understood_is_refused_with_its_columns() {
    let room = Room::new();
    let images = &[png("1")][..];
    let whole = fixture("hub-snappy.parquet");
    #[rustfmt::skip]
    let cases: Vec<(Vec<u8>, &[&str])> = vec![
        (table(&[("path", "(UTF8)", images), ("thumb", "", images)]),
            &["no column of images", "named image, img, jpg", "path (text), thumb (bytes)"]),
        (table(&[("image", "(UTF8)", images)]), &["no column of images", "image (text)"]),
        (table(&[("image", "", images), ("path", "", &[vec![b'a'; 5000]])]),
            &["the name of row 0 has over 4096 bytes"]),
        (table(&[("png", "", images), ("content", "", images)]),
            &["more than one column of images, png and content"]),
        (fixture("brotli.parquet"), &["png is compressed by BROTLI, which"]),
        (Vec::new(), &["the file is empty"]),
        (whole[..whole.len() - 9].to_vec(), &["does not end like a Parquet file"]),
        (vec![7; 3000], &["does not end like a Parquet file"]),
        ({ let mut bytes = whole.clone(); let at = bytes.len() - 40; bytes[at..at + 20].fill(0xff); bytes },
            &["footer is damaged"]),
    ];
    for (bytes, parts) in cases {
        room.file("x.parquet", bytes);
        let ran = longclip(&room, &[&["classify", "x.parquet"], &LABELS[..]].concat());
        let record = ran.ends_with(2).record();
        assert_eq!(record["image"], "x.parquet");
        for part in parts {
            let error = record["error"].as_str().unwrap();
            assert!(error.contains(part), "{error}");
        }
    }
}

#[test]
fn damage_costs_the_rows_of_its_row_group() {
    let room = Room::new();
    let mut bytes = fixture("hub-snappy.parquet");
    // The second image is in each of the first two row groups, of three rows.
    let image = fs::read("tests/fixtures/image/size-10x7.png").unwrap();
    let is_there = |at: &usize| bytes[*at..].starts_with(&image[..40]);
    let at = (0..bytes.len()).filter(is_there).nth(1).unwrap();
    bytes[at - 8..at + 30].fill(0xff);
    room.file("x.parquet", bytes);
    let ran = longclip(&room, &[&["classify", "x.parquet"], &LABELS[..]].concat()).ends_with(1);
    let errors = errors(&ran);
    let failed: Vec<bool> = errors.iter().map(Option::is_some).collect();
    assert_eq!(
        failed,
        [false, false, false, true, true, true, false],
        "{errors:?}"
    );
    assert!(
        errors[3]
            .as_ref()
            .unwrap()
            .contains("cannot read image.bytes in row group 1")
    );
    assert!(
        errors[4]
            .as_ref()
            .unwrap()
            .contains("damaged before this row")
    );
}

#[test]
fn the_header_of_a_page_is_not_believed() {
    let room = Room::new();
    let images = [png("1"), png("2"), png("3")];
    let whole = table(&[("image", "", &images)]);
    // Its fields: the kind of page, the sizes unpacked and packed; the number of values.
    assert_eq!(whole[4..7], [0x15, 0, 0x15]);
    let packed = 10..12;
    assert!(whole[7..9] == whole[packed.clone()] && whole[9] == 0x15);
    let values = (12..40)
        .find(|at| whole[*at..].starts_with(&[0x2c, 0x15, 6]))
        .unwrap()
        + 2;
    for (range, value, part) in [
        (packed.clone(), &[0xfe, 0x7f][..], "Invalid page header"),
        (packed, &[0x81, 0], "Invalid page header"),
        (values..values + 1, &[0x7e], "claims 63 entries, too many"),
        (values..values + 1, &[4], "ends before its rows do"),
    ] {
        let mut bytes = whole.clone();
        bytes[range].copy_from_slice(value);
        room.file("x.parquet", bytes);
        let ran = longclip(&room, &[&["classify", "x.parquet"], &LABELS[..]].concat());
        let errors = errors(&ran);
        assert_eq!(errors.len(), 3);
        assert!(errors[2].as_ref().is_some(), "{part}");
        let all: String = errors.into_iter().flatten().collect();
        assert!(all.contains(part), "{all}");
    }
    // Lengths by deltas: blocks of 128 numbers in 4 parts, and how many numbers there are.
    let mut bytes = fixture("lengths-plain.parquet");
    let is_there = |at: &usize| bytes[*at..].starts_with(&[0x80, 1, 4, 5]);
    let at = (0..bytes.len()).find(is_there).unwrap() + 3;
    bytes[at..at + 6].copy_from_slice(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x20]);
    room.file("x.parquet", bytes);
    let ran = longclip(&room, &[&["classify", "x.parquet"], &LABELS[..]].concat());
    let error = errors(&ran.ends_with(1)).remove(0).unwrap();
    assert!(error.contains("claims 1099511627776 lengths"), "{error}");
}

#[test]
fn a_table_is_one_unit_of_a_share_and_is_not_searched_for_in_folders() {
    let room = Room::new();
    let [first, second] = ["d/flat-gzip.parquet", "d/hub-snappy.parquet"];
    for name in [first, second] {
        room.file(name, fixture(&name[2..]));
    }
    let more = ["-o", "parts/", "--shard", "1/2"];
    let arguments = [&["classify", first, second], &more[..], &LABELS].concat();
    longclip(&room, &arguments).ends_with(0);
    let part = records(&room.read("parts/part-000001.jsonl"));
    let expected = names(Some(".png"));
    let expected = expected.iter().map(|name| format!("{second}/{name}"));
    assert_eq!(crate::room::images(&part), expected.collect::<Vec<_>>());
    assert!(!room.path("parts/part-000000.jsonl").exists());
    let ran = longclip(&room, &[&["classify", "d"], &LABELS[..]].concat());
    ran.ends_with(0)
        .says(&["passed over 2 archives", "such as d/flat-gzip.parquet"]);
}
