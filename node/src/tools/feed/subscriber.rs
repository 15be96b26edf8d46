//! One subscriber of the tool feed: sends what is due on its path, several frames per write, answers pings and closes,
//! and plays the server's faults. A slow subscriber holds up nobody else.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::TcpStream,
    sync::broadcast,
    time::{Instant, sleep_until},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message, Utf8Bytes,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::server::{Order, Shared};
use crate::clock::wall_ms;

/// Messages after which the ledger is told, at most: a dropped connection must not be credited with much more.
const BATCH_MESSAGES_MAX: u64 = 512;
/// Frames are gathered in a buffer of this size before they are written, in bytes.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;
/// Far enough away to mean never.
const NEVER: Duration = Duration::from_secs(86_400 * 365);

/// A connected subscriber of one path.
pub(super) struct Subscriber {
    shared: Arc<Shared>,
    path: usize,
}

/// The fault that is due.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Close,
    Drop,
    Hang,
}

impl Subscriber {
    pub(super) fn new(shared: Arc<Shared>, path: usize) -> Self {
        Self { shared, path }
    }

    /// Serves the connection to its end. `rest` was read behind the upgrade.
    pub(super) async fn run(self, stream: TcpStream, rest: Vec<u8>) {
        let config = WebSocketConfig::default()
            .read_buffer_size(4 * 1024)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_message_size(Some(1024 * 1024));
        let mut socket = WebSocketStream::from_partially_read(stream, rest, Role::Server, Some(config)).await;
        let name = &self.shared.args.paths[self.path];
        let connected_at_ms = wall_ms();
        let mut orders = self.shared.orders();
        if self.shared.is_down(self.path) {
            return;
        }
        let position = self.shared.position(&self.shared.schedule(self.path));
        let id = self.shared.opened(name, position, connected_at_ms);
        let why = match self.serve(&mut socket, &mut orders, id, position).await {
            Ok(why) => why.to_owned(),
            Err(error) => error.to_string(),
        };
        self.shared.ended(id, &why);
    }

    async fn serve(
        &self,
        socket: &mut WebSocketStream<TcpStream>,
        orders: &mut broadcast::Receiver<(usize, Order)>,
        id: u64,
        mut position: u64,
    ) -> Result<&'static str, tungstenite::Error> {
        let schedule = self.shared.schedule(self.path);
        let (fault, fault_at) = self.fault();
        let mut started = None;
        let mut next = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = self.shared.stopped() => return Ok("the feed stopped"),
                () = sleep_until(fault_at) => return self.play(fault, socket).await,
                order = Shared::order(orders, self.path) => {
                    let fault = if order == Order::Close { Fault::Close } else { Fault::Drop };
                    return self.play(fault, socket).await;
                }
                at = self.shared.started(), if started.is_none() => started = Some(at),
                () = sleep_until(next), if started.is_some() => {
                    next = Instant::now() + schedule.pause();
                    let Some(started) = started else { continue };
                    let end = self.shared.end();
                    let due = schedule.due(started.elapsed(), end).max(position);
                    while position < due {
                        let until = due.min(position + BATCH_MESSAGES_MAX);
                        for position in position..until {
                            let payload = self.shared.pattern.payload(schedule.message(position, end));
                            let text = Utf8Bytes::try_from(payload).map_err(|error| {
                                tungstenite::Error::Utf8(error.to_string())
                            })?;
                            socket.feed(Message::Text(text)).await?;
                        }
                        socket.flush().await?;
                        position = until;
                        self.shared.sent_through(id, position);
                    }
                }
                message = socket.next() => match message {
                    None => return Ok("closed by the subscriber"),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error),
                },
            }
        }
    }

    /// The first fault of this connection and its time.
    fn fault(&self) -> (Fault, Instant) {
        let faults = &self.shared.args.faults;
        let here = faults.fault_path.as_ref().is_none_or(|path| *path == self.shared.args.paths[self.path]);
        let all = [
            (Fault::Close, faults.close_every_ms),
            (Fault::Drop, faults.drop_every_ms),
            (Fault::Hang, faults.hang_after_ms),
        ];
        let due = all.into_iter().filter_map(|(fault, ms)| Some((fault, ms.filter(|_| here)?)));
        let (fault, after) = match due.min_by_key(|(_, ms)| *ms) {
            Some((fault, ms)) => (fault, Duration::from_millis(ms)),
            None => (Fault::Hang, NEVER),
        };
        (fault, Instant::now() + after)
    }

    async fn play(
        &self,
        fault: Fault,
        socket: &mut WebSocketStream<TcpStream>,
    ) -> Result<&'static str, tungstenite::Error> {
        match fault {
            Fault::Close => {
                let frame = CloseFrame { code: CloseCode::Away, reason: "the feed restarts".into() };
                socket.send(Message::Close(Some(frame))).await?;
                while let Some(Ok(_)) = socket.next().await {}
                Ok("fault: closed")
            }
            Fault::Drop => {
                // With no linger the kernel sends a reset and forgets what was not yet sent.
                socket.get_ref().set_zero_linger()?;
                Ok("fault: reset")
            }
            Fault::Hang => {
                self.shared.stopped().await;
                Ok("fault: hung until the feed stopped")
            }
        }
    }
}
