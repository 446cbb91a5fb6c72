//! A target that passes and fails in turn is found, once; a blip now and then is not.

use crate::support::{Http, Lab, Ran};

struct Watched {
    lab: Lab,
    target: Http,
    sink: Http,
}

fn watched() -> Watched {
    let (target, sink) = (Http::ok("fine"), Http::ok("taken"));
    let lab = Lab::with(&format!("instance = \"lab\"\n{}{}", target.check("api"), sink.hook()));
    lab.cycle().quiet();
    Watched { lab, target, sink }
}

impl Watched {
    fn sees(&mut self, passes: bool) -> Ran {
        self.target.status(if passes { 200 } else { 503 });
        self.lab.next()
    }

    /// Fails and passes in turn until that is found.
    fn begins_to_flap(&mut self) {
        for passes in [false, true, false, true, false] {
            self.sees(passes).quiet();
        }
        let report = self.sees(true).expect("yellow", true, &["api"]);
        let said = "api: flapping, 6 turns in 7 observations: it passes and fails in turn";
        assert_eq!(report["top_3"][0]["item"], said);
        assert_eq!(self.sink.heard(), ["open yellow lab/api"]);
    }
}

#[test]
fn it_is_said_once_and_ends_when_it_holds_still() {
    let mut watched = watched();
    watched.begins_to_flap();
    for passes in [false, true, false, true, false, true] {
        watched.sees(passes).expect("yellow", false, &["api"]);
    }
    assert_eq!(watched.sink.heard(), Vec::<String>::new(), "found once");

    let still = (0..21).find(|_| watched.sees(true).says().0 == "green");
    assert!(still.is_some_and(|passes| passes >= 10), "a few passes don't end it: {still:?}");
    assert_eq!(watched.sink.heard(), ["resolve yellow lab/api"]);
    watched.sees(true).quiet();
}

#[test]
fn two_single_blips_in_twenty_are_nothing() {
    let mut watched = watched();
    for n in 1..=20 {
        watched.sees(n != 8 && n != 13).quiet();
    }
    assert_eq!(watched.sink.heard(), Vec::<String>::new());
}

#[test]
fn when_it_dies_it_is_red_at_its_time() {
    let mut watched = watched();
    watched.begins_to_flap();
    watched.sees(false).expect("yellow", false, &["api"]);
    watched.sees(false).expect("yellow", false, &["api"]);
    assert_eq!(watched.sink.heard(), Vec::<String>::new());
    let report = watched.sees(false).expect("red", true, &["api"]);
    assert_eq!(report["requires_human"], true);
    assert_eq!(watched.sink.heard(), ["raise red lab/api"]);
}
