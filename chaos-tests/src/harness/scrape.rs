//! A node's own metrics, as a monitoring system reads them.

use std::{io::Write as _, net::TcpStream, time::Duration};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_name_and_of_no_longer_one() {
        let text = "# TYPE a gauge\na{x=\"1 2\"} 3\na 4.5\nab 6\n";
        assert_eq!(values(text, "a"), [3.0, 4.5]);
    }
}
