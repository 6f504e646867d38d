//! The words of a label in the colours of their contributions, and the map over the image. Works
//! without scripts; every colour is also a number and a line.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::content::PageExplanation;
use super::embed::text;
use super::number;
use crate::output::explanation::{Explanation, Pairs, Regions, Word, most, signed, strongest};

/// The content of the section.
pub(super) fn section(page: &PageExplanation) -> String {
    let found = &page.found;
    let mut html = String::new();
    if !found.words.is_empty() {
        html += &told("Label", &found.words, found);
        if !found.against_words.is_empty() {
            html += &told("Other label", &found.against_words, found);
        }
        html += &table("Contributions to the score", &found.words, found);
        if !found.against_words.is_empty() {
            html += &table(
                "Contributions of the other label’s words",
                &found.against_words,
                found,
            );
        }
        html += &format!(
            "<p>Sum {}, of a score of {} less {} without words.</p>\n",
            text(&signed(found.sum)),
            number::plain(found.score.into()),
            number::plain(found.empty.into())
        );
    }
    if let Some(regions) = &found.regions {
        html += &figure(page, regions);
    }
    if let Some(pairs) = &found.pairs {
        html += &paired(page, pairs);
    }
    html
}

/// The largest contribution of a part.
fn full(found: &Explanation) -> f32 {
    let words = found.words.iter().chain(&found.against_words);
    let inner = words.clone().flat_map(|word| &word.words);
    most(words.map(|word| word.value)).max(most(inner.map(|word| word.loss)))
}

/// `value` as a part of `full`; 0 if it is not finite or there is nothing.
fn share(value: f32, full: f32) -> f32 {
    let share = value / full;
    if share.is_finite() { share } else { 0.0 }
}

/// Classes for `value`: its sign, and its size in steps of a quarter of `full`.
fn classes(value: f32, full: f32) -> String {
    let share = share(value, full);
    if share.abs() < 0.05 {
        return "flat".to_owned();
    }
    let sign = if share < 0.0 { "down" } else { "up" };
    format!("{sign} of{}", (share.abs() * 4.0).ceil().clamp(1.0, 4.0))
}

/// The words in a row; those of a sentence have its colour.
fn told(name: &str, words: &[Word], found: &Explanation) -> String {
    let full = full(found);
    let words = words.iter().map(|word| {
        format!(
            "<span class=\"word {}\">{}<span class=\"unseen\"> ({}) </span></span> ",
            classes(word.value, full),
            text(&word.word),
            signed(word.value)
        )
    });
    format!(
        "<div><h3>{name}</h3><p class=\"told\">{}</p></div>\n",
        words.collect::<String>()
    )
}

fn table(caption: &str, words: &[Word], found: &Explanation) -> String {
    let full = full(found);
    let has_errors = words.iter().any(|word| word.error.is_some());
    let error = |shown: &str| match has_errors {
        true => format!("<td>{shown}</td>"),
        false => String::new(),
    };
    let mut rows = String::new();
    for word in words {
        rows += &format!(
            "<tr><th scope=\"row\"><bdi>{}</bdi></th><td>{}</td>{}<td>{}</td><td>{}</td></tr>\n",
            text(&word.word),
            signed(word.value),
            error(
                &word
                    .error
                    .map_or_else(String::new, |error| format!("{error:.4}"))
            ),
            drawn(word.value, full),
            signed(word.loss)
        );
        for inner in &word.words {
            rows += &format!(
                "<tr class=\"within\"><th scope=\"row\"><bdi>{}</bdi></th><td></td>{}<td>{}</td><td>{}</td></tr>\n",
                text(&inner.word),
                error(""),
                drawn(inner.loss, full),
                signed(inner.loss)
            );
        }
    }
    let error = match has_errors {
        true => "<th scope=\"col\">Standard error</th>",
        false => "",
    };
    format!(
        "<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"{caption}\"><table class=\"contributions\"><caption>{caption}</caption><thead><tr><th scope=\"col\">Part</th><th scope=\"col\">Contribution</th>{error}<td></td><th scope=\"col\">Lost without it</th></tr></thead><tbody>\n{rows}</tbody></table></div>\n"
    )
}

/// A bar to the right for what raises the score, else to the left.
fn drawn(value: f32, full: f32) -> String {
    let share = share(value, full);
    let width = 50.0 * share.abs().min(1.0);
    let (class, start) = match share < 0.0 {
        true => ("down", 50.0 - width),
        false => ("up", 50.0),
    };
    format!(
        "<svg class=\"signed\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><path d=\"M50 0V8\"/><rect class=\"{class}\" x=\"{start:.1}\" y=\"1\" width=\"{width:.1}\" height=\"6\"/></svg>"
    )
}

/// The picture, the map over it, and its numbers.
fn figure(page: &PageExplanation, regions: &Regions) -> String {
    let count = regions.map.len();
    let (side, most) = (page.side as f32, regions.most());
    let cell = side / count.max(1) as f32;
    let (mut cells, mut rows) = (String::new(), String::new());
    for (row, values) in regions.map.iter().enumerate() {
        rows += &format!("<tr><th scope=\"row\">{}</th>", row + 1);
        for (column, &value) in values.iter().enumerate() {
            let share = share(value, most);
            let class = if share < 0.0 { "down" } else { "up" };
            cells += &format!(
                "<rect class=\"{class}\" x=\"{:.2}\" y=\"{:.2}\" width=\"{cell:.2}\" height=\"{cell:.2}\" fill-opacity=\"{:.2}\"><title>row {}, column {}: {}</title></rect>\n",
                column as f32 * cell,
                row as f32 * cell,
                0.75 * share.abs(),
                row + 1,
                column + 1,
                signed(value)
            );
            rows += &format!("<td>{}</td>", signed(value));
        }
        rows += "</tr>\n";
    }
    let columns: String = (1..=count)
        .map(|column| format!("<th scope=\"col\">{column}</th>"))
        .collect();
    let (row, column, value) = strongest(&regions.map);
    let told = format!(
        "The score depends most on row {row}, column {column} of {count} x {count} cells: {}.",
        signed(value)
    );
    let how = match regions.method {
        "occlusion" => {
            "Each cell has what the score loses when it is covered with the mean colour."
        }
        "legrad" => "LeGrad: each cell is a patch, with the gradient of the attention to it.",
        "grad-eclip" => {
            "Grad-ECLIP: each cell is a patch, with the gradient of what the class token takes from it."
        }
        other => other,
    };
    format!(
        "<figure class=\"seen\"><h3>Regions</h3><label><input type=\"checkbox\" checked> Show the map</label>\n<svg viewBox=\"0 0 {side} {side}\" role=\"img\" aria-label=\"The part of the image that the model sees. {told}\"><image href=\"data:image/jpeg;base64,{}\" width=\"{side}\" height=\"{side}\"/><g class=\"cells\">\n{cells}</g></svg>\n<figcaption>{} {told} This is the square of the image that the model sees.</figcaption>\n<details><summary>Numbers of the map</summary><div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"Numbers of the map\"><table class=\"contributions\"><thead><tr><th scope=\"col\">Row</th>{columns}</tr></thead><tbody>\n{rows}</tbody></table></div></details></figure>\n",
        STANDARD.encode(&page.picture),
        text(how)
    )
}

/// The words as buttons that show their patches, which a script makes of them, and all sums.
fn paired(page: &PageExplanation, pairs: &Pairs) -> String {
    let side = page.side as f32;
    let count = pairs.words.first().map_or(1, |pair| pair.map.len());
    let cell = side / count.max(1) as f32;
    let cells: String = (0..count * count)
        .map(|at| {
            format!(
                "<rect x=\"{:.2}\" y=\"{:.2}\" width=\"{cell:.2}\" height=\"{cell:.2}\" fill-opacity=\"0\"/>\n",
                (at % count) as f32 * cell,
                (at / count) as f32 * cell
            )
        })
        .collect();
    let (mut buttons, mut rows) = (String::new(), String::new());
    for (at, pair) in pairs.words.iter().enumerate() {
        let (row, column, value) = strongest(&pair.map);
        buttons += &format!(
            "<button type=\"button\" data-pair=\"{at}\" aria-pressed=\"false\">{}</button>\n",
            text(&pair.word)
        );
        rows += &format!(
            "<tr><th scope=\"row\"><bdi>{}</bdi></th><td>{}</td><td>row {row}, column {column}</td><td>{}</td></tr>\n",
            text(&pair.word),
            signed(pair.value),
            signed(value)
        );
    }
    let remainder = &pairs.remainder;
    for (name, value) in [
        ("words alone", remainder.words),
        ("patches alone", remainder.patches),
        ("neither", remainder.neither),
    ] {
        rows += &format!(
            "<tr><th scope=\"row\">({name})</th><td>{}</td><td></td><td></td></tr>\n",
            signed(value)
        );
    }
    format!(
        "<figure class=\"seen\"><h3>Words with patches</h3><div id=\"pairs\" hidden><p class=\"buttons\">{buttons}</p>\n<svg viewBox=\"0 0 {side} {side}\" role=\"img\" aria-label=\"The image with the patches of the chosen word\"><image href=\"data:image/jpeg;base64,{}\" width=\"{side}\" height=\"{side}\"/><g class=\"cells\">\n{cells}</g></svg>\n<p aria-live=\"polite\" class=\"soft\"></p></div>\n<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"Words with patches\"><table class=\"contributions\"><thead><tr><th scope=\"col\">Word</th><th scope=\"col\">Contribution</th><th scope=\"col\">Most in</th><th scope=\"col\">There</th></tr></thead><tbody>\n{rows}</tbody></table></div>\n<figcaption>All rows sum to the cosine, {}. What is in brackets belongs to no pair of a word and a patch; it is {:.0}% of all in absolute terms.</figcaption></figure>\n",
        STANDARD.encode(&page.picture),
        number::plain(pairs.cosine.into()),
        100.0 * pairs.share
    )
}

/// An explanation in which every text is `hostile`.
#[cfg(test)]
pub(super) fn hostile(hostile: &str) -> PageExplanation {
    use crate::output::explanation::{Inner, Pair, Remainder};
    let text = || hostile.to_owned();
    let words = || {
        vec![Word {
            word: text(),
            value: f32::NAN,
            error: Some(0.1),
            words: vec![Inner {
                word: text(),
                span: [0, 1],
                loss: -1.0,
            }],
            ..Word::default()
        }]
    };
    PageExplanation {
        found: Explanation {
            label: text(),
            against: Some(text()),
            words: words(),
            against_words: words(),
            regions: Some(Regions {
                method: "occlusion",
                area: [0.0; 4],
                map: vec![vec![0.5]],
            }),
            pairs: Some(Pairs {
                cosine: f32::NAN,
                words: vec![Pair {
                    word: text(),
                    span: [0, 1],
                    value: 0.1,
                    map: vec![vec![f32::NAN]],
                }],
                sum: 0.0,
                remainder: Remainder {
                    words: 0.1,
                    patches: 0.1,
                    neither: 0.1,
                },
                share: 0.5,
            }),
            ..Explanation::default()
        },
        picture: vec![0xff, 0xd8, 0xff],
        side: 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_have_a_sign_and_four_steps() {
        let cases = [
            (1.0, "up of4"),
            (0.76, "up of4"),
            (0.5, "up of2"),
            (0.06, "up of1"),
            (0.04, "flat"),
            (-0.3, "down of2"),
            (0.0, "flat"),
        ];
        for (value, expected) in cases {
            assert_eq!(classes(value, 1.0), expected, "{value}");
        }
        assert_eq!(classes(0.0, 0.0), "flat");
    }

    #[test]
    fn every_number_is_there_as_text() {
        let mut page = hostile("cat");
        page.found.words[0].value = 0.25;
        page.found.words[0].loss = 0.125;
        let html = section(&page);
        for part in [
            "+0.2500",
            "+0.1250",
            "-1.0000",
            "0.1000",
            "+0.5000",
            "row 1, column 1",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
        (page.found.regions, page.found.pairs) = (None, None);
        assert!(!section(&page).contains("<figure"));
        page.found.words.clear();
        assert_eq!(section(&page), "");
    }
}
