//! Entry point: parses the arguments, runs the command, prints errors and sets the exit code.

use std::process::ExitCode;

use longclip::command;
use longclip::run::{Console, NotingAllocator, survive};

#[global_allocator]
static ALLOCATOR: NotingAllocator = NotingAllocator;

fn main() -> ExitCode {
    survive(run).unwrap_or_else(ExitCode::from)
}

fn run() -> ExitCode {
    let cli = match command::parse() {
        Ok(cli) => cli,
        Err(error) => return command::report(&error),
    };
    let console = Console::new(&cli.console);
    match command::run(cli, &console) {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            let code = command::exit_code_of(&error);
            if code != ExitCode::SUCCESS {
                console.fatal(&error);
            }
            code
        }
    }
}
