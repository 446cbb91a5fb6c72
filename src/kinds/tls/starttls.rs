//! The plain-text dialogs that come before TLS on ports where a connection begins without it.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

use crate::clean;
use crate::facts::Unread;
use crate::redact::Clean;

/// Bytes of the whole dialog.
const MAX_DIALOG_BYTES: usize = 64 * 1024;

/// How a connection is brought to TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Starttls {
    /// TLS from the first byte.
    None,
    /// `EHLO`, `STARTTLS`.
    Smtp,
    /// `STARTTLS`.
    Imap,
    /// `STLS`.
    Pop3,
    /// The extended operation 1.3.6.1.4.1.1466.20037.
    Ldap,
    /// `SSLRequest`.
    Postgres,
}

impl Starttls {
    /// What is usual on a port.
    pub(super) fn usual(port: u16) -> Self {
        match port {
            25 | 587 => Self::Smtp,
            110 => Self::Pop3,
            143 => Self::Imap,
            389 => Self::Ldap,
            5432 => Self::Postgres,
            _ => Self::None,
        }
    }
}

/// Leads the dialog until the server expects a TLS handshake. Codes, all of the target: `starttls_refused`,
/// `connection_reset`, `no_answer`.
pub(in crate::kinds) async fn begin<S>(stream: &mut S, how: Starttls, deadline: Instant) -> Result<(), Unread>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let dialog = async {
        let mut talk = Talk { stream, held: Vec::new(), total: 0 };
        match how {
            Starttls::None => return Ok(()),
            Starttls::Smtp => talk.smtp().await?,
            Starttls::Imap => talk.imap().await?,
            Starttls::Pop3 => talk.pop3().await?,
            Starttls::Ldap => talk.ldap().await?,
            Starttls::Postgres => talk.postgres().await?,
        }
        // Text that was sent ahead of the handshake would be taken for TLS, or for an answer given under it.
        if talk.held.is_empty() { Ok(()) } else { Err(refused("the server sent more than its answer to STARTTLS")) }
    };
    timeout_at(deadline, dialog).await.unwrap_or_else(|_| {
        Err(Unread::target("no_answer", clean!("connected, but the server did not get to STARTTLS in time")))
    })
}

fn refused(why: &str) -> Unread {
    Unread::target("starttls_refused", Clean::new(why))
}

struct Talk<'a, S> {
    stream: &'a mut S,
    held: Vec<u8>,
    total: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<'_, S> {
    async fn smtp(&mut self) -> Result<(), Unread> {
        self.smtp_reply(b"220").await?;
        self.say(b"EHLO localhost\r\n").await?;
        let offers = self.smtp_reply(b"250").await?;
        if !offers
            .iter()
            .any(|line| line.get(4..).is_some_and(|word| word.trim_ascii().eq_ignore_ascii_case(b"STARTTLS")))
        {
            return Err(refused("the server does not offer STARTTLS"));
        }
        self.say(b"STARTTLS\r\n").await?;
        self.smtp_reply(b"220").await.map(|_| ())
    }

    /// All lines of a reply; the last has a space behind the number.
    async fn smtp_reply(&mut self, number: &[u8]) -> Result<Vec<Vec<u8>>, Unread> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            if !line.starts_with(number) {
                return Err(unexpected(&line));
            }
            let last = line.get(3) != Some(&b'-');
            lines.push(line);
            if last {
                return Ok(lines);
            }
        }
    }

    async fn imap(&mut self) -> Result<(), Unread> {
        let greeting = self.line().await?;
        if !greeting.to_ascii_uppercase().starts_with(b"* OK") {
            return Err(unexpected(&greeting));
        }
        self.say(b"p1 STARTTLS\r\n").await?;
        loop {
            let line = self.line().await?;
            match line.to_ascii_uppercase() {
                upper if upper.starts_with(b"P1 OK") => return Ok(()),
                upper if upper.starts_with(b"* ") => {}
                _ => return Err(unexpected(&line)),
            }
        }
    }

    async fn pop3(&mut self) -> Result<(), Unread> {
        self.pop3_ok().await?;
        self.say(b"STLS\r\n").await?;
        self.pop3_ok().await
    }

    async fn pop3_ok(&mut self) -> Result<(), Unread> {
        let line = self.line().await?;
        if line.starts_with(b"+OK") { Ok(()) } else { Err(unexpected(&line)) }
    }

    async fn postgres(&mut self) -> Result<(), Unread> {
        // A length of 8, then the number 80877103 that stands where a protocol version would.
        self.say(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).await?;
        match self.bytes(1).await?.as_slice() {
            b"S" => Ok(()),
            b"N" => Err(refused("the server has TLS switched off")),
            other => Err(unexpected(other)),
        }
    }

    async fn ldap(&mut self) -> Result<(), Unread> {
        const OID: &[u8; 22] = b"1.3.6.1.4.1.1466.20037";
        // LDAPMessage { messageID 1, [APPLICATION 23] { [0] OID } }
        let head = [0x30, 0x1d, 0x02, 0x01, 0x01, 0x77, 0x18, 0x80, 0x16];
        self.say(&[head.as_slice(), OID].concat()).await?;
        let body = self.ber().await?;
        // messageID 1, then [APPLICATION 24] { resultCode ENUMERATED 0, … }; lengths may be in the long form.
        let answer = body.strip_prefix(&[0x02, 0x01, 0x01, 0x78]).ok_or_else(|| unexpected(&body))?;
        let long = answer.first().map_or(0, |length| if length & 0x80 == 0 { 0 } else { usize::from(length & 0x7f) });
        match answer.get(1 + long..4 + long) {
            Some([0x0a, 0x01, 0x00]) => Ok(()),
            Some([0x0a, 0x01, code]) => Err(refused(&format!("the server refuses STARTTLS (LDAP result {code})"))),
            _ => Err(unexpected(&body)),
        }
    }

    /// The content of one BER sequence.
    async fn ber(&mut self) -> Result<Vec<u8>, Unread> {
        let head = self.bytes(2).await?;
        let [0x30, length] = head.as_slice() else { return Err(unexpected(&head)) };
        let length = if length & 0x80 == 0 {
            usize::from(*length)
        } else {
            let digits = self.bytes(usize::from(length & 0x7f).min(4)).await?;
            digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit))
        };
        self.bytes(length).await
    }

    async fn say(&mut self, bytes: &[u8]) -> Result<(), Unread> {
        self.stream.write_all(bytes).await.map_err(|_| closed())
    }

    /// A line without its end.
    async fn line(&mut self) -> Result<Vec<u8>, Unread> {
        loop {
            if let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
                let rest = self.held.split_off(end + 1);
                let line = std::mem::replace(&mut self.held, rest);
                return Ok(line.trim_ascii_end().to_vec());
            }
            self.more().await?;
        }
    }

    async fn bytes(&mut self, count: usize) -> Result<Vec<u8>, Unread> {
        while self.held.len() < count {
            self.more().await?;
        }
        let rest = self.held.split_off(count);
        Ok(std::mem::replace(&mut self.held, rest))
    }

    async fn more(&mut self) -> Result<(), Unread> {
        let mut piece = [0; 2048];
        let count = self.stream.read(&mut piece).await.map_err(|_| closed())?;
        self.total = self.total.saturating_add(count);
        match piece.get(..count) {
            None | Some([]) => Err(closed()),
            Some(_) if self.total > MAX_DIALOG_BYTES => {
                Err(refused("the server said more than 64 KiB before STARTTLS"))
            }
            Some(read) => {
                self.held.extend_from_slice(read);
                Ok(())
            }
        }
    }
}

fn unexpected(line: &[u8]) -> Unread {
    Unread::target("starttls_refused", clean!("the server answered {} before TLS", Clean::bytes(line, 200).quoted()))
}

fn closed() -> Unread {
    Unread::target("connection_reset", clean!("the connection was closed before TLS began"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Plays a server: what it says at first, then pairs of what it must hear and what it says to that.
    async fn against(how: Starttls, first: &'static [u8], turns: Turns) -> Result<(), Unread> {
        let (mut ours, mut theirs) = tokio::io::duplex(MAX_DIALOG_BYTES * 2);
        let server = async move {
            theirs.write_all(first).await.unwrap();
            for (heard, said) in turns {
                let mut line = vec![0; heard.len()];
                if theirs.read_exact(&mut line).await.is_err() {
                    return;
                }
                assert_eq!(line, *heard);
                theirs.write_all(said).await.unwrap();
            }
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        let client = async move {
            let outcome = begin(&mut ours, how, deadline).await;
            drop(ours);
            outcome
        };
        tokio::join!(client, server).0
    }

    type Turns = &'static [(&'static [u8], &'static [u8])];

    const EHLO: &[u8] = b"EHLO localhost\r\n";
    const LDAP: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";
    const LDAP_LONG: &[u8] =
        b"\x30\x84\x00\x00\x00\x10\x02\x01\x01\x78\x84\x00\x00\x00\x07\x0a\x01\x00\x04\x00\x04\x00";
    const PG: &[u8] = &[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];

    #[tokio::test]
    async fn each_dialog_ends_at_the_handshake() {
        let smtp: Turns = &[(EHLO, b"250-mx\r\n250-starttls\r\n250 SIZE 1\r\n"), (b"STARTTLS\r\n", b"220 go\r\n")];
        against(Starttls::Smtp, b"220-mx\r\n220 ready\r\n", smtp).await.unwrap();
        against(Starttls::Imap, b"* OK ready\r\n", &[(b"p1 STARTTLS\r\n", b"* CAPABILITY x\r\np1 OK go\r\n")])
            .await
            .unwrap();
        against(Starttls::Pop3, b"+OK\r\n", &[(b"STLS\r\n", b"+OK\r\n")]).await.unwrap();
        against(Starttls::Postgres, b"", &[(PG, b"S")]).await.unwrap();
        against(Starttls::Ldap, b"", &[(LDAP, b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00")])
            .await
            .unwrap();
        against(Starttls::Ldap, b"", &[(LDAP, LDAP_LONG)]).await.unwrap();
        against(Starttls::None, b"", &[]).await.unwrap();
    }

    #[tokio::test]
    async fn refusals_are_told_in_words() {
        let table: &[(Starttls, &'static [u8], Turns, &str, &str)] = &[
            (Starttls::Smtp, b"220 mx\r\n", &[(EHLO, b"250 mx\r\n")], "starttls_refused", "does not offer STARTTLS"),
            (Starttls::Smtp, b"554 no\r\n", &[], "starttls_refused", "554 no"),
            (Starttls::Imap, b"* OK\r\n", &[(b"p1 STARTTLS\r\n", b"p1 BAD no\r\n")], "starttls_refused", "p1 BAD no"),
            (
                Starttls::Pop3,
                b"+OK\r\n",
                &[(b"STLS\r\n", b"+OK\r\n+OK early\r\n")],
                "starttls_refused",
                "more than its answer",
            ),
            (Starttls::Postgres, b"", &[(PG, b"N")], "starttls_refused", "switched off"),
            (
                Starttls::Ldap,
                b"",
                &[(LDAP, b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00")],
                "starttls_refused",
                "LDAP result 2",
            ),
            (Starttls::Pop3, b"", &[], "connection_reset", "closed before TLS"),
        ];
        for (how, first, turns, code, words) in table {
            let unread = against(*how, first, turns).await.unwrap_err();
            assert_eq!(unread.code.as_str(), *code, "{how:?}");
            assert!(unread.said.as_str().contains(words), "{how:?}: {}", unread.said);
        }
    }

    #[tokio::test]
    async fn a_flood_is_cut() {
        let (mut ours, mut theirs) = tokio::io::duplex(MAX_DIALOG_BYTES * 2);
        theirs.write_all(&vec![b'x'; MAX_DIALOG_BYTES + 1]).await.unwrap();
        let unread = begin(&mut ours, Starttls::Smtp, Instant::now() + Duration::from_secs(5)).await.unwrap_err();
        assert!(unread.said.as_str().contains("more than 64 KiB"), "{}", unread.said);
    }
}
