//! How long two programs take that do nothing, spawned in turn by a process that has little to copy.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::args::Args;

pub(crate) fn run(args: &Args) {
    let runs: usize = args.number(0);
    let (program, other) = (args.word(1), args.word(2));
    let (mut of_program, mut of_other) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        of_program.push(took(program));
        of_other.push(took(other));
    }
    let median = |taken: &mut Vec<f64>| {
        taken.sort_by(f64::total_cmp);
        taken[taken.len() / 2]
    };
    println!(
        "{{\"program_ms\":{:.4},\"other_ms\":{:.4}}}",
        median(&mut of_program),
        median(&mut of_other)
    );
}

fn took(program: &str) -> f64 {
    let start = Instant::now();
    let done = Command::new(program).arg("--version").stdout(Stdio::null()).status().unwrap();
    assert!(done.success());
    start.elapsed().as_secs_f64() * 1000.0
}
