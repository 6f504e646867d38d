//! Cleans a text like the reference before tokenisation.
//!
//! OpenAI's code, with ftfy installed, runs `ftfy.fix_text`, `html.unescape` twice, collapses
//! whitespace and lowers the case. Captions from the web need all of it: an unchanged curly
//! apostrophe, `&amp;` or full-width letter gives other tokens than the model was trained on. Knows
//! nothing of tokens.

use super::repair;

/// The text as CLIP's tokenizer expects it: repaired, on one line, single spaces, lower case.
///
/// Follows `whitespace_clean(basic_clean(text)).lower()` of openai/CLIP with ftfy 6: mojibake is
/// decoded, curly quotes straightened, ligatures and full-width forms replaced by plain letters,
/// control characters and terminal escapes dropped, composed to NFC, HTML entities resolved. Lower
/// case is Unicode's, with the final sigma.
pub fn clean(text: &str) -> String {
    if is_plain(text) {
        return joined(text.split_ascii_whitespace()).to_ascii_lowercase();
    }
    clean_any(text)
}

/// Applies [`clean`] to every text; its tables take some milliseconds at the first use.
fn clean_any(text: &str) -> String {
    joined(repaired(text).split_whitespace()).to_lowercase()
}

/// The repaired text: what [`clean`] does before white space and case.
fn repaired(text: &str) -> String {
    resolved_twice(&repair::repaired(text))
}

/// `html.unescape` twice, as openai/CLIP does.
fn resolved_twice(text: &str) -> String {
    repair::all_resolved(&repair::all_resolved(text))
}

/// A kind of change that [`clean`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Control characters and terminal escapes were dropped.
    Controls,
    /// HTML entities were resolved.
    Entities,
    /// Curly quotes and apostrophes were straightened.
    Quotes,
    /// Mojibake was decoded; ligatures, full-width and other forms became plain characters.
    Characters,
    /// White space was removed or collapsed, or lines were joined.
    Whitespace,
    /// Capital letters were lowered.
    Case,
}

impl Change {
    /// One or two words for people and programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Controls => "control characters",
            Self::Entities => "entities",
            Self::Quotes => "quotes",
            Self::Characters => "characters",
            Self::Whitespace => "whitespace",
            Self::Case => "case",
        }
    }
}

/// Which kinds of change [`clean`] makes to the text; empty if it stays unchanged. If the value of
/// an entity is changed in turn, both are named.
pub fn changes(text: &str) -> Vec<Change> {
    let is_plain = is_plain(text);
    let repaired = if is_plain {
        text.to_owned()
    } else {
        repaired(text)
    };
    let one_line = joined(repaired.split_whitespace());
    let resolved = if is_plain { Vec::new() } else { resolved(text) };
    [
        (Change::Controls, !is_plain && text.contains(is_control)),
        (
            Change::Entities,
            !is_plain && repair::all_resolved(text) != text,
        ),
        (
            Change::Quotes,
            !repaired.contains(is_curly) && resolved.iter().any(|text| text.contains(is_curly)),
        ),
        (
            Change::Characters,
            !is_plain && resolved.iter().all(|text| straightened(text) != one_line),
        ),
        (Change::Whitespace, one_line != repaired),
        (Change::Case, one_line.to_lowercase() != one_line),
    ]
    .into_iter()
    .filter_map(|(change, is_made)| is_made.then_some(change))
    .collect()
}

/// The text with its entities resolved twice and until none is left: [`repair::repaired`] decides
/// by the first `<` which of the two is done.
fn resolved(text: &str) -> Vec<String> {
    let twice = resolved_twice(&repair::without_escapes(text));
    let mut all = twice.clone();
    loop {
        let next = repair::all_resolved(&all);
        if next == all {
            return vec![twice, all];
        }
        all = next;
    }
}

/// The text on one line, with straight quotes and no control characters.
fn straightened(text: &str) -> String {
    let straight: String = text
        .chars()
        .filter(|&c| !is_control(c))
        .map(|c| match c {
            '\u{2bc}' | '\u{2018}'..='\u{201b}' => '\'',
            '\u{201c}'..='\u{201f}' => '"',
            other => other,
        })
        .collect();
    joined(straight.split_whitespace())
}

/// Quotes that ftfy straightens.
fn is_curly(c: char) -> bool {
    matches!(c, '\u{2bc}' | '\u{2018}'..='\u{201f}')
}

fn is_control(c: char) -> bool {
    c.is_ascii_control() && !c.is_ascii_whitespace()
}

/// Whether neither ftfy nor `html.unescape` can change the text: printable ASCII and white space,
/// no `&`. Most labels are such text, and need none of the tables.
fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|b| matches!(b, b' '..=b'%' | b'\''..=b'~' | b'\t' | b'\n' | b'\r' | b'\x0c'))
}

/// The words with one space between them.
fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut joined = String::new();
    for word in words {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(word);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_like_the_reference() {
        let cases = [
            ("", ""),
            (" \t\r\n\x0c", ""),
            ("  A  photo\tof\r\na CAT ", "a photo of a cat"),
            ("a\x00b\x0bc\x1bd\x7fe", "abcde"),
            ("\x1b[1;31mred\x1b[0m cat", "red cat"),
            ("It\u{2019}s \u{201c}fine\u{201d}\u{2026}", "it's \"fine\"…"),
            ("ﬁne ﬂower", "fine flower"),
            ("ＦＵＬＬ　ＷＩＤＴＨ ｶﾅ", "full width カナ"),
            ("a￣b", "a \u{304}b"),
            ("cafe\u{301} \u{feff}豈", "café 豈"),
            ("cafÃ© itâ€™s", "café it's"),
            ("l\u{92}été\u{85}", "l'été…"),
            ("rock &amp; roll", "rock & roll"),
            ("&amp;lt;b&amp;gt; &frac14 x", "<b> ¼ x"),
            ("a&#24;b&#11;c &#8217;s", "abc 's"),
            ("ΟΔΟΣ ΣΑΣ.", "οδος σας."),
            ("İSTANBUL STRAẞE", "i\u{307}stanbul straße"),
            ("no\u{a0}break\u{2028}line", "no break line"),
        ];
        for (text, cleaned) in cases {
            assert_eq!(clean(text), cleaned, "{text:?}");
        }
    }

    #[test]
    fn changes_are_named() {
        use Change::{Case, Characters, Controls, Entities, Quotes, Whitespace};
        let cases: [(&str, &[Change]); 15] = [
            ("", &[]),
            ("a cat & a dog, 50% <b> 'x' \"y\"", &[]),
            ("猫 👍 café", &[]),
            ("A cat", &[Case]),
            (" a  cat\n", &[Whitespace]),
            ("a\u{a0}cat", &[Whitespace]),
            ("it\u{2019}s \u{201c}fine\u{201d}", &[Quotes]),
            ("rock &amp; roll", &[Entities]),
            ("&amp;amp;amp;lt; b", &[Entities]),
            ("it&rsquo;s", &[Entities, Quotes]),
            ("&Eacute;T\u{c9}", &[Entities, Case]),
            ("\x1b[1mred\x1b[0m", &[Controls]),
            ("cafÃ©", &[Characters]),
            ("ﬁne ＣＡＴ", &[Characters, Case]),
            ("cafe\u{301}", &[Characters]),
        ];
        for (text, expected) in cases {
            assert_eq!(changes(text), expected, "{text:?}");
            assert_eq!(expected.is_empty(), clean(text) == text, "{text:?}");
        }
    }

    #[test]
    fn html_source_keeps_its_entities_until_they_are_resolved_twice() {
        let cases = [
            ("&amp;amp;amp;lt;", "<"),
            ("<&amp;amp;amp;lt;", "<&amp;lt;"),
            ("&amp;amp;amp;lt;\n<p>&amp;amp;amp;lt;", "< <p>&amp;lt;"),
            ("<p>&\x0camp;", "<p>& amp;"),
        ];
        for (text, cleaned) in cases {
            assert_eq!(clean(text), cleaned, "{text:?}");
        }
    }

    #[test]
    fn plain_text_takes_the_short_path() {
        let plain: Vec<u8> = (0..=127)
            .filter(|&b| is_plain(&char::from(b).to_string()))
            .collect();
        assert_eq!(plain.len(), 98, "94 of the 95 that print, and four blanks");
        for &first in &plain {
            for &second in &plain {
                for frame in ["", "A", " z "] {
                    let (first, second) = (char::from(first), char::from(second));
                    let text = format!("{frame}{first}{second}{first}{frame}lt;#39;");
                    assert!(is_plain(&text));
                    assert_eq!(clean(&text), clean_any(&text), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn lines_of_megabytes_are_cleaned() {
        let text = "é’x ".repeat(100_000);
        assert_eq!(clean(&text), "é'x ".repeat(100_000).trim_end());
        // The last letter prevents the line from being decoded at once.
        let mojibake = "Ã©".repeat(600_000) + "漢";
        assert!(clean(&mojibake).starts_with("éééé"));
    }
}
