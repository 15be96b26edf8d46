//! A byte stream that gives up on a peer which makes work without delivering. Tungstenite loops inside one read until it
//! has a whole message: endless empty fragments, or a flood of pings, would keep a core busy and return nothing. The
//! guard counts the bytes since the last complete message, which `scan` finds, and fails the read beyond a limit.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::scan::Scan;

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

/// A stream with an allowance of bytes until the next message.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    /// Came with the answer to the upgrade; read before the stream.
    first: Bytes,
    scan: Scan,
    bytes: u64,
    bytes_max: u64,
}

impl<S> Guarded<S> {
    /// A message of `message_bytes_max` may arrive in small fragments: their headers can weigh as much as the content.
    pub(super) fn new(stream: S, first: Bytes, message_bytes_max: usize) -> Self {
        let bytes_max = 2 * message_bytes_max as u64 + OVERHEAD_BYTES;
        Self { stream, first, scan: Scan::default(), bytes: 0, bytes_max }
    }

    /// A watch period has passed: the allowance begins anew.
    pub(super) fn forgive(&mut self) {
        self.bytes = 0;
    }

    /// Code and reason of the server's close frame, as they came.
    pub(super) fn closed(&self) -> Option<(u16, String)> {
        self.scan.closed()
    }

    fn count(&mut self, read: &[u8]) {
        self.bytes = match self.scan.read(read) {
            Some(after) => after as u64,
            None => self.bytes + read.len() as u64,
        };
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.bytes > self.bytes_max {
            return Poll::Ready(Err(io::Error::other(Flooded { bytes: self.bytes })));
        }
        let before = buf.filled().len();
        let polled = if self.first.is_empty() {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        } else {
            let taken = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..taken]);
            self.first.advance(taken);
            Poll::Ready(Ok(()))
        };
        self.count(&buf.filled()[before..]);
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
