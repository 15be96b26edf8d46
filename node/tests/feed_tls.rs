//! TLS: an authority must be trusted, the certificate must name the host, and a handshake has a limit.

mod feed_kit;

use std::{net::SocketAddr, sync::Arc};

use feed_kit::{Feed, QUICK};
use futures_util::StreamExt;
use rustls::{
    HandshakeKind, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use twinfeed_node::model::frame::FeedEvent;

struct Secured {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    ca_file: String,
    _dir: tempfile::TempDir,
}

/// A TLS server whose certificate names `name` and is its own authority.
async fn listen(name: &str) -> Secured {
    let signed = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("default versions")
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .expect("a matching key");
    let dir = tempfile::tempdir().expect("a directory");
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, signed.cert.pem()).expect("written");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let ca_file = ca_file.to_str().expect("utf-8").to_owned();
    Secured { listener, address, acceptor: TlsAcceptor::from(Arc::new(config)), ca_file, _dir: dir }
}

impl Secured {
    /// The first event of a session that dials this server.
    async fn attempt(&self, pairs: &[(&str, &str)]) -> FeedEvent {
        let mut all = QUICK.to_vec();
        all.extend_from_slice(pairs);
        let mut feed = Feed::start(&format!("wss://{}/", self.address), &all);
        let serving = async {
            let (tcp, _) = self.listener.accept().await.expect("accepted");
            if let Ok(stream) = self.acceptor.accept(tcp).await {
                let mut socket = tokio_tungstenite::accept_async(stream).await.expect("an upgrade");
                let _ = socket.next().await;
            }
            std::future::pending::<()>().await;
        };
        let event = tokio::select! {
            event = feed.event() => event,
            () = serving => unreachable!("serving never ends"),
        };
        feed.stop().await;
        event
    }
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_given() {
    let server = listen("127.0.0.1").await;
    let event = server.attempt(&[("twinfeed.tls.ca.file", &server.ca_file)]).await;
    assert!(matches!(event, FeedEvent::Opened { .. }), "{event:?}");
}

#[tokio::test]
async fn an_unknown_authority_is_refused() {
    let event = listen("127.0.0.1").await.attempt(&[]).await;
    let refused = |reason: &str| reason.starts_with("tls with 127.0.0.1 failed") && reason.contains("UnknownIssuer");
    assert!(matches!(&event, FeedEvent::ConnectFailed { reason, .. } if refused(reason)), "{event:?}");
}

#[tokio::test]
async fn a_certificate_of_another_host_is_refused() {
    let server = listen("elsewhere.example").await;
    let event = server.attempt(&[("twinfeed.tls.ca.file", &server.ca_file)]).await;
    let refused = |reason: &str| reason.starts_with("tls with 127.0.0.1 failed") && reason.contains("not valid for");
    assert!(matches!(&event, FeedEvent::ConnectFailed { reason, .. } if refused(reason)), "{event:?}");
}

#[tokio::test]
async fn a_server_that_hangs_in_the_handshake_is_left() {
    let server = listen("127.0.0.1").await;
    let pairs = [QUICK[0], QUICK[1], ("twinfeed.websocket.upgrade.timeout.ms", "150")];
    let mut feed = Feed::start(&format!("wss://{}/", server.address), &pairs);
    let _held = server.listener.accept().await.expect("accepted");
    let (reason, ..) = feed.connect_failed().await;
    assert!(reason.starts_with("the tls handshake took longer than 150 ms"), "{reason}");
    feed.stop().await;
}

#[tokio::test]
async fn an_authority_file_that_is_none_is_named_and_not_quoted() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("other");
    std::fs::write(&file, "canary").expect("written");
    let file = file.to_str().expect("utf-8");
    let mut feed = Feed::start("wss://127.0.0.1:1/", &[QUICK[0], QUICK[1], ("twinfeed.tls.ca.file", file)]);
    let (reason, ..) = feed.connect_failed().await;
    assert!(reason.contains("holds no PEM certificate") && reason.contains(file), "{reason}");
    assert!(!reason.contains("canary"));
    feed.stop().await;
}

#[tokio::test]
async fn a_reconnect_resumes_its_session() {
    let server = listen("127.0.0.1").await;
    let pairs = [QUICK[0], QUICK[1], ("twinfeed.tls.ca.file", server.ca_file.as_str())];
    let mut feed = Feed::start(&format!("wss://{}/", server.address), &pairs);
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (tcp, _) = server.listener.accept().await.expect("accepted");
        let stream = server.acceptor.accept(tcp).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
        let socket = tokio_tungstenite::accept_async(stream).await.expect("an upgrade");
        feed.opened().await;
        drop(socket);
        feed.closed().await;
    }
    feed.stop().await;
}
