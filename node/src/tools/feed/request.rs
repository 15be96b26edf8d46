//! The little HTTP that the feed speaks: the head of a request, a WebSocket upgrade, and small answers. Not a web
//! server: one request per connection, no bodies are read, 16 KiB at most.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The head of a request, and what was read behind it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    /// Of `Sec-WebSocket-Key`: an upgrade is wanted.
    pub(super) websocket_key: Option<String>,
    pub(super) rest: Vec<u8>,
}

impl Request {
    /// Reads a head; None if the peer sends none.
    pub(super) async fn read(stream: &mut TcpStream) -> std::io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = bytes.split_off(end + 4);
                return Ok(Self::parse(&String::from_utf8_lossy(&bytes), rest));
            }
            if bytes.len() > HEAD_BYTES_MAX || stream.read_buf(&mut bytes).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn parse(head: &str, rest: Vec<u8>) -> Option<Self> {
        let mut lines = head.lines();
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?);
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let websocket_key = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
            .map(|(_, value)| value.trim().to_owned());
        Some(Self { method, path, websocket_key, rest })
    }
}

/// Accepts an upgrade.
pub(super) async fn upgrade(stream: &mut TcpStream, key: &str) -> std::io::Result<()> {
    let accept = derive_accept_key(key.as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await
}

/// Answers that the subscriber is to come again after so many seconds.
pub(super) async fn refuse(stream: &mut TcpStream, retry_after_s: u64) -> std::io::Result<()> {
    let status = format!("429 Too Many Requests\r\nRetry-After: {retry_after_s}");
    answer(stream, &status, "{\"message\":\"too many connections\"}").await
}

/// Answers with a body and ends the connection. The status may have headers behind it.
pub(super) async fn answer(stream: &mut TcpStream, status: &str, body: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}
