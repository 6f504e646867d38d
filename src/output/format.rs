//! The names and suffixes of formats.

/// The output formats; each command accepts some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people: aligned, with bars.
    Table,
    /// One array of objects, or one object.
    Json,
    /// One object per line.
    Jsonl,
    /// Comma-separated, one row per prediction or hit.
    Csv,
    /// The same, tab-separated.
    Tsv,
    /// Only the paths, of hits or of images that a label fits, for other programs.
    Paths,
    /// Apache Parquet, one row per prediction.
    Parquet,
    /// Tasks of Label Studio with pre-annotations.
    LabelStudio,
    /// Annotations of GitHub Actions, for images with a known label.
    Github,
}

impl Format {
    /// The formats by file suffix, which records and hits can have.
    pub(crate) const SUFFIXES: &[(&str, Self)] = &[
        ("json", Self::Json),
        ("jsonl", Self::Jsonl),
        ("ndjson", Self::Jsonl),
        ("csv", Self::Csv),
        ("tsv", Self::Tsv),
    ];

    /// Those of records.
    pub(crate) const RECORD_SUFFIXES: &[(&str, Self)] = &[
        ("json", Self::Json),
        ("jsonl", Self::Jsonl),
        ("ndjson", Self::Jsonl),
        ("csv", Self::Csv),
        ("tsv", Self::Tsv),
        ("parquet", Self::Parquet),
    ];

    /// Its name on the command line.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Paths => "paths",
            Self::Parquet => "parquet",
            Self::LabelStudio => "label-studio",
            Self::Github => "github",
        }
    }

    /// Whether it has rows of delimited fields, to which [`super::Extras`] apply.
    #[must_use]
    pub(crate) fn is_csv(self) -> bool {
        matches!(self, Self::Csv | Self::Tsv)
    }
}
