//! Turns a panic inside a decoder or another reader into an ordinary result, without its message on
//! stderr.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; `None` if it panicked. Nothing is printed for such a panic: the process's panic
/// hook is wrapped once, and the wrapper is silent on threads that are inside this function.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Option<T> {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info| {
            if !IS_QUIET.get() {
                previous(info);
            }
        }));
    });
    let outer = IS_QUIET.replace(true);
    // State that a panic leaves inconsistent is dropped with the closure: only its result is kept.
    let outcome = catch_unwind(AssertUnwindSafe(work));
    IS_QUIET.set(outer);
    outcome.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_none_and_quiet_ends_with_it() {
        assert_eq!(catch(|| 7), Some(7));
        assert_eq!(catch(|| -> u8 { panic!("inside a decoder") }), None);
        assert!(!IS_QUIET.get());
        let nested = catch(|| {
            assert_eq!(catch(|| -> u8 { panic!("deeper") }), None);
            IS_QUIET.get()
        });
        assert_eq!(nested, Some(true));
    }
}
