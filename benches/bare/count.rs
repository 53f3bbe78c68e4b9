//! The tokenizer alone, over the texts that `plan --exact` counts: what counting cannot be faster than.
//!
//! Everything is in memory and the vocabulary is read beforehand; the words of the prompt are left out, which counting
//! one row after another does not count again either. It measures no part of the program but the crate.

use std::time::Instant;

use crate::args::Args;
use crate::prompt::Reviews;

pub(crate) fn run(args: &Args) {
    let texts: Vec<String> = Reviews::open(args.word(0), -1).map(|(_, text)| text).collect();
    let tokenizer = tiktoken::get_encoding("o200k_base").unwrap();
    // The vocabulary is read when it is first used.
    let _ = tokenizer.count("warm");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let start = Instant::now();
    let tokens: usize = std::thread::scope(|scope| {
        let count = |part: &[String]| part.iter().map(|text| tokenizer.count(text)).sum();
        let parts = texts.chunks(texts.len().div_ceil(threads).max(1));
        let counting: Vec<_> =
            parts.map(|part| scope.spawn(move || -> usize { count(part) })).collect();
        counting.into_iter().map(|part| part.join().unwrap()).sum()
    });
    let seconds = start.elapsed().as_secs_f64();
    let bytes: usize = texts.iter().map(String::len).sum();
    println!(
        "{{\"texts\":{},\"bytes\":{bytes},\"tokens\":{tokens},\"threads\":{threads},\"seconds\":{seconds:.3}}}",
        texts.len()
    );
}
