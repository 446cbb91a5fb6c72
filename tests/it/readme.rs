//! What the README shows is true: its report is valid, its config is good, its kinds are the ones there are. Its commands
//! are run by `.ci/readme`.

use std::fs;

use crate::support::Lab;

fn blocks(language: &str) -> Vec<String> {
    let page = fs::read_to_string("README.md").unwrap();
    page.split(&format!("```{language}\n")).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn its_report_holds_to_the_schema() {
    let reports = blocks("json");
    assert!(!reports.is_empty());
    for report in reports {
        assert_eq!(pulsecheck::report::problems(&serde_json::from_str(&report).unwrap()), Vec::<String>::new());
    }
}

#[test]
fn its_config_is_good() {
    let configs = blocks("toml");
    assert!(!configs.is_empty());
    for config in configs {
        let ran = Lab::with(&config).run(&["validate"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    }
}

#[test]
fn it_lists_the_kinds_there_are() {
    let page = fs::read_to_string("README.md").unwrap();
    // The packs have a table of their own.
    let table = page.lines().skip_while(|line| !line.starts_with("| kind |")).take_while(|line| line.starts_with('|'));
    let listed: Vec<&str> = table.filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let there: Vec<&str> = pulsecheck::kinds::KINDS.iter().map(|kind| kind.doc().name).collect();
    assert_eq!(listed, there);
}
