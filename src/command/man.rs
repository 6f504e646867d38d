//! `longclip man`: the manual pages, from the same definitions as `--help`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;

use crate::command::Cli;
use crate::run::{Console, Outcome};

const EXAMPLES: &str = "\
Examples:
  longclip man | man -l -
  longclip man classify | man -l -
  longclip man --out ~/.local/share/man/man1

Exit status: 0 success, 2 there is no such command, or the pages cannot be written.";

/// The arguments of `longclip man`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ManArgs {
    /// Command whose page to print, such as models pull [default: longclip]
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    commands: Vec<String>,
    /// Write all pages into this folder instead
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints or writes manual pages.
///
/// # Errors
/// When there is no such command, or the pages cannot be written.
pub fn run(args: &ManArgs, console: &Console) -> Result<Outcome> {
    let mut program = Cli::command();
    program.build();
    if let Some(folder) = &args.out {
        let count = write_all(&program, folder)?;
        console.note(&format!("wrote {count} pages to {}", folder.display()));
        return Ok(Outcome::Answered);
    }
    let mut command = &program;
    for name in &args.commands {
        let Some(inner) = command.find_subcommand(name) else {
            bail!(
                "there is no command {:?}; run longclip --help for a list",
                args.commands.join(" ")
            );
        };
        command = inner;
    }
    let page = page(command)?;
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(&page).and_then(|()| stdout.flush());
    written.context("cannot write the page to stdout")?;
    Ok(Outcome::Answered)
}

/// Writes `longclip.1`, `longclip-classify.1`, …; returns how many.
fn write_all(command: &Command, folder: &Path) -> Result<usize> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let path = folder.join(format!("{}.1", file_name(command)));
    fs::write(&path, page(command)?).with_context(|| format!("cannot write {}", path.display()))?;
    let mut count = 1;
    for inner in documented(command) {
        count += write_all(inner, folder)?;
    }
    Ok(count)
}

/// The subcommands except `help`.
fn documented(command: &Command) -> impl Iterator<Item = &Command> {
    let inner = command.get_subcommands();
    inner.filter(|inner| inner.get_name() != "help" && !inner.is_hide_set())
}

/// The page's name as man takes it: `longclip-models-pull`.
fn file_name(command: &Command) -> String {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    name.replace(' ', "-")
}

fn page(command: &Command) -> Result<Vec<u8>> {
    // No date: it would change with every build.
    let man = Man::new(command.clone())
        .title(file_name(command).to_uppercase())
        .section("1")
        .manual("longclip");
    let mut page = Vec::new();
    man.render(&mut page)?;
    let page = String::from_utf8(page)?;
    let page = match page.split_once(".SH EXTRA\n") {
        Some((flags, notes)) => format!("{flags}.SH NOTES\n{}", sections(notes)),
        None => page,
    };
    Ok(plain(&page).into_bytes())
}

/// The notes with the prose of each section, which is indented by two spaces, as paragraphs that
/// man fills. Lines of a section that are indented by more are a table, and stay as they are.
fn sections(notes: &str) -> String {
    let mut text = String::with_capacity(notes.len());
    let mut lines = notes.lines().peekable();
    let (mut in_section, mut in_table) = (false, false);
    while let Some(line) = lines.next() {
        let is_heading = line.ends_with(':') && !line.starts_with([' ', '.']);
        let is_followed = lines.peek().is_some_and(|next| next.starts_with("  "));
        if is_heading && is_followed && line != "Examples:" {
            in_section = true;
            text.push_str(&format!("\\fB{line}\\fR\n.RS 2\n"));
            continue;
        }
        let inner = line.strip_prefix("  ").filter(|_| in_section);
        let is_table = inner.is_some_and(|inner| inner.starts_with(' '));
        if is_table != in_table {
            in_table = is_table;
            text.push_str(if is_table { ".nf\n" } else { ".fi\n" });
        }
        if in_section && line.is_empty() {
            in_section = false;
            text.push_str(".RE\n");
        }
        // A line that begins with a dot would be a request to roff.
        let escaped = inner.filter(|inner| inner.starts_with('.'));
        text.push_str(if escaped.is_some() { "\\&" } else { "" });
        text.push_str(inner.unwrap_or(line));
        text.push('\n');
    }
    text
}

/// In ASCII, with other characters as roff names them: it takes no UTF-8 unless told to.
fn plain(page: &str) -> String {
    let mut plain = String::with_capacity(page.len());
    for c in page.chars() {
        if c.is_ascii() {
            plain.push(c);
        } else {
            plain.push_str(&format!("\\[u{:04X}]", u32::from(c)));
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All commands with their full names.
    fn all(command: &Command, found: &mut Vec<Command>) {
        found.push(command.clone());
        for inner in documented(command) {
            all(inner, found);
        }
    }

    #[test]
    fn prose_of_sections_is_filled_and_tables_and_examples_are_not() {
        let notes = "\
Files:
  One
  two:
    a  1
  .three

Examples:
  longclip

End:";
        let expected = "\
\\fBFiles:\\fR
.RS 2
One
two:
.nf
  a  1
.fi
\\&.three
.RE

Examples:
  longclip

End:
";
        assert_eq!(sections(notes), expected);
    }

    #[test]
    fn the_help_of_every_command_has_examples_and_tells_the_exit_status() {
        let mut program = Cli::command();
        program.build();
        let mut commands = Vec::new();
        all(&program, &mut commands);
        assert!(commands.len() > 12);
        for command in &mut commands {
            let help = command.render_long_help().to_string();
            for part in ["\nExamples:\n  ", "\nExit status: 0 "] {
                assert!(help.contains(part), "{part:?} in {help}");
            }
        }
    }
}
