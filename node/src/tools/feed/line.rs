//! What one path does to its subscribers besides being late: whether it takes them, and which messages it withholds from
//! them. Set by the command line, changed by orders at any time; it holds for every connection of the path, those to come
//! included. Pings are answered all the while. Pure: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::{super::pattern::mix, Faults};

/// Longest refusal that can be asked for, in seconds.
const REFUSED_S_MAX: u64 = 86_400;

/// What the connections of a path are told to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Close politely: everything sent has arrived.
    Close,
    Reset,
    /// Send no further message of the feed; a new connection of the path is not concerned.
    Mute,
}

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obeyed {
    Done,
    /// Its present connections have to be told.
    Tell(Order),
    /// No such verb, or a number that it cannot have.
    Unknown,
}

/// Whether a subscriber is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Welcome,
    /// 503.
    Down,
    /// 429, and so many seconds to wait.
    Refused(u64),
}

/// Messages that a path does not send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Withheld {
    all: bool,
    /// Bits of the channels of which nothing is sent.
    channels: u64,
    /// Only one of so many is sent.
    drip: Option<u64>,
    /// One of so many is not sent.
    lack: Option<u64>,
}

impl Withheld {
    /// Whether message `n` is not sent. Which ones of many is scattered, and the same for all connections.
    pub(super) fn holds(&self, n: u64, channel: u32) -> bool {
        let is_one_of = |many: u64| mix(n).is_multiple_of(many);
        self.all
            || self.channels >> channel & 1 == 1
            || self.drip.is_some_and(|many| !is_one_of(many))
            || self.lack.is_some_and(is_one_of)
    }
}

/// A path at this moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    down: bool,
    refuses_until: Option<Instant>,
    pub(super) withheld: Withheld,
}

impl Line {
    /// As the command line wants it from the beginning.
    pub(super) fn new(faults: &Faults) -> Self {
        let channels = faults.silent_channel.map_or(0, |channel| 1 << channel);
        let withheld = Withheld { all: faults.silent, channels, drip: faults.drip, lack: faults.lack };
        Self { withheld, ..Self::default() }
    }

    pub(super) fn admission(&self, now: Instant) -> Admission {
        if self.down {
            return Admission::Down;
        }
        let left = self.refuses_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        // Rounded up: whoever waits as told comes in.
        if left.is_zero() { Admission::Welcome } else { Admission::Refused(left.as_millis().div_ceil(1_000) as u64) }
    }

    /// Does what `verb` asks for; `number` is what stood behind the path.
    pub(super) fn obey(&mut self, verb: &str, number: Option<u64>, now: Instant) -> Obeyed {
        let many = number.filter(|many| *many >= 2);
        match (verb, number) {
            ("close", None) => return Obeyed::Tell(Order::Close),
            ("reset", None) => return Obeyed::Tell(Order::Reset),
            ("mute", None) => return Obeyed::Tell(Order::Mute),
            ("down", None) => {
                self.down = true;
                return Obeyed::Tell(Order::Close);
            }
            ("up", None) => self.down = false,
            ("silence", None) => self.withheld.all = true,
            ("silence", Some(channel @ 0..64)) => self.withheld.channels |= 1 << channel,
            ("drip", Some(_)) if many.is_some() => self.withheld.drip = many,
            ("lack", Some(_)) if many.is_some() => self.withheld.lack = many,
            ("speak", None) => self.withheld = Withheld::default(),
            ("refuse", Some(seconds @ 1..=REFUSED_S_MAX)) => {
                self.refuses_until = Some(now + Duration::from_secs(seconds));
            }
            _ => return Obeyed::Unknown,
        }
        Obeyed::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(line: &Line) -> Vec<u64> {
        (0..3_000).filter(|n| !line.withheld.holds(*n, (*n % 3) as u32)).collect()
    }

    fn after(orders: &[(&str, Option<u64>)]) -> Line {
        let mut line = Line::default();
        for (verb, number) in orders {
            assert_eq!(line.obey(verb, *number, Instant::now()), Obeyed::Done, "{verb} {number:?}");
        }
        line
    }

    #[test]
    fn a_line_withholds_what_it_was_told_until_it_may_speak() {
        assert_eq!(sent(&after(&[])).len(), 3_000);
        assert_eq!(sent(&after(&[("silence", None)])).len(), 0);
        let two = sent(&after(&[("silence", Some(1))]));
        assert!(two.len() == 2_000 && two.iter().all(|n| n % 3 != 1));
        let (drip, lack) = (sent(&after(&[("drip", Some(100))])), sent(&after(&[("lack", Some(100))])));
        assert!((10..60).contains(&drip.len()), "{}", drip.len());
        assert_eq!(drip.len() + lack.len(), 3_000, "what one sends is what the other lacks");
        let all = [("silence", None), ("silence", Some(2)), ("drip", Some(7)), ("lack", Some(9)), ("speak", None)];
        assert_eq!(sent(&after(&all)).len(), 3_000);
    }

    #[test]
    fn what_the_command_line_asks_for_holds_from_the_beginning() {
        let faults = Faults { silent_channel: Some(2), ..Faults::default() };
        assert_eq!(sent(&Line::new(&faults)).len(), 2_000);
        assert_eq!(sent(&Line::new(&Faults { silent: true, ..Faults::default() })).len(), 0);
    }

    #[test]
    fn a_refusal_ends_when_it_said() {
        let now = Instant::now();
        let mut line = Line::default();
        assert_eq!(line.obey("refuse", Some(20), now), Obeyed::Done);
        assert_eq!(line.admission(now), Admission::Refused(20));
        assert_eq!(line.admission(now + Duration::from_millis(18_001)), Admission::Refused(2));
        assert_eq!(line.admission(now + Duration::from_secs(20)), Admission::Welcome);
        assert_eq!(line.obey("down", None, now), Obeyed::Tell(Order::Close));
        assert_eq!(line.admission(now), Admission::Down);
    }

    #[test]
    fn orders_that_nobody_knows_change_nothing() {
        let mut line = Line::default();
        for (verb, number) in [
            ("explode", None),
            ("silence", Some(64)),
            ("drip", None),
            ("drip", Some(1)),
            ("lack", Some(0)),
            ("refuse", Some(0)),
            ("refuse", None),
            ("close", Some(1)),
        ] {
            assert_eq!(line.obey(verb, number, Instant::now()), Obeyed::Unknown, "{verb} {number:?}");
        }
        assert_eq!((line.down, line.refuses_until, line.withheld), (false, None, Withheld::default()));
    }
}
