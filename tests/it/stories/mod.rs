//! One file a story; each is what a user would see.

mod first_run;
mod flaky_target;
