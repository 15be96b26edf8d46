//! The verifier must go red on every kind of wrong record, and on nothing else.

use super::*;
use crate::tools::pattern::PatternArgs;

const SENT: u64 = 2_000;

fn pattern() -> Pattern {
    let args = PatternArgs { seed: 5, size: 60, repeats: 0.4, hot: 5, ..Default::default() };
    Pattern::new(args).expect("valid")
}

/// What a faultless run writes: every message once, stamped with two subscriptions in turn and an epoch that rises.
fn faultless() -> Vec<(u64, Provenance)> {
    let stamp = |n: u64| Provenance {
        stream: 1,
        epoch: 1 + n / 1_000,
        sequence: n,
        accounts_from: n,
        sub_index: 0,
        subscription: 7 + n % 2,
        index: n + 1,
    };
    (0..SENT).map(|n| (n, stamp(n))).collect()
}

/// Judges records whose sequences are as dense as a writer makes them, whatever was done to the list.
fn judge(records: &[(u64, Provenance)]) -> Verdict {
    let numbered =
        (0..).zip(records).map(|(sequence, (n, p))| (*n, Provenance { sequence, accounts_from: sequence, ..*p }));
    judge_as_stamped(&numbered.collect::<Vec<_>>())
}

fn judge_as_stamped(records: &[(u64, Provenance)]) -> Verdict {
    let pattern = pattern();
    let mut verifier = Verifier::new(pattern.clone());
    for (offset, (n, provenance)) in (0..).zip(records) {
        let payload = pattern.payload(*n);
        let provenance = Some(*provenance);
        let arrived_at_ms = 1_000 + offset as u64;
        verifier.record(&Record { partition: 0, offset, payload: &payload, provenance, arrived_at_ms });
    }
    verifier.verdict(&[(0, SENT)], &[(0, SENT)])
}

fn first(wanted: fn(&Identity) -> bool, from: u64) -> usize {
    (from..SENT).find(|n| wanted(&pattern().identity(*n))).expect("one of both kinds") as usize
}

fn unique(identity: &Identity) -> bool {
    matches!(identity, Identity::Unique(_))
}

fn shared(identity: &Identity) -> bool {
    matches!(identity, Identity::Shared(_))
}

#[test]
fn a_faultless_topic_holds() {
    let verdict = judge(&faultless());
    assert!(verdict.holds() && verdict.findings.is_empty(), "{verdict:?}");
    assert_eq!((verdict.sent, verdict.written, verdict.foreign), (SENT, SENT, 0));
    assert_eq!(verdict.epochs, [1, 2]);
    assert_eq!(verdict.silences, []);
}

#[test]
fn a_dropped_record_is_lost_whether_unique_or_a_repeat() {
    for kind in [unique, shared] {
        let mut records = faultless();
        records.remove(first(kind, 500));
        let verdict = judge(&records);
        assert_eq!((verdict.lost, verdict.duplicated, verdict.holds()), (1, 0, false), "{verdict:?}");
        assert_eq!(verdict.findings.len(), 1);
    }
}

#[test]
fn a_doubled_record_is_a_duplicate_whether_unique_or_a_repeat() {
    for kind in [unique, shared] {
        let mut records = faultless();
        let at = first(kind, 500);
        // With an index of its own, so that only the multiset can tell.
        let again = (records[at].0, Provenance { subscription: 99, ..records[at].1 });
        records.insert(at + 1, again);
        let verdict = judge(&records);
        assert_eq!((verdict.lost, verdict.duplicated, verdict.reordered), (0, 1, 0), "{verdict:?}");
        assert!(!verdict.holds());
    }
}

#[test]
fn one_lost_and_one_doubled_do_not_cancel_out() {
    let mut records = faultless();
    let (lost, doubled) = (first(unique, 300), first(unique, 600));
    records[lost] = (records[doubled].0, records[lost].1);
    let verdict = judge(&records);
    assert_eq!((verdict.lost, verdict.duplicated), (1, 1));
}

#[test]
fn a_swap_within_a_subscription_is_reordered_and_between_two_is_not() {
    let mut records = faultless();
    records.swap(100, 102);
    assert!(judge(&records).reordered > 0);
    let mut records = faultless();
    records.swap(100, 101);
    assert!(judge(&records).holds());
}

#[test]
fn a_record_of_an_old_epoch_behind_a_new_one_is_a_zombies() {
    let mut records = faultless();
    records[1_500].1.epoch = 1;
    let verdict = judge(&records);
    assert_eq!((verdict.zombies, verdict.holds()), (1, false));
}

#[test]
fn a_hole_and_a_repetition_in_the_sequence_of_an_epoch_are_told() {
    let mut records = faultless();
    assert_eq!(judge_as_stamped(&records).sequence_breaks, 0);
    (records[500].1.sequence, records[500].1.accounts_from) = (499, 499);
    let verdict = judge_as_stamped(&records);
    assert_eq!((verdict.sequence_breaks, verdict.lost, verdict.holds()), (2, 0, false));
}

#[test]
fn messages_that_nobody_was_sent_are_not_missed_and_others_are_foreign() {
    let pattern = pattern();
    let mut verifier = Verifier::new(pattern.clone());
    let mut write = |payload: &[u8], offset| {
        verifier.record(&Record { partition: 0, offset, payload, provenance: None, arrived_at_ms: 0 });
    };
    for (n, offset) in (0..100).chain(150..200).zip(0..) {
        write(&pattern.payload(n), offset);
    }
    write(b"something else", 150);
    write(b"{\"n\":18446744073709551615,\"seed\":5,\"pad\":\"\"}", 151);
    let verdict = verifier.verdict(&[(0, 100), (150, 200)], &[(0, 100), (150, 200)]);
    assert_eq!((verdict.sent, verdict.lost, verdict.duplicated, verdict.foreign), (150, 0, 0, 2), "{verdict:?}");
    assert!(verdict.holds());
}

#[test]
fn what_is_missing_is_listed_in_runs() {
    let mut records = faultless();
    let pattern = pattern();
    records.retain(|(n, _)| !(400..500).contains(n));
    let verdict = judge(&records);
    let [run] = verdict.missing[..] else { panic!("{:?}", verdict.missing) };
    assert!((400..405).contains(&run.first) && (495..500).contains(&run.last), "{run:?}");
    assert_eq!((verdict.lost, verdict.missing_elsewhere), (100, 0));

    let mut verifier = Verifier::new(pattern.clone());
    for n in (0..100).chain(150..200) {
        let payload = pattern.payload(n);
        let (offset, provenance) = (n as i64, None);
        verifier.record(&Record { partition: 0, offset, payload: &payload, provenance, arrived_at_ms: 0 });
    }
    let verdict = verifier.verdict(&[(0, 100), (150, 200)], &[(0, 100), (150, 200)]);
    let [run] = verdict.missing[..] else { panic!("{:?}", verdict.missing) };
    assert_eq!((run.first, run.last, verdict.lost), (100, 149, 0), "nobody was sent them, and nobody has them");
}

#[test]
fn a_lost_repeat_without_a_run_is_missing_elsewhere() {
    let mut records = faultless();
    records.remove(first(shared, 500));
    let verdict = judge(&records);
    assert_eq!((verdict.missing.len(), verdict.missing_elsewhere), (0, 1));
}

#[test]
fn without_stamps_the_numbers_tell_the_order() {
    let pattern = pattern();
    let mut verifier = Verifier::new(pattern.clone());
    let numbers: Vec<u64> = (0..50).filter(|n| unique(&pattern.identity(*n))).collect();
    for (offset, n) in (0..).zip([numbers[0], numbers[2], numbers[1], numbers[3]]) {
        let payload = pattern.payload(n);
        verifier.record(&Record { partition: 0, offset, payload: &payload, provenance: None, arrived_at_ms: 0 });
    }
    assert_eq!(verifier.verdict(&[(0, 50)], &[(0, 50)]).reordered, 1);
}

#[test]
fn silences_are_listed_by_length_with_their_place() {
    let mut verifier = Verifier::new(pattern());
    for (offset, arrived_at_ms) in (0..).zip([1_000, 1_010, 1_310, 1_320, 2_320, 2_340]) {
        verifier.record(&Record { partition: 0, offset, payload: b"x", provenance: None, arrived_at_ms });
    }
    let verdict = verifier.verdict(&[], &[]);
    assert_eq!(verdict.longest_silence_ms, 1_000);
    assert_eq!(
        verdict.silences,
        [Silence { from_ms: 1_320, ms: 1_000, offset: 4 }, Silence { from_ms: 1_010, ms: 300, offset: 2 }]
    );
}

#[test]
fn while_the_feed_goes_on_what_came_late_is_neither_lost_nor_doubled() {
    let (owed, sent) = ([(0, 1_000)], [(0, SENT)]);
    let judge = |numbers: &mut dyn Iterator<Item = u64>| {
        let pattern = pattern();
        let mut verifier = Verifier::new(pattern.clone());
        for (offset, n) in (0..).zip(numbers) {
            let payload = pattern.payload(n);
            verifier.record(&Record { partition: 0, offset, payload: &payload, provenance: None, arrived_at_ms: 1 });
        }
        verifier.verdict(&owed, &sent)
    };
    let verdict = judge(&mut (0..1_500));
    assert!(verdict.holds() && verdict.foreign == 0 && verdict.findings.is_empty(), "{verdict:?}");
    assert_eq!(verdict.sent, 1_000);
    for kind in [unique, shared] {
        let missing = first(kind, 500) as u64;
        assert_eq!(judge(&mut (0..1_000).filter(|n| *n != missing)).lost, 1);
    }
    let doubled = first(unique, 1_200) as u64;
    assert_eq!(judge(&mut (0..1_500).flat_map(|n| vec![n; 1 + usize::from(n == doubled)])).duplicated, 1);
    assert!(
        judge(&mut (0..1_500).chain(1_600..SENT).chain(0..SENT).filter(|n| !unique(&pattern().identity(*n))))
            .duplicated
            > 0
    );
}

/// Two streams of the same feed, one record of each in turn; the second with epochs of its own, below and above the first's.
fn two_streams() -> Vec<(u64, Provenance)> {
    let other = |n: u64, p: Provenance| Provenance { stream: 2, epoch: if n < 700 { 1 } else { 40 }, ..p };
    let both = faultless().into_iter().flat_map(|(n, p)| [(n, p), (n, other(n, p))]);
    let mut sequences = std::collections::HashMap::new();
    both.map(|(n, p)| {
        let sequence = sequences.entry((p.stream, p.epoch)).and_modify(|s| *s += 1).or_insert(1_u64);
        (n, Provenance { sequence: *sequence, accounts_from: *sequence, ..p })
    })
    .collect()
}

fn judge_stream(records: &[(u64, Provenance)], only: Option<u64>) -> Verdict {
    let pattern = pattern();
    let mut verifier = Verifier::new(pattern.clone()).only(only);
    for (offset, (n, provenance)) in (0..).zip(records) {
        let (payload, provenance) = (pattern.payload(*n), Some(*provenance));
        verifier.record(&Record { partition: 0, offset, payload: &payload, provenance, arrived_at_ms: 1 });
    }
    verifier.verdict(&[(0, SENT)], &[(0, SENT)])
}

#[test]
fn streams_of_a_topic_have_their_own_epochs_sequences_and_order() {
    let records = two_streams();
    let verdict = judge_stream(&records, None);
    assert_eq!((verdict.reordered, verdict.zombies, verdict.sequence_breaks), (0, 0, 0), "{:?}", verdict.findings);
    assert_eq!((verdict.lost, verdict.duplicated), (0, SENT), "both write every message");
    let told: Vec<_> = verdict.streams.iter().map(|s| (s.id.as_str(), s.records, s.epochs.len())).collect();
    assert_eq!(told, [("0000000000000001", SENT, 2), ("0000000000000002", SENT, 2)]);
    assert!(verdict.line().ends_with(" epochs=4 streams=2"), "{}", verdict.line());
    assert!(!judge(&faultless()).line().contains("streams"), "one stream needs no name");
}

#[test]
fn one_stream_is_judged_as_if_it_were_alone() {
    let mut records = two_streams();
    for stream in [1, 2] {
        let verdict = judge_stream(&records, Some(stream));
        assert!(verdict.holds() && verdict.left_aside == SENT && verdict.streams.len() == 1, "{verdict:?}");
    }
    // What one stream lacks, the other does not make up for.
    let at = 2 * first(unique, 500) + 1;
    assert_eq!(records[at].1.stream, 2);
    records.remove(at);
    assert_eq!(judge_stream(&records, Some(1)).lost, 0);
    let verdict = judge_stream(&records, Some(2));
    assert_eq!((verdict.lost, verdict.sequence_breaks), (1, 1), "{verdict:?}");
    let verdict = judge_stream(&records, Some(3));
    assert_eq!((verdict.written, verdict.left_aside), (0, 2 * SENT - 1));
}

#[test]
fn a_zombie_of_one_stream_is_found_among_the_records_of_another() {
    let mut records = two_streams();
    let at = 2 * 1_500;
    assert_eq!((records[at].1.stream, records[at].1.epoch), (1, 2));
    records[at].1.epoch = 1;
    assert_eq!(judge_stream(&records, None).zombies, 1);
}

#[test]
fn what_was_filtered_and_what_came_of_one_message_are_no_breaks() {
    let mut records: Vec<_> = faultless().into_iter().take(1_000).collect();
    // Messages 400 to 409 were filtered: the next record accounts for them.
    records.drain(400..410);
    records[400].1.accounts_from = 400;
    // Message 500 became three records.
    let at = records.iter().position(|(n, _)| *n == 500).expect("there");
    for sub_index in [2, 1] {
        records.insert(at + 1, (500, Provenance { sub_index, ..records[at].1 }));
    }
    let verdict = judge_as_stamped(&records);
    assert_eq!((verdict.sequence_breaks, verdict.reordered, verdict.zombies), (0, 0, 0), "{:?}", verdict.findings);
    records.remove(at + 1);
    assert_eq!(judge_as_stamped(&records).sequence_breaks, 1, "one of the three is missing");
}

#[test]
fn a_stream_is_named_by_its_sixteen_digits() {
    use crate::tools::verify::order::{name, parse};
    assert_eq!(parse(&name(0x00ab_cdef_0123_4567)), Ok(0x00ab_cdef_0123_4567));
    for bad in ["", "1", "+000000000000001", "00000000000000001", "g000000000000000"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_a_connection_says_for_itself_is_neither_missed_nor_foreign_but_written_once() {
    use crate::tools::own_message::{Occasion, OwnMessage};
    let book = |own: &[(u64, u64)]| {
        let mut verifier = Verifier::new(pattern());
        let said = |&(connection, number): &(u64, u64)| {
            OwnMessage { own: Occasion::Heartbeat, connection, number, seed: 5 }.payload().into_bytes()
        };
        let mut payloads: Vec<Vec<u8>> = (0..3).map(|n| pattern().payload(n).to_vec()).collect();
        payloads.extend(own.iter().map(said));
        payloads.push(Vec::new());
        for (offset, payload) in (0..).zip(&payloads) {
            let provenance = Some(faultless()[offset as usize].1);
            verifier.record(&Record { partition: 0, offset, payload, provenance, arrived_at_ms: 1_000 });
        }
        verifier.verdict(&[(0, 3)], &[(0, 3)])
    };
    let verdict = book(&[(1, 1), (1, 2), (2, 1)]);
    assert!(verdict.holds(), "{verdict:?}");
    assert_eq!((verdict.own, verdict.empty, verdict.foreign, verdict.written), (3, 1, 0, 3));
    assert_eq!(book(&[(1, 1), (1, 1)]).duplicated, 1);
}

#[test]
fn a_marked_message_is_there_if_any_line_brought_it_and_doubled_only_in_equal_bytes() {
    let args = PatternArgs { seed: 5, size: 60, mark_connections: true, ..Default::default() };
    let pattern = Pattern::new(args).expect("valid");
    let book = |records: &[(u64, u64)]| {
        let mut verifier = Verifier::new(pattern.clone());
        for (offset, (n, connection)) in (0..).zip(records) {
            let payload = pattern.payload_on(*n, *connection);
            let record = Record { partition: 0, offset, payload: &payload, provenance: None, arrived_at_ms: 1_000 };
            verifier.record(&record);
        }
        let verdict = verifier.verdict(&[(0, 3)], &[(0, 3)]);
        (verdict.lost, verdict.duplicated, verdict.copies, verdict.foreign)
    };
    assert_eq!(book(&[(0, 1), (1, 2), (2, 1)]), (0, 0, 0, 0));
    assert_eq!(book(&[(0, 1), (1, 1), (1, 2), (2, 2)]), (0, 0, 1, 0));
    assert_eq!(book(&[(0, 1), (1, 1), (1, 1), (1, 2), (1, 2)]), (1, 2, 1, 0));
}
