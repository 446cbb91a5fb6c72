//! Forty checks, one of them the gateway that the others are behind: when it dies, it alone is said.

use crate::support::{Answer, Http, Lab, Ran};

/// What is behind the gateway.
const CHILDREN: usize = 39;

struct Site {
    lab: Lab,
    /// Everything is reached through it.
    gateway: Http,
    /// Two of the children have trouble of their own as well.
    first: Http,
    second: Http,
    sink: Http,
}

fn site() -> Site {
    let [gateway, first, second, sink] = [(); 4].map(|()| Http::ok("fine"));
    let mut config = format!("instance = \"lab\"\n{}{}", gateway.check("gateway"), sink.hook());
    for n in 1..=CHILDREN {
        let server = [&first, &second].get(n - 1).copied().unwrap_or(&gateway);
        let name = format!("c{n:02}");
        // Every third is a bare port.
        let check = if n % 3 == 0 {
            let addr = server.addr();
            format!(
                "[check.{name}]\nkind = \"tcp\"\nhost = \"{}\"\nport = {}\nsend = \"GET /{name} HTTP/1.0\\r\\n\\r\\n\"\nexpect = \" 200 \"\n",
                addr.ip(),
                addr.port()
            )
        } else {
            server.check(&name)
        };
        config.push_str(&format!("{check}depends_on = [\"gateway\"]\n"));
    }
    let lab = Lab::with(&config);
    lab.cycle().quiet();
    Site { lab, gateway, first, second, sink }
}

impl Site {
    fn gateway_dies(&self) {
        for server in [&self.gateway, &self.first, &self.second] {
            server.answer(Answer::HangUp);
        }
    }

    fn all_return(&self) {
        for server in [&self.gateway, &self.first, &self.second] {
            server.status(200);
        }
    }
}

#[track_caller]
fn notes_have(ran: &Ran, wanted: &str) {
    let report = ran.report();
    assert!(report["notes"].as_str().unwrap().contains(wanted), "{report:#}");
}

#[test]
fn one_item_and_thirty_nine_held() {
    let mut site = site();
    site.gateway_dies();
    site.lab.next().quiet();
    let second = site.lab.next();
    second.expect("yellow", true, &["gateway"]);
    notes_have(&second, "39 held while gateway is down");
    assert_eq!(site.sink.heard(), ["open yellow lab/gateway"]);
    let third = site.lab.next();
    third.expect("red", true, &["gateway"]);
    notes_have(&third, "39 held while gateway is down");
    assert_eq!(site.sink.heard(), ["raise red lab/gateway"]);
    for _ in 0..3 {
        site.lab.next().expect("red", false, &["gateway"]);
    }
    assert_eq!(site.sink.heard(), Vec::<String>::new());
}

#[test]
fn when_it_returns_there_is_no_storm() {
    let mut site = site();
    site.gateway_dies();
    for _ in 0..4 {
        site.lab.next();
    }
    assert_eq!(site.sink.heard(), ["open yellow lab/gateway", "raise red lab/gateway"]);

    // It is back, and two of those behind it need a moment longer: theirs is counted from now on.
    site.gateway.status(200);
    site.lab.next().expect("green", true, &["gateway"]);
    assert_eq!(site.sink.heard(), ["resolve red lab/gateway"]);
    site.all_return();
    site.lab.next().quiet();
    site.lab.next().quiet();
    assert_eq!(site.sink.heard(), Vec::<String>::new());
}

#[test]
fn a_child_that_stays_down_is_said_after_its_grace() {
    let mut site = site();
    site.gateway_dies();
    for _ in 0..4 {
        site.lab.next();
    }
    site.gateway.status(200);
    site.second.status(200);
    site.sink.take();
    site.lab.next().expect("green", true, &["gateway"]);
    site.lab.next().expect("yellow", true, &["c01"]);
    site.lab.next().expect("red", true, &["c01"]);
    assert_eq!(site.sink.heard(), ["resolve red lab/gateway", "open yellow lab/c01", "raise red lab/c01"]);
}

#[test]
fn what_was_announced_before_is_resolved_once() {
    let mut site = site();
    site.first.status(503);
    site.second.status(503);
    site.lab.next().quiet();
    site.lab.next().expect("yellow", true, &["c01", "c02"]);
    assert_eq!(site.sink.heard(), ["open yellow lab/c01", "open yellow lab/c02"]);

    site.gateway_dies();
    site.lab.next();
    let second = site.lab.next();
    second.expect("yellow", true, &["gateway"]);
    notes_have(&second, "39 held while gateway is down");
    site.lab.next().expect("red", true, &["gateway"]);
    assert_eq!(site.sink.heard(), ["open yellow lab/gateway", "raise red lab/gateway"]);

    // One is well when the gateway is back, the other a little later.
    site.gateway.status(200);
    site.first.status(200);
    site.lab.next().expect("yellow", true, &["c02", "c01", "gateway"]);
    let mut heard = site.sink.heard();
    heard.sort();
    assert_eq!(heard, ["resolve red lab/gateway", "resolve yellow lab/c01"]);
    site.all_return();
    site.lab.next().expect("green", true, &["c02"]);
    assert_eq!(site.sink.heard(), ["resolve yellow lab/c02"]);
    site.lab.next().quiet();
    assert_eq!(site.sink.heard(), Vec::<String>::new());
}
