//! The way to the cluster: a list of endpoints, one deadline per call, and the next endpoint when one cannot help.
//! Every change carries a request id that the cluster remembers, so sending it again cannot do it twice; every other
//! call only reads. That is why any call may go to the next endpoint, and why nothing but UNAVAILABLE makes it go.

use std::time::{Duration, Instant};

use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};

use crate::error::{Error, root_cause};

const CLIENT: &str = concat!("wsctl/", env!("CARGO_PKG_VERSION"));
/// A dead host answers nothing at all; a living one, anywhere on earth, answers a SYN sooner than this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A frozen node keeps its sockets open: after this long without an answer to a ping it counts as UNAVAILABLE.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// What is asked: how long it may take, and for a change how to repeat and check it.
pub(crate) struct Call {
    pub(crate) deadline: Duration,
    pub(crate) change: Option<Change>,
}

/// What makes a change repeatable after its outcome was lost.
pub(crate) struct Change {
    pub(crate) request_id: String,
    /// The command that shows whether it happened.
    pub(crate) check: String,
}

/// The cluster, through whichever endpoint answers.
pub(crate) struct Connection {
    endpoints: Vec<(String, Endpoint)>,
    /// The endpoint that answered last, first to be asked next.
    preferred: Option<(usize, Channel)>,
}

impl Connection {
    /// Checks the endpoints; nothing is dialed yet.
    ///
    /// # Errors
    /// [`Error::Usage`] for an endpoint that is not `HOST:PORT`.
    pub(crate) fn new(endpoints: &[String]) -> Result<Self, Error> {
        let endpoints = endpoints.iter().map(|text| endpoint(text.trim())).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { endpoints, preferred: None })
    }

    /// Sends one request to the first endpoint that can help.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when none accepts a connection, [`Error::Refused`] with the answer of the one that did,
    /// [`Error::TimedOut`] at the deadline.
    pub(crate) async fn call<Q: Clone, R>(
        &mut self,
        call: Call,
        message: Q,
        send: impl AsyncFn(Channel, Request<Q>) -> Result<Response<R>, Status>,
    ) -> Result<R, Error> {
        let expires = Instant::now() + call.deadline;
        let attempts = self.attempts(expires, message, send);
        let ended = match tokio::time::timeout(call.deadline, attempts).await {
            Ok(ended) => ended,
            Err(_) => Err(Error::TimedOut {
                what: format!("no answer within {}", humantime::format_duration(call.deadline)),
                hints: Vec::new(),
            }),
        };
        ended.map_err(|error| match call.change {
            Some(change) if error.outcome_unknown() => error
                .hint("the outcome is unknown: the change may have been made")
                .hint(format!("check with: {}", change.check))
                .hint(format!("repeat safely by adding: --request-id {}", change.request_id)),
            _ => error,
        })
    }

    async fn attempts<Q: Clone, R>(
        &mut self,
        expires: Instant,
        message: Q,
        send: impl AsyncFn(Channel, Request<Q>) -> Result<Response<R>, Status>,
    ) -> Result<R, Error> {
        let mut tried = Vec::new();
        let mut refused: Option<Error> = None;
        let first = self.preferred.as_ref().map_or(0, |(index, _)| *index);
        for index in (0..self.endpoints.len()).map(|i| (first + i) % self.endpoints.len()) {
            let channel = match self.channel(index).await {
                Ok(channel) => channel,
                Err(why) => {
                    tried.push((self.endpoints[index].0.clone(), why));
                    continue;
                }
            };
            match send(channel.clone(), request(&message, expires)).await {
                Ok(response) => {
                    self.preferred = Some((index, channel));
                    return Ok(response.into_inner());
                }
                Err(status) if status.code() == Code::Unavailable => {
                    self.preferred = None;
                    refused = Some(more_telling(refused, status));
                }
                Err(status) => {
                    self.preferred = Some((index, channel));
                    return Err(status.into());
                }
            }
        }
        Err(refused.unwrap_or(Error::Unreachable { tried }))
    }

    async fn channel(&self, index: usize) -> Result<Channel, String> {
        if let Some((_, channel)) = self.preferred.as_ref().filter(|(preferred, _)| *preferred == index) {
            return Ok(channel.clone());
        }
        self.endpoints[index].1.connect().await.map_err(|error| root_cause(&error))
    }
}

/// Keeps what says most about a change: "I broke off in the middle" outweighs a later node's "I have no leader".
fn more_telling(earlier: Option<Error>, status: Status) -> Error {
    match earlier {
        Some(error) if error.outcome_unknown() => error,
        Some(_) | None => Error::from(status),
    }
}

fn request<Q: Clone>(message: &Q, expires: Instant) -> Request<Q> {
    let mut request = Request::new(message.clone());
    // The server learns the same deadline and stops working when nobody waits any more.
    request.set_timeout(expires.saturating_duration_since(Instant::now()));
    request.metadata_mut().insert("twinfeed-client", CLIENT.parse().expect("a name and a version are ASCII"));
    request
}

fn endpoint(text: &str) -> Result<(String, Endpoint), Error> {
    let help = "give HOST:PORT, for example 127.0.0.1:9090; several with commas between them";
    let address = text.strip_prefix("http://").unwrap_or(text);
    let port = address.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port));
    if address.contains('/') || port.is_none_or(|port| port.parse::<u16>().is_err()) {
        return Err(Error::usage(format!("endpoint {text:?} is not HOST:PORT"), help));
    }
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .and_then(|endpoint| endpoint.user_agent(CLIENT))
        .map_err(|error| Error::usage(format!("endpoint {text:?}: {}", root_cause(&error)), help))?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    Ok((address.to_owned(), endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_checked_before_anything_is_dialed() {
        for good in ["127.0.0.1:9090", "n1:9090", "[::1]:9090", "http://n1:9090"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in ["", "n1", ":9090", "n1:", "n1:99999", "https://n1:9090", "n1:9090/x", "a b:1"] {
            assert!(matches!(endpoint(bad), Err(Error::Usage { .. })), "{bad}");
        }
    }

    #[test]
    fn a_broken_call_outweighs_a_later_refusal() {
        let broken = Error::from(Status::unavailable("connection reset"));
        let kept = more_telling(Some(broken), Status::unavailable("no leader"));
        assert!(kept.outcome_unknown());
        assert_eq!(kept.to_string(), "connection reset");
    }
}
