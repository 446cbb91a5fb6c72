//! The config that `init` writes, and that is used in memory while there is none: one text for both, so that the first
//! command shows what the file would do.

use std::path::PathBuf;
use std::sync::Arc;

use super::files::{Role, Source};
use super::packs::PACKS;
use crate::host::Host;
use crate::notify::NOTIFIERS;

const HEAD: &str = r#"# What Pulsecheck looks at and whom it tells. Written by `pulsecheck init`; the file is yours.
# After a change: `pulsecheck validate`. Every key there is: `pulsecheck schema config`, or the annotated default.
# Lines with `#` directly before a key show defaults.

#interval = "15m"              # how often a cycle runs; the scheduler outside must be set to the same
#zone = "Europe/Berlin"        # for times that people read; by default the system's
#quiet_hours = "22:00-07:00"   # when what is below red waits for the morning
#quiet_token = "HEARTBEAT_OK"  # printed when all is well and nothing is new
"#;

/// The config as text, for this host: commented, ready to be changed.
#[must_use]
pub fn render_init(_host: &Host) -> String {
    let mut text = HEAD.to_owned();
    for pack in PACKS.iter().filter(|pack| pack.traces.is_none()) {
        text.extend(["\n# From the pack `", pack.name, "`.\n"]);
        text.push_str(&without_opening(pack.text));
    }
    text.push_str("\n# Whom to tell. Without a channel, what a cycle has to say is printed only.\n");
    for notifier in NOTIFIERS {
        let example = notifier.doc().example.trim();
        text.extend(example.lines().flat_map(|line| ["#", line, "\n"]));
        text.push('\n');
    }
    text
}

/// A pack without the comment that it opens with.
fn without_opening(pack: &str) -> String {
    let body = pack.lines().skip_while(|line| line.starts_with('#'));
    let body: String = body.flat_map(|line| [line, "\n"]).collect();
    body.trim_start_matches('\n').to_owned()
}

/// The same as the file it would be.
pub(super) fn source(host: &Host) -> Source {
    Source { name: PathBuf::new(), text: Arc::from(render_init(host)), role: Role::Main }
}
