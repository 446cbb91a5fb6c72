//! Stories on the real binary against real servers on loopback. One binary, so that it links once.

mod config;
mod stories;
mod support;
