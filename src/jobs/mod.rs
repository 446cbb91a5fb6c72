//! The job ledger's near end: `exec` runs a command as if it were not there and leaves one file per event; `spool` takes
//! the files in. The ledger itself is the store's.

pub mod exec;
pub mod spool;
mod tail;
