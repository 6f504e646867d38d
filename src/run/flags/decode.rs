//! How images are read.

use clap::Args;

use super::value::{alpha, memory};
use crate::input::image::{Alpha, DecodeOptions, MemoryBudget};

/// One budget, however often the flags are asked for it.
fn budget(text: &str) -> Result<MemoryBudget, String> {
    memory(text).map(MemoryBudget::new)
}

/// How images are read.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Image decoding")]
pub(crate) struct DecodeArgs {
    /// Refuse images with more than N pixels, before decoding them
    #[arg(long, value_name = "N", default_value_t = 200_000_000)]
    pub max_pixels: u64,
    /// Memory for decoding images, such as 2G [default: a quarter of the machine's]
    ///
    /// All threads share it, and images wait for one another; one that needs more alone is an error.
    /// If a container (cgroup) or ulimit -v allows less than the machine has, the default is a
    /// quarter of that. Files being read may take a quarter of this in addition, or one larger
    /// file alone.
    #[arg(long, value_name = "SIZE", value_parser = budget)]
    pub max_memory: Option<MemoryBudget>,
    /// Ignore EXIF orientation
    #[arg(long)]
    pub no_orient: bool,
    /// Background of transparent pixels; drop ignores transparency
    #[arg(long, value_name = "HOW", default_value = "white", value_parser = alpha())]
    pub alpha: Alpha,
    /// Treat a damaged or truncated image as an error
    #[arg(long)]
    pub strict: bool,
}

impl DecodeArgs {
    /// Converts to the type that the decoder takes.
    #[must_use]
    pub(crate) fn options(&self) -> DecodeOptions {
        DecodeOptions {
            max_pixels: self.max_pixels,
            orient: !self.no_orient,
            alpha: self.alpha,
            strict: self.strict,
            memory: self.max_memory.clone().unwrap_or_default(),
            reduce_to: None,
        }
    }
}
