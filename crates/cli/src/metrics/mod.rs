//! `--metrics ADDRESS`: a page of Prometheus metrics, made when somebody asks.

mod server;
mod text;

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};

use crate::exit::{Exit, Failure};
pub use text::{Kind, Labels, Page, Sample, label, name};

/// `ADDR:PORT`, or a port of this machine alone.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.trim_start_matches(':').parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    let wanted = || "an address such as 127.0.0.1:9400 is wanted; a port alone is of this machine".to_owned();
    text.to_socket_addrs().map_err(|_| wanted())?.next().ok_or_else(wanted)
}

/// Answers with what was published last, until it is dropped.
pub struct Metrics<T> {
    server: server::Server,
    published: Arc<Mutex<T>>,
}

impl<T: Default + Send + 'static> Metrics<T> {
    /// Listens at an address. `add` writes into a page what was published, and may ask the kernel for more.
    pub fn start(
        address: SocketAddr,
        add: impl Fn(&T, &mut Page) + Send + Sync + 'static,
    ) -> Result<Metrics<T>, Failure> {
        let published = Arc::new(Mutex::new(T::default()));
        let source = Arc::clone(&published);
        let page = move |open| {
            let mut page = Page::default();
            add(&source.lock().unwrap_or_else(PoisonError::into_inner), &mut page);
            page.text(open)
        };
        let server = server::Server::start(address, page)
            .map_err(|error| Failure::new(Exit::Error, format_args!("--metrics {address}: {error}")))?;
        Ok(Metrics { server, published })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}/metrics", self.server.address)
    }

    /// What answers are made of from now on.
    pub fn publish(&self, now: T) {
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}
