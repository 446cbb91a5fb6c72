//! One file a story; each is what a user would see.

mod bad_input;
mod certificates;
mod dead_gateway;
mod first_run;
mod flaky_target;
mod flapping;
mod full_disk;
mod gpu;
mod job_outputs;
mod killed;
mod nagios;
mod nothing_looked;
mod people;
mod queues;
mod secrets;
mod silent_targets;
mod standing_trouble;
