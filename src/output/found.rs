//! Search hits -> table, json, jsonl, csv, tsv, or paths only.

use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::AnsiColor;
use serde::Serialize;

use super::csv::{IMAGE_BYTES, buffer};
use super::json::Objects;
use super::table::{Column, GAP, TextTable, bold, dimmed, foreground, painted};
use super::text::{printable, shortened};
use super::{Extras, Format, Name, Terminal, emit};

/// Columns of a table before a name.
const BEFORE_NAME: usize = 15;

/// The result of one query.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryHits {
    /// The query's text, or its image's path.
    pub query: String,
    /// The hits, best first, or why there are none.
    pub outcome: Result<Vec<NamedHit>, String>,
}

/// One row of the searched file.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedHit {
    /// Its index, from 0: its name if it has no other.
    pub row: usize,
    /// The image or the text; `None` if the file does not name its rows.
    pub name: Option<Name>,
    /// Cosine similarity of the embeddings.
    pub cosine: f32,
    /// The image itself, for the table.
    pub preview: Option<Preview>,
}

/// A few pixels of an image, `[height, width, 3]`. Two of them share a cell of the terminal, which
/// must support 24-bit colours: the upper is the colour of a half block, the lower its background.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    width: usize,
    pixels: Vec<u8>,
}

/// What ends a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathEnd {
    /// A newline.
    Line,
    /// A NUL byte, which no path can contain.
    Nul,
}

impl PathEnd {
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Line => b'\n',
            Self::Nul => 0,
        }
    }
}

/// Style of [`Format::Table`], and optional parts of other formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HitStyle {
    /// Where a table is shown.
    pub terminal: Terminal,
    /// Optional parts of [`Format::Csv`] and [`Format::Tsv`].
    pub extras: Extras,
    /// Whether rows lack names: CSV then has their numbers in an extra column.
    pub is_numbered: bool,
    /// What ends a path in [`Format::Paths`].
    pub end: PathEnd,
}

/// Writes `answers` to `sink`.
///
/// # Errors
/// Errors of the sink, with their kind; `Unsupported` for a format of records only.
pub fn write(
    answers: &[QueryHits],
    format: Format,
    style: HitStyle,
    sink: &mut dyn Write,
) -> io::Result<()> {
    let bytes = match format {
        Format::Table => table(answers, style).into_bytes(),
        Format::Json | Format::Jsonl => objects(answers, format)?,
        Format::Csv => rows(answers, b',', style)?,
        Format::Tsv => rows(answers, b'\t', style)?,
        Format::Paths => paths(answers, style.end),
        Format::Parquet | Format::LabelStudio | Format::Github => {
            return Err(io::ErrorKind::Unsupported.into());
        }
    };
    emit(sink, &bytes)
}

#[derive(Serialize)]
struct QueryObject<'a> {
    query: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hits: Option<Vec<HitObject<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl<'a> QueryObject<'a> {
    fn of(found: &'a QueryHits) -> Self {
        let hits = found.outcome.as_ref().ok();
        let ranked = hits.map(|hits| (1..).zip(hits));
        Self {
            query: &found.query,
            hits: ranked.map(|hits| hits.map(|(rank, hit)| HitObject::new(rank, hit)).collect()),
            error: found.outcome.as_ref().err().map(String::as_str),
        }
    }
}

#[derive(Serialize)]
struct HitObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<usize>,
    cosine: f32,
    rank: usize,
}

impl<'a> HitObject<'a> {
    fn new(rank: usize, hit: &'a NamedHit) -> Self {
        let (image, bytes, text) = match &hit.name {
            Some(Name::Image(name)) => (Some(name.text.as_str()), name.bytes_as_text(), None),
            Some(Name::Text(text)) => (None, None, Some(text.as_str())),
            None => (None, None, None),
        };
        Self {
            image,
            image_bytes: bytes,
            text,
            row: hit.name.is_none().then_some(hit.row),
            cosine: hit.cosine,
            rank,
        }
    }
}

fn objects(answers: &[QueryHits], format: Format) -> io::Result<Vec<u8>> {
    let mut objects = Objects::new(format);
    let mut bytes = Vec::new();
    for answer in answers {
        bytes.extend(objects.next(&QueryObject::of(answer))?);
    }
    bytes.extend(objects.end());
    Ok(bytes)
}

/// Queries without hits have one row, so that each appears. Rows without names have their number in
/// a column after the fixed ones.
fn rows(answers: &[QueryHits], delimiter: u8, style: HitStyle) -> io::Result<Vec<u8>> {
    let extras = style.extras;
    let mut rows = buffer(delimiter, extras.mark);
    let mut write = |cells: [&str; 6], number: &str, bytes: &str| {
        let number = style.is_numbered.then_some(number);
        let bytes = extras.image_bytes.then_some(bytes);
        rows.write_record(cells.into_iter().chain(number).chain(bytes))
    };
    let header = ["query", "image", "text", "cosine", "rank", "error"];
    write(header, "row", IMAGE_BYTES)?;
    for answer in answers {
        let query = answer.query.as_str();
        match &answer.outcome {
            Err(error) => write([query, "", "", "", "", error], "", "")?,
            Ok(hits) if hits.is_empty() => write([query, "", "", "", "", ""], "", "")?,
            Ok(hits) => {
                for (rank, hit) in (1usize..).zip(hits) {
                    let (cosine, rank) = (hit.cosine.to_string(), rank.to_string());
                    let rest = |image, text| [query, image, text, &cosine, &rank, ""];
                    match &hit.name {
                        Some(Name::Image(name)) => {
                            let bytes = name.bytes_as_text().unwrap_or_default();
                            write(rest(&name.text, ""), "", &bytes)?;
                        }
                        Some(Name::Text(text)) => write(rest("", text), "", "")?,
                        None => write(rest("", ""), &hit.row.to_string(), "")?,
                    }
                }
            }
        }
    }
    rows.into_inner().map_err(|error| error.into_error())
}

fn table(answers: &[QueryHits], style: HitStyle) -> String {
    let blocks = answers.iter().map(|answer| block(answer, style));
    blocks.collect::<Vec<_>>().join("\n")
}

fn block(answer: &QueryHits, style: HitStyle) -> String {
    let Terminal { width, colour } = style.terminal;
    let note = |text: &str, paint| format!("{GAP}{}", painted(&printable(text), paint, colour));
    let mut table = TextTable::new([
        Column::RIGHT.at_least(4),
        Column::RIGHT
            .at_least(7)
            .painted(foreground(AnsiColor::Cyan)),
        Column::LEFT,
    ]);
    table.drawn(painted(&printable(&answer.query), bold(), colour));
    match &answer.outcome {
        Err(error) => table.drawn(note(&format!("error: {error}"), foreground(AnsiColor::Red))),
        Ok(hits) if hits.is_empty() => table.drawn(note("no hits", dimmed())),
        Ok(hits) => {
            for (rank, hit) in (1usize..).zip(hits) {
                let name = hit.shown(width);
                table.row([&rank.to_string(), &format!("{:.4}", hit.cosine), &name]);
                for line in hit.preview.iter().flat_map(Preview::lines) {
                    table.drawn(format!("      {line}"));
                }
            }
        }
    }
    table.shown(colour)
}

impl NamedHit {
    /// Its name in a table of `width` columns. A truncated path could not be opened, so only texts
    /// are truncated.
    fn shown(&self, width: usize) -> String {
        match &self.name {
            Some(Name::Image(name)) => name.text.clone(),
            Some(Name::Text(text)) => {
                let room = width.saturating_sub(BEFORE_NAME).max(20);
                shortened(&printable(text), room)
            }
            None => format!("row {}", self.row),
        }
    }
}

impl Preview {
    /// An image of `width` columns; pixels that do not fill a row are dropped.
    #[must_use]
    pub(crate) fn new(width: usize, pixels: Vec<u8>) -> Self {
        Self { width, pixels }
    }

    /// Its lines; each cell is two pixels high.
    fn lines(&self) -> Vec<String> {
        let row_bytes = (self.width * 3).max(3);
        let rows: Vec<&[u8]> = self.pixels.chunks_exact(row_bytes).collect();
        rows.chunks(2)
            .map(|pair| line(pair[0], pair.get(1).copied()))
            .collect()
    }
}

/// One row of cells.
fn line(upper: &[u8], lower: Option<&[u8]>) -> String {
    let mut line = String::new();
    let mut below = lower.map(|row| row.chunks_exact(3));
    for pixel in upper.chunks_exact(3) {
        let [r, g, b] = [pixel[0], pixel[1], pixel[2]];
        // Writing to a string cannot fail.
        let _ = write!(line, "\u{1b}[38;2;{r};{g};{b}m");
        if let Some(pixel) = below.as_mut().and_then(Iterator::next) {
            let [r, g, b] = [pixel[0], pixel[1], pixel[2]];
            let _ = write!(line, "\u{1b}[48;2;{r};{g};{b}m");
        }
        line.push('▀');
    }
    line.push_str("\u{1b}[0m");
    line
}

/// The paths' bytes as the system stores them.
fn paths(answers: &[QueryHits], end: PathEnd) -> Vec<u8> {
    let mut bytes = Vec::new();
    for hit in answers
        .iter()
        .filter_map(|answer| answer.outcome.as_ref().ok())
        .flatten()
    {
        match &hit.name {
            Some(Name::Image(name)) => bytes.extend(name.exact()),
            Some(Name::Text(text)) => bytes.extend(text.as_bytes()),
            None => bytes.extend(hit.row.to_string().into_bytes()),
        }
        bytes.push(end.byte());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::ImageName;

    fn answers() -> Vec<QueryHits> {
        let odd = ImageName {
            text: "b\u{fffd}.jpg".to_owned(),
            bytes: Some(b"b\xff.jpg".to_vec()),
        };
        let hit = |name, cosine| NamedHit {
            row: 7,
            name: Some(name),
            cosine,
            preview: None,
        };
        vec![
            QueryHits {
                query: "a \"cat\"".to_owned(),
                outcome: Ok(vec![
                    hit(
                        Name::Image(std::path::Path::new("a\u{1b}.jpg").into()),
                        0.25,
                    ),
                    hit(Name::Image(odd), 0.1234),
                ]),
            },
            QueryHits {
                query: "x.jpg".to_owned(),
                outcome: Err("cannot be read".to_owned()),
            },
            QueryHits {
                query: "dog".to_owned(),
                outcome: Ok(vec![hit(Name::Text("a, b".to_owned()), -0.5)]),
            },
        ]
    }

    const STYLE: HitStyle = HitStyle {
        terminal: Terminal::PLAIN,
        extras: Extras {
            mark: false,
            frames: false,
            image_bytes: false,
        },
        is_numbered: false,
        end: PathEnd::Line,
    };

    fn written(format: Format) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&answers(), format, STYLE, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn csv_has_a_mark_and_exact_names_on_request() {
        let extras = Extras {
            mark: true,
            frames: false,
            image_bytes: true,
        };
        let mut bytes = Vec::new();
        write(
            &answers(),
            Format::Csv,
            HitStyle { extras, ..STYLE },
            &mut bytes,
        )
        .unwrap();
        let csv = "\u{feff}query,image,text,cosine,rank,error,image_bytes\n\
            \"a \"\"cat\"\"\",a\u{1b}.jpg,,0.25,1,,\n\
            \"a \"\"cat\"\"\",b\u{fffd}.jpg,,0.1234,2,,Yv8uanBn\n\
            x.jpg,,,,,cannot be read,\n\
            dog,,\"a, b\",-0.5,1,,\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), csv);
    }

    #[test]
    fn rows_without_names_go_by_number() {
        let hit = NamedHit {
            row: 17,
            name: None,
            cosine: 0.25,
            preview: None,
        };
        let answers = [Ok(vec![hit]), Ok(Vec::new())].map(|outcome| QueryHits {
            query: "sun".to_owned(),
            outcome,
        });
        let cases = [
            (
                Format::Jsonl,
                "{\"query\":\"sun\",\"hits\":[{\"row\":17,\"cosine\":0.25,\"rank\":1}]}\n\
                 {\"query\":\"sun\",\"hits\":[]}\n",
            ),
            (
                Format::Csv,
                "query,image,text,cosine,rank,error,row\nsun,,,0.25,1,,17\nsun,,,,,,\n",
            ),
            (
                Format::Table,
                "sun\n   1   0.2500  row 17\n\nsun\n  no hits\n",
            ),
            (Format::Paths, "17\n"),
        ];
        for (format, expected) in cases {
            let mut bytes = Vec::new();
            let style = HitStyle {
                is_numbered: true,
                ..STYLE
            };
            write(&answers, format, style, &mut bytes).unwrap();
            assert_eq!(String::from_utf8(bytes).unwrap(), expected, "{format:?}");
        }
    }

    #[test]
    fn each_format_says_the_same() {
        let jsonl = concat!(
            r#"{"query":"a \"cat\"","hits":[{"image":"a\u001b.jpg","cosine":0.25,"rank":1},"#,
            r#"{"image":"b"#,
            "\u{fffd}",
            r#".jpg","image_bytes":"Yv8uanBn","cosine":0.1234,"rank":2}]}"#,
            "\n",
            r#"{"query":"x.jpg","error":"cannot be read"}"#,
            "\n",
            r#"{"query":"dog","hits":[{"text":"a, b","cosine":-0.5,"rank":1}]}"#,
            "\n",
        );
        assert_eq!(String::from_utf8(written(Format::Jsonl)).unwrap(), jsonl);
        let json: Vec<serde_json::Value> = serde_json::from_slice(&written(Format::Json)).unwrap();
        let expected = jsonl
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        assert_eq!(json, expected.collect::<Vec<serde_json::Value>>());
        let csv = "query,image,text,cosine,rank,error\n\
            \"a \"\"cat\"\"\",a\u{1b}.jpg,,0.25,1,\n\
            \"a \"\"cat\"\"\",b\u{fffd}.jpg,,0.1234,2,\n\
            x.jpg,,,,,cannot be read\n\
            dog,,\"a, b\",-0.5,1,\n";
        assert_eq!(String::from_utf8(written(Format::Csv)).unwrap(), csv);
        assert_eq!(written(Format::Paths), b"a\x1b.jpg\nb\xff.jpg\na, b\n");
        assert_eq!(
            paths(&answers(), PathEnd::Nul),
            b"a\x1b.jpg\0b\xff.jpg\0a, b\0"
        );
    }

    #[test]
    fn a_table_is_for_people() {
        let expected = "\
a \"cat\"
   1   0.2500  a\\u{1b}.jpg
   2   0.1234  b\u{fffd}.jpg

x.jpg
  error: cannot be read

dog
   1  -0.5000  a, b
";
        assert_eq!(String::from_utf8(written(Format::Table)).unwrap(), expected);
    }

    #[test]
    fn two_pixels_share_a_cell() {
        let image = Preview::new(1, vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let expected = [
            "\u{1b}[38;2;1;2;3m\u{1b}[48;2;4;5;6m▀\u{1b}[0m",
            "\u{1b}[38;2;7;8;9m▀\u{1b}[0m",
        ];
        assert_eq!(image.lines(), expected);
        assert!(Preview::new(0, Vec::new()).lines().is_empty());
    }
}
