//! The end of memory or threads where it could not be foreseen: a message that says what was being
//! done, and the status of a failure that may pass, instead of a crash.
//!
//! An allocation that nobody checks ends in [`std::alloc::handle_alloc_error`], which aborts the
//! process. So the allocator notes on which thread it failed, and a handler of SIGABRT ends the
//! process if it was raised on such a thread. Whoever checks its allocations, as `try_reserve` does,
//! goes on undisturbed.

#![allow(
    unsafe_code,
    reason = "an allocator cannot be written without, nor the handler of a signal"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::any::Any;
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::{Mutex, TryLockError};

use mimalloc::MiMalloc;

/// The exit status of a failure that may pass.
const STATUS: u8 = 75;

thread_local! {
    /// The bytes of this thread's last allocation that failed. It needs neither memory nor a
    /// destructor itself.
    static FAILED_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// What the process does, for the message.
static DOING: Mutex<&str> = Mutex::new("starting");

/// Says what is done from now on, as in "loading the model".
pub(crate) fn doing(what: &'static str) {
    *DOING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner()) = what;
}

/// mimalloc, which notes failures. Success costs nothing more.
#[derive(Debug)]
pub struct NotingAllocator;

#[cold]
fn note(bytes: usize) -> *mut u8 {
    // Fails only while the thread ends.
    let _ = FAILED_BYTES.try_with(|failed| failed.set(bytes.max(1)));
    std::ptr::null_mut()
}

fn noted(memory: *mut u8, bytes: usize) -> *mut u8 {
    if memory.is_null() {
        note(bytes)
    } else {
        memory
    }
}

// SAFETY: everything is mimalloc's, with the caller's own arguments, and its result is returned.
unsafe impl GlobalAlloc for NotingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises.
        noted(unsafe { MiMalloc.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises.
        noted(unsafe { MiMalloc.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller's promises.
        noted(unsafe { MiMalloc.realloc(memory, layout, bytes) }, bytes)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises.
        unsafe { MiMalloc.dealloc(memory, layout) }
    }
}

/// Runs the program; its status if a thread could not be started. From now on, a lack of memory
/// ends the process with a message too.
pub fn survive<T>(program: impl FnOnce() -> T) -> Result<T, u8> {
    // Without the handler, a lack of memory aborts as it does anywhere.
    let _ = end_on_abort();
    let previous = take_hook();
    set_hook(Box::new(move |info| {
        match is_lack_of_threads(info.payload()) {
            true => drop(tell(&io::stderr(), "another thread could not be started")),
            false => previous(info),
        }
    }));
    catch_unwind(AssertUnwindSafe(program)).map_err(|panic| {
        if is_lack_of_threads(&*panic) {
            return STATUS;
        }
        resume_unwind(panic)
    })
}

/// Whether this is the panic of `std::thread::spawn`.
fn is_lack_of_threads(panic: &(dyn Any + Send)) -> bool {
    let message = panic.downcast_ref::<String>();
    message.is_some_and(|message| message.starts_with("failed to spawn thread"))
}

/// Writes the message, in a few short writes without memory of its own.
fn tell(mut stderr: impl io::Write, what: &str) -> io::Result<()> {
    // Whoever holds the lock may be this very thread.
    let doing = match DOING.try_lock() {
        Ok(doing) => *doing,
        Err(TryLockError::Poisoned(doing)) => *doing.into_inner(),
        Err(TryLockError::WouldBlock) => "working",
    };
    writeln!(
        stderr,
        "error: {what} while {doing}; free some memory or raise its limit, or try a smaller \
         --precision, --threads 1, or less at once"
    )
}

#[cfg(unix)]
fn end_on_abort() -> io::Result<()> {
    use std::os::fd::AsFd as _;

    // A file of its own: writing to it takes no lock.
    let stderr = std::fs::File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let end = move || {
        let failed = FAILED_BYTES.try_with(Cell::get).unwrap_or(0);
        if failed > 0 {
            let _ = tell(&stderr, "out of memory");
            signal_hook::low_level::exit(i32::from(STATUS));
        }
        // Somebody else's reason, or another process.
        let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGABRT);
    };
    // SAFETY: the handler may interrupt anything. It reads a cell of its thread and a lock that it
    // only tries, writes to a file and ends the process; it neither allocates nor waits.
    unsafe { signal_hook::low_level::register(signal_hook::consts::SIGABRT, end) }?;
    Ok(())
}

#[cfg(not(unix))]
fn end_on_abort() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_allocation_is_noted_and_can_be_survived() {
        assert!(FAILED_BYTES.get() == 0);
        let layout = Layout::from_size_align(1 << 62, 8).unwrap();
        // SAFETY: the size is not zero, and there is nothing to free.
        assert!(unsafe { NotingAllocator.alloc(layout) }.is_null());
        assert_eq!(FAILED_BYTES.get(), 1 << 62);
        // SAFETY: as above, and what is allocated is freed with the same layout.
        unsafe {
            let layout = Layout::from_size_align(1 << 10, 8).unwrap();
            let memory = NotingAllocator.alloc_zeroed(layout);
            assert_eq!(*memory, 0);
            let larger = NotingAllocator.realloc(memory, layout, 1 << 12);
            NotingAllocator.dealloc(larger, Layout::from_size_align(1 << 12, 8).unwrap());
        }
    }

    #[test]
    fn only_a_lack_of_threads_is_survived() {
        let lack = || -> u8 {
            panic!(
                "failed to spawn thread: {:?}",
                io::Error::from_raw_os_error(11)
            )
        };
        assert_eq!(survive(lack), Err(STATUS));
        assert_eq!(survive(|| 7), Ok(7));
        let other = catch_unwind(|| survive(|| -> u8 { panic!("a mistake") }));
        assert!(other.is_err());
    }

    #[test]
    fn the_message_says_what_was_done() {
        doing("loading the model");
        let mut message = Vec::new();
        tell(&mut message, "out of memory").unwrap();
        let message = String::from_utf8(message).unwrap();
        assert!(message.starts_with("error: out of memory while loading the model; free"));
    }
}
