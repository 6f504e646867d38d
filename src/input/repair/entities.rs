//! HTML entities, in the two ways of the reference: those that are certainly meant, as ftfy
//! resolves them, and everything that a web browser would resolve, as Python's `html.unescape`.

use super::codecs::without_c1;

/// The longest name between `&` and `;` that ftfy considers.
const LONGEST: usize = 24;

/// Resolves the entities that end in `;`. Names in capitals are the lower-case ones, with the
/// result in capitals: `&NTILDE;`.
pub(super) fn closed_resolved(text: &str) -> String {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        resolved.push_str(&rest[..start]);
        rest = &rest[start..];
        let entity = closed(rest);
        match entity.and_then(meaning) {
            Some(meaning) => resolved.push_str(&meaning),
            None => resolved.push_str(entity.unwrap_or("&")),
        }
        rest = &rest[entity.map_or(1, str::len)..];
    }
    resolved + rest
}

/// The entity at the start of the text, from `&` to `;`.
fn closed(text: &str) -> Option<&str> {
    let named = text.strip_prefix('&')?;
    let name = named.strip_prefix('#').unwrap_or(named);
    let length = name.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let end = text.len() - name.len() + length;
    let is_closed = text[end..].starts_with(';') && (1..=LONGEST).contains(&length);
    is_closed.then(|| &text[..=end])
}

/// The value of an entity with `&` and `;`, if it is one as a whole.
fn meaning(entity: &str) -> Option<String> {
    if let Some(reference) = entity.strip_prefix("&#") {
        let (character, rest) = numbered(reference)?;
        let character = character.map(String::from).unwrap_or_default();
        return (rest.is_empty() && character != ";").then_some(character);
    }
    whole(entity).or_else(|| {
        let is_other = htmlize::unescape(entity) != entity || entity.contains(char::is_lowercase);
        let small = if is_other {
            None
        } else {
            whole(&entity.to_ascii_lowercase())
        };
        small.map(|meaning| meaning.to_uppercase())
    })
}

/// The value of a name that is one to its end: `&notit;` is `&not` and more.
fn whole(entity: &str) -> Option<String> {
    let meaning = htmlize::unescape(entity);
    (entity == "&semi;" || !meaning.ends_with(';')).then(|| meaning.into_owned())
}

/// `html.unescape`.
pub(in crate::input) fn all_resolved(text: &str) -> String {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        resolved.push_str(&rest[..start]);
        let entity = &rest[start..];
        if let Some(reference) = entity.strip_prefix("&#") {
            let (character, after) = numbered(reference).unwrap_or((None, reference));
            if after.len() == reference.len() {
                resolved.push_str("&#");
            }
            resolved.extend(character);
            rest = after;
        } else {
            let (entity, after) = entity.split_at(end_of_name(entity));
            resolved.push_str(&htmlize::unescape(entity));
            rest = after;
        }
    }
    resolved + rest
}

/// The end of the name at the start of the text, including its `;`.
fn end_of_name(entity: &str) -> usize {
    let ends = |c| matches!(c, '\t' | '\n' | '\x0c' | ' ' | '<' | '&' | '#' | ';');
    let name = &entity[1..];
    name.find(ends).map_or(entity.len(), |end| {
        1 + end + usize::from(name[end..].starts_with(';'))
    })
}

/// The character of a number after `&#`, and the text after it. A number that HTML forbids gives no
/// character.
fn numbered(reference: &str) -> Option<(Option<char>, &str)> {
    let hexadecimal = reference.strip_prefix(['x', 'X']);
    let radix = if hexadecimal.is_some() { 16 } else { 10 };
    let digits = hexadecimal.unwrap_or(reference);
    let end = digits
        .find(|c: char| !c.is_digit(radix))
        .unwrap_or(digits.len());
    let (number, after) = digits.split_at(end);
    if number.is_empty() {
        return None;
    }
    // Only numbers that are too large do not parse.
    let number = u32::from_str_radix(number, radix).unwrap_or(u32::MAX);
    Some((character(number), after.strip_prefix(';').unwrap_or(after)))
}

fn character(number: u32) -> Option<char> {
    let is_forbidden = matches!(number, 0x1..=0x8 | 0xb | 0xe..=0x1f | 0x7f | 0xfdd0..=0xfdef)
        || (number & 0xfffe == 0xfffe && number <= 0x10_ffff);
    match char::from_u32(number) {
        _ if is_forbidden => None,
        None | Some('\0') => Some(char::REPLACEMENT_CHARACTER),
        Some(c) => Some(without_c1(c)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_resolved_in_both_ways() {
        // The text, with what is certainly meant resolved, with all resolved.
        let cases = [
            ("rock &amp; roll", "rock & roll", "rock & roll"),
            ("&amp;amp;", "&amp;", "&amp;"),
            ("&amp &frac14 b", "&amp &frac14 b", "& ¼ b"),
            ("&notit; &notin;", "&notit; ∉", "¬it; ∉"),
            ("&semi; &#59; &#x3b;", "; &#59; &#x3b;", "; ; ;"),
            (
                "&NTILDE;o &SZLIG; &nTILDE;",
                "Ño SS &nTILDE;",
                "&NTILDE;o &SZLIG; &nTILDE;",
            ),
            ("&AMP; &COPY; &GTDOT;", "& © &GTDOT;", "& © >DOT;"),
            (
                "&#233; &#xE9; &#Xe9 &#233x;",
                "é é &#Xe9 &#233x;",
                "é é é éx;",
            ),
            (
                "&#0; &#x110000; &#99999999999;",
                "\u{fffd} \u{fffd} \u{fffd}",
                "\u{fffd} \u{fffd} \u{fffd}",
            ),
            ("a&#11;b &#xfdd0; &#150;", "ab  –", "ab  –"),
            (
                "&; &# &#x; &#; & &&lt;&",
                "&; &# &#x; &#; & &<&",
                "&; &# &#x; &#; & &<&",
            ),
            ("&é; &<&gt", "&é; &<&gt", "&é; &<>"),
        ];
        for (text, meant, all) in cases {
            assert_eq!(closed_resolved(text), meant, "{text:?}");
            assert_eq!(all_resolved(text), all, "{text:?}");
        }
    }
}
