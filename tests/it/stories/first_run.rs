//! A fresh home, no config: the first command gives a true answer.

use crate::support::Lab;

#[test]
fn the_first_run_answers_in_one_line_and_leaves_stderr_empty() {
    let lab = Lab::new();
    let ran = lab.run(&["run"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    if ran.stdout != "HEARTBEAT_OK\n" {
        ran.report();
    }
}
