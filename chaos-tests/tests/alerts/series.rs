//! The scrapes of a scene as series of time. What nodes said in the scene's first seconds is taken to have been so for long
//! before, and what they said in its last ones to go on: an alert that waits for ten minutes need not be waited for.

use std::collections::{BTreeMap, BTreeSet};

use super::watch::Scrape;

/// As deploy/observability/prometheus.yml names the job.
const JOB: &str = "twinfeed";
/// So many of a scene's first seconds are told backwards.
pub(super) const BEFORE_S: usize = 3;
/// How long it had been so, and goes on to be so, in seconds: longer than the longest wait of a rule.
pub(super) const HISTORY_S: u64 = 1_260;
pub(super) const TAIL_S: u64 = 1_600;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Sample {
    /// Nobody asked in this second.
    Unasked,
    /// The node does not say it any more.
    Gone,
    Is(f64),
}

use Sample::{Gone, Is, Unasked};

/// What moves by itself as time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gauge,
    /// Counters, and the parts of histograms.
    Count,
    /// Unix time, moved so that the scene happens when the evaluation thinks it does.
    Timestamp,
}

impl Kind {
    fn of(name: &str) -> Self {
        if name.ends_with("_timestamp_seconds") {
            Self::Timestamp
        } else if ["_total", "_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end)) {
            Self::Count
        } else {
            Self::Gauge
        }
    }
}

/// One line of values for each series, of a whole scene.
#[derive(Debug, Default)]
pub(super) struct Series {
    samples: BTreeMap<String, (Kind, Vec<Sample>)>,
    seconds: usize,
}

/// A scene's place in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) to: u64,
    /// Unix time of `from`.
    pub(super) at: f64,
}

impl Series {
    /// Of the wanted metrics, with the labels that a scrape adds.
    pub(super) fn of(scrapes: &[Scrape], span: Span, cluster: &str, wanted: &BTreeSet<String>) -> Self {
        let mut series = Self { samples: BTreeMap::new(), seconds: (span.to - span.from) as usize };
        let shift = HISTORY_S as f64 - span.at;
        for scrape in scrapes {
            let second = (scrape.second - span.from) as usize;
            let target = format!("cluster=\"{cluster}\",instance=\"{}\",job=\"{JOB}\"", scrape.node);
            let up = f64::from(u8::from(scrape.text.is_some()));
            series.end_all_of(&target, second);
            series.set(format!("up{{{target}}}"), "up", second, up);
            for line in scrape.text.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with('#')) {
                let Some((key, value)) = line.rsplit_once(' ') else { continue };
                let (name, labels) = key.split_once('{').map_or((key, ""), |(name, more)| (name, more));
                let Some(value) = value.parse().ok().filter(|_| wanted.contains(name)) else { continue };
                let labels = if labels.is_empty() { "}".to_owned() } else { format!(",{labels}") };
                let value = if Kind::of(name) == Kind::Timestamp { value + shift } else { value };
                series.set(format!("{name}{{{target}{labels}"), name, second, value);
            }
        }
        series
    }

    /// What a target said before is gone, unless it says it again.
    fn end_all_of(&mut self, target: &str, second: usize) {
        for (key, (_, samples)) in &mut self.samples {
            if key.contains(target) && samples[..second].iter().any(|sample| matches!(sample, Is(_))) {
                samples[second] = Gone;
            }
        }
    }

    fn set(&mut self, key: String, name: &str, second: usize, value: f64) {
        let seconds = self.seconds;
        let (_, samples) = self.samples.entry(key).or_insert_with(|| (Kind::of(name), vec![Unasked; seconds]));
        samples[second] = Is(value);
    }

    /// In the notation of promtool; the last `lasting` seconds go on.
    pub(super) fn lines(&self, lasting: usize) -> impl Iterator<Item = (&String, String)> {
        self.samples.iter().map(move |(key, (kind, samples))| (key, line(*kind, samples, lasting)))
    }

    /// How long the scene was watched.
    pub(super) fn seconds(&self) -> u64 {
        self.seconds as u64
    }

    /// The first seconds as if nothing else had ever been, in another cluster.
    pub(super) fn as_ever(&self, cluster: &str, of: &str) -> Self {
        let seconds = BEFORE_S.min(self.seconds);
        let renamed = |key: &str| key.replace(&format!("cluster=\"{of}\""), &format!("cluster=\"{cluster}\""));
        let first = |samples: &Vec<Sample>| samples[..seconds].to_vec();
        let samples = self.samples.iter().map(|(key, (kind, samples))| (renamed(key), (*kind, first(samples))));
        Self { samples: samples.collect(), seconds }
    }
}

fn line(kind: Kind, samples: &[Sample], lasting: usize) -> String {
    let known = |samples: &[Sample]| -> Vec<(usize, f64)> {
        samples
            .iter()
            .enumerate()
            .filter_map(|(at, s)| if let Is(value) = s { Some((at, *value)) } else { None })
            .collect()
    };
    let mut parts = Vec::new();
    let beginning = known(&samples[..BEFORE_S.min(samples.len())]);
    match beginning.first() {
        Some((at, value)) => {
            let (slope, back) = (slope(kind, &beginning), HISTORY_S as f64 + *at as f64);
            parts.push(format!("{}+{slope}x{}", value - slope * back, HISTORY_S - 1));
        }
        None => parts.push(format!("_x{HISTORY_S}")),
    }
    parts.extend(samples.iter().map(|sample| match sample {
        Unasked => "_".to_owned(),
        Gone => "stale".to_owned(),
        Is(value) => value.to_string(),
    }));
    let Some(Is(_)) = samples.iter().rfind(|sample| **sample != Unasked) else { return parts.join(" ") };
    let end = known(&samples[samples.len().saturating_sub(lasting)..]);
    let Some((_, last)) = end.last() else { return parts.join(" ") };
    if kind == Kind::Gauge && end.iter().any(|(_, value)| value != last) {
        let again = end.iter().map(|(_, value)| value.to_string()).collect::<Vec<_>>().join(" ");
        parts.extend(vec![again; TAIL_S as usize / end.len()]);
    } else {
        let slope = slope(kind, &end);
        parts.push(format!("{}+{slope}x{}", last + slope, TAIL_S - 1));
    }
    parts.join(" ")
}

/// By how much it grows in a second.
fn slope(kind: Kind, known: &[(usize, f64)]) -> f64 {
    let (Some((from, first)), Some((to, last))) = (known.first(), known.last()) else { return 0.0 };
    match kind {
        Kind::Gauge => 0.0,
        Kind::Timestamp => f64::from(u8::from(last > first)),
        Kind::Count if to > from && last > first => (last - first) / (to - from) as f64,
        Kind::Count => 0.0,
    }
}

/// Names of metrics in the rules.
pub(super) fn names(rules: &str) -> BTreeSet<String> {
    let words = rules.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("twinfeed_")).map(str::to_owned).collect()
}
