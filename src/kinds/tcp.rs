//! A TCP port that must answer, not only accept.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

use super::common::{CONNECT_REASONS, LANE_REASONS, SECRET_REASONS};
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome, remote};
use crate::clean;
use crate::facts::{Blame, Class, Facts, Finding, Subject, Unread, Weight};
use crate::redact::Clean;
use crate::settings::{Dur, Pattern, SecretRef};

/// Bytes read of an answer.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Bytes of an answer that are kept to be shown.
const SHOWN_BYTES: usize = 200;
/// Looks at an answer after each piece that comes; beyond these, after each KiB, so that a peer that sends byte by byte
/// does not have us search the whole again each time.
const EAGER_LOOKS: usize = 64;

/// See [`Kind`].
#[derive(Debug)]
pub struct Tcp;

/// What to connect to and what to expect.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Name or address of the host.
    host: String,
    /// The port.
    port: u16,
    /// What must come before anything is sent (a greeting): a regular expression found anywhere in it.
    expect_banner: Option<Pattern>,
    /// Text to send. Line ends as the protocol wants them: `"PING\r\n"`.
    send: Option<String>,
    /// The same, kept as a secret.
    send_secret: Option<SecretRef>,
    /// What must come (after `send`, if there is one): a regular expression found anywhere in it.
    expect: Option<Pattern>,
    /// That a connection alone will do. A process that is frozen still accepts connections, so it proves little.
    #[serde(default)]
    connect_only: bool,
    /// Warn when connecting and answering took longer.
    warn_after: Option<Dur>,
    /// Fail when connecting and answering took longer.
    fail_after: Option<Dur>,
}

const REASONS: &[ReasonDoc] = &[
    ReasonDoc {
        code: "unexpected_answer",
        outcome: ReasonOutcome::Fail,
        settled: false,
        about: "what came does not match `expect_banner` or `expect`",
        action: "check which service listens there and what it says",
        needs_human: false,
    },
    remote::SLOW,
    remote::TOO_SLOW,
    ReasonDoc {
        code: "connection_reset",
        outcome: ReasonOutcome::Unknown(Blame::Target),
        settled: false,
        about: "the connection was closed before anything came",
        action: "see the server's log",
        needs_human: false,
    },
];

impl Kind for Tcp {
    const DOC: KindDoc = KindDoc {
        name: "tcp",
        about: "A TCP port that must answer. Connecting alone is not health: a frozen process still accepts \
                connections, so `expect_banner` or `expect` is wanted, or `connect_only = true` said.",
        subjects: "",
        facts: &[
            FactDoc { name: "address", class: "info", about: "the address that answered" },
            FactDoc { name: "connect_ms", class: "info", about: "milliseconds until the connection came about" },
            FactDoc {
                name: "elapsed_ms",
                class: "gauge",
                about: "milliseconds until all that is expected had come; bands by `warn_after` and `fail_after`",
            },
            FactDoc { name: "banner_matches", class: "info", about: "whether `expect_banner` was found" },
            FactDoc { name: "answer_matches", class: "info", about: "whether `expect` was found" },
            FactDoc { name: "answer", class: "info", about: "the beginning of what came, where it does not match" },
            FactDoc { name: "answer_bytes", class: "info", about: "how much came, at most 64 KiB" },
        ],
        reasons: &[REASONS, CONNECT_REASONS, LANE_REASONS, SECRET_REASONS],
        example: r#"[check.redis]
kind = "tcp"
host = "127.0.0.1"
port = 6379
send = "PING\r\n"
expect = '^(\+PONG|-NOAUTH|-LOADING)'
"#,
        thresholds_remind: false,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        let expects = settings.expect.is_some() || settings.expect_banner.is_some();
        if !expects && !settings.connect_only {
            let said = "nothing is expected (a frozen process still accepts connections; \
                        set `expect` or `expect_banner`, or say `connect_only = true`)";
            report("host", said.to_owned());
        }
        if settings.connect_only && (expects || settings.send.is_some() || settings.send_secret.is_some()) {
            report("connect_only", "`connect_only` leaves nothing to send or to expect".to_owned());
        }
        if settings.send.is_some() && settings.send_secret.is_some() {
            report("send_secret", "`send` and `send_secret` exclude each other".to_owned());
        }
        if settings.host.trim().is_empty() || settings.host.contains(['/', ' ']) {
            report("host", "`host` is a name or an address without scheme and port".to_owned());
        }
        if settings.port == 0 {
            report("port", "0 is no port".to_owned());
        }
        remote::validate_latency(settings.warn_after, settings.fail_after, report);
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let deadline = remote::stop_at(cx);
        let secret = match &settings.send_secret {
            Some(at) => Some(cx.host.secret(at).await?),
            None => None,
        };
        let began = Instant::now();
        let connected = cx.host.connect(&settings.host, settings.port, deadline).await;
        remote::note(cx, &settings.host, &connected);
        let mut connection = connected?;
        let mut facts = Facts::new();
        let none = Subject::none();
        facts.info(&none, "address", connection.peer.to_string());
        facts.info(&none, "connect_ms", remote::millis(began.elapsed()));

        let stream = &mut connection.stream;
        let mut last = Vec::new();
        if let Some(pattern) = &settings.expect_banner {
            let came = await_match(stream, pattern, deadline).await?;
            facts.info(&none, "banner_matches", came.matches);
            last = came.bytes;
        }
        let banner_fits = facts.flag(&none, "banner_matches") != Some(false);
        if banner_fits {
            let said = secret.as_ref().map(crate::redact::Secret::expose).or(settings.send.as_deref());
            if let Some(said) = said {
                timeout_at(deadline, stream.write_all(said.as_bytes()))
                    .await
                    .map_err(|_| {
                        Unread::target("no_answer", clean!("connected, but what was sent was not taken in time"))
                    })?
                    .map_err(|_| closed())?;
            }
            if let Some(pattern) = &settings.expect {
                let came = await_match(stream, pattern, deadline).await?;
                facts.info(&none, "answer_matches", came.matches);
                last = came.bytes;
            }
        }
        facts.info(&none, "answer_bytes", last.len());
        if !banner_fits || facts.flag(&none, "answer_matches") == Some(false) {
            facts.put_foreign(&none, "answer", Clean::bytes(&last, SHOWN_BYTES), Class::Info);
        }
        remote::put_elapsed(&mut facts, began.elapsed(), settings.warn_after, settings.fail_after);
        Ok(facts.into())
    }

    fn assess(settings: &Settings, facts: &Facts, _past: &Past, _now: Timestamp) -> Vec<Finding> {
        let none = Subject::none();
        let expected = [
            ("banner_matches", "expect_banner", &settings.expect_banner),
            ("answer_matches", "expect", &settings.expect),
        ];
        let missed = expected.into_iter().find(|(fact, ..)| facts.flag(&none, fact) == Some(false));
        let Some((_, key, Some(pattern))) = missed else { return Vec::new() };
        let came = facts.text(&none, "answer").map_or_else(Clean::default, Clean::quoted);
        let said = clean!("answered {came}, which does not match `{key}` ({pattern})");
        vec![Finding::new("unexpected_answer", Weight::Fail, false, said)]
    }
}

/// What came of waiting for a pattern.
struct Came {
    matches: bool,
    bytes: Vec<u8>,
}

fn closed() -> Unread {
    Unread::target("connection_reset", clean!("the connection was closed before anything came"))
}

/// Reads until the pattern is found, the peer is done, the bound is reached or the time is up. When nothing came at all
/// it is unread.
async fn await_match(
    stream: &mut (impl AsyncRead + Unpin),
    pattern: &Pattern,
    deadline: Instant,
) -> Result<Came, Unread> {
    let began = Instant::now();
    let mut bytes = Vec::new();
    let mut piece = vec![0; 8 * 1024];
    let (mut looks, mut looked_at) = (0, 0);
    loop {
        let count = match timeout_at(deadline, stream.read(&mut piece)).await {
            Err(_) if bytes.is_empty() => {
                let waited_s = began.elapsed().as_secs().max(1);
                return Err(Unread::target("no_answer", clean!("connected, but nothing came within {waited_s} s")));
            }
            Ok(Ok(count)) => count,
            Ok(Err(_)) | Err(_) => 0,
        };
        let room = MAX_ANSWER_BYTES - bytes.len();
        bytes.extend_from_slice(piece.get(..count.min(room)).unwrap_or_default());
        let done = count == 0 || bytes.len() == MAX_ANSWER_BYTES;
        if looks < EAGER_LOOKS || bytes.len() - looked_at >= 1024 || done {
            looks += 1;
            looked_at = bytes.len();
            if pattern.is_match(&String::from_utf8_lossy(&bytes)) {
                return Ok(Came { matches: true, bytes });
            }
        }
        match done {
            true if bytes.is_empty() => return Err(closed()),
            true => return Ok(Came { matches: false, bytes }),
            false => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::duplex;
    use tokio::net::TcpListener;

    use super::*;
    use crate::host::Host;
    use crate::kinds::testing;

    fn parse(toml: &str) -> Settings {
        toml::from_str(toml).unwrap()
    }

    fn problems(settings: &Settings) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        Tcp::validate(settings, &mut |key, message| problems.push((key.to_owned(), message)));
        problems
    }

    #[test]
    fn bad_settings_are_refused() {
        for (toml, key, said) in [
            (
                "host = 'a'\nport = 1",
                "host",
                "nothing is expected (a frozen process still accepts connections; set `expect` or `expect_banner`, or say \
                 `connect_only = true`)",
            ),
            (
                "host = 'a'\nport = 1\nexpect = 'x'\nconnect_only = true",
                "connect_only",
                "`connect_only` leaves nothing to send or to expect",
            ),
            ("host = 'a:1'\nport = 0\nexpect = 'x'", "port", "0 is no port"),
            (
                "host = 'tcp://a'\nport = 1\nexpect = 'x'",
                "host",
                "`host` is a name or an address without scheme and port",
            ),
            (
                "host = 'a'\nport = 1\nexpect = 'x'\nsend = 'y'\nsend_secret = 'env:Z'",
                "send_secret",
                "`send` and `send_secret` exclude each other",
            ),
            (
                "host = 'a'\nport = 1\nexpect = 'x'\nwarn_after = '2s'\nfail_after = '1s'",
                "fail_after",
                "`fail_after` must be longer than `warn_after`",
            ),
        ] {
            assert_eq!(problems(&parse(toml)), [(key.to_owned(), said.to_owned())], "{toml}");
        }
        for (toml, words) in [
            ("host = 'a'", "missing field `port`"),
            ("host = 'a'\nport = 70000", "invalid value"),
            ("host = 'a'\nport = 1\nexpects = 'x'", "unknown field `expects`"),
        ] {
            let error = toml::from_str::<Settings>(toml).unwrap_err().to_string();
            assert!(error.contains(words), "{toml}: {error}");
        }
    }

    #[test]
    fn assess_names_the_first_expectation_that_failed() {
        let settings = parse("host = 'a'\nport = 1\nexpect_banner = '^220'\nexpect = '^250'");
        for (banner, answer, expected) in [
            (Some(true), Some(true), None),
            (Some(false), None, Some("answered \"what\", which does not match `expect_banner` (^220)")),
            (Some(true), Some(false), Some("answered \"what\", which does not match `expect` (^250)")),
        ] {
            let mut facts = Facts::new();
            for (name, flag) in [("banner_matches", banner), ("answer_matches", answer)] {
                if let Some(flag) = flag {
                    facts.info(&Subject::none(), name, flag);
                }
            }
            facts.put_foreign(&Subject::none(), "answer", "what", Class::Info);
            let found = Tcp::assess(&settings, &facts, &Past::default(), Timestamp::UNIX_EPOCH);
            assert_eq!(found.first().map(|finding| finding.said.as_str()), expected);
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(100)
    }

    #[tokio::test]
    async fn an_answer_is_read_until_it_matches_or_cannot() {
        let pattern = Pattern::parse(r"(?m)^\+PONG").unwrap();
        for (sent, closes, expected) in [
            (b"+PO\n+PONG\r\n".to_vec(), false, Ok((true, 11))),
            (b"-ERR".to_vec(), true, Ok((false, 4))),
            (b"-ERR".to_vec(), false, Ok((false, 4))),
            (b"\xff\xfe+PONG".to_vec(), true, Ok((false, 7))),
            (b"".to_vec(), true, Err("connection_reset")),
            (b"".to_vec(), false, Err("no_answer")),
            (vec![b'x'; MAX_ANSWER_BYTES + 10], false, Ok((false, MAX_ANSWER_BYTES))),
        ] {
            let (mut ours, mut theirs) = duplex(2 * MAX_ANSWER_BYTES);
            theirs.write_all(&sent).await.unwrap();
            let held = (!closes).then_some(theirs);
            let came = await_match(&mut ours, &pattern, soon()).await;
            let seen = came.map(|came| (came.matches, came.bytes.len()));
            assert_eq!(seen.map_err(|unread| unread.code.as_str().to_owned()), expected.map_err(str::to_owned));
            drop(held);
        }
    }

    #[tokio::test]
    async fn an_answer_in_many_pieces_is_still_found() {
        let pattern = Pattern::parse("end$").unwrap();
        let (mut ours, mut theirs) = duplex(1);
        let text = format!("{}end", "x".repeat(5_000));
        let writer = tokio::spawn(async move { theirs.write_all(text.as_bytes()).await });
        let came = await_match(&mut ours, &pattern, Instant::now() + Duration::from_secs(10)).await.unwrap();
        assert!(came.matches);
        drop(ours);
        let _ended = writer.await;
    }

    async fn fetch(toml: &str) -> Result<Fetched, Unread> {
        let dir = tempfile::tempdir().unwrap();
        let mut host = Host::for_tests(dir.path());
        host.env.insert("GREETING".into(), "open sesame".into());
        let settings = parse(toml);
        assert_eq!(problems(&settings), []);
        let now = host.now();
        Tcp::fetch(&settings, &testing::cx(Arc::new(host), now, Duration::from_millis(800))).await
    }

    #[tokio::test]
    async fn a_real_server_is_greeted_and_heard() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(b"220 hello\r\n").await.unwrap();
                let mut heard = [0; 11];
                if stream.read_exact(&mut heard).await.is_ok() {
                    let said: &[u8] = if &heard == b"open sesame" { b"250 welcome\r\n" } else { b"550 no\r\n" };
                    stream.write_all(said).await.unwrap();
                }
            }
        });
        let common = format!("host = '127.0.0.1'\nport = {port}\nexpect_banner = '^220 '\nexpect = '^250 '");
        let none = Subject::none();
        let good = fetch(&format!("{common}\nsend_secret = 'env:GREETING'")).await.unwrap();
        assert_eq!(good.facts.flag(&none, "answer_matches"), Some(true));
        assert_eq!(good.facts.get(&none, "answer"), None);
        for (_, name, _) in good.facts.iter() {
            assert!(Tcp::DOC.facts.iter().any(|doc| doc.name == name.as_str()), "{name}");
        }
        let settings = format!("{common}\nsend = 'hello there'");
        let bad = fetch(&settings).await.unwrap();
        let found = Tcp::assess(&parse(&settings), &bad.facts, &Past::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(found[0].code.as_str(), "unexpected_answer");
        assert!(found[0].said.as_str().contains("550 no"), "{}", found[0].said);
        server.abort();
    }

    #[tokio::test]
    async fn a_port_that_accepts_and_never_answers_is_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let frozen = format!("host = '127.0.0.1'\nport = {port}");
        let unread = fetch(&format!("{frozen}\nexpect = 'x'")).await.unwrap_err();
        assert_eq!((unread.code.as_str(), unread.blame), ("no_answer", Blame::Target));
        assert!(fetch(&format!("{frozen}\nconnect_only = true")).await.is_ok());
        drop(listener);
        let unread = fetch(&format!("{frozen}\nconnect_only = true")).await.unwrap_err();
        assert_eq!(unread.code.as_str(), "connection_refused");
    }
}
