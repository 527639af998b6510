//! An HTTP server for one page: GET /metrics. Requests, answers and connections are bounded in size, time and number.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Connections that are answered at the same time; others wait in the kernel's queue.
const WORKERS: usize = 2;
/// Bytes of a request.
const MOST_REQUEST: usize = 8 << 10;
/// From the connection to the end of the request, and of the answer.
const READ_TIME: Duration = Duration::from_secs(2);
const WRITE_TIME: Duration = Duration::from_secs(5);

/// Answers until it is dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
}

impl Server {
    /// Listens. `page` makes the text; its argument: OpenMetrics.
    pub fn start(address: SocketAddr, page: impl Fn(bool) -> String + Send + Sync + 'static) -> io::Result<Server> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, page) = (Arc::new(AtomicBool::new(false)), Arc::new(page));
        let worker = || {
            let (listener, stop, page) = (listener.try_clone()?, Arc::clone(&stop), Arc::clone(&page));
            std::thread::Builder::new().name("metrics".into()).spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    wait(&listener);
                    if let Ok((stream, _)) = listener.accept() {
                        // Who does not listen gets no answer.
                        let _ = answer(stream, &*page);
                    }
                }
            })
        };
        let workers = (0..WORKERS).map(|_| worker()).collect::<io::Result<_>>()?;
        Ok(Server { address, stop, workers })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

/// Until somebody connects, or it is time to look at the flag.
fn wait(listener: &TcpListener) {
    let mut fds = [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)];
    let time = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let _ = poll(&mut fds, Some(&time));
}

fn answer(mut stream: TcpStream, page: &impl Fn(bool) -> String) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let mut request = Vec::new();
    let (status, kind, body) = if read(&mut stream, &mut request)? {
        respond(&String::from_utf8_lossy(&request), page)
    } else {
        ("431 Request Header Fields Too Large", PLAIN, "too long\n".to_owned())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let body = if request.starts_with(b"HEAD ") { "" } else { &body };
    write(&mut stream, head.as_bytes())?;
    write(&mut stream, body.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)
}

const PLAIN: &str = "text/plain; charset=utf-8";

/// Status, type and body.
fn respond(request: &str, page: &impl Fn(bool) -> String) -> (&'static str, &'static str, String) {
    let mut lines = request.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, path, version) = (first.next(), first.next(), first.next());
    let path = path.and_then(|path| path.split('?').next());
    match (method, path, version) {
        (_, _, version) if !version.is_some_and(|version| version.starts_with("HTTP/1.")) => {
            ("400 Bad Request", PLAIN, "this is HTTP/1.1\n".to_owned())
        }
        (Some("GET" | "HEAD"), Some("/metrics"), _) => {
            let accepts = |line: &str| {
                line.split_once(':').is_some_and(|(name, value)| {
                    name.eq_ignore_ascii_case("accept") && value.contains("application/openmetrics-text")
                })
            };
            let open = lines.any(accepts);
            let kind = if open {
                "application/openmetrics-text; version=1.0.0; charset=utf-8"
            } else {
                "text/plain; version=0.0.4; charset=utf-8"
            };
            ("200 OK", kind, page(open))
        }
        (Some("GET" | "HEAD"), _, _) => ("404 Not Found", PLAIN, "the metrics are at /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", PLAIN, "only GET\n".to_owned()),
    }
}

/// Reads to the end of the head; `false`: it is too long.
fn read(stream: &mut TcpStream, request: &mut Vec<u8>) -> io::Result<bool> {
    let end = Instant::now() + READ_TIME;
    let mut part = [0; 1024];
    loop {
        stream.set_read_timeout(Some(left(end)?))?;
        let more = stream.read(&mut part)?;
        if more == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(part.get(..more).unwrap_or_default());
        if request.windows(4).any(|four| four == b"\r\n\r\n") || request.windows(2).any(|two| two == b"\n\n") {
            return Ok(true);
        }
        if request.len() > MOST_REQUEST {
            return Ok(false);
        }
    }
}

fn write(stream: &mut TcpStream, mut text: &[u8]) -> io::Result<()> {
    let end = Instant::now() + WRITE_TIME;
    while !text.is_empty() {
        stream.set_write_timeout(Some(left(end)?))?;
        let written = stream.write(text)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        text = text.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// Time until `end`; an error when it is over.
fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
