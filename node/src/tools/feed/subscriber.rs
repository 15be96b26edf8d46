//! One subscriber of the tool feed: sends what is due on its path, several frames per write, answers pings and closes,
//! says what its connection has to say for itself, and plays the server's faults. A slow subscriber holds up nobody else.

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

use super::{
    Faults,
    line::{Admission, Order},
    schedule::Schedule,
    server::Shared,
    voice::Voice,
};
use crate::clock::wall_ms;

/// Messages after which the ledger is told, at most: a dropped connection must not be credited with much more.
const BATCH_MESSAGES_MAX: u64 = 512;
/// The same in bytes, as large messages take long to be taken.
const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;
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

/// How far one connection has come.
#[derive(Debug)]
struct Connection {
    id: u64,
    position: u64,
    /// Told to send no further message of the feed.
    muted: bool,
    voice: Voice,
    /// When it was last sent anything but an empty text.
    sent_at: Instant,
    /// When to look at the schedule again.
    next: Instant,
}

type Socket = WebSocketStream<TcpStream>;

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
        if self.shared.admission(self.path) != Admission::Welcome {
            return;
        }
        let position = self.shared.position(&self.shared.schedule(self.path));
        let id = self.shared.opened(name, position, connected_at_ms);
        let now = Instant::now();
        let args = &self.shared.args;
        let voice = Voice::new(id, args.pattern.seed, &args.faults.manners, now);
        let connection = Connection { id, position, muted: false, voice, sent_at: now, next: now };
        let why = match self.serve(&mut socket, &mut orders, connection).await {
            Ok(why) => why.to_owned(),
            Err(error) => error.to_string(),
        };
        self.shared.ended(id, &why);
    }

    async fn serve(
        &self,
        socket: &mut Socket,
        orders: &mut broadcast::Receiver<(usize, Order)>,
        mut connection: Connection,
    ) -> Result<&'static str, tungstenite::Error> {
        let schedule = self.shared.schedule(self.path);
        let faults = self.shared.args.faults.on(&self.shared.args.paths[self.path]);
        let (fault, fault_at) = first_fault(&faults);
        let idle_max = faults.close_idle_ms.map_or(NEVER, Duration::from_millis);
        let mut is_started = false;
        loop {
            let says_at = connection.voice.due();
            tokio::select! {
                biased;
                () = self.shared.stopped() => return Ok("the feed stopped"),
                () = sleep_until(fault_at) => return self.play(fault, socket).await,
                () = sleep_until(connection.sent_at + idle_max) => return self.play(Fault::Close, socket).await,
                order = Shared::order(orders, self.path) => match order {
                    Order::Close => return self.play(Fault::Close, socket).await,
                    Order::Reset => return self.play(Fault::Drop, socket).await,
                    Order::Mute => connection.muted = true,
                },
                () = sleep_until(says_at.unwrap_or(fault_at)), if says_at.is_some() => {
                    let said = connection.voice.take(Instant::now());
                    say(socket, &mut connection, said).await?;
                }
                _ = self.shared.started(), if !is_started => is_started = true,
                () = sleep_until(connection.next), if is_started => {
                    connection.next = Instant::now() + schedule.pause();
                    self.send_due(socket, &schedule, &mut connection).await?;
                }
                message = socket.next() => match message {
                    None => return Ok("closed by the subscriber"),
                    Some(Ok(Message::Text(_))) => {
                        let answer = connection.voice.hear();
                        say(socket, &mut connection, answer).await?;
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error),
                },
            }
        }
    }

    /// Sends what the schedule asks for, except for what is withheld, and has it booked.
    async fn send_due(
        &self,
        socket: &mut Socket,
        schedule: &Schedule,
        connection: &mut Connection,
    ) -> Result<(), tungstenite::Error> {
        let (pattern, end) = (&self.shared.pattern, self.shared.end());
        let batch = ((BATCH_BYTES_MAX / pattern.args().size.max(1)) as u64).clamp(1, BATCH_MESSAGES_MAX);
        let due = self.shared.due(schedule);
        let withheld = self.shared.withheld(self.path);
        let speaks = !connection.muted && connection.voice.may_speak();
        while connection.position < due {
            let until = due.min(connection.position + batch);
            let messages = (connection.position..until).map(|position| schedule.message(position, end));
            let sent: Vec<u64> = messages.filter(|n| speaks && !withheld.holds(*n, pattern.channel(*n))).collect();
            for n in &sent {
                let text = Utf8Bytes::try_from(pattern.payload_on(*n, connection.id))
                    .map_err(|error| tungstenite::Error::Utf8(error.to_string()))?;
                socket.feed(Message::Text(text)).await?;
            }
            if !sent.is_empty() {
                socket.flush().await?;
                connection.sent_at = Instant::now();
            }
            connection.position = until;
            self.shared.sent(connection.id, until, sent);
        }
        Ok(())
    }

    async fn play(&self, fault: Fault, socket: &mut Socket) -> Result<&'static str, tungstenite::Error> {
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

/// The first fault of a connection that begins now, and its time.
fn first_fault(faults: &Faults) -> (Fault, Instant) {
    let all = [
        (Fault::Close, faults.close_every_ms),
        (Fault::Drop, faults.drop_every_ms),
        (Fault::Hang, faults.hang_after_ms),
    ];
    let due = all.into_iter().filter_map(|(fault, ms)| Some((fault, ms?)));
    let (fault, after) = match due.min_by_key(|(_, ms)| *ms) {
        Some((fault, ms)) => (fault, Duration::from_millis(ms)),
        None => (Fault::Hang, NEVER),
    };
    (fault, Instant::now() + after)
}

/// Sends what a connection says for itself, if it says anything.
async fn say(socket: &mut Socket, connection: &mut Connection, said: Option<String>) -> Result<(), tungstenite::Error> {
    let Some(text) = said else { return Ok(()) };
    if !text.is_empty() {
        connection.sent_at = Instant::now();
    }
    socket.send(Message::text(text)).await
}
