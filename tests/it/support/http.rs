//! An HTTP server on loopback whose answers the test chooses while it runs, and which remembers what it was sent.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Status, content type, body.
    With(u16, &'static str, String),
    /// Accept, read, and never answer.
    Silence,
    /// Close without an answer.
    HangUp,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The events of a notice, as `turn level dedup-key`.
    pub fn events(&self) -> Vec<String> {
        let words = |event: &serde_json::Value| {
            ["turn", "level", "dedup_key"].map(|key| event[key].as_str().unwrap().to_owned())
        };
        self.json()["events"].as_array().unwrap().iter().map(|event| words(event).join(" ")).collect()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

struct Shared {
    answer: Answer,
    /// Answers of their own for some paths, with their queries.
    paths: BTreeMap<String, Answer>,
    seen: Vec<Seen>,
}

/// The server; it ends with the test's process.
#[derive(Clone)]
pub struct Http {
    addr: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

impl Http {
    /// Starts one that answers like this.
    pub fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let http = Self {
            addr: listener.local_addr().unwrap(),
            shared: Arc::new(Mutex::new(Shared { answer, paths: BTreeMap::new(), seen: Vec::new() })),
        };
        let serving = http.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        http
    }

    /// From now on it answers with this status and nothing else.
    pub fn status(&self, status: u16) {
        self.answer(Answer::With(status, "text/plain", String::new()));
    }

    /// What a config says to have its notices posted here.
    pub fn hook(&self) -> String {
        format!("[notify.hook]\nkind = \"webhook\"\nurl = \"{}\"\nmax_per_hour = 1000\n", self.url())
    }

    /// What a config says to have a path here looked at.
    pub fn check(&self, name: &str) -> String {
        format!("[check.{name}]\nkind = \"http\"\nurl = \"{}/{name}\"\n", self.url())
    }

    /// One that answers 200 with this text.
    pub fn ok(body: &str) -> Self {
        Self::start(Answer::With(200, "text/plain", body.to_owned()))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on it answers like this.
    pub fn answer(&self, answer: Answer) {
        self.shared.lock().unwrap().answer = answer;
    }

    /// From now on this path, with its query, answers 200 with this JSON, whatever the others do.
    pub fn json(&self, path: &str, json: &serde_json::Value) {
        self.path(path, Answer::With(200, "application/json", json.to_string()));
    }

    /// From now on this path, with its query, answers like this, whatever the others do.
    pub fn path(&self, path: &str, answer: Answer) {
        self.shared.lock().unwrap().paths.insert(path.to_owned(), answer);
    }

    /// From now on every path answers like this.
    pub fn paths_forgotten(&self, answer: Answer) {
        let mut shared = self.shared.lock().unwrap();
        shared.paths.clear();
        shared.answer = answer;
    }

    /// Takes out what was sent so far.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.lock().unwrap().seen)
    }

    /// Takes out what a `webhook` channel said here, as `turn level dedup-key`, in the order in which it came.
    pub fn heard(&self) -> Vec<String> {
        self.take().iter().flat_map(Seen::events).collect()
    }

    fn serve(&self, mut stream: TcpStream) {
        let Some(seen) = read(&mut stream) else { return };
        let answer = {
            let mut shared = self.shared.lock().unwrap();
            let answer = shared.paths.get(&seen.target).unwrap_or(&shared.answer).clone();
            shared.seen.push(seen);
            answer
        };
        match answer {
            Answer::With(status, content_type, body) => {
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
            Answer::HangUp => {}
            Answer::Silence => {
                // Held open until the client gives up, bounded all the same.
                stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
                let _ = stream.read(&mut [0]);
            }
        }
    }
}

fn read(stream: &mut TcpStream) -> Option<Seen> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { method, target, headers, body: String::from_utf8_lossy(&body).into_owned() })
}
