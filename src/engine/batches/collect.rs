//! Reads a batch's results, line by line, in a small memory, and hands them over to be put on record.
//!
//! Both files are read, whatever the batch's status says. What is on record already is passed over by
//! the store, so a download that broke off is simply begun again.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::slot::SlotId;
use super::steps::{Counter, Did, Stepped, Trouble};
use crate::domain::{
    AttemptId, BatchId, FailureClass, Outcome, PromptId, Reading, RequestId, Route, UnixMs,
};
use crate::engine::clock::Clock;
use crate::engine::task::Task;
use crate::engine::transport::Call;
use crate::engine::worker::judge;
use crate::engine::world::Hands;
use crate::provider::batch::{Garbled, Line, Lines, attempt_of, result_line};
use crate::store::{
    Codec, LineKind, LineOwner, NewBatch, ResultFile, ResultLine, Settlement, Store, Stray,
};

/// Lines that are put on record together.
const CHUNK: usize = 500;
/// Bytes after which fewer lines are put on record together.
const CHUNK_BYTES: usize = 4 << 20;
/// How many lines of a file are read for each request of its batch, and beyond that.
const LINES_A_REQUEST: u64 = 4;
const MORE_LINES: u64 = 10_000;
/// How many bytes of a file are read for each request of its batch, and beyond that.
const BYTES_A_REQUEST: u64 = 4 << 20;
const MORE_BYTES: u64 = 64 << 20;

/// What is needed to read the results of a batch.
pub(in crate::engine) struct Collecting {
    pub(in crate::engine) slot: SlotId,
    pub(in crate::engine) id: BatchId,
    pub(in crate::engine) new: Arc<NewBatch>,
    pub(in crate::engine) tasks: Arc<Vec<Task>>,
    pub(in crate::engine) clock: Clock,
    pub(in crate::engine) out: UnboundedSender<Stepped>,
    /// Whether a last line that ends in the middle is taken as it is.
    pub(in crate::engine) takes_cut: bool,
    /// Whether an output file without a line of the batch is taken as it is.
    pub(in crate::engine) takes_foreign: bool,
    /// How many requests are in the batch.
    pub(in crate::engine) requests: u64,
}

/// How much of a result file is left to be read. One that goes on for ever must neither fill the disk nor hold a run,
/// and ends where no file that is one could.
struct Rest {
    lines: u64,
    bytes: u64,
}

impl Rest {
    fn of(requests: u64) -> Self {
        let of = |each: u64, more: u64| requests.saturating_mul(each).saturating_add(more);
        Self { lines: of(LINES_A_REQUEST, MORE_LINES), bytes: of(BYTES_A_REQUEST, MORE_BYTES) }
    }

    /// Takes a part of the file in. Says whether more may follow.
    fn goes_on(&mut self, part: &[u8]) -> bool {
        let lines = part.split(|byte| *byte == b'\n').count() as u64 - 1;
        self.lines = self.lines.saturating_sub(lines);
        self.bytes = self.bytes.saturating_sub(part.len() as u64);
        self.lines > 0 && self.bytes > 0
    }
}

/// The two result files, where they are.
pub(in crate::engine) struct Results {
    pub(in crate::engine) output: Option<String>,
    pub(in crate::engine) error: Option<String>,
}

/// A raw line on its way.
struct Raw {
    number: u64,
    bytes: Vec<u8>,
    is_whole: bool,
    is_too_long: bool,
}

/// Reads both files and hands over every line.
pub(in crate::engine) async fn collect(
    counter: &Counter,
    collecting: Collecting,
    results: Results,
    store: Store,
) -> Result<(), Trouble> {
    let collecting = Arc::new(collecting);
    let mut store = store;
    let files = [(ResultFile::Output, results.output), (ResultFile::Error, results.error)];
    let mut is_foreign = false;
    for (file, id) in files {
        if let Some(id) = id {
            let ours;
            (store, ours) = read_file(counter, &collecting, (file, &id), store).await?;
            is_foreign |= ours == 0 && file == ResultFile::Output;
        }
    }
    // A page of some proxy, most likely. What was paid for is not given up for that at once.
    if is_foreign && !collecting.takes_foreign {
        return Err(Trouble::Foreign);
    }
    Ok(())
}

/// Reads a file and hands over every line. Says too how many of them are of this batch.
async fn read_file(
    counter: &Counter,
    collecting: &Arc<Collecting>,
    (file, id): (ResultFile, &str),
    store: Store,
) -> Result<(Store, u64), Trouble> {
    let server = &counter.server;
    let call =
        Call { url: server.urls.content(id), headers: server.headers.clone(), body: Bytes::new() };
    let mut download = match counter.transport.download(call, server.key.as_ref()).await? {
        Ok(download) => download,
        Err(reply) => {
            Counter::whole(reply)?;
            return Err(Trouble::Unreadable("the provider sent no file".to_owned()));
        }
    };
    let (mut lines, mut store) = (Lines::new(), store);
    let key = server.key.as_ref();
    let (mut chunk, mut bytes, mut ours) = (Vec::new(), 0, 0);
    let mut rest = Rest::of(collecting.requests);
    loop {
        let part = download.next().await?;
        let mut take = |line: Line<'_>| {
            bytes += line.bytes.len();
            chunk.push(Raw {
                number: line.number,
                // A line that repeats the key goes on record without it.
                bytes: key
                    .and_then(|key| key.redact(line.bytes))
                    .unwrap_or_else(|| line.bytes.to_vec()),
                is_whole: line.is_whole,
                is_too_long: line.is_too_long,
            });
        };
        let Some(part) = part else {
            lines.finish(&mut take);
            break;
        };
        lines.push(&part, &mut take);
        if !rest.goes_on(&part) {
            break;
        }
        while chunk.len() >= CHUNK || (bytes >= CHUNK_BYTES && !chunk.is_empty()) {
            let rest = chunk.split_off(chunk.len().min(CHUNK));
            let full = std::mem::replace(&mut chunk, rest);
            bytes = chunk.iter().map(|raw| raw.bytes.len()).sum();
            let known;
            (store, known) = hand_over((counter.hands, collecting), (file, full), store).await?;
            ours += known;
        }
    }
    let (store, known) = hand_over((counter.hands, collecting), (file, chunk), store).await?;
    Ok((store, ours + known))
}

async fn hand_over(
    (hands, collecting): (Hands, &Arc<Collecting>),
    (file, raw): (ResultFile, Vec<Raw>),
    store: Store,
) -> Result<(Store, u64), Trouble> {
    if raw.is_empty() {
        return Ok((store, 0));
    }
    let reader = Arc::clone(collecting);
    let read = hands.offload(move || (read_lines(&reader, (file, raw), &store), store));
    let (read, store) =
        read.await.ok_or_else(|| Trouble::Record("reading the results broke off".to_owned()))?;
    let ReadLines { lines, first, is_cut } = read?;
    let is_ours = |line: &&ResultLine| matches!(line.kind, LineKind::Settles(_));
    let ours = lines.iter().filter(is_ours).count() as u64;
    let (go, went) = oneshot::channel();
    let did = Did::Lines(lines, first, go);
    let sent = collecting.out.send(Stepped::Step(collecting.slot, Box::new(did)));
    if sent.is_err() || went.await.is_err() {
        return Err(Trouble::Record("the run has stopped".to_owned()));
    }
    if is_cut { Err(Trouble::CutShort) } else { Ok((store, ours)) }
}

struct ReadLines {
    lines: Vec<ResultLine>,
    /// A good plain line of a task that has no dictionary for its replies.
    first: Option<(usize, Bytes)>,
    /// Whether the last line ended in the middle.
    is_cut: bool,
}

fn read_lines(
    collecting: &Collecting,
    (file, raw): (ResultFile, Vec<Raw>),
    store: &Store,
) -> Result<ReadLines, Trouble> {
    let tasks: HashMap<PromptId, usize> =
        collecting.tasks.iter().enumerate().map(|(index, task)| (task.id(), index)).collect();
    let now = collecting.clock.time_of_day();
    let mut read = ReadLines { lines: Vec::with_capacity(raw.len()), first: None, is_cut: false };
    for raw in raw {
        let line = result_line(collecting.new.endpoint, &raw.bytes);
        if line.is_err() && !raw.is_whole && !collecting.takes_cut {
            read.is_cut = true;
            continue;
        }
        let token = &collecting.new.token;
        let (custom_id, found) = match line {
            Ok(line) if !raw.is_too_long => (line.custom_id.clone(), Some(line)),
            Ok(line) => (line.custom_id, None),
            Err(Garbled { custom_id }) => (custom_id, None),
        };
        let attempt = custom_id.as_deref().and_then(|custom_id| attempt_of(custom_id, token));
        let owner = match attempt {
            Some(attempt) => store
                .line_owner(collecting.id, attempt)
                .map_err(|error| Trouble::Record(error.to_string()))?
                .and_then(|owner| Some((attempt, owner, *tasks.get(&owner.prompt)?))),
            None => None,
        };
        let kind = if let Some((attempt, owner, task)) = owner {
            let task = (task, &collecting.tasks[task]);
            let (settlement, is_good) =
                settlement(task.1, (attempt, &owner), (found, &raw.bytes), now);
            if is_good && read.first.is_none() && task.1.reply_codec.get().is_none() {
                read.first = Some((task.0, Bytes::copy_from_slice(&raw.bytes)));
            }
            LineKind::Settles(Box::new(settlement))
        } else {
            let why = if found.is_some() { Stray::Unknown } else { Stray::Garbled };
            let packed = Codec::plain().pack(&raw.bytes);
            LineKind::Stray(why, packed.map_err(|error| Trouble::Record(error.to_string()))?)
        };
        read.lines.push(ResultLine { file, number: raw.number, kind });
    }
    Ok(read)
}

/// Makes of a line what is put on record. Says too whether it is a good one.
fn settlement(
    task: &Task,
    (attempt, owner): (AttemptId, &LineOwner),
    (line, raw): (Option<crate::provider::batch::ResultLine>, &[u8]),
    now: UnixMs,
) -> (Settlement, bool) {
    let of: (AttemptId, RequestId) = (attempt, owner.request);
    let (reading, status_code, request_id) = if let Some(line) = line {
        (line.reading, line.status_code, line.provider_request_id)
    } else {
        let words = "the line of the batch's results cannot be read";
        (Reading::failed(FailureClass::MalformedReply, words), None, None)
    };
    let judged = judge(task, task.form_of(owner.is_in_words), reading);
    let usage = judged.reading.usage;
    let cost = task.bill(usage, (judged.outcome, status_code), Route::Batch);
    let codec = task.reply_codec.get().cloned().unwrap_or_else(Codec::plain);
    let settlement = Settlement {
        answer: judged.answer,
        error: judged.error,
        status_code,
        provider_request_id: request_id.or(judged.reading.provider_request_id),
        served_model: judged.reading.served_model,
        finish_reason: judged.reading.finish_reason,
        usage,
        cost,
        reply: codec.pack(raw).ok(),
        ..Settlement::bare(of, judged.outcome, now)
    };
    (settlement, judged.outcome == Outcome::Answered)
}
