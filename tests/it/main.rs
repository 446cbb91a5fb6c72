//! Stories on the real binary against real servers on loopback. One binary, so that it links once.

mod imports;
mod stories;
mod support;
