//! Opens one WebSocket connection: resolve, connect, TLS, upgrade, subscription messages; each step under its own limit.
//! Called by `session` for every attempt. It never follows a redirect, never retries, and never logs a header.

use std::{net::SocketAddr, time::Duration};

use futures_util::SinkExt;
use http::{HeaderName, HeaderValue};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{Role, WebSocketConfig},
    },
};

use super::{
    address::AddressPolicy,
    error::{Error, Stage},
    guard::Guarded,
    hosts::Hosts,
    secrets::SecretSources,
    sent::Sent,
    tls::{self, TlsConfigs},
    upgrade::{self, Request},
};
use crate::model::{
    feed_url::{Endpoint, FeedUrl},
    spec::FeedSpec,
};

/// Read buffer of a connection. Tungstenite zeroes the free part of it before every read, so a large one costs more
/// than it saves: 16 KiB hold some eighty frames of 200 bytes.
const READ_BUFFER_BYTES: usize = 16 * 1024;
/// We write pings, pongs and subscriptions only; a server that does not read them fills this and is dropped.
const WRITE_BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the node, not the connector, decides about dialing. Clones share the gates of the hosts and the TLS sessions:
/// a node has one.
#[derive(Debug, Clone, Default)]
pub struct DialOptions {
    pub addresses: AddressPolicy,
    pub secrets: SecretSources,
    pub hosts: Hosts,
    pub tls: TlsConfigs,
}

/// A plain or TLS byte stream.
pub(super) trait Bytestream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytestream for T {}

/// An open connection, subscription messages sent.
pub(super) type Socket = WebSocketStream<Guarded<Box<dyn Bytestream>>>;

/// What a dial has made.
pub(super) struct Dialed {
    pub(super) socket: Socket,
    pub(super) sent: Sent,
    /// Resolution, connect, TLS, upgrade and subscription; not the wait for the host's turn.
    pub(super) took: Duration,
}

/// Waits for the host's turn, told to `waits`, and opens a connection to `url` as `spec` wants it. What a host asks one
/// session for holds for all of the node.
pub(super) async fn dial(
    url: &FeedUrl,
    spec: &FeedSpec,
    options: &DialOptions,
    waits: impl Fn(&str, Duration),
) -> Result<Dialed, Error> {
    let endpoint = endpoint(url, options, &mut Sent::default()).await?;
    let host = format!("{}:{}", endpoint.host.to_ascii_lowercase(), endpoint.port);
    options.hosts.turn(&host, |wait| waits(&host, wait)).await;
    let opened = open(url, spec, options).await;
    if let Some(wait) = opened.as_ref().err().and_then(Error::asked_to_wait) {
        options.hosts.hold(&host, wait);
    }
    opened
}

async fn endpoint(url: &FeedUrl, options: &DialOptions, sent: &mut Sent) -> Result<Endpoint, Error> {
    // Neither the URL nor what is wrong with it is shown once its references are resolved.
    Endpoint::parse(&options.secrets.resolve(&url.text, sent).await?)
        .map_err(|_| Error::Unusable(format!("{} is no URL once its references are resolved", url.public)))
}

/// Resolves everything again: the wait for the turn may have been long enough for a secret to be rotated.
async fn open(url: &FeedUrl, spec: &FeedSpec, options: &DialOptions) -> Result<Dialed, Error> {
    let (began, mut sent) = (Instant::now(), Sent::default());
    let endpoint = endpoint(url, options, &mut sent).await?;
    let request = Request::new(&endpoint, &headers(spec, &options.secrets, &mut sent).await?);
    let mut messages = Vec::with_capacity(spec.subscription_messages.len());
    for message in &spec.subscription_messages {
        messages.push(options.secrets.resolve(message, &mut sent).await?);
    }
    sent.note_query(&endpoint.path_and_query);
    let tls = if endpoint.secure { Some(options.tls.trusting(spec.tls_ca_file.as_deref()).await?) } else { None };

    let tcp = connect(&endpoint, options.addresses, spec.connect_timeout_ms).await?;
    let limit_ms = spec.upgrade_timeout_ms;
    let mut stream: Box<dyn Bytestream> = match tls {
        Some(config) => Box::new(within(Stage::Tls, limit_ms, tls::handshake(&endpoint.host, config, tcp)).await??),
        None => Box::new(tcp),
    };
    let answered = within(Stage::Upgrade, limit_ms, upgrade::exchange(&mut stream, &request)).await??;
    let first = upgrade::accepted(&mut stream, &request, answered, &sent).await?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(spec.message_bytes_max))
        .max_frame_size(Some(spec.message_bytes_max));
    let guarded = Guarded::new(stream, first, spec.message_bytes_max);
    let mut socket = WebSocketStream::from_raw_socket(guarded, Role::Client, Some(config)).await;
    within(Stage::Subscribe, limit_ms, async {
        for message in messages {
            socket.send(Message::text(message)).await?;
        }
        Ok(())
    })
    .await?
    .map_err(|error| Error::from_websocket(error, spec.message_bytes_max))?;
    Ok(Dialed { socket, sent, took: began.elapsed() })
}

async fn within<T>(stage: Stage, limit_ms: u64, work: impl Future<Output = T>) -> Result<T, Error> {
    timeout(Duration::from_millis(limit_ms), work).await.map_err(|_| Error::TimedOut { stage, limit_ms })
}

/// Connects to the first address that answers, each checked, each with an equal share of the time that is left.
async fn connect(endpoint: &Endpoint, policy: AddressPolicy, limit_ms: u64) -> Result<TcpStream, Error> {
    let host = &endpoint.host;
    let unreachable = |source| Error::Unreachable { host: host.clone(), source };
    let deadline = Instant::now() + Duration::from_millis(limit_ms);
    let found = within(Stage::Connect, limit_ms, lookup_host((host.as_str(), endpoint.port))).await?;
    let found: Vec<SocketAddr> = found.map_err(unreachable)?.collect();
    let (mut allowed, mut why) = (Vec::new(), "the name resolves to no address");
    for address in found {
        match policy.refuses(address.ip()) {
            None => allowed.push(address),
            Some(refusal) => why = refusal,
        }
    }
    let mut last = Error::Refused { host: host.clone(), why: why.into() };
    for (tried, address) in allowed.iter().enumerate() {
        let share = deadline.saturating_duration_since(Instant::now()) / (allowed.len() - tried) as u32;
        last = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Pings and pongs must not wait for Nagle.
                stream.set_nodelay(true).map_err(unreachable)?;
                return Ok(stream);
            }
            Ok(Err(source)) => unreachable(source),
            Err(_) => Error::TimedOut { stage: Stage::Connect, limit_ms },
        };
    }
    Err(last)
}

/// The headers of the connector, resolved. The token takes the place of an Authorization among them.
async fn headers(
    spec: &FeedSpec,
    secrets: &SecretSources,
    sent: &mut Sent,
) -> Result<Vec<(String, HeaderValue)>, Error> {
    let mut headers = Vec::with_capacity(spec.headers.len() + 1);
    for (name, value) in &spec.headers {
        let unusable = |what: &str| Error::Unusable(format!("header {name}: {what}"));
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable("bad name"))?;
        let value = secrets.resolve(value, sent).await?;
        if !name.eq_ignore_ascii_case("user-agent") {
            sent.note(&value);
        }
        headers.push((name.clone(), HeaderValue::from_bytes(value.as_bytes()).map_err(|_| unusable("bad value"))?));
    }
    if let Some(token) = &spec.auth_token {
        let token = format!("Bearer {}", secrets.resolve(token, sent).await?);
        let bad = |_| Error::Unusable("websocket.auth.token contains characters a header cannot carry".into());
        let value = HeaderValue::from_bytes(token.as_bytes()).map_err(bad)?;
        sent.note(&token);
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
        headers.push(("Authorization".into(), value));
    }
    Ok(headers)
}
