//! Which label a class matches, and what is refused.

use super::*;

/// A label and its key.
type Label = (&'static str, Option<&'static str>);
/// Classes and labels, the label of each class, and the note.
type Case<'a> = (&'a [&'a str], &'a [Label], &'a [usize], &'a str);

fn matched(
    classes: &[&str],
    labels: &[Label],
    order: LabelOrder<'_>,
) -> Result<(Vec<usize>, String), String> {
    let classes: Vec<String> = classes.iter().map(|&class| class.to_owned()).collect();
    let labels: Vec<_> = labels
        .iter()
        .map(|&(label, key)| Matching { label, key })
        .collect();
    let found = match_classes(&classes, &labels, order).map_err(|error| error.to_string())?;
    Ok((found.label_of_class, found.notes.join("\n")))
}

#[test]
fn classes_find_their_labels() {
    let none = None;
    #[rustfmt::skip]
    let cases: [Case<'_>; 12] = [
        (&["cat", "dog"], &[("dog", none), ("a cat", none), ("cat", none)], &[2, 0], ""),
        (&["Golden_Retriever"], &[("cat", none), ("golden retriever", none)], &[1], ""),
        (
            &["n02099601", "n02085620-Chihuahua"],
            &[
                ("Chihuahua dog", Some("n02085620")),
                ("golden retriever", Some("n02099601")),
            ],
            &[1, 0],
            "",
        ),
        (
            &["daisy", "dandelion"],
            &[
                ("picture of a dandelion flower", none),
                ("image of a daisy flower", none),
                ("a rose", none),
            ],
            &[1, 0],
            "classes matched by a word in a label: \"daisy\" by \"image of a daisy flower\", ",
        ),
        // "rat" is not in "a rattlesnake", and an exact match of one class is not available to
        // others.
        (
            &["rat", "snake", "dog"],
            &[
                ("a rattlesnake", none),
                ("snake", none),
                ("hot dog", none),
                ("a rat.", none),
            ],
            &[3, 1, 2],
            "classes matched by a word in a label: \"rat\" by \"a rat.\", \"dog\" by \"hot dog\"",
        ),
        // A name in macOS's normal form, and a label in it.
        (
            &["corazo\u{301}n", "pingüino"],
            &[("pingu\u{308}ino", none), ("coraz\u{f3}n", none)],
            &[1, 0],
            "",
        ),
        (
            &["001.Black_footed_Albatross", "2_Owl"],
            &[("owl", none), ("black-footed albatross", none)],
            &[1, 0],
            "",
        ),
        (
            &["ApplyEyeMakeup", "HandstandPushups", "SeaLake"],
            &[
                ("a sea lake", none),
                ("Hand Stand Pushups", none),
                ("apply eye makeup", none),
            ],
            &[2, 1, 0],
            "classes matched by a word",
        ),
        // The key of another spelling, and SUN397's names.
        (
            &["faces_easy", "field/wild", "Ram C-V"],
            &[
                ("centered face", Some("Faces_easy")),
                ("field wild", none),
                ("Ram C/V", none),
            ],
            &[0, 1, 2],
            "",
        ),
        // Numbers that are labels, also as floats.
        (&["7", "3"], &[("3", none), ("7", none), ("9", none)], &[1, 0], ""),
        (&["7.0", "3.0"], &[("3", none), ("7", none), ("9", none)], &[1, 0], ""),
        (&["20", "30"], &[("30 kph", none), ("20 kph", none)], &[1, 0], ""),
    ];
    for (classes, labels, expected, note) in cases {
        let (found, notes) = matched(classes, labels, LabelOrder::Counts).unwrap();
        assert_eq!(found, expected, "{classes:?}");
        assert!(notes.starts_with(note), "{notes}");
        assert_eq!(notes.is_empty(), note.is_empty(), "{notes}");
    }
}

#[test]
fn class_numbers_are_keys_or_label_indices() {
    let plain = |labels: &[&'static str]| -> Vec<Label> {
        labels.iter().map(|label| (*label, None)).collect()
    };
    let four = plain(&["penguin", "heart", "sun", "star"]);
    let signs: [Label; 3] = [
        ("stop", Some("00014")),
        ("yield", Some("00013")),
        ("road", Some("00012")),
    ];
    let flowers: [Label; 3] = [
        ("primrose", Some("1")),
        ("orchid", Some("2")),
        ("bell", Some("3")),
    ];
    #[rustfmt::skip]
    let cases: [Case<'_>; 7] = [
        (&["0", "1", "2", "3"], &four, &[0, 1, 2, 3], "\"0\" is \"penguin\""),
        (&["3.0", "0.0"], &four, &[3, 0], "\"3.0\" is \"star\""),
        (&["00", "02"], &four, &[0, 2], "in order, from 0"),
        (&["3", "1"], &four, &[3, 1], "no class is 0"),
        (&["12", "14"], &signs, &[2, 0], "the labels' keys: \"12\" is \"road\""),
        (&["2", "1"], &flowers, &[1, 0], ""),
        (&["2", "0"], &flowers, &[2, 0], "\"2\" is \"bell\""),
    ];
    for (classes, labels, expected, note) in cases {
        let (found, notes) = matched(classes, labels, LabelOrder::Counts).unwrap();
        assert_eq!(found, expected, "{classes:?}");
        assert!(notes.contains(note), "{notes}");
    }
    #[rustfmt::skip]
    let refused: [(&[&str], &[Label], LabelOrder<'_>, &str); 4] = [
        (
            &["1", "2", "3", "4"],
            &four,
            LabelOrder::Counts,
            "numbers from 1 to 4, but the 4 labels are numbered from 0 to 3",
        ),
        (
            &["0", "1"],
            &four,
            LabelOrder::Differs("pets"),
            "the labels pets may not be in the order",
        ),
        (&["11", "14"], &signs, LabelOrder::Counts, "not among the labels' keys"),
        (&["0", "cat"], &four, LabelOrder::Counts, "no label matches the class \"0\""),
    ];
    for (classes, labels, order, part) in refused {
        let error = matched(classes, labels, order).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn ambiguous_classes_are_an_error() {
    #[rustfmt::skip]
    let cases: [(&[&str], &[Label], &str); 7] = [
        (&["cat_food"], &[("a feline", Some("cat"))], "no label matches"),
        (&["cat", "cow", "emu"], &[("cat", None)], "the class \"cow\" (and 1 more)"),
        (&["dog"], &[("a dog", None), ("my dog", None)], "no label matches"),
        (&["a_cat", "a-cat"], &[("a cat", None)], "both match the label"),
        (&["cat;Dog"], &[("cat", None), ("dog", None)], "holds several labels (cat, Dog)"),
        (&["['cat', 'dog']"], &[("cat", None), ("dog", None)], "holds several labels (cat, dog)"),
        (&["??"], &[("!!", None), ("cat", None)], "no label matches"),
    ];
    for (classes, labels, part) in cases {
        let error = matched(classes, labels, LabelOrder::Counts).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    let semicolon = [("semi;colon", None), ("cat", None)];
    let (found, _) = matched(&["semi;colon"], &semicolon, LabelOrder::Counts).unwrap();
    assert_eq!(found, [0]);
}
