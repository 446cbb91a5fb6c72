//! Our own network: when none of the hosts beyond this machine can be reached, it is not all of them that are down.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::facts::{Blame, CheckName, Observation, Subject, Unread, Weight};
use crate::redact::Clean;

/// When this many hosts or more were tried and none answered, it is our own network.
const NETWORK_HOSTS: usize = 3;

/// How many hosts beyond this machine were tried, if there were three or more and none could be connected to: then it is our
/// own network.
#[must_use]
pub fn network_down(seen: &[Observation]) -> Option<usize> {
    let mut reached: BTreeMap<&Clean, bool> = BTreeMap::new();
    for (host, connected) in seen.iter().flat_map(|observation| &observation.remotes) {
        *reached.entry(host).or_default() |= connected;
    }
    let down = reached.len() >= NETWORK_HOSTS && !reached.values().any(|connected| *connected);
    down.then_some(reached.len())
}

/// When all hosts beyond this machine failed to connect, three or more, it is our network: their checks learn nothing, and
/// `pulsecheck` has a finding. That one is transient, unlike its others: a cable comes back by itself.
pub(super) fn own_network(mut seen: Vec<Observation>, now: Timestamp) -> Vec<Observation> {
    let Some(tried) = network_down(&seen) else { return seen };
    let said = crate::clean!("none of {tried} remote hosts could be reached: it is this machine's network");
    for observation in seen.iter_mut().filter(|observation| !observation.remotes.is_empty()) {
        for unread in observation.unread.values_mut().filter(|unread| unread.blame == Blame::Target) {
            *unread = Unread::ours("own_network", unread.said.clone());
        }
    }
    let own = CheckName::own();
    if !seen.iter().any(|observation| observation.check == own) {
        seen.push(Observation::empty(&own, now));
    }
    if let Some(own) = seen.iter_mut().find(|observation| observation.check == own) {
        let finding = crate::facts::Finding::new("network_down", Weight::Fail, false, said);
        own.findings.push(finding.on(&Subject::new("network")));
    }
    seen
}
