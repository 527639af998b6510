//! `ringfence run --metrics`: what maps hold and how many events came, as a scraper reads it.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::scrape::{self, Serving, parse};
use common::{alone, assert_nothing_left, compile, held, ringfence, wait_for};

fn serve(object: &Path, args: &[&str]) -> Serving {
    scrape::serve(
        [Path::new("run"), object].into_iter().map(Path::as_os_str).chain(args.iter().map(std::ffi::OsStr::new)),
    )
}

fn call(times: u32) {
    for _ in 0..times {
        rustix::process::getpriority_process(None).expect("a priority");
    }
}

/// As the program sees this thread.
fn comm() -> String {
    std::fs::read_to_string("/proc/thread-self/comm").expect("a name").trim_end().to_owned()
}

#[test]
fn maps_are_scraped_and_series_end_with_their_keys() {
    let _alone = alone();
    let before = held();
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile("metered", dir.path());
    let me = std::process::id();
    let serving = serve(&object, &["--set", &format!("target_pid={me}")]);
    call(20);
    let caller = format!("{{pid=\"{me}\",what=\"CALLED\",comm=\"{}\"}}", comm());
    let metrics = serving.scrape();
    let of = |name: &str| metrics.get(name).unwrap_or_else(|| panic!("no {name} in {metrics:#?}"));
    assert_eq!(of(&format!("ringfence_map_callers_calls_total{caller}")), 20.0);
    assert_eq!(of(&format!("ringfence_map_callers_level{caller}")), 7.0);
    assert_eq!(of(&format!("ringfence_map_callers_balance{caller}")), -3.0);
    assert_eq!(of("ringfence_map_hits_total{key=\"0\"}"), 20.0);
    assert!(of("ringfence_global_seen_calls_total") >= 20.0);
    assert_eq!(metrics.kinds["ringfence_map_callers_calls_total"], "counter");
    assert_eq!(metrics.kinds["ringfence_map_callers_level"], "gauge");
    let hist = format!("key=\"{me}\",comm=\"{}\"", comm());
    assert_eq!(metrics.kinds["ringfence_map_hists_slots"], "histogram");
    assert_eq!(of(&format!("ringfence_map_hists_slots_count{{{hist}}}")), 20.0);
    assert_eq!(of(&format!("ringfence_map_hists_slots_bucket{{{hist},le=\"+Inf\"}}")), 20.0);
    let buckets: Vec<f64> =
        metrics.series.iter().filter(|(name, _)| name.contains("slots_bucket")).map(|(_, value)| *value).collect();
    assert!(buckets.len() == 8 && buckets.iter().all(|value| *value <= 20.0), "{metrics:#?}");

    rustix::process::getgroups().expect("the groups");
    let later = serving.scrape();
    assert!(!later.series.keys().any(|name| name.contains("callers")), "{later:#?}");
    assert_eq!(later.get("ringfence_map_hits_total{key=\"0\"}"), Some(20.0));
    // A scraper that asks for OpenMetrics gets that.
    let (head, open) = serving.get("application/openmetrics-text; version=1.0.0");
    assert!(head.contains("application/openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n"), "{head}");
    assert!(open.contains("# TYPE ringfence_map_hits counter\nringfence_map_hits_total{"), "{open}");
    parse(&open);
    promtool(&serving.get("text/plain").1);
    serving.end();
    assert_nothing_left(&before);
}

/// A program of Debian's package prometheus: from where `cargo xtask setup` unpacked it, or installed.
fn of_prometheus(name: &str) -> Option<Command> {
    let place = std::env::var_os("RINGFENCE_PROMETHEUS").map(|dir| Path::new(&dir).join(name));
    let program = place.filter(|place| place.exists()).unwrap_or_else(|| name.into());
    let there = Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        println!("skipped: there is no {name} (Debian's package prometheus)");
        return None;
    }
    Some(Command::new(program))
}

/// What Prometheus itself thinks of the text.
fn promtool(text: &str) {
    let Some(mut command) = of_prometheus("promtool") else { return };
    let mut child =
        command.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("promtool");
    child.stdin.take().expect("stdin").write_all(text.as_bytes()).expect("its input");
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A Prometheus of its own, which ends with this value.
struct Prometheus {
    child: Child,
    port: u16,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// One that scrapes an address five times in a second.
    fn of(address: &str, dir: &Path) -> Option<Prometheus> {
        let mut command = of_prometheus("prometheus")?;
        let config = dir.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
             scrape_configs:\n- {{job_name: ringfence, static_configs: [{{targets: ['{address}']}}]}}\n"
        );
        std::fs::write(&config, text).expect("the configuration");
        // Free until now; nobody but the tests listens here.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a free port").port();
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--log.level=error");
        let child = command.current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("prometheus");
        Some(Prometheus { child, port })
    }

    /// Labels and value of each series that has this name now; `None`: no answer yet.
    fn query(&self, name: &str) -> Option<Vec<(serde_json::Value, f64)>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET /api/v1/query?query={name} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let body = answer.split_once("\r\n\r\n")?.1;
        let answer: serde_json::Value = serde_json::from_str(body).ok()?;
        let series = answer["data"]["result"].as_array()?.iter();
        let value = |one: &serde_json::Value| one["value"][1].as_str()?.parse().ok();
        series.map(|one| Some((one["metric"].clone(), value(one)?))).collect()
    }

    /// Waits for an answer that is right, for at most a minute: the machine may be busy.
    fn until(&self, name: &str, right: impl Fn(&[(serde_json::Value, f64)]) -> bool) {
        let start = Instant::now();
        loop {
            let answer = self.query(name);
            if answer.as_deref().is_some_and(&right) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{name}: {answer:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn a_prometheus_has_what_the_maps_hold_until_their_keys_go() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile("metered", dir.path());
    let me = std::process::id();
    let serving = serve(&object, &["--set", &format!("target_pid={me}")]);
    let Some(prometheus) = Prometheus::of(&serving.address, dir.path()) else { return serving.end() };
    call(20);
    prometheus.until("ringfence_map_callers_calls_total", |all| match all {
        [(labels, number)] => {
            let pid = me.to_string();
            let mine = labels["pid"] == *pid && labels["what"] == "CALLED" && labels["comm"] == comm();
            mine && *number == 20.0
        }
        _ => false,
    });
    prometheus.until("ringfence_map_hits_total", |all| matches!(all, [(_, number)] if *number == 20.0));
    // As a histogram: all that was counted is below infinity.
    prometheus.until("histogram_quantile(1,ringfence_map_hists_slots_bucket)", |all| matches!(all, [_]));
    call(5);
    prometheus.until("ringfence_map_callers_calls_total", |all| matches!(all, [(_, number)] if *number == 25.0));
    rustix::process::getgroups().expect("the groups");
    prometheus.until("ringfence_map_callers_calls_total", <[_]>::is_empty);
    // That was no failure to scrape: everything else is still there.
    prometheus.until("up", |all| matches!(all, [(_, number)] if *number == 1.0));
    prometheus.until("ringfence_map_hits_total", |all| matches!(all, [(_, number)] if *number == 25.0));
    serving.end();
}

#[test]
fn more_keys_than_series_are_counted() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile("metered", dir.path());
    let serving = serve(&object, &["--set", &format!("target_pid={}", std::process::id())]);
    call(3000);
    let metrics = serving.scrape();
    let series = metrics.series.keys().filter(|name| name.starts_with("ringfence_map_numbers{")).count();
    let left_out = metrics.get("ringfence_keys_left_out{map=\"numbers\"}").expect("a number");
    assert_eq!(series as f64 + left_out, 3000.0);
    assert_eq!(series, 2000);
    serving.end();
}

#[test]
fn events_are_counted_and_labelled() {
    let _alone = alone();
    let me = format!("pid == {} && filename ~ '/proc/*'", std::process::id());
    let serving = serve(Path::new("opens"), &["--where", &me, "--count-by", "filename,ret"]);
    assert!(std::fs::read("/proc/no-such-file").is_err());
    assert!(std::fs::read("/proc/no-such-file").is_err());
    let series = "ringfence_events_by_total{filename=\"/proc/no-such-file\",ret=\"-2 ENOENT\"}";
    wait_for("the counts", || serving.scrape().get(series) == Some(2.0));
    let metrics = serving.scrape();
    let events = metrics.get("ringfence_events_total{map=\"events\"}").expect("events");
    let filtered = metrics.get("ringfence_events_left_out_total{reason=\"where\"}").expect("a number");
    assert!(events >= filtered + 2.0, "{metrics:#?}");
    // Nobody but the program counts the losses of a ring buffer.
    assert!(!metrics.series.keys().any(|name| name.starts_with("ringfence_events_lost_total")));
    assert_eq!(metrics.get("ringfence_global_lost_events_total"), Some(0.0), "{metrics:#?}");
    assert!(metrics.series.keys().any(|name| name.starts_with("ringfence_program_runs_total{program=")));
    serving.end();
}

#[test]
fn other_requests_are_refused_and_nobody_can_block_it() {
    let _alone = alone();
    let serving = serve(Path::new("opens"), &[]);
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "404"),
        ("POST /metrics HTTP/1.1\r\n\r\n".to_owned(), "405"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
        (format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(9 << 10)), "431"),
    ] {
        assert!(serving.request(&request).starts_with(&format!("HTTP/1.1 {status} ")), "{status}");
    }
    let head = serving.request("HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), "{head}");
    // Connections that say nothing are given up.
    let silent: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(&serving.address).expect("a connection")).collect();
    let start = Instant::now();
    serving.scrape();
    assert!(start.elapsed() < Duration::from_secs(6));
    drop(silent);
    let busy = ringfence().args(["run", "opens", "--metrics", &serving.address]).output().expect("output");
    assert!(
        !busy.status.success() && common::stderr(&busy).contains("--metrics 127.0.0.1"),
        "{}",
        common::stderr(&busy)
    );
    serving.end();
}
