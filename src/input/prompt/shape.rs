//! Detects what surrounds the labels or templates of a file with one per line: numbers, ids,
//! bullets, quotes. It shows only in all lines together, never in one.

#![deny(clippy::indexing_slicing)]

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;

use crate::input::text_file::column::class_number;

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListLine {
    /// Line number, from 1.
    pub(super) line: usize,
    /// The number or id that preceded the text.
    pub(super) key: Option<String>,
    pub(super) text: String,
}

/// A number or another id: WordNet's, Freebase's and AudioSet's, Wikidata's.
const ID: &str = r"(\d{1,9}|n\d{8}|/[mgt]/[0-9a-z_]+|Q\d{2,})";

fn expression(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant expression that the tests compile")
}

/// An id followed by a delimiter: `0: cat`, `1. cat`, `(1) cat`, `0 -> cat`, `"0": cat`.
static SET_OFF: LazyLock<Regex> = LazyLock::new(|| {
    let sign = r"(?:\s+(?:->|=>|-|–|—)(\s+)|\s*[:.)\],;|=](\s*))";
    expression(&format!(r#"^[(\["']?{ID}["']?{sign}(\S.*)$"#))
});
/// An id and a space.
static BLANK: LazyLock<Regex> = LazyLock::new(|| expression(&format!(r"^{ID}\s+(\S.*)$")));
static ID_ALONE: LazyLock<Regex> = LazyLock::new(|| expression(&format!("^{ID}$")));
/// A class number at the end, as in lists of scenes: `/a/airfield 0`.
static AT_THE_END: LazyLock<Regex> =
    LazyLock::new(|| expression(r"^(\S.*?)(?:\s*[,;:|=]\s*|\s+)(\d{1,9})$"));
/// Opening and closing quotation marks of several languages.
const QUOTES: [[char; 2]; 6] = [
    ['"', '"'],
    ['\'', '\''],
    ['`', '`'],
    ['“', '”'],
    ['„', '“'],
    ['«', '»'],
];
static BULLET: LazyLock<Regex> = LazyLock::new(|| expression(r"^[-*+•]\s+(\S.*)$"));

/// Removes what surrounds the texts of all lines, and returns notes on it.
///
/// - Bullets, and quotes or commas at the ends.
/// - Ids and numbers before each text, all different, followed by a delimiter; the texts hold
///   letters and do not continue with a digit (`10:30` and `1.5 l` have no number before them).
/// - Ids and a space. Numbers and a space only if they count up from 0 or 1 and the texts after
///   them differ in more than a plural: `7 up` and `3d printer` keep theirs, and so do `1 cat`, `2
///   cats`.
/// - Numbers at the end that count from 0 or 1 in steps of one, after texts that differ.
///
/// What remains in every text but may not belong to it is reported.
pub(super) fn strip_decoration(items: &mut [ListLine]) -> Vec<String> {
    let mut notes = Vec::new();
    // Quotes may be within bullets, and numbers within quotes, but the nesting is limited.
    for _ in 0..4 {
        let note = unquote(items)
            .or_else(|| without_bullets(items))
            .or_else(|| without_ids(items))
            .or_else(|| without_last_numbers(items));
        match note {
            Some(note) => notes.push(note.to_owned()),
            None => break,
        }
    }
    if notes.is_empty() && items.len() > 1 {
        notes.extend(unremoved_warning(items));
    }
    notes
}

/// Warns of what may not belong to the texts, but was kept.
fn unremoved_warning(items: &[ListLine]) -> Option<String> {
    let all = |is: &dyn Fn(&str) -> bool| items.iter().all(|item| is(&item.text));
    let begins_with_number = |text: &str| {
        let digits = text.split_whitespace().next().unwrap_or_default();
        let digits = digits.trim_end_matches([':', '.', ')', ',']);
        // Names of car models and the like begin with their year.
        class_number(digits).is_some_and(|number| !(1900..2100).contains(&number))
            && digits.len() < text.len()
    };
    // Digits may be labels; ids may not.
    if all(&|text| is_id(text) && class_number(text).is_none()) {
        return Some(
            "every line is an id, which means nothing to the model; write the names of the \
             classes (--labels-file imagenet has those of WordNet ids)"
                .to_owned(),
        );
    }
    if items.len() > 2 && all(&begins_with_number) {
        return Some(
            "every line begins with a number, which is read as part of the text; if it is not, \
             write a .csv file with the columns key and label"
                .to_owned(),
        );
    }
    if all(&|text| text.contains(": ")) {
        return Some(
            "every line has a colon and is read as one text; a .yaml file may have lines label: \
             prompt"
                .to_owned(),
        );
    }
    let is_cell_end = |sign: char| {
        all(&|text| match text.split_once(sign) {
            Some((_, after)) => sign != ',' || !after.starts_with(' '),
            None => false,
        })
    };
    let sign = [';', '|', ',']
        .into_iter()
        .find(|sign| is_cell_end(*sign))?;
    Some(format!(
        "every line has a {sign:?} and is read as one text; pass --delimiter {sign:?} if it \
         separates cells"
    ))
}

/// Whether a text is a number or another id, and nothing else.
pub(super) fn is_id(text: &str) -> bool {
    ID_ALONE.is_match(text)
}

/// Whether these are ids of one kind, all different.
pub(super) fn are_ids<'a>(cells: impl Iterator<Item = &'a str> + Clone) -> bool {
    let first = cells.clone().next().and_then(|cell| cell.chars().next());
    let is_alike = |cell: &str| {
        let is_digit = cell.starts_with(|c: char| c.is_ascii_digit());
        let same_kind = match first {
            Some(c) if c.is_ascii_digit() => is_digit,
            c => cell.chars().next() == c,
        };
        same_kind && is_id(cell)
    };
    let mut seen = HashSet::new();
    let count = cells.clone().count();
    count > 1 && cells.clone().all(is_alike) && cells.clone().all(|cell| seen.insert(cell))
}

/// Replaces all lines by the results of `change`, unless it is `None` for one.
fn change(items: &mut [ListLine], change: impl Fn(&ListLine) -> Option<ListLine>) -> bool {
    let changed: Option<Vec<ListLine>> = items.iter().map(change).collect();
    let Some(changed) = changed.filter(|changed| changed.len() > 1) else {
        return false;
    };
    items.clone_from_slice(&changed);
    true
}

fn with_text(item: &ListLine, text: &str) -> ListLine {
    ListLine {
        text: text.to_owned(),
        ..item.clone()
    }
}

fn unquote(items: &mut [ListLine]) -> Option<&'static str> {
    let bare = |text: &str| -> Option<String> {
        let text = text.trim_end_matches([',', ';']).trim_end();
        let inner = QUOTES.iter().find_map(|quotes| {
            let inner = text.strip_prefix(quotes[0])?.strip_suffix(quotes[1])?;
            (!inner.contains(*quotes)).then(|| inner.to_owned())
        });
        inner.filter(|inner| !inner.trim().is_empty())
    };
    if change(items, |item| Some(with_text(item, &bare(&item.text)?))) {
        return Some("the quotes around every line were removed");
    }
    // The last line of a list needs no comma.
    let last = items.last().map(|item| item.line);
    let cut = |item: &ListLine| {
        let text = match item.text.strip_suffix(',') {
            Some(text) => text,
            None if Some(item.line) == last => &item.text,
            None => return None,
        };
        let text = text.trim_end();
        (!text.is_empty()).then(|| with_text(item, text))
    };
    let has_comma = items.first().is_some_and(|item| item.text.ends_with(','));
    (has_comma && change(items, cut)).then_some("the comma after every line was removed")
}

fn without_bullets(items: &mut [ListLine]) -> Option<&'static str> {
    let bare = |item: &ListLine| {
        let found = BULLET.captures(&item.text)?;
        Some(with_text(item, found.get(1)?.as_str()))
    };
    change(items, bare).then_some("the bullet before every line was removed")
}

/// An id, its delimiter, and the text after it.
struct Prefixed<'a> {
    id: &'a str,
    text: &'a str,
    /// Whether only a space is between them.
    by_blank: bool,
    /// Whether the text follows a delimiter directly.
    at_once: bool,
}

fn split(text: &str) -> Option<Prefixed<'_>> {
    if let Some(found) = SET_OFF.captures(text) {
        let blanks = found.get(2).or(found.get(3));
        return Some(Prefixed {
            id: found.get(1)?.as_str(),
            text: found.get(4)?.as_str(),
            by_blank: false,
            at_once: blanks.is_some_and(|blanks| blanks.is_empty()),
        });
    }
    let found = BLANK.captures(text)?;
    Some(Prefixed {
        id: found.get(1)?.as_str(),
        text: found.get(2)?.as_str(),
        by_blank: true,
        at_once: false,
    })
}

fn without_ids(items: &mut [ListLine]) -> Option<&'static str> {
    let splits: Vec<Prefixed<'_>> = items
        .iter()
        .map(|item| split(&item.text))
        .collect::<Option<_>>()?;
    if !are_ids(splits.iter().map(|split| split.id)) {
        return None;
    }
    let has_letter = |split: &Prefixed<'_>| split.text.chars().any(char::is_alphabetic);
    let numbers: Vec<Option<u64>> = splits.iter().map(|split| class_number(split.id)).collect();
    let are_numbers = numbers.iter().all(Option::is_some);
    if are_numbers {
        let goes_on = |split: &&Prefixed<'_>| {
            split.at_once && split.text.starts_with(|c: char| c.is_ascii_digit())
        };
        let broken = splits.iter().filter(goes_on).count();
        let rise = matches!(numbers.first(), Some(Some(0 | 1))) && numbers.is_sorted();
        let by_blank = splits.iter().any(|split| split.by_blank);
        let differ = all_differ(splits.iter().map(|split| split.text));
        if !splits.iter().all(has_letter)
            || broken * 2 > splits.len()
            || (by_blank && !(rise && differ))
        {
            return None;
        }
    }
    let bare = |item: &ListLine| {
        let found = split(&item.text)?;
        Some(ListLine {
            line: item.line,
            key: item.key.clone().or_else(|| Some(found.id.to_owned())),
            text: found.text.to_owned(),
        })
    };
    change(items, bare).then_some(if are_numbers {
        "the number before every line is used as its key, not as part of the text"
    } else {
        "the id before every line is used as its key, not as part of the text"
    })
}

fn without_last_numbers(items: &mut [ListLine]) -> Option<&'static str> {
    let splits: Option<Vec<(&str, &str)>> = items
        .iter()
        .map(|item| {
            let found = AT_THE_END.captures(&item.text)?;
            Some((found.get(1)?.as_str(), found.get(2)?.as_str()))
        })
        .collect();
    let splits = splits.filter(|splits| splits.len() > 2)?;
    let numbers: Vec<u64> = splits
        .iter()
        .filter_map(|(_, number)| class_number(number))
        .collect();
    let first = numbers.first().copied().filter(|first| *first < 2)?;
    let counts = (first..)
        .zip(&numbers)
        .all(|(wanted, number)| wanted == *number);
    let has_letter = |text: &str| text.chars().any(char::is_alphabetic);
    if !counts
        || !splits.iter().all(|(text, _)| has_letter(text))
        || !all_differ(splits.iter().map(|(text, _)| *text))
    {
        return None;
    }
    let bare = |item: &ListLine| {
        let found = AT_THE_END.captures(&item.text)?;
        let number = found.get(2)?.as_str().to_owned();
        Some(ListLine {
            line: item.line,
            key: item.key.clone().or(Some(number)),
            text: found.get(1)?.as_str().to_owned(),
        })
    };
    change(items, bare)
        .then_some("the number after every line is used as its key, not as part of the text")
}

/// Whether texts differ in more than a plural.
fn all_differ<'a>(texts: impl Iterator<Item = &'a str>) -> bool {
    let mut seen = HashSet::new();
    let singular = |text: &str| {
        let text = text.trim().to_lowercase();
        text.strip_suffix('s').map_or(text.clone(), str::to_owned)
    };
    texts.map(singular).all(|text| seen.insert(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines as `key=text` or `text`, and the number of notes.
    fn stripped(text: &str) -> (Vec<String>, usize) {
        let mut items: Vec<ListLine> = (1..)
            .zip(text.lines())
            .map(|(line, text)| ListLine {
                line,
                key: None,
                text: text.to_owned(),
            })
            .collect();
        let notes = strip_decoration(&mut items).len();
        let shown = items.into_iter().map(|item| match item.key {
            Some(key) => format!("{key}={}", item.text),
            None => item.text,
        });
        (shown.collect(), notes)
    }

    #[test]
    fn decoration_of_every_line_is_removed() {
        #[rustfmt::skip]
        let cases: [(&str, &[&str]); 21] = [
            ("0:cat\n1:dog", &["0=cat", "1=dog"]),
            ("0: cat\n1: 3d printer\n2: 7 up", &["0=cat", "1=3d printer", "2=7 up"]),
            ("0 cat\n1 dog", &["0=cat", "1=dog"]),
            ("1 cat\n2 dog\n4 cow", &["1=cat", "2=dog", "4=cow"]),
            ("1. cat\n2. dog", &["1=cat", "2=dog"]),
            ("1) cat\n2) dog", &["1=cat", "2=dog"]),
            ("(1) cat\n(2) dog", &["1=cat", "2=dog"]),
            ("0 - cat\n1 - dog", &["0=cat", "1=dog"]),
            ("0 => cat\n1 => dog", &["0=cat", "1=dog"]),
            ("0,cat\n1,dog", &["0=cat", "1=dog"]),
            ("\"0\": \"cat\",\n\"1\": \"dog\"", &["0=cat", "1=dog"]),
            ("001.Black_footed\n002.Laysan", &["001=Black_footed", "002=Laysan"]),
            ("1 001.Black\n2 002.Laysan", &["1=Black", "2=Laysan"]),
            (
                "n02056570 king penguin, x\nn01622779 owl",
                &["n02056570=king penguin, x", "n01622779=owl"],
            ),
            ("n02056570: 3d\nn01622779: owl", &["n02056570=3d", "n01622779=owl"]),
            (
                "/m/011k07,Tortoise\n/m/011q46kg,Container",
                &["/m/011k07=Tortoise", "/m/011q46kg=Container"],
            ),
            ("/a/airfield 0\n/a/alley 1\n/b/bar 2", &["0=/a/airfield", "1=/a/alley", "2=/b/bar"]),
            ("- cat\n- dog", &["cat", "dog"]),
            ("'a cat',\n'a dog'", &["a cat", "a dog"]),
            ("“cat”\n“dog”", &["cat", "dog"]),
            ("cat,\ndog,\ncow", &["cat", "dog", "cow"]),
        ];
        for (text, expected) in cases {
            let (found, notes) = stripped(text);
            assert_eq!(found, expected, "{text}");
            assert!(notes > 0, "{text}");
        }
    }

    #[test]
    fn labels_keep_what_belongs_to_them() {
        let cases = [
            ("7 up", 0),
            ("0:cat", 0),
            ("7 up\n3d printer\ncola", 0),
            ("1 cat\n2 cats", 0),
            ("1 cat\n2 cats\n3 cats", 1),
            ("10:30 am\n11:30 am", 0),
            ("1.5 litres\n2.0 litres", 0),
            ("3-door car\n5-door car", 0),
            ("1,000 bees\n2,000 wasps", 1),
            ("Alien: Covenant\nRocky: x", 1),
            ("cat;kitten\ndog;puppy", 1),
            ("cat,kitten\ndog,puppy", 1),
            ("20 euro note\n50 pound note\n100 dollar bill", 1),
            ("7 up\n8 ball\n9 lives", 1),
            ("0\n1\n2", 0),
            ("n02124075\nn02123045", 1),
            ("2020 Honda Accord\n2021 Audi TT\n2019 BMW X5", 0),
            ("Boeing 707\nBoeing 737\nA320 10", 0),
            ("iPhone 1\niPhone 2\niPhone 3", 0),
            ("Star Wars 0\nRocky 1", 0),
            ("king penguin, bird\nowl", 0),
            ("n02056570", 0),
            ("'s-Hertogenbosch\n'twas", 0),
            ("a \"cat\"\n\"dog\" and \"cow\"", 0),
            ("-20 °C\n-30 °C", 0),
        ];
        for (text, notes) in cases {
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            assert_eq!(stripped(text), (lines, notes), "{text}");
        }
    }
}
