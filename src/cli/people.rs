//! `pulsecheck ack` and `pulsecheck silence`: what people say back. Each surfaces once, with who did it.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::explain::meant;
use super::{Exit, Failure, Session, run::duration, who};
use crate::facts::{CheckName, Key, Subject};
use crate::judge::{Covers, Policy};
use crate::redact::Clean;
use crate::report::rfc3339;
use crate::settings::Dur;
use crate::store::people::Actor;
use crate::store::{Opened, Store};

/// What to acknowledge.
#[derive(Debug, clap::Args)]
pub struct AckArgs {
    /// A check, a finding as `CHECK/SUBJECT`, or `tag:TAG`.
    what: String,
    /// Why, for whoever comes after you.
    #[arg(long, value_name = "TEXT", default_value = "")]
    why: String,
    /// Take the ack back.
    #[arg(long)]
    undo: bool,
}

/// What to silence, and until when.
#[derive(Debug, clap::Args)]
pub struct SilenceArgs {
    /// A check, a finding as `CHECK/SUBJECT`, or `tag:TAG`; with --end, the silence's number.
    what: String,
    /// For how long: at most 7d, over something red 24h.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, required_unless_present = "end")]
    length: Option<Dur>,
    /// Why, for whoever comes after you.
    #[arg(long, value_name = "TEXT", default_value = "")]
    why: String,
    /// End a silence early.
    #[arg(long, conflicts_with = "length")]
    end: bool,
}

fn covers(what: &str) -> Result<Covers, Failure> {
    if let Some(tag) = what.strip_prefix("tag:") {
        return Ok(Covers::Tag(Clean::line(tag, 64)));
    }
    let (check, subject) = what.split_once('/').map_or((what, None), |(check, subject)| (check, Some(subject)));
    let check = CheckName::try_from(check)?;
    Ok(subject.map_or_else(
        || Covers::Check(check.clone()),
        |subject| Covers::Finding(Key::new(&check, &Subject::new(subject))),
    ))
}

pub(super) fn store(session: &Session) -> Result<Store, Failure> {
    let Opened { store, .. } = Store::open(&session.host.paths.state, session.host.now().wall)?;
    Ok(store)
}

pub(super) fn actor(session: &Session, why: &str) -> Actor {
    Actor { by: who(&session.host), why: Clean::line(why, 300) }
}

/// Acknowledges open trouble at its level, or takes that back.
pub fn ack(args: &AckArgs, session: &mut Session) -> Result<Exit, Failure> {
    let covers = covers(&args.what)?;
    let policies = session.config()?.policies();
    let has = |key: &Key| covers.has(key, policies.get(&key.check));
    let actor = actor(session, &args.why);
    let now = session.host.now().wall;
    let mut store = store(session)?;
    let changed =
        if args.undo { store.unack(&covers, has, &actor, now)? } else { store.ack(&covers, has, &actor, now)? };
    if changed.is_empty() {
        let nothing = if args.undo { "no acked trouble" } else { "no open trouble" };
        return Err(Failure(format!("there is {nothing} under `{}` (pulsecheck status)", args.what)));
    }
    for incident in &changed {
        let did = if args.undo { "no longer acked" } else { "acked" };
        session.out.line(&format!("{did}: {} {}: {}", incident.level.status(), incident.key, incident.said));
    }
    Ok(Exit::Done)
}

/// Begins or ends a silence.
pub fn silence(args: &SilenceArgs, session: &mut Session) -> Result<Exit, Failure> {
    let config = session.config()?;
    let actor = actor(session, &args.why);
    let now = session.host.now().wall;
    if args.end {
        let number = args.what.parse().map_err(|_| {
            Failure(format!("`{}` is not a silence's number (pulsecheck status lists them)", args.what))
        })?;
        let ended = store(session)?.unsilence(number, &actor, now)?;
        session
            .out
            .line(&format!("ended silence {number}, which would have ended {}", rfc3339(ended.until, &config.zone)));
        return Ok(Exit::Done);
    }
    let covers = covers(&args.what)?;
    let policies = config.policies();
    known(&covers, &policies, &args.what)?;
    let length = args.length.map_or(SignedDuration::ZERO, Dur::signed);
    let has = |key: &Key| covers.has(key, policies.get(&key.check));
    let silence = store(session)?.silence(&covers, has, now + length, &actor, now)?;
    session.out.line(&format!(
        "silence {}: {} until {} (end it early: pulsecheck silence {} --end)",
        silence.id,
        args.what,
        rfc3339(silence.until, &config.zone),
        silence.id
    ));
    Ok(Exit::Done)
}

/// A silence over what is not there is a typing error.
fn known(covers: &Covers, policies: &BTreeMap<CheckName, Policy>, what: &str) -> Result<(), Failure> {
    let check = match covers {
        Covers::Check(check) => check,
        Covers::Finding(key) => &key.check,
        Covers::Tag(tag) if policies.values().any(|policy| policy.tags.contains(tag)) => return Ok(()),
        Covers::Tag(_) => return Err(Failure(format!("no check is covered by `{what}` (tags stand in the config)"))),
    };
    if policies.contains_key(check) {
        return Ok(());
    }
    let names: Vec<&str> = policies.keys().map(CheckName::as_str).collect();
    Err(Failure(format!("there is no check `{check}` ({})", meant(check.as_str(), &names))))
}
