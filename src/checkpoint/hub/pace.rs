//! A body that must come at a least rate: a connection that is never quite silent would otherwise be
//! kept for ever.

use std::fmt;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::Settings;

/// The server was too slow.
#[derive(Debug)]
pub(super) struct TooSlow {
    bytes: u64,
    waited: Duration,
}

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, waited } = self;
        write!(
            f,
            "only {bytes} bytes came in {} s",
            waited.as_secs_f64().round()
        )
    }
}

impl std::error::Error for TooSlow {}

/// A body whose reads fail with [`TooSlow`] once it falls below the rate of the settings.
pub(super) struct Paced<R> {
    body: R,
    least_bytes: u64,
    window: Duration,
    /// What came since the last window was full.
    bytes: u64,
    waited: Duration,
}

impl<R> Paced<R> {
    pub(super) fn new(body: R, settings: &Settings) -> Self {
        Self {
            body,
            least_bytes: settings.least_bytes,
            window: settings.rate_window,
            bytes: 0,
            waited: Duration::ZERO,
        }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Only waiting for the server counts, not what is done with the bytes.
        let start = Instant::now();
        let count = self.body.read(buffer)?;
        self.waited += start.elapsed();
        self.bytes += count as u64;
        if count > 0 && self.waited >= self.window {
            if self.bytes < self.least_bytes {
                return Err(io::Error::other(TooSlow {
                    bytes: self.bytes,
                    waited: self.waited,
                }));
            }
            (self.bytes, self.waited) = (0, Duration::ZERO);
        }
        Ok(count)
    }
}

/// Whether this is the failure of a server that was too slow.
pub(super) fn is_too_slow(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<TooSlow>())
}
