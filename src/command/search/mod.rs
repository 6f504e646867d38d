//! `longclip search`
use super::{Console, Outcome};
use clap::Args;
/// x
#[derive(Debug, Args)]
pub struct SearchArgs {}
/// x
pub fn run(_args: SearchArgs, _console: &Console) -> anyhow::Result<Outcome> {
    Ok(Outcome::Answered)
}
