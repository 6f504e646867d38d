//! Names of table columns and JSON fields in the tools that write them, each list once, and the
//! numbers in them that are classes. Names are as [`key`] writes them.

use serde_json::{Map, Value};

/// Accepted names of a column with the paths of images.
#[rustfmt::skip]
pub(crate) const PATH: &[&str] = &[
    "path", "image", "file", "filename", "filepath", "imagepath", "imagename", "imagefile",
    "imagefilename", "img", "imgpath", "imgname", "filepaths", "imageid",
];
/// The column with the images of a folder's metadata file.
pub(crate) const FILE_NAME: &[&str] = &["filename"];
/// Accepted names of a column with labels. A table of captions calls its captions `text` or `title`
/// as well: the purpose of a table decides which of these count.
#[rustfmt::skip]
pub(crate) const LABEL: &[&str] = &[
    "label", "labels", "labelname", "displayname", "class", "classes", "classname", "classnames",
    "category", "categories", "categoryname", "name", "species", "title", "text",
];
/// Those of them that a list of labels may have as its first line without being a label.
#[rustfmt::skip]
pub(crate) const LABEL_HEADER: &[&str] = &[
    "label", "labels", "labelname", "classname", "classnames", "categoryname",
];
/// Accepted names of a column with the class of an image; the first match counts.
#[rustfmt::skip]
pub(crate) const CLASS: &[&str] = &[
    "label", "labels", "class", "target", "category", "classname", "labelname", "categoryname",
    "species", "classes", "classid", "labelid", "categoryid", "name", "labeltext", "choice",
];
/// Those of them that hold names: preferred if the others hold class numbers.
#[rustfmt::skip]
pub(crate) const CLASS_NAME: &[&str] = &[
    "classname", "labelname", "categoryname", "species", "labeltext",
];
/// Accepted names of a column with a dataset's names of the classes.
pub(crate) const KEY: &[&str] = &[
    "key", "folder", "id", "classid", "labelid", "index", "idx", "wnid", "synset", "synsetid",
];
/// Accepted names of a column with the split.
pub(crate) const PART: &[&str] = &["split", "subset", "partition"];
/// Accepted names of a column with captions.
#[rustfmt::skip]
pub(crate) const CAPTION: &[&str] = &[
    "captions", "caption", "text", "title", "sentence", "sentences", "description", "comment",
    "prompt",
];
/// Accepted names of a column with long captions, of data that may have short ones as well.
#[rustfmt::skip]
pub(crate) const LONG_CAPTION: &[&str] = &[
    "captions", "caption", "long", "longcaption", "captionlong", "text", "title", "description",
    "sentence", "sentences", "comment", "prompt",
];
/// Accepted names of a column with short captions.
pub(crate) const SHORT_CAPTION: &[&str] = &["short", "shortcaption", "captionshort", "summary"];
/// Accepted names of a field or column with templates.
#[rustfmt::skip]
pub(crate) const TEMPLATE: &[&str] = &[
    "template", "templates", "prompt", "prompts", "text", "prompttemplates",
];
/// Further names by which the first row of a table is recognised as a header.
#[rustfmt::skip]
const OTHERS: &[&str] = &[
    "alias", "aliases", "caption", "captions", "comment", "description", "longcaption", "prompt",
    "prompts", "shortcaption", "target",
];
/// Columns of a Parquet file that name a row's image, to the letter.
#[rustfmt::skip]
pub(crate) const PARQUET_IMAGE: &[&str] = &[
    "path", "image", "image_path", "file", "file_name", "filename", "filepath", "url",
];
/// Columns of a Parquet file that hold a row's text, to the letter.
pub(crate) const PARQUET_TEXT: &[&str] = &["text", "caption", "sentence"];

/// A column's name for comparison: lower case, without spaces, underscores and hyphens.
#[must_use]
pub(crate) fn key(name: &str) -> String {
    let kept = name
        .chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, '_' | '-' | '\u{feff}'));
    kept.flat_map(char::to_lowercase).collect()
}

/// The same fields by [`key`] of their names; of two equal names the first counts.
#[must_use]
pub(crate) fn keyed(fields: Map<String, Value>) -> Map<String, Value> {
    let mut found = Map::new();
    for (name, value) in fields {
        found.entry(key(&name)).or_insert(value);
    }
    found
}

/// Whether a cell is a column name that tools use.
#[must_use]
pub(crate) fn is_known(cell: &str) -> bool {
    let name = key(cell);
    let mut known = [PATH, LABEL, KEY, PART, OTHERS].into_iter().flatten();
    known.any(|known| *known == name)
}

/// The number that a class name is, ignoring leading zeros; `3.0` is pandas' form of 3.
#[must_use]
pub(crate) fn class_number(name: &str) -> Option<u64> {
    let name = name.trim();
    let whole = match name.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => whole,
        Some(_) => return None,
        None => name,
    };
    let is_number = !whole.is_empty() && whole.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| whole.parse().ok()).flatten()
}

/// The first few names, for messages.
pub(crate) fn first_few(names: &[impl AsRef<str>], most: usize) -> String {
    let shown: Vec<&str> = names.iter().take(most).map(AsRef::as_ref).collect();
    shown.join(", ") + if names.len() > most { ", …" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_across_the_spellings_of_tools() {
        for name in [
            "class_name",
            "Class Name",
            " CLASS-NAME ",
            "className",
            "\u{feff}classname",
        ] {
            assert_eq!(key(name), "classname");
            assert!(is_known(name));
        }
        assert!(!is_known("penguin") && !is_known(""));
        let lists = [PATH, LABEL, CLASS, KEY, PART, CAPTION, LONG_CAPTION, OTHERS];
        let more = [FILE_NAME, SHORT_CAPTION, TEMPLATE];
        for name in lists.into_iter().chain(more).flatten() {
            assert_eq!(key(name), **name);
        }
        assert!(LABEL_HEADER.iter().all(|name| LABEL.contains(name)));
        assert!(CLASS_NAME.iter().all(|name| CLASS.contains(name)));
    }

    #[test]
    fn numbers_are_read_as_tools_write_them() {
        let cases = [
            ("0", Some(0)),
            ("00014", Some(14)),
            ("3.0", Some(3)),
            (" 7 ", Some(7)),
            ("3.5", None),
            ("1.5", None),
            ("3.", None),
            (".0", None),
            ("-1", None),
            ("1e3", None),
            ("", None),
            ("99999999999999999999", None),
        ];
        for (name, expected) in cases {
            assert_eq!(class_number(name), expected, "{name:?}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let names = ["a", "b", "c"];
        for (most, expected) in [(0, ", …"), (2, "a, b, …"), (3, "a, b, c"), (9, "a, b, c")] {
            assert_eq!(first_few(&names, most), expected);
        }
        assert_eq!(first_few(&[] as &[&str], 1), "");
    }
}
