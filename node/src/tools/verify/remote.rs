//! Fetches the ledger of a running feed: a plain HTTP GET on loopback, nothing more.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::Error;
use crate::tools::feed::Ledger;

const FETCH_MAX: Duration = Duration::from_secs(5);
const LEDGER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The ledger of the feed at `url` (`http://host:port`).
pub(super) async fn ledger(url: &str) -> Result<Ledger, Error> {
    let failed = |why: String| Error::Feed { url: url.to_owned(), why };
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let fetched = timeout(FETCH_MAX, fetch(address)).await;
    let bytes = fetched.map_err(|_| failed("no answer".into()))?.map_err(|error| failed(error.to_string()))?;
    let body = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|end| &bytes[end + 4..]);
    match body {
        Some(body) if bytes.starts_with(b"HTTP/1.1 200 ") => {
            serde_json::from_slice(body).map_err(|error| failed(error.to_string()))
        }
        _ => Err(failed("not the ledger of a twinfeed feed".into())),
    }
}

async fn fetch(address: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /ledger HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(LEDGER_BYTES_MAX).read_to_end(&mut bytes).await?;
    Ok(bytes)
}
