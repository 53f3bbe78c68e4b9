//! The references that the program is measured against: the same work with the same crates, and nothing besides.
//!
//! Each subcommand is a loop that a good programmer would write for one evening, with the program's durability (WAL,
//! `synchronous=FULL`) and its evidence (raw bytes, hashes, compressed) where the line of the table says so, but without its
//! checks, its reuse, its pace or its reports. `bench.py` runs them. They must never use the program's own code.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "it measures time, and has its own connections")]
#![expect(clippy::print_stdout, reason = "what it measures goes to stdout")]

mod add;
mod args;
mod batch;
mod count;
mod jobs;
mod json;
mod prompt;
mod readers;
mod realtime;
mod record;
mod replies;
mod serve;
mod spawn;
mod table;
mod words;

use args::Args;

const USAGE: &str = "bare COMMAND …
  gen ROWS FILE [--seed N]                      a table of about 300 bytes a row
  serve [--latency MS] [--threads N] [--answers json]
                                                a mock of the provider; prints its base URL
  add CSV DB                                    csv → JSON → sha256 → SQLite
  count CSV                                     the tokenizer alone, on all cores
  realtime CSV DB URL IN_FLIGHT [--limit N]     calls, each promised and settled durably
  pack CSV URL [--size N] [--record DB]         batch input files, uploaded
  collect URL BATCH DB                          a batch's results, parsed and inserted
  job CSV DB URL                                rows, requests, a batch and its replies, all recorded
  export DB CSV                                 a project's rows and answers
  audit DB                                      every body and reply of a project, decompressed and hashed
  jsonl DB FILE                                 the same as plain JSON Lines
  states DB                                     requests by state
  spawn N PROGRAM OTHER                         `PROGRAM --version` and `OTHER --version`, so many times in turn
The prompt is given with --prompt FILE, its model with --model NAME.";

fn main() {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let args = Args::of(words);
    match command.as_str() {
        "gen" => table::run(&args),
        "serve" => serve::run(&args),
        "add" => add::run(&args),
        "count" => count::run(&args),
        "realtime" => realtime::run(&args),
        "pack" => batch::pack(&args),
        "collect" => batch::collect(&args),
        "job" => batch::job(&args),
        "export" => readers::export(&args),
        "audit" => readers::audit(&args),
        "jsonl" => readers::jsonl(&args),
        "states" => readers::states(&args),
        "spawn" => spawn::run(&args),
        _ => println!("{USAGE}"),
    }
}
