//! Words and numbers for people: durations, counts, fractions, and text that is safe on a terminal.
//! Pure; used by the tables and by error reports, never by JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

const SECONDS_PER_MINUTE: u64 = 60;
const SECONDS_PER_HOUR: u64 = 60 * SECONDS_PER_MINUTE;
const SECONDS_PER_DAY: u64 = 24 * SECONDS_PER_HOUR;

/// Replaces control characters: a feed's error text must not move the cursor or recolour the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A duration in at most two units: `12s`, `3m5s`, `4h12m`, `3d`.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..SECONDS_PER_MINUTE => format!("{seconds}s"),
        SECONDS_PER_MINUTE..SECONDS_PER_HOUR => two(seconds, (SECONDS_PER_MINUTE, 'm'), (1, 's')),
        SECONDS_PER_HOUR..SECONDS_PER_DAY => two(seconds, (SECONDS_PER_HOUR, 'h'), (SECONDS_PER_MINUTE, 'm')),
        SECONDS_PER_DAY.. => two(seconds, (SECONDS_PER_DAY, 'd'), (SECONDS_PER_HOUR, 'h')),
    }
}

fn two(seconds: u64, large: (u64, char), small: (u64, char)) -> String {
    let rest = seconds % large.0 / small.0;
    let first = format!("{}{}", seconds / large.0, large.1);
    if rest == 0 { first } else { format!("{first}{rest}{}", small.1) }
}

/// How long ago a moment was; `-` when it is unknown, `0s` when it lies ahead (clocks differ).
pub(crate) fn age_of(moment: Option<&Timestamp>, now: SystemTime) -> String {
    let Some(moment) = moment else { return "-".to_owned() };
    let now_s = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    age(now_s.saturating_sub(u64::try_from(moment.seconds).unwrap_or(0)))
}

/// A count with its thousands apart: `12 431`. Columns are at least two spaces apart, so it stays one field.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A rate for people: whole numbers with their thousands apart from 10 up, one decimal below.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second >= 10.0 { count(per_second.round() as u64) } else { format!("{per_second:.1}") }
}

/// Milliseconds; `-` when nothing was measured.
pub(crate) fn millis(value_ms: f64) -> String {
    match value_ms {
        v if v <= 0.0 => "-".to_owned(),
        v if v < 10.0 => format!("{v:.1}ms"),
        v => format!("{v:.0}ms"),
    }
}

/// A part of a whole in percent; `-` when the whole is nothing.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1}%", part as f64 * 100.0 / whole as f64) }
}

/// The text, or `-` for none.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// RFC 3339 in UTC with milliseconds; empty for a moment no calendar holds.
pub(crate) fn rfc3339(moment: &Timestamp) -> String {
    jiff::Timestamp::new(moment.seconds, moment.nanos).map(|t| format!("{:.3}", t)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (185, "3m5s"),
            (3_600, "1h"),
            (15_120, "4h12m"),
            (86_400 * 3, "3d"),
            (86_400 * 3 + 7_200, "3d2h"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn numbers_keep_their_thousands_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1 000"), (12_431, "12 431"), (1_234_567, "1 234 567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(rate(0.25), "0.2");
        assert_eq!(rate(12_430.6), "12 431");
        assert_eq!(percent(1, 0), "-");
        assert_eq!(percent(499, 1_000), "49.9%");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\r\n"), "a\u{fffd}[31mb\u{fffd}\u{fffd}");
    }

    #[test]
    fn moments_print_in_utc_with_milliseconds() {
        let moment = Timestamp { seconds: 1_700_000_000, nanos: 120_000_000 };
        assert_eq!(rfc3339(&moment), "2023-11-14T22:13:20.120Z");
    }
}
