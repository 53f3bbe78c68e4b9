//! Reads what is due and renders it, a little ahead of the sending.
//!
//! One feeder a lane, on a thread of its own with a connection of its own. What it has handed over and
//! not seen promised is bounded in number and in bytes, so a million rows stream through in a small memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::task::{Job, Task, encode};
use crate::domain::{AttemptId, BatchId, PromptId, RequestId, Route, RowId};
use crate::machine::packing::Size;
use crate::machine::request::{Due, Facts, due};
use crate::provider::batch::input_line_bytes;
use crate::store::{DueRequest, Store, StoreError};

/// Rows read from the record at a time.
const PAGE: u32 = 500;
/// After how many pages of new rows it is looked how far they have requests by now.
const LOOK_EVERY: u32 = 20;
/// What may be rendered ahead, in units of [`UNIT`] bytes; every job takes one at least.
const ROOM: u32 = 1024;
/// The bytes that one unit of room stands for.
const UNIT: usize = 16 * 1024;

/// What a feeder hands to the dispatcher.
pub(super) enum Fed {
    /// A request to be made.
    Job(usize, Box<Job>),
    /// A row that cannot be rendered.
    Unrenderable {
        task: usize,
        row: RowId,
        position: i64,
        existing: Option<RequestId>,
        error: String,
    },
    /// No live row up to this one is without a request for a task's prompt.
    AskedUpto { task: usize, row: RowId },
    /// Nothing more comes for this lane.
    Done(usize),
    /// The record could not be read.
    Broken(StoreError),
}

/// What a feeder is asked for.
#[derive(Debug)]
pub(super) enum Feed {
    /// Everything that is due.
    Everything(Route),
    /// What is due of these rows.
    OfRows(Arc<Vec<RowId>>, Route),
    /// What is due again of a batch's requests.
    OfBatch {
        batch: BatchId,
        route: Route,
        /// Whether they were counted against the limit before.
        is_counted: bool,
    },
    /// These requests, each of a task, as far as they are due.
    Requests(Vec<(usize, RequestId)>, Route),
}

/// A feeder of one lane.
pub(super) struct Feeder {
    pub(super) lane: usize,
    pub(super) tasks: Arc<Vec<Task>>,
    /// Indices of the lane's live tasks.
    pub(super) mine: Vec<usize>,
    pub(super) store: Store,
    /// How many more may be handed over in all lanes together.
    pub(super) budget: Arc<AtomicU64>,
    pub(super) reuse: bool,
    pub(super) out: UnboundedSender<Fed>,
}

/// How one thing is fed.
#[derive(Clone, Copy)]
struct Manner<'a> {
    route: Route,
    is_counted: bool,
    room: &'a Arc<Semaphore>,
}

/// Why feeding ended early.
enum Halt {
    /// Enough was handed over, or nobody listens any more.
    Enough,
    /// The record could not be read.
    Broken(StoreError),
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Broken(error)
    }
}

impl Feeder {
    /// Hands over what it is asked for, says so each time, and ends when nobody can ask any more. Reads the disk in
    /// between: for a thread of its own.
    pub(super) async fn work(self, mut asked: UnboundedReceiver<Feed>) {
        let room = Arc::new(Semaphore::new(ROOM as usize));
        while let Some(feed) = asked.recv().await {
            let last = match self.feed(feed, &room).await {
                Ok(()) | Err(Halt::Enough) => Fed::Done(self.lane),
                Err(Halt::Broken(error)) => Fed::Broken(error),
            };
            if self.out.send(last).is_err() {
                // Nobody listens after a stop.
                return;
            }
        }
    }

    async fn feed(&self, feed: Feed, room: &Arc<Semaphore>) -> Result<(), Halt> {
        match feed {
            Feed::Everything(route) => {
                let manner = Manner { route, is_counted: false, room };
                for task in &self.mine {
                    self.feed_task(*task, manner).await?;
                }
            }
            Feed::OfRows(rows, route) => {
                let manner = Manner { route, is_counted: false, room };
                for row in rows.iter() {
                    for task in &self.mine {
                        if let Some(due) = self.store.due_of_row(self.tasks[*task].id(), *row)? {
                            self.hand_over(*task, due, manner).await?;
                        }
                    }
                }
            }
            Feed::OfBatch { batch, route, is_counted } => {
                let manner = Manner { route, is_counted, room };
                for task in &self.mine {
                    self.feed_batch(*task, batch, manner).await?;
                }
            }
            Feed::Requests(requests, route) => {
                let manner = Manner { route, is_counted: true, room };
                for (task, request) in requests {
                    if let Some(due) = self.store.open_request(request)? {
                        self.hand_over(task, due, manner).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn feed_task(&self, index: usize, manner: Manner<'_>) -> Result<(), Halt> {
        let prompt = self.tasks[index].id();
        let mut after = RequestId(0);
        loop {
            let page = self.store.open_requests(prompt, after, PAGE)?;
            let Some(last) = page.last().and_then(|due| due.existing.as_ref()) else { break };
            after = last.id;
            for due in page {
                self.hand_over(index, due, manner).await?;
            }
        }
        self.feed_new(index, prompt, manner).await
    }

    async fn feed_new(
        &self,
        index: usize,
        prompt: PromptId,
        manner: Manner<'_>,
    ) -> Result<(), Halt> {
        let mut known = self.store.asked_upto(prompt)?;
        let mut after = known;
        for number in 0.. {
            let mut page = self.store.unasked_rows(prompt, after, PAGE)?;
            // A mark that stands too high must not hide a row from every run there will be.
            if page.is_empty() && number == 0 && known > RowId(0) && self.store.unasked(prompt)? > 0
            {
                page = self.store.unasked_rows(prompt, RowId(0), PAGE)?;
            }
            let Some(last) = page.last() else { return Ok(()) };
            if number % LOOK_EVERY == 0 {
                // The first time, all before this page have one; later, what was handed over may still be on its way.
                let upto = match number {
                    0 => RowId(page[0].row.0 - 1),
                    _ => self.store.asked_since(prompt, (known, after))?,
                };
                if upto > known {
                    known = upto;
                    let told = Fed::AskedUpto { task: index, row: upto };
                    self.out.send(told).map_err(|_| Halt::Enough)?;
                }
            }
            after = last.row;
            for due in page {
                self.hand_over(index, due, manner).await?;
            }
        }
        Ok(())
    }

    async fn feed_batch(
        &self,
        index: usize,
        batch: BatchId,
        manner: Manner<'_>,
    ) -> Result<(), Halt> {
        let prompt = self.tasks[index].id();
        let mut after = AttemptId(0);
        loop {
            let page = self.store.requests_of_batch((batch, prompt), after, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = *last;
            for (_, due) in page {
                self.hand_over(index, due, manner).await?;
            }
        }
    }

    async fn hand_over(
        &self,
        index: usize,
        request: DueRequest,
        manner: Manner<'_>,
    ) -> Result<(), Halt> {
        let task = &self.tasks[index];
        let Due::Yes { max_tokens } = is_due(task, &request) else { return Ok(()) };
        let take = |left: u64| left.checked_sub(1);
        if !manner.is_counted
            && self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err()
        {
            return Err(Halt::Enough);
        }
        let fed = match self.render((index, manner.route), &request, max_tokens) {
            Ok(mut job) => {
                let units = (job.bytes.len() / UNIT + 1).min(ROOM as usize) as u32;
                job.room = Arc::clone(manner.room).acquire_many_owned(units).await.ok();
                Fed::Job(self.lane, Box::new(job))
            }
            Err(error) => Fed::Unrenderable {
                task: index,
                row: request.row,
                position: request.position,
                existing: request.existing.map(|existing| existing.id),
                error,
            },
        };
        self.out.send(fed).map_err(|_| Halt::Enough)
    }

    fn render(
        &self,
        (index, route): (usize, Route),
        due: &DueRequest,
        max_tokens: Option<u32>,
    ) -> Result<Job, String> {
        let task = &self.tasks[index];
        let messages = task.template.render(&due.cells).map_err(|error| error.to_string())?;
        let recorded = due.existing.as_ref().and_then(|existing| existing.fingerprint);
        let encoded =
            encode(task, &messages, max_tokens, recorded).map_err(|error| error.to_string())?;
        let size = match route {
            Route::Realtime => Size::default(),
            Route::Batch => Size {
                bytes: line_bytes(task, &encoded.bytes),
                tokens: task.input_tokens(&messages),
            },
        };
        Ok(Job {
            task: index,
            row: due.row,
            position: due.position,
            request: due.existing.as_ref().map(|existing| existing.id),
            messages: messages.into(),
            recorded,
            body: encoded.body,
            bytes: encoded.bytes,
            sent_body: encoded.sent_body,
            form: encoded.form,
            max_tokens,
            attempts_used: due.existing.as_ref().map_or(0, |existing| existing.attempts_used),
            failures: 0,
            reuse: self.reuse,
            pace_number: 0,
            wanted: route,
            size,
            slot: None,
            is_canary: false,
            reserved: None,
            room: None,
        })
    }
}

/// The most that a `custom_id` takes: a token, a dash and the number of an attempt.
pub(super) const CUSTOM_ID_BYTES: u64 = 40;

/// Returns the bytes that a request takes in an input file, at most.
pub(super) fn line_bytes(task: &Task, body: &[u8]) -> u64 {
    input_line_bytes("", task.prompt.spec.endpoint, body) + CUSTOM_ID_BYTES
}

/// Says whether a request is due, and with which token limit.
fn is_due(task: &Task, request: &DueRequest) -> Due {
    let first = task.prompt.spec.max_tokens;
    let Some(existing) = &request.existing else { return Due::Yes { max_tokens: first } };
    let facts = Facts {
        state: existing.state,
        attempts_used: existing.attempts_used,
        max_tokens: existing.max_tokens.or(first),
    };
    due(facts, task.policy)
}
