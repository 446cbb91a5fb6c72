//! The job ledger's own end: `exec` runs a command and leaves one file per event, `spool` takes the files in.
