//! Opens one WebSocket connection: resolve, connect, TLS, upgrade, subscription messages; each step under its own limit.
//! Called by `session` for every attempt. It never follows a redirect, never retries, and never logs a header.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures_util::SinkExt;
use http::{HeaderName, HeaderValue};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, client::IntoClientRequest, protocol::WebSocketConfig},
};

use super::{
    address::AddressPolicy,
    error::{Error, Stage},
    guard::Guarded,
    secrets::SecretSources,
};
use crate::model::{
    feed_url::{Endpoint, FeedUrl},
    spec::FeedSpec,
};

/// Largest CA file read, in bytes.
const CA_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Read buffer of a connection. Tungstenite zeroes the free part of it before every read, so a large one costs more
/// than it saves: 16 KiB hold some eighty frames of 200 bytes.
const READ_BUFFER_BYTES: usize = 16 * 1024;
/// We write pings, pongs and subscriptions only; a server that does not read them fills this and is dropped.
const WRITE_BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the node, not the connector, decides about dialing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DialOptions {
    pub addresses: AddressPolicy,
    pub secrets: SecretSources,
}

/// A plain or TLS byte stream.
pub(super) trait Bytestream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytestream for T {}

/// An open connection, subscription messages sent.
pub(super) type Socket = WebSocketStream<Guarded<Box<dyn Bytestream>>>;

/// Opens a connection to `url` as `spec` wants it.
pub(super) async fn dial(url: &FeedUrl, spec: &FeedSpec, options: &DialOptions) -> Result<Socket, Error> {
    // Neither the URL nor what is wrong with it is shown once its references are resolved.
    let endpoint = Endpoint::parse(&options.secrets.resolve(&url.text).await?)
        .map_err(|_| Error::Unusable(format!("{} is no URL once its references are resolved", url.public)))?;
    let request = request(&endpoint, spec, &options.secrets).await?;
    let mut messages = Vec::with_capacity(spec.subscription_messages.len());
    for message in &spec.subscription_messages {
        messages.push(options.secrets.resolve(message).await?);
    }
    let tls = if endpoint.secure { Some(tls_config(spec.tls_ca_file.as_deref()).await?) } else { None };

    let tcp = connect(&endpoint, options.addresses, spec.connect_timeout_ms).await?;
    let stream: Box<dyn Bytestream> = match tls {
        Some(config) => Box::new(handshake(&endpoint, config, tcp, spec.upgrade_timeout_ms).await?),
        None => Box::new(tcp),
    };
    let guarded = Guarded::new(stream, spec.message_bytes_max);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(spec.message_bytes_max))
        .max_frame_size(Some(spec.message_bytes_max));
    let upgrade = client_async_with_config(request, guarded, Some(config));
    let (mut socket, _) = within(Stage::Upgrade, spec.upgrade_timeout_ms, upgrade)
        .await?
        .map_err(|error| Error::from_websocket(error, spec.message_bytes_max))?;
    within(Stage::Subscribe, spec.upgrade_timeout_ms, async {
        for message in messages {
            socket.send(Message::text(message)).await?;
        }
        Ok(())
    })
    .await?
    .map_err(|error| Error::from_websocket(error, spec.message_bytes_max))?;
    Ok(socket)
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

async fn handshake(
    endpoint: &Endpoint,
    config: Arc<ClientConfig>,
    tcp: TcpStream,
    limit_ms: u64,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Error> {
    let name = match endpoint.host.parse::<IpAddr>() {
        Ok(address) => ServerName::from(address),
        Err(_) => ServerName::try_from(endpoint.host.clone())
            .map_err(|_| Error::Unusable(format!("{} is not a host name", endpoint.host)))?,
    };
    let connecting = TlsConnector::from(config).connect(name, tcp);
    within(Stage::Tls, limit_ms, connecting).await?.map_err(|source| Error::Tls { host: endpoint.host.clone(), source })
}

/// The public authorities and those of `ca_file`. Read for every dial: a rotated file counts from the next connection.
async fn tls_config(ca_file: Option<&str>) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        let certificates = read_ca_file(Path::new(path))
            .await
            .map_err(|why| Error::Unusable(format!("twinfeed.tls.ca.file {path}: {why}")))?;
        for certificate in certificates {
            roots.add(certificate).map_err(|error| {
                Error::Unusable(format!("twinfeed.tls.ca.file {path} holds an unusable certificate: {error}"))
            })?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("the provider supports the default versions");
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

async fn read_ca_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let kind = tokio::fs::metadata(path).await.map_err(|error| error.to_string())?;
    if !kind.is_file() || kind.len() > CA_FILE_BYTES_MAX {
        return Err(format!("must be a regular file of at most {CA_FILE_BYTES_MAX} bytes"));
    }
    let mut pem = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(|error| error.to_string())?;
    file.take(CA_FILE_BYTES_MAX).read_to_end(&mut pem).await.map_err(|error| error.to_string())?;
    // The parser's error quotes the file's content; a path to something else than certificates must not reveal it.
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err("holds no PEM certificate".into()),
    }
}

async fn request(endpoint: &Endpoint, spec: &FeedSpec, secrets: &SecretSources) -> Result<http::Request<()>, Error> {
    let scheme = if endpoint.secure { "wss" } else { "ws" };
    let uri = format!("{scheme}://{}{}", endpoint.authority, endpoint.path_and_query);
    let mut request =
        uri.into_client_request().map_err(|_| Error::Unusable("the URL cannot be requested".to_owned()))?;
    for (name, value) in &spec.headers {
        let unusable = |what: &str| Error::Unusable(format!("header {name}: {what}"));
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable("bad name"))?;
        let mut value = HeaderValue::from_str(&secrets.resolve(value).await?).map_err(|_| unusable("bad value"))?;
        value.set_sensitive(true);
        request.headers_mut().append(key, value);
    }
    if let Some(token) = &spec.auth_token {
        let token = format!("Bearer {}", secrets.resolve(token).await?);
        let bad = |_| Error::Unusable("websocket.auth.token contains characters a header cannot carry".into());
        let mut value = HeaderValue::from_str(&token).map_err(bad)?;
        value.set_sensitive(true);
        request.headers_mut().insert(http::header::AUTHORIZATION, value);
    }
    Ok(request)
}
