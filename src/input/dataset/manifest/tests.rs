//! Files of labelled images, and errors in them.

use super::*;

const RULE: ImageRule = ImageRule {
    extensions: &["jpg"],
    looks_like_image: |_| false,
};

fn read(name: &str, content: &str, split: Split<'_>) -> Result<Labelled, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let options = LabelledOptions {
        shards: false,
        images: None,
        split,
    };
    let found = labelled(&path, &options, RULE);
    let mut found = found.map_err(|error| format!("{error:#}"))?;
    for sample in &mut found.samples {
        let source = sample.source.as_mut().unwrap();
        *source = source
            .strip_prefix(folder.path())
            .unwrap_or(source)
            .to_owned();
    }
    Ok(found)
}

const TEST: Split<'_> = Split::Usual("test");

#[test]
fn each_kind_of_file_gives_the_same_dataset() {
    #[rustfmt::skip]
    let cases = [
        ("a.csv", "\u{feff}Path,other,Label\n\"x, y.jpg\",1,cat\nb.jpg,2,a dog\n/c.jpg,3,cat\n"),
        ("a.tsv", "image\tclass\nx, y.jpg\tcat\nb.jpg\ta dog\n/c.jpg\tcat\n"),
        (
            "a.csv",
            "File Name;Class_Name;;\r\nx, y.jpg;cat;;\r\nb.jpg;a dog;;\r\n;;;\r\n/c.jpg;cat;;\r\n;;;\r\n",
        ),
        ("a.txt", "image|species\nx, y.jpg|cat\nb.jpg|a dog\n/c.jpg|cat\n"),
        // Names win over class numbers.
        ("a.csv", "path,label,label_name\n\"x, y.jpg\",0,cat\nb.jpg,1,a dog\n/c.jpg,0,cat\n"),
        (
            "a.jsonl",
            "{\"file_name\":\"x, y.jpg\",\"label\":\"cat\"}\n\n{\"path\":\"b.jpg\",\"target\":\"a dog\"}\r\n\
             {\"path\":\"/c.jpg\",\"label\":\" cat\"}",
        ),
        (
            "a.json",
            r#"[{"image": "x, y.jpg", "label": "cat"}, {"image": "b.jpg", "label": ["a dog"]},
                {"image": "/c.jpg", "label": "cat"}]"#,
        ),
        ("a.json", r#"{"x, y.jpg": "cat", "b.jpg": "a dog", "/c.jpg": "cat"}"#),
        (
            "split_zhou_A.json",
            r#"{"train": [["y.jpg", 2, "cow"]], "test": [["x, y.jpg", 0, "cat"], ["b.jpg", 1, "a dog"],
                ["/c.jpg", 0, "cat"]]}"#,
        ),
    ];
    for (name, content) in cases {
        let found = read(name, content, TEST).unwrap();
        assert_eq!(found.classes, ["cat", "a dog"], "{name} {content}");
        let samples: Vec<_> = found
            .samples
            .iter()
            .map(|sample| (sample.source.clone().unwrap(), sample.class))
            .collect();
        let expected = [("x, y.jpg", 0), ("b.jpg", 1), ("/c.jpg", 0)];
        assert_eq!(
            samples,
            expected.map(|(path, class)| (path.into(), class)),
            "{name}"
        );
    }
}

#[test]
fn class_numbers_and_names_in_normal_form_are_classes() {
    #[rustfmt::skip]
    let cases = [
        ("a.jsonl", "{\"path\":\"a\",\"label\":0}\n{\"path\":\"b\",\"label\":3}\n", vec!["0", "3"]),
        ("a.csv", "path,label\na,0.0\nb,3.0\n", vec!["0", "3"]),
        ("a.csv", "path,label\na,1.0\nb,3.5\n", vec!["1.0", "3.5"]),
        ("a.csv", "path,label\na,00014\nb,1\n", vec!["00014", "1"]),
        ("a.csv", "path,label\na,corazo\u{301}n\nb,coraz\u{f3}n\n", vec!["coraz\u{f3}n"]),
    ];
    for (name, content, expected) in cases {
        assert_eq!(
            read(name, content, TEST).unwrap().classes,
            expected,
            "{content}"
        );
    }
}

#[test]
fn columns_of_published_lists_are_known() {
    #[rustfmt::skip]
    let cases = [
        ("a.csv", "Filename;Width;ClassId\n00000.ppm;53;16\n", "16"),
        ("a.csv", "image_name,species\na.jpg,owl\n", "owl"),
        ("a.csv", "img_path,category name\na.jpg,owl\n", "owl"),
        ("a.jsonl", "{\"file_name\": \"a.jpg\", \"label\": 3, \"label_name\": \"owl\"}", "owl"),
        ("a.jsonl", "{\"image\": \"a.jpg\", \"name\": \"owl\"}", "owl"),
    ];
    for (name, content, label) in cases {
        assert_eq!(
            read(name, content, TEST).unwrap().classes,
            [label],
            "{content}"
        );
    }
}

#[test]
fn splits_are_chosen_and_reported() {
    let split =
        r#"{"train": [["t.jpg", 0, "cat"]], "val": [["v.jpg", 0, "cat"], ["w.jpg", 1, "dog"]]}"#;
    let table = "path,label,split\nt.jpg,cat,train\nv.jpg,cat,val\nw.jpg,dog,val\n";
    let cases = [
        ("s.json", split, Split::Named("val"), 2, ""),
        (
            "s.json",
            split,
            Split::Usual("train"),
            1,
            "using the split train (available: train, val)",
        ),
        ("s.json", split, Split::All, 3, ""),
        ("s.json", split, TEST, 3, ""),
        ("s.csv", table, Split::Named("train"), 1, ""),
        (
            "s.csv",
            table,
            TEST,
            3,
            "using the rows of all splits (train, val)",
        ),
    ];
    for (name, content, split, count, note) in cases {
        let found = read(name, content, split).unwrap();
        assert_eq!(found.samples.len(), count, "{split:?}");
        let said = format!("{:?}", found.remarks);
        assert!(said.contains(note), "{said}");
    }
    for (name, content) in [("s.json", split), ("s.csv", table)] {
        let error = read(name, content, Split::Named("dev")).unwrap_err();
        assert!(
            error.contains("split \"dev\"; it has train, val"),
            "{error}"
        );
    }
}

#[test]
fn an_error_in_a_row_names_its_line() {
    #[rustfmt::skip]
    let cases = [
        (
            "a.csv",
            "filename,label\nx.jpg,cat\nx.jpg,cat\nx.jpg,dog\n",
            "has several labels, \"cat\" and \"dog\"",
        ),
        ("a.csv", "filename,label\nx.jpg,cat\nx.jpg,cat\nx.jpg,dog\n", "line 4 of"),
        ("a.csv", "a,b\n1,2\n", "such as path,label, but is a, b"),
        ("a.csv", "path,label\nx.jpg,a cat, a dog\n", "3 fields but the first line has 2"),
        ("a.csv", "path,text\nx.jpg,cat\n", "line 2 of"),
        ("a.csv", "path,text\nx.jpg,cat\n", "there is no label"),
        ("a.csv", "path,label\nx.jpg,cat\ny.jpg\n", "line 3 of"),
        ("a.csv", "path,label\nhttp://a/b.jpg,cat\n", "is a URL"),
        ("a.csv", "path,label\n ,cat\n", "the path is empty"),
        ("a.csv", "path,label\nx.jpg,\n", "the label is empty"),
        ("a.csv", "path,label\n", "has no rows"),
        ("a.jsonl", "[1]\n", "not a JSON object"),
        (
            "a.jsonl",
            "{\"path\":\"a\",\"label\":[\"x\",\"y\"]}\n",
            "the label holds several labels ([\"x\", \"y\"])",
        ),
        ("a.jsonl", "{\"path\":\"a\",\"label\":{}}\n", "neither a string nor a number"),
        ("a.jsonl", "{\"path\":\"a\",\"label\":null}\n", "there is no label"),
        ("a.jsonl", "{\"path\":\n", "line 1 of"),
        ("a.json", "{\"a.jpg\": [\"a cat\"]}", "add --task retrieval"),
        ("a.json", "{\"images\": []}", "add --task retrieval"),
        (
            "s.json",
            "{\"test\": [[\"a\", 0, \"x\"], [\"b\", 1, \"x\"]]}",
            "has two class numbers, 0 and 1",
        ),
        ("s.json", "{\"test\": [[\"a\"]]}", "cannot use entry 1 of \"test\""),
        ("a.xyz", "", "is not a dataset"),
    ];
    for (name, content, part) in cases {
        let error = read(name, content, TEST).unwrap_err();
        assert!(error.contains(part), "{content:?}: {error}");
    }
    assert!(read("a.csv", "", TEST).is_err());
}

#[test]
fn a_split_is_found_among_many_and_short_rows_are_filled_up() {
    let mut table = "path,label,class,split\n".to_owned();
    for fold in 0..10 {
        table += &format!("{fold}.jpg,,cat,fold{fold}\n");
    }
    let found = read("a.csv", &table, Split::Named("fold9")).unwrap();
    assert_eq!(
        (found.classes, found.samples.len()),
        (vec!["cat".to_owned()], 1)
    );
    let error = read("a.csv", &table, Split::Named("x")).unwrap_err();
    assert!(error.contains("fold4, …"), "{error}");
    let found = read("a.csv", "path,label,note\na.jpg,cat\n", TEST).unwrap();
    assert_eq!(found.samples.len(), 1);
    let blank = "path,label\n\na.jpg,cat\n\nb.jpg,\n";
    let error = read("a.csv", blank, TEST).unwrap_err();
    assert!(error.contains("line 5 of"), "{error}");
}
