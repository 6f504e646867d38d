//! Signals that end the process: what must not outlive it is removed first, and a run may ask to
//! be told of the first one instead.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files and folders that go with the process. Locked while one is made, however long the file
/// system takes.
static DOOMED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Where the number of the first signal is written, instead of ending the process.
static TOLD: Mutex<Vec<Arc<AtomicUsize>>> = Mutex::new(Vec::new());

fn lock<T>(list: &'static Mutex<T>) -> MutexGuard<'static, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file or folder that a signal removes, until this is dropped.
#[derive(Debug)]
pub(crate) struct Doomed(PathBuf);

impl Doomed {
    /// Makes it at `path`. A signal comes before or after, never between.
    ///
    /// # Errors
    /// Those of `make`.
    pub(crate) fn make<T>(
        path: PathBuf,
        make: impl FnOnce(&PathBuf) -> io::Result<T>,
    ) -> io::Result<(T, Self)> {
        watch();
        let mut doomed = lock(&DOOMED);
        let made = make(&path)?;
        doomed.push(path.clone());
        Ok((made, Self(path)))
    }

    /// Gives it another name with `rename`, under which it stays. A signal comes before or after.
    ///
    /// # Errors
    /// Those of `rename`.
    pub(super) fn release<T, E>(self, rename: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut doomed = lock(&DOOMED);
        let renamed = rename();
        if renamed.is_ok() {
            forget(&mut doomed, &self.0);
        }
        drop(doomed);
        renamed
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        forget(&mut lock(&DOOMED), &self.0);
    }
}

fn forget(doomed: &mut Vec<PathBuf>, path: &Path) {
    if let Some(at) = doomed.iter().position(|one| one == path) {
        doomed.swap_remove(at);
    }
}

/// From now on the number of the first signal is stored in `told`, and only a second one ends the
/// process.
///
/// # Errors
/// When the system does not let signals be handled.
pub(crate) fn tell(told: &Arc<AtomicUsize>) -> io::Result<()> {
    watch();
    #[cfg(not(unix))]
    flags(told)?;
    lock(&TOLD).push(told.clone());
    Ok(())
}

/// Acts on a signal; returns if the run ends itself.
#[cfg_attr(not(unix), allow(dead_code, reason = "nothing watches there"))]
fn act(signal: i32, ending: &AtomicBool, end: impl FnOnce()) {
    let told = std::mem::take(&mut *lock(&TOLD));
    if !told.is_empty() {
        let number = usize::try_from(signal).unwrap_or_default();
        for told in told {
            told.store(number, Ordering::Relaxed);
        }
        return;
    }
    // A file system that hangs may have the lock, or keep the removal: the next signal ends it.
    ending.store(true, Ordering::SeqCst);
    let doomed = lock(&DOOMED);
    for path in doomed.iter() {
        remove(path);
    }
    // Still locked, so that no thread makes another one before the end.
    end();
}

/// Removes a file or folder; it may be gone by now.
#[cfg_attr(not(unix), allow(dead_code, reason = "nothing watches there"))]
fn remove(path: &Path) {
    /// Another thread may write into a folder until the end of the process.
    const TRIES: usize = 100;
    let gone = |_| fs::remove_dir_all(path).is_ok() || path.symlink_metadata().is_err();
    if fs::remove_file(path).is_err() {
        let _ = (0..TRIES).any(gone);
    }
}

/// Starts to watch signals, once; before that, each has its usual effect.
#[cfg(unix)]
fn watch() {
    use std::sync::Once;

    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    static START: Once = Once::new();
    START.call_once(|| {
        let (started, is_started) = std::sync::mpsc::channel();
        let watch = move || {
            // Registered here: without this thread, nobody would act on them.
            let ending = Arc::new(AtomicBool::new(false));
            for signal in watched() {
                let _ = signal_hook::flag::register_conditional_default(signal, ending.clone());
            }
            let mut signals = Signals::new(watched());
            let _ = started.send(());
            for signal in signals.iter_mut().flat_map(|all| all.forever()) {
                act(signal, &ending, || {
                    let _ = emulate_default_handler(signal);
                });
            }
        };
        let thread = std::thread::Builder::new().name("signals".to_owned());
        if thread.spawn(watch).is_ok() {
            let _ = is_started.recv();
        }
    });
}

/// Those that end a process by default and that its parent did not have it ignore, as `nohup` does.
#[cfg(unix)]
fn watched() -> Vec<i32> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    let status = fs::read_to_string("/proc/self/status").ok();
    let ignored = status.as_deref().and_then(ignored);
    match ignored {
        Some(mask) => {
            let mut all = vec![SIGINT, SIGTERM, SIGHUP];
            all.retain(|signal| mask >> (signal - 1) & 1 == 0);
            all
        }
        // Unknown, and a program under nohup must not be ended.
        None => vec![SIGINT, SIGTERM],
    }
}

/// The mask of ignored signals in Linux's description of a process.
#[cfg(unix)]
fn ignored(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Elsewhere a handler only sets flags: what is doomed stays, and the next run removes it.
#[cfg(not(unix))]
fn watch() {}

#[cfg(not(unix))]
fn flags(told: &Arc<AtomicUsize>) -> io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::flag;

    let first = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let number = usize::try_from(signal).unwrap_or_default();
        // The order matters: the shutdown acts on a signal only if an earlier one set the flag.
        flag::register_conditional_shutdown(signal, 128 + signal, first.clone())?;
        flag::register(signal, first.clone())?;
        flag::register_usize(signal, told.clone(), number)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // One test, since there is one state for the process.
    #[test]
    fn the_first_signal_is_told_and_the_next_one_removes_what_is_doomed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let file = |path: &PathBuf| fs::write(path, "x");
        let (_, _kept) = Doomed::make(path("file"), file).unwrap();
        let (_, _also) = Doomed::make(path("folder"), |path| {
            fs::create_dir(path)?;
            fs::write(path.join("inner"), "x")
        })
        .unwrap();
        let (_, forgotten) = Doomed::make(path("whole"), file).unwrap();
        drop(forgotten);
        assert!(Doomed::make(path("no/file"), file).is_err());
        let told = Arc::new(AtomicUsize::new(0));
        tell(&told).unwrap();
        let mut ended = 0;
        // As while a file system hangs: the run is told all the same.
        let making = lock(&DOOMED);
        act(15, &AtomicBool::new(false), || ended += 1);
        assert_eq!((told.load(Ordering::Relaxed), ended), (15, 0));
        drop(making);
        assert!(path("file").exists() && path("folder").exists());
        act(15, &AtomicBool::new(false), || ended += 1);
        assert_eq!(ended, 1);
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1);
        assert!(path("whole").exists());
    }

    #[cfg(unix)]
    #[test]
    fn ignored_signals_are_read_from_the_status() {
        let status = "Name:\tlongclip\nSigBlk:\t00\nSigIgn:\t0000000000001001\n";
        assert_eq!(ignored(status), Some(0x1001));
        assert_eq!(ignored("SigIgn:\tx\n"), None);
        assert_eq!(ignored(""), None);
    }
}
