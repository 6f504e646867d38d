use super::*;

fn settings(value: &str) -> Settings {
    let mut settings = Settings::default();
    settings.add("score", value);
    settings
}

fn part(unit: u64, share: &str) -> Part {
    Part {
        unit,
        share: share.to_owned(),
        inputs: format!("{unit}"),
        answered: 1,
        failed: 1,
        failed_by_kind: BTreeMap::from([(FailureKind::Decode, 1)]),
        files: Vec::new(),
    }
}

/// Writes a part as a run does.
fn write(folder: &Folder, unit: u64, share: &str) {
    let file = stem(unit) + ".jsonl";
    let making = folder.begin(Path::new(&file)).unwrap();
    fs::write(making.path().join(&file), format!("{unit}\n")).unwrap();
    folder.finish(making, part(unit, share)).unwrap();
}

fn total(units: u64) -> Total {
    let mut inputs = Sha256::new();
    (0..units).for_each(|unit| inputs.update(unit.to_string()));
    Total {
        units,
        inputs: hexadecimal(&inputs.finalize()),
    }
}

#[test]
fn the_settings_are_those_of_the_first_run() {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("parts");
    Folder::open(&path, &settings("softmax")).unwrap();
    Folder::open(&path, &settings("softmax")).unwrap();
    let mut more = settings("cosine");
    more.add("top_k", 3);
    for other in [settings("cosine"), more, Settings::default()] {
        let error = Folder::open(&path, &other).map(drop).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("score: \"softmax\" there and"), "{error}");
    }
    let names: Vec<_> = fs::read_dir(&path).unwrap().collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn a_folder_of_something_else_is_refused() {
    let room = tempfile::tempdir().unwrap();
    // What another process that begins has there.
    fs::write(room.path().join(".longclip-x.tmp"), "").unwrap();
    fs::write(room.path().join("a.jpg"), "").unwrap();
    let error = Folder::open(room.path(), &settings("x"))
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains("has a.jpg and no run.json"));
    assert!(Folder::read(room.path()).is_err());
    fs::remove_file(room.path().join("a.jpg")).unwrap();
    Folder::open(room.path(), &settings("x")).unwrap();
}

#[test]
fn a_part_is_there_when_all_its_files_are() {
    let room = tempfile::tempdir().unwrap();
    let folder = Folder::open(room.path(), &settings("x")).unwrap();
    assert_eq!(folder.part(0).unwrap(), None);
    write(&folder, 0, "0/1");
    let found = folder.part(0).unwrap().unwrap();
    assert_eq!((found.answered, found.failed, found.files.len()), (1, 1, 1));
    folder.verify(&found).unwrap();
    folder.check_inputs(&found, "0").unwrap();
    let error = folder.check_inputs(&found, "other").unwrap_err();
    assert!(error.to_string().contains("about other images"), "{error}");
    let file = folder.file(&found, ".jsonl").unwrap();
    fs::write(&file, "1\n").unwrap();
    let error = folder.verify(&found).unwrap_err().to_string();
    assert!(error.contains("delete part-000000.json"), "{error}");
    fs::write(&file, "").unwrap();
    assert_eq!(folder.part(0).unwrap(), None);
    fs::remove_file(&file).unwrap();
    assert_eq!(folder.part(0).unwrap(), None);
}

#[test]
fn a_record_names_no_file_elsewhere() {
    let room = tempfile::tempdir().unwrap();
    let folder = Folder::open(room.path(), &settings("x")).unwrap();
    let file = |name: &str| PartFile {
        name: name.to_owned(),
        bytes: 0,
        sha256: String::new(),
    };
    let with = |unit, name| Part {
        files: vec![file(name)],
        ..part(unit, "0/1")
    };
    let cases = [
        (with(0, "part-000000.jsonl"), true),
        (with(0, "part-000000.paths.jsonl"), true),
        (with(0, "part-000001.jsonl"), false),
        (with(0, "part-000000./../../x"), false),
        (with(0, "/etc/passwd"), false),
        (with(1, "part-000000.jsonl"), false),
    ];
    for (part, is_read) in cases {
        write_json(&room.path().join("part-000000.json"), &part).unwrap();
        assert_eq!(folder.recorded(0).is_ok(), is_read, "{part:?}");
    }
    fs::write(room.path().join("part-000000.json"), "{").unwrap();
    assert!(folder.recorded(0).is_err());
}

#[test]
fn missing_parts_are_named_with_their_shares() {
    let room = tempfile::tempdir().unwrap();
    let folder = Folder::open(room.path(), &settings("x")).unwrap();
    let missing = |folder: &Folder| folder.parts().unwrap().unwrap_err().join("\n");
    assert!(missing(&folder).contains("no share has read the whole input"));
    folder.close(&total(30)).unwrap();
    assert!(missing(&folder).starts_with("part-000000 is missing\n"));
    write(&folder, 1, "1/3");
    write(&folder, 3, "0/3");
    let named = missing(&folder);
    assert!(named.starts_with("part-000000 is missing; share 0/3 makes it\npart-000002"));
    assert!(
        named.ends_with("part-000021 is missing; share 0/3 makes it\nat least 8 more are missing")
    );
    write(&folder, 2, "0/1");
    assert!(missing(&folder).starts_with("part-000000 is missing\n"));
}

#[test]
fn parts_of_two_inputs_are_not_joined() {
    let room = tempfile::tempdir().unwrap();
    let folder = Folder::open(room.path(), &settings("x")).unwrap();
    (0..2).for_each(|unit| write(&folder, unit, "0/1"));
    folder.close(&total(2)).unwrap();
    assert_eq!(folder.parts().unwrap().unwrap().len(), 2);
    assert!(folder.close(&total(3)).is_err());
    let record = Part {
        inputs: "2".to_owned(),
        ..part(1, "0/1")
    };
    write_json(&room.path().join("part-000001.json"), &record).unwrap();
    let error = folder.parts().unwrap_err().to_string();
    assert!(error.contains("begin again in another folder"), "{error}");
}

#[test]
fn the_files_of_the_parts_are_known() {
    let room = tempfile::tempdir().unwrap();
    let folder = Folder::open(room.path(), &settings("x")).unwrap();
    for (name, is_owned) in [
        ("run.json", true),
        ("part-000000.jsonl", true),
        ("all.jsonl", false),
        ("../part-000000.jsonl", false),
    ] {
        assert_eq!(folder.owns(&room.path().join(name)), is_owned, "{name}");
    }
}
