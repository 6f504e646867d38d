//! Escapes foreign text and data for the page. Nothing in a file or a label becomes markup:
//! whatever the page shows passes through here.

use std::io;

use serde::Serialize;

use crate::output::text::printable;

/// `text` for the inside of an element or of a quoted attribute. Control characters and
/// bidirectional overrides are shown as escapes, as on a terminal.
pub(super) fn text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in printable(text).chars() {
        match character {
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '"' => shown.push_str("&quot;"),
            '\'' => shown.push_str("&#39;"),
            other => shown.push(other),
        }
    }
    shown
}

/// `value` as JSON for the inside of a `<script type="application/json">`. The end of that element,
/// and a comment that would hide it, begin with `<`, which occurs only within JSON's strings.
pub(super) fn json(value: &impl Serialize) -> io::Result<String> {
    let json = serde_json::to_string(value)?;
    Ok(json.replace('<', "\\u003c"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_do_not_become_markup() {
        let cases = [
            ("a cat", "a cat"),
            ("</script><b>", "&lt;/script&gt;&lt;b&gt;"),
            (
                "\" onload='x' & &lt;",
                "&quot; onload=&#39;x&#39; &amp; &amp;lt;",
            ),
            ("a\u{202e}gpj\u{2028}\0", "a\\u{202e}gpj\\u{2028}\\u{0}"),
            ("קטלוג 猫", "קטלוג 猫"),
        ];
        for (raw, expected) in cases {
            assert_eq!(text(raw), expected);
        }
    }

    #[test]
    fn json_does_not_end_its_element_and_reads_back() {
        let raw = ["</script>", "<!--<script>", "\u{2028}\"\\\n\0", "]]>"];
        let json = json(&raw).unwrap();
        assert!(!json.contains('<'), "{json}");
        let back: Vec<String> = serde_json::from_str(&json).unwrap();
        assert_eq!(back, raw);
    }

    #[test]
    fn numbers_that_are_not_finite_become_null() {
        let json = json(&[f32::NAN, f32::INFINITY, 0.25]).unwrap();
        assert_eq!(json, "[null,null,0.25]");
    }
}
