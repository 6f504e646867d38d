//! `longclip models`: lists, downloads, verifies and removes models.

mod list;
mod pull;
mod rm;
mod verify;

use std::path::Path;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::checkpoint::hub;
use crate::run::results::print;
use crate::run::{Console, Outcome};

/// What only `--help` and the manual page say.
const DETAILS: &str = r#"What --model takes, in every command:
  A name from models list; OWNER/REPO[@REVISION][:FILE] of the hub
  (hf-hub:OWNER/REPO and the address of a page mean the same); a file; or a
  folder, including timm's (open_clip's weights are taken) and
  sentence-transformers'. The default is LONGCLIP_MODEL, else longclip-b.

Containers:
  safetensors (memory-mapped, sharded too) and PyTorch .pt or .bin: state dicts
  in pickle protocols 2 to 5, nested ones, TorchScript archives, and the format
  before zip. Nothing in a pickle is ever executed.

Tensors:
  The names of Hugging Face, openai/CLIP, open_clip (also with its text.
  prefix), Long-CLIP in both namings (its two positional tables become one) and
  GmP fine-tunes (r and theta), under any prefix that all names share. Vision
  transformers of any size, and the ResNets of openai/CLIP and open_clip (RN50,
  RN101, RN50x4, RN50x16, RN50x64). Sizes come from the tensors; for the
  context length they override config.json, with a warning. A missing, unused,
  misshapen or non-finite tensor is an error that names it.

Configuration files:
  Every key of config.json, open_clip_config.json, preprocessor_config.json,
  processor_config.json and tokenizer_config.json next to the weights is
  honoured, cannot change an embedding, or is refused with file, key and value;
  unknown keys are a warning. Weights named open_clip_* are described by
  open_clip's file, others by transformers'. Mean and standard deviation,
  resizing (bicubic or bilinear) to the shortest edge or to a given size, a crop
  from a larger image, and LayerNorm epsilons are computed; any other
  interpolation, pooling, attention mask or tokenizer is refused, and so is a
  folder whose vocabulary is not CLIP's.

What files leave open:
  --activation quick_gelu|gelu is for files that do not specify it; a bare file
  with OpenAI's names is taken as quick_gelu, with a warning unless it is
  certainly OpenAI's or Long-CLIP's. --heads IMAGE[,TEXT] is for attention
  heads that no configuration states; bare files of the published widths get
  the published number, narrower ones heads of 64 features with a warning, and
  others are refused. The logit_bias of sigmoid-trained models is added by
  --score sigmoid, unless a none label is given.

Downloads:
  HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE (or
  TRANSFORMERS_OFFLINE) and proxy variables are honoured; --offline (or
  LONGCLIP_OFFLINE) forbids the network too. A cached model causes no network
  traffic. Downloads resume, and their length and the hash that the
  hub states are checked before they are used. One that comes slower than 1 KB/s
  for a minute is given up after a second try (status 75). Redirects into your
  own network are refused, unless the hub is there. A memory-mapped weight file
  that another program rewrites while it is loaded is refused; one that is
  truncated at that moment ends the process (SIGBUS).

Memory:
  A model that needs more memory than the machine, a container or ulimit allows
  is refused before it is read (status 2); where memory or threads run out later
  on, the status is 75."#;

const EXAMPLES: &str = "\
Examples:
  longclip models list
  longclip models pull longclip-l clip-vit-b-32
  cp \"$(longclip models path longclip-b)\" /mnt/usb/
  longclip models verify
  longclip models rm longclip-l

Downloads are stored in the hub's cache, which is shared with Python tools: HF_HUB_CACHE, or hub
inside HF_HOME, else ~/.cache/huggingface/hub.

Exit status: 0 success, 1 some models failed or a file is damaged, 2 all failed, 75 temporary
failure, try again.";

/// The arguments of `longclip models`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{DETAILS}\n\n{EXAMPLES}"))]
pub struct ModelsArgs {
    #[command(subcommand)]
    command: ModelsCommand,
}

/// The subcommands of `longclip models`.
#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// List known models, and those on this machine
    List(list::ListArgs),
    /// Download models for offline use
    Pull(pull::PullArgs),
    /// Print the paths of a model's weights, without using the network
    Path(pull::PathArgs),
    /// Remove downloaded models from the cache
    Rm(rm::RmArgs),
    /// Verify downloaded files against the hub's hashes
    Verify(verify::VerifyArgs),
}

/// Runs a subcommand.
///
/// # Errors
/// When it cannot run at all, or the only model fails.
pub fn run(args: ModelsArgs, console: &Console) -> Result<Outcome> {
    let settings = hub::Settings::from_env();
    match args.command {
        ModelsCommand::List(args) => list::run(&args, &settings),
        ModelsCommand::Pull(args) => pull::run(&args, console),
        ModelsCommand::Path(args) => pull::print_path(&args, &settings),
        ModelsCommand::Rm(args) => rm::run(&args, &settings, console),
        ModelsCommand::Verify(args) => verify::run(&args, &settings, console),
    }
}

/// Counts of models that succeeded and failed.
#[derive(Default)]
struct Tally {
    done: usize,
    failed: usize,
    worth_retrying: bool,
}

impl Tally {
    /// Counts one model; reports an error on stderr.
    fn add(&mut self, name: &str, outcome: Result<()>, console: &Console) {
        match outcome {
            Ok(()) => self.done += 1,
            Err(error) => {
                self.failed += 1;
                self.worth_retrying |= hub::is_worth_retrying(&error);
                console.failed(name, &format!("{error:#}"));
            }
        }
    }

    fn outcome(&self) -> Outcome {
        match (self.done, self.failed) {
            (_, 0) => Outcome::Answered,
            (0, _) if self.worth_retrying => Outcome::TryLater,
            (0, _) => Outcome::NoneRead,
            _ => Outcome::SomeFailed,
        }
    }
}

/// Runs `one` on each model and prints the results. The error of a single model is that of the run;
/// errors of several are reported, and the other models are still tried.
fn each(
    names: &[String],
    console: &Console,
    mut act: impl FnMut(&str) -> Result<Vec<u8>>,
) -> Result<Outcome> {
    if let [name] = names {
        print(&act(name)?)?;
        return Ok(Outcome::Answered);
    }
    let mut tally = Tally::default();
    for name in names {
        let printed = act(name);
        if let Ok(bytes) = &printed {
            print(bytes)?;
        }
        tally.add(name, printed.map(drop), console);
    }
    Ok(tally.outcome())
}

/// Paths, one per line, byte for byte.
fn lines<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Vec<u8> {
    let mut lines = Vec::new();
    for path in paths {
        lines.extend_from_slice(path.as_os_str().as_encoded_bytes());
        lines.push(b'\n');
    }
    lines
}

/// A size such as `599 MB`: three significant digits, powers of 1000.
fn size(bytes: u64) -> String {
    let mut amount = bytes as f64;
    let mut unit = "bytes";
    for larger in ["kB", "MB", "GB", "TB"] {
        if amount < 999.5 {
            break;
        }
        amount /= 1000.0;
        unit = larger;
    }
    let digits = match amount {
        _ if unit == "bytes" => 0,
        small if small < 9.995 => 2,
        small if small < 99.95 => 1,
        _ => 0,
    };
    format!("{amount:.digits$} {unit}")
}

/// A name quoted for a shell if needed.
fn typed(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./@:".contains(c);
    if name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("{name:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_significant_digits() {
        let cases = [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1_000, "1.00 kB"),
            (9_994, "9.99 kB"),
            (9_996, "10.0 kB"),
            (599_000_000, "599 MB"),
            (999_600_000, "1.00 GB"),
            (1_712_000_000, "1.71 GB"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn the_exit_status_depends_on_all_outcomes() {
        let cases = [
            (2, 0, false, Outcome::Answered),
            (0, 0, false, Outcome::Answered),
            (1, 1, true, Outcome::SomeFailed),
            (0, 2, false, Outcome::NoneRead),
            (0, 2, true, Outcome::TryLater),
        ];
        for (done, failed, worth_retrying, expected) in cases {
            let tally = Tally {
                done,
                failed,
                worth_retrying,
            };
            assert_eq!(tally.outcome(), expected, "{done} {failed}");
        }
    }
}
