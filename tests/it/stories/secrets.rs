//! Forty secrets are planted wherever text comes in; none of them is in any byte that is printed, sent or stored.

#![expect(clippy::format_push_string, reason = "a config is put together as it is read, piece by piece")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;

use crate::support::tls::{Made, Tls, days};
use crate::support::{Answer, Http, Lab, Ran};

/// Alphabets of what is made up.
const ANY: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const UPPER: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ234567";
const LOWER: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// The secrets, each with the word that stands beside it and must be seen where it was.
#[derive(Default)]
struct Planted(Vec<(String, Option<String>)>);

impl Planted {
    /// A secret of this many characters after a prefix: another one in each run of the test, so that it stands in no file
    /// of the repository.
    fn made(&mut self, prefix: &str, alphabet: &[u8], length: usize, beside: Option<&str>) -> String {
        use std::hash::{BuildHasher as _, RandomState};
        let random = RandomState::new();
        let drawn = |at: usize| alphabet[usize::try_from(random.hash_one(at) % alphabet.len() as u64).unwrap()] as char;
        let body: String = (0..length).map(drawn).collect();
        // Of what is known by its shape the body is the secret: the prefix alone is none.
        self.0.push((body.clone(), beside.map(str::to_owned)));
        format!("{prefix}{body}")
    }

    /// One that nothing but its place tells from a word.
    fn plain(&mut self, beside: &str) -> String {
        self.made("", ANY, 24, Some(beside))
    }

    /// One that the config names; nothing need be seen of it.
    fn named(&mut self) -> String {
        self.made("", ANY, 26, None)
    }
}

/// All bytes that came out, by where.
#[derive(Default)]
struct Heard(Vec<(String, Vec<u8>)>);

impl Heard {
    fn ran(&mut self, lab: &Lab, args: &[&str]) -> Ran {
        let ran = lab.run(args);
        self.0.push((format!("stdout of {args:?}"), ran.stdout.clone().into_bytes()));
        self.0.push((format!("stderr of {args:?}"), ran.stderr.clone().into_bytes()));
        ran
    }

    /// Every file below a folder, its name too.
    fn folder(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.folder(&path);
            } else {
                self.0.push((path.display().to_string(), std::fs::read(&path).unwrap()));
                self.0.push(("a file's name".to_owned(), path.display().to_string().into_bytes()));
            }
        }
    }

    fn places_of(&self, text: &str) -> Vec<&str> {
        let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        self.0.iter().filter(|(_, bytes)| holds(bytes)).map(|(place, _)| place.as_str()).collect()
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
fn planted_secrets_come_out_nowhere() {
    let (mut lab, mut planted, mut heard) = (Lab::new(), Planted::default(), Heard::default());
    let mut config = "[limits]\ndelivery = \"1s\"\n".to_owned();

    // What commands print: shapes of vendors, names and what follows them, URLs.
    let mut printed = Vec::new();
    for (n, (prefix, alphabet, length)) in [
        ("ghp_", ANY, 36),
        ("sk-ant-api03-", ANY, 40),
        ("sk-proj-", ANY, 40),
        ("AKIA", UPPER, 16),
        ("xoxb-", ANY, 40),
        ("glpat-", ANY, 20),
        ("AIza", ANY, 35),
        ("sk_live_", ANY, 24),
        ("https://hooks.slack.com/services/T01234567/B01234567/", ANY, 24),
        ("password=", ANY, 20),
        ("\"api_key\": \"", ANY, 32),
        ("Authorization: Bearer ", ANY, 32),
        ("Authorization: Basic ", ANY, 32),
        ("postgres://agent:", ANY, 20),
        ("curl -u agent:", ANY, 20),
        ("AWS_SECRET_ACCESS_KEY=", ANY, 40),
        ("Set-Cookie: session=", ANY, 32),
        ("https://example.org/?access_token=", ANY, 32),
    ]
    .into_iter()
    .enumerate()
    {
        let secret = planted.made(prefix, alphabet, length, Some(&format!("printed{n:02}")));
        let after = match prefix {
            "\"api_key\": \"" => "\"",
            "postgres://agent:" => "@db.example.org/x",
            _ => "",
        };
        printed.push((format!("printed{n:02}"), format!("printed{n:02} {secret}{after}")));
    }
    let key = planted.made("", ANY, 64, Some("printed90"));
    printed
        .push(("printed90".into(), format!("printed90 -----BEGIN PRIVATE KEY----- {key} -----END PRIVATE KEY-----")));
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let signature = planted.made("", ANY, 43, Some("printed91"));
    printed.push((
        "printed91".into(),
        format!(
            "printed91 {}.{}.{signature}",
            part("{\"alg\":\"HS256\"}"),
            part("{\"sub\":\"agent\",\"name\":\"nobody\"}")
        ),
    ));
    let label = planted.made("ghp_", ANY, 36, Some("printed92"));
    printed.push(("printed92".into(), format!("printed92 is slow|{label}=1;2;3")));
    // What is for a channel stands in a job's output too, long before the channel is told anything.
    let [path, hook_bearer, hook_header, signing, command] = [(); 5].map(|()| planted.named());
    printed.push(("printed93".into(), format!("printed93 {hook_bearer} {hook_header}")));
    printed.push(("printed94".into(), format!("printed94 {signing} {command} /{path}/")));
    for (name, line) in &printed {
        lab.write(&format!("said/{name}"), format!("{line}\n"));
        config += &format!("[check.{name}]\nkind = \"command\"\nshell = \"cat said/{name}; exit 2\"\ncwd = \"~\"\n");
    }

    // What the config names: sent to whom it is for, and echoed by that one.
    let (bearer, header, password) = (planted.named(), planted.named(), planted.named());
    let (version, field) = (planted.made("ghp_", ANY, 36, None), planted.plain("echoed"));
    let site = Http::start(Answer::With(
        500,
        "application/json",
        format!("{{\"echoed\": 1, \"token\": \"{field}\", \"you sent\": \"{bearer} {header} {password} {version}\"}}"),
    ));
    lab.env.push(("SITE_TOKEN".into(), bearer.clone()));
    lab.env.push(("SITE_PASSWORD".into(), password.clone()));
    lab.write("header", &header);
    let query = planted.made("", ANY, 32, None);
    config += &format!(
        r#"
[check.site]
kind = "http"
url = "{url}/?token={query}"
expect_status = ["5xx"]
bearer = "env:SITE_TOKEN"
secret_headers = {{ x-key = "file:~/header" }}
body_contains = "never there"

[check.basic]
kind = "http"
url = "{url}"
expect_status = ["5xx"]
basic_user = "agent"
basic_password = "env:SITE_PASSWORD"
expect = "json.echoed == 2"

[check.gone]
kind = "http"
url = "http://127.0.0.1:9/?api_key={query}"
"#,
        url = site.url()
    );
    let told = planted.named();
    lab.env.push(("TOLD".into(), told.clone()));
    config += "[check.told]\nkind = \"command\"\nshell = \"echo told $TOLD; echo $TOLD >&2; exit 2\"\nsecret_env = { TOLD = \"env:TOLD\" }\n";

    // What jobs print and leave.
    config += "[check.jobs]\nkind = \"job\"\nfailures = { warn = 1, fail = 1 }\n";
    let (in_env, in_tail, in_argv) =
        (planted.named(), planted.made("xoxp-", ANY, 40, Some("the job says")), planted.made("ghp_", ANY, 36, None));
    let mut job =
        lab.command(&["exec", "--job", "leaky", "--", "sh", "-c", "echo the job says $TAIL $DB_PASSWORD; exit 1"]);
    let ran = Ran::from(job.env("DB_PASSWORD", &in_env).env("TAIL", &in_tail).output().unwrap());
    assert_eq!(ran.stdout, format!("the job says {in_tail} {in_env}\n"), "what a job prints is the job's");
    heard.ran(&lab, &["exec", "--job", "nowhere", "--", &format!("/nowhere/{in_argv}")]);
    heard.folder(&lab.state());
    let (name, value) =
        (planted.made("glpat-", ANY, 20, None), planted.made("sk-ant-api03-", ANY, 40, Some("reports")));
    lab.write(&format!("out/reports-{name}.json"), format!("{{\"{value}\": 1}}"));
    config += "[check.report]\nkind = \"output\"\npath = \"~/out/*.json\"\nschema = { additionalProperties = false }\n";

    // What a certificate says of itself.
    let (server, root) = (Tls::start(), Made::authority("Test Root", None));
    let host = planted.made("ghp_", LOWER, 36, Some("certified"));
    let certificate = Made::server(&["certified.test", &host], days(90), lab.now + days(60), Some(&root));
    server.show("own.test", certificate.below(&[]));
    config += &format!("[check.cert]\nkind = \"tls\"\nhosts = [\"{}\"]\nserver_name = \"own.test\"\n", server.at());

    // Who is told: a webhook with every kind of secret, one that refuses and repeats them, a command.
    let (sink, refuses) = (Http::ok(""), Http::ok(""));
    let answered = planted.made("xapp-", ANY, 40, None);
    refuses.answer(Answer::With(400, "text/plain", format!("no: {path} {hook_bearer} {answered}")));
    for (name, value) in [
        ("HOOK_BEARER", hook_bearer.clone()),
        ("HOOK_HEADER", hook_header.clone()),
        ("SIGNING", signing.clone()),
        ("COMMAND", command.clone()),
        ("SINK_URL", format!("{}/{path}", sink.url())),
        ("REFUSES_URL", format!("{}/{path}", refuses.url())),
    ] {
        lab.env.push((name.into(), value));
    }
    for (channel, url) in [("sink", "SINK_URL"), ("refuses", "REFUSES_URL")] {
        config += &format!(
            "[notify.{channel}]\nkind = \"webhook\"\nurl_secret = \"env:{url}\"\nsecret = \"env:SIGNING\"\nbearer = \"env:HOOK_BEARER\"\nsecret_headers = {{ x-hook = \"env:HOOK_HEADER\" }}\n"
        );
    }
    let script =
        lab.write("tell", "#!/bin/sh\ncat >> \"$HOME/told\"\necho \"$COMMAND\"\necho \"$COMMAND\" >&2\nexit 1\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    config += &format!(
        "[notify.tell]\nkind = \"command\"\nargv = [\"{}\"]\nsecret_env = {{ COMMAND = \"env:COMMAND\" }}\n",
        script.display()
    );
    lab.config(&config);

    // What people write.
    let (why, silenced) =
        (planted.made("npm_", ANY, 36, Some("because")), planted.made("hf_", ANY, 34, Some("until then")));
    assert!(planted.0.len() >= 40, "{}", planted.0.len());

    let mut held = None;
    for round in 0..3 {
        lab.pass(15);
        heard.ran(&lab, &["run", "--dry-run"]);
        let ran = heard.ran(&lab, &["run", "--pretty"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        // A reader that stays keeps the write-ahead log from being taken in and removed.
        let reader = held.get_or_insert_with(|| rusqlite::Connection::open(lab.state().join("state.db")).unwrap());
        let rows: i64 = reader.query_row("SELECT count(*) FROM observations", [], |row| row.get(0)).unwrap();
        assert!(rows > 0);
        if round == 1 {
            heard.ran(&lab, &["ack", "site", "--why", &format!("because {why}")]);
            heard.ran(&lab, &["silence", "basic", "--for", "1h", "--why", &format!("until then {silenced}")]);
        }
        heard.folder(&lab.state());
    }
    for args in [&["status"][..], &["status", "--json"], &["history"], &["history", "--json"], &["validate"]] {
        heard.ran(&lab, args);
    }
    for check in ["site", "basic", "gone", "told", "jobs", "report", "cert", "printed00", "printed92", "pulsecheck"] {
        heard.ran(&lab, &["explain", check]);
        heard.ran(&lab, &["explain", check, "--json"]);
    }
    for channel in ["sink", "refuses", "tell"] {
        heard.ran(&lab, &["notify", "test", channel]);
    }
    heard.folder(&lab.state());
    assert!(heard.0.iter().any(|(place, _)| place.ends_with("state.db-wal")), "the log was looked at");

    // What was for somebody came to them; the rest of what they were sent is looked through.
    let asked = site.take();
    let sent = |name: &str, value: &str| asked.iter().any(|seen| seen.header(name) == Some(value));
    assert!(sent("authorization", &format!("Bearer {bearer}")) && sent("x-key", &header));
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("agent:{password}"));
    assert!(sent("authorization", &format!("Basic {basic}")));
    for http in [&sink, &refuses] {
        let seen = http.take();
        let first = seen.first().unwrap();
        assert_eq!(first.target, format!("/{path}"));
        assert_eq!(first.header("authorization"), Some(format!("Bearer {hook_bearer}").as_str()));
        assert_eq!(first.header("x-hook"), Some(hook_header.as_str()));
        for seen in seen {
            heard.0.push(("a body that was sent".to_owned(), seen.body.into_bytes()));
            let others =
                seen.headers.into_iter().filter(|(name, _)| !["authorization", "x-hook"].contains(&name.as_str()));
            heard
                .0
                .extend(others.map(|(name, value)| (format!("the header {name} that was sent"), value.into_bytes())));
        }
    }
    heard.0.push(("what a command was told".to_owned(), std::fs::read(lab.path("told")).unwrap()));

    let mut out = Vec::new();
    for (number, (secret, beside)) in planted.0.iter().enumerate() {
        let places = heard.places_of(secret);
        if !places.is_empty() {
            out.push(format!("secret {number}, beside {beside:?}: {places:?}"));
        }
        if let Some(beside) = beside {
            assert!(
                !heard.places_of(beside).is_empty(),
                "`{beside}` was seen nowhere, so that its secret was not tried"
            );
        }
    }
    assert!(out.is_empty(), "{}", out.join("\n"));
}
