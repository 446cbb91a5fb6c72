//! What counts in a log: entries, the sets of rules that come with Pulsecheck, and a user's own.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::settings::Pattern;

/// Bytes of a key; longer ones are cut.
const MAX_KEY_BYTES: usize = 200;
/// Repetitions that one line can stand for.
const MAX_REPEATED: u64 = 10_000;

/// What an event means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Means {
    /// Somebody was let in: whoever is new is said once.
    Login,
    /// Somebody was turned away: many of them are a burst.
    Failure,
    /// Anything else: many of them are a burst.
    Event,
}

/// A set of rules that comes with Pulsecheck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// OpenSSH's logins and refused ones, by address: `ssh-login`, `ssh-failure`.
    Sshd,
    /// Commands run by sudo and refused ones, by user: `sudo`, `sudo-failure`.
    Sudo,
    /// Sessions of `su`, the console and the desktop, and refused ones, by user: `session`, `session-failure`.
    Pam,
    /// Requests in the combined format of nginx and Apache that were answered with 401 or 403, by address: `web-denied`.
    Web,
}

/// One rule: lines that match are events of the subject that has its name.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Own {
    /// The name of the subject.
    pub name: String,
    /// What a line must match. In a file that is the whole line, in the journal `IDENTIFIER: MESSAGE`. Anchor it where you
    /// can: what a stranger can write into a log (a user's name, a path) must not look like another line.
    pub regex: Pattern,
    /// The named group of `regex` that holds who it was: `"ip"` for `(?P<ip>\S+)`.
    pub key: Option<String>,
    /// What such a line means: `login`, `failure`, or `event`.
    #[serde(default = "event")]
    pub means: Means,
}

const fn event() -> Means {
    Means::Event
}

/// One entry of a log.
pub(super) struct Entry<'a> {
    /// The line, or `IDENTIFIER: MESSAGE`.
    pub line: Cow<'a, str>,
    /// Who logged it; none where the line is not syslog's.
    identifier: Option<Cow<'a, str>>,
    /// What was logged, without what the logger put before it.
    message: Cow<'a, str>,
    /// How many times.
    times: u64,
}

impl<'a> Entry<'a> {
    /// A line of a file.
    pub fn of_line(line: &'a [u8]) -> Self {
        static HEAD: LazyLock<Option<Regex>> = LazyLock::new(|| {
            let time = r"(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT[\d:.,]+(?:Z|[+-]\d\d:?\d\d)?)";
            Regex::new(&format!(r"^(?:<\d+>)?{time} \S+ (?P<id>[^\s\[\]:]+\]?)(?:\[\d+\])?: ?")).ok()
        });
        let line = String::from_utf8_lossy(line);
        let head = HEAD.as_ref().and_then(|head| head.captures(&line)).and_then(|found| {
            let whole = found.get(0)?.end();
            let identifier = found.name("id")?;
            Some((identifier.range(), whole))
        });
        let Some((identifier, end)) = head else {
            return Self { message: line.clone(), identifier: None, times: 1, line };
        };
        let part = |range: std::ops::Range<usize>| match &line {
            Cow::Borrowed(text) => Cow::Borrowed(text.get(range).unwrap_or_default()),
            Cow::Owned(text) => Cow::Owned(text.get(range).unwrap_or_default().to_owned()),
        };
        let (times, message) = repeated(part(end..line.len()));
        Self { identifier: Some(part(identifier)), message, times, line }
    }

    /// An entry of the journal.
    pub fn of_journal(identifier: &'a str, message: &'a str) -> Self {
        let (times, text) = repeated(Cow::Borrowed(message));
        Self {
            line: Cow::Owned(format!("{identifier}: {message}")),
            identifier: Some(Cow::Borrowed(identifier)),
            message: text,
            times,
        }
    }
}

/// What rsyslog makes of lines that are all the same.
fn repeated(message: Cow<'_, str>) -> (u64, Cow<'_, str>) {
    let inner = message.strip_prefix("message repeated ").and_then(|rest| {
        let (times, rest) = rest.split_once(" times: [")?;
        Some((times.parse::<u64>().ok()?, rest.strip_suffix(']')?.trim().to_owned()))
    });
    match inner {
        Some((times, inner)) => (times.clamp(1, MAX_REPEATED), Cow::Owned(inner)),
        None => (1, message),
    }
}

/// A rule as it is applied.
pub(super) struct Rule {
    /// The subject.
    pub name: String,
    pub means: Means,
    identifiers: &'static [&'static str],
    regex: Regex,
    key: Option<String>,
    who: Option<&'static str>,
}

/// One line that counts.
pub(super) struct Event {
    /// Who it was: the address, the user.
    pub key: Option<String>,
    /// The user of an address.
    pub who: Option<String>,
    /// How many times.
    pub times: u64,
}

impl Rule {
    /// What an entry is to this rule.
    pub fn apply(&self, entry: &Entry<'_>) -> Option<Event> {
        let text: &str = if self.identifiers.is_empty() {
            &entry.line
        } else {
            let identifier = entry.identifier.as_deref()?;
            if !self.identifiers.contains(&identifier) {
                return None;
            }
            &entry.message
        };
        let found = self.regex.captures(text)?;
        let group = |name: &str| found.name(name).map(|part| cut(part.as_str()));
        let key = self.key.as_deref().and_then(group).filter(|key| !key.is_empty());
        let who = self.who.and_then(group);
        Some(Event { key: key.map(|key| grouped(&key)), who, times: entry.times })
    }
}

fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_KEY_BYTES)).unwrap_or_default().to_owned()
}

/// An IPv6 address as its network of 64 bits: who has one changes the rest of it every day.
fn grouped(key: &str) -> String {
    match key.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V6(address)) if !address.is_loopback() => {
            let [a, b, c, d, ..] = address.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        Ok(address) => address.to_string(),
        Err(_) => key.to_owned(),
    }
}

/// Somebody who is never new: an address, a network, a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trusted {
    Net(IpAddr, u8),
    Name(String),
}

impl Trusted {
    /// Reads `10.0.0.0/8`, `2001:db8::1`, `anna`; none for a network that is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        match (address.parse::<IpAddr>(), bits) {
            (Ok(address), bits) => {
                let most = if address.is_ipv4() { 32 } else { 128 };
                let bits = bits.unwrap_or(most);
                (bits <= most).then_some(Self::Net(address, bits))
            }
            (Err(_), None) if !text.trim().is_empty() => Some(Self::Name(text.to_owned())),
            (Err(_), _) => None,
        }
    }

    /// Whether a key is meant by it.
    pub fn is(&self, key: &str) -> bool {
        match self {
            Self::Name(name) => name == key,
            Self::Net(net, bits) => {
                let (address, of_key) = key.split_once('/').map_or((key, 128), |(address, _)| (address, 64));
                match (net, address.parse::<IpAddr>()) {
                    (IpAddr::V4(net), Ok(IpAddr::V4(address))) => {
                        let apart = u32::from(*net) ^ u32::from(address);
                        apart.checked_shr(32 - u32::from(*bits)).unwrap_or(0) == 0
                    }
                    (IpAddr::V6(net), Ok(IpAddr::V6(address))) => {
                        let apart = u128::from(*net) ^ u128::from(address);
                        apart.checked_shr(128 - u32::from((*bits).min(of_key))).unwrap_or(0) == 0
                    }
                    _ => false,
                }
            }
        }
    }
}

/// What a preset looks for: name, meaning, who logs it, regular expression, the groups with the key and with the user.
///
/// Each expression is held to the beginning and the end of the message. What stands between may be a stranger's: OpenSSH
/// logs the names of users that don't exist as they came.
type Row = (&'static str, Means, &'static [&'static str], &'static str, &'static str, Option<&'static str>);

const SSHD: &[&str] = &["sshd", "sshd-session", "sshd-auth"];
const SESSIONS: &[&str] = &["su", "login", "gdm-password]", "lightdm", "sddm", "sddm-helper"];

fn rows(preset: Preset) -> &'static [Row] {
    match preset {
        Preset::Sshd => &[
            (
                "ssh-login",
                Means::Login,
                SSHD,
                r"^Accepted \S+ for (?P<user>.*) from (?P<ip>\S+) port \d+(?: ssh2)?(?:: .*)?$",
                "ip",
                Some("user"),
            ),
            (
                "ssh-failure",
                Means::Failure,
                SSHD,
                r"^(?:Failed \S+ for (?:invalid user )?(?P<user>.*) from|Connection (?:closed|reset) by (?:authenticating|invalid) user .*) (?P<ip>\S+) port \d+(?: ssh2)?(?:: .*)?(?: \[preauth\])?$",
                "ip",
                Some("user"),
            ),
        ],
        Preset::Sudo => &[
            (
                "sudo",
                Means::Login,
                &["sudo"],
                r"^ *(?P<user>\S+) : (?:TTY=\S+ ; )?PWD=.* ; USER=\S+ ; .*COMMAND=",
                "user",
                None,
            ),
            (
                "sudo-failure",
                Means::Failure,
                &["sudo"],
                r"^ *(?P<user>\S+) : (?:\d+ incorrect password attempts?|user NOT (?:in sudoers|authorized on host)|command not allowed) ; ",
                "user",
                None,
            ),
        ],
        Preset::Pam => &[
            (
                "session",
                Means::Login,
                SESSIONS,
                r"^pam_unix\([^:)]+:session\): session opened for user (?P<user>[^\s(]+)",
                "user",
                None,
            ),
            (
                "session-failure",
                Means::Failure,
                SESSIONS,
                r"^pam_unix\([^:)]+:auth\): authentication failure; .*?(?:user=(?P<user>\S+))?$",
                "user",
                None,
            ),
        ],
        Preset::Web => &[(
            "web-denied",
            Means::Failure,
            &[],
            r#"^(?P<ip>\S+) \S+ .*? \[\d\d/\w{3}/\d{4}:[^\]]+\] "(?:[^"\\]|\\.)*" 40[13] "#,
            "ip",
            None,
        )],
    }
}

/// The identifiers under which the journal holds what the presets look for.
pub(super) fn identifiers(presets: &[Preset]) -> impl Iterator<Item = &'static str> {
    let rows = presets.iter().flat_map(|preset| rows(*preset));
    let mut all: Vec<&str> = rows.flat_map(|row| row.2.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter()
}

/// The names that the presets give to subjects, and what they mean.
pub(super) fn names(presets: &[Preset]) -> impl Iterator<Item = (&'static str, Means)> {
    presets.iter().flat_map(|preset| rows(*preset)).map(|row| (row.0, row.1))
}

/// The rules, compiled.
pub(super) fn compile(presets: &[Preset], own: &[Own]) -> Vec<Rule> {
    let preset = presets.iter().flat_map(|preset| rows(*preset)).filter_map(|row| {
        let (name, means, identifiers, regex, key, who) = *row;
        // They are constants that a test compiles.
        let regex = Regex::new(regex).ok()?;
        Some(Rule { name: name.to_owned(), means, identifiers, regex, key: Some(key.to_owned()), who })
    });
    let own = own.iter().map(|own| Rule {
        name: own.name.clone(),
        means: own.means,
        identifiers: &[],
        regex: own.regex.regex().clone(),
        key: own.key.clone(),
        who: None,
    });
    preset.chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[Preset] = &[Preset::Sshd, Preset::Sudo, Preset::Pam, Preset::Web];

    /// `name key who times` of every rule that a line counts for.
    fn hits(entry: &Entry<'_>) -> Vec<String> {
        let rules = compile(ALL, &[]);
        assert_eq!(rules.len(), names(ALL).count(), "every expression compiles");
        let hits = rules.iter().filter_map(|rule| Some((rule, rule.apply(entry)?)));
        hits.map(|(rule, event)| {
            let part = |part: Option<String>| part.unwrap_or_else(|| "-".to_owned());
            format!("{} {} {} {}", rule.name, part(event.key), part(event.who), event.times)
        })
        .collect()
    }

    #[test]
    fn lines_of_the_usual_daemons() {
        for (line, want) in [
            (
                "Mar 20 21:30:00 box sshd[812]: Accepted publickey for anna from 192.0.2.7 port 50022 ssh2: ED25519 SHA256:abc",
                "ssh-login 192.0.2.7 anna 1",
            ),
            (
                "2026-03-20T21:30:00.123456+01:00 box sshd-session[812]: Accepted password for anna from 2001:db8:1:2:aaaa::1 port 1 ssh2",
                "ssh-login 2001:db8:1:2::/64 anna 1",
            ),
            (
                "Mar  2 21:30:00 box sshd[812]: Failed password for invalid user admin from 198.51.100.9 port 4 ssh2",
                "ssh-failure 198.51.100.9 admin 1",
            ),
            (
                "Mar  2 21:30:00 box sshd[812]: Connection closed by authenticating user root 198.51.100.9 port 4 [preauth]",
                "ssh-failure 198.51.100.9 - 1",
            ),
            (
                "Mar  2 21:30:00 box sshd[812]: message repeated 5 times: [ Failed password for root from 198.51.100.9 port 4 ssh2]",
                "ssh-failure 198.51.100.9 root 5",
            ),
            (
                "Mar  2 21:30:00 box sudo:     anna : TTY=pts/0 ; PWD=/home/anna ; USER=root ; COMMAND=/usr/bin/apt update",
                "sudo anna - 1",
            ),
            (
                "Mar  2 21:30:00 box sudo[9]: bob : user NOT in sudoers ; TTY=pts/1 ; PWD=/ ; USER=root ; COMMAND=/bin/sh",
                "sudo-failure bob - 1",
            ),
            (
                "Mar  2 21:30:00 box su[77]: pam_unix(su:auth): authentication failure; logname=a uid=1 euid=0 tty=pts/0 ruser=a rhost=  user=root",
                "session-failure root - 1",
            ),
            (
                "Mar  2 21:30:00 box gdm-password][77]: pam_unix(gdm-password:session): session opened for user anna(uid=1000) by (uid=0)",
                "session anna - 1",
            ),
            (
                r#"203.0.113.5 - - [20/Mar/2026:21:30:00 +0000] "POST /login HTTP/1.1" 401 12 "-" "curl""#,
                "web-denied 203.0.113.5 - 1",
            ),
        ] {
            assert_eq!(hits(&Entry::of_line(line.as_bytes())), [want], "{line}");
        }
    }

    #[test]
    fn lines_that_only_look_like_it() {
        for line in [
            "",
            "Accepted password for root from 192.0.2.7 port 1 ssh2",
            "Mar  2 21:30:00 box app[1]: Accepted password for root from 192.0.2.7 port 1 ssh2",
            "Mar  2 21:30:00 box sshd[1]: Received disconnect from 192.0.2.7 port 1:11: Bye",
            "Mar  2 21:30:00 box sshd[1]: Server listening on 0.0.0.0 port 22.",
            "Mar  2 21:30:00 box CRON[1]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)",
            "Mar  2 21:30:00 box sudo: pam_unix(sudo:session): session opened for user root(uid=0) by anna(uid=1000)",
            r#"203.0.113.5 - - [20/Mar/2026:21:30:00 +0000] "GET /40 HTTP/1.1" 200 401 "-" "x" 401 "#,
        ] {
            assert_eq!(hits(&Entry::of_line(line.as_bytes())), Vec::<String>::new(), "{line}");
        }
    }

    #[test]
    fn a_name_made_to_look_like_another_line_deceives_nobody() {
        for name in [
            "x from 10.0.0.1 port 22 ssh2",
            "x from 10.0.0.1 port 22 ssh2: y",
            "Accepted password for root from 10.0.0.1 port 22 ssh2",
            "a box sshd[1]: Accepted password for root from 10.0.0.1 port 22 ssh2",
            "message repeated 9999 times: [ Failed password for root from 10.0.0.1 port 22 ssh2]",
        ] {
            let line = format!(
                "Mar  2 21:30:00 box sshd[812]: Failed password for invalid user {name} from 198.51.100.9 port 4 ssh2"
            );
            assert_eq!(hits(&Entry::of_line(line.as_bytes())), [format!("ssh-failure 198.51.100.9 {name} 1")]);
            let message = line.split_once("]: ").unwrap().1;
            assert_eq!(hits(&Entry::of_journal("sshd", message)), [format!("ssh-failure 198.51.100.9 {name} 1")]);
        }
    }

    #[test]
    fn trusted_ones_are_addresses_networks_and_names() {
        for (text, key, is) in [
            ("10.0.0.0/8", "10.9.8.7", true),
            ("10.0.0.0/8", "11.9.8.7", false),
            ("0.0.0.0/0", "11.9.8.7", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("2001:db8::/32", "2001:db8:1:2::/64", true),
            ("2001:db8::/32", "2001:db9:1:2::/64", false),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::/64", true),
            ("anna", "anna", true),
            ("anna", "bob", false),
            ("10.0.0.0/8", "anna", false),
        ] {
            assert_eq!(Trusted::parse(text).unwrap().is(key), is, "{text} {key}");
        }
        for text in ["10.0.0.0/33", "10.0.0.0/x", "net/8", "", " "] {
            assert_eq!(Trusted::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn own_patterns_see_the_whole_line() {
        let own = Own {
            name: "door".to_owned(),
            regex: Pattern::parse(r"^door: (?P<who>\w+) came").unwrap(),
            key: Some("who".to_owned()),
            means: Means::Login,
        };
        let rules = compile(&[], &[own]);
        let key = |entry: &Entry<'_>| rules[0].apply(entry).and_then(|event| event.key);
        assert_eq!(key(&Entry::of_line(b"door: anna came")).as_deref(), Some("anna"));
        assert_eq!(key(&Entry::of_journal("door", "bob came")).as_deref(), Some("bob"));
        assert_eq!(key(&Entry::of_line(b"Mar  2 21:30:00 box door: anna came")), None);
        let long = format!("door: {} came", "x".repeat(5_000));
        assert_eq!(key(&Entry::of_line(long.as_bytes())).map(|key| key.len()), Some(MAX_KEY_BYTES));
        let mixed = [b"door: anna came ".as_slice(), b"\xff\xfe"].concat();
        assert_eq!(key(&Entry::of_line(&mixed)).as_deref(), Some("anna"));
    }
}
