//! One file a story; each is what a user would see.

mod dead_gateway;
mod first_run;
mod flaky_target;
mod flapping;
mod full_disk;
mod killed;
mod nothing_looked;
mod people;
mod silent_targets;
mod standing_trouble;
