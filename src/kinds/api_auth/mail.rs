//! Logins at mail servers: IMAP and SMTP, nothing read and nothing sent but the login.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Severity;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::wire::Wire;
use super::{Came, Credentials};
use crate::clean;
use crate::facts::Unread;
use crate::redact::{Clean, Secret};

/// The goodbye is a courtesy: a server that does not answer it has answered what was asked.
const GOODBYE: Duration = Duration::from_millis(500);

/// Greeting (unless STARTTLS took it), capabilities, login, logout.
pub(super) async fn imap(mut wire: Wire, greeted: bool, credentials: &Credentials) -> Result<Came, Unread> {
    if !greeted {
        let greeting = line(&mut wire).await?;
        match greeting.to_ascii_uppercase() {
            upper if upper.starts_with("* OK") => {}
            upper if upper.starts_with("* BYE") => return Err(bye(&greeting)),
            _ => return Err(no_imap()),
        }
    }
    let offers = offers(&mut wire).await?;
    let client = async_imap::Client::new(wire);
    let has = |name: &str| offers.contains(name);
    let (mechanism, initial) = match credentials {
        Credentials::Token { user, token } if has("AUTH=XOAUTH2") => ("XOAUTH2", xoauth2(user, token)),
        Credentials::Password { user, password } if has("AUTH=PLAIN") => ("PLAIN", plain(user, password)),
        Credentials::Password { user, password } if !has("LOGINDISABLED") => {
            let done = client.login(user, password.expose()).await;
            return match done {
                Ok(mut session) => {
                    let _unsaid = timeout(GOODBYE, session.logout()).await;
                    Ok(Came::let_in("LOGIN", "OK"))
                }
                Err((error, _)) => imap_refused("LOGIN", &error),
            };
        }
        Credentials::Token { .. } | Credentials::Password { .. } => return Err(not_offered()),
    };
    // What a server may say back of it is known to the gate.
    let _known = Secret::new(&STANDARD.encode(initial.expose()));
    match client.authenticate(mechanism, Answers(Some(initial))).await {
        Ok(mut session) => {
            let _unsaid = timeout(GOODBYE, session.logout()).await;
            Ok(Came::let_in(mechanism, "OK"))
        }
        Err((error, _)) => imap_refused(mechanism, &error),
    }
}

/// Answers the first challenge; a second one tells of a refusal and wants an empty answer.
struct Answers(Option<Secret>);

impl async_imap::Authenticator for Answers {
    type Response = String;
    fn process(&mut self, _challenge: &[u8]) -> String {
        self.0.take().map_or_else(String::new, |secret| secret.expose().to_owned())
    }
}

/// What the server can do, in capitals. Asked for here, since the client asks only once it is logged in.
async fn offers(wire: &mut Wire) -> Result<BTreeSet<String>, Unread> {
    wire.write_all(b"p0 CAPABILITY\r\n").await.map_err(|_| closed())?;
    let mut offers = BTreeSet::new();
    loop {
        let said = line(wire).await?;
        let upper = said.to_ascii_uppercase();
        if let Some(listed) = upper.strip_prefix("* CAPABILITY ") {
            offers.extend(listed.split_whitespace().map(str::to_owned));
        } else if upper.starts_with("* BYE") {
            return Err(bye(&said));
        } else if upper.starts_with("P0 OK") {
            return Ok(offers);
        } else if !upper.starts_with("* ") {
            return Err(no_imap());
        }
    }
}

/// A line without its end. Byte by byte: what comes behind it is the client's.
async fn line(wire: &mut Wire) -> Result<String, Unread> {
    let mut said = Vec::new();
    loop {
        match wire.read_u8().await.map_err(|error| bad_or_closed(&error))? {
            b'\n' => return Ok(String::from_utf8_lossy(said.trim_ascii_end()).into_owned()),
            byte => said.push(byte),
        }
    }
}

/// A NO is a refusal, unless its response code says that it is the server's trouble (RFC 5530).
fn imap_refused(mechanism: &'static str, error: &async_imap::error::Error) -> Result<Came, Unread> {
    let async_imap::error::Error::No(text) = error else { return Err(imap_trouble(error)) };
    // `code: None, info: Some("…")`.
    let said = text.split_once("info: Some(\"").map_or(text.as_str(), |(_, said)| said.trim_end_matches("\")"));
    let upper = text.to_ascii_uppercase();
    let temporary =
        ["[UNAVAILABLE]", "[INUSE]", "[LIMIT]", "[SERVERBUG]", "[OVERQUOTA]", "TRY AGAIN", "TOO MANY", "TEMPORAR"];
    if temporary.iter().any(|word| upper.contains(word)) {
        return Err(Unread::target(
            "temporary",
            clean!("the server can't say now: {}", Clean::line(said, 300).quoted()),
        ));
    }
    Ok(Came::refused("credentials_refused", mechanism, "NO", said))
}

fn imap_trouble(error: &async_imap::error::Error) -> Unread {
    use async_imap::error::Error;
    match error {
        Error::Io(error) => bad_or_closed(error),
        Error::ConnectionLost => closed(),
        Error::Bad(_) => Unread::target("bad_answer", clean!("the server does not take the login's command")),
        Error::Validate(_) => {
            Unread::blind("bad_credentials", clean!("user or password have a character that IMAP can't carry"))
        }
        _ => no_imap(),
    }
}

fn no_imap() -> Unread {
    Unread::target("bad_answer", clean!("what answers does not speak IMAP"))
}

/// The same dialog over SMTP: greeting, EHLO, AUTH, QUIT. No mail is begun.
pub(super) async fn smtp(wire: Wire, credentials: &Credentials) -> Result<Came, Unread> {
    let connected = AsyncSmtpConnection::connect_with_transport(Box::new(wire), &ClientId::default()).await;
    let mut connection = connected.map_err(|error| smtp_trouble(&error))?;
    let offers = |mechanism| connection.server_info().supports_auth_mechanism(mechanism);
    let encoded = |secret: &Secret| Secret::new(&STANDARD.encode(secret.expose()));
    let (name, commands) = match credentials {
        Credentials::Token { user, token } if offers(Mechanism::Xoauth2) => {
            // Where it is refused, the server tells why in a challenge that wants an empty answer.
            let initial = encoded(&xoauth2(user, token));
            ("XOAUTH2", vec![format!("AUTH XOAUTH2 {}\r\n", initial.expose()), "\r\n".to_owned()])
        }
        Credentials::Password { user, password } if offers(Mechanism::Plain) => {
            let initial = encoded(&plain(user, password));
            ("PLAIN", vec![format!("AUTH PLAIN {}\r\n", initial.expose())])
        }
        Credentials::Password { user, password } if offers(Mechanism::Login) => {
            let (user, password) = (STANDARD.encode(user), encoded(password));
            ("LOGIN", vec!["AUTH LOGIN\r\n".to_owned(), format!("{user}\r\n"), format!("{}\r\n", password.expose())])
        }
        Credentials::Token { .. } | Credentials::Password { .. } => return Err(not_offered()),
    };
    let mut last = None;
    for command in commands {
        let answered = connection.command(command).await;
        let more = matches!(&answered, Ok(response) if response.code().severity == Severity::PositiveIntermediate);
        last = Some(answered);
        if !more {
            break;
        }
    }
    let came = match last {
        Some(Ok(response)) if response.code().severity == Severity::PositiveCompletion => {
            Ok(Came::let_in(name, &response.code().to_string()))
        }
        Some(Err(error)) => smtp_refused(name, &error),
        Some(Ok(_)) | None => Err(Unread::target("bad_answer", clean!("the server asks for more than a login has"))),
    };
    let _unsaid = timeout(GOODBYE, connection.quit()).await;
    came
}

/// 5yz says that the credentials don't do; 4yz that it can't be said now.
fn smtp_refused(mechanism: &'static str, error: &lettre::transport::smtp::Error) -> Result<Came, Unread> {
    let code = error.status().map(u16::from);
    match code {
        // 525 disabled, 530 needed, 534 too weak, 535 wrong, 538 encryption; 550 and 554 are what some send for 535.
        Some(code @ (525 | 530 | 534 | 535 | 538 | 550 | 554)) => {
            Ok(Came::refused("credentials_refused", mechanism, &code.to_string(), &said_by(error)))
        }
        _ => Err(smtp_trouble(error)),
    }
}

fn smtp_trouble(error: &lettre::transport::smtp::Error) -> Unread {
    match error.status().map(u16::from) {
        Some(code) if error.is_transient() => {
            let said = clean!("the server can't say now: {code} {}", Clean::line(&said_by(error), 300).quoted());
            Unread::target("temporary", said)
        }
        Some(code) => {
            let said = clean!("the server answers {code} {}", Clean::line(&said_by(error), 300).quoted());
            Unread::target("bad_answer", said)
        }
        None if error.is_response() => Unread::target("bad_answer", clean!("what answers does not speak SMTP")),
        None => std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .map_or_else(closed, bad_or_closed),
    }
}

/// The server's words in an error, without the client's.
fn said_by(error: &lettre::transport::smtp::Error) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}

fn plain(user: &str, password: &Secret) -> Secret {
    Secret::new(&format!("\0{user}\0{}", password.expose()))
}

fn xoauth2(user: &str, token: &Secret) -> Secret {
    Secret::new(&format!("user={user}\x01auth=Bearer {}\x01\x01", token.expose()))
}

fn not_offered() -> Unread {
    Unread::target("login_not_offered", clean!("the server offers no way to log in with these credentials"))
}

fn bye(said: &str) -> Unread {
    Unread::target("temporary", clean!("the server says goodbye before the login: {}", Clean::line(said, 300).quoted()))
}

fn closed() -> Unread {
    Unread::target("connection_reset", clean!("the connection was closed before the login's answer came"))
}

fn bad_or_closed(error: &std::io::Error) -> Unread {
    match error.kind() {
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::Other => {
            Unread::target("bad_answer", clean!("the server's answer can't be read"))
        }
        _ => closed(),
    }
}
