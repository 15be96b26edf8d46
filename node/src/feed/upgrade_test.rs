//! Tests of the upgrade: what is asked, which answers are one, what of a refusal is shown.

use super::*;

fn request(headers: &[(&str, &str)]) -> (Request, String) {
    let endpoint = Endpoint::parse("ws://h:1/p?q=1").expect("a URL");
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), HeaderValue::from_bytes(value.as_bytes()).expect("a value")))
        .collect();
    let request = Request::new(&endpoint, &headers);
    let head = String::from_utf8(request.head.clone()).expect("ascii");
    (request, head)
}

/// What is said of an answer with these lines; `ACCEPT` stands for the right key.
fn answered(asked: &[(&str, &str)], lines: &str) -> Result<(), String> {
    let (request, _) = request(asked);
    let text = format!("HTTP/1.1 101 Switching Protocols\r\n{}\r\n", lines.replace("ACCEPT", &request.accept));
    let (answer, length) = parse(text.as_bytes()).map_err(|error| error.reason())?.expect("a whole answer");
    assert_eq!(length, text.len());
    request.check(&answer)
}

const GOOD: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n";

#[test]
fn the_request_names_us_once_unless_it_is_told_otherwise() {
    let (_, head) = request(&[]);
    let agent = format!("\r\nUser-Agent: twinfeed/{}\r\n", env!("CARGO_PKG_VERSION"));
    assert!(head.starts_with("GET /p?q=1 HTTP/1.1\r\nHost: h:1\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(head.matches(&agent).count(), 1, "{head}");
    let (_, head) = request(&[("user-agent", "mine/1"), ("X-Odd", "a"), ("X-Odd", "b")]);
    assert_eq!(head.to_lowercase().matches("user-agent").count(), 1, "{head}");
    assert!(head.contains("user-agent: mine/1\r\nX-Odd: a\r\nX-Odd: b\r\n"), "{head}");
}

#[test]
fn header_lists_are_lists() {
    for lines in [
        GOOD,
        "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n",
        "upgrade: WebSocket\r\nCONNECTION: keep-alive\r\nconnection: upgrade\r\nsec-websocket-accept:   ACCEPT  \r\n",
        "Upgrade: h2c, websocket/13\r\nConnection:Upgrade,,Keep-Alive\r\nSec-WebSocket-Accept: ACCEPT\r\n",
        "Upgrade : websocket\r\nConnection: keep-alive,\r\n Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\nSec-WebSocket-Extensions: \r\n",
    ] {
        assert_eq!(answered(&[], lines), Ok(()), "{lines}");
    }
}

#[test]
fn an_answer_that_upgrades_to_something_else_is_none() {
    for (lines, why) in [
        ("Connection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n", "without `Upgrade: websocket`"),
        ("Upgrade: websockets\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n", "without `Upgrade"),
        ("Upgrade: websocket\r\nConnection: no-upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n", "without `Connection"),
        ("Upgrade: websocket\r\nConnection: Upgrade\r\n", "without `Sec-WebSocket-Accept`"),
        ("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: xACCEPT\r\n", "is not the answer"),
    ] {
        assert!(answered(&[], lines).expect_err(lines).contains(why), "{lines}");
    }
}

#[test]
fn an_extension_that_was_not_offered_is_named() {
    for (value, name) in [
        ("permessage-deflate; server_no_context_takeover", "permessage-deflate"),
        ("x-webkit-deflate-frame", "x-webkit-deflate-frame"),
    ] {
        let refusal = answered(&[], &format!("{GOOD}Sec-WebSocket-Extensions: {value}\r\n")).expect_err("refused");
        let expected = format!("the server insists on the extension {name}, which was not offered");
        assert!(refusal.starts_with(&expected), "{refusal}");
    }
}

#[test]
fn only_a_subprotocol_that_was_asked_for_is_taken() {
    let asked = [("sec-websocket-protocol", "v1.json, v2.json")];
    let chosen = |name: &str| format!("{GOOD}Sec-WebSocket-Protocol: {name}\r\n");
    assert_eq!(answered(&asked, &chosen("v2.json")), Ok(()));
    assert_eq!(answered(&asked, GOOD), Ok(()), "a server may choose none");
    for (asked, chosen) in [(&asked[..], chosen("v3")), (&[], chosen("v3")), (&asked[..], chosen("v1.json, v3"))] {
        let refusal = answered(asked, &chosen).expect_err("refused");
        assert!(refusal.starts_with("the server chose the subprotocol") && refusal.contains("v3"), "{refusal}");
    }
}

#[test]
fn what_is_not_http_is_said_to_be_none() {
    for (bytes, hint) in [(&b"\xff\xff\xff"[..], "not HTTP/1.1"), (b"\x15\x03\x01\0\x02\x02\x28", "use wss://")] {
        let reason = parse(bytes).expect_err("an error").reason();
        assert!(reason.starts_with("the server broke the websocket protocol") && reason.contains(hint), "{reason}");
    }
    assert!(parse(b"HTTP/1.1 101 Sw").expect("so far so good").is_none());
}

#[test]
fn of_a_body_the_words_are_shown_and_nothing_that_was_sent() {
    let mut sent = Sent::default();
    sent.note("t0ken");
    for (body, shown) in [
        (&b"{\"error\":\n  \"bad t0ken\"}"[..], "{\"error\": \"bad [hidden]\"}"),
        (b"<!DOCTYPE html><html><head><TITLE>Access\n denied</TITLE>...", "Access denied"),
        (b"<html><body>...", ""),
        (b"a\x1b[31m\xffb", "a\\u{1b}[31m\u{fffd}b"),
        (b"", ""),
    ] {
        assert_eq!(excerpt(body, &sent), shown);
    }
    assert_eq!(excerpt(&[b'x'; 500], &sent).len(), BODY_SHOWN_CHARS);
    assert_eq!(joined(b"4\r\nslow\r\n5;x=y\r\n down\r\n0\r\n\r\n"), b"slow down");
    assert_eq!(joined(b"ff\r\ncut"), b"cut");
    assert_eq!(joined(b"zz\r\nx"), b"");
}
