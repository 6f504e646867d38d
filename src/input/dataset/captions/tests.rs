use std::fs;

use super::*;

const RULE: ImageRule = ImageRule {
    extensions: &["jpg"],
    looks_like_image: |_| false,
};

fn read(files: &[(&str, &str)], name: &str, options: &CaptionOptions) -> Result<Captioned, String> {
    let folder = tempfile::tempdir().unwrap();
    for (file, content) in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let path = folder.path().join(name);
    let mut found = captioned(&path, options, RULE).map_err(|error| format!("{error:#}"))?;
    for image in &mut found.images {
        *image = image.strip_prefix(folder.path()).unwrap().to_owned();
    }
    Ok(found)
}

const COCO: &str = r#"{"info": {}, "images": [{"id": 7, "file_name": "b.jpg"}, {"id": 3, "file_name": "a.jpg"}],
    "annotations": [{"id": 1, "image_id": 3, "caption": "A cat. "}, {"id": 2, "image_id": 7, "caption": "A dog."},
    {"id": 3, "image_id": 3, "caption": "My cat."}]}"#;
const KARPATHY: &str = r#"{"dataset": "x", "images": [
    {"filename": "b.jpg", "split": "test", "sentences": [{"raw": "A dog."}]},
    {"filename": "c.jpg", "split": "train", "sentences": [{"raw": "A cow."}]},
    {"filename": "a.jpg", "filepath": "val", "split": "test", "sentences": [{"raw": "A cat."}, {"raw": "My cat."}]}]}"#;

#[test]
fn each_form_is_read() {
    let options = CaptionOptions::default();
    let coco = read(&[("x.json", COCO)], "x.json", &options).unwrap();
    assert_eq!(coco.images, [Path::new("b.jpg"), Path::new("a.jpg")]);
    assert_eq!(coco.texts, ["A cat.", "A dog.", "My cat."]);
    assert_eq!(coco.image_of_text, [1, 0, 1]);
    assert!(
        coco.protocol
            .starts_with("COCO captions; 2 images, 3 captions, any caption")
    );

    let karpathy = read(&[("x.json", KARPATHY)], "x.json", &options).unwrap();
    assert_eq!(
        karpathy.images,
        [Path::new("b.jpg"), Path::new("val/a.jpg")]
    );
    assert_eq!(karpathy.image_of_text, [0, 1, 1]);

    let csv = "image,caption\na.jpg,A cat.\nb.jpg,A dog.\na.jpg,My cat.\n";
    let rows = read(&[("x.csv", csv)], "x.csv", &options).unwrap();
    assert_eq!((rows.images.len(), rows.image_of_text), (2, vec![0, 1, 0]));

    let lines = "{\"path\":\"a.jpg\",\"captions\":[\"A cat.\",\"My cat.\"]}\n{\"path\":\"b.jpg\",\"text\":\"x\"}";
    let rows = read(&[("x.jsonl", lines)], "x.jsonl", &options).unwrap();
    assert_eq!(rows.image_of_text, [0, 0, 1]);
}

#[test]
fn text_files_are_read_next_to_images_or_in_their_own_folder() {
    let first = CaptionOptions {
        lines: CaptionLines::First,
        ..CaptionOptions::default()
    };
    for (image, caption) in [("image/1.jpg", "caption/1.txt"), ("1.jpg", "1.txt")] {
        let files = [(image, ""), (caption, "One line.\nAnother.\n")];
        let found = read(&files, "", &CaptionOptions::default()).unwrap();
        assert_eq!(found.texts, ["One line.\nAnother."]);
        let found = read(&files, "", &first).unwrap();
        assert_eq!(found.texts, ["One line."]);
        assert!(
            found.protocol.ends_with("first line of each caption"),
            "{}",
            found.protocol
        );
    }
}

#[test]
fn split_lines_and_count_can_be_chosen() {
    let one = CaptionOptions {
        most: Some(1),
        images: Some(PathBuf::from("/elsewhere")),
        ..CaptionOptions::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.json");
    fs::write(&path, COCO).unwrap();
    let found = captioned(&path, &one, RULE).unwrap();
    assert_eq!(found.texts, ["A cat.", "A dog."]);
    assert_eq!(found.images[0], Path::new("/elsewhere/b.jpg"));
    let train = CaptionOptions {
        split: Some("train".to_owned()),
        ..CaptionOptions::default()
    };
    let found = read(&[("x.json", KARPATHY)], "x.json", &train).unwrap();
    assert_eq!(found.texts, ["A cow."]);
}

#[test]
fn errors_say_what_is_wrong() {
    #[rustfmt::skip]
    let cases = [
        ("x.json", "{}", "expected COCO's or Karpathy's"),
        ("x.json", r#"{"images": [], "annotations": []}"#, "there are no captions"),
        (
            "x.json",
            r#"{"images": [], "annotations": [{"image_id": 3, "caption": "x"}]}"#,
            "annotation 1: the caption is of image 3, which is not in the list",
        ),
        (
            "x.json",
            r#"{"images": [{"filename": "a", "split": "val", "sentences": []}]}"#,
            "--split",
        ),
        ("x.csv", "path,caption\na.jpg, \n", "line 2: the caption is empty"),
        ("x.csv", "path,label\na.jpg,cat\n", "there is no caption"),
        ("x.jsonl", "{\"path\":\"a\",\"captions\":[1]}", "holds values that are not strings"),
    ];
    for (name, content, part) in cases {
        let error = read(&[(name, content)], name, &CaptionOptions::default()).unwrap_err();
        assert!(error.contains(part), "{content}: {error}");
    }
    let files = [("a.jpg", ""), ("b.jpg", ""), ("b.txt", "x")];
    let error = read(&files, "", &CaptionOptions::default()).unwrap_err();
    assert!(error.contains("1 of the images have no caption"), "{error}");
}

#[test]
fn other_forms_are_read() {
    let mapping = r#"{"a.jpg": ["A cat.", "My cat."], "b.jpg": "A dog."}"#;
    let list = r#"[{"image": "a.jpg", "caption": ["A cat.", "My cat."]}, {"image": "b.jpg", "text": "A dog."}]"#;
    let lines = "{\"image\": \"a.jpg\", \"caption\": [\"A cat.\", \"My cat.\"]}\n\
                 {\"image\": \"b.jpg\", \"caption\": \"A dog.\"}\n";
    let tokens = "a.jpg#0\tA cat.\na.jpg#1\tMy cat.\nb.jpg#0\tA dog.\n";
    let bars = "image_name| comment_number| comment\na.jpg| 0| A cat.\na.jpg| 1   My cat.\nb.jpg| 0| A dog.\n";
    let table = "image,caption\na.jpg,A cat.\na.jpg,My cat.\nb.jpg,A dog.\n";
    let cases = [
        ("x.json", mapping, "captions by path"),
        ("x.json", list, "a JSON list of images and captions"),
        ("x.jsonl", lines, "rows"),
        ("Flickr8k.token.txt", tokens, "rows"),
        ("results.token", tokens, "rows"),
        ("results.csv", bars, "rows"),
        ("captions.txt", table, "rows"),
    ];
    for (name, content, kind) in cases {
        let found = read(&[(name, content)], name, &CaptionOptions::default()).unwrap();
        assert_eq!(found.texts, ["A cat.", "My cat.", "A dog."], "{name}");
        assert_eq!(found.image_of_text, [0, 0, 1], "{name}");
        assert!(found.protocol.starts_with(kind), "{}", found.protocol);
    }
}

#[test]
fn sidecars_are_read() {
    let options = CaptionOptions::default();
    let kohya = [
        ("a.jpg", ""),
        ("a.caption", "A cat.\n"),
        ("b.jpg", ""),
        ("b.txt", "A dog."),
    ];
    let found = read(&kohya, "", &options).unwrap();
    assert_eq!(found.texts, ["A cat.", "A dog."]);
    let files = [
        ("a.jpg", ""),
        ("a.caption", "A cat."),
        ("a.txt", "cat, animal"),
    ];
    let error = read(&files, "", &options).unwrap_err();
    assert!(error.contains("a.caption differ; keep one"), "{error}");

    let hub = [
        ("train/a.jpg", ""),
        ("b.jpg", ""),
        ("c.jpg", ""),
        (
            "metadata.csv",
            "file_name,text\nb.jpg,A dog.\ntrain/a.jpg,A cat.\n",
        ),
    ];
    let found = read(&hub, "", &options).unwrap();
    assert_eq!(found.images, [Path::new("b.jpg"), Path::new("train/a.jpg")]);
    assert!(
        found
            .protocol
            .contains("metadata.csv (1 other image of the folder is skipped)")
    );
    let both = [
        hub[0],
        hub[3],
        (
            "metadata.jsonl",
            "{\"file_name\":\"b.jpg\",\"text\":\"A dog.\"}",
        ),
    ];
    let error = read(&both, "", &options).unwrap_err();
    assert!(error.contains("both exist"), "{error}");
    let labels = [
        ("b.jpg", ""),
        ("metadata.csv", "file_name,label\nb.jpg,dog\n"),
    ];
    let error = read(&labels, "", &options).unwrap_err();
    assert!(error.contains("there is no caption"), "{error}");
}

#[test]
fn a_split_is_that_of_the_rows_or_refused() {
    let table = "image,caption,split\na.jpg,A cat.,train\nb.jpg,A dog.,test\n";
    let list = r#"[{"image": "a.jpg", "text": "A cat.", "split": "train"},
        {"image": "b.jpg", "text": "A dog.", "split": "test"}]"#;
    let options = |split: Option<&str>, usual_split| CaptionOptions {
        split: split.map(str::to_owned),
        usual_split,
        ..CaptionOptions::default()
    };
    for (name, content) in [("x.csv", table), ("x.JSON", list)] {
        let found = |split, usual| read(&[(name, content)], name, &options(split, usual));
        assert_eq!(found(Some("test"), None).unwrap().texts, ["A dog."]);
        let train = found(None, Some("train")).unwrap();
        assert_eq!(train.texts, ["A cat."]);
        assert!(
            train.notes[0].ends_with("using the rows of the split train (available: train, test)")
        );
        let all = found(None, None).unwrap();
        assert_eq!(all.texts.len(), 2);
        assert!(all.notes[0].contains("all splits (train, test)"));
        let error = found(Some("val"), None).unwrap_err();
        assert!(error.contains("it has train, test"), "{error}");
    }
    let mapping = r#"{"a.jpg": "A cat."}"#;
    let plain = "image,caption\na.jpg,A cat.\n";
    let folder = [("d/a.jpg", ""), ("d/a.txt", "A cat.")];
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[("x.json", COCO)], "x.json"),
        (&[("x.json", mapping)], "x.json"),
        (&[("x.csv", plain)], "x.csv"),
        (&folder, "d"),
    ];
    for (files, name) in cases {
        assert!(read(files, name, &options(None, Some("train"))).is_ok());
        let error = read(files, name, &options(Some("test"), None)).unwrap_err();
        assert!(error.contains("drop --split"), "{error}");
    }
}

#[test]
fn images_in_other_folders_are_not_counted() {
    let files = [
        ("d/c.jpg", ""),
        ("d/metadata.csv", "file_name,text\nb.jpg,A dog.\n"),
    ];
    let root = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let options = CaptionOptions {
        images: Some(PathBuf::from("/elsewhere")),
        ..CaptionOptions::default()
    };
    let found = captioned(&root.path().join("d"), &options, RULE).unwrap();
    assert!(!found.protocol.contains("skipped"), "{}", found.protocol);
}
