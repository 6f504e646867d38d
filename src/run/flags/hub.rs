//! Whether the hub of models may be asked.

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::checkpoint::hub::Settings;

/// Whether the hub of models may be asked.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct HubArgs {
    /// Use models on this machine only, never the network
    #[arg(long, env = "LONGCLIP_OFFLINE", value_parser = BoolishValueParser::new())]
    offline: bool,
}

impl HubArgs {
    /// The settings of the environment, without the network if the flag says so.
    #[must_use]
    pub(crate) fn settings(self) -> Settings {
        let mut settings = Settings::from_env();
        settings.offline |= self.offline;
        settings
    }
}
