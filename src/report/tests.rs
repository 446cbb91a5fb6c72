//! The report holds to its schema whatever it is made of, and never loses a red.

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::facts::Subject;
use crate::judge::{Ack, Before, Incident, What};

fn frame<'a>(zone: &'a TimeZone, host: &'a Clean) -> Frame<'a> {
    Frame {
        at: "2026-03-20T21:30:00Z".parse().unwrap(),
        zone,
        cycle: "20260320T213000Z-1",
        host,
        escalation: Err(Clean::new("no frontier model is configured")),
        head: None,
        remarks: Vec::new(),
    }
}

fn incident(check: &str, level: Level, said: &str) -> Incident {
    let key = Key::new(&CheckName::try_from(check).unwrap(), &Subject::none());
    let at: Timestamp = "2026-03-20T20:00:00Z".parse().unwrap();
    Incident {
        id: format!("k.{check}"),
        dedup: None,
        key,
        level,
        code: "broken".into(),
        said: Clean::new(said),
        settled: false,
        episode: None,
        opened: at,
        level_since: at,
        lower: 0,
        ack: None,
        withdrawn: false,
        surfaced: None,
        announced: BTreeMap::new(),
        reminders: 0,
        reminded: None,
        muted: None,
    }
}

fn valid(report: &Report) {
    assert_eq!(problems(&serde_json::to_value(report).unwrap()), Vec::<String>::new());
}

#[test]
fn the_last_resort_is_valid() {
    assert_eq!(problems(&serde_json::from_str(LAST_RESORT).unwrap()), Vec::<String>::new());
}

#[test]
fn times_are_the_contracts() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let at: Timestamp = "2026-03-20T21:30:59Z".parse().unwrap();
    assert_eq!(pacific(at), "2026-03-20 14:30 PT");
    assert_eq!(rfc3339(at, &zone), "2026-03-20T22:30:59+01:00");
}

#[test]
fn three_old_acked_reds_leave_room_for_a_new_yellow() {
    let (zone, host) = (TimeZone::UTC, Clean::new("box"));
    let at = "2026-03-20T20:00:00Z".parse().unwrap();
    let mut judged = Judged::default();
    for check in ["a", "b", "c"] {
        let ack = Ack { level: Level::Red, at, by: Clean::new("ana"), why: Clean::new("known") };
        judged.incidents.push(Incident {
            ack: Some(ack),
            muted: Some(Mute::Acked),
            ..incident(check, Level::Red, "dead")
        });
    }
    judged.incidents.push(incident("d", Level::Yellow, "slow"));
    judged.changes.push(crate::judge::Change {
        id: "c1".to_owned(),
        key: judged.incidents[3].key.clone(),
        what: What::Opened,
        level: Level::Yellow,
        impact: Impact::Med,
        said: Clean::new("slow"),
        code: None,
        since: at,
    });
    let report = write(&judged, &BTreeMap::new(), &frame(&zone, &host));
    valid(&report);
    assert_eq!(report.status, "red");
    assert_eq!(report.top_3[0].check.as_str(), "d");
    assert!(!report.requires_human, "somebody has the reds in hand");
    assert!(report.notes.as_str().contains("acked or silenced: c"), "{}", report.notes);
}

#[test]
fn what_is_new_and_does_not_fit_is_named_first() {
    let (zone, host) = (TimeZone::UTC, Clean::new("box"));
    let mut policies = BTreeMap::new();
    let mut before = Before::default();
    let now: Timestamp = "2026-03-20T20:00:00Z".parse().unwrap();
    let seen = (0..6)
        .map(|i| {
            let check = CheckName::try_from(format!("check-{i}")).unwrap();
            policies.insert(check.clone(), Policy::plain(SignedDuration::from_mins(15)));
            let mut seen = crate::facts::Observation::empty(&check, now);
            let said = crate::clean!("wrong");
            seen.findings.push(crate::facts::Finding::new("wrong", crate::facts::Weight::Warn, true, said));
            seen
        })
        .collect();
    before.cycle = "k".to_owned();
    let judged = crate::judge::judge(before, seen, &policies, now);
    let report = write(&judged, &policies, &frame(&zone, &host));
    valid(&report);
    assert!(report.notes.as_str().starts_with("also new: check-3, check-4, check-5"), "{}", report.notes);
    valid(&minimal(&judged, &frame(&zone, &host), "a test"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any text in any place gives a valid report, and each red is in the three or named in the notes.
    #[test]
    fn a_report_is_always_valid_and_never_loses_a_red(
        said in prop::collection::vec(("[a-z]{1,8}", any::<bool>(), ".{0,300}"), 0..12),
        head in prop::option::of(".{0,900}"),
    ) {
        let (zone, host) = (TimeZone::UTC, Clean::new("box"));
        let mut judged = Judged::default();
        let mut names = std::collections::BTreeSet::new();
        for (check, red, said) in said {
            if names.insert(check.clone()) {
                judged.incidents.push(incident(&check, if red { Level::Red } else { Level::Yellow }, &said));
            }
        }
        let mut frame = frame(&zone, &host);
        let long_head = head.as_ref().is_some_and(|head| head.chars().count() > 200);
        frame.head = head.map(|head| Clean::new(&head));
        let report = write(&judged, &BTreeMap::new(), &frame);
        prop_assert_eq!(problems(&serde_json::to_value(&report).unwrap()), Vec::<String>::new());
        let reds: Vec<&Incident> = judged.incidents.iter().filter(|i| i.level == Level::Red).collect();
        prop_assert_eq!(report.status == "red", !reds.is_empty());
        if !long_head && reds.len() <= 8 {
            for red in reds {
                let name = red.key.to_string();
                let named = report.top_3.iter().any(|item| item.check.as_str() == name)
                    || report.notes.as_str().contains(&name);
                prop_assert!(named, "{} is not in {:?}", name, report);
            }
        }
    }
}
