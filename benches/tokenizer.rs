//! The tokenizer alone, over the texts that `plan --exact` counts: what counting cannot be faster than.
//!
//! Reads a table with the columns that `counting.sh` writes and counts its texts on a thread a core, everything in memory
//! beforehand; the words of the prompt are left out, which counting one row after another does not count again either. It
//! measures no part of the program but the crate.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(clippy::print_stdout, reason = "what it measures goes to stdout")]

use std::time::Instant;

fn main() {
    let Some(path) = std::env::args().nth(1).filter(|arg| !arg.starts_with('-')) else {
        println!("give a table with the column `review`, as benches/counting.sh makes one");
        return;
    };
    let mut table = csv::Reader::from_path(path).unwrap();
    let column = table.headers().unwrap().iter().position(|name| name == "review").unwrap();
    let texts: Vec<String> = table.records().map(|row| row.unwrap()[column].to_owned()).collect();
    let tokenizer = tiktoken::get_encoding("o200k_base").unwrap();
    // The vocabulary is read when it is first used.
    tokenizer.count("warm");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let start = Instant::now();
    let tokens: usize = std::thread::scope(|scope| {
        let count = |part: &[String]| part.iter().map(|text| tokenizer.count(text)).sum();
        let parts = texts.chunks(texts.len().div_ceil(threads).max(1));
        let counting: Vec<_> =
            parts.map(|part| scope.spawn(move || -> usize { count(part) })).collect();
        counting.into_iter().map(|part| part.join().unwrap()).sum()
    });
    let took = start.elapsed().as_secs_f64();
    let bytes: usize = texts.iter().map(String::len).sum();
    println!(
        "tokenizer    {} texts, {:.1} MB, {tokens} tokens on {threads} threads in {took:.1} s: {:.1} MB/s",
        texts.len(),
        bytes as f64 / 1e6,
        bytes as f64 / 1e6 / took
    );
}
