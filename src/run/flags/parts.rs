//! How many processes share one input.

use clap::Args;

use crate::run::parts::{Division, Share, ShareChoice, share};

/// Units without the flag.
const USUAL_SIZE: u64 = 10_000;

/// Which part of the input a process answers.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Sharing")]
pub(crate) struct PartArgs {
    /// Answer share I of N only, from 0/N; auto: as the job array says (auto/N: of N)
    ///
    /// The input is divided into units: an archive, or a block of --part-size images. Share I answers the units
    /// I, I + N, I + 2N, …. auto reads the variables of Slurm (SLURM_ARRAY_TASK_ID and others) and
    /// AWS Batch (AWS_BATCH_JOB_ARRAY_INDEX and _SIZE); auto/N states the number of shares, as for
    /// Kubernetes (JOB_COMPLETION_INDEX), and takes the index, from 0, as it is.
    #[arg(long, value_name = "I/N|auto", value_parser = share)]
    pub shard: Option<ShareChoice>,
    /// Images per unit; each unit is a part of -o DIR/ [default: 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub part_size: Option<u64>,
}

impl PartArgs {
    /// The division asked for, if the process answers a share or writes parts.
    ///
    /// # Errors
    /// When the scheduler does not state the share, or there is nothing to divide.
    pub(crate) fn division(&self, has_parts: bool) -> anyhow::Result<Option<Division>> {
        let variable = |name: &str| std::env::var(name).ok();
        let share = self
            .shard
            .map(|choice| choice.share(variable))
            .transpose()?;
        if share.is_none() && !has_parts {
            anyhow::ensure!(
                self.part_size.is_none(),
                "--part-size is about --shard and the parts of -o DIR/; add one, or drop it"
            );
            return Ok(None);
        }
        Ok(Some(Division {
            share: share.unwrap_or(Share::ALL),
            part_size: self.part_size.unwrap_or(USUAL_SIZE),
        }))
    }
}
