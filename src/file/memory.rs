//! How much memory this process may use, by the system's files.

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};

/// The least of the limits on this process's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryLimit {
    /// Bytes in all, those in use already included.
    pub(crate) bytes: u64,
    /// What sets it.
    pub(crate) from: Source,
}

/// What limits a process's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `RLIMIT_AS`: all that is mapped counts, weights on disk and the stacks of threads too.
    AddressSpace,
    /// `RLIMIT_DATA`: what is allocated counts.
    Data,
    /// A control group, of version 1 or 2, or one that it lies in.
    ControlGroup,
    /// The machine's memory.
    Machine,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::AddressSpace => "the limit on address space (ulimit -v)",
            Self::Data => "the limit on data (ulimit -d)",
            Self::ControlGroup => "the limit of its control group (container)",
            Self::Machine => "the machine's memory",
        })
    }
}

/// Fails if `what` needs more bytes than the limit. `advice` says what to do.
///
/// # Errors
/// When it does; with both numbers.
pub(crate) fn ensure(bytes: u64, what: &str, advice: &str) -> Result<()> {
    let swap = |limit: &MemoryLimit| match limit.from {
        Source::ControlGroup | Source::Machine => swap_bytes().unwrap_or_default(),
        Source::AddressSpace | Source::Data => 0,
    };
    let exceeds = |limit: &MemoryLimit| bytes > limit.bytes.saturating_add(swap(limit));
    let Some(limit) = limit().filter(exceeds) else {
        return Ok(());
    };
    bail!(
        "{what} at least {} of memory, but {} is {}; {advice}",
        shown(bytes),
        limit.from,
        shown(limit.bytes)
    )
}

/// `1.1 GB`, `86 MB`.
pub(super) fn shown(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    if megabytes < 1000.0 {
        format!("{megabytes:.0} MB")
    } else {
        format!("{:.1} GB", megabytes / 1e3)
    }
}

/// The limit of this process; `None` where the system does not report any.
pub(crate) fn limit() -> Option<MemoryLimit> {
    limit_under(Path::new("/"))
}

/// The same, read from the system's files under `root`.
fn limit_under(root: &Path) -> Option<MemoryLimit> {
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap_or_default();
    let limits = read("proc/self/limits");
    let own = [
        ("Max address space", Source::AddressSpace),
        ("Max data size", Source::Data),
    ];
    let own = own.map(|(name, from)| (of_process(&limits, name), from));
    let all = own.into_iter().chain([
        (
            of_groups(root, &read("proc/self/cgroup")),
            Source::ControlGroup,
        ),
        (of_machine(&read("proc/meminfo")), Source::Machine),
    ]);
    all.filter_map(|(bytes, from)| {
        Some(MemoryLimit {
            bytes: bytes?,
            from,
        })
    })
    .min_by_key(|limit| limit.bytes)
}

/// The soft limit of a line of `/proc/self/limits`, which is a name, two values and a unit;
/// "unlimited" is none.
fn of_process(limits: &str, name: &str) -> Option<u64> {
    let values = limits.lines().find_map(|line| line.strip_prefix(name))?;
    values.split_whitespace().next()?.parse().ok()
}

/// The least limit of the groups of `/proc/self/cgroup` and of those that they lie in. In a
/// container the files of its own group are often those of the root.
fn of_groups(root: &Path, groups: &str) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        // ID:CONTROLLERS:/PATH, of version 2 with the ID 0 and no controllers.
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next().unwrap_or_default();
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            _ => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        };
        let is_memory = controllers.is_empty() || controllers.split(',').any(|c| c == "memory");
        let path = Path::new(parts.next().unwrap_or_default());
        let path = path.strip_prefix("/").unwrap_or(path);
        let folders = path.ancestors().filter(move |_| is_memory);
        folders.filter_map(move |folder| {
            let file = root.join(mount).join(folder).join(file);
            // "max" does not parse; version 1 has a huge number instead.
            std::fs::read_to_string(file).ok()?.trim().parse().ok()
        })
    });
    limits.min()
}

fn of_machine(meminfo: &str) -> Option<u64> {
    bytes_of(meminfo, "MemTotal:")
}

/// Swap, with which a run is slow and not impossible.
fn swap_bytes() -> Option<u64> {
    bytes_of(
        &std::fs::read_to_string("/proc/meminfo").ok()?,
        "SwapTotal:",
    )
}

/// The value of a line of `/proc/meminfo`.
fn bytes_of(meminfo: &str, name: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = total.split_whitespace().next()?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names with their content.
    type Files<'a> = &'a [(&'a str, &'a str)];

    /// A root with the system's files in it.
    fn root(files: Files) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = root.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        root
    }

    const MACHINE: (&str, &str) = ("proc/meminfo", "MemFree: 1 kB\nMemTotal:   8000 kB\n");

    fn limits(space: &str, data: &str) -> String {
        format!(
            "Limit             Soft Limit   Hard Limit   Units\n\
             Max data size     {data}       unlimited    bytes\n\
             Max address space {space}      unlimited    bytes\n"
        )
    }

    #[test]
    fn the_least_limit_counts() {
        let (v1, v2) = ("4:cpu,memory:/a/b\n0::/\n", "0::/a/b\n");
        let old = "sys/fs/cgroup/memory/a/memory.limit_in_bytes";
        let (new, top) = ("sys/fs/cgroup/a/b/memory.max", "sys/fs/cgroup/memory.max");
        let no = limits("unlimited", "unlimited");
        let (space, data) = (limits("5000", "unlimited"), limits("9000", "4000"));
        let cases: &[(Files, u64, Source)] = &[
            (&[], 8_192_000, Source::Machine),
            (&[("proc/self/limits", &no)], 8_192_000, Source::Machine),
            (&[("proc/self/limits", &space)], 5000, Source::AddressSpace),
            (&[("proc/self/limits", &data)], 4000, Source::Data),
            (
                &[("proc/self/cgroup", v1), (old, "7000\n")],
                7000,
                Source::ControlGroup,
            ),
            (
                &[("proc/self/cgroup", v2), (new, "7000\n")],
                7000,
                Source::ControlGroup,
            ),
            // Within a container the path is often that of the host.
            (
                &[("proc/self/cgroup", v2), (top, "6000\n")],
                6000,
                Source::ControlGroup,
            ),
            (
                &[("proc/self/cgroup", v2), (new, "max\n")],
                8_192_000,
                Source::Machine,
            ),
            (
                &[("proc/self/cgroup", "3:cpu:/a\n"), (old, "7000\n")],
                8_192_000,
                Source::Machine,
            ),
        ];
        for (files, bytes, from) in cases {
            let root = root(&[&[MACHINE], *files].concat());
            let expected = MemoryLimit {
                bytes: *bytes,
                from: *from,
            };
            assert_eq!(limit_under(root.path()), Some(expected), "{files:?}");
        }
        assert_eq!(limit_under(root(&[]).path()), None);
    }

    #[test]
    fn what_cannot_fit_is_refused_with_both_numbers() {
        assert!(ensure(1 << 20, "a page needs", "").is_ok());
        let error = ensure(u64::MAX, "the labels need", "use fewer").unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("the labels need at least 18446744073.7 GB of memory, but the "));
        assert!(error.ends_with("B; use fewer"), "{error}");
        for (bytes, expected) in [(86_400_000, "86 MB"), (1_060_000_000, "1.1 GB")] {
            assert_eq!(shown(bytes), expected);
        }
    }
}
