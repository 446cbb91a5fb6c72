//! One file a story; each is what a user would see.

mod access;
mod agents_at_home;
mod audio_outputs;
mod bad_input;
mod certificates;
mod dead_gateway;
mod drift;
mod first_run;
mod flaky_target;
mod flapping;
mod full_disk;
mod gpu;
mod job_outputs;
mod killed;
mod model_servers;
mod nagios;
mod nothing_looked;
mod openclaw;
mod people;
mod rules;
mod secrets;
mod silent_targets;
mod spend;
mod standing_trouble;
mod vector_stores;
