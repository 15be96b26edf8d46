//! Two lines of one feed, second by second: which one is behind, which is only late, quiet or talkative, and what is said of it.
//!
//! Time is virtual; a rig delivers a feed on both lines as told and writes down what the merge says of them.

use std::collections::VecDeque;

use twinfeed_dedup::{
    Fingerprint, Frame, FrameKind, Merge, MergeStatus, Notice, Options, Retention, Shape, Share, Side, SubscriptionId,
    ToStandby,
};

const STEP_MS: u64 = 10;
/// How often a node says that all it has read has been shown: a fifth of a second, and as late as timers are.
const SAYS_EVERY_MS: u64 = 210;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60_000;

/// Who gets a message: the owner's line, the standby's.
type Gets = [bool; 2];
const BOTH: Gets = [true, true];

fn only(side: Side) -> Gets {
    if side == Side::Own { [true, false] } else { [false, true] }
}

fn place(side: Side) -> usize {
    usize::from(side == Side::Standby)
}

struct Rig {
    merge: Merge<String>,
    now_ms: u64,
    subscriptions: u64,
    ids: [SubscriptionId; 2],
    index: [u64; 2],
    skew_ms: [u64; 2],
    under_way: [VecDeque<(u64, String)>; 2],
    /// Whether each node says that it has shown all it has read, and whether it reads. What comes meanwhile waits.
    awake: [bool; 2],
    reads: [bool; 2],
    sent: u64,
    seed: u64,
    written: u64,
    notices: Vec<(u64, Notice)>,
    acked_redundant: bool,
    called_redundant_ms: u64,
}

impl Rig {
    fn new(skew_ms: [u64; 2]) -> Self {
        let mut merge = Merge::new(Options::default(), 1);
        merge.look_at_shapes(|payload: &String| Shape::of(payload.as_bytes()));
        let mut rig = Self {
            merge,
            now_ms: 0,
            subscriptions: 0,
            ids: [SubscriptionId(0); 2],
            index: [0; 2],
            skew_ms,
            under_way: Default::default(),
            awake: BOTH,
            reads: BOTH,
            sent: 0,
            seed: 7,
            written: 0,
            notices: Vec::new(),
            acked_redundant: false,
            called_redundant_ms: 0,
        };
        rig.connect(Side::Own);
        rig.merge.standby_joined();
        rig.connect(Side::Standby);
        rig
    }

    fn connect(&mut self, side: Side) {
        self.subscriptions += 1;
        let id = SubscriptionId(self.subscriptions);
        (self.ids[place(side)], self.index[place(side)]) = (id, 0);
        self.under_way[place(side)].clear();
        match side {
            Side::Own => self.merge.own_subscription(Some(id), self.now_ms),
            Side::Standby => self.merge.standby_subscription(Some(id), self.now_ms),
        }
    }

    fn disconnect(&mut self, side: Side) {
        match side {
            Side::Own => self.merge.own_subscription(None, self.now_ms),
            Side::Standby => self.merge.standby_subscription(None, self.now_ms),
        }
        self.under_way[place(side)].clear();
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    /// The server sends something on one line or both.
    fn send(&mut self, payload: &str, gets: Gets) {
        for side in [0, 1].into_iter().filter(|side| gets[*side]) {
            let jitter_ms = self.random(8);
            let under_way = &mut self.under_way[side];
            let due_ms =
                (self.now_ms + self.skew_ms[side] + jitter_ms).max(under_way.back().map_or(0, |(due, _)| *due));
            under_way.push_back((due_ms, payload.to_owned()));
        }
    }

    /// The next trade of a channel.
    fn trade(&mut self, channel: &str, gets: Gets) {
        self.sent += 1;
        let (price, id) = (self.random(100), self.sent);
        let payload = format!(r#"{{"channel":"{channel}","price":{price}.5,"id":{id}}}"#);
        self.send(&payload, gets);
    }

    fn step(&mut self) {
        self.now_ms += STEP_MS;
        let awake = self.awake;
        for side in Side::BOTH.into_iter().filter(|side| awake[place(*side)]) {
            while let Some((due_ms, _)) = self.under_way[place(side)].front()
                && *due_ms <= self.now_ms
                && self.reads[place(side)]
            {
                self.deliver(side);
            }
            if self.now_ms.is_multiple_of(SAYS_EVERY_MS) {
                self.merge.caught_up(side, self.now_ms);
            }
        }
        if self.now_ms.is_multiple_of(50) {
            self.commit();
        }
        self.called_redundant_ms += if self.merge.status().at_risk { 0 } else { STEP_MS };
        let now_ms = self.now_ms;
        self.notices.extend(self.merge.take_notices().into_iter().map(|notice| (now_ms, notice)));
    }

    fn deliver(&mut self, side: Side) {
        let Some((_, payload)) = self.under_way[place(side)].pop_front() else { return };
        self.index[place(side)] += 1;
        let (subscription, index) = (self.ids[place(side)], self.index[place(side)]);
        let fingerprint = Fingerprint::of(FrameKind::Text, payload.as_bytes());
        let bytes = payload.len();
        self.merge.frame(Frame { subscription, index, fingerprint, bytes, payload }, self.now_ms);
    }

    fn commit(&mut self) {
        match self.merge.cut(self.now_ms, 100_000, usize::MAX) {
            Some(batch) => {
                self.written += batch.len() as u64;
                self.merge.committed();
            }
            None => self.merge.idle_cut(self.now_ms),
        }
        for message in self.merge.take_messages() {
            if let ToStandby::Ack(ack) = message {
                self.acked_redundant = ack.redundant;
            }
        }
    }

    /// Lets time pass; `feed` is asked each step what the server sends.
    fn run(&mut self, lasts_ms: u64, mut feed: impl FnMut(&mut Self)) {
        let until_ms = self.now_ms + lasts_ms;
        while self.now_ms < until_ms {
            feed(self);
            self.step();
        }
    }

    /// A feed of one channel with so many milliseconds between two messages, until both lines count.
    fn warm_up(&mut self, every_ms: u64) {
        self.run(40 * SECOND, |rig| rig.every(every_ms, |rig| rig.trade("ticker", BOTH)));
        let status = self.merge.status();
        assert!(status.redundant && !status.at_risk, "{status:?}, {:?}", self.notices);
        assert_eq!((status.own_alone.messages, status.standby_alone.messages), (0, 0), "{status:?}");
        assert!(self.acked_redundant);
    }

    fn every(&mut self, every_ms: u64, mut what: impl FnMut(&mut Self)) {
        if every_ms < STEP_MS {
            (0..STEP_MS / every_ms).for_each(|_| what(self));
        } else if self.now_ms.is_multiple_of(every_ms) {
            what(self);
        }
    }

    fn behind_since_ms(&self, side: Side) -> Option<u64> {
        let MergeStatus { own_behind_since_ms, standby_behind_since_ms, .. } = self.merge.status();
        if side == Side::Own { own_behind_since_ms } else { standby_behind_since_ms }
    }

    fn aligned_ms(&self) -> Option<u64> {
        let aligned = self.notices.iter().filter(|(_, notice)| matches!(notice, Notice::Aligned { .. }));
        aligned.map(|(at_ms, _)| *at_ms).next_back()
    }

    fn said_behind(&self) -> Vec<&(u64, Notice)> {
        self.notices.iter().filter(|(_, notice)| matches!(notice, Notice::Behind { .. })).collect()
    }

    fn assert_never_behind(&self, scene: &str) {
        let said = self.said_behind();
        assert!(said.is_empty(), "{scene}: {said:?}");
    }

    /// Runs a feed of which a line lacks something from now on, until the merge says so.
    fn assert_found(&mut self, side: Side, within_ms: u64, scene: &str, mut feed: impl FnMut(&mut Self)) {
        let began_ms = self.now_ms;
        while self.behind_since_ms(side).is_none() {
            assert!(self.now_ms < began_ms + within_ms, "{scene}: {side:?} not found in {within_ms} ms");
            feed(self);
            self.step();
        }
        let since_ms = self.behind_since_ms(side).expect("the loop waited for it");
        assert!((began_ms..began_ms + within_ms).contains(&since_ms), "{scene}: since {since_ms}, began {began_ms}");
        assert_eq!(self.behind_since_ms(side.other()), None, "{scene}: the other line is not behind");
        let status = self.merge.status();
        assert!(status.at_risk, "{scene}: {status:?}");
        assert_eq!(status.redundant, side == Side::Own, "{scene}: {status:?}");
        self.commit();
        assert_eq!(self.acked_redundant, side == Side::Own, "{scene}: what the standby is told");
        let last = self.said_behind().last().map(|(_, notice)| notice.clone());
        let Some(Notice::Behind { side: said, since_ms: at_ms, lacks, .. }) = last else { panic!("{scene}: {last:?}") };
        assert_eq!((said, at_ms), (side, since_ms), "{scene}");
        assert!(lacks > 0, "{scene}");
    }
}

// --- silent, partly silent, dripping -------------------------------------------------------------------------------------------

#[test]
fn a_silent_line_is_behind_at_once() {
    for (every_ms, within_ms) in [(1, 1_700), (10, 1_700), (100, 1_900), (1_000, 6_000), (10_000, 22_000)] {
        for side in Side::BOTH {
            let scene = format!("one message in {every_ms} ms");
            let mut rig = Rig::new([0, 20]);
            rig.warm_up(every_ms.min(1_000));
            rig.run(MINUTE, |rig| rig.every(every_ms, |rig| rig.trade("ticker", BOTH)));
            rig.assert_never_behind(&scene);
            rig.assert_found(side, within_ms, &scene, |rig| {
                rig.every(every_ms, |rig| rig.trade("ticker", only(side.other())));
            });
        }
    }
}

#[test]
fn a_line_with_one_silent_channel_of_three_is_behind() {
    // The slow channels would drown in the quick one, but for their shape.
    for (every_ms, within_ms) in [(10, 3_000), (1_000, 6_000), (5_000, 25_000)] {
        for side in Side::BOTH {
            for silent in ["ticker", "book", "trades"] {
                let scene = format!("{silent} of three channels, each {every_ms} ms");
                let mut rig = Rig::new([15, 0]);
                rig.warm_up(100);
                let feed = |rig: &mut Rig, gets: Gets| {
                    rig.every(10, |rig| rig.trade("quick", BOTH));
                    for channel in ["ticker", "book", "trades"] {
                        rig.every(every_ms, |rig| rig.trade(channel, if channel == silent { gets } else { BOTH }));
                    }
                };
                rig.run(MINUTE, |rig| feed(rig, BOTH));
                rig.assert_never_behind(&scene);
                rig.assert_found(side, within_ms, &scene, |rig| feed(rig, only(side.other())));
            }
        }
    }
}

/// Without a look at shapes, by numbers alone.
#[test]
fn a_silent_part_is_found_without_shapes() {
    for side in Side::BOTH {
        let mut rig = Rig::new([15, 0]);
        rig.merge.look_at_shapes(|_| Shape::UNKNOWN);
        rig.warm_up(10);
        let mut n = 0;
        rig.assert_found(side, 4_000, "one of three", |rig| {
            rig.every(10, |rig| {
                n += 1;
                rig.trade("any", if n % 3 == 0 { only(side.other()) } else { BOTH });
            });
        });
    }
}

#[test]
fn a_line_that_drips_is_behind() {
    for every_ms in [1, 10, 100] {
        for side in Side::BOTH {
            let scene = format!("one of a hundred comes, one message in {every_ms} ms");
            let mut rig = Rig::new([0, 30]);
            rig.warm_up(every_ms);
            let mut drip = 0;
            let mut feed = |rig: &mut Rig| {
                rig.every(every_ms, |rig| {
                    drip += 1;
                    rig.trade("ticker", if drip % 100 == 0 { BOTH } else { only(side.other()) });
                });
            };
            rig.assert_found(side, 3_500, &scene, &mut feed);
            rig.run(30 * SECOND, feed);
            assert!(rig.behind_since_ms(side).is_some(), "{scene}: a drip does not end it");
            assert_eq!(rig.said_behind().len(), 1, "{scene}: said once");
        }
    }
}

// --- what is not behind --------------------------------------------------------------------------------------------------------

#[test]
fn honest_pauses_are_no_silence() {
    let mut rig = Rig::new([0, 200]);
    rig.warm_up(100);
    for pause in [3, 10, 45, 300, 20] {
        rig.run(pause * SECOND, |_| {});
        rig.run(3 * SECOND, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
    }
    rig.run(10 * MINUTE, |rig| {
        if rig.random(500) == 0 {
            (0..10).for_each(|_| rig.trade("ticker", BOTH));
        }
    });
    rig.assert_never_behind("pauses of both lines");
    assert!(!rig.merge.status().at_risk);
}

#[test]
fn a_skew_of_ninety_percent_of_the_span_is_usual() {
    for skew_ms in [[0, 9_000], [9_000, 0]] {
        for every_ms in [10, 200] {
            let mut rig = Rig::new(skew_ms);
            let mut feed = |rig: &mut Rig| rig.every(every_ms, |rig| rig.trade("ticker", BOTH));
            rig.run(5 * MINUTE, &mut feed);
            rig.assert_never_behind("a skew of nine seconds");
            assert!(!rig.merge.status().at_risk, "{:?}", rig.merge.status());
            assert!((8_900..9_200).contains(&rig.merge.status().skew_ms), "{:?}", rig.merge.status());
            // And silence is found all the same.
            let side = if skew_ms[0] > 0 { Side::Own } else { Side::Standby };
            rig.under_way[place(side)].clear();
            rig.run(15 * SECOND, |rig| rig.every(every_ms, |rig| rig.trade("ticker", only(side.other()))));
            assert!(rig.behind_since_ms(side).is_some(), "{:?}", rig.merge.status());
        }
    }
}

#[test]
fn a_skew_that_changes_slowly_is_usual() {
    let mut rig = Rig::new([0, 10]);
    rig.warm_up(50);
    rig.run(10 * MINUTE, |rig| {
        if rig.now_ms.is_multiple_of(100) {
            rig.skew_ms[1] += 1;
        }
        rig.every(50, |rig| rig.trade("ticker", BOTH));
    });
    rig.run(5 * MINUTE, |rig| {
        if rig.now_ms.is_multiple_of(50) {
            rig.skew_ms[1] = rig.skew_ms[1].saturating_sub(1);
        }
        rig.every(50, |rig| rig.trade("ticker", BOTH));
    });
    rig.assert_never_behind("a skew that changes");
    assert!(!rig.merge.status().at_risk);
}

/// Heartbeats with a connection's name or number, on both lines, however quiet the market.
#[test]
fn what_a_connection_says_for_itself_makes_no_line_behind() {
    for with_shapes in [true, false] {
        for (beat_ms, trade_ms) in
            [(1_000, 10), (1_000, 1_000), (1_000, MINUTE), (30_000, MINUTE), (30_000, 200), (100, 20)]
        {
            let scene = format!("heartbeats each {beat_ms} ms, trades each {trade_ms} ms, shapes: {with_shapes}");
            let mut rig = Rig::new([0, 20]);
            if !with_shapes {
                rig.merge.look_at_shapes(|_| Shape::UNKNOWN);
            }
            rig.warm_up(50);
            let mut beats = 0;
            rig.run(30 * MINUTE, |rig| {
                beats += 1;
                for (side, name, phase_ms) in [(Side::Own, "Xk9Qz", 0), (Side::Standby, "qAbBc", beat_ms / 2)] {
                    if (rig.now_ms + phase_ms).is_multiple_of(beat_ms) {
                        let beat = format!(r#"{{"event":"heartbeat","connection":"{name}","n":{beats}}}"#);
                        rig.send(&beat, only(side));
                    }
                }
                rig.every(trade_ms, |rig| rig.trade("ticker", BOTH));
                // A line asks for something more and gets its answers at once.
                if with_shapes && rig.now_ms.is_multiple_of(7 * MINUTE) {
                    for id in 0..5 {
                        let answer = format!(r#"{{"result":null,"id":{}}}"#, rig.now_ms + id);
                        rig.send(&answer, only(Side::Own));
                    }
                }
            });
            rig.assert_never_behind(&scene);
            let status = rig.merge.status();
            assert!(status.own_alone.messages > 0 && status.standby_alone.messages > 0, "{scene}: {status:?}");
        }
    }
}

/// Silence is found beside heartbeats.
#[test]
fn a_silent_market_beside_heartbeats_is_found() {
    for side in Side::BOTH {
        for (trade_ms, within_ms) in [(100, 3_000), (1_000, 6_000), (20_000, 35_000)] {
            let scene = format!("trades each {trade_ms} ms");
            let mut rig = Rig::new([0, 20]);
            rig.warm_up(50);
            let feed = |rig: &mut Rig, gets: Gets| {
                for (side, name, phase_ms) in [(Side::Own, "a81f3", 0), (Side::Standby, "17fce", 500)] {
                    if (rig.now_ms + phase_ms).is_multiple_of(1_000) {
                        let beat = format!(r#"{{"event":"heartbeat","connection":"{name}","n":{}}}"#, rig.now_ms);
                        rig.send(&beat, only(side));
                    }
                }
                rig.every(trade_ms, |rig| rig.trade("ticker", gets));
            };
            rig.run(2 * MINUTE, |rig| feed(rig, BOTH));
            rig.assert_never_behind(&scene);
            rig.assert_found(side, within_ms, &scene, |rig| feed(rig, only(side.other())));
        }
    }
}

/// One of a hundred messages is lost: a difference, and shown as one.
#[test]
fn a_small_loss_is_a_difference_and_no_silence() {
    for every_ms in [1, 10, 100, 1_000] {
        for side in Side::BOTH {
            let scene = format!("one message in {every_ms} ms, {side:?} loses one of a hundred");
            let mut rig = Rig::new([0, 20]);
            rig.warm_up(every_ms);
            let minutes = if every_ms < 10 { 2 } else { 20 };
            rig.run(minutes * MINUTE, |rig| {
                rig.every(every_ms, |rig| {
                    let is_lost = rig.random(100) == 0;
                    rig.trade("ticker", if is_lost { only(side.other()) } else { BOTH });
                });
            });
            rig.assert_never_behind(&scene);
            if every_ms == 1_000 {
                continue; // too few for a share of one minute
            }
            let status = rig.merge.status();
            let [alone, none] = match side {
                Side::Standby => [status.own_alone, status.standby_alone],
                Side::Own => [status.standby_alone, status.own_alone],
            };
            assert_eq!(none.messages, 0, "{scene}");
            let (least, most) = (alone.of / 400, alone.of / 30);
            assert!(alone.messages >= least && alone.messages <= most, "{scene}: {alone:?}");
            assert!(alone.of * every_ms >= 50 * SECOND, "{scene}: of the last minute: {alone:?}");
        }
    }
}

// --- frozen nodes, broken relays -----------------------------------------------------------------------------------------------

/// A node sleeps; the other goes on. When it wakes it says that nothing waits before it has read what has come meanwhile.
#[test]
fn a_frozen_standby_is_not_behind() {
    for asleep_ms in [2_000, 20_000] {
        let mut rig = Rig::new([0, 20]);
        rig.warm_up(20);
        for _ in 0..3 {
            rig.awake[1] = false;
            rig.run(asleep_ms, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
            (rig.awake[1], rig.reads[1]) = (true, false);
            rig.run(600, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
            rig.reads[1] = true;
            rig.run(5 * SECOND, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
        }
        rig.assert_never_behind("a standby that slept");
    }
}

/// Time jumps for both: the owner slept. Its own backlog is read first, the standby's comes slowly after it.
#[test]
fn a_frozen_owner_takes_no_line_for_behind() {
    let mut rig = Rig::new([0, 20]);
    rig.warm_up(20);
    for _ in 0..3 {
        rig.awake = [false; 2];
        let until_ms = rig.now_ms + 20 * SECOND;
        while rig.now_ms < until_ms {
            rig.every(20, |rig| rig.trade("ticker", BOTH));
            rig.now_ms += STEP_MS;
        }
        rig.awake = [true, false];
        rig.run(4 * SECOND, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
        rig.awake = [true; 2];
        rig.run(20 * SECOND, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
    }
    rig.assert_never_behind("an owner that slept");
    assert!(!rig.merge.status().at_risk, "{:?}", rig.merge.status());
}

#[test]
fn a_broken_relay_makes_no_line_behind() {
    let mut rig = Rig::new([0, 20]);
    rig.warm_up(20);
    for broken_ms in [500, 3_000, 60_000] {
        rig.awake[1] = false;
        rig.run(broken_ms, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
        rig.awake[1] = true;
        rig.run(30 * SECOND, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
    }
    rig.assert_never_behind("a broken relay");
    assert!(!rig.merge.status().at_risk, "{:?}", rig.merge.status());
    assert!(rig.merge.status().skew_ms < 1_000, "a backlog is no measure of the skew: {:?}", rig.merge.status());
}

// --- the end of it -------------------------------------------------------------------------------------------------------------

#[test]
fn a_line_that_delivers_again_has_caught_up_and_is_redundant_after_a_commit() {
    for side in Side::BOTH {
        let mut rig = Rig::new([0, 20]);
        rig.warm_up(20);
        rig.assert_found(side, 3_000, "silent", |rig| {
            rig.every(20, |rig| rig.trade("ticker", only(side.other())));
        });
        rig.run(20 * SECOND, |rig| rig.every(20, |rig| rig.trade("ticker", only(side.other()))));
        assert!(rig.behind_since_ms(side).is_some());
        rig.run(6 * SECOND, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
        let ends = rig.notices.iter().filter_map(|(_, notice)| match notice {
            Notice::CaughtUp { side, lasted_ms, .. } => Some((*side, *lasted_ms)),
            _ => None,
        });
        let ends: Vec<(Side, u64)> = ends.collect();
        assert_eq!(ends.len(), 1, "{:?}", rig.notices);
        assert!(ends[0].0 == side && (20_000..28_000).contains(&ends[0].1), "{ends:?}");
        assert!(!rig.merge.status().at_risk && rig.acked_redundant, "{:?}", rig.merge.status());
        // What it has not delivered is still told of, and leaves with the minute.
        let alone = |rig: &Rig| {
            let status = rig.merge.status();
            if side == Side::Standby { status.own_alone } else { status.standby_alone }
        };
        assert!(alone(&rig).messages > 900, "{:?}", alone(&rig));
        rig.run(65 * SECOND, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
        assert_eq!(alone(&rig).messages, 0);
        let agree = rig.notices.iter().filter(|(_, notice)| matches!(notice, Notice::FeedsAgree { .. })).count();
        let differ = rig.notices.iter().filter(|(_, notice)| matches!(notice, Notice::FeedsDiffer { .. })).count();
        assert_eq!((differ, agree), (1, 1), "{:?}", rig.notices);
    }
}

/// A standby that has caught up may lack what its owner has not written yet.
#[test]
fn after_a_silence_redundancy_waits_for_a_commit() {
    let mut rig = Rig::new([0, 20]);
    rig.warm_up(20);
    rig.assert_found(Side::Standby, 3_000, "silent", |rig| {
        rig.every(20, |rig| rig.trade("ticker", only(Side::Own)));
    });
    // Kafka takes nothing: the batch in flight stays in flight.
    let batch = loop {
        rig.trade("ticker", BOTH);
        if let Some(batch) = rig.merge.cut(rig.now_ms, 1, usize::MAX) {
            break batch;
        }
        rig.step();
    };
    assert_eq!(batch.len(), 1);
    let until_ms = rig.now_ms + 10 * SECOND;
    while rig.now_ms < until_ms {
        rig.every(20, |rig| rig.trade("ticker", BOTH));
        rig.now_ms += STEP_MS;
        for side in Side::BOTH {
            while rig.under_way[place(side)].front().is_some_and(|(due_ms, _)| *due_ms <= rig.now_ms) {
                rig.deliver(side);
            }
            rig.merge.caught_up(side, rig.now_ms);
        }
    }
    let status = rig.merge.status();
    assert_eq!(status.standby_behind_since_ms, None, "{status:?}");
    assert!(!status.redundant && status.at_risk, "{status:?}");
    rig.merge.committed();
    assert!(!rig.merge.status().redundant, "what was found meanwhile is not written yet");
    rig.run(SECOND, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
    assert!(rig.merge.status().redundant);
}

/// A backlog that comes in the end corrects what was said of the line.
#[test]
fn late_copies_correct_the_share() {
    let mut rig = Rig::new([0, 20]);
    rig.warm_up(20);
    rig.skew_ms[1] = 5_000;
    rig.run(5 * SECOND, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
    assert!(rig.merge.status().own_alone.messages > 150, "{:?}", rig.merge.status());
    // Well within the minute: they are corrected, not forgotten.
    rig.run(40 * SECOND, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
    let status = rig.merge.status();
    assert_eq!((status.own_alone.messages, status.standby_alone.messages), (0, 0), "{status:?}");
    assert!(!status.at_risk, "the new skew has become usual: {status:?}");
}

#[test]
fn a_line_that_is_connected_anew_is_judged_afresh() {
    for side in Side::BOTH {
        let mut rig = Rig::new([0, 20]);
        rig.warm_up(20);
        rig.assert_found(side, 3_000, "silent", |rig| {
            rig.every(20, |rig| rig.trade("ticker", only(side.other())));
        });
        rig.disconnect(side);
        assert_eq!(rig.behind_since_ms(side), None, "it is down, not behind");
        rig.run(500, |rig| rig.every(20, |rig| rig.trade("ticker", only(side.other()))));
        rig.connect(side);
        rig.run(2 * MINUTE, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
        assert_eq!(rig.said_behind().len(), 1, "{:?}", rig.notices);
        assert!(!rig.merge.status().at_risk, "{:?}", rig.merge.status());
        assert_eq!(rig.written, rig.sent, "nothing lost, nothing doubled");
    }
}

/// The times in which messages may be missing, as far as they were told.
fn holes(rig: &Rig) -> Vec<(u64, u64)> {
    let hole = |(_, notice): &(u64, Notice)| match notice {
        Notice::Unproven { from_ms, to_ms, .. } => Some((*from_ms, *to_ms)),
        _ => None,
    };
    rig.notices.iter().filter_map(hole).collect()
}

/// One channel of a line is silent when its twin goes, known or not known yet: nobody delivers the channel until the twin is back.
#[test]
fn a_line_found_lacking_was_no_proof_while_it_was_alone() {
    for (every_ms, known_after_ms) in [(20, 200), (20, 5_000), (1_000, 1_500), (1_000, 12_000)] {
        for side in Side::BOTH {
            let scene = format!("{side:?}, a message in {every_ms} ms, {known_after_ms} ms before its twin goes");
            let mut rig = Rig::new([0, 20]);
            let feed = |rig: &mut Rig, gets: Gets, of_channel: Gets| {
                rig.every(20, |rig| rig.trade("ticker", gets));
                rig.every(every_ms, |rig| rig.trade("book", of_channel));
            };
            rig.run(MINUTE, |rig| feed(rig, BOTH, BOTH));
            rig.run(known_after_ms, |rig| feed(rig, BOTH, only(side.other())));
            assert_eq!(rig.behind_since_ms(side).is_some(), known_after_ms > 4 * every_ms + 3_000, "{scene}");
            let gone_ms = rig.now_ms;
            rig.disconnect(side.other());
            rig.run(1_500, |rig| feed(rig, only(side), [false; 2]));
            assert_eq!(holes(&rig), [], "{scene}: nobody can know yet");
            rig.connect(side.other());
            let back_ms = rig.now_ms;
            rig.called_redundant_ms = 0;
            rig.run(MINUTE, |rig| feed(rig, BOTH, only(side.other())));
            let [(from_ms, to_ms)] = holes(&rig)[..] else { panic!("{scene}: {:?}", rig.notices) };
            assert_eq!(rig.called_redundant_ms, 0, "{scene}: since its twin was back it was never whole");
            // The twin has delivered until then, and from then on; the quick channel does so every 20 ms, and a line may be late.
            assert!((gone_ms - 60..=gone_ms).contains(&from_ms), "{scene}: {from_ms}, gone at {gone_ms}");
            let aligned_ms = rig.aligned_ms().expect("lines of which one leaves out a channel are aligned");
            assert!((back_ms..=back_ms + 8_000).contains(&to_ms), "{scene}: {to_ms}, back at {back_ms}");
            assert_eq!(to_ms, aligned_ms, "{scene}: not all of what came until then could be told from copies");
            // What the twin alone had when it was aligned is no copy.
            let lost = rig.sent - rig.written;
            assert!(lost <= 1_500 / every_ms + 4, "{scene}: {lost} lost");
        }
    }
}

/// The owner died while a channel of the other line was silent: nothing is known of the new pair, and what the whole line has is
/// buffered for some seconds only.
#[test]
fn a_line_that_lacks_a_channel_is_found_after_a_takeover_however_quick_the_feed() {
    for per_step in [1, 10, 50] {
        let mut rig = Rig::new([0, 20]);
        let mut retention = Retention::new(Options::default());
        retention.subscribed(rig.ids[0]);
        rig.merge = Merge::take_over(Options::default(), 2, retention, [], 0);
        rig.merge.standby_joined();
        rig.connect(Side::Standby);
        rig.run(6 * SECOND, |rig| {
            for n in 0..per_step {
                let is_book = (rig.now_ms / STEP_MS + n).is_multiple_of(3);
                rig.trade(if is_book { "book" } else { "ticker" }, if is_book { only(Side::Standby) } else { BOTH });
            }
        });
        let aligned_ms = rig.aligned_ms().unwrap_or(u64::MAX);
        assert!(aligned_ms < 4 * SECOND, "{per_step} in {STEP_MS} ms: {:?}", rig.notices);
        assert!(rig.behind_since_ms(Side::Own).is_some(), "{per_step}: {:?}", rig.merge.status());
        // The buffer holds 8,192 frames; a third of what it had to let go is of the channel that nobody else delivered.
        let lost = rig.sent - rig.written;
        assert!(lost <= 30 + per_step * 400 / 3 - (8_192 / 3).min(per_step * 400 / 3), "{per_step}: {lost} lost");
    }
}

#[test]
fn a_line_that_lacks_nothing_was_a_proof_while_it_was_alone() {
    for side in Side::BOTH {
        let mut rig = Rig::new([0, 20]);
        rig.warm_up(20);
        rig.disconnect(side.other());
        rig.run(MINUTE, |rig| rig.every(20, |rig| rig.trade("ticker", only(side))));
        rig.connect(side.other());
        rig.run(10 * SECOND, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
        rig.assert_found(side, 3_000, "silent later", |rig| {
            rig.every(20, |rig| rig.trade("ticker", only(side.other())));
        });
        assert_eq!(holes(&rig), [], "{side:?}");
    }
}

/// Three seconds of copies are proof enough: what falls silent then was whole when the other line came.
#[test]
fn a_line_that_falls_silent_soon_after_the_other_came_was_a_proof_too() {
    for side in Side::BOTH {
        let mut rig = Rig::new([0, 20]);
        rig.run(3 * SECOND, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
        rig.assert_found(side, 4_000, "silent soon", |rig| {
            rig.every(20, |rig| rig.trade("ticker", only(side.other())));
        });
        assert_eq!(holes(&rig), [], "{side:?}: {:?}", rig.notices);
    }
}

/// It is silent, or drips, from its first moment: it never finds its place, and is behind all the same.
#[test]
fn a_new_line_that_is_silent_again_is_behind_again() {
    for (side, drip_every) in [(Side::Own, 0), (Side::Standby, 0), (Side::Own, 100), (Side::Standby, 100)] {
        let mut rig = Rig::new([0, 20]);
        rig.warm_up(20);
        rig.disconnect(side);
        rig.run(200, |rig| rig.every(20, |rig| rig.trade("ticker", only(side.other()))));
        rig.connect(side);
        let mut n = 0;
        let mut feed = |rig: &mut Rig| {
            rig.every(20, |rig| {
                n += 1;
                rig.trade("ticker", if drip_every > 0 && n % drip_every == 7 { BOTH } else { only(side.other()) });
            });
        };
        rig.run(3 * SECOND, &mut feed);
        rig.assert_never_behind("it may come yet");
        rig.run(30 * SECOND, &mut feed);
        assert!(rig.behind_since_ms(side).is_some(), "{side:?}, {drip_every}: {:?}", rig.merge.status());
        rig.run(MINUTE, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
        assert_eq!(rig.behind_since_ms(side), None, "{side:?}, {drip_every}: {:?}", rig.merge.status());
        assert!(!rig.merge.status().at_risk, "{:?}", rig.merge.status());
    }
}

/// Beside a quick feed a heartbeat once a second, and the answer to the subscription, are next to nothing.
#[test]
fn a_new_line_that_only_says_things_for_itself_is_behind_as_soon_as_a_silent_one() {
    for side in Side::BOTH {
        let mut rig = Rig::new([0, 20]);
        rig.warm_up(10);
        rig.disconnect(side);
        rig.run(200, |rig| rig.every(10, |rig| rig.trade("ticker", only(side.other()))));
        rig.connect(side);
        rig.run(20 * SECOND, |rig| {
            rig.every(10, |rig| rig.trade("ticker", only(side.other())));
            rig.every(SECOND, |rig| {
                let beat = format!(r#"{{"event":"heartbeat","n":{}}}"#, rig.now_ms);
                rig.send(&beat, only(side));
            });
        });
        assert!(rig.behind_since_ms(side).is_some(), "{side:?}: {:?}", rig.merge.status());
    }
}

/// It could be matched with nothing, as its twin was silent: what is usual between them is measured as soon as both speak.
#[test]
fn a_line_that_could_be_matched_with_nothing_is_soon_known_well_enough_to_be_behind() {
    for side in Side::BOTH {
        let mut rig = Rig::new([0, 20]);
        rig.warm_up(20);
        rig.disconnect(side);
        rig.run(500, |_| ());
        rig.connect(side);
        rig.run(5 * SECOND, |rig| rig.every(20, |rig| rig.trade("ticker", only(side))));
        let fiat = rig.notices.iter().filter(|(_, notice)| matches!(notice, Notice::AlignedByFiat { .. })).count();
        assert_eq!(fiat, 1, "{side:?}: {:?}", rig.notices);
        rig.run(500, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
        assert!(rig.merge.status().at_risk, "{side:?}: fallen silent now, it would be missed only after the span");
        rig.run(8 * SECOND, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
        assert!(!rig.merge.status().at_risk, "{side:?}: {:?}", rig.notices);
        rig.assert_never_behind("it has spoken again, and was called silent before");
        rig.assert_found(side, 2 * SECOND, "the skew is known", |rig| {
            rig.every(20, |rig| rig.trade("ticker", only(side.other())));
        });
    }
}

/// What a line says again after its silence is taken for what it never got. It may not pass for lateness.
#[test]
fn repeats_after_a_silence_are_no_skew() {
    for (side, is_soon) in [(Side::Own, false), (Side::Standby, false), (Side::Own, true), (Side::Standby, true)] {
        let mut rig = Rig::new([0, 20]);
        let talk = |rig: &mut Rig, gets: Gets| {
            rig.sent += 1;
            // Most say again what was said in the last ten seconds.
            let again = rig.random(5) < 3;
            let n = rig.sent - if again { rig.random(rig.sent.min(2_000)) } else { 0 };
            rig.send(&format!(r#"{{"channel":"ticker","n":{n}}}"#), gets);
        };
        rig.run(MINUTE, |rig| rig.every(5, |rig| talk(rig, BOTH)));
        if is_soon {
            // Accepted without a match, so that nothing is known of the skew.
            rig.disconnect(side.other());
            rig.run(500, |_| ());
            rig.connect(side.other());
        }
        rig.run(8 * SECOND, |rig| rig.every(5, |rig| talk(rig, only(side.other()))));
        rig.run(15 * SECOND, |rig| rig.every(5, |rig| talk(rig, BOTH)));
        assert!(!rig.merge.status().at_risk, "{side:?}, {is_soon}: {:?} {:?}", rig.merge.status(), rig.notices);
        rig.run(3 * SECOND, |rig| rig.every(5, |rig| talk(rig, only(side.other()))));
        assert!(rig.behind_since_ms(side).is_some(), "{side:?}, {is_soon}: {:?}", rig.merge.status());
    }
}

/// After a silence a channel's repeats are taken for what the line never got, for as long as the span: no sign of lateness.
#[test]
fn a_channel_that_falls_silent_again_is_found_as_soon_as_the_first_time() {
    for (side, seed) in Side::BOTH.into_iter().flat_map(|side| (1..5).map(move |seed| (side, seed))) {
        let mut rig = Rig::new([0, 20]);
        rig.seed = seed;
        let talk = |rig: &mut Rig, of_channel: Gets| {
            rig.sent += 1;
            let n = rig.sent - if rig.random(10) < 3 { rig.random(rig.sent.min(2_000)) } else { 0 };
            let gets = if n.is_multiple_of(3) { of_channel } else { BOTH };
            rig.send(&format!(r#"{{"channel":"c{}","n":{n}}}"#, n % 3), gets);
        };
        rig.run(20 * SECOND, |rig| rig.every(5, |rig| talk(rig, BOTH)));
        for _ in 0..4 {
            rig.run(3 * SECOND, |rig| rig.every(5, |rig| talk(rig, only(side.other()))));
            assert!(rig.behind_since_ms(side).is_some(), "{side:?}: {:?}", rig.merge.status());
            rig.run(40 * SECOND, |rig| rig.every(5, |rig| talk(rig, only(side.other()))));
            rig.disconnect(side);
            rig.run(20, |rig| rig.every(5, |rig| talk(rig, only(side.other()))));
            rig.connect(side);
            rig.run(20 * SECOND, |rig| rig.every(5, |rig| talk(rig, only(side.other()))));
            let until_ms = rig.now_ms + MINUTE;
            while rig.behind_since_ms(side).is_some() {
                assert!(rig.now_ms < until_ms, "{side:?}: {:?}", rig.merge.status());
                rig.every(5, |rig| talk(rig, BOTH));
                rig.step();
            }
            rig.run(2 * SECOND, |rig| rig.every(5, |rig| talk(rig, BOTH)));
        }
    }
}

/// Many messages say again what was said a moment ago: which of them a newcomer's are copies of nobody knows.
#[test]
fn a_newcomer_of_a_feed_that_repeats_itself_knows_the_skew() {
    for (side, seed) in Side::BOTH.into_iter().flat_map(|side| (1..20).map(move |seed| (side, seed))) {
        let mut rig = Rig::new([0, 20]);
        rig.seed = seed;
        let talk = |rig: &mut Rig, of_channel: Gets| {
            rig.sent += 1;
            let n = if rig.random(3) == 0 { rig.sent } else { rig.sent - rig.random(rig.sent.min(200)) };
            if n.is_multiple_of(3) {
                rig.send(&format!(r#"{{"channel":"book","n":{n}}}"#), of_channel);
            } else {
                rig.send(&format!(r#"{{"channel":"ticker","n":{n}}}"#), BOTH);
            }
        };
        rig.run(20 * SECOND, |rig| rig.every(10, |rig| talk(rig, BOTH)));
        rig.disconnect(side);
        rig.run(200, |rig| rig.every(10, |rig| talk(rig, BOTH)));
        rig.connect(side);
        let back_ms = rig.now_ms;
        while rig.aligned_ms().is_none_or(|at_ms| at_ms < back_ms) {
            assert!(rig.now_ms < back_ms + MINUTE, "{side:?}: {:?}", rig.notices);
            rig.run(10, |rig| rig.every(10, |rig| talk(rig, only(side.other()))));
        }
        assert!(rig.merge.status().skew_ms < 100, "{side:?}: {:?}", rig.merge.status());
    }
}

/// A kind of message that comes only now, and a feed in which hardly a kind comes twice.
#[test]
fn a_silent_line_of_free_text_is_behind() {
    const WORDS: [&str; 12] =
        ["red", "blue", "fox", "over", "lazy", "dog", "jumps", "quick", "brown", "sleeps", "green", "again"];
    for side in Side::BOTH {
        let mut rig = Rig::new([0, 20]);
        let talk = |rig: &mut Rig, gets: Gets| {
            rig.sent += 1;
            let (one, two, three) = (rig.random(12), rig.random(12), rig.random(12));
            let (four, five) = (rig.random(12), rig.random(12));
            let text = [one, two, three, four, five].map(|word| WORDS[word as usize]).join(" ");
            let payload = format!("{text} {}", rig.sent);
            rig.send(&payload, gets);
        };
        rig.run(MINUTE, |rig| rig.every(100, |rig| talk(rig, BOTH)));
        assert!(!rig.merge.status().at_risk, "{:?}", rig.merge.status());
        rig.assert_found(side, 3_000, "free text", |rig| rig.every(100, |rig| talk(rig, only(side.other()))));
    }
}

// --- what status says ----------------------------------------------------------------------------------------------------------

#[test]
fn lines_that_never_align_show_their_messages_side_by_side() {
    let mut rig = Rig::new([0, 20]);
    let mut n = 0;
    rig.run(30 * SECOND, |rig| {
        rig.every(100, |rig| {
            n += 1;
            rig.send(&format!(r#"{{"n":{n},"connection":"a"}}"#), only(Side::Own));
            rig.send(&format!(r#"{{"n":{n},"connection":"b"}}"#), only(Side::Standby));
        });
    });
    let status = rig.merge.status();
    assert_eq!((status.own_joining_since_ms, status.standby_joining_since_ms), (None, Some(0)), "{status:?}");
    assert!(status.at_risk && !status.idle, "{status:?}");
    let samples: Vec<(u64, &String)> = rig.merge.samples(Side::Standby, 3).collect();
    assert_eq!(samples.len(), 3);
    assert_eq!(samples[2].0, rig.index[1]);
    assert!(samples[2].1.contains(r#""connection":"b""#));
    assert_eq!(rig.merge.samples(Side::Own, 3).count(), 0, "the owner's line is the reference");
    rig.assert_never_behind("both deliver");
}

#[test]
fn messages_of_one_line_alone_are_kept_for_showing() {
    let mut rig = Rig::new([0, 20]);
    rig.warm_up(20);
    for n in 0..7 {
        rig.send(&format!("only the standby has {n}"), only(Side::Standby));
    }
    rig.run(5 * SECOND, |rig| rig.every(20, |rig| rig.trade("ticker", BOTH)));
    let alone: Vec<Fingerprint> = rig.merge.alone(Side::Standby).map(|alone| alone.fingerprint).collect();
    let expected: Vec<Fingerprint> =
        (2..7).map(|n| Fingerprint::of(FrameKind::Text, format!("only the standby has {n}").as_bytes())).collect();
    assert_eq!(alone, expected);
    assert_eq!(rig.merge.alone(Side::Own).count(), 0);
    let Share { messages, of } = rig.merge.status().standby_alone;
    assert!(messages == 7 && of > 1_000, "{:?}", rig.merge.status());
}

#[test]
fn idle_lines_are_idle_until_something_comes() {
    let mut rig = Rig::new([0, 20]);
    assert!(rig.merge.status().idle);
    rig.run(10 * MINUTE, |_| {});
    let status = rig.merge.status();
    assert!(status.idle && status.at_risk, "{status:?}");
    assert_eq!((status.own_frames, status.standby_frames), (0, 0));
    rig.assert_never_behind("idle");
    rig.run(SECOND, |rig| rig.every(500, |rig| rig.trade("ticker", BOTH)));
    let status = rig.merge.status();
    assert!(!status.idle, "{status:?}");
    assert_eq!((status.own_frames, status.standby_frames), (2, 2));
    rig.run(MINUTE, |rig| rig.every(500, |rig| rig.trade("ticker", BOTH)));
    assert!(!rig.merge.status().at_risk, "{:?}", rig.merge.status());
}
