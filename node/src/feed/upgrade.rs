//! The HTTP/1.1 upgrade of RFC 6455: writes the request, reads the answer within bounds, and checks it. Called by `dial`
//! with an open stream. Ours beside the library's, which takes header lists for single values and forgets what a server
//! says when it refuses. Lenient where an RFC lets servers choose, strict where bytes would be misread.

use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderValue;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

use super::{
    error::{Error, Refusal, printable},
    retry_after::retry_after,
    sent::Sent,
};
use crate::model::{feed_url::Endpoint, frame::EndKind};

/// Status line and headers of an answer, at most, interim answers included.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Header lines of an answer, at most.
const ANSWER_HEADERS_MAX: usize = 128;
/// Of a refusal's body, so much is read, for so long: it is for an operator's eyes.
const BODY_BYTES_MAX: usize = 2048;
const BODY_WAIT: Duration = Duration::from_millis(500);
const BODY_SHOWN_CHARS: usize = 120;

const USER_AGENT: &str = concat!("twinfeed/", env!("CARGO_PKG_VERSION"));

/// A request that waits to be written, with what the answer is checked against.
pub(super) struct Request {
    head: Vec<u8>,
    accept: String,
    /// Subprotocols that were asked for.
    protocols: Vec<String>,
}

/// Status line and headers of an answer. Names are in lower case.
#[derive(Debug, Default)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
}

impl Request {
    /// The request for `endpoint`. A header that is given takes the place of ours.
    pub(super) fn new(endpoint: &Endpoint, headers: &[(String, HeaderValue)]) -> Self {
        let key = generate_key();
        let own = [
            ("Host", endpoint.authority.as_str()),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", key.as_str()),
            ("User-Agent", USER_AGENT),
        ];
        let mut head = format!("GET {} HTTP/1.1\r\n", endpoint.path_and_query).into_bytes();
        let mut line = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                head.extend_from_slice(part);
            }
        };
        for (name, value) in own {
            if !headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
                line(name, value.as_bytes());
            }
        }
        // Names as they were given: there are servers that mind the case.
        headers.iter().for_each(|(name, value)| line(name, value.as_bytes()));
        head.extend_from_slice(b"\r\n");
        let asked = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"));
        let protocols = asked.flat_map(|(_, value)| elements(&String::from_utf8_lossy(value.as_bytes()))).collect();
        Self { head, accept: derive_accept_key(key.as_bytes()), protocols }
    }

    /// Whether `answer` upgrades the connection to what was asked for.
    fn check(&self, answer: &Answer) -> Result<(), String> {
        let missing = |what: &str| Err(format!("the server answered 101 without {what}"));
        // A protocol may carry a version after a slash.
        let is_websocket =
            |token: &String| token.split('/').next().is_some_and(|name| name.eq_ignore_ascii_case("websocket"));
        if !answer.elements("upgrade").iter().any(is_websocket) {
            return missing("`Upgrade: websocket`");
        }
        if !answer.elements("connection").iter().any(|token| token.eq_ignore_ascii_case("upgrade")) {
            return missing("`Connection: Upgrade`");
        }
        let mut accepts = answer.values("sec-websocket-accept").peekable();
        if accepts.peek().is_none() {
            return missing("`Sec-WebSocket-Accept`");
        }
        if accepts.any(|accept| accept != self.accept) {
            return Err(
                "the server's Sec-WebSocket-Accept is not the answer to this request: a cache or a proxy that \
                        does not know websockets"
                    .into(),
            );
        }
        if let Some(extension) = answer.elements("sec-websocket-extensions").first() {
            let name = printable(extension.split(';').next().unwrap_or_default().trim(), 60);
            return Err(format!(
                "the server insists on the extension {name}, which was not offered; turn it off there for clients that \
                 do not offer it"
            ));
        }
        match answer.elements("sec-websocket-protocol").as_slice() {
            [] => Ok(()),
            [chosen] if self.protocols.contains(chosen) => Ok(()),
            chosen => Err(format!(
                "the server chose the subprotocol {}, which was not asked for; ask for it with the header \
                 Sec-WebSocket-Protocol in websocket.headers",
                printable(&chosen.join(", "), 60)
            )),
        }
    }
}

impl Answer {
    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The elements of a list header, of all its lines.
    fn elements(&self, name: &str) -> Vec<String> {
        self.values(name).flat_map(elements).collect()
    }

    fn retry_after(&self, now: SystemTime) -> Option<Duration> {
        retry_after(self.values("retry-after").next()?, self.values("date").next(), now)
    }
}

/// The elements of a list as RFC 9110 writes it.
fn elements(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|element| !element.is_empty()).map(str::to_owned).collect()
}

/// The answer's beginning that was read, and the bytes after it.
pub(super) struct Answered {
    answer: Answer,
    rest: BytesMut,
}

/// Writes the request and reads the head of the final answer.
pub(super) async fn exchange<S>(stream: &mut S, request: &Request) -> Result<Answered, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let lost = |source: std::io::Error| {
        Error::ended(EndKind::Handshake, format!("connection lost during the websocket upgrade: {source}"))
    };
    stream.write_all(&request.head).await.map_err(lost)?;
    stream.flush().await.map_err(lost)?;
    let (mut rest, mut interim_bytes) = (BytesMut::with_capacity(4096), 0);
    loop {
        let before = rest.len();
        if stream.read_buf(&mut rest).await.map_err(lost)? == 0 {
            let why = "the server closed the connection instead of answering the websocket upgrade";
            return Err(Error::ended(EndKind::Handshake, why));
        }
        // Only a new line can complete the head; the first bytes are looked at to tell what is no HTTP at all.
        if before == 0 || rest[before..].contains(&b'\n') {
            while let Some((answer, length)) = parse(&rest)? {
                rest.advance(length);
                // 100 Continue and 103 Early Hints come before the answer.
                if !(100..200).contains(&answer.status) || answer.status == 101 {
                    return Ok(Answered { answer, rest });
                }
                interim_bytes += length;
            }
        }
        if interim_bytes + rest.len() > ANSWER_BYTES_MAX {
            let why = format!("the server's answer to the upgrade is longer than {ANSWER_BYTES_MAX} bytes");
            return Err(Error::ended(EndKind::Handshake, why));
        }
    }
}

/// The bytes that follow a good answer; a refusal with what the server says, or what is wrong with the answer.
pub(super) async fn accepted<S>(
    stream: &mut S,
    request: &Request,
    answered: Answered,
    sent: &Sent,
) -> Result<Bytes, Error>
where
    S: AsyncRead + Unpin,
{
    let Answered { answer, rest } = answered;
    if answer.status != 101 {
        let retry_after = answer.retry_after(SystemTime::now());
        let body = excerpt(&body(stream, &answer, rest).await, sent);
        return Err(Error::NotUpgraded(Refusal { status: answer.status, retry_after, body }));
    }
    request.check(&answer).map_err(|why| Error::ended(EndKind::Handshake, why))?;
    Ok(rest.freeze())
}

/// The first answer in `bytes` and its length; None if it is not whole yet.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, usize)>, Error> {
    let mut headers = [httparse::EMPTY_HEADER; ANSWER_HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let mut config = httparse::ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(true);
    config.allow_obsolete_multiline_headers_in_responses(true);
    config.allow_multiple_spaces_in_response_status_delimiters(true);
    let length = match config.parse_response(&mut response, bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Error::ended(EndKind::Handshake, "the server sent too many headers"));
        }
        Err(error) => {
            // The first byte of a TLS alert or handshake.
            let is_tls = matches!(bytes, [0x15 | 0x16, 0x03, ..]);
            let hint = if is_tls { "; it speaks TLS: use wss://" } else { "" };
            let why = format!("the server broke the websocket protocol: its answer is not HTTP/1.1 ({error}){hint}");
            return Err(Error::ended(EndKind::Handshake, why));
        }
    };
    let headers = response.headers.iter().map(|header| {
        let value = String::from_utf8_lossy(header.value);
        (header.name.to_ascii_lowercase(), value.split_whitespace().collect::<Vec<_>>().join(" "))
    });
    // A complete answer has a status.
    Ok(Some((Answer { status: response.code.unwrap_or_default(), headers: headers.collect() }, length)))
}

/// The beginning of a refusal's body. Nothing of it is needed, so whatever goes wrong leaves it short.
async fn body<S: AsyncRead + Unpin>(stream: &mut S, answer: &Answer, mut read: BytesMut) -> Vec<u8> {
    let is_chunked = answer.elements("transfer-encoding").iter().any(|coding| coding.eq_ignore_ascii_case("chunked"));
    let length = answer.values("content-length").next().and_then(|length| length.parse::<usize>().ok());
    let wanted = length.filter(|_| !is_chunked).unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX);
    let reading = async {
        while read.len() < wanted && !(is_chunked && read.ends_with(b"0\r\n\r\n")) {
            if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
                break;
            }
        }
    };
    // A server that keeps the connection open after a body without an end is not waited for.
    let _ = timeout(BODY_WAIT, reading).await;
    if answer.elements("content-encoding").iter().any(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return Vec::new();
    }
    let body = if is_chunked { joined(&read) } else { read.to_vec() };
    body[..body.len().min(wanted)].to_vec()
}

/// The chunks of a body without their frames, as far as they came.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunks.iter().position(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(&chunks[..end]);
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).unwrap_or(0);
        let chunk = &chunks[end + 1..];
        body.extend_from_slice(&chunk[..size.min(chunk.len())]);
        // Behind a chunk comes a line end.
        match chunk.get(size.saturating_add(2)..) {
            Some(next) if size > 0 => chunks = next,
            _ => break,
        }
    }
    body
}

/// One line of a body for display: the title of a page, or the beginning.
fn excerpt(body: &[u8], sent: &Sent) -> String {
    let text = String::from_utf8_lossy(body);
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title>").map(|at| at + "<title>".len()).and_then(|from| {
        let end = lower[from..].find("</title>")? + from;
        Some(&text[from..end])
    });
    let shown = match title {
        Some(title) => title,
        None if lower.trim_start().starts_with('<') => "",
        None => &text,
    };
    let shown = sent.without(shown).split_whitespace().collect::<Vec<_>>().join(" ");
    printable(&shown, BODY_SHOWN_CHARS)
}

#[cfg(test)]
#[path = "upgrade_test.rs"]
mod tests;
