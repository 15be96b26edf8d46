//! `Retry-After` of RFC 9110: seconds or a date. Pure. A date is measured by the server's own clock where it shows it:
//! ours may be minutes off.

use std::time::{Duration, SystemTime};

/// The wait that `value` asks for. None: it says neither seconds nor a date. A date that has passed asks for no wait.
pub(super) fn retry_after(value: &str, server_date: Option<&str>, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a very long wait, not none.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = server_date.and_then(|date| httpdate::parse_http_date(date.trim()).ok()).unwrap_or(now);
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_understood() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:00 GMT").expect("a date");
        for (value, date, seconds) in [
            ("20", None, Some(20)),
            (" 0 ", None, Some(0)),
            ("99999999999999999999999", None, Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", None, Some(37)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None, Some(37)),
            ("Sun Nov  6 08:49:37 1994", None, Some(37)),
            ("Sun, 06 Nov 1994 08:48:00 GMT", None, Some(0)),
            ("Sun, 06 Nov 1994 12:00:30 GMT", Some("Sun, 06 Nov 1994 12:00:00 GMT"), Some(30)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some("yesterday"), Some(37)),
            ("soon", None, None),
            ("-1", None, None),
            ("1.5", None, None),
            ("", None, None),
        ] {
            assert_eq!(retry_after(value, date, now), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
