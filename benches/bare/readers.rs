//! Readers of the program's own project file: what must be read is read, and nothing is checked or looked up besides.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};

use rusqlite::Connection;
use zstd::bulk::Decompressor;

use crate::args::Args;
use crate::json::Cells;
use crate::record::{open, sha256};

/// Writes the rows with their answers: the same file as `overnight export`.
pub(crate) fn export(args: &Args) {
    let conn = open(args.word(0));
    let mut table = csv::WriterBuilder::new().from_path(args.word(1)).unwrap();
    table.write_record(["id", "review", "product", "rating", "date", "answer", "state"]).unwrap();
    let mut query = conn
        .prepare(
            "SELECT row.cells, attempt.answer, request.state
             FROM row LEFT JOIN request ON request.row_id = row.id LEFT JOIN attempt ON attempt.id = request.attempt_id
             WHERE row.retired_at_ms IS NULL ORDER BY row.position",
        )
        .unwrap();
    let mut found = query.query([]).unwrap();
    let mut rows = 0;
    while let Some(row) = found.next().unwrap() {
        let cells: Cells<'_> =
            serde_json::from_str(row.get_ref(0).unwrap().as_str().unwrap()).unwrap();
        let text = |at| row.get_ref(at).unwrap().as_str_or_null().unwrap();
        table
            .write_record([
                &*cells.id,
                &*cells.review,
                &*cells.product,
                &*cells.rating,
                &*cells.date,
                text(1).unwrap_or_default(),
                text(2).unwrap_or("pending"),
            ])
            .unwrap();
        rows += 1;
    }
    table.flush().unwrap();
    println!("{{\"rows\":{rows}}}");
}

/// Decompresses every body and every reply and hands it over, in the order of ids.
fn each_evidence(conn: &Connection, mut take: impl FnMut(&[u8])) {
    let mut decompressors: HashMap<Option<i64>, Decompressor<'static>> = HashMap::new();
    decompressors.insert(None, Decompressor::new().unwrap());
    let mut query = conn.prepare("SELECT id, bytes FROM dictionary").unwrap();
    let mut found = query.query([]).unwrap();
    while let Some(row) = found.next().unwrap() {
        let bytes: Vec<u8> = row.get(1).unwrap();
        let made = Decompressor::with_dictionary(&bytes).unwrap();
        decompressors.insert(Some(row.get(0).unwrap()), made);
    }
    let mut plain = Vec::new();
    for sql in [
        "SELECT body, body_dictionary_id, body_bytes FROM request WHERE body IS NOT NULL ORDER BY id",
        "SELECT reply, reply_dictionary_id, reply_bytes FROM attempt WHERE reply IS NOT NULL ORDER BY id",
    ] {
        let mut query = conn.prepare(sql).unwrap();
        let mut found = query.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let size: usize = row.get(2).unwrap();
            plain.clear();
            plain.reserve(size);
            let decompressor = decompressors.get_mut(&row.get(1).unwrap()).unwrap();
            decompressor
                .decompress_to_buffer(row.get_ref(0).unwrap().as_blob().unwrap(), &mut plain)
                .unwrap();
            assert_eq!(plain.len(), size);
            take(&plain);
        }
    }
}

/// Hashes all evidence.
pub(crate) fn audit(args: &Args) {
    let (mut pieces, mut bytes, mut all) = (0_u64, 0, 0_u8);
    each_evidence(&open(args.word(0)), |plain| {
        pieces += 1;
        bytes += plain.len();
        all ^= sha256(plain)[0];
    });
    println!("{{\"pieces\":{pieces},\"bytes\":{bytes},\"all\":{all}}}");
}

/// Writes all evidence as lines.
pub(crate) fn jsonl(args: &Args) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(args.word(1)).unwrap());
    let mut bytes = 0;
    each_evidence(&open(args.word(0)), |plain| {
        file.write_all(plain).unwrap();
        file.write_all(b"\n").unwrap();
        bytes += plain.len() + 1;
    });
    file.flush().unwrap();
    println!("{{\"bytes\":{bytes}}}");
}

/// Counts requests by state.
pub(crate) fn states(args: &Args) {
    let conn = open(args.word(0));
    let mut query = conn.prepare("SELECT state, count(*) FROM request GROUP BY state").unwrap();
    let mut found = query.query([]).unwrap();
    while let Some(row) = found.next().unwrap() {
        println!("{}|{}", row.get::<_, String>(0).unwrap(), row.get::<_, i64>(1).unwrap());
    }
}
