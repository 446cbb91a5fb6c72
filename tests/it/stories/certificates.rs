//! Certificates run out: each threshold is said once, a bad connection is not a bad certificate, and what is wrong with a
//! chain is told apart.

#![expect(clippy::format_push_string, reason = "a config is put together as it is read, piece by piece")]

use jiff::SignedDuration;
use serde_json::Value;

use crate::support::tls::{Made, Mood, Tls, days};
use crate::support::{Http, Lab};

/// Turn and level of each event that the sink was sent since the last look.
fn told(sink: &Http) -> Vec<(String, String)> {
    let word = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    let events = sink.take().into_iter().flat_map(|seen| seen.json()["events"].as_array().unwrap().clone());
    events.map(|event| (word(&event, "turn"), word(&event, "level"))).collect()
}

fn nothing() -> Vec<(String, String)> {
    Vec::new()
}

fn event(turn: &str, level: &str) -> Vec<(String, String)> {
    vec![(turn.to_owned(), level.to_owned())]
}

/// A lab that watches `own.test` on this server and tells a sink.
fn watching(server: &Tls, root: &Made) -> (Lab, Http) {
    let sink = Http::ok("");
    let lab = Lab::with(&format!(
        r#"
[check.cert]
kind = "tls"
hosts = ["{}"]
server_name = "own.test"
ca_file = "~/root.pem"
timeout = "1s"

[notify.sink]
kind = "webhook"
url = "{}"
"#,
        server.at(),
        sink.url()
    ));
    lab.write("root.pem", &root.pem);
    (lab, sink)
}

#[test]
fn a_certificate_of_ninety_days_is_told_at_each_threshold_and_its_renewal_once() {
    let (server, root) = (Tls::start(), Made::authority("Test Root", None));
    let (mut lab, sink) = watching(&server, &root);
    let item = format!("cert/{}", server.at());
    let items = [item.as_str()];
    let ends = lab.now + days(41);
    server.show("own.test", Made::server(&["own.test"], days(90), ends, Some(&root)).below(&[]));

    // Forty days left and less, down to the edge: nothing to say.
    for left in [41, 40, 30, 22] {
        lab.now = ends - days(left);
        lab.cycle().quiet();
        lab.next().quiet();
    }
    assert_eq!(told(&sink), nothing());

    // Twenty: yellow, said once and then only there.
    lab.now = ends - days(20);
    let report = lab.cycle().expect("yellow", true, &items);
    let said = report["top_3"][0]["item"].as_str().unwrap();
    assert!(said.ends_with("certificate expires in 20 d"), "{said}");
    assert_eq!(report["requires_human"], false);
    assert_eq!(told(&sink), event("open", "yellow"));
    lab.next().expect("yellow", false, &items);
    lab.now = ends - days(15);
    lab.cycle().expect("yellow", false, &items);

    // In the yellow weeks it does not answer once, and once it hangs up: that is no worse certificate.
    for mood in [Mood::Mute, Mood::HangsUp] {
        server.mood(mood);
        lab.next().expect("yellow", false, &items);
        server.mood(Mood::Shakes);
        lab.next().expect("yellow", false, &items);
    }
    assert_eq!(told(&sink), nothing());

    // Six: red, a person's matter now; and once only.
    lab.now = ends - days(6);
    let report = lab.cycle().expect("red", true, &items);
    assert_eq!((&report["requires_human"], &report["top_3"][0]["owner"]), (&true.into(), &"human".into()));
    assert_eq!(report["top_3"][0]["action"], "renew the certificate now");
    assert_eq!(told(&sink), event("raise", "red"));
    lab.next().expect("red", false, &items);

    // A day past its end, after a week without a cycle, the words are other ones; it is no news that what was red is red.
    lab.now = ends + days(1);
    let report = lab.cycle().expect("red", false, &items);
    let said = report["top_3"][0]["item"].as_str().unwrap();
    assert!(said.ends_with("certificate expired 1 d ago"), "{said}");
    lab.next().expect("red", false, &items);
    assert_eq!(told(&sink), nothing());

    // Renewed: said once, and resolved once.
    let renewed = Made::server(&["own.test"], days(90), lab.now + days(89), Some(&root));
    server.show("own.test", renewed.below(&[]));
    lab.next().expect("green", true, &items);
    assert_eq!(told(&sink), event("resolve", "red"));
    lab.next().quiet();
    assert_eq!(told(&sink), nothing());
}

#[test]
fn a_certificate_of_six_days_is_measured_by_its_own_lifetime() {
    let (server, root) = (Tls::start(), Made::authority("Test Root", None));
    let (mut lab, sink) = watching(&server, &root);
    let item = format!("cert/{}", server.at());
    let items = [item.as_str()];
    let ends = lab.now + days(6);
    server.show("own.test", Made::server(&["own.test"], days(6), ends, Some(&root)).below(&[]));
    for left in [6, 3, 2] {
        lab.now = ends - days(left);
        lab.cycle().quiet();
        lab.next().quiet();
    }
    lab.now = ends - days(1);
    lab.cycle().expect("yellow", true, &items);
    lab.next().expect("yellow", false, &items);
    lab.now = ends - SignedDuration::from_hours(11);
    lab.cycle().expect("red", true, &items);
    lab.next().expect("red", false, &items);
    assert_eq!(told(&sink), [event("open", "yellow"), event("raise", "red")].concat());

    // Renewed into one that is short of time itself: another fingerprint, so its threshold is news again.
    let ends = lab.now + days(1);
    server.show("own.test", Made::server(&["own.test"], days(6), ends, Some(&root)).below(&[]));
    lab.next().expect("yellow", true, &items);
    assert_eq!(told(&sink), event("lower", "yellow"));
    lab.next().expect("yellow", false, &items);
    assert_eq!(told(&sink), nothing());
}

#[test]
fn what_is_wrong_with_a_chain_is_told_apart() {
    let server = Tls::start();
    let root = Made::authority("Test Root", None);
    let middle = Made::authority("Test Intermediate", Some(&root));
    let stranger = Made::authority("Nobody's Root", None);
    let mut config = String::new();
    for name in ["good", "other-host", "self-signed", "incomplete", "stranger"] {
        config += &format!(
            "[check.{name}]\nkind = \"tls\"\nhosts = [\"{}\"]\nserver_name = \"{name}.test\"\nca_file = \"~/root.pem\"\n",
            server.at()
        );
    }
    let sink = Http::ok("");
    config += &format!("[notify.sink]\nkind = \"webhook\"\nurl = \"{}\"\n", sink.url());
    let lab = Lab::with(&config);
    lab.write("root.pem", &root.pem);
    let ends = lab.now + days(60);
    let made = |name: &str, by: Option<&Made>| Made::server(&[name], days(90), ends, by);
    server.show("good.test", made("good.test", Some(&middle)).below(&[&middle]));
    server.show("other-host.test", made("www.example.org", Some(&middle)).below(&[&middle]));
    server.show("self-signed.test", made("self-signed.test", None).below(&[]));
    server.show("incomplete.test", made("incomplete.test", Some(&middle)).below(&[]));
    server.show("stranger.test", made("stranger.test", Some(&stranger)).below(&[&stranger]));

    // All four are settled, so that one look is enough. Three fit into the report, the fourth is named in its notes.
    let shown = ["incomplete", "other-host", "self-signed"].map(|check| format!("{check}/{}", server.at()));
    let report = lab.cycle().expect("red", true, &shown.each_ref().map(String::as_str));
    let notes = report["notes"].as_str().unwrap();
    assert!(notes.starts_with(&format!("also new: stranger {}", server.at())), "{notes}");
    let events = sink.take().into_iter().flat_map(|seen| seen.json()["events"].as_array().unwrap().clone());
    let mut titles: Vec<String> = events.map(|event| event["title"].as_str().unwrap().to_owned()).collect();
    titles.sort();
    let said = [
        (
            "incomplete",
            "the server does not present \"CN=Test Intermediate\", which signed its certificate and is no trusted root",
        ),
        ("other-host", "certificate is made out for \"www[.]example.org\""),
        ("self-signed", "certificate is self-signed"),
        ("stranger", "the chain ends in \"CN=Nobody's Root\", which is not trusted here"),
    ];
    assert_eq!(titles, said.map(|(check, said)| format!("red: {check} {}: {said}", server.at())));
}
