//! One file a story; each is what a user would see.

mod bad_input;
mod certificates;
mod first_run;
mod job_outputs;
mod nagios;
mod secrets;
