//! `pulsecheck notify test`: whether a channel really takes a message.

use tokio::time::Instant;

use super::{Exit, Failure, Session};
use crate::notify::{Message, message_id};

/// What to do with a channel.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Send a message that says it is a test.
    Test {
        /// The channel, as in `[notify.NAME]`.
        name: String,
    },
}

/// Sends it.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let What::Test { name } = args.what;
    let config = session.config()?;
    let Some(channel) = config.channels.get(&name) else {
        let known: Vec<&str> = config.channels.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none is configured".to_owned() } else { known.join(", ") };
        return Err(Failure(format!("there is no channel `{name}` ({known})")));
    };
    let id = message_id(config.instance.as_str(), []);
    let message = Message {
        id: &id,
        notices: &[],
        report: None,
        instance: config.instance.as_str(),
        cycle: None,
        at: session.host.now().wall,
        prior: None,
        head: None,
        test: true,
    };
    let outgoing = channel.channel.render(&message);
    let deadline = Instant::now() + config.limits.delivery.get();
    match channel.channel.deliver(&outgoing, &session.host, deadline).await {
        Ok(receipt) => {
            session.out.line(&format!(
                "{name} took it{}",
                if receipt.said.as_str().is_empty() { String::new() } else { format!(": {}", receipt.said) }
            ));
            Ok(Exit::Done)
        }
        Err(undelivered) => Err(Failure(format!("{name} did not take it: {}", undelivered.said()))),
    }
}
