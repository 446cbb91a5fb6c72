//! Pulsecheck as a library: the pure middle (facts, judge, report) and the adapters around it. See ARCHITECTURE.md.

pub mod cli;
pub mod clock;
pub mod config;
pub mod cycle;
pub mod expr;
pub mod facts;
pub mod host;
pub mod jobs;
pub mod judge;
pub mod kinds;
pub mod notify;
pub mod read;
pub mod records;
pub mod redact;
pub mod report;
pub mod schedule;
pub mod settings;
pub mod steps;
pub mod store;
pub mod words;
