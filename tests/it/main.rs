//! Stories on the real binary against real servers on loopback, and the house's rules. One binary, so that it links once.

mod config;
mod imports;
mod readme;
mod stories;
mod support;
