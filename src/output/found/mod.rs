//! Search hits -> table, json, jsonl, csv, tsv, or paths only.

mod image;
mod table;

use std::io;
use std::io::Write;

use csv::WriterBuilder;
use serde::Serialize;

use super::csv::{IMAGE_BYTES, MARK};
use super::{Colour, Extras, emit, json};
use crate::output::Name;

pub use image::Image;

/// The result of one query.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The query's text, or its image's path.
    pub query: String,
    /// The hits, best first, or why there are none.
    pub outcome: Result<Vec<Hit>, String>,
}

/// One row of the searched file.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Its index, from 0: its name if it has no other.
    pub row: usize,
    /// The image or the text; `None` if the file does not name its rows.
    pub name: Option<Name>,
    /// Cosine similarity of the embeddings.
    pub cosine: f32,
    /// Pixels of the image, for the table.
    pub image: Option<Image>,
}

/// Output formats of hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// One array of objects.
    Json,
    /// One object per line.
    Jsonl,
    /// Comma-separated, one row per hit.
    Csv,
    /// The same, tab-separated.
    Tsv,
    /// The hits only, for other programs: one per line, or NUL-terminated.
    Paths(End),
}

/// What ends a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A newline.
    Line,
    /// A NUL byte, which no path can contain.
    Nul,
}

impl Format {
    /// The formats by file suffix.
    pub const SUFFIXES: &[(&str, Self)] = &[
        ("json", Self::Json),
        ("jsonl", Self::Jsonl),
        ("ndjson", Self::Jsonl),
        ("csv", Self::Csv),
        ("tsv", Self::Tsv),
    ];
}

/// Style of [`Format::Table`], and optional parts of CSV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Width of the terminal in columns.
    pub width: usize,
    /// Whether it supports colours.
    pub colour: Colour,
    /// Optional parts of [`Format::Csv`] and [`Format::Tsv`].
    pub extras: Extras,
    /// Whether rows lack names: CSV then has their numbers in an extra column.
    pub is_numbered: bool,
}

/// Writes `answers` to `sink`.
///
/// # Errors
/// Errors of the sink, with their kind.
pub fn write(
    answers: &[Answer],
    format: Format,
    style: Style,
    sink: &mut dyn Write,
) -> io::Result<()> {
    let bytes = match format {
        Format::Table => table::table(answers, style).into_bytes(),
        Format::Json => array(answers)?,
        Format::Jsonl => lines(answers)?,
        Format::Csv => rows(answers, b',', style)?,
        Format::Tsv => rows(answers, b'\t', style)?,
        Format::Paths(end) => paths(answers, end),
    };
    emit(sink, &bytes)
}

#[derive(Serialize)]
struct Object<'a> {
    query: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hits: Option<Vec<HitObject<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
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
    fn new(rank: usize, hit: &'a Hit) -> Self {
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

fn object(answer: &Answer) -> io::Result<Vec<u8>> {
    let hits = answer.outcome.as_ref().ok();
    json::printable(&Object {
        query: &answer.query,
        hits: hits.map(|hits| {
            (1..)
                .zip(hits)
                .map(|(rank, hit)| HitObject::new(rank, hit))
                .collect()
        }),
        error: answer.outcome.as_ref().err().map(String::as_str),
    })
}

fn lines(answers: &[Answer]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for answer in answers {
        bytes.extend(object(answer)?);
        bytes.push(b'\n');
    }
    Ok(bytes)
}

fn array(answers: &[Answer]) -> io::Result<Vec<u8>> {
    let objects = answers.iter().map(object).collect::<io::Result<Vec<_>>>()?;
    Ok([&b"[\n"[..], &objects.join(&b",\n"[..]), b"\n]\n"].concat())
}

/// Queries without hits have one row, so that each appears. Rows without names have their number in
/// a column after the fixed ones.
fn rows(answers: &[Answer], delimiter: u8, style: Style) -> io::Result<Vec<u8>> {
    let extras = style.extras;
    let mark = if extras.mark { MARK } else { &[] };
    let mut rows = WriterBuilder::new()
        .delimiter(delimiter)
        .from_writer(mark.to_vec());
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

/// The paths' bytes as the system stores them.
fn paths(answers: &[Answer], end: End) -> Vec<u8> {
    let mut bytes = Vec::new();
    for hit in answers
        .iter()
        .filter_map(|answer| answer.outcome.as_ref().ok())
        .flatten()
    {
        match &hit.name {
            Some(Name::Image(name)) => {
                bytes.extend(name.bytes.as_deref().unwrap_or(name.text.as_bytes()));
            }
            Some(Name::Text(text)) => bytes.extend(text.as_bytes()),
            None => bytes.extend(hit.row.to_string().into_bytes()),
        }
        bytes.push(match end {
            End::Line => b'\n',
            End::Nul => 0,
        });
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::ImageName;

    fn answers() -> Vec<Answer> {
        let odd = ImageName {
            text: "b\u{fffd}.jpg".to_owned(),
            bytes: Some(b"b\xff.jpg".to_vec()),
        };
        let hit = |name, cosine| Hit {
            row: 7,
            name: Some(name),
            cosine,
            image: None,
        };
        vec![
            Answer {
                query: "a \"cat\"".to_owned(),
                outcome: Ok(vec![
                    hit(
                        Name::Image(std::path::Path::new("a\u{1b}.jpg").into()),
                        0.25,
                    ),
                    hit(Name::Image(odd), 0.1234),
                ]),
            },
            Answer {
                query: "x.jpg".to_owned(),
                outcome: Err("cannot be read".to_owned()),
            },
            Answer {
                query: "dog".to_owned(),
                outcome: Ok(vec![hit(Name::Text("a, b".to_owned()), -0.5)]),
            },
        ]
    }

    const STYLE: Style = Style {
        width: 40,
        colour: Colour::Plain,
        extras: Extras {
            mark: false,
            image_bytes: false,
        },
        is_numbered: false,
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
            image_bytes: true,
        };
        let mut bytes = Vec::new();
        write(
            &answers(),
            Format::Csv,
            Style { extras, ..STYLE },
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
        let hit = Hit {
            row: 17,
            name: None,
            cosine: 0.25,
            image: None,
        };
        let answers = [Ok(vec![hit]), Ok(Vec::new())].map(|outcome| Answer {
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
            (Format::Paths(End::Line), "17\n"),
        ];
        for (format, expected) in cases {
            let mut bytes = Vec::new();
            let style = Style {
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
        assert_eq!(
            written(Format::Paths(End::Line)),
            b"a\x1b.jpg\nb\xff.jpg\na, b\n"
        );
        assert_eq!(
            written(Format::Paths(End::Nul)),
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
}
