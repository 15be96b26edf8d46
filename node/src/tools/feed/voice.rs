//! What one connection says for itself, and when: greeting, answers, heartbeats, empty keep-alives. Pure: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    super::own_message::{Occasion, OwnMessage},
    Manners,
};

/// A thing that is said again and again.
#[derive(Debug, Clone, Copy)]
struct Every {
    interval: Duration,
    next: Instant,
}

impl Every {
    fn new(ms: Option<u64>, now: Instant) -> Option<Self> {
        let interval = Duration::from_millis(ms?.max(1));
        Some(Self { interval, next: now + interval })
    }

    /// Whether it is time; what was missed is not made up for.
    fn take(of: &mut Option<Self>, now: Instant) -> bool {
        let Some(every) = of.as_mut().filter(|every| every.next <= now) else { return false };
        every.next = now + every.interval;
        true
    }
}

/// The voice of a connection.
#[derive(Debug)]
pub(super) struct Voice {
    connection: u64,
    seed: u64,
    said: u64,
    greets_at: Option<Instant>,
    heartbeat: Option<Every>,
    keep_alive: Option<Every>,
    answers: bool,
    /// Nothing of the feed before a subscription has come.
    awaits_subscription: bool,
}

impl Voice {
    pub(super) fn new(connection: u64, seed: u64, manners: &Manners, now: Instant) -> Self {
        Self {
            connection,
            seed,
            said: 0,
            greets_at: manners.greet_after_ms.map(|ms| now + Duration::from_millis(ms)),
            heartbeat: Every::new(manners.heartbeat_every_ms, now),
            keep_alive: Every::new(manners.keep_alive_every_ms, now),
            answers: manners.answer,
            awaits_subscription: manners.await_subscription,
        }
    }

    /// When there is something to say; None if never.
    pub(super) fn due(&self) -> Option<Instant> {
        let every = |of: Option<Every>| of.map(|every| every.next);
        [self.greets_at, every(self.heartbeat), every(self.keep_alive)].into_iter().flatten().min()
    }

    /// What is due at `now`; empty texts are keep-alives.
    pub(super) fn take(&mut self, now: Instant) -> Option<String> {
        if self.greets_at.is_some_and(|at| at <= now) {
            self.greets_at = None;
            return Some(self.own(Occasion::Greeting));
        }
        if Every::take(&mut self.heartbeat, now) {
            return Some(self.own(Occasion::Heartbeat));
        }
        Every::take(&mut self.keep_alive, now).then(String::new)
    }

    /// A text of the subscriber; the answer, if there is one. What comes before the greeting is not even read.
    pub(super) fn hear(&mut self) -> Option<String> {
        if self.greets_at.is_some() {
            return None;
        }
        self.awaits_subscription = false;
        self.answers.then(|| self.own(Occasion::Answer))
    }

    /// Whether messages of the feed may be sent.
    pub(super) fn may_speak(&self) -> bool {
        !self.awaits_subscription
    }

    fn own(&mut self, own: Occasion) -> String {
        self.said += 1;
        OwnMessage { own, connection: self.connection, number: self.said, seed: self.seed }.payload()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_said_at_its_time_and_numbered() {
        let now = Instant::now();
        let ms = |ms| now + Duration::from_millis(ms);
        let manners = Manners {
            greet_after_ms: Some(10),
            heartbeat_every_ms: Some(100),
            keep_alive_every_ms: Some(250),
            answer: true,
            ..Manners::default()
        };
        let mut voice = Voice::new(7, 1, &manners, now);
        assert_eq!((voice.due(), voice.take(ms(9))), (Some(ms(10)), None));
        assert_eq!(voice.hear(), None, "before the greeting nobody listens");
        assert!(voice.take(ms(10)).is_some_and(|text| text.contains("greeting\",\"connection\":7,\"number\":1")));
        assert!(voice.hear().is_some_and(|text| text.contains("answer\",\"connection\":7,\"number\":2")));
        assert!(voice.take(ms(100)).is_some_and(|text| text.contains("heartbeat\",\"connection\":7,\"number\":3")));
        assert_eq!(voice.due(), Some(ms(200)));
        assert!(voice.take(ms(260)).is_some_and(|text| text.contains("\"number\":4")));
        assert_eq!((voice.take(ms(260)), voice.take(ms(260))), (Some(String::new()), None));
    }

    #[test]
    fn a_subscription_before_the_greeting_is_ignored() {
        let now = Instant::now();
        let manners = Manners { greet_after_ms: Some(0), await_subscription: true, ..Manners::default() };
        let mut voice = Voice::new(1, 1, &manners, now);
        assert_eq!((voice.hear(), voice.may_speak()), (None, false));
        assert!(voice.take(now).is_some());
        assert_eq!((voice.hear(), voice.may_speak()), (None, true));
        assert!(Voice::new(1, 1, &Manners::default(), now).may_speak());
    }
}
