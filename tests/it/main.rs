//! Stories on the real binary against real servers on loopback, and the house's rules. One binary, so that it links once.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::format_push_string,
    reason = "tests: what fails here is to fail loudly, and the outside is what they look at"
)]

mod config;
mod hostile;
mod imports;
#[cfg(feature = "postgres")]
mod postgres;
mod readme;
mod redis;
mod stories;
mod support;
