//! `audit`: clean where nothing was touched, and whatever is touched is found and named.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "the record is changed as any other program would")]

mod cells;
mod project;
#[path = "../support/mod.rs"]
mod support;

#[test]
fn what_nobody_touched_holds() {
    let folder = project::eventful();
    let said = folder.run(&["audit"]);
    println!("{}", said.stdout);
    let _ = std::fs::copy(folder.file("overnight.db"), "/tmp/audit-scratch/eventful.db");
    assert_eq!(said.code, Some(0), "{said:#?}");
    let changes = cells::changes(&folder.file("overnight.db"));
    let outcomes = cells::audit_each(&folder, &changes);
    for outcome in &outcomes {
        println!("{:?} {}.{} {} -> {:?}", outcome.code, outcome.change.table, outcome.change.column, outcome.change.kind, outcome.checks.iter().take(3).collect::<Vec<_>>());
    }
    println!("{} of {}", outcomes.len(), changes.len());
}
