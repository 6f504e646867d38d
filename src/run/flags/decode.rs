//! How images are read.

use clap::Args;

use super::value::{alpha, frames, memory};
use crate::input::image::{Alpha, DecodeOptions, FrameChoice, MemoryBudget};

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
    /// file alone. The animation or video that --frames reads keeps its file and canvas on top.
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

/// Which frames of animations and videos are read.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Image decoding")]
pub(crate) struct FrameArgs {
    /// Frames of animations and videos: all, every:K or N spread evenly [default: first]
    ///
    /// A record per frame. every:K takes the frames 0, K, 2K, …; N takes the middle frames of N
    /// equal parts: (2i + 1) x frames / 2N, rounded down, for i = 0 to N - 1. Other images have one
    /// record without a frame, except binary PNM on stdin: a stream of one is a frame too.
    #[arg(long, value_name = "WHICH", value_parser = frames)]
    pub frames: Option<FrameChoice>,
    /// One record per animation or video, of the mean embedding of its frames
    #[arg(long, requires = "frames")]
    pub frames_mean: bool,
}

impl FrameArgs {
    /// Whether a file may have more than one record.
    #[must_use]
    pub(crate) fn are_single(&self) -> bool {
        self.frames.is_some() && !self.frames_mean
    }

    /// What embeddings depend on, as text: nothing without the flag.
    #[must_use]
    pub(crate) fn settings(&self) -> String {
        let mean = if self.frames_mean { ",mean" } else { "" };
        match self.frames {
            None => String::new(),
            Some(FrameChoice::All) => format!(" frames=all{mean}"),
            Some(FrameChoice::Every(step)) => format!(" frames=every:{step}{mean}"),
            Some(FrameChoice::Spread(count)) => format!(" frames={count}{mean}"),
        }
    }
}
