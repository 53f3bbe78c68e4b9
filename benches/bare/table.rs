//! Makes the table that everything is measured with: the same one for the same seed.

use fastrand::Rng;

use crate::args::Args;
use crate::words::Words;

const PRODUCTS: [&str; 8] = [
    "Kettle, 1.7 l",
    "무선 이어폰",
    "Desk lamp",
    "Rain jacket \"Pro\"",
    "키보드",
    "Trail shoes",
    "Notebook A5",
    "전기장판",
];

pub(crate) fn run(args: &Args) {
    let rows: u64 = args.number(0);
    let words = Words::new();
    let mut rng = Rng::with_seed(args.or("seed", 6));
    let mut table = csv::Writer::from_path(args.word(1)).unwrap();
    table.write_record(["id", "review", "product", "rating", "date"]).unwrap();
    let mut review = String::new();
    for n in 1..=rows {
        let is_korean = rng.u8(..5) == 0;
        review.clear();
        // The number makes every text another one, so that no two rows are the same request.
        review.push_str(&match is_korean {
            true => format!("{n}번 주문: "),
            false => format!("Order {n}: "),
        });
        let bytes = 60 + rng.usize(..380);
        words.fill(&mut review, bytes, (is_korean, &mut rng));
        let date = format!("202{}-{:02}-{:02}", rng.u8(3..7), rng.u8(1..13), rng.u8(1..29));
        let rating = rng.u8(1..6).to_string();
        let product = PRODUCTS[rng.usize(..PRODUCTS.len())];
        table.write_record([&format!("r{n:08}"), &review, product, &rating, &date]).unwrap();
    }
    table.flush().unwrap();
    println!("{{\"rows\":{rows},\"bytes\":{}}}", std::fs::metadata(args.word(1)).unwrap().len());
}
