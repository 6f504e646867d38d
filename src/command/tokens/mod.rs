//! `longclip tokens`: shows how texts are tokenised, and whether they fit a model's context.

mod report;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::checkpoint::source::{ALIASES, ModelSource, Presence};
use crate::checkpoint::{Checkpoint, hub, source};
use crate::input::text_file::Line;
use crate::output::Format;
use crate::run::flags::formats;
use crate::run::results::Destination;
use crate::run::texts::lines;
use crate::run::{Console, Outcome};
use report::{Contexts, TokenisedText, TokensWriter};

/// What only `--help` and the manual page say.
const DETAILS: &str = r#"What is printed:
    $ longclip tokens "It’s a CAT &amp; a dog"
    "It’s a CAT &amp; a dog"
      cleaned  "it's a cat & a dog"  (entities, quotes, case)
      tokens   9
      of 77    fits, 68 left
      of 248   fits, 239 left
      pieces   <|startoftext|>  it</w>  's</w>  a</w>  cat</w>  &</w>  a</w>
      ids      49406            585     568     320    2368     261    320
      pieces   dog</w>  <|endoftext|>
      ids      1929     49407
  What cleaning changed, the tokens with their ids, whether the text fits, and
  where it would be cut; JSON also has all that would be cut off. Cleaning and
  tokens are those of openai/CLIP with ftfy 6.3.1; a literal <|endoftext|> ends
  the text, as there. Nothing is downloaded."#;

const NOTES: &str = "\
Examples:
  longclip tokens \"a photo of a cat\"
  longclip tokens --model longclip-b --file captions.txt --format jsonl > tokens.jsonl
  longclip tokens --context 77 -- \"-20 °C outside\"
  cut -f2 captions.tsv | longclip tokens --file - | jq 'select(.contexts[0].fits | not) | .text'

A piece is the text of a token: </w> ends a word, \\xNN is one byte of a character that is split
over several tokens. Every text starts with <|startoftext|> and ends with <|endoftext|>, and both
count.

Exit status: 0 every text was shown, including those that do not fit; 1 some lines are not text; 2
could not run.";

/// The arguments of `longclip tokens`.
#[derive(Debug, Args)]
#[command(after_help = NOTES, after_long_help = format!("{DETAILS}\n\n{NOTES}"))]
pub struct TokensArgs {
    /// Texts to tokenise
    #[arg(value_name = "TEXT", conflicts_with = "file")]
    texts: Vec<String>,
    /// Read texts from a file, or - for stdin, one per line, unchanged
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Model whose context to use; it is never downloaded
    ///
    /// By default LONGCLIP_MODEL if it is cached, else the contexts of all named models.
    #[arg(short, long, value_name = "MODEL", conflicts_with = "context")]
    model: Option<String>,
    /// Context length to use instead: tokens including start and end
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=1 << 20))]
    context: Option<u64>,
    /// Output format [default: table on a terminal, else jsonl]
    #[arg(short, long, value_name = "FORMAT", value_parser = formats(FORMATS))]
    format: Option<Format>,
}

/// The output formats.
const FORMATS: &[(Format, &str)] = &[
    (Format::Table, "Aligned text"),
    (Format::Json, "One JSON array"),
    (Format::Jsonl, "One JSON object per line"),
];

/// Shows the tokens of each text.
///
/// # Errors
/// When there is no text, the file cannot be read, or the model is not on this machine.
pub fn run(args: &TokensArgs, console: &Console) -> Result<Outcome> {
    if args.texts.is_empty() && args.file.is_none() {
        bail!("no text given; pass TEXT…, or --file FILE with one text per line (- for stdin)");
    }
    let lines = args.file.as_deref().map(lines).transpose()?;
    let place = |line| match &args.file {
        Some(file) => format!("{}, line {line}", file.display()),
        None => format!("text {line}"),
    };
    let contexts = contexts(args, console)?;
    let stdout = Destination::stdout();
    let format = stdout.usual(args.format, Format::Jsonl);
    let mut report = TokensWriter::new(format, stdout.terminal(console));
    let mut failed = 0;
    let mut shown = 0;
    let texts = (1..).zip(args.texts.iter().cloned());
    let texts = texts.map(|(number, text)| Line::of(number, text));
    for line in texts.chain(lines.into_iter().flatten()) {
        if let (Some(guess), Some(file)) = (line.guess, &args.file) {
            console.note(&format!("{}: {guess}", file.display()));
        }
        match line.text() {
            Ok(text) => {
                shown += 1;
                report.write(&TokenisedText::new(text, &contexts)?)?;
            }
            Err(error) => {
                failed += 1;
                console.failed(&place(error.line), &error.cause);
                report.write(&TokenisedText::failed(error))?;
            }
        }
    }
    report.finish()?;
    Ok(match (shown, failed) {
        (0, 0) => {
            console.note("no texts: the file is empty");
            Outcome::Answered
        }
        (_, 0) => Outcome::Answered,
        (0, _) => Outcome::NoneRead,
        _ => Outcome::SomeFailed,
    })
}

/// The contexts that texts are checked against.
fn contexts(args: &TokensArgs, console: &Console) -> Result<Contexts> {
    if let Some(context) = args.context {
        return Ok(Contexts::without_model(vec![usize::try_from(context)?]));
    }
    let settings = hub::Settings::from_env();
    if let Some(model) = &args.model {
        return match on_this_machine(source::presence(model, &settings)?) {
            Some(source) => of_model(model, &source, console),
            None => bail!(
                "{model} is not cached, and longclip tokens does not download models; run \
                 `longclip models pull {model}`, or pass --context N"
            ),
        };
    }
    let model = std::env::var("LONGCLIP_MODEL").unwrap_or_default();
    if !model.is_empty() {
        let presence = source::presence(&model, &settings).unwrap_or(Presence::Absent);
        if let Some(source) = on_this_machine(presence) {
            return of_model(&model, &source, console);
        }
        console.note(&format!(
            "LONGCLIP_MODEL is {model}, which is not on this machine; showing the contexts of all \
             named models"
        ));
    }
    let mut all: Vec<usize> = ALIASES.iter().map(|alias| alias.context_length).collect();
    all.sort_unstable();
    all.dedup();
    Ok(Contexts::without_model(all))
}

fn on_this_machine(presence: Presence) -> Option<ModelSource> {
    match presence {
        Presence::BuiltIn => Some(ModelSource::BuiltIn),
        Presence::Local(files) | Presence::Cached { files, .. } => Some(ModelSource::Files(files)),
        Presence::Begun | Presence::Absent => None,
    }
}

fn of_model(model: &str, source: &ModelSource, console: &Console) -> Result<Contexts> {
    let (architecture, warnings) = Checkpoint::sizes(source)?;
    for warning in &warnings {
        console.warn(warning);
    }
    Ok(Contexts {
        model: Some(model.to_owned()),
        lengths: vec![architecture.context_length],
    })
}
