//! Conversion of class names as tools write them to words.

use std::collections::{HashMap, HashSet};

use unicode_normalization::UnicodeNormalization as _;

/// Prefixes after which a capital letter does not begin a new word (`McLaren`).
const PARTICLES: [&str; 8] = ["Mc", "Mac", "De", "Di", "Du", "La", "Le", "Fitz"];

/// A name in Unicode normal form NFC: macOS writes `é` as two characters, other systems as one.
#[must_use]
pub(crate) fn composed(name: &str) -> String {
    name.nfc().collect()
}

/// A class name as text: `golden_retriever` and `golden-retriever` become "golden retriever".
#[must_use]
pub fn clean(name: &str) -> String {
    let spaced = name.replace(['_', '-'], " ");
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A name for comparison: ignores case, separators (`/` in SUN397's `field/wild`) and Unicode
/// compatibility characters.
pub(super) fn plain(name: &str) -> String {
    let name: String = name.nfkc().collect();
    clean(&name.replace('/', " ")).to_lowercase()
}

/// A name's letters and digits alone: `ApplyEyeMakeup` and `Ram C-V` equal "Apply Eye Makeup" and
/// "Ram C/V".
pub(super) fn squashed(name: &str) -> String {
    let letters = plain(name);
    letters.chars().filter(|c| c.is_alphanumeric()).collect()
}

/// A number at the start of a name and the rest: `001.Penguin`, `12_owl`, `3 - cat`.
pub(super) fn numbered(name: &str) -> Option<(&str, &str)> {
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = name.split_at_checked(digits)?;
    let text = rest.trim_start_matches(['.', '_', '-', ' ', ')']);
    let is_numbered = (1..=6).contains(&digits)
        && text.len() < rest.len()
        && text.starts_with(char::is_alphabetic);
    is_numbered.then_some((number, text))
}

/// Splits joined words: `AnnualCrop` becomes `Annual Crop`, `BMWSeries` `BMW Series`. Names such as
/// `iPhone`, `McLaren`, `DVDs` and `macOS` stay.
pub(super) fn apart(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut found = String::with_capacity(name.len() + 4);
    let mut word = 0;
    for (at, &letter) in letters.iter().enumerate() {
        if at > word && begins_word(&letters, word, at) {
            found.push(' ');
            word = at;
        } else if !letter.is_alphabetic() {
            word = at + 1;
        }
        found.push(letter);
    }
    found
}

/// Whether a new word begins at `at`, after the word that begins at `word`.
fn begins_word(letters: &[char], word: usize, at: usize) -> bool {
    let lower = |place: usize| letters.get(place).is_some_and(|c| c.is_lowercase());
    let upper = |place: usize| letters.get(place).is_some_and(|c| c.is_uppercase());
    let before = &letters[word..at];
    if !upper(at) || before.len() < 2 {
        return false;
    }
    if upper(at - 1) {
        // The last capital of a run belongs to the word that it begins: `BMWSeries`, but `DVDs`.
        return lower(at + 1) && lower(at + 2);
    }
    let text: String = before.iter().collect();
    let begins_small = lower(word);
    lower(at - 1)
        && !PARTICLES.contains(&text.as_str())
        // `macOS`, `openAI`.
        && (!begins_small || lower(at + 1))
}

/// The texts of class names, for datasets without given labels.
#[derive(Debug, PartialEq, Eq)]
pub struct Texts {
    /// The text of each class.
    pub texts: Vec<String>,
    /// Names that changed by more than `_` and `-` to spaces: a name and its text.
    pub changed: Option<(String, String)>,
}

/// Texts of folder names, without numbers that all of them begin with (`001.Penguin`).
#[must_use]
pub(crate) fn folder_texts(names: &[String]) -> Texts {
    let are_numbered = are_numbered(names);
    let text = |name: &String| {
        let words = match numbered(name) {
            Some((_, rest)) if are_numbered => rest,
            _ => name,
        };
        clean(&apart(words))
    };
    let texts: Vec<String> = names.iter().map(text).collect();
    let changed = names
        .iter()
        .zip(&texts)
        .find(|(name, text)| clean(name) != **text);
    Texts {
        changed: changed.map(|(name, text)| (name.clone(), text.clone())),
        texts,
    }
}

/// Whether the numbers at the start of the names are indices: all names have one, no two are equal,
/// and they have the same width or are consecutive. `7_up` and `8_mile` alone count as indices too;
/// they cannot be distinguished.
fn are_numbered(names: &[String]) -> bool {
    let numbers: Option<Vec<&str>> = names
        .iter()
        .map(|name| numbered(name).map(|(number, _)| number))
        .collect();
    let Some(numbers) = numbers.filter(|numbers| numbers.len() > 1) else {
        return false;
    };
    let mut values: Vec<u64> = numbers.iter().filter_map(|n| n.parse().ok()).collect();
    values.sort_unstable();
    let is_padded = numbers.iter().any(|number| number.starts_with('0'))
        && numbers
            .iter()
            .all(|number| number.len() == numbers[0].len());
    let all_differ = values.windows(2).all(|pair| pair[0] < pair[1]);
    let follow = values.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    all_differ && (is_padded || follow)
}

/// A class that seems to be several labels in one cell, such as `penguin;sun`, and these labels:
/// one part is a class too, or a part of another combined class.
pub(super) fn several_labels(classes: &[String]) -> Option<(&str, Vec<String>)> {
    let all: HashSet<&str> = classes.iter().map(String::as_str).collect();
    let mut lists_with: HashMap<String, usize> = HashMap::new();
    for parts in classes.iter().filter_map(|class| listed(class)) {
        for part in HashSet::<String>::from_iter(parts) {
            *lists_with.entry(part).or_default() += 1;
        }
    }
    // One of the lists is the cell's own.
    let known = |part: &String| {
        all.contains(part.as_str()) || lists_with.get(part).is_some_and(|count| *count > 1)
    };
    classes
        .iter()
        .find_map(|class| {
            let parts = listed(class)?;
            let is_list = class.starts_with('[');
            let found = is_list || parts.iter().any(known);
            found.then_some((class.as_str(), parts))
        })
        .or_else(|| {
            // Names contain commas too ("crane, bird"): all parts must be classes.
            classes.iter().find_map(|class| {
                let parts = split(class, ',')?;
                let are_classes = parts.iter().all(|part| all.contains(part.as_str()));
                are_classes.then_some((class.as_str(), parts))
            })
        })
}

/// The labels of a cell that is written as a list: `a;b`, `a|b`, `['a', 'b']`.
pub(super) fn listed(cell: &str) -> Option<Vec<String>> {
    if let Some(inside) = cell
        .strip_prefix('[')
        .and_then(|cell| cell.strip_suffix(']'))
    {
        let parts = split(inside, ',')?;
        let bare = |part: &String| part.trim_matches(['\'', '"']).to_owned();
        return Some(parts.iter().map(bare).collect());
    }
    split(cell, ';').or_else(|| split(cell, '|'))
}

/// The parts of a cell, if there are several and none is empty.
pub(super) fn split(cell: &str, separator: char) -> Option<Vec<String>> {
    let parts: Vec<String> = cell
        .split(separator)
        .map(|part| part.trim().to_owned())
        .collect();
    (parts.len() > 1 && parts.iter().all(|part| !part.is_empty())).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn names_are_cleaned() {
        assert_eq!(clean("golden_retriever"), "golden retriever");
        assert_eq!(clean(" a--b_ c"), "a b c");
        assert_eq!(composed("corazo\u{301}n"), "corazón");
        assert_eq!(plain("Field/Wild_\u{fb01}g"), "field wild fig");
        assert_eq!(squashed("Ram C/V Van"), squashed("ram_c-v_van"));
    }

    #[test]
    fn joined_words_are_split() {
        let cases = [
            ("AnnualCrop", "Annual Crop"),
            ("ApplyEyeMakeup", "Apply Eye Makeup"),
            ("seaLake", "sea Lake"),
            ("BMWSeries", "BMW Series"),
            ("Great_WhiteShark", "Great_White Shark"),
            ("VitaminC", "Vitamin C"),
        ];
        for (name, expected) in cases {
            assert_eq!(apart(name), expected);
        }
        let whole = [
            "BMW",
            "iPhone",
            "iPhone14Pro",
            "McLaren",
            "MacBook",
            "DVDs",
            "TVs",
            "macOS",
            "openAI",
            "eBay",
            "F-16A/B",
            "DeLorean",
            "Boeing737",
            "cat",
            "NORMAL",
            "É",
            "",
        ];
        for name in whole {
            assert_eq!(apart(name), name);
        }
    }

    #[test]
    fn numbers_before_names_are_split_off() {
        let cases = [
            ("001.Penguin", Some(("001", "Penguin"))),
            ("12_owl", Some(("12", "owl"))),
            ("3 - cat", Some(("3", "cat"))),
            ("3d printer", None),
            ("747-400", None),
            ("2012", None),
            ("n02085620-Chihuahua", None),
        ];
        for (name, expected) in cases {
            assert_eq!(numbered(name), expected, "{name:?}");
        }
    }

    #[test]
    fn folders_become_texts() {
        let cases: [(&[&str], &[&str]); 6] = [
            (
                &["001.Black_footed_Owl", "200.Heart"],
                &["Black footed Owl", "Heart"],
            ),
            (&["1_cat", "2_dog"], &["cat", "dog"]),
            // These numbers are not indices.
            (&["7_up", "50_cent"], &["7 up", "50 cent"]),
            (&["1_cat", "dog"], &["1 cat", "dog"]),
            (&["AnnualCrop", "BMW"], &["Annual Crop", "BMW"]),
            (&["red_fox"], &["red fox"]),
        ];
        for (names, expected) in cases {
            assert_eq!(folder_texts(&strings(names)).texts, expected);
        }
        let changed = |names: &[&str]| folder_texts(&strings(names)).changed;
        assert_eq!(changed(&["red_fox", "cat"]), None);
        let crop = ("AnnualCrop".to_owned(), "Annual Crop".to_owned());
        assert_eq!(changed(&["River", "AnnualCrop"]), Some(crop));
    }

    #[test]
    fn several_labels_in_a_cell_are_found() {
        let cases: [(&[&str], Option<&str>); 9] = [
            (&["penguin", "penguin;sun", "sun"], Some("penguin;sun")),
            (&["a|b", "b | c"], Some("a|b")),
            (&["cat", "['cat', 'dog']"], Some("['cat', 'dog']")),
            (&["cat", "dog", "cat, dog"], Some("cat, dog")),
            (&["crane, bird", "crane, machine", "crane"], None),
            (&["semi;colon", "other"], None),
            (&["a;", ";", "a"], None),
            (&["cat", "dog"], None),
            (&[], None),
        ];
        for (classes, expected) in cases {
            let classes = strings(classes);
            let found = several_labels(&classes).map(|(class, _)| class);
            assert_eq!(found, expected, "{classes:?}");
        }
    }
}
