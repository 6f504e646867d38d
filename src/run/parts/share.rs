//! `--shard`: which of the units of the input a process answers, as stated or as the scheduler of
//! the job says.

use std::fmt;

use anyhow::{Context as _, Result, bail, ensure};

/// The units whose number leaves `index` when divided by `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    index: u64,
    count: u64,
}

impl Share {
    /// All units.
    pub(crate) const ALL: Self = Self { index: 0, count: 1 };

    /// Share `index`, from 0, of `count`.
    fn new(index: u64, count: u64) -> Result<Self> {
        ensure!(count > 0, "there is no share of 0");
        ensure!(
            index < count,
            "there is no share {index}/{count}: shares are counted from 0, so the last one of \
             {count} is {}/{count}",
            count - 1
        );
        Ok(Self { index, count })
    }

    /// Whether a unit belongs to it.
    pub(crate) fn has(self, unit: u64) -> bool {
        unit % self.count == self.index
    }

    /// How many shares there are.
    pub(super) fn count(self) -> u64 {
        self.count
    }

    /// The share of as many that a unit belongs to.
    pub(super) fn of(self, unit: u64) -> Self {
        Self {
            index: unit % self.count,
            ..self
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.index, self.count)
    }
}

impl std::str::FromStr for Share {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once('/').map(|(index, count)| {
            // Parsing accepts a sign.
            let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
                true => text.parse().ok(),
                false => None,
            };
            number(index).zip(number(count))
        });
        match numbers.flatten() {
            Some((index, count)) => Self::new(index, count),
            None => bail!("expected I/N, such as 0/4, or auto, or auto/N"),
        }
    }
}

/// The value of `--shard`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShareChoice {
    /// `I/N`.
    Stated(Share),
    /// `auto`: the index and the number of tasks that the scheduler states.
    Auto,
    /// `auto/N`: the index that the scheduler states, of N.
    AutoOf(u64),
}

/// Parses the value of `--shard`.
pub(crate) fn share(text: &str) -> Result<ShareChoice, String> {
    match text.strip_prefix("auto") {
        Some("") => Ok(ShareChoice::Auto),
        Some(rest) => {
            // As the last of N, which checks N.
            let share = format!("0{rest}").parse::<Share>();
            let share = share.map_err(|error| error.to_string())?;
            Ok(ShareChoice::AutoOf(share.count))
        }
        None => match text.parse() {
            Ok(share) => Ok(ShareChoice::Stated(share)),
            Err(error) => Err(error.to_string()),
        },
    }
}

impl ShareChoice {
    /// The share, by the variables that `variable` returns.
    ///
    /// # Errors
    /// When no scheduler states an index or two do, or it is not one of the shares.
    pub(crate) fn share(self, variable: impl Fn(&str) -> Option<String>) -> Result<Share> {
        let count = match self {
            Self::Stated(share) => return Ok(share),
            Self::Auto => None,
            Self::AutoOf(count) => Some(count),
        };
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let array = Array::found(set)?;
        let of = || {
            format!(
                "--shard auto: {}",
                array.said(set).unwrap_or(array.index.to_owned())
            )
        };
        match count {
            Some(count) => Share::new(array.number(array.index, set)?, count),
            None => array.share(set),
        }
        .with_context(of)
    }
}

/// How a scheduler states the index of a task.
#[derive(Clone, Copy, Debug)]
struct Array {
    /// The variable of the index.
    index: &'static str,
    /// That of the number of tasks.
    count: Option<&'static str>,
    /// Those of the first index, the last one and their distance.
    steps: Option<[&'static str; 3]>,
}

const ARRAYS: [Array; 3] = [
    Array {
        index: "SLURM_ARRAY_TASK_ID",
        count: Some("SLURM_ARRAY_TASK_COUNT"),
        steps: Some([
            "SLURM_ARRAY_TASK_MIN",
            "SLURM_ARRAY_TASK_MAX",
            "SLURM_ARRAY_TASK_STEP",
        ]),
    },
    // An Indexed Job of Kubernetes, which does not state its completions.
    Array {
        index: "JOB_COMPLETION_INDEX",
        count: None,
        steps: None,
    },
    Array {
        index: "AWS_BATCH_JOB_ARRAY_INDEX",
        count: Some("AWS_BATCH_JOB_ARRAY_SIZE"),
        steps: None,
    },
];

impl Array {
    /// The one that this process is a task of.
    fn found(set: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut found = ARRAYS.iter().filter(|array| set(array.index).is_some());
        match (found.next(), found.next()) {
            (Some(array), None) => Ok(*array),
            (Some(one), Some(other)) => bail!(
                "--shard auto: both {} and {} are set; pass --shard I/N",
                one.index,
                other.index
            ),
            (None, _) => bail!(
                "--shard auto: none of {} is set, so this is not a task of an array; pass --shard \
                 I/N",
                ARRAYS.map(|array| array.index).join(", ")
            ),
        }
    }

    /// The values of its variables, for messages.
    fn said(self, set: impl Fn(&str) -> Option<String>) -> Option<String> {
        let names = [Some(self.index), self.count].into_iter().flatten();
        let names = names.chain(self.steps.into_iter().flatten());
        let said: Vec<_> = names
            .filter_map(|name| Some(format!("{name}={}", set(name)?)))
            .collect();
        (!said.is_empty()).then(|| said.join(" "))
    }

    fn number(self, name: &str, set: impl Fn(&str) -> Option<String>) -> Result<u64> {
        let value = set(name).with_context(|| {
            format!(
                "{name} is not set; state the number of shares: --shard auto/N, with {} from 0",
                self.index
            )
        })?;
        let number = value.trim().parse().ok();
        number.with_context(|| format!("{name} is {value:?}, which is not a number"))
    }

    /// The share that is stated in full.
    fn share(self, set: impl Fn(&str) -> Option<String>) -> Result<Share> {
        let Some(count) = self.count else {
            bail!(
                "the number of tasks is not stated; pass --shard auto/N, with the completions of \
                 the job"
            );
        };
        let index = self.number(self.index, &set)?;
        let count = self.number(count, &set)?;
        let Some([first, last, step]) = self.steps else {
            return Share::new(index, count);
        };
        let first = self.number(first, &set)?;
        let last = self.number(last, &set)?;
        let step = match set(step) {
            Some(_) => self.number(step, &set)?,
            None => 1,
        };
        let even = |from: u64, to: u64| {
            let distance = to.checked_sub(from)?;
            (step > 0 && distance % step == 0).then(|| distance / step)
        };
        // The ids 1,2,5 have no index that can be computed.
        let is_even = even(first, last).and_then(|tasks| tasks.checked_add(1)) == Some(count);
        let index = even(first, index).filter(|_| is_even).context(
            "the ids are not evenly spaced; pass --shard auto/N, with ids from 0 to N - 1",
        )?;
        Share::new(index, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_each_of_its_units_and_no_other() {
        for count in 1..5 {
            for unit in 0..20 {
                let shares = (0..count).map(|index| Share::new(index, count).unwrap());
                let owners: Vec<Share> = shares.filter(|share| share.has(unit)).collect();
                assert_eq!(owners, [Share { index: 0, count }.of(unit)]);
            }
        }
    }

    #[test]
    fn the_value_is_a_share_or_auto() {
        let stated = |index, count| Ok(ShareChoice::Stated(Share { index, count }));
        let cases = [
            ("0/1", stated(0, 1)),
            ("3/4", stated(3, 4)),
            ("auto", Ok(ShareChoice::Auto)),
            ("auto/8", Ok(ShareChoice::AutoOf(8))),
            ("4/4", Err("the last one of 4 is 3/4")),
            ("0/0", Err("no share of 0")),
            ("auto/0", Err("no share of 0")),
            ("autox", Err("expected I/N")),
            ("-1/4", Err("expected I/N")),
            ("+1/4", Err("expected I/N")),
            ("/4", Err("expected I/N")),
            ("1", Err("expected I/N")),
            ("1/2/3", Err("expected I/N")),
            ("1/99999999999999999999", Err("expected I/N")),
        ];
        for (text, expected) in cases {
            match (share(text), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                (found, expected) => panic!("{text}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn the_scheduler_states_the_share_or_it_is_refused() {
        use ShareChoice::{Auto, AutoOf};
        let slurm = |id: &'static str, [min, max, step, count]: [&'static str; 4]| {
            vec![
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_MIN", min),
                ("SLURM_ARRAY_TASK_MAX", max),
                ("SLURM_ARRAY_TASK_STEP", step),
                ("SLURM_ARRAY_TASK_COUNT", count),
            ]
        };
        let batch = vec![
            ("AWS_BATCH_JOB_ARRAY_INDEX", "2"),
            ("AWS_BATCH_JOB_ARRAY_SIZE", "3"),
        ];
        let job = vec![("JOB_COMPLETION_INDEX", "7")];
        let both = [job.clone(), batch.clone()].concat();
        let cases = [
            (Auto, slurm("3", ["1", "4", "1", "4"]), Ok("2/4")),
            (Auto, slurm("10", ["10", "30", "10", "3"]), Ok("0/3")),
            (Auto, slurm("4", ["4", "4", "1", "1"]), Ok("0/1")),
            (Auto, slurm("5", ["1", "5", "1", "3"]), Err("evenly spaced")),
            (Auto, slurm("0", ["1", "4", "1", "4"]), Err("evenly spaced")),
            (Auto, slurm("2", ["1", "3", "0", "3"]), Err("evenly spaced")),
            (Auto, slurm("x", ["1", "4", "1", "4"]), Err("not a number")),
            (Auto, slurm("2", ["", "4", "1", "4"]), Err("is not set")),
            (AutoOf(4), slurm("3", ["3", "3", "1", "1"]), Ok("3/4")),
            (AutoOf(3), slurm("3", ["0", "3", "1", "4"]), Err("no share")),
            (Auto, batch.clone(), Ok("2/3")),
            (Auto, batch[..1].to_vec(), Err("is not set")),
            (Auto, job.clone(), Err("auto/N")),
            (AutoOf(8), job.clone(), Ok("7/8")),
            (AutoOf(7), job, Err("no share 7/7")),
            (AutoOf(8), both, Err("both JOB_COMPLETION_INDEX")),
            (Auto, vec![], Err("none of SLURM_ARRAY_TASK_ID, ")),
            (Auto, vec![("JOB_COMPLETION_INDEX", "")], Err("none of ")),
        ];
        for (choice, variables, expected) in cases {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            match (choice.share(variable), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.to_string(), expected),
                (Err(error), Err(part)) => {
                    assert!(format!("{error:#}").contains(part), "{error:#}");
                }
                (found, expected) => panic!("{variables:?}: {found:?}, not {expected:?}"),
            }
        }
    }
}
