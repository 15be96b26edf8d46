//! A byte stream that gives up on a peer which makes work without delivering. Tungstenite loops inside one read until it
//! has a whole message: endless empty fragments, or a flood of pings, would keep a core busy and return nothing. The
//! guard counts bytes since the last sign of progress and fails the read beyond a limit; `connection` reports progress.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Allowance for frame headers and control frames beside the message itself, in bytes.
const OVERHEAD_BYTES: u64 = 64 * 1024;

/// The marker inside the `io::Error` of a read that the guard failed.
#[derive(Debug)]
pub(super) struct Flooded {
    bytes: u64,
}

impl fmt::Display for Flooded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server sent {} bytes without completing a message", self.bytes)
    }
}

impl std::error::Error for Flooded {}

/// A stream with an allowance of bytes until the next progress.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    bytes: u64,
    bytes_max: u64,
}

impl<S> Guarded<S> {
    /// A message of `message_bytes_max` may arrive in small fragments: their headers can weigh as much as the content.
    pub(super) fn new(stream: S, message_bytes_max: usize) -> Self {
        Self { stream, bytes: 0, bytes_max: 2 * message_bytes_max as u64 + OVERHEAD_BYTES }
    }

    /// A data message was completed, or a watch period has passed: the allowance begins anew.
    pub(super) fn progress(&mut self) {
        self.bytes = 0;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.bytes > self.bytes_max {
            return Poll::Ready(Err(io::Error::other(Flooded { bytes: self.bytes })));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.bytes += (buf.filled().len() - before) as u64;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
