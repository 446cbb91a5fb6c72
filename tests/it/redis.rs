//! What the host and the kind `queue` make of a real Redis: of one that answers, refuses, loads, and of what is none.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use pulsecheck::facts::{Blame, Facts, Subject, Unread};
use pulsecheck::host::Host;
use pulsecheck::kinds::common::{CONNECT_REASONS, LANE_REASONS, REDIS_REASONS};
use pulsecheck::redact::Secret;
use serde_json::{Value, json};

use crate::hostile::{Nothing, configured};
use crate::support::servers::Redis;

fn ask(url: &str, words: &[&str]) -> Result<Value, Unread> {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::for_tests(dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(3);
        host.redis(&Secret::public(url), deadline).await?.ask(words).await
    });
    runtime.shutdown_background();
    if let Err(unread) = &answer {
        let mut known = [REDIS_REASONS, CONNECT_REASONS, LANE_REASONS].into_iter().flatten();
        assert!(known.any(|doc| doc.code == unread.code.as_str()), "{unread:?}");
        assert!(!unread.said.as_str().contains("fake-pass"), "{unread:?}");
    }
    answer
}

/// The facts of one look at a queue.
fn queue(redis: &Redis, more: &str) -> Result<Facts, Unread> {
    let toml = format!("redis = 'redis://127.0.0.1:{}'\n{more}", redis.port);
    let check = configured("queue", &toml);
    let dir = tempfile::tempdir().unwrap();
    let host = Arc::new(Host::for_tests(dir.path()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let now = host.now();
    let fetched = runtime.block_on(async {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        let nothing = Arc::new(Nothing);
        let name = "tried".try_into().unwrap();
        let cx = pulsecheck::kinds::Cx::new(name, now, deadline, Arc::default(), nothing.clone(), nothing, host);
        check.fetch(&cx).await
    });
    runtime.shutdown_background();
    fetched.map(|fetched| fetched.facts)
}

#[test]
fn a_queue_in_a_list_a_stream_and_a_sorted_set() {
    let Some(redis) = Redis::start(&[]) else { return };
    let number = |facts: &Facts, name: &'static str| facts.number(&Subject::none(), name);
    let empty = queue(&redis, "key = 'q'").unwrap();
    assert_eq!((number(&empty, "depth"), number(&empty, "oldest_s")), (Some(0.0), None), "Redis keeps no empty list");
    // Whoever takes a task out of a key removes it: what lies there waits.

    let ago = |secs: i64| (jiff::Timestamp::now().as_second() - secs).to_string();
    for (id, secs) in [("old", 7_200), ("new", 60)] {
        redis.cli(&["LPUSH", "q", &format!(r#"{{"id": "{id}", "at": {}}}"#, ago(secs))]);
    }
    let list = queue(&redis, "key = 'q'\ntime_path = '$.at'\nid_path = '$.id'").unwrap();
    assert_eq!(number(&list, "depth"), Some(2.0));
    assert!((7_200.0..7_260.0).contains(&number(&list, "oldest_waiting_s").unwrap()), "{list:?}");
    assert_eq!(number(&list, "oldest_s"), None);
    let head = queue(&redis, "key = 'q'\ntime_path = '$.at'\noldest_at = 'head'").unwrap();
    assert!(number(&head, "oldest_waiting_s").unwrap() < 120.0);

    redis.cli(&["LPUSH", "working", "x", "y", "z"]);
    redis.cli(&["SET", "done", "41"]);
    let two = queue(&redis, "key = 'q'\nprocessing_key = 'working'\ndone_key = 'done'").unwrap();
    let names = ["depth", "waiting", "processing", "done"];
    assert_eq!(names.map(|name| number(&two, name)), [5.0, 2.0, 3.0, 41.0].map(Some));

    redis.cli(&["ZADD", "z", &ago(3_600), "a", &ago(10), "b"]);
    let sorted = queue(&redis, "key = 'z'").unwrap();
    assert!((3_600.0..3_660.0).contains(&number(&sorted, "oldest_waiting_s").unwrap()), "{sorted:?}");

    redis.cli(&["XADD", "s", "1000000000000-0", "a", "1"]);
    redis.cli(&["XADD", "s", "*", "a", "2"]);
    redis.cli(&["XGROUP", "CREATE", "s", "workers", "0"]);
    let stream = queue(&redis, "key = 's'").unwrap();
    assert_eq!(number(&stream, "depth"), Some(2.0));
    assert!(number(&stream, "oldest_waiting_s").unwrap() > 1e8);
    redis.cli(&["XREADGROUP", "GROUP", "workers", "w", "COUNT", "1", "STREAMS", "s", ">"]);
    let group = queue(&redis, "key = 's'\ngroup = 'workers'").unwrap();
    assert_eq!(
        ["depth", "waiting", "processing", "done"].map(|name| number(&group, name)),
        [2.0, 1.0, 1.0, 0.0].map(Some)
    );
    assert!(number(&group, "oldest_s").unwrap() < 60.0, "it was taken just now, whenever it was added");

    // With an entry deleted among those that wait, the server doesn't know any more how many do.
    redis.cli(&["XADD", "s", "9000000000000-0", "a", "3"]);
    redis.cli(&["XADD", "s", "9000000000001-0", "a", "4"]);
    redis.cli(&["XDEL", "s", "9000000000000-0"]);
    let deleted = queue(&redis, "key = 's'\ngroup = 'workers'").unwrap();
    assert_eq!(number(&deleted, "waiting"), Some(2.0), "{deleted:?}");

    redis.cli(&["SET", "text", "x"]);
    for (more, code) in [
        ("key = 'text'", "wrong_type"),
        ("key = 's'\ngroup = 'nobody'", "unclear_tasks"),
        ("key = 'working'\ntime_path = '$.at'", "unclear_tasks"),
        ("key = 'q'\ntime_path = '$.id'", "unclear_tasks"),
        ("key = 'q'\ndone_key = 'text'", "unclear_tasks"),
        ("key = 'q'\ndone_key = 'q'", "redis_query_refused"),
    ] {
        let unread = queue(&redis, more).unwrap_err();
        assert_eq!((unread.code.as_str(), unread.blame), (code, Blame::Blind), "{more}: {}", unread.said);
    }
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let words = ["EVAL", "return string.rep('x', 17000000)", "0"];
    assert_eq!(ask(&url, &words).unwrap_err().said.as_str().split(" is larger").nth(1), Some(" than 16 MiB"));
}

#[test]
fn who_may_not_come_in_and_who_is_not_ready() {
    let Some(redis) = Redis::start(&["--requirepass", "fake-pass/word", "--unixsocket", "sock"]) else { return };
    let port = redis.port;
    let sock = redis.folder().join("sock");
    let at = |login: &str| format!("redis://{login}127.0.0.1:{port}");
    for (url, expected) in [
        (at(":fake-pass%2Fword@"), Ok(json!("PONG"))),
        (at("default:fake-pass%2Fword@"), Ok(json!("PONG"))),
        (format!("redis+unix://{}?pass=fake-pass/word", sock.display()), Ok(json!("PONG"))),
        (at(""), Err(("redis_login_refused", Blame::Blind))),
        (at(":fake-pass@"), Err(("redis_login_refused", Blame::Blind))),
        (at("nobody:fake-pass%2Fword@"), Err(("redis_login_refused", Blame::Blind))),
        (format!("rediss://127.0.0.1:{port}"), Err(("redis_tls_failed", Blame::Target))),
        ("http://127.0.0.1".to_owned(), Err(("redis_url", Blame::Blind))),
        ("redis+unix:///nowhere/sock".to_owned(), Err(("unreachable", Blame::Target))),
    ] {
        let answer = ask(&url, &["PING"]).map_err(|unread| (unread.code.to_string(), unread.blame));
        assert_eq!(answer, expected.map_err(|(code, blame)| (code.to_owned(), blame)), "{url}");
    }
    // In its own words, as a real server says them while it starts or when it does not want to.
    for (answer, expected) in [
        ("-LOADING Redis is loading the dataset in memory\r\n", "redis_loading"),
        ("-NOAUTH Authentication required.\r\n", "redis_login_refused"),
        ("-NOPERM this user has no permissions to run the 'ping' command\r\n", "redis_query_refused"),
        ("-MOVED 3999 127.0.0.1:6381\r\n", "redis_query_refused"),
        ("-BUSY Redis is busy running a script.\r\n", "redis_not_ready"),
        ("-MASTERDOWN Link with MASTER is down\r\n", "redis_not_ready"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "redis_broken"),
        ("", "redis_broken"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 4];
            stream.read_exact(&mut asked).unwrap();
            let _gone = stream.write_all(answer.as_bytes());
        });
        let unread = ask(&format!("redis://127.0.0.1:{port}"), &["PING"]).unwrap_err();
        assert_eq!(unread.code.as_str(), expected, "{answer:?}: {}", unread.said);
        server.join().unwrap();
    }
}
