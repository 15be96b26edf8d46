//! `twinfeed healthcheck`: asks the probe of a node on the same machine and says its answer in one line and an exit code,
//! for container engines and scripts that have no HTTP client. It reads the configuration as the node does, sends one
//! request to `listen.http`, and starts nothing.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args as ClapArgs;

use crate::config::{self, ConfigError};

/// Longest answer that is read; a probe's is a line for each check.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// `twinfeed healthcheck`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  twinfeed healthcheck --config node.toml\n  twinfeed healthcheck --http 10.0.0.2:9464 --live"
)]
pub struct Args {
    /// Address of the node's HTTP listener; by default what the configuration says
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// The node's TOML file; without one, defaults and TWINFEED_… variables
    #[arg(long, value_name = "FILE", conflicts_with = "http")]
    config: Option<PathBuf>,
    /// Ask whether the process works at all (/livez), not whether it may take work (/readyz)
    #[arg(long)]
    live: bool,
    /// Longest wait for the answer
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Why a node cannot be called healthy.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{url} does not answer within {}", humantime::format_duration(*timeout))]
    Silent {
        url: String,
        timeout: Duration,
        #[source]
        source: io::Error,
    },
    #[error("{url} says: {said}")]
    Unhealthy { url: String, said: String },
}

/// Asks, and prints `ok: …` on stdout or the reason on stderr; exit code 0 if the probe passes, else 1.
pub fn run(args: &Args) -> ExitCode {
    match check(args) {
        Ok(url) => {
            println!("ok: {url}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {:#}", anyhow::Error::new(error));
            ExitCode::FAILURE
        }
    }
}

fn check(args: &Args) -> Result<String, Error> {
    let configured = || config::load(args.config.as_deref()).map(|loaded| loaded.config.listen.http);
    let address = callable(&args.http.clone().map_or_else(configured, Ok)?);
    let path = if args.live { "/livez" } else { "/readyz" };
    let url = format!("http://{address}{path}");
    let answer = ask(&address, path, args.timeout);
    let answer = answer.map_err(|source| Error::Silent { url: url.clone(), timeout: args.timeout, source })?;
    if is_ok(&answer) { Ok(url) } else { Err(Error::Unhealthy { url, said: reasons(&answer) }) }
}

/// A wildcard is an address to listen on, not to call.
fn callable(address: &str) -> String {
    match address.rsplit_once(':') {
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => address.to_owned(),
    }
}

/// One request, one answer; each step gets what is left of the time.
fn ask(address: &str, path: &str, timeout: Duration) -> io::Result<String> {
    let deadline = Instant::now() + timeout;
    // A timeout of zero would mean none.
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for resolved in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&resolved, left()) {
            Ok(mut stream) => {
                stream.set_write_timeout(Some(left()))?;
                let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
                stream.write_all(request.as_bytes())?;
                stream.set_read_timeout(Some(left()))?;
                let mut answer = String::new();
                stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
                return Ok(answer);
            }
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn is_ok(answer: &str) -> bool {
    answer.split(' ').nth(1) == Some("200")
}

/// The failed checks of a probe on one line, or whatever else was said.
fn reasons(answer: &str) -> String {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let failed: Vec<&str> = body.lines().filter_map(|line| line.strip_prefix("[-]")).collect();
    match (failed.is_empty(), answer.lines().next()) {
        (false, _) => failed.join("; "),
        (true, Some(status)) => status.to_owned(),
        (true, None) => "nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_called_on_loopback() {
        assert_eq!(callable("0.0.0.0:9464"), "127.0.0.1:9464");
        assert_eq!(callable("[::]:1"), "[::1]:1");
        assert_eq!(callable("10.0.0.1:9464"), "10.0.0.1:9464");
    }

    #[test]
    fn only_200_is_healthy_and_the_failed_checks_are_told() {
        assert!(is_ok("HTTP/1.1 200 OK\r\n\r\nok\n"));
        let answer =
            "HTTP/1.1 503 Service Unavailable\r\nx: y\r\n\r\n[+]log ok\n[-]leader failed: none\n[-]drain failed: yes\n";
        assert!(!is_ok(answer));
        assert_eq!(reasons(answer), "leader failed: none; drain failed: yes");
        assert_eq!(reasons("HTTP/1.1 404 Not Found\r\n\r\n"), "HTTP/1.1 404 Not Found");
        assert!(!is_ok("") && reasons("") == "nothing");
    }
}
