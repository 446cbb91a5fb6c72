use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::facts::Class;
use crate::host::Host;
use crate::kinds::testing;

fn now() -> Timestamp {
    "2026-05-01T00:00:00Z".parse().unwrap()
}

fn parse(toml: &str) -> Settings {
    toml::from_str(toml).unwrap()
}

fn problems(settings: &Settings) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    Token::validate(settings, &mut |key, message| problems.push((key.to_owned(), message)));
    problems
}

#[test]
fn bad_settings_are_refused() {
    for fine in [
        "jwt = 'env:T'",
        "file = '/a'\njwt_path = '$.t'",
        "file = '/a'\nissued_path = '$.i'\nlifetime = '30d'",
        "introspect = 'https://a/introspect'\ntoken = 'env:T'\nclient_id = 'me'\nclient_secret = 'env:S'",
        "issued = 2026-01-01\nlifetime = '365d'",
    ] {
        assert_eq!(problems(&parse(fine)), [], "{fine}");
    }
    for (toml, key, said) in [
        ("", "file", "nothing says where the token is (one of `source`, `jwt`, `file`, `introspect` or `issued`)"),
        (
            "jwt = 'env:T'\nissued = 2026-01-01\nlifetime = '1d'",
            "issued",
            "`jwt` and `issued` exclude each other (make it two checks)",
        ),
        ("jwt = 'env:T'\neach = '$.*'", "each", "`each` belongs to `file`, which is not there"),
        (
            "file = '/a'\nexpiry_path = '$.e'\nrefresh_within = '1d'",
            "refresh_within",
            "`refresh_within` belongs to `refresh_path`, which is not there",
        ),
        (
            "file = '/a'",
            "file",
            "nothing says when the token ends (`expiry_path`, `jwt_path`, or `issued_path` and `lifetime`)",
        ),
        (
            "file = '/a'\nexpiry_path = '$.e'\njwt_path = '$.t'",
            "jwt_path",
            "`expiry_path` and `jwt_path` exclude each other",
        ),
        ("issued = 2026-01-01", "issued", "`issued` needs `lifetime`"),
        ("introspect = 'https://a/'", "introspect", "`introspect` needs `token`"),
        ("introspect = 'a'\ntoken = 'env:T'", "introspect", "`introspect` must be an `http://` or `https://` URL"),
        (
            "introspect = 'https://a/'\ntoken = 'env:T'\nclient_id = 'me'",
            "client_id",
            "`client_id` needs `client_secret`",
        ),
    ] {
        assert_eq!(problems(&parse(toml)), [(key.to_owned(), said.to_owned())], "{toml}");
    }
    for (toml, words) in [
        ("jwt = 'eyJh.eyJl.c2ln'", "env:NAME"),
        ("file = '/a'\nexpiry_path = 'e'", "is not a JSON path like `$.expiry`"),
        ("issued = 'spring'", "`spring` is not a date like 2026-03-01"),
        ("expires = 5", "unknown field `expires`"),
    ] {
        let error = toml::from_str::<Settings>(toml).unwrap_err().to_string();
        assert!(error.contains(words), "{toml}: {error}");
    }
}

/// The band of a subject's gauge as the middle picks it the first time, with its code.
fn band(facts: &Facts, subject: &Subject) -> Option<String> {
    let fact = facts.get(subject, "time_left_s")?;
    let Class::Gauge(scale) = &fact.class else { return Some("no gauge".to_owned()) };
    let left = fact.value.number().unwrap();
    let crossed =
        |edge: &Option<Edge>| edge.as_ref().filter(|edge| left < edge.at).map(|edge| edge.code.as_str().to_owned());
    crossed(&scale.fail).or_else(|| crossed(&scale.warn))
}

fn fetched(toml: &str, document: &Value) -> Result<Fetched, Unread> {
    let mut fetched = Fetched::default();
    put_all(&parse(toml), document, now(), &mut fetched).map(|()| fetched)
}

#[test]
fn an_end_ahead_warns_and_fails_only_when_nothing_refreshes() {
    let hour = 3_600;
    let day = 24 * hour;
    let refresh = "\nrefresh_path = '$.r'";
    let issued = "\nissued_path = '$.i'";
    let late = "\nrefresh_path = '$.r'\nrefresh_within = '12h'";
    for (more, left_s, age_s, refresh_token, expected) in [
        // Lifetime unknown: 24 hours.
        ("", 25 * hour, 0, "", None),
        ("", 23 * hour, 0, "", Some("expires_soon")),
        ("", -1, 0, "", Some("expired")),
        // A token of 8 hours: 2 hours; one of a year: 3 days.
        (issued, 3 * hour, 5 * hour, "", None),
        (issued, hour, 7 * hour, "", Some("expires_soon")),
        (issued, 4 * day, 361 * day, "", None),
        (issued, 2 * day, 363 * day, "", Some("expires_soon")),
        ("\nwarn_before = '5d'", 4 * day, 0, "", Some("expires_soon")),
        // A refresh token makes its end nobody's trouble, an empty one doesn't.
        (refresh, hour, 0, "x", None),
        (refresh, -40 * day, 0, "x", None),
        (refresh, -hour, 0, "", Some("expired")),
        (late, -11 * hour, 0, "x", None),
        (late, -13 * hour, 0, "x", Some("not_refreshed")),
    ] {
        let toml = format!("file = '/a'\nexpiry_path = '$.e'{more}");
        let at = now().as_second();
        let document = json!({"e": at + left_s, "i": at - age_s, "r": refresh_token});
        let fetched = fetched(&toml, &document).unwrap();
        assert_eq!(band(&fetched.facts, &Subject::none()).as_deref(), expected, "{more} {left_s}");
        if let Some(code) = expected {
            assert!(Token::DOC.reason(code).is_some());
        }
        for (_, name, _) in fetched.facts.iter() {
            assert!(Token::DOC.facts.iter().any(|doc| doc.name == name.as_str()), "{name}");
        }
    }
}

#[test]
fn many_tokens_in_one_file_are_subjects() {
    let document = json!({"version": 1, "profiles": {
        "anthropic:me": {"type": "token", "expires": now().as_millisecond() + 3_600_000, "token": "sk-secret"},
        "openai:key": {"type": "api_key", "key": "sk-secret"},
        "bad": {"expires": "sk-secret"},
    }});
    let all = fetched("file = '/a'\neach = '$.profiles.*'\nexpiry_path = '$.expires'", &document).unwrap();
    assert_eq!(band(&all.facts, &Subject::new("anthropic:me")).as_deref(), Some("expires_soon"));
    let unread: Vec<_> = all.unread.iter().map(|(subject, unread)| (subject.as_str(), unread.code.as_str())).collect();
    assert_eq!(unread, [("bad", "bad_token"), ("openai:key", "no_expiry")]);
    assert!(!format!("{all:?}").contains("sk-secret"));

    let some = fetched("file = '/a'\neach = '$.profiles[?@.type == \"token\"]'\nexpiry_path = '$.expires'", &document)
        .unwrap();
    assert!(some.unread.is_empty());
    assert_eq!(some.facts.subjects().len(), 1);

    let gone = fetched("file = '/a'\neach = '$.gone.*'\nexpiry_path = '$.expires'", &document).unwrap_err();
    assert_eq!((gone.code.as_str(), gone.blame), ("no_tokens", Blame::Target));

    let twins = json!({"a": {"login": {"e": 1}}, "b": {"login": {"e": 1}}});
    let twins = fetched("file = '/a'\neach = '$.*.login'\nexpiry_path = '$.e'", &twins).unwrap();
    let subjects: Vec<_> = twins.facts.subjects().iter().map(|subject| subject.as_str().to_owned()).collect();
    assert_eq!(subjects, ["$['a']['login']", "$['b']['login']"]);
}

#[test]
fn an_end_that_is_not_said_is_unknown() {
    for document in [json!({}), json!({"e": null}), json!({"e": 0}), json!({"e": -1})] {
        let fetched = fetched("file = '/a'\nexpiry_path = '$.e'", &document).unwrap();
        assert_eq!(fetched.unread[&Subject::none()].code.as_str(), "no_expiry", "{document}");
        assert_eq!(fetched.unread[&Subject::none()].blame, Blame::Blind);
    }
    let unread = fetched("file = '/a'\njwt_path = '$.t'", &json!({})).unwrap_err();
    assert_eq!(unread.said.as_str(), "there is no token at `$.t`");
}

#[test]
fn an_issue_date_and_a_lifetime_make_an_end() {
    let settings = parse("issued = 2025-05-02\nlifetime = '365d'");
    let mut fetched = Fetched::default();
    let dates = Dates { issued: settings.issued.map(|day| day.0), ..Dates::default() };
    put(&settings, &Subject::none(), dates, now(), &mut fetched);
    assert_eq!(fetched.facts.number(&Subject::none(), "time_left_s"), Some(86_400.0));
    assert_eq!(band(&fetched.facts, &Subject::none()).as_deref(), Some("expires_soon"));
    let fact = fetched.facts.get(&Subject::none(), "time_left_s").unwrap();
    assert!(matches!(&fact.class, Class::Gauge(scale) if scale.says.as_str() == "token expires in 1 d"));
}

#[test]
fn introspection_is_read_as_the_standard_says() {
    let settings = parse("introspect = 'https://a/'\ntoken = 'env:T'");
    let look = |answer: Value| {
        let mut fetched = Fetched::default();
        put_introspected(&settings, &answer, now(), &mut fetched).map(|()| {
            let findings = Token::assess(&settings, &fetched.facts, &Past::default(), now());
            let codes: Vec<_> = findings.iter().map(|finding| finding.code.as_str().to_owned()).collect();
            (codes, band(&fetched.facts, &Subject::none()), fetched.unread.len())
        })
    };
    let at = now().as_second();
    assert_eq!(look(json!({"active": true})).unwrap(), (vec![], None, 0));
    assert_eq!(look(json!({"active": true, "exp": at + 60})).unwrap(), (vec![], Some("expires_soon".to_owned()), 0));
    assert_eq!(look(json!({"active": false})).unwrap(), (vec!["inactive".to_owned()], None, 0));
    assert_eq!(look(json!({"error": "x"})).unwrap_err().code.as_str(), "introspection_failed");
    assert_eq!(form("a b&c=ä"), "token=a+b%26c%3D%C3%A4");
}

/// A host in a test's folder with one more variable in its environment.
fn host(dir: &Path, name: &str, value: &str) -> Arc<Host> {
    let mut host = Host::for_tests(dir);
    host.env.insert(name.into(), value.into());
    Arc::new(host)
}

async fn fetch(toml: &str, host: Arc<Host>) -> Result<Fetched, Unread> {
    let settings = parse(toml);
    assert_eq!(problems(&settings), []);
    let at = crate::clock::Now { wall: now(), boot: Duration::from_secs(1) };
    Token::fetch(&settings, &testing::cx(host, at, Duration::from_secs(5))).await
}

#[tokio::test]
async fn a_file_that_is_just_being_written_is_read_once_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.json");
    let toml = "file = '~/auth.json'\nexpiry_path = '$.expires_at'";
    let none = Subject::none();
    let bare = || Arc::new(Host::for_tests(dir.path()));

    let missing = fetch(toml, bare()).await.unwrap_err();
    assert_eq!((missing.code.as_str(), missing.blame), ("token_file_missing", Blame::Target));

    files::replace(&path, br#"{"expires_at": 17775"#, 0o600).unwrap();
    let unread = fetch(toml, bare()).await.unwrap_err();
    assert_eq!((unread.code.as_str(), unread.blame), ("bad_token", Blame::Blind));

    let whole = format!(r#"{{"expires_at": {}}}"#, now().as_second() + 60);
    let other = path.clone();
    let finish = async {
        tokio::time::sleep(SECOND_LOOK / 2).await;
        files::replace(&other, whole.as_bytes(), 0o600).unwrap();
    };
    let (fetched, ()) = tokio::join!(fetch(toml, bare()), finish);
    assert_eq!(fetched.unwrap().facts.number(&none, "time_left_s"), Some(60.0));
}

#[tokio::test]
async fn a_jwt_is_taken_from_where_the_secret_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let payload = format!(r#"{{"exp": {}}}"#, now().as_second() + 60);
    let token = format!("{}.{}.{}", part(r#"{"alg":"none"}"#), part(&payload), part("signature"));
    let fetched = fetch("jwt = 'env:AGENT_JWT'", host(dir.path(), "AGENT_JWT", &token)).await.unwrap();
    assert_eq!(fetched.facts.number(&Subject::none(), "time_left_s"), Some(60.0));
    assert!(!format!("{fetched:?}").contains(&part("signature")));
    let unread = fetch("jwt = 'env:AGENT_JWT'", host(dir.path(), "OTHER", &token)).await.unwrap_err();
    assert_eq!(unread.code.as_str(), "secret_unreadable");
}

#[tokio::test]
async fn an_issuer_is_asked_as_a_client() {
    let dir = tempfile::tempdir().unwrap();
    let (port, got) = testing::web("200 OK", "application/json", r#"{"active": false}"#).await;
    let mut with = Host::for_tests(dir.path());
    with.env.insert("AGENT_TOKEN".into(), "opaque/token+1".into());
    with.env.insert("CLIENT".into(), "client-secret-9".into());
    let with = Arc::new(with);
    let common = "token = 'env:AGENT_TOKEN'\nclient_id = 'me'\nclient_secret = 'env:CLIENT'";
    let toml = format!("introspect = 'http://127.0.0.1:{port}/introspect'\n{common}");
    let fetched = fetch(&toml, Arc::clone(&with)).await.unwrap();
    let findings = Token::assess(&parse(&toml), &fetched.facts, &Past::default(), now());
    assert_eq!(findings[0].code.as_str(), "inactive");
    let request = got.lock().unwrap()[0].clone();
    let basic = base64::engine::general_purpose::STANDARD.encode("me:client-secret-9");
    assert!(request.contains(&format!("Basic {basic}")) && request.ends_with("token=opaque%2Ftoken%2B1"), "{request}");

    for (status, code) in [("401 Unauthorized", "introspection_refused"), ("503 Busy", "introspection_failed")] {
        let (port, _) = testing::web(status, "text/plain", "").await;
        let toml = format!("introspect = 'http://127.0.0.1:{port}/introspect'\n{common}");
        assert_eq!(fetch(&toml, Arc::clone(&with)).await.unwrap_err().code.as_str(), code);
    }
}

mod logins;
