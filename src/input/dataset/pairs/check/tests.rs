use super::*;
use crate::input::image::{DecodeOptions, EXTENSIONS, looks_like_image};
use crate::input::shard::tar::tests::archive;

const RULE: ImageRule = ImageRule {
    extensions: EXTENSIONS,
    looks_like_image,
};

/// Enough of an image to pass the check of its first bytes.
const GIF: &[u8] = b"GIF89a and so on";
const LONG: &str = "A cat. It sleeps on\na mat.";

fn options() -> PairOptions {
    PairOptions {
        images: None,
        split: None,
        decode: DecodeOptions::default(),
        context_length: 12,
        long: LongCaption::Cut,
        short: ShortCaption::Used,
    }
}

fn read_in(files: &[(&str, Vec<u8>)], name: &str, options: &PairOptions) -> Result<Pairs> {
    let folder = tempfile::tempdir().unwrap();
    for (file, content) in files {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let place = |text: &str| text.replace(&format!("{}/", folder.path().display()), "");
    let seen = std::cell::Cell::new(0);
    let count = |pairs| seen.set(seen.get() + pairs);
    let mut pairs = read(&folder.path().join(name), options, RULE, &count)?;
    assert_eq!(seen.get(), pairs.pairs.len() + pairs.bad.len());
    for bad in &mut pairs.bad {
        *bad = Bad {
            place: place(&bad.place),
            cause: place(&bad.cause),
        };
    }
    Ok(pairs)
}

fn tokens_of(text: &str) -> Tokens {
    tokens(text, &options()).unwrap().0
}

#[test]
fn each_form_of_data_gives_the_same_captions() {
    let file = |name: &'static str, content: &str| (name, content.as_bytes().to_vec());
    let image = |name: &'static str| (name, GIF.to_vec());
    let json_text = serde_json::to_string(LONG).unwrap();
    let both = |form: &str| form.replace("LONG", &json_text);
    let cases = [
        (
            "d.jsonl",
            both(
                "{\"image\":\"a.gif\",\"caption\":LONG}\n\n{\"file\":\"b.gif\",\"long\":\"A dog.\",\"short\":\"dog\"}",
            ),
        ),
        (
            "d.csv",
            format!("path,text,short\na.gif,\"{LONG}\",\nb.gif,A dog.,dog\n"),
        ),
        (
            "d.json",
            both(
                "[{\"image\":\"a.gif\",\"conversations\":[{\"value\":\"?\"},{\"value\":LONG}]},\
                 {\"image\":\"b.gif\",\"caption\":\"A dog.\",\"short_caption\":\"dog\"}]",
            ),
        ),
    ];
    let mut all = Vec::new();
    for (name, content) in &cases {
        let files = [image("a.gif"), image("b.gif"), file(name, content)];
        all.push((*name, read_in(&files, name, &options()).unwrap()));
    }
    let texts = [
        image("d/a.gif"),
        file("d/a.txt", LONG),
        image("d/b.gif"),
        file("d/b.json", "{\"caption\":\"A dog.\"}"),
        file("d/b.short.txt", "dog"),
    ];
    all.push(("folder", read_in(&texts, "d", &options()).unwrap()));
    let shard = |files: &[(&str, &[u8])]| archive(files);
    let first = shard(&[
        ("x/a.txt", LONG.as_bytes()),
        ("x/a.gif", GIF),
        ("list", b"x"),
    ]);
    let second = shard(&[
        ("b.gif", GIF),
        ("b.json", b"{\"caption\":\"A dog.\"}"),
        ("b.short.txt", b"dog"),
        ("b.cls", b"3"),
    ]);
    let shards = [("s-0.tar", first), ("s-1.tar", second)];
    all.push((
        "braces",
        read_in(&shards, "s-{0..1}.tar", &options()).unwrap(),
    ));
    all.push(("shards", read_in(&shards, "", &options()).unwrap()));
    for (name, found) in all {
        assert!(found.bad.is_empty(), "{name} {:?}", found.bad);
        let captions: Vec<_> = (found.pairs.iter())
            .map(|pair| (pair.long.clone(), pair.short.clone().unwrap()))
            .collect();
        let expected = [
            (tokens_of(LONG), tokens_of("a cat")),
            (tokens_of("A dog."), tokens_of("dog")),
        ];
        assert_eq!(captions, expected, "{name}");
        let counts = Counts {
            cut: 0,
            derived: 1,
            whole: 0,
            different: 2,
            images: 2,
        };
        assert_eq!(found.counts, counts, "{name}");
    }
}

#[test]
fn errors_name_their_place() {
    let file = |name: &'static str, content: &str| (name, content.as_bytes().to_vec());
    let rows = "{\"image\":\"a.gif\",\"caption\":\" \"}\n{\"image\":\"no.gif\",\"caption\":\"x\"}\n\n\
                {\"image\":\"t.gif\",\"caption\":\"x\"}\n{\"caption\":\"x\"}\n{\"image\":\"a.gif\",\"caption\":\"\u{200b}<>\"}\n\
                {\"image\":\"a.gif\",\"caption\":\"good\"}\nno json\n";
    let files = [
        ("a.gif", GIF.to_vec()),
        file("t.gif", "a text\n"),
        file("d.jsonl", rows),
    ];
    let found = read_in(&files, "d.jsonl", &options()).unwrap();
    let expected = [
        ("d.jsonl:1", "the caption is empty"),
        (
            "d.jsonl:2",
            "the image no.gif: cannot be read: No such file",
        ),
        ("d.jsonl:4", "the image t.gif: not an image"),
        ("d.jsonl:5", "there is no image"),
        ("d.jsonl:8", "expected ident"),
    ];
    for (bad, (place, cause)) in found.bad.iter().zip(expected) {
        assert_eq!(bad.place, place);
        assert!(bad.cause.contains(cause), "{}", bad.cause);
    }
    assert_eq!((found.bad.len(), found.pairs.len()), (5, 2));
}

#[test]
fn captions_without_an_image_do_not_affect_the_others() {
    let coco = r#"{"images": [{"id": 1, "file_name": "a.gif"}], "annotations": [
        {"image_id": 7, "caption": "Lost."}, {"image_id": 1, "caption": "A cat."}]}"#;
    let files = [
        ("a.gif", GIF.to_vec()),
        ("d.json", coco.as_bytes().to_vec()),
    ];
    let found = read_in(&files, "d.json", &options()).unwrap();
    assert_eq!(found.pairs.len(), 1);
    let [bad] = found.bad.as_slice() else {
        panic!("{:?}", found.bad);
    };
    assert_eq!(bad.place, "d.json, annotation 1");
    assert!(bad.cause.contains("image 7"), "{}", bad.cause);
}

#[test]
fn a_broken_shard_gives_the_samples_before_the_damage() {
    let whole = archive(&[
        ("a.gif", GIF),
        ("a.txt", b"one"),
        ("b.txt", b"no image"),
        ("c.gif", GIF),
        ("d.gif", GIF),
        ("d.txt", b"two"),
    ]);
    let found = read_in(&[("s.tar", whole.clone())], "s.tar", &options()).unwrap();
    let places: Vec<_> = found.bad.iter().map(|bad| bad.place.as_str()).collect();
    assert_eq!(places, ["s.tar, sample b", "s.tar, sample c"]);
    assert_eq!(found.pairs.len(), 2);
    let cut = whole[..5 * 512 + 5].to_vec();
    let found = read_in(&[("s.tar", cut)], "s.tar", &options()).unwrap();
    assert_eq!(found.pairs.len(), 1);
    assert!(found.bad[0].cause.contains("cut short"), "{:?}", found.bad);
    let error = read_in(&[("s.tar.gz", whole)], "s.tar.gz", &options()).unwrap_err();
    assert!(format!("{error:#}").contains("decompress it"));
}

#[test]
fn long_captions_are_cut_and_counted_or_bad() {
    let long = "one two three four five six seven eight nine ten eleven. Twelve";
    let rows = format!("path,caption\na.gif,{long}\na.gif,short\n");
    let files = [("a.gif", GIF.to_vec()), ("d.csv", rows.into_bytes())];
    let found = read_in(&files, "d.csv", &options()).unwrap();
    assert_eq!((found.counts.cut, found.counts.whole), (1, 2));
    assert_eq!(found.counts.images, 1);
    let strict = PairOptions {
        long: LongCaption::Bad,
        ..options()
    };
    let found = read_in(&files, "d.csv", &strict).unwrap();
    assert_eq!(found.bad[0].place, "d.csv:2");
    assert!(found.bad[0].cause.contains("--long-text truncate"));
}

#[test]
fn the_digest_knows_data_but_not_where_it_lies() {
    let rows = |text: &str| {
        let rows = format!("path,caption\na.gif,{text}\n");
        [("a.gif", GIF.to_vec()), ("d.csv", rows.into_bytes())]
    };
    let digest = |text: &str| read_in(&rows(text), "d.csv", &options()).unwrap().sha256;
    assert_eq!(digest("a cat"), digest("A  cat"));
    assert_ne!(digest("a cat"), digest("a dog"));
}

#[test]
fn a_first_sentence_is_that_of_long_clip() {
    let cases = [
        ("One cat. Two dogs. ", "One cat"),
        ("One\ncat.\nTwo", "One cat"),
        ("No end.", "No end."),
        (". x", ". x"),
        ("e.g. a cat", "e.g"),
    ];
    for (text, expected) in cases {
        assert_eq!(first_sentence(text), expected);
    }
}

#[test]
fn every_caption_of_a_row_is_a_pair() {
    let files = |name: &'static str, content: &str| {
        [
            ("a.gif", GIF.to_vec()),
            ("b.gif", GIF.to_vec()),
            (name, content.as_bytes().to_vec()),
        ]
    };
    #[rustfmt::skip]
    let cases = [
        (
            "x.jsonl",
            "{\"image\":\"a.gif\",\"caption\":[\"A cat.\",\"My cat.\"]}\n{\"image\":\"b.gif\",\"caption\":\"A dog.\"}",
        ),
        (
            "x.json",
            "[{\"image\":\"a.gif\",\"captions\":[\"A cat.\",\"My cat.\"]},{\"image\":\"b.gif\",\"text\":\"A dog.\"}]",
        ),
        ("x.json", "{\"a.gif\":[\"A cat.\",\"My cat.\"],\"b.gif\":\"A dog.\"}"),
        ("x.token", "a.gif#0\tA cat.\na.gif#1\tMy cat.\nb.gif#0\tA dog.\n"),
        (
            "results.csv",
            "image_name| comment_number| comment\na.gif| 0| A cat.\na.gif| 1| My cat.\nb.gif| 0| A dog.\n",
        ),
        ("metadata.csv", "file_name;text\r\na.gif;A cat.\r\na.gif;My cat.\r\nb.gif;A dog.\r\n"),
    ];
    for (name, content) in cases {
        // The hub's file is found in its folder.
        let path = if name == "metadata.csv" { "" } else { name };
        let found = read_in(&files(name, content), path, &options()).unwrap();
        assert!(found.bad.is_empty(), "{name} {:?}", found.bad);
        let long: Vec<&Tokens> = found.pairs.iter().map(|pair| &pair.long).collect();
        let expected = ["A cat.", "My cat.", "A dog."].map(tokens_of);
        assert_eq!(long, expected.iter().collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn dots_in_member_names_and_class_members_are_reported() {
    let dotted: &[(&str, &[u8])] = &[
        ("img.v1.000.gif", GIF),
        ("img.v1.000.txt", b"A cat."),
        ("img.v1.001.gif", GIF),
        ("img.v1.001.txt", b"A dog."),
    ];
    let classes: &[(&str, &[u8])] = &[("s0.gif", GIF), ("s0.cls", b"3")];
    // Other members of a sample are ignored.
    let more: &[(&str, &[u8])] = &[("s0.gif", GIF), ("s0.txt", b"A cat."), ("s0.seg.png", b"x")];
    let cases = [
        (
            dotted,
            0,
            "a member's key ends at the first dot of its name (WebDataset), so the key of \
             \"img.v1.000.gif\" is \"img\"",
        ),
        (classes, 0, "it has a class (a member .cls) but no caption"),
        (more, 1, ""),
    ];
    for (members, pairs, cause) in cases {
        let found = read_in(&[("x.tar", archive(members))], "x.tar", &options()).unwrap();
        assert_eq!(found.pairs.len(), pairs);
        let said = found.bad.first().map_or("", |bad| bad.cause.as_str());
        assert!(said.contains(cause), "{said}");
        assert_eq!(found.bad.is_empty(), cause.is_empty());
    }
}
