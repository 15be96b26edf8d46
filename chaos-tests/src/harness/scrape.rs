//! A node's own metrics, as a monitoring system reads them.

use std::{collections::BTreeMap, io::Write as _, net::TcpStream, time::Duration};

use anyhow::{Context as _, Result, ensure};

const WITHIN: Duration = Duration::from_secs(3);

/// The values of all series of `name` at the HTTP listener `address`.
pub fn metric(address: &str, name: &str) -> Result<Vec<f64>> {
    Ok(values(&exposition(address)?, name))
}

/// Everything that the node with the HTTP listener `address` exposes now.
pub fn exposition(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n")?;
    let answer = std::io::read_to_string(stream)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "no metrics at {address}");
    let body = answer.split_once("\r\n\r\n").context("an answer without a body")?.1;
    Ok(body.to_owned())
}

fn values(text: &str, name: &str) -> Vec<f64> {
    let of = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let rest = rest.starts_with(['{', ' ']).then_some(rest)?;
        rest.rsplit(' ').next()?.parse().ok()
    };
    text.lines().filter_map(of).collect()
}

/// A histogram of any number of series: the upper bounds in microseconds, and how many measurements are at or below each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distribution(BTreeMap<u64, f64>);

impl Distribution {
    /// Adds the histogram `name` of an exposition.
    pub fn add(&mut self, text: &str, name: &str) {
        for line in text.lines() {
            let bucket = line.strip_prefix(name).and_then(|rest| rest.strip_prefix("_bucket{"));
            let Some((labels, value)) = bucket.and_then(|rest| rest.rsplit_once("} ")) else { continue };
            let bound = labels.split(',').find_map(|label| label.strip_prefix("le=\"")?.strip_suffix('"'));
            let bound = bound.and_then(|bound| bound.parse::<f64>().ok());
            if let (Some(bound), Ok(value)) = (bound, value.parse::<f64>()) {
                *self.0.entry((bound * 1e6) as u64).or_default() += value;
            }
        }
    }

    /// What was measured since `earlier`.
    pub fn since(mut self, earlier: &Self) -> Self {
        self.0.iter_mut().for_each(|(bound, count)| *count -= earlier.0.get(bound).copied().unwrap_or(0.0));
        self
    }

    /// The quantile in milliseconds, between the bounds of its bucket as if that were evenly filled; `None` without a
    /// measurement.
    pub fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        let all = self.0.last_key_value().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let (mut low_us, mut below) = (0.0, 0.0);
        for (&bound_us, &count) in &self.0 {
            if count >= all * quantile {
                let bound_us = if bound_us == u64::MAX { low_us } else { bound_us as f64 };
                let part = (all * quantile - below) / (count - below).max(f64::MIN_POSITIVE);
                return Some((low_us + (bound_us - low_us) * part) / 1e3);
            }
            (low_us, below) = (bound_us as f64, count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_name_and_of_no_longer_one() {
        let text = "# TYPE a gauge\na{x=\"1 2\"} 3\na 4.5\nab 6\n";
        assert_eq!(values(text, "a"), [3.0, 4.5]);
    }

    #[test]
    fn quantiles_are_those_of_what_was_measured_between_two_looks() {
        let text = |counts: [u32; 3]| {
            let [a, b, c] = counts;
            format!(
                "# TYPE d histogram\nd_bucket{{le=\"0.01\",connector=\"x\"}} {a}\nd_bucket{{le=\"0.02\",connector=\"x\"}} {b}\n\
                 d_bucket{{le=\"+Inf\",connector=\"x\"}} {c}\nd_count{{connector=\"x\"}} {c}\n"
            )
        };
        let of = |counts| {
            let mut distribution = Distribution::default();
            distribution.add(&text(counts), "d");
            distribution
        };
        // The first look saw only slow ones.
        let measured = of([50, 100, 200]).since(&of([0, 0, 100]));
        assert_eq!(measured.quantile_ms(0.25), Some(5.0));
        assert_eq!(measured.quantile_ms(0.75), Some(15.0));
        assert_eq!(of([0, 0, 0]).quantile_ms(0.5), None);
        assert_eq!(of([0, 0, 10]).quantile_ms(0.5), Some(20.0), "at least the last bound");
    }
}
