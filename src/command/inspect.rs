//! `longclip inspect`: describes a weight file and checks whether it loads.

use anyhow::Result;
use clap::Args;

use crate::checkpoint::inspect::{Inspection, inspect};
use crate::checkpoint::source;
use crate::output::Format;
use crate::output::table::TextTable;
use crate::run::flags::{HubArgs, SUMMARY, StatedArgs, formats};
use crate::run::results::print_report;
use crate::run::{Console, Outcome};

/// What only `--help` and the manual page say.
const DETAILS: &str = r#"What is printed:
  Sizes, attention heads, number types, NaN and infinities, the hash, the
  layout, and whatever keeps the file from loading. For a long text table,
  whether positions 20 and up are trained or only interpolated, as in
  conversions of Long-CLIP that lost its second table. --format json has all of
  it for scripts.

See longclip help models for the files that are read."#;

const NOTES: &str = "\
Examples:
  longclip inspect longclip-B.pt
  longclip inspect ./my-checkpoint --format json | jq .positions

Exit status: 0 the model loads, 1 it does not (whatever could be read is still printed).";

/// The arguments of `longclip inspect`.
#[derive(Debug, Args)]
#[command(after_help = NOTES, after_long_help = format!("{DETAILS}\n\n{NOTES}"))]
pub struct InspectArgs {
    /// As `--model` takes it.
    #[arg(help = "File, folder, model name, or repository OWNER/REPO[@REV][:FILE]")]
    #[arg(value_name = "FILE|NAME")]
    model: String,
    /// Output format [default: table on a terminal, else json]
    #[arg(short, long, value_name = "FORMAT", value_parser = formats(SUMMARY))]
    format: Option<Format>,
    /// Properties that the files may not specify.
    #[command(flatten)]
    stated: StatedArgs,
    /// Whether it may be downloaded.
    #[command(flatten)]
    hub: HubArgs,
}

/// Prints a description of a weight file.
///
/// # Errors
/// When the file does not exist, or stdout cannot be written.
pub fn run(args: &InspectArgs, console: &Console) -> Result<Outcome> {
    let source = source::resolve(&args.model, &args.hub.settings(), console)?;
    let found = inspect(&source, &args.stated.stated());
    print_report(&found, args.format, table)?;
    Ok(if found.loads {
        Outcome::Answered
    } else {
        Outcome::SomeFailed
    })
}

/// Aligned lines, without what is unknown.
fn table(found: &Inspection) -> String {
    let mut table = TextTable::of_facts();
    let mut line = |name: &str, value: Option<String>| table.fact(name, &value.unwrap_or_default());
    line("model", Some(found.model.clone()));
    for file in &found.files {
        line("file", Some(file.display().to_string()));
    }
    line("container", found.container.map(str::to_owned));
    line("layout", found.layout.map(str::to_owned));
    line("architecture", found.architecture.clone());
    line(
        "context",
        found.context_length.map(|n| format!("{n} tokens")),
    );
    line("positions", found.positions.clone());
    let pixels = found.image_size.map(|side| match found.patch_size {
        Some(patch) => format!("{side} x {side} pixels in patches of {patch}"),
        None => format!("{side} x {side} pixels"),
    });
    line("input", pixels);
    line(
        "embedding",
        found.embed_dim.map(|n| format!("{n} features")),
    );
    let activation = found.activation.as_ref().map(|name| {
        let source = found.activation_source.as_deref().unwrap_or("unknown");
        format!("{name} ({source})")
    });
    line("activation", activation);
    line("heads", found.heads.as_ref().map(ToString::to_string));
    let kinds = found.dtypes.iter();
    let kinds: Vec<String> = kinds.map(|(kind, n)| format!("{n} {kind}")).collect();
    line("tensors", Some(kinds.join(", ")));
    let parameters = &found.parameters;
    let millions = |n: u64| format!("{:.1} M", n as f64 / 1e6);
    let (image, text) = (millions(parameters.image), millions(parameters.text));
    let has_any = parameters.image + parameters.text > 0;
    line(
        "parameters",
        has_any.then(|| format!("{image} image, {text} text")),
    );
    line("logit scale", found.logit_scale.map(|s| format!("{s:.4}")));
    line("missing", Some(shortened(&found.missing)));
    line("unexpected", Some(shortened(&found.unexpected)));
    line("misshapen", Some(shortened(&found.misshapen)));
    let bad = (found.non_finite > 0).then(|| format!("{} numbers", found.non_finite));
    line("NaN, infinite", bad);
    for (key, value) in &found.metadata {
        line("header", Some(format!("{key}: {value}")));
    }
    line("sha256", found.sha256.clone());
    for warning in &found.warnings {
        line("warning", Some(warning.clone()));
    }
    let loads = if found.loads { "yes" } else { "no" };
    line("loads", Some(loads.to_owned()));
    line("error", found.error.clone());
    table.plain()
}

/// The first few of a list.
fn shortened(list: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = list.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    match list.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
