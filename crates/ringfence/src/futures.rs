//! Events for programs that wait by futures (feature `tokio`).

use std::os::fd::{AsFd, AsRawFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::{Cause, Error, Kind, Result};
use crate::events::{Event, Events, Seen};

/// [`Events`] whose waiting is a future.
///
/// ```no_run
/// # async fn show(loaded: ringfence::Loaded) -> Result<(), ringfence::Error> {
/// let mut events = ringfence::AsyncEvents::new(loaded.events("events")?)?;
/// loop {
///     events.poll(|event| println!("{} bytes", event.bytes.len())).await?;
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct AsyncEvents(AsyncFd<Ready>);

/// What tokio wants to know of a reader.
#[derive(Debug)]
struct Ready(Events);

impl AsRawFd for Ready {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsyncEvents {
    /// To be called inside of a runtime with I/O and time.
    ///
    /// # Errors
    /// The runtime cannot wait for the reader.
    #[allow(deprecated, reason = "the newer name is unsafe for descriptors that may close; this value owns its own")]
    pub fn new(events: Events) -> Result<AsyncEvents> {
        AsyncFd::with_interest(Ready(events), Interest::READABLE).map(AsyncEvents).map_err(failed)
    }

    /// Waits until something is there, hands it out, and gives how many events there were: one at least.
    ///
    /// May be dropped at any point of waiting without losing an event.
    ///
    /// # Errors
    /// As [`Events::poll`].
    pub async fn poll(&mut self, mut each: impl FnMut(Event<'_>)) -> Result<usize> {
        loop {
            let events = &mut self.0.get_mut().0;
            let count = events.consume(&mut each)?;
            if count > 0 {
                return Ok(count);
            }
            let flush = events.flush_after()?;
            let ready = self.0.readable_mut();
            let ready = match flush {
                Some(time) => tokio::time::timeout(time, ready).await,
                None => Ok(ready.await),
            };
            // Too few records to wake anybody, once the time is over: look again.
            let Ok(ready) = ready else { continue };
            let mut ready = ready.map_err(failed)?;
            // What comes from now on is noticed: the mark is taken away first, and then the buffers are read.
            ready.clear_ready();
        }
    }

    /// What was seen of each map so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.0.get_ref().0.seen()
    }

    /// The reader, to be used without futures again.
    pub fn into_inner(self) -> Events {
        self.0.into_inner().0
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::system("waiting for events", Cause::new(Kind::Io, error.to_string()))
}
