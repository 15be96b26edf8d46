//! What is secret: the one rule for names of keys, headers and members of messages, for words that name a login, and for
//! texts that look like a token. `redaction` and the node's own configuration show by it. In doubt a name is secret.

/// A name that holds one of these is secret.
const MARKS: [&str; 27] = [
    ".pem",
    "api-key",
    "api.key",
    "api_key",
    "apikey",
    "auth",
    "bearer",
    "cookie",
    "credential",
    "hmac",
    "jaas",
    "jwt",
    "keystore",
    "login",
    "logon",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "private",
    "secret",
    "session",
    "sign-in",
    "signature",
    "signin",
    "token",
    "truststore",
];
/// A name with one of these among its words is secret.
const WORDS: [&str; 9] = ["otp", "pass", "pin", "psk", "pw", "pwd", "sig", "sign", "totp"];
/// Of the security settings of a Kafka client everything is secret but these.
const HARMLESS: [&str; 24] = [
    "sasl.kerberos.service.name",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.method",
    "security.protocol",
    "security.providers",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.cipher.suites",
    "ssl.client.auth",
    "ssl.crl.location",
    "ssl.curves.list",
    "ssl.enabled.protocols",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.keymanager.algorithm",
    "ssl.keystore.location",
    "ssl.keystore.type",
    "ssl.protocol",
    "ssl.provider",
    "ssl.sigalgs.list",
    "ssl.trustmanager.algorithm",
    "ssl.truststore.location",
    "ssl.truststore.type",
];
/// What stands before the name of a Kafka client's setting in the configuration of a connector.
const CLIENT_PREFIXES: [&str; 6] =
    ["producer.override.", "consumer.override.", "admin.override.", "producer.", "consumer.", "admin."];
const SECURITY_FAMILIES: [&str; 3] = ["sasl.", "security.", "ssl."];
/// Once only letters and digits are left: what a message calls a login.
const LOGINS: [&str; 11] =
    ["apikey", "auth", "credential", "identify", "logon", "login", "passwd", "password", "signin", "signon", "token"];
/// Fewest characters of a token.
const TOKEN_LENGTH_MIN: usize = 20;
/// A run of letters alone is a token from this length on: no word is as long.
const LETTERS_LENGTH_MIN: usize = 32;

/// Whether the value of what has this name must not be shown.
pub fn sensitive(name: &str) -> bool {
    let lower = name.trim().to_ascii_lowercase();
    let setting = CLIENT_PREFIXES.iter().find_map(|prefix| lower.strip_prefix(prefix)).unwrap_or(&lower);
    if SECURITY_FAMILIES.iter().any(|family| setting.starts_with(family)) {
        return !HARMLESS.contains(&setting);
    }
    let words = words(name);
    let last = words.last().map_or("", String::as_str);
    let is_key = last.ends_with("key")
        || last == "keys"
        || words.windows(2).any(|pair| pair[0].ends_with("key") && matches!(pair[1].as_str(), "id" | "value"));
    is_key || MARKS.iter().any(|mark| lower.contains(mark)) || words.iter().any(|word| WORDS.contains(&word.as_str()))
}

/// Whether a word such as the `op` of a message names a login: what else the message says is secret then.
pub(super) fn names_login(text: &str) -> bool {
    let bare: String = text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    LOGINS.iter().any(|login| bare.contains(login))
}

/// Whether a text that is no JSON, and whose parts nobody can tell apart, may carry a secret.
pub(super) fn suspicious(text: &str) -> bool {
    let key = |word: &String| word == "key" || word == "keys";
    sensitive(text) || names_login(text) || words(text).iter().any(key) || looks_like_token(text.trim())
}

/// Whether a text is long and mixed as only keys and tokens are: `pqia91ma19a5s61cv6a8`, a UUID, a JWT.
pub(super) fn looks_like_token(text: &str) -> bool {
    if text.len() < TOKEN_LENGTH_MIN || text.chars().any(|c| c.is_whitespace() || matches!(c, '/' | ':' | '@')) {
        return false;
    }
    let runs = || text.split(|c: char| !c.is_ascii_alphanumeric());
    let has = |run: &str, test: fn(&u8) -> bool| run.as_bytes().iter().any(test);
    let mixed = |run: &str| has(run, u8::is_ascii_digit) && has(run, u8::is_ascii_alphabetic);
    if runs().any(|run| run.len() >= LETTERS_LENGTH_MIN || (run.len() >= TOKEN_LENGTH_MIN && mixed(run))) {
        return true;
    }
    // `market-data-level2-snapshot-v2` is as long, but hardly ever changes between letters and digits.
    let kinds: Vec<u8> = text.bytes().filter(u8::is_ascii_alphanumeric).map(kind).collect();
    let changes = kinds.windows(2).filter(|pair| pair[0] != pair[1]).count();
    mixed(text) && changes * 5 >= text.len()
}

fn kind(letter: u8) -> u8 {
    match letter {
        b'0'..=b'9' => 0,
        b'a'..=b'z' => 1,
        _ => 2,
    }
}

/// The words of a name in lower case: `X-Api-Key`, `apiKey` and `api_key` all end in `key`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in name.chars() {
        let begins = letter.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit());
        if (begins || !letter.is_ascii_alphanumeric()) && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| letter.is_ascii_alphanumeric()) {
            word.push(letter.to_ascii_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_in_every_spelling() {
        for name in [
            "key",
            "apiKey",
            "X-Api-Key",
            "CB-ACCESS-KEY",
            "listenKey",
            "listenkey",
            "keyId",
            "passphrase",
            "CB-ACCESS-PASSPHRASE",
            "sig",
            "sign",
            "CB-ACCESS-SIGN",
            "client_secret",
            "privateKey",
            "credentials",
            "keystore",
            "sasl.jaas.config",
            "producer.override.ssl.key.pem",
            "producer.override.ssl.keystore.key",
            "producer.override.sasl.username",
            "ssl.something.new",
            "sasl.login.class",
            "login",
            "pwd",
            "Cookie",
            "sessionId",
        ] {
            assert!(sensitive(name), "{name}");
        }
        for name in [
            "channel",
            "op",
            "args",
            "symbol",
            "User-Agent",
            "X-Plain",
            "design",
            "monkeys",
            "key.converter",
            "security.protocol",
            "producer.override.sasl.mechanism",
            "ssl.ca.location",
            "ssl.endpoint.identification.algorithm",
            "producer.override.compression.type",
            "enable.ssl.certificate.verification",
        ] {
            assert!(!sensitive(name), "{name}");
        }
    }

    #[test]
    fn tokens_are_told_from_words() {
        for token in [
            "abcdefghij1234567890",
            "550e8400-e29b-41d4-a716-446655440000",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc123",
            "9aF-3kd_Qz8-1xP_0vB-7tY",
            "abcdefghijklmnopqrstuvwxyzabcdefgh",
        ] {
            assert!(looks_like_token(token), "{token}");
        }
        for word in [
            "btcusdt@kline_1m",
            "market-data-level2-snapshot-v2",
            "short1",
            "WebSocketSourceConnectorStream",
            "public-trades-and-quotes",
            "12345678901234567890",
        ] {
            assert!(!looks_like_token(word), "{word}");
        }
    }

    #[test]
    fn logins_go_by_many_names() {
        for login in
            ["auth", "authKeyExpires", "login", "session.logon", "sign_in", "public/auth", "Sign-In", "identify"]
        {
            assert!(names_login(login), "{login}");
        }
        for other in ["subscribe", "SUBSCRIBE", "ping", "btcusdt@trade"] {
            assert!(!names_login(other), "{other}");
        }
    }
}
