//! Labels from arguments, built-in sets and files of all formats.

use super::*;

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// A labels file of that name and content, read with two templates.
fn from_file(name: &str, content: &[u8]) -> Result<LabelSet, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let templates = Templates::from_arguments(&strings(&["{}", "my {label}"])).unwrap();
    labels_from_file(&path, None, &templates).map_err(|error| {
        assert!(format!("{error:#}").contains(&*path.to_string_lossy()));
        error.chain().last().unwrap().to_string()
    })
}

#[test]
fn arguments_are_labels_as_typed() {
    let labels = |labels: &[&str]| labels_from_arguments(&strings(labels), &Templates::none());
    let set = labels(&["# 1", " a cat "]).unwrap();
    let expected = ["# 1", " a cat "].map(|label| Class {
        label: label.to_owned(),
        prompts: vec![label.to_owned()],
        key: None,
    });
    assert_eq!(set.classes, expected);
    let cases: [(&[&str], &str); 3] = [
        (&[], "there are no labels; pass at least one"),
        (
            &["cat", " "],
            "label 2 is empty; remove it or write its text",
        ),
        (
            &["cat", "dog", "cat"],
            "label \"cat\" occurs twice (labels 1 and 3); remove one",
        ),
    ];
    for (arguments, expected) in cases {
        assert_eq!(labels(arguments).unwrap_err().to_string(), expected);
    }
}

#[test]
fn labels_files_are_read() {
    let cat = ("cat", vec!["cat", "my cat"]);
    let dog = ("a dog", vec!["a dog", "my a dog"]);
    let both = vec![cat.clone(), dog.clone()];
    type Classes<'a> = Vec<(&'a str, Vec<&'a str>)>;
    #[rustfmt::skip]
    let cases: &[(&str, &[u8], Classes<'_>)] = &[
        ("l.txt", b"cat\na dog\n", both.clone()),
        ("l.txt", b"\xef\xbb\xbfcat\r\n\r\n  # no\r\na dog", both.clone()),
        ("labels", b"# only\n\tcat \n", vec![cat.clone()]),
        ("l.txt", b"\xff\xfec\0a\0t\0", vec![cat.clone()]),
        ("l.txt", b"cat\ra dog\r", both.clone()),
        ("l.csv", b"sep=;\r\nlabel;x\r\ncat;\r\n;;\r\na dog;\r\n", both.clone()),
        ("l.jsonl", b"{\"label\": \"cat\"}\n\n{\"label\": \"a dog\"}\n", both.clone()),
        ("l.yaml", b"names:\n  - cat\n  - a dog\n", both.clone()),
        ("l.txt", "é\n".as_bytes(), vec![("é", vec!["é", "my é"])]),
        ("l.json", b"[\"cat\", \"a dog\"]", both.clone()),
        ("l.JSON", b"\xef\xbb\xbf[\"cat\"]", vec![cat.clone()]),
        ("l.json", b"{\"cat\": [], \"a dog\": null}", both.clone()),
        ("l.csv", b"cat\na dog\n", both.clone()),
        ("l.csv", b"Label\r\ncat\r\n\r\n\"a dog\"", both.clone()),
        ("l.tsv", b"key\tclass\n7\tcat\n8\ta dog\n", both),
        (
            "l.json",
            b"{\"z\": [\"{} 1\", \"2\"], \"a\": \"3\"}",
            vec![("z", vec!["{} 1", "2"]), ("a", vec!["3"])],
        ),
        ("l.json", b"[\"# 1\"]", vec![("# 1", vec!["# 1", "my # 1"])]),
        (
            "l.json",
            br#"{"z": {"alias": "y", "prompt": ["a {}"], "key": "1"}, "a": {"text": "b"}}"#,
            vec![("z", vec!["y", "my y", "a {}"]), ("a", vec!["b", "my b"])],
        ),
        (
            "l.csv",
            b"# 1,a cat,\"a cat, asleep\"\nz,,\n# 1,a kitten\n",
            vec![
                ("# 1", vec!["a cat", "a cat, asleep", "a kitten"]),
                ("z", vec!["z", "my z"]),
            ],
        ),
        (
            "l.csv",
            b"alias,name,alias,description\nkitten,cat,tabby,\n,cat,,a {}\n,dog,,a dog\n,dog,,\n",
            vec![
                (
                    "cat",
                    vec![
                        "cat",
                        "my cat",
                        "kitten",
                        "my kitten",
                        "tabby",
                        "my tabby",
                        "a {}",
                    ],
                ),
                ("dog", vec!["dog", "my dog", "a dog"]),
            ],
        ),
        (
            "l.csv",
            b"label,text\nmissile (2),missile\n",
            vec![("missile (2)", vec!["missile", "my missile"])],
        ),
    ];
    for &(name, content, ref expected) in cases {
        let shown = String::from_utf8_lossy(content);
        let set = from_file(name, content).unwrap();
        let found = set.classes.iter().map(|class| {
            let prompts = class.prompts.iter().map(String::as_str);
            (class.label.as_str(), prompts.collect())
        });
        assert_eq!(&found.collect::<Classes<'_>>(), expected, "{shown}");
        assert!(set.warnings.iter().all(|warning| warning.contains("\"x\"")));
    }
}

#[test]
fn guesses_are_reported_once() {
    #[rustfmt::skip]
    let cases: [(&str, &[u8], &[&str], bool); 19] = [
        ("l.txt", b"0:cat\n1:dog\n", &["cat", "dog"], true),
        ("l.txt", b"names:\n  0: cat\n  1: dog\n", &["cat", "dog"], true),
        ("l.txt", b"{\"label\":\"cat\"}\n{\"label\":\"dog\"}\n", &["cat", "dog"], true),
        ("l.txt", b"{0: 'cat',\n 1: 'dog'}\n", &["cat", "dog"], true),
        ("l.txt", b"'cat',\n'dog',\n", &["cat", "dog"], true),
        ("l.txt", b"0: 'cat',\n1: 'dog'\n", &["cat", "dog"], true),
        ("l.txt", b"cat\ta cat\ndog\ta dog\n", &["cat", "dog"], true),
        ("l.txt", b"label;prompt\ncat;x\ndog;y\n", &["cat", "dog"], true),
        ("l.txt", b"class_name\ncat\ndog\n", &["cat", "dog"], true),
        ("l.txt", b"name\ncat\n", &["name", "cat"], true),
        ("l.json", b"{\"label\":\"cat\"}\n{\"label\":\"dog\"}\n", &["cat", "dog"], true),
        ("l.txt", b"0 crane\n1 crane\n2 dog\n", &["0 crane", "1 crane", "2 dog"], true),
        ("l.txt", b"0: crane\n1: crane\n2: dog\n", &["crane (0)", "crane (1)", "dog"], true),
        ("l.csv", b"label;prompt\ncat;x\ndog;y\n", &["cat", "dog"], true),
        ("l.csv", b"[{\"label\": \"cat\"}]", &["cat"], true),
        ("l.txt", b"cat\ndog\n", &["cat", "dog"], false),
        ("l.txt", b"# mine\nlabel;prompt\n# a pet\ncat;x\ndog;y\n", &["cat", "dog"], true),
        ("l.txt", b"# mine\nnames = [\n  'cat',\n  'dog']\n", &["cat", "dog"], true),
        ("l.txt", b"c\0a\0t\0\n\0d\0o\0g\0\n\0", &["cat", "dog"], true),
    ];
    for (name, content, expected, is_noted) in cases {
        let shown = String::from_utf8_lossy(content);
        let set = from_file(name, content).unwrap();
        let labels: Vec<_> = set
            .classes
            .iter()
            .map(|class| class.label.as_str())
            .collect();
        assert_eq!(labels, expected, "{shown}");
        assert_eq!(set.note.is_some(), is_noted, "{shown}: {:?}", set.note);
    }
    let crane = &from_file("l.txt", b"0: crane\n1: crane\n").unwrap().classes[1];
    assert_eq!(
        (&*crane.prompts[0], crane.key.as_deref()),
        ("crane", Some("1"))
    );
}

#[test]
fn a_given_delimiter_makes_a_table_of_lines_that_contain_it() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let set = labels_from_file(&path, Some(b';'), &Templates::none()).unwrap();
        let labels = set.classes.into_iter().map(|class| class.label);
        labels.collect::<Vec<_>>().join("|")
    };
    assert_eq!(
        read("l.txt", "cat;a cat\nking penguin, bird\n"),
        "cat|king penguin, bird"
    );
    assert_eq!(read("m.txt", "cat, a cat\n"), "cat, a cat");
    assert_eq!(read("l.csv", "a,b;x\nc,d;y\n"), "a,b|c,d");
}

#[test]
fn a_table_has_keys_and_warnings() {
    let set = from_file("l.csv", b"label,folder,count\ncat,n02,7\ndog,,8\n").unwrap();
    let keys: Vec<_> = set
        .classes
        .iter()
        .map(|class| class.key.as_deref())
        .collect();
    assert_eq!(keys, [Some("n02"), None]);
    assert_eq!(set.warnings.len(), 1);
    assert!(set.warnings[0].starts_with("column \"count\" is not read"));
    let text = from_file("l.csv", b"cat,7\n").unwrap();
    assert_eq!((text.uses_templates, text.warnings.len()), (false, 0));
    assert!(set.uses_templates);
}

#[test]
fn built_in_labels_are_the_published_ones() {
    let set = |name: &str| labels_from_file(Path::new(name), None, &Templates::none()).unwrap();
    let cases = [
        ("imagenet", 1000, "tench", "toilet paper"),
        ("cifar10", 10, "airplane", "truck"),
        ("cifar100", 100, "apple", "worm"),
        ("food101", 101, "apple pie", "waffles"),
    ];
    for (name, count, first, last) in cases {
        let classes = set(name).classes;
        assert_eq!(classes.len(), count);
        assert_eq!(
            (&*classes[0].label, &*classes[count - 1].label),
            (first, last)
        );
    }
    for name in label_names() {
        assert_eq!(set(name).warnings, Vec::<String>::new(), "{name}");
        assert!(Templates::named_or_file(name).is_ok(), "{name}");
    }
    let imagenet = set("imagenet").classes;
    let second = &imagenet[744];
    assert_eq!(second.label, "missile (projectile)");
    assert_eq!(
        (&second.prompts, &imagenet[657].prompts),
        (&strings(&["missile"]), &strings(&["missile"]))
    );
    assert_eq!(second.key.as_deref(), Some("n04008634"));
    assert!(imagenet.iter().all(|class| class.key.is_some()));
    assert_eq!(
        set("fer2013").classes[5].prompts,
        ["surprised", "shocked", "spooked"]
    );
}

#[test]
fn unusable_labels_files_are_refused() {
    #[rustfmt::skip]
    let cases: &[(&str, &[u8], &str)] = &[
        ("l.txt", b"", "there are no labels"),
        ("l.txt", b"# none\n\n", "there are no labels"),
        ("l.txt", b"cat\n#\ncat\n", "label \"cat\" occurs twice (lines 1 and 3)"),
        ("l.txt", b"cat\nca\xff\n", "line 2 is not UTF-8"),
        ("l.txt", b"cat\nd\0g\n", "line 2 contains a NUL"),
        ("l.txt", b"cat {\n}\n", "line 1, \"cat {\", is not a label"),
        ("l.txt", b"{\"a\": 1\n", "neither"),
        ("l.txt", b"<a>\n<b>\n", "markup"),
        ("l.yaml", b"names: &x\n", "line 1 is YAML that is not supported"),
        ("l.jsonl", b"{\"label\": \"a\"}\n{\n", "line 2 is not JSON"),
        ("l.json", b"{}", "there are no labels"),
        (
            "l.json",
            b"{\"a\": \"x\", \"b\": [], \"a\": \"y\"}",
            "label \"a\" occurs twice (entries 1 and 3)",
        ),
        ("l.json", b"{\"a\": [\"\"]}", "class \"a\" has an empty prompt"),
        ("l.json", b"[\"a\", \"\"]", "label 2 is empty"),
        ("l.json", b"[\"a\\u0000\"]", "label 1 contains a NUL"),
        (
            "l.json",
            b"{\"a\": 1}",
            "entry 1, class \"a\": expected a prompt or a list of prompts, or an object of prompt, alias, text and key",
        ),
        ("l.json", b"[\"a\",", "EOF while parsing a value at line 1 column 5"),
        ("l.json", br#"{"a": {"promt": "x"}}"#, "an object of prompt, alias, text and key"),
        ("l.json", br#"{"a": {"alias": " "}}"#, "an empty alias"),
        ("l.json", br#"{"a": {"text": ""}}"#, "an empty text"),
        ("l.csv", b"label\n", "there are no labels"),
        ("l.csv", b"cat\ndog\ncat\n", "\"cat\" occurs twice (lines 1 and 3)"),
        ("l.csv", b"label,prompt\ncat,a\n,b\n", "line 3 has no label"),
        ("l.csv", b"label\na cat, asleep\n", "line 2 has 2 cells, but the header has 1"),
        ("l.csv", b"label,class\na,b\n", "more than one column of labels"),
        ("l.csv", b"a,b\n\"c\nd\ne\n", "begins on line 2 extends over several lines"),
        ("l.csv", b"key,label\n1,a\n1,b\n", "key \"1\" belongs to both \"a\" and \"b\""),
        (
            "l.csv",
            b"key,label,alias\n1,a,x\n2,a,y\n",
            "\"a\" has two values of key (lines 2 and 3)",
        ),
    ];
    for &(name, content, expected) in cases {
        let error = from_file(name, content).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let missing = |name| {
        let error = labels_from_file(Path::new(name), None, &Templates::none()).unwrap_err();
        error.to_string()
    };
    assert_eq!(missing("no such file.txt"), "cannot read no such file.txt");
    let start = "no labels \"imagnet\": it is neither a built-in set (imagenet, aircraft, ";
    assert!(missing("imagnet").starts_with(start));
}
