//! `--metrics`: numbers for Prometheus, read over HTTP when somebody asks.
//!
//! [`Endpoint`] makes its page in its own thread; [`Asked`] has it made by the tool, between two turns of its work, which needs no locks
//! and costs nothing while nobody asks.

mod server;
mod text;

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::exit::{Exit, Failure};
use server::Server;
pub use text::{Kind, Labels, Page, Sample, label, name};

/// A page this old is made anew for who asks.
const FRESH: Duration = Duration::from_millis(500);
/// How long who asks waits for a new page before an old one is the answer: several turns of a tool.
const PATIENCE: Duration = Duration::from_secs(3);

/// `ADDR:PORT`, or a port of this machine alone.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.trim_start_matches(':').parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    let wanted = || "an address such as 127.0.0.1:9400 is wanted; a port alone is of this machine".to_owned();
    text.to_socket_addrs().map_err(|_| wanted())?.next().ok_or_else(wanted)
}

/// Answers until it is dropped.
pub struct Endpoint {
    server: Server,
}

impl Endpoint {
    /// Listens at an address. `page` fills a page, in another thread.
    pub fn start(address: SocketAddr, page: impl Fn(&mut Page) + Send + Sync + 'static) -> Result<Endpoint, Failure> {
        let text = move |open| {
            let mut filled = Page::default();
            page(&mut filled);
            filled.text(open)
        };
        let server = Server::start(address, text)
            .map_err(|error| Failure::new(Exit::Error, format_args!("--metrics {address}: {error}")))?;
        Ok(Endpoint { server })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}/metrics", self.server.address)
    }
}

/// A page that the tool fills when it is asked for.
pub struct Asked {
    endpoint: Endpoint,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    answered: Condvar,
}

#[derive(Default)]
struct State {
    asked: bool,
    /// Nobody fills a page any more.
    ended: bool,
    page: Page,
    made: Option<Instant>,
}

impl Asked {
    /// Listens at an address.
    pub fn start(address: SocketAddr) -> Result<Asked, Failure> {
        let shared = Arc::new(Shared::default());
        let source = Arc::clone(&shared);
        let endpoint = Endpoint::start(address, move |page| *page = source.latest())?;
        Ok(Asked { endpoint, shared })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.endpoint.url()
    }

    /// Fills a page if somebody waits for it. To be called between two turns, several times a second.
    pub fn turn<E>(&self, fill: impl FnOnce(&mut Page) -> Result<(), E>) -> Result<(), E> {
        if !self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).asked {
            return Ok(());
        }
        let mut page = Page::default();
        fill(&mut page)?;
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { page, made: Some(Instant::now()), ..State::default() };
        self.shared.answered.notify_all();
        Ok(())
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.shared.answered.notify_all();
    }
}

impl Shared {
    fn latest(&self) -> Page {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.made.is_none_or(|made| made.elapsed() > FRESH) {
            state.asked = true;
            let waits = |state: &mut State| state.asked && !state.ended;
            let waited = self.answered.wait_timeout_while(state, PATIENCE, waits);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.page.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_made_for_who_asks() {
        let shared = Arc::new(Shared::default());
        let endpoint = Endpoint::start(SocketAddr::from(([127, 0, 0, 1], 0)), |_| {}).expect("a port");
        let asked = Asked { endpoint, shared: Arc::clone(&shared) };
        let made = std::cell::Cell::new(0);
        let turn = || {
            let fill = |page: &mut Page| {
                made.set(made.get() + 1);
                page.add("turns", Kind::Gauge, "Turns.", Labels::new(), Sample::Integer(made.get()));
                Ok::<(), ()>(())
            };
            asked.turn(fill).expect("it is filled");
        };
        turn();
        assert_eq!(made.get(), 0, "nobody has asked");
        let asks = std::thread::spawn(move || (shared.latest().text(false), shared.latest().text(false)));
        while !asks.is_finished() {
            turn();
            std::thread::sleep(Duration::from_millis(1));
        }
        let (first, second) = asks.join().expect("it answers");
        assert!(first.contains("turns 1"), "{first}");
        assert_eq!(first, second, "it is fresh");
        assert_eq!(made.get(), 1);
    }
}
