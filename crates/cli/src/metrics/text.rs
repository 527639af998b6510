//! Metrics as text: Prometheus' format 0.0.4 and OpenMetrics 1.0, which differ in the names of counters and in the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Bytes of a label's value.
const MOST_LABEL: usize = 128;

/// Names and values, in the order in which they are written.
pub type Labels = Vec<(String, String)>;

/// What a family's numbers are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A number, or the slots of a histogram: `(upper bound, count)`; what is above the last bound is in the slot `None`.
#[derive(Clone, PartialEq, Debug)]
pub enum Sample {
    Integer(i128),
    Float(f64),
    Slots(Vec<(Option<u64>, u64)>),
}

/// Families by name, samples by labels: several values of one series are added up.
#[derive(Clone, Default)]
pub struct Page {
    families: BTreeMap<String, Family>,
}

#[derive(Clone)]
struct Family {
    kind: Kind,
    help: String,
    samples: BTreeMap<Labels, Sample>,
}

/// A name that metrics and labels may have.
pub fn name(text: &str) -> String {
    let mut out: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

/// A label. Two underscores in front, and `le` of histograms, are taken.
pub fn label(text: &str, value: &str) -> (String, String) {
    let mut key = name(text);
    if key.starts_with("__") {
        key = format!("x{key}");
    }
    if key == "le" {
        key.push('_');
    }
    let end = value.char_indices().map(|(at, _)| at).find(|at| *at >= MOST_LABEL).unwrap_or(value.len());
    (key, value.get(..end).unwrap_or_default().to_owned())
}

fn labelled(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| label(key, value)).collect()
}

impl Page {
    /// Adds a number that only grows. `name` without `_total`.
    pub fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], number: u64) {
        self.add(name, Kind::Counter, help, labelled(labels), Sample::Integer(number.into()));
    }

    /// Adds a number as it is now.
    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], number: u64) {
        self.add(name, Kind::Gauge, help, labelled(labels), Sample::Integer(number.into()));
    }

    /// Adds time that only grows. `name` ends in `_seconds`.
    pub fn seconds(&mut self, name: &str, help: &str, labels: &[(&str, &str)], time: Duration) {
        self.add(name, Kind::Counter, help, labelled(labels), Sample::Float(time.as_secs_f64()));
    }

    /// What a tool costs. `in_kernel`: time in its programs and how often they ran, where that is known.
    pub fn cost(&mut self, tool: &str, own: Duration, in_kernel: Option<(Duration, u64)>) {
        let tool = &[("tool", tool)];
        self.seconds("ringfence_own_cpu_seconds", "CPU time of this process.", tool, own);
        if let Some((time, runs)) = in_kernel {
            self.seconds("ringfence_own_kernel_seconds", "Time that its programs ran in the kernel.", tool, time);
            self.counter("ringfence_own_runs", "Runs of its programs in the kernel.", tool, runs);
        }
    }

    /// Adds a sample; how many series that makes.
    pub fn add(&mut self, name: &str, kind: Kind, help: &str, mut labels: Labels, sample: Sample) -> usize {
        // A name twice in one series is none: the later one gets a number.
        for at in 1..labels.len() {
            let mut key = labels[at].0.clone();
            let mut number = 2;
            while labels[..at].iter().any(|(other, _)| *other == key) {
                key = format!("{}_{number}", labels[at].0);
                number += 1;
            }
            labels[at].0 = key;
        }
        let name = match self.families.get(name) {
            // Two members that differ only in characters which metrics do not have.
            Some(family) if family.kind != kind => format!("{name}_{}", kind.word()),
            _ => name.to_owned(),
        };
        let family = self.families.entry(name).or_insert_with(|| Family {
            kind,
            help: help.to_owned(),
            samples: BTreeMap::new(),
        });
        let series = match &sample {
            Sample::Slots(slots) => slots.len() + 2,
            Sample::Integer(_) | Sample::Float(_) => 1,
        };
        match family.samples.get_mut(&labels) {
            Some(known) => {
                known.add(sample);
                0
            }
            None => {
                family.samples.insert(labels, sample);
                series
            }
        }
    }

    /// The text.
    pub fn text(&self, open: bool) -> String {
        let mut out = String::new();
        for (name, family) in &self.families {
            let behind = if family.kind == Kind::Counter { "_total" } else { "" };
            let head = if open { "" } else { behind };
            let help = family.help.replace('\\', r"\\").replace('\n', r"\n");
            let help = if open { help.replace('"', "\\\"") } else { help };
            let _ = writeln!(out, "# HELP {name}{head} {help}\n# TYPE {name}{head} {}", family.kind.word());
            for (labels, sample) in &family.samples {
                let line = |out: &mut String, behind: &str, bound: Option<&str>, value: &str| {
                    let _ = write!(out, "{name}{behind}");
                    let own = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
                    for (n, (key, value)) in own.chain(bound.map(|bound| ("le", bound))).enumerate() {
                        let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
                        let _ = write!(out, "{}{key}=\"{value}\"", if n == 0 { "{" } else { "," });
                    }
                    let end = if labels.len() + usize::from(bound.is_some()) > 0 { "}" } else { "" };
                    let _ = writeln!(out, "{end} {value}");
                };
                match sample {
                    Sample::Integer(value) => line(&mut out, behind, None, &value.to_string()),
                    Sample::Float(value) => line(&mut out, behind, None, &float(*value)),
                    Sample::Slots(slots) => {
                        let mut all = 0u64;
                        for (bound, count) in slots {
                            all = all.saturating_add(*count);
                            if let Some(bound) = bound {
                                let bound = if open { format!("{bound}.0") } else { bound.to_string() };
                                line(&mut out, "_bucket", Some(&bound), &all.to_string());
                            }
                        }
                        line(&mut out, "_bucket", Some("+Inf"), &all.to_string());
                        line(&mut out, "_count", None, &all.to_string());
                    }
                }
            }
        }
        if open {
            out.push_str("# EOF\n");
        }
        out
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

impl Sample {
    fn add(&mut self, other: Sample) {
        match (self, other) {
            (Sample::Integer(sum), Sample::Integer(more)) => *sum = sum.saturating_add(more),
            (Sample::Float(sum), Sample::Float(more)) => *sum += more,
            (Sample::Slots(sum), Sample::Slots(more)) => {
                for ((_, count), (_, more)) in sum.iter_mut().zip(more) {
                    *count = count.saturating_add(more);
                }
            }
            _ => {}
        }
    }
}

fn float(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats() {
        let mut page = Page::default();
        let labels = || vec![label("comm", "a\"b\\c\nd"), label("0 x", "1"), label("le", "2"), label("comm", "z")];
        assert_eq!(page.add("n", Kind::Counter, "What\nit is.", labels(), Sample::Integer(1)), 1);
        assert_eq!(page.add("n", Kind::Counter, "", labels(), Sample::Integer(2)), 0);
        page.add("h", Kind::Histogram, "H.", vec![], Sample::Slots(vec![(Some(1), 2), (Some(3), 0), (None, 4)]));
        page.add("g", Kind::Gauge, "G.", vec![], Sample::Float(0.5));
        let series = r#"n_total{comm="a\"b\\c\nd",_0_x="1",le_="2",comm_2="z"} 3"#;
        let histogram = "h_bucket{le=\"1\"} 2\nh_bucket{le=\"3\"} 2\nh_bucket{le=\"+Inf\"} 6\nh_count 6\n";
        let plain = page.text(false);
        assert_eq!(
            plain,
            format!(
                "# HELP g G.\n# TYPE g gauge\ng 0.5\n# HELP h H.\n# TYPE h histogram\n{histogram}\
                 # HELP n_total What\\nit is.\n# TYPE n_total counter\n{series}\n"
            )
        );
        let open = page.text(true);
        assert!(open.contains("# TYPE n counter\nn_total{") && open.contains("le=\"1.0\""), "{open}");
        assert!(open.ends_with("\n# EOF\n"));
    }

    #[test]
    fn labels_are_short() {
        assert_eq!(label("k", &"ü".repeat(200)).1.chars().count(), 64);
        assert_eq!(label("__name__", "x").0, "x__name__");
    }
}
