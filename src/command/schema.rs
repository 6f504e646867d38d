//! `longclip schema`: prints the JSON Schemas of records and written files.

use anyhow::{Context as _, Result};
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::Value;

use crate::output::table::{Column, TextTable};
use crate::run::Outcome;
use crate::run::results::to_stdout;

macro_rules! schemas {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../assets/schema/", $name, ".json")))),*]
    };
}

/// Each schema by its name; `tests/cli/schema.rs` holds real results against them.
const SCHEMAS: [(&str, &str); 22] = schemas![
    "record",
    "hits",
    "embedding",
    "evaluation",
    "retrieval",
    "calibration",
    "explanation",
    "probe",
    "tokens",
    "models",
    "verified",
    "inspection",
    "bench",
    "training-log",
    "sorted",
    "xmp",
    "label-studio",
    "summary",
    "parts-run",
    "part",
    "units",
    "shift",
];

const EXAMPLES: &str = "\
Examples:
  longclip schema
  longclip schema record > record.schema.json

Keys are added, but neither renamed nor removed. The schemas list all keys of this version.

Exit status: 0 success, 2 unknown name.";

/// The arguments of `longclip schema`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SchemaArgs {
    /// Name of the schema [default: list all]
    #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(SCHEMAS.map(|(name, _)| name)))]
    name: Option<String>,
}

/// Prints a schema, or the names of all.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(args: &SchemaArgs) -> Result<Outcome> {
    let asked = SCHEMAS
        .iter()
        .find(|(name, _)| args.name.as_deref() == Some(name));
    match asked {
        Some((_, schema)) => to_stdout(schema)?,
        None => to_stdout(&list()?)?,
    }
    Ok(Outcome::Answered)
}

fn list() -> Result<String> {
    let mut table = TextTable::new([Column::LEFT, Column::LEFT]);
    for (name, schema) in SCHEMAS {
        let schema: Value = serde_json::from_str(schema)?;
        let description = schema["description"].as_str();
        table.row([name, description.context("a schema lacks a description")?]);
    }
    Ok(table.plain())
}
