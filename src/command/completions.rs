//! `longclip completions`: prints shell completion scripts.

use std::io::Write as _;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::command::Cli;
use crate::run::Outcome;

const EXAMPLES: &str = "\
Examples:
  bash         longclip completions bash > ~/.local/share/bash-completion/completions/longclip
  zsh          longclip completions zsh > ~/.zfunc/_longclip, in a folder of $fpath
  fish         longclip completions fish > ~/.config/fish/completions/longclip.fish
  elvish       longclip completions elvish >> ~/.config/elvish/rc.elv
  powershell   longclip completions powershell >> $PROFILE

Exit status: 0 success, 2 unknown shell.";

/// The arguments of `longclip completions`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// Shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(args: &CompletionsArgs) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "longclip", &mut script);
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(&script).and_then(|()| stdout.flush());
    written.context("cannot write the script to stdout")?;
    Ok(Outcome::Answered)
}
