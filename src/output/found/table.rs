//! Hits for people: rank, cosine, name, and optionally the image below it.

use std::fmt::Write as _;

use anstyle::AnsiColor;

use super::{Answer, Hit, Style};
use crate::output::text::{printable, shortened};
use crate::output::{Characters, Colour, Name};

/// Columns before a name.
const BEFORE_NAME: usize = 15;

pub(super) fn table(answers: &[Answer], style: Style) -> String {
    let blocks = answers.iter().map(|answer| block(answer, style));
    blocks.collect::<Vec<_>>().join("\n")
}

fn block(answer: &Answer, style: Style) -> String {
    let bold = anstyle::Style::new().bold();
    let mut block = painted(&printable(&answer.query), bold, style.colour) + "\n";
    match &answer.outcome {
        Err(error) => {
            let text = format!("error: {}", printable(error));
            let text = painted(&text, AnsiColor::Red.on_default(), style.colour);
            block.push_str(&format!("  {text}\n"));
        }
        Ok(hits) if hits.is_empty() => {
            let dimmed = anstyle::Style::new().dimmed();
            block.push_str(&format!("  {}\n", painted("no hits", dimmed, style.colour)));
        }
        Ok(hits) => {
            for (rank, hit) in (1..).zip(hits) {
                push_hit(&mut block, rank, hit, style);
            }
        }
    }
    block
}

fn push_hit(block: &mut String, rank: usize, hit: &Hit, style: Style) {
    // A truncated path could not be opened, so only texts are truncated.
    let name = match &hit.name {
        Some(Name::Image(name)) => printable(&name.text),
        Some(Name::Text(text)) => {
            let room = style.width.saturating_sub(BEFORE_NAME).max(20);
            shortened(&printable(text), room, Characters::Unicode)
        }
        None => format!("row {}", hit.row),
    };
    let cosine = painted(
        &format!("{:>7.4}", hit.cosine),
        AnsiColor::Cyan.on_default(),
        style.colour,
    );
    // Writing to a string cannot fail.
    let _ = writeln!(block, "{rank:>4}  {cosine}  {name}");
    if let Some(image) = &hit.image {
        for line in image.lines() {
            let _ = writeln!(block, "      {line}");
        }
    }
}

fn painted(text: &str, paint: anstyle::Style, colour: Colour) -> String {
    match colour {
        Colour::Ansi => format!("{paint}{text}{paint:#}"),
        Colour::Plain => text.to_owned(),
    }
}
