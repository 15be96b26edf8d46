//! What an operator reads of a connector, case by case.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::{
    super::restart::{self, Restart},
    *,
};
use crate::model::{
    command::{Command, Proposal},
    connector::{Config, NodeRecord},
    ids::{ClusterId, WriterId},
    report::{Comparison, NodeReport},
};

const OWNER: NodeId = 1;
const STANDBY: NodeId = 2;
const SPARE: NodeId = 3;

/// Connector `trades` owned by n1 with n2 as standby, n3 idle: delivering and redundant.
struct Case {
    scene: Scene,
    index: u64,
}

impl Case {
    fn new() -> Self {
        let scene = Scene {
            state: Arc::default(),
            view: ClusterView::default(),
            raft: RaftStatus { leader: Some(SPARE), ..RaftStatus::default() },
        };
        let mut case = Self { scene, index: 0 };
        case.apply(Command::InitCluster { id: ClusterId("c".to_owned()), name: "c".to_owned() });
        for id in [OWNER, STANDBY, SPARE] {
            let name = format!("n{id}");
            case.apply(Command::PutNode { node: NodeRecord { id, name: name.clone(), ..NodeRecord::default() } });
            let report = NodeReport { id, name, ..NodeReport::default() };
            case.scene.view.nodes.insert(id, NodeView { report, up: true, last_contact_ms: 0 });
        }
        let config = Config::from(
            [("websocket.url", "ws://feed"), ("kafka.topic", "t")].map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        case.apply(Command::CreateConnector { name: "trades".to_owned(), config, target: TargetState::Running });
        case.assign(Some(OWNER), Some(STANDBY));
        let epoch = case.assignment().unwrap().epoch;
        let revision = case.connector().revision;
        for (id, role) in [(OWNER, Role::Owner), (STANDBY, Role::Standby)] {
            let owns = role == Role::Owner;
            let mut report = WriterReport { role, epoch, revision, redundant: true, ..WriterReport::default() };
            (report.covered, report.subscription.connected) = (owns, true);
            report.frames_received = GREETINGS_MAX + 1;
            report.kafka_connected = role == Role::Standby;
            (report.delivering, report.aligned) = (owns, owns);
            case.scene.view.nodes.get_mut(&id).unwrap().report.writers.insert("trades".to_owned(), report);
        }
        case
    }

    fn apply(&mut self, command: Command) {
        self.index += 1;
        let proposal = Proposal { request_id: String::new(), asked: 0, proposed_at_ms: 0, command };
        Arc::make_mut(&mut self.scene.state).apply(self.index, &proposal);
    }

    fn assign(&mut self, owner: Option<NodeId>, standby: Option<NodeId>) {
        let now = self.assignment();
        let (expected_epoch, expected_standby) =
            (now.as_ref().map(|a| a.epoch).unwrap_or_default(), now.and_then(|a| a.standby));
        let writer = WriterId("trades".to_owned());
        self.apply(Command::Assign { writer, expected_epoch, expected_standby, owner, standby });
    }

    fn configure(&mut self) {
        let mut config = self.connector().config.clone();
        config.insert("twinfeed.commit.interval.ms".to_owned(), "20".to_owned());
        let rolls_from = self.connector().revision;
        self.apply(Command::UpdateConnector { name: "trades".to_owned(), config, expected_revision: 0, rolls_from });
    }

    fn restart(&mut self) {
        self.apply(Command::Restart { name: "trades".to_owned(), rolls: true });
    }

    fn connector(&self) -> &Connector {
        &self.scene.state.connectors()["trades"]
    }

    fn assignment(&self) -> Option<Assignment> {
        self.scene.state.writers().values().next()?.assignment.clone()
    }

    fn node(&mut self, id: NodeId) -> &mut NodeView {
        self.scene.view.nodes.get_mut(&id).unwrap()
    }

    fn report(&mut self, id: NodeId) -> &mut WriterReport {
        self.node(id).report.writers.get_mut("trades").unwrap()
    }

    fn lose_feed(&mut self, id: NodeId) {
        let subscription = &mut self.report(id).subscription;
        (subscription.connected, subscription.last_error) = (false, "refused with 401".to_owned());
    }
}

/// State, message and risk after a change.
fn judged(change: impl FnOnce(&mut Case)) -> (ConnectorState, String, bool) {
    let mut case = Case::new();
    change(&mut case);
    let condition = Condition::of(&case.scene, case.connector());
    (condition.state, condition.message.clone(), condition.at_risk)
}

#[test]
fn a_redundant_stream_needs_no_words() {
    assert_eq!(judged(|_| {}), (ConnectorState::Running, String::new(), false));
    let target = |target| judged(move |case| case.apply(Command::SetTarget { name: "trades".to_owned(), target }));
    assert_eq!(target(TargetState::Paused), (ConnectorState::Paused, String::new(), false));
    assert_eq!(target(TargetState::Stopped), (ConnectorState::Stopped, String::new(), false));
}

#[test]
fn a_running_stream_says_what_it_lacks_and_that_nothing_is_lost() {
    type Change = fn(&mut Case);
    let cases: [(&str, Change); 15] = [
        (
            "the new configuration has not reached Kafka at n2; n1 goes on with the old one: correct it, if it stays so",
            |case| {
                case.configure();
                let revision = case.connector().revision;
                let standby = case.report(STANDBY);
                (standby.revision, standby.kafka_connected) = (revision, false);
            },
        ),
        ("primary at n1 is not connected (refused with 401); nothing lost (secondary active)", |case| {
            case.lose_feed(OWNER);
        }),
        ("secondary at n2 is not connected (refused with 401); nothing lost (primary active)", |case| {
            case.lose_feed(STANDBY);
        }),
        ("secondary at n2 is not aligned yet; nothing lost (primary active)", |case| {
            (case.report(OWNER).aligned, case.report(OWNER).covered) = (false, false);
        }),
        ("aligned, redundant after the next commit; nothing lost", |case| case.report(OWNER).covered = false),
        (
            "primary at n1 has lacked for 3 s what the secondary delivers, though it is connected; nothing lost (secondary \
             active), it is connected anew",
            |case| (case.report(OWNER).covered, case.report(OWNER).lines.own_behind_ms) = (false, 2_100),
        ),
        (
            "secondary at n2 has lacked for 3 s what the primary delivers, though it is connected; nothing lost (primary \
             active), it is connected anew",
            |case| (case.report(OWNER).covered, case.report(OWNER).lines.standby_behind_ms) = (false, 2_100),
        ),
        (
            "the two subscriptions could not be matched for 31 s: their messages differ at /connection; nothing lost (primary \
             active); see: wsctl connector compare trades",
            |case| {
                let owner = case.report(OWNER);
                (owner.covered, owner.lines.unmatched_ms) = (false, 31_000);
                let pointers = vec!["/connection".to_owned()];
                owner.comparison = Some(Arc::new(Comparison { pointers, ..Comparison::default() }));
            },
        ),
        ("secondary at n2 has failed (the answer was 404); nothing lost (primary active)", |case| {
            case.report(STANDBY).failed = Some("the answer was 404".to_owned());
            case.report(OWNER).covered = false;
        }),
        ("standby n2 is starting; nothing lost (primary active)", |case| case.node(STANDBY).report.writers.clear()),
        (
            "standby n2 does not answer; nothing lost (primary active), another takes its place if it stays away",
            |case| {
                case.node(STANDBY).up = false;
            },
        ),
        ("one node only can take it, a second fault loses data; start, undrain or add a node", |case| {
            case.assign(Some(OWNER), None);
        }),
        ("n1 goes on with the old configuration until n2 takes over with the new one", Case::configure),
        ("n1 goes on with the old configuration until a standby takes over with the new one", |case| {
            case.configure();
            case.assign(Some(OWNER), None);
        }),
        (
            "the new configuration does not connect at n2 (refused with 401); n1 goes on with the old one: correct it",
            |case| {
                case.configure();
                case.lose_feed(STANDBY);
            },
        ),
    ];
    for (message, change) in cases {
        assert_eq!(judged(change), (ConnectorState::Running, message.to_owned(), true));
    }
    let waits = judged(|case| case.report(OWNER).stalled_ms = STALL_SHOWN_MS_MIN);
    let message = "n1 has waited 2 s for Kafka; nothing lost (kept in memory), it goes on trying";
    assert_eq!(waits, (ConnectorState::Running, message.to_owned(), false));
}

/// Message, note, risk and idleness after a change.
fn noted(change: impl FnOnce(&mut Case)) -> (String, String, bool, bool) {
    let mut case = Case::new();
    change(&mut case);
    let condition = Condition::of(&case.scene, case.connector());
    assert_eq!(condition.state, ConnectorState::Running);
    (condition.message, condition.note, condition.at_risk, condition.idle)
}

#[test]
fn a_stream_without_anything_to_lose_is_idle_and_neither_redundant_nor_at_risk() {
    let idle = noted(|case| {
        let owner = case.report(OWNER);
        (owner.covered, owner.redundant, owner.lines.idle, owner.frames_received) = (false, false, true, 0);
    });
    let note = "idle: both subscriptions are connected, nothing has come to compare yet";
    assert_eq!(idle, (String::new(), note.to_owned(), false, true));
    let lost = noted(|case| {
        let owner = case.report(OWNER);
        (owner.covered, owner.lines.idle) = (false, true);
        case.lose_feed(STANDBY);
    });
    assert!(lost.2 && !lost.3, "one subscription alone is a risk, also before the first message: {lost:?}");
}

#[test]
fn nothing_but_a_greeting_is_no_data() {
    let has_data = |change: fn(&mut WriterReport)| {
        let mut case = Case::new();
        let owner = case.report(OWNER);
        (owner.frames_received, owner.subscription.connected_since_ms) = (0, 1_000);
        change(owner);
        let condition = Condition::of(&case.scene, case.connector());
        (condition.has_data(), condition.note)
    };
    let doubt = "has come since it connected: is the subscription message right?";
    assert_eq!(has_data(|_| {}), (false, format!("nothing {doubt}")));
    let greeted = has_data(|owner| (owner.frames_received, owner.subscription.last_message_ms) = (2, 1_500));
    assert_eq!(greeted, (false, format!("nothing but a greeting {doubt}")));
    assert_eq!(has_data(|owner| owner.frames_received = 3), (true, String::new()));
    let later = has_data(|owner| (owner.frames_received, owner.subscription.last_message_ms) = (1, 1_501));
    assert_eq!(later, (true, String::new()), "one that came later than a greeting");
}

#[test]
fn what_one_line_alone_has_is_named_though_nothing_is_wrong() {
    let differs = noted(|case| {
        let lines = &mut case.report(OWNER).lines;
        (lines.own_alone, lines.standby_alone, lines.of) = (10, 25, 1_000);
    });
    let note = "of the last minute's messages the line of n1 alone has 1.0 %, that of n2 2.5 %: losing it would cost as \
                much; see: wsctl connector compare trades";
    assert_eq!(differs, (String::new(), note.to_owned(), false, false));
}

#[test]
fn an_owner_that_waits_names_the_command_that_applies_a_new_configuration_at_once() {
    let text = "with the old configuration; the new one at once, without what waits: wsctl connector restart trades \
                --force";
    let waits = judged(|case| {
        case.configure();
        case.report(OWNER).stalled_ms = STALL_SHOWN_MS_MIN;
    });
    let opens = judged(|case| {
        case.configure();
        case.report(OWNER).delivering = false;
    });
    assert!(waits.1.ends_with(text) && opens.1.ends_with(text), "{waits:?} {opens:?}");
    let fails = judged(|case| {
        case.configure();
        case.report(STANDBY).failed = Some("no such secret".to_owned());
    });
    let text = "the new configuration fails at n2 (no such secret); n1 goes on with the old one: correct it";
    assert_eq!(fails, (ConnectorState::Running, text.to_owned(), true));
}

#[test]
fn a_restart_says_who_begins_anew_and_who_goes_on() {
    type Change = fn(&mut Case);
    let cases: [(&str, Change); 4] = [
        ("n1 goes on until n2, which begins anew, takes over: a restart", |_| {}),
        ("the restarted subscription fails at n2 (no such secret); n1 goes on as before", |case| {
            case.report(STANDBY).failed = Some("no such secret".to_owned());
        }),
        ("the restarted subscription does not connect at n2 (refused with 401); n1 goes on as before", |case| {
            case.lose_feed(STANDBY);
        }),
        ("the restarted subscription has not reached Kafka at n2; n1 goes on as before", |case| {
            let revision = case.connector().revision;
            let standby = case.report(STANDBY);
            (standby.revision, standby.kafka_connected) = (revision, false);
        }),
    ];
    for (message, change) in cases {
        let judged = judged(|case| {
            case.restart();
            change(case);
        });
        assert_eq!(judged, (ConnectorState::Running, message.to_owned(), true));
    }
    let waits = judged(|case| {
        case.restart();
        case.report(OWNER).stalled_ms = STALL_SHOWN_MS_MIN;
    });
    assert!(waits.1.ends_with("it goes on trying"), "no new configuration is held back: {waits:?}");
}

#[test]
fn a_restart_is_refused_where_the_standby_may_hold_the_only_copy() {
    type Change = fn(&mut Case);
    let judge = |change: Change| {
        let mut case = Case::new();
        change(&mut case);
        restart::judge(&case.scene, case.connector())
    };
    for (change, way) in [
        ((|_| {}) as Change, Restart::Rolling),
        (|case| case.lose_feed(STANDBY), Restart::Rolling),
        (|case| case.node(OWNER).report.writers.clear(), Restart::Rolling),
        (|case| case.report(OWNER).failed = Some("the topic is gone".to_owned()), Restart::AtOnce),
        (|case| case.assign(Some(OWNER), None), Restart::AtOnce),
        (|case| case.assign(None, None), Restart::AtOnce),
        (|case| [OWNER, STANDBY].iter().for_each(|id| case.lose_feed(*id)), Restart::AtOnce),
    ] {
        assert_eq!(judge(change), Ok(way));
    }
    let waiting = judge(|case| {
        [OWNER, STANDBY].iter().for_each(|id| case.lose_feed(*id));
        case.report(OWNER).unacked_records = 1;
    });
    assert_eq!(waiting, Ok(Restart::Rolling), "what waits is not forgotten");
    for (change, why) in [
        (
            (|case| case.node(OWNER).up = false) as Change,
            "owner n1 does not answer, and n2 may hold what nobody else has",
        ),
        (|case| case.lose_feed(OWNER), "only n2 reads the feed now"),
        (
            |case| case.report(OWNER).stalled_ms = STALL_SHOWN_MS_MIN,
            "n1 waits for Kafka, and n2 keeps what waits as well",
        ),
        (
            |case| case.report(OWNER).trouble = Some("no broker answers".to_owned()),
            "n1 waits for Kafka, and n2 keeps what waits as well",
        ),
    ] {
        assert_eq!(judge(change), Err(why.to_owned()));
    }
}

#[test]
fn a_stream_is_redundant_again_when_both_nodes_run_the_new_configuration() {
    let revised = |ids: &'static [NodeId]| {
        judged(move |case| {
            case.configure();
            let revision = case.connector().revision;
            ids.iter().for_each(|id| case.report(*id).revision = revision);
        })
    };
    assert!(revised(&[STANDBY]).2 && revised(&[OWNER]).2);
    assert_eq!(revised(&[OWNER, STANDBY]), (ConnectorState::Running, String::new(), false));
    let silent = judged(|case| {
        case.configure();
        [OWNER, STANDBY].iter().for_each(|id| case.report(*id).revision = 0);
    });
    assert!(!silent.2, "nodes of older versions do not say what they run");
}

#[test]
fn a_stream_that_does_not_deliver_names_the_cause_and_what_happens_next() {
    type Change = fn(&mut Case);
    let cases: [(ConnectorState, &str, Change); 8] = [
        (ConnectorState::Starting, "owner n1 does not answer; n2 takes over", |case| case.node(OWNER).up = false),
        (
            ConnectorState::Starting,
            "owner n1 does not answer; n2 lacks what it alone had and takes over if it stays away",
            |case| (case.node(OWNER).up, case.report(STANDBY).redundant) = (false, false),
        ),
        (
            ConnectorState::Unassigned,
            "owner n1 does not answer and no standby is up; it goes on when a node is back",
            |case| [OWNER, STANDBY].iter().for_each(|id| case.node(*id).up = false),
        ),
        (ConnectorState::Starting, "n1 is starting it", |case| case.node(OWNER).report.writers.clear()),
        (
            ConnectorState::Failed,
            "the topic is gone; correct the cause, then: wsctl connector restart trades",
            |case| {
                let owner = case.report(OWNER);
                (owner.delivering, owner.failed) = (false, Some("the topic is gone".to_owned()));
            },
        ),
        (ConnectorState::Starting, "n1 cannot deliver yet: no broker answers; it goes on trying", |case| {
            let owner = case.report(OWNER);
            (owner.delivering, owner.trouble) = (false, Some("no broker answers".to_owned()));
        }),
        (ConnectorState::Starting, "no subscription is connected (refused with 401); it goes on trying", |case| {
            [OWNER, STANDBY].iter().for_each(|id| case.lose_feed(*id))
        }),
        (ConnectorState::Starting, "a node is being chosen for it", |case| case.assign(None, None)),
    ];
    for (state, message, change) in cases {
        assert_eq!(judged(change), (state, message.to_owned(), true));
    }
    let nobody = judged(|case| {
        case.assign(None, None);
        [OWNER, STANDBY, SPARE].iter().for_each(|id| case.node(*id).up = false);
    });
    let message = "no node has it: 0 of 3 nodes are up, 0 take work; start or undrain one";
    assert_eq!(nobody, (ConnectorState::Unassigned, message.to_owned(), true));
}
