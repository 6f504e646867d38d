//! Parsers for the values of flags.

use crate::checkpoint::architecture::Activation;
use crate::checkpoint::sizes::Heads;
use crate::input::image::{Alpha, FrameChoice};
use crate::input::tokenizer::LongText;
use crate::model::device::PrecisionChoice;
use crate::output::Format;
use crate::task::zero_shot::Score;

/// A parser for a closed list of names.
pub(crate) fn names<T: Clone + Send + Sync + 'static>(
    list: &'static [(&'static str, T)],
) -> impl clap::builder::TypedValueParser<Value = T> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(list.iter().map(|(name, _)| *name)).try_map(move |name| {
        let found = list.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, value)| value.clone())
            .ok_or("not one of the names")
    })
}

/// The precision of the towers.
pub(crate) fn precision() -> impl clap::builder::TypedValueParser<Value = PrecisionChoice> {
    names(&[
        ("auto", PrecisionChoice::Auto),
        ("f32", PrecisionChoice::F32),
        ("bf16", PrecisionChoice::Bf16),
        ("f16", PrecisionChoice::F16),
        ("int8", PrecisionChoice::Int8),
        ("int8-fast", PrecisionChoice::Int8Fast),
    ])
}

/// The activation in the MLPs.
pub(crate) fn activation() -> impl clap::builder::TypedValueParser<Value = Activation> {
    names(&[
        ("quick_gelu", Activation::QuickGelu),
        ("gelu", Activation::Gelu),
    ])
}

/// `IMAGE` or `IMAGE,TEXT`: the number of attention heads per tower.
pub(crate) fn heads(text: &str) -> Result<Heads, String> {
    /// More than any known model has.
    const MOST: usize = 1024;
    let number = |text: &str| match text.trim().parse() {
        Ok(heads @ 1..=MOST) => Ok(Some(heads)),
        _ => Err(format!(
            "expected IMAGE or IMAGE,TEXT, numbers from 1 to {MOST}"
        )),
    };
    let (image, text) = match text.split_once(',') {
        Some((image, text)) => (number(image)?, number(text)?),
        None => (number(text)?, None),
    };
    Ok(Heads { image, text })
}

/// The treatment of transparent pixels.
pub(crate) fn alpha() -> impl clap::builder::TypedValueParser<Value = Alpha> {
    names(&[
        ("white", Alpha::White),
        ("black", Alpha::Black),
        ("drop", Alpha::Drop),
    ])
}

/// `all`, `every:K` or a number of frames.
pub(crate) fn frames(text: &str) -> Result<FrameChoice, String> {
    let (number, choice): (_, fn(u64) -> FrameChoice) = match text.strip_prefix("every:") {
        _ if text == "all" => return Ok(FrameChoice::All),
        Some(step) => (step, FrameChoice::Every),
        None => (text, FrameChoice::Spread),
    };
    match number.parse() {
        Ok(number @ 1..) => Ok(choice(number)),
        _ => Err("expected all, every:K or a number of frames, from 1".to_owned()),
    }
}

/// The handling of long texts.
pub(crate) fn long_text() -> impl clap::builder::TypedValueParser<Value = LongText> {
    names(&[
        ("error", LongText::Error),
        ("truncate", LongText::Truncate),
        ("chunk-mean", LongText::ChunkMean),
        ("slide", LongText::Slide { stride: None }),
        ("best-chunk", LongText::BestChunk),
    ])
}

/// The score to rank by.
pub(crate) fn score() -> impl clap::builder::TypedValueParser<Value = Score> {
    names(&[
        ("softmax", Score::Softmax),
        ("cosine", Score::Cosine),
        ("logit", Score::Logit),
        ("sigmoid", Score::Sigmoid),
    ])
}

/// The formats of a summary: a table, or JSON.
pub(crate) const SUMMARY: &[(Format, &str)] = &[
    (Format::Table, "Aligned text"),
    (Format::Json, "All of it, indented"),
];

/// The formats of records.
pub(crate) const RECORDS: &[(Format, &str)] = &[
    (Format::Table, "Aligned text with bars"),
    (Format::Json, "One array of objects"),
    (Format::Jsonl, "One object per line"),
    (Format::Csv, "Comma-separated rows"),
    (Format::Tsv, "Tab-separated rows"),
    (
        Format::Parquet,
        "The rows of csv with types, for DuckDB and pandas",
    ),
    (Format::Paths, "The paths of images that a label fits"),
    (Format::LabelStudio, "Tasks with pre-annotations, to import"),
];

/// The output formats that a command accepts, and the help of each.
pub(crate) fn formats(
    accepted: &'static [(Format, &'static str)],
) -> impl clap::builder::TypedValueParser<Value = Format> {
    use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
    let value =
        |(format, help): &(Format, &'static str)| PossibleValue::new(format.name()).help(*help);
    let formats = move |name: String| {
        let found = accepted.iter().find(|(format, _)| format.name() == name);
        found
            .map(|(format, _)| *format)
            .ok_or("not one of the formats")
    };
    PossibleValuesParser::new(accepted.iter().map(value)).try_map(formats)
}

/// A count that a user sets, such as `--top-k`.
pub(crate) fn count() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..=65536)
}

/// A number of threads or images held at once. The limit is far more than is useful, and few enough
/// to start.
pub(crate) fn at_once() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..=1024)
}

/// A finite number.
pub(crate) fn finite(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err("expected a number".to_owned()),
    }
}

/// A number of bytes: a number, perhaps with a fraction, and K, M, G or T for powers of 1024.
pub(crate) fn memory(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => Some(1),
        "K" | "KB" | "KIB" => Some(1_u64 << 10),
        "M" | "MB" | "MIB" => Some(1 << 20),
        "G" | "GB" | "GIB" => Some(1 << 30),
        "T" | "TB" | "TIB" => Some(1 << 40),
        _ => None,
    };
    let number = digits.trim_end().parse::<f64>().ok();
    let bytes = number.zip(unit).map(|(number, unit)| number * unit as f64);
    // Any that a machine can have is exact.
    let sane = bytes.filter(|bytes| (1.0..1e15).contains(bytes));
    sane.map(|bytes| bytes as u64)
        .ok_or_else(|| "expected a size such as 500M or 2G".to_owned())
}

/// The column separator of a table.
pub(crate) fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !b"\"\r\n".contains(byte) => Ok(*byte),
        _ => Err("expected one character, such as ; or |, or the word tab".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_one_number_or_two() {
        let cases = [
            ("16", Some((Some(16), None))),
            ("16,20", Some((Some(16), Some(20)))),
            ("16, 8", Some((Some(16), Some(8)))),
            ("0", None),
            ("16,", None),
            (",16", None),
            ("16,8,4", None),
            ("1025", None),
            ("-1", None),
            ("many", None),
        ];
        for (typed, expected) in cases {
            let found = heads(typed).ok().map(|heads| (heads.image, heads.text));
            assert_eq!(found, expected, "{typed}");
        }
    }

    #[test]
    fn each_command_accepts_its_own_formats() {
        use clap::builder::TypedValueParser as _;
        let command = clap::Command::new("x");
        let parsed = |accepted, typed: &str| {
            let value = formats(accepted).parse_ref(&command, None, typed.as_ref());
            value.ok()
        };
        assert_eq!(parsed(SUMMARY, "table"), Some(Format::Table));
        assert_eq!(parsed(SUMMARY, "json"), Some(Format::Json));
        assert_eq!(parsed(SUMMARY, "csv"), None);
        assert_eq!(parsed(RECORDS, "csv"), Some(Format::Csv));
        assert_eq!(parsed(RECORDS, "label-studio"), Some(Format::LabelStudio));
        assert_eq!(parsed(RECORDS, "Table"), None);
    }

    #[test]
    fn sizes_are_numbers_with_a_unit() {
        let cases = [
            ("1", Some(1)),
            ("1500", Some(1500)),
            ("2G", Some(2 << 30)),
            ("1.5g", Some(3 << 29)),
            ("500 MB", Some(500 << 20)),
            ("3KiB", Some(3072)),
            ("1T", Some(1 << 40)),
            ("0", None),
            ("-1G", None),
            ("G", None),
            ("1GG", None),
            ("1e9", Some(1_000_000_000)),
            ("inf", None),
            ("nan", None),
            ("9999T", None),
            ("", None),
        ];
        for (typed, expected) in cases {
            assert_eq!(memory(typed).ok(), expected, "{typed:?}");
        }
    }

    #[test]
    fn a_delimiter_is_one_character() {
        let cases = [
            (";", Some(b';')),
            ("tab", Some(b'\t')),
            ("\\t", Some(b'\t')),
            ("\t", Some(b'\t')),
            ("\"", None),
            ("\n", None),
            ("ä", None),
            (",,", None),
            ("", None),
        ];
        for (typed, expected) in cases {
            assert_eq!(delimiter(typed).ok(), expected, "{typed:?}");
        }
    }
}
