//! Stories on the real binary, the registry's tests, the import table, the README. One binary, so that it links once.

mod config;
