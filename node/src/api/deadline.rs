//! Until when a caller waits. tonic ends an overdue call with a bare "timeout expired"; a wait that ends a little
//! earlier can say what it was waiting for.

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;

const HEADER: &str = "grpc-timeout";
/// For callers that name no deadline.
const WAIT_DEFAULT: Duration = Duration::from_secs(60);
/// Nobody is waited for longer.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// Left for the answer's way back.
const ANSWER_TIME: Duration = Duration::from_millis(300);

/// When a wait on behalf of this request must end.
pub(super) fn wait_until(metadata: &MetadataMap) -> Instant {
    let asked = metadata.get(HEADER).and_then(|value| value.to_str().ok()).and_then(parse);
    let wait = asked.unwrap_or(WAIT_DEFAULT).min(WAIT_MAX);
    // Of a very short deadline at least half is used.
    Instant::now() + wait.saturating_sub(ANSWER_TIME).max(wait / 2)
}

/// Reads at most eight digits and a unit, as the gRPC protocol writes them.
fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let digits = text.strip_suffix(unit).filter(|digits| digits.len() <= 8 && !digits.starts_with('+'))?;
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number * 3_600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, read) in [
            ("2H", Some(Duration::from_secs(7_200))),
            ("3M", Some(Duration::from_secs(180))),
            ("10S", Some(Duration::from_secs(10))),
            ("500m", Some(Duration::from_millis(500))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("10", None),
            ("-1S", None),
            ("+1S", None),
            ("999999999S", None),
            ("1ü", None),
        ] {
            assert_eq!(parse(text), read, "{text}");
        }
    }
}
