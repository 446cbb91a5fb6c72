//! One file a story; each is what a user would see.

mod dead_gateway;
mod first_run;
mod flaky_target;
mod nothing_looked;
