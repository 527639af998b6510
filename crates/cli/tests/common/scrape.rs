//! Reads metrics as a scraper does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::{ringfence, signal};

/// A command that serves metrics.
pub struct Serving {
    pub child: Child,
    pub address: String,
}

/// Starts it, and waits until it says where the metrics are.
pub fn serve<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(args: I) -> Serving {
    let mut command = ringfence();
    command.args(args).args(["--metrics", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the command");
    let mut notes = BufReader::new(child.stderr.take().expect("stderr"));
    let (mut line, mut all) = (String::new(), String::new());
    let address = loop {
        line.clear();
        assert!(notes.read_line(&mut line).expect("stderr") > 0, "ended: {all}");
        all += &line;
        if let Some(url) = line.trim().strip_prefix("metrics are at http://") {
            break url.strip_suffix("/metrics").expect("a path").to_owned();
        }
    };
    std::thread::spawn(move || notes.read_to_string(&mut line));
    Serving { child, address }
}

impl Serving {
    pub fn request(&self, text: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        // A refusal may come before all was sent.
        let _ = stream.write_all(text.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).expect("UTF-8")
    }

    pub fn get(&self, accept: &str) -> (String, String) {
        let answer = self.request(&format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n"));
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        (head.to_owned(), body.to_owned())
    }

    pub fn scrape(&self) -> Metrics {
        parse(&self.get("text/plain").1)
    }

    pub fn end(mut self) {
        signal(&self.child, "INT");
        assert!(self.child.wait().expect("an end").success());
    }
}

/// Series with their labels in order, and the types of families.
#[derive(Debug, Default)]
pub struct Metrics {
    pub series: BTreeMap<String, f64>,
    pub kinds: BTreeMap<String, String>,
}

impl Metrics {
    pub fn get(&self, series: &str) -> Option<f64> {
        self.series.get(series).copied()
    }
}

pub fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Strict: whatever the format does not allow fails.
pub fn parse(text: &str) -> Metrics {
    let mut metrics = Metrics::default();
    let mut family = String::new();
    assert!(text.is_empty() || text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, name, rest) =
                (words.next().unwrap(), words.next().unwrap_or_default(), words.next().unwrap_or_default());
            match what {
                "HELP" => {
                    family = name.to_owned();
                    assert!(!rest.is_empty() && !metrics.kinds.contains_key(name), "{line}");
                }
                "TYPE" => {
                    assert!(name == family && ["counter", "gauge", "histogram"].contains(&rest), "{line}");
                    metrics.kinds.insert(family.clone(), rest.to_owned());
                }
                "EOF" => assert!(text.ends_with("# EOF\n"), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let kind = &metrics.kinds[&family];
        let behind = name.strip_prefix(family.as_str()).expect("a name of the family");
        let allowed: &[&str] = if kind == "histogram" { &["_bucket", "_count"] } else { &["", "_total"] };
        assert!(is_name(name) && allowed.contains(&behind), "{line}");
        let mut rest = labels.strip_suffix('}').expect("a brace");
        let mut names: Vec<&str> = Vec::new();
        while !rest.is_empty() {
            let (key, value) = rest.split_once("=\"").expect("a label");
            assert!(is_name(key) && !names.contains(&key), "{line}");
            names.push(key);
            let mut escaped = false;
            let end = value.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            rest = &value[end.expect("a quote") + 1..];
            assert!(rest.is_empty() || rest.starts_with(','), "{line}");
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        let number = if value == "+Inf" { f64::INFINITY } else { value.parse().expect("a number") };
        assert!(kind != "counter" || number >= 0.0, "{line}");
        assert!(metrics.series.insert(series.to_owned(), number).is_none(), "twice: {line}");
    }
    metrics
}
