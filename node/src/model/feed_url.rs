//! A WebSocket URL: checked with the messages of the connector that Twinfeed replaces, split into what a dial needs,
//! and shown only without what may carry tokens: user info, query, and segments of the path that look like one. Used by the
//! specification and by `feed`. Written as people write it: a host may have any script, a path or query any printable character; what goes over the
//! wire is Punycode and percent-encoded.

use std::fmt::Write;

use super::{redaction::shown_path, secret::Secret};

/// A configured URL, which may hold references or tokens; only its public form is ever shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedUrl {
    /// As configured.
    pub text: Secret,
    /// Scheme, host, port and path, without tokens in the path.
    pub public: String,
}

/// Where to connect and what to ask for, from a URL whose references are resolved. Its path may hold a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// TLS is wanted (`wss`).
    pub secure: bool,
    /// Host name in ASCII, or an address, without the brackets of IPv6.
    pub host: String,
    pub port: u16,
    /// `host` or `host:port` as written, in ASCII, for the Host header; without user info.
    pub authority: String,
    /// Begins with `/`; percent-encoded where RFC 3986 asks for it.
    pub path_and_query: String,
    /// User info was present; it is never sent.
    pub had_user_info: bool,
}

impl FeedUrl {
    /// Checks a configured URL; a reference counts as one unknown letter.
    ///
    /// # Errors
    /// The message of the original connector's validator.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = Secret::new(text.trim());
        let endpoint = Endpoint::parse(&text.with_references_as("x"))?;
        let public = if text.parts().len() > 1 || text.is_reference() {
            // Where a reference stands may be the host itself: show it unresolved, with the rest cut at the query.
            public_url(text.expose())
        } else {
            endpoint.public()
        };
        Ok(Self { text, public })
    }
}

impl Endpoint {
    /// Splits a URL.
    ///
    /// # Errors
    /// The message of the original connector's validator, without user info or query.
    pub fn parse(url: &str) -> Result<Self, String> {
        let url = url.trim();
        if url.is_empty() {
            return Err("WebSocket URL cannot be null or empty".into());
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err("WebSocket URL must have a scheme (ws:// or wss://)".into());
        };
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "ws" => false,
            "wss" => true,
            _ => return Err(format!("WebSocket URL must use ws:// or wss:// scheme, got: {scheme}")),
        };
        let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_end);
        let (had_user_info, authority) = match authority.rsplit_once('@') {
            Some((_, host)) => (true, host),
            None => (false, authority),
        };
        if authority.is_empty() || authority.starts_with(':') {
            return Err("WebSocket URL must have a valid host".into());
        }
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let syntax = |what: &str| format!("Invalid WebSocket URL syntax: {what} in {}", public_url(url));
        let authority = ascii_authority(authority).ok_or_else(|| syntax("bad host name"))?;
        let parsed: http::uri::Authority = authority.parse().map_err(|_| syntax("bad host or port"))?;
        let path_and_query = percent_encoded(&path).ok_or_else(|| syntax("bad character in the path or query"))?;
        // `Authority` accepts `host:` and `host:99999`; an endpoint must name a real port or none.
        let after_host = &authority[parsed.host().len()..];
        let port = match after_host.strip_prefix(':') {
            None => default_port(secure),
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(|| syntax("bad port"))?,
        };
        let host = parsed.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { secure, host, port, authority, path_and_query, had_user_info })
    }

    /// The URL without user info, query and tokens in its path.
    pub fn public(&self) -> String {
        let scheme = if self.secure { "wss" } else { "ws" };
        let path = shown_path(self.path_and_query.split('?').next().unwrap_or_default());
        format!("{scheme}://{}{path}", self.authority)
    }
}

/// `host` or `host:port` with a host of another script in Punycode; None if it is no name of a host. What is ASCII stays
/// as it is.
fn ascii_authority(authority: &str) -> Option<String> {
    if authority.is_ascii() {
        return Some(authority.to_owned());
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, format!(":{port}")),
        None => (authority, String::new()),
    };
    // The deny list refuses letters that would become a delimiter, and so another host.
    let host = idna::domain_to_ascii_cow(host.as_bytes(), idna::AsciiDenyList::URL).ok()?;
    (!host.is_empty()).then(|| format!("{host}{port}"))
}

/// Percent-encodes what RFC 3986 does not allow in a path or query; None if there is a control character, which nobody
/// means. An escape that is there already stays as it is.
fn percent_encoded(path: &str) -> Option<String> {
    let mut encoded = String::with_capacity(path.len());
    for (at, letter) in path.char_indices() {
        let allowed = match letter {
            _ if letter.is_control() => return None,
            '%' => path.as_bytes()[at + 1..].get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
            _ => letter.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/?".contains(letter),
        };
        if allowed {
            encoded.push(letter);
            continue;
        }
        for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
            write!(encoded, "%{byte:02X}").expect("writing to a string does not fail");
        }
    }
    Some(encoded)
}

const fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// Any URL-like text without user info, query, fragment and tokens in its path. Never fails: it is for messages about bad URLs.
pub fn public_url(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let colon = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{colon}{authority}{}", shown_path(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        FeedUrl::parse(url).expect_err("must be refused")
    }

    #[test]
    fn speaks_the_words_of_the_original_validator() {
        assert_eq!(refused("  "), "WebSocket URL cannot be null or empty");
        assert_eq!(refused("example.org/x"), "WebSocket URL must have a scheme (ws:// or wss://)");
        assert_eq!(refused("http://x"), "WebSocket URL must use ws:// or wss:// scheme, got: http");
        assert_eq!(refused("ws:///x"), "WebSocket URL must have a valid host");
        assert_eq!(refused("ws://:80/x"), "WebSocket URL must have a valid host");
        assert!(refused("ws://u:canary@a b/x?canary").starts_with("Invalid WebSocket URL syntax: "));
        assert!(!refused("ws://u:canary@a b/x?canary").contains("canary"));
        for bad in ["ws://h:0/", "ws://h:99999/", "ws://h:/", "ws://h:x/"] {
            assert!(refused(bad).contains("bad"), "{bad}");
        }
    }

    #[test]
    fn splits_what_a_dial_needs() {
        let e = Endpoint::parse("WSS://user:pw@Example.org:8443/a/b?t=1#f").expect("valid");
        assert_eq!((e.secure, e.host.as_str(), e.port, e.had_user_info), (true, "Example.org", 8443, true));
        assert_eq!((e.authority.as_str(), e.path_and_query.as_str()), ("Example.org:8443", "/a/b?t=1"));
        let e = Endpoint::parse("ws://[::1]:9/").expect("valid");
        assert_eq!((e.host.as_str(), e.port), ("::1", 9));
        let e = Endpoint::parse("wss://h?x=1").expect("valid");
        assert_eq!((e.port, e.path_and_query.as_str()), (443, "/?x=1"));
    }

    #[test]
    fn a_host_of_any_script_is_dialed_by_its_ascii_name() {
        for (url, host, authority) in [
            ("ws://exämple.com/", "xn--exmple-cua.com", "xn--exmple-cua.com"),
            ("ws://EXÄMPLE.com:81/", "xn--exmple-cua.com", "xn--exmple-cua.com:81"),
            ("wss://例え.テスト:8443/x", "xn--r8jz45g.xn--zckzah", "xn--r8jz45g.xn--zckzah:8443"),
            ("ws://u:p@münchen。de/", "xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
            ("ws://under_score.Example/", "under_score.Example", "under_score.Example"),
        ] {
            let e = Endpoint::parse(url).expect(url);
            assert_eq!((e.host.as_str(), e.authority.as_str()), (host, authority), "{url}");
        }
        // Letters that are equivalent to a delimiter must not become one.
        for bad in ["ws://example.com℀x/", "ws://exa＠mple.com/", "ws://ex／ample.com/", "ws://\u{ad}/"] {
            assert!(refused(bad).contains("bad host"), "{bad}");
        }
    }

    #[test]
    fn a_path_or_query_is_sent_as_rfc_3986_wants_it() {
        for (url, sent) in [
            ("ws://h/€?p=a|b", "/%E2%82%AC?p=a%7Cb"),
            (r#"ws://h/a b?q={"x":"y"}"#, "/a%20b?q=%7B%22x%22:%22y%22%7D"),
            ("ws://h/`^<>\\[]", "/%60%5E%3C%3E%5C%5B%5D"),
            ("ws://h/%e2%82%AC?q=100%&r=%zz&s=%4", "/%e2%82%AC?q=100%25&r=%25zz&s=%254"),
            ("ws://h?streams=btcusdt@trade/x!y&a='b'(c)*,;+", "/?streams=btcusdt@trade/x!y&a='b'(c)*,;+"),
            ("ws://h/?a=b?c#f{", "/?a=b?c"),
            ("ws://h/日%", "/%E6%97%A5%25"),
        ] {
            assert_eq!(Endpoint::parse(url).expect(url).path_and_query, sent, "{url}");
        }
        for bad in ["ws://h/a\nb?canary", "ws://h/?\0canary", "ws://h/\u{7f}?canary"] {
            let refusal = refused(bad);
            assert!(refusal.contains("bad character in the path or query") && !refusal.contains("canary"), "{bad}");
        }
    }

    #[test]
    fn the_public_form_has_no_user_info_and_no_query() {
        let url = FeedUrl::parse("wss://u:canary@h:1/p?token=canary").expect("valid");
        assert_eq!(url.public, "wss://h:1/p");
        assert!(!format!("{url:?}").contains("canary"));
        let listen_key = "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1";
        let url = FeedUrl::parse(&format!("wss://h:1/ws/{listen_key}")).expect("valid");
        assert_eq!(url.public, "wss://h:1/ws/[hidden]");
        let url = FeedUrl::parse("wss://${env:HOST}/p?t=${env:T}").expect("valid");
        assert_eq!(url.public, "wss://${env:HOST}/p");
        let url = FeedUrl::parse("wss://u:canary@exämple.com/€|?token=canary|").expect("valid");
        assert_eq!(url.public, "wss://xn--exmple-cua.com/%E2%82%AC%7C");
    }
}
